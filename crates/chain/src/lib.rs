//! The contracts as a client: bindings, reads, one owner of the nonce, profiles of networks.
