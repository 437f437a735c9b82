//! The engine from outside: small made-up models of every family, opened and
//! asked as a provider does.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod suite {
    pub(crate) mod made;

    mod chat;
    mod damage;
    mod demo;
    mod encoders;
    mod families;
    mod parity;
}
