//! Seeds that once broke a rule. `torture` prints the line to add. A seed tells
//! its story only as long as the town is the same: since the town has the
//! node's sender of transactions, those before the last one tell another.
//! Where a rule was wrong, it has a test beside it, too.

use world::{Plan, play};

const KEPT: &[u64] = &[
    // A request reached its provider after the all clear: its receipt was
    // unknown, the books of both sides differed for good.
    74, 165, 442, 456,
    // The same, seen as a gap in the numbers of receipts that nobody mended.
    747, // A claim that a reorganisation took back was never made again.
    450, 738, // The checker took a voucher that was signed before a booking, in the same
    // millisecond, for one that covers what was booked.
    6634,
    // After a crash a late receipt, whose input came to more than its estimate, took from what had been
    // signed for another answer.
    19267,
    // A transaction that a sequencer had refused, because the one before it was missing, was sent again
    // only after 20 seconds, and came too early again.
    18989,
    // The checker took the input of an answer that a crash of its provider had ended for work, which its
    // receipt does not bill, as long as that was on the disk only.
    6321,
];

#[test]
fn what_once_failed_stays_mended() {
    for seed in KEPT {
        assert_eq!(play(&Plan::of(*seed)).violation, None, "seed {seed}");
    }
}
