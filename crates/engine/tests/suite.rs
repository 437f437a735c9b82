//! The engine from outside: small made-up models of every family, opened and
//! asked as a provider does.

mod suite {
    pub(crate) mod made;

    mod chat;
    mod damage;
    mod families;
}
