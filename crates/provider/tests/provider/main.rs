//! The selling side as a whole, against buyers who speak the messages by hand.

mod backends;
mod claims;
mod crashes;
mod descriptor;
mod selling;
mod world;
