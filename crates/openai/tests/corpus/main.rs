//! Inputs that have broken others, with what must come of each. The counts
//! stand beside the tables: a case that gets lost is noticed.

mod answers;
mod chunks;
mod events;
mod requests;
