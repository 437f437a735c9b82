//! Rules broken on purpose: each is noticed, by the invariant that is about it.

use world::{Mutant, Plan, play};

/// Seeds that are tried for each.
const SEEDS: u64 = 24;

/// The invariants that caught it, and in how many stories.
fn caught(mutant: Mutant) -> Vec<u8> {
    let stories = (0..SEEDS).map(|seed| {
        let mut plan = Plan::of(seed);
        plan.mutant = Some(mutant);
        play(&plan)
    });
    let violations = stories.filter_map(|story| story.violation);
    violations.map(|violation| violation.invariant).collect()
}

fn is_caught_by(mutant: Mutant, invariant: u8) {
    let by = caught(mutant);
    assert!(by.contains(&invariant), "{mutant:?} was caught by {by:?}");
}

#[test]
fn money_from_nowhere() {
    is_caught_by(Mutant::MintAtDeposit, 1);
}

#[test]
fn a_voucher_before_its_journal() {
    is_caught_by(Mutant::SignBeforeJournal, 2);
}

#[test]
fn a_voucher_beyond_what_is_due() {
    is_caught_by(Mutant::SignTooMuch, 2);
}

#[test]
fn work_that_nobody_pays_for() {
    is_caught_by(Mutant::NeverHold, 3);
}

#[test]
fn money_that_stays_behind() {
    is_caught_by(Mutant::NeverClaim, 4);
}

#[test]
fn an_answer_that_ends_in_silence() {
    is_caught_by(Mutant::SilentLoss, 5);
}

#[test]
fn a_bill_for_what_was_not_delivered() {
    is_caught_by(Mutant::BillBeyondDelivered, 5);
}

#[test]
fn a_start_without_the_last_voucher() {
    is_caught_by(Mutant::ForgetVoucher, 6);
}

#[test]
fn a_start_without_the_last_ceiling() {
    is_caught_by(Mutant::ForgetCeiling, 6);
}

#[test]
fn a_transaction_before_its_journal() {
    is_caught_by(Mutant::SendBeforeJournal, 2);
}

#[test]
fn a_start_without_the_last_transaction() {
    is_caught_by(Mutant::ForgetTransaction, 6);
}
