//! Makes a failing story smaller: fewer kinds of faults, fewer requests, as
//! long as a rule is still broken.

use crate::plan::{Fault, Plan};
use crate::town::{Violation, play};

/// A story that is as small as it gets.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// Its plan.
    pub plan: Plan,
    /// What is still broken.
    pub violation: Violation,
    /// Faults that it needs.
    pub faults: Vec<Fault>,
    /// Stories that were played for it.
    pub tries: u32,
}

/// Leaves out what is not needed for the violation, one thing after another.
/// None: the plan breaks no rule.
pub fn shrink(plan: &Plan) -> Option<Shrunk> {
    let mut small = plan.clone();
    let mut violation = play(&small).violation?;
    let mut tries = 1;
    let mut attempt = |candidate: Plan, small: &mut Plan| {
        tries += 1;
        let found = play(&candidate).violation;
        let broken = found.is_some();
        if let Some(found) = found {
            violation = found;
            *small = candidate;
        }
        broken
    };
    let mut faults = Vec::new();
    for fault in Fault::ALL.into_iter().filter(|fault| plan.has(*fault)) {
        if !attempt(small.smaller(&[fault], &[]), &mut small) {
            faults.push(fault);
        }
    }
    let mut at = 0;
    while at < small.requests() {
        if !attempt(small.smaller(&[], &[at]), &mut small) {
            at += 1;
        }
    }
    Some(Shrunk {
        plan: small,
        violation,
        faults,
        tries,
    })
}
