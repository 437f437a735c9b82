//! Which provider to ask for an answer, in which order, and why.
//!
//! [`choose`] is the rule: offers ([`Shelf`]), what was seen of providers
//! ([`Knowledge`]), what is wanted ([`Wanted`]) and a seed come in, a ranked
//! list with every term of every cost comes out. The node and the simulator
//! call the same function, and the same arguments always give the same choice.
//!
//! Pure: no runtime, no I/O, no clock, no randomness. Times are whole
//! microseconds and money whole base units, so that no machine rounds
//! otherwise. `docs/protocol/routing.md` explains the rule and its limits.

mod breaker;
mod budget;
mod chance;
mod choose;
mod cost;
mod knowledge;
mod names;
mod others;
mod peak;
mod preferences;
mod seen;
mod shelf;
mod wanted;

pub use breaker::Breaker;
pub use budget::RetryBudget;
pub use chance::Chance;
pub use choose::{Choice, Drawn, Ranked, Rule, Standing, Unfit, choose};
pub use cost::{Terms, Worth};
pub use knowledge::{Knowledge, Patience};
pub use names::Names;
pub use peak::Peak;
pub use preferences::{
    Defaults, MaxPrice, PreferenceError, Preferences, Quantization, Sort, Wishes,
};
pub use seen::Seen;
pub use shelf::{Listing, Operator, Shelf};
pub use wanted::{Misfit, Wanted};
