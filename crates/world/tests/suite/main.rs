//! Stories of the town as tests: seeds that once failed, the same seed told
//! twice, and rules broken on purpose.

mod mutants;
mod seeds;

use world::{Plan, Tally, play};

/// The first stories, without the long run of `torture`.
#[test]
fn the_first_stories_end_well() {
    let mut all = Tally::default();
    for seed in 0..40 {
        let story = play(&Plan::of(seed));
        assert_eq!(story.violation, None, "seed {seed}");
        all.add(&story.tally);
    }
    assert!(all.answers > 100, "{all:?}");
    assert!(all.crashes > 20 && all.reorgs > 5, "{all:?}");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [1, 7, 23] {
        let first = play(&Plan::of(seed));
        let again = play(&Plan::of(seed));
        assert_eq!(first.trace, again.trace, "seed {seed}");
        assert_eq!(first.tally, again.tally, "seed {seed}");
    }
    assert_ne!(play(&Plan::of(1)).trace, play(&Plan::of(2)).trace);
}
