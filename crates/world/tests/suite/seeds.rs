//! Seeds that once broke a rule. `torture` prints the line to add.

use world::{Plan, play};

const KEPT: &[u64] = &[];

#[test]
fn what_once_failed_stays_mended() {
    for seed in KEPT {
        assert_eq!(play(&Plan::of(*seed)).violation, None, "seed {seed}");
    }
}
