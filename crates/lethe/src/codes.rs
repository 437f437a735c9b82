//! Exit codes; docs/operate/exit-codes.md is the table for users, and a story
//! tries each of them.

/// Something went wrong; the text says what.
pub(crate) const FAILED: u8 = 1;
/// The command line, the environment or the config file is wrong; clap's own code for it.
pub(crate) const USAGE: u8 = 2;
/// `lethe where` found that the sum is not right.
pub(crate) const INCOMPLETE: u8 = 3;
/// `lethe exit` did what could be done, and some money has to wait.
pub(crate) const NOT_ALL: u8 = 4;
/// `lethe doctor` found something that fails.
pub(crate) const UNWELL: u8 = 5;
/// A second Ctrl-C did not let the running answers end: 128 and the signal's number, as shells count.
pub(crate) const ENDED_AT_ONCE: u8 = 130;
