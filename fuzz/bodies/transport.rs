//! What is done with bytes that are anything: by the fuzzer, and by a test
//! with what the fuzzer found worth keeping (`corpus/`).

use serde::de::DeserializeOwned;
use transport::message::{Ask, FromConsumer, FromProvider, FromRelay, Hello};
use transport::{ReceiveError, messages_in};

/// Frames of the stream between nodes, with every kind of message in them.
pub(crate) fn frames(bytes: &[u8]) {
    read::<Hello>(bytes);
    read::<FromRelay>(bytes);
    read::<Ask>(bytes);
    read::<FromConsumer>(bytes);
    read::<FromProvider>(bytes);
}

fn read<T: DeserializeOwned>(bytes: &[u8]) {
    match messages_in::<T>(bytes) {
        Ok(messages) => assert!(messages.len() <= bytes.len() / 4),
        Err(ReceiveError::Late { .. } | ReceiveError::Lost { .. } | ReceiveError::Left) => {
            panic!("nothing is waited for")
        }
        Err(_) => {}
    }
}
