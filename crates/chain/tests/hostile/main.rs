//! Servers that limit, lie, lag, or talk nonsense: what is read from them is
//! right, or an error, and never what one of them made up.

mod reading;
mod server;
mod tokens;
