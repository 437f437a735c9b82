//! One transaction, from handed in to its end.

use std::time::Duration;

use alloy::consensus::{Transaction, TxEnvelope};
use alloy::eips::Decodable2718;
use market::{LedgerError, TxHash};

use super::Pace;
use super::fees::says_too_poor;
use crate::journal::{Ended, SignedTx};
use crate::refusal;
use crate::rpc::{Message, Receipt, Rpc, RpcError};

/// How often in a row a node must say that the nonce is taken, with no receipt
/// for ours, before it counts: nodes behind one address differ for a while.
const REPLACED_AFTER: u32 = 3;

/// What a node said to a transaction.
pub(super) enum Handed {
    /// It has it.
    Taken,
    /// No answer: it may have it.
    Unknown,
    /// Another transaction has this nonce.
    NonceTaken,
    /// The account cannot pay for the gas.
    TooPoor,
    /// It does not take it.
    Refused {
        /// Why.
        message: String,
    },
}

/// How it ended.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// Included, and it did what it should.
    Succeeded(Receipt),
    /// Included, and reverted.
    Reverted {
        /// The contract's reason.
        reason: String,
    },
    /// Can never be included.
    Replaced,
}

impl Fate {
    /// For the journal.
    pub(super) fn ended(&self) -> Ended {
        match self {
            Self::Succeeded(_) => Ended::Succeeded,
            Self::Reverted { .. } => Ended::Reverted,
            Self::Replaced => Ended::Replaced,
        }
    }

    /// For who waits.
    pub(super) fn outcome(&self) -> Result<Receipt, LedgerError> {
        let reason = match self {
            Self::Succeeded(receipt) => return Ok(receipt.clone()),
            Self::Reverted { reason } => reason.clone(),
            Self::Replaced => "another transaction of the account took its nonce".to_owned(),
        };
        Err(LedgerError::Refused { reason })
    }
}

/// Gives the transaction to the node.
pub(super) async fn hand_in(rpc: &Rpc, tx: &SignedTx) -> Handed {
    match rpc.send_raw(&tx.raw).await {
        Ok(_) => Handed::Taken,
        Err(RpcError::Answer { message, .. }) => judged(message),
        Err(error) => {
            tracing::warn!(hash = %tx.hash, %error, "not sure that the node has the transaction");
            Handed::Unknown
        }
    }
}

/// There are no codes for these; the words are those of geth, Nitro, reth and anvil.
fn judged(message: String) -> Handed {
    let lower = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["already known", "already imported", "known transaction"]) {
        Handed::Taken
    } else if says(&[
        "nonce too low",
        "nonce is too low",
        "replacement transaction underpriced",
    ]) {
        Handed::NonceTaken
    } else if says_too_poor(&message) {
        Handed::TooPoor
    } else {
        Handed::Refused { message }
    }
}

/// Waits for the end, however long it takes, and sends the same bytes again meanwhile.
pub(super) async fn follow(rpc: Rpc, pace: Pace, tx: SignedTx, handed: Handed) -> (TxHash, Fate) {
    let mut wait = pace.poll_min;
    let mut since_sent = match handed {
        Handed::Taken => Duration::ZERO,
        _ => pace.resend,
    };
    let mut nonce_taken = 0;
    loop {
        match rpc.receipt(tx.hash).await {
            Ok(Some(receipt)) => return (tx.hash, fate(&rpc, &tx, receipt).await),
            Ok(None) if nonce_taken >= REPLACED_AFTER => return (tx.hash, Fate::Replaced),
            Ok(None) => {}
            Err(error) => tracing::debug!(hash = %tx.hash, %error, "no word of a transaction"),
        }
        tokio::time::sleep(wait).await;
        since_sent += wait;
        wait = (wait * 3 / 2).min(pace.poll_max);
        if since_sent >= pace.resend {
            since_sent = Duration::ZERO;
            failpoint::hit("tx.resent");
            match hand_in(&rpc, &tx).await {
                Handed::NonceTaken => nonce_taken += 1,
                _ => nonce_taken = 0,
            }
        }
    }
}

async fn fate(rpc: &Rpc, tx: &SignedTx, receipt: Receipt) -> Fate {
    if receipt.status.to::<u64>() == 1 {
        return Fate::Succeeded(receipt);
    }
    let reason = revert_reason(rpc, tx, &receipt).await;
    Fate::Reverted { reason }
}

/// Receipts have no reason; the call is tried again where it failed.
async fn revert_reason(rpc: &Rpc, tx: &SignedTx, receipt: &Receipt) -> String {
    const UNKNOWN: &str = "reverted without a reason that could be found";
    let Ok(envelope) = TxEnvelope::decode_2718(&mut tx.raw.as_ref()) else {
        return UNKNOWN.to_owned();
    };
    let message = Message {
        from: Some(tx.account),
        to: envelope.to(),
        data: envelope.input(),
        value: envelope.value(),
    };
    let block = format!("{:#x}", receipt.block_number.to::<u64>());
    match rpc.call(message, &block).await {
        Err(RpcError::Reverted { data }) => refusal::reason(&data),
        _ => UNKNOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_known_nodes_are_understood() {
        for (message, expected) in [
            ("already known", "taken"),
            ("transaction already imported", "taken"),
            ("nonce too low: next nonce 5, tx nonce 3", "nonce"),
            ("replacement transaction underpriced", "nonce"),
            ("Insufficient funds for gas * price + value", "poor"),
            ("intrinsic gas too low", "refused"),
        ] {
            let judged = match judged(message.to_owned()) {
                Handed::Taken => "taken",
                Handed::NonceTaken => "nonce",
                Handed::TooPoor => "poor",
                Handed::Refused { .. } => "refused",
                Handed::Unknown => "unknown",
            };
            assert_eq!(judged, expected, "{message}");
        }
    }
}
