//! A receipt: the provider's word on what one answer was and cost.
//!
//! Numbered without gaps within a channel, so that a consumer sees when one
//! is missing, and signed with the provider's node key (ed25519), which its
//! wallet certifies in the descriptor.

use serde::{Deserialize, Serialize};

use crate::{
    Amount, ChannelId, Durable, ModelId, NodeId, NodeKey, Rates, RequestId, Timestamp, Upstream,
};

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The backend finished it.
    Complete,
    /// The consumer left, or stopped paying.
    Cancelled,
    /// The backend or the provider broke off.
    Failed,
}

/// What an answer is sold as: agreed at its start, repeated by its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sold {
    /// The model.
    pub model: ModelId,
    /// What it costs.
    pub rates: Rates,
    /// Who makes it, as the provider declares.
    #[serde(default)]
    pub upstream: Upstream,
}

/// What one answer was and cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The request that was answered.
    pub request: RequestId,
    /// The channel that pays.
    pub channel: ChannelId,
    /// 1 for the channel's first receipt, then up by one.
    pub sequence: u64,
    /// The model that answered.
    pub model: ModelId,
    /// The rates agreed at the start.
    pub rates: Rates,
    /// Who made it, as the provider declares.
    #[serde(default)]
    pub upstream: Upstream,
    /// Tokens of the request.
    pub input_tokens: u32,
    /// Tokens of the answer that were delivered.
    pub output_tokens: u32,
    /// The price of this answer.
    pub amount: Amount,
    /// All receipts of the channel together, this one included.
    pub charged_total: Amount,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    pub issued_at: Timestamp,
}

/// A receipt with the signature of the provider's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// What was signed.
    pub receipt: Receipt,
    /// ed25519 over [`Receipt::signing_bytes`], hex in JSON.
    #[serde(with = "signature_bytes")]
    pub signature: [u8; 64],
}

/// Why a receipt does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not signed by the node that served.
    #[error("receipt is not signed by node {node}")]
    BadSignature {
        /// Who should have signed.
        node: NodeId,
    },
}

impl Receipt {
    const TAG: &'static [u8] = b"lethe receipt v1\n";

    /// The bytes that are signed: a tag, then every field in order, fixed
    /// width, big-endian.
    pub fn signing_bytes(&self) -> Vec<u8> {
        let mut bytes = Self::TAG.to_vec();
        bytes.extend_from_slice(self.request.0.as_slice());
        bytes.extend_from_slice(self.channel.0.as_slice());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(self.model.0.as_slice());
        bytes.extend_from_slice(&self.rates.input_per_million.base_units().to_be_bytes());
        bytes.extend_from_slice(&self.rates.output_per_million.base_units().to_be_bytes());
        bytes.push(match self.upstream {
            Upstream::OwnEngine => 0,
            Upstream::ThirdParty => 1,
        });
        bytes.extend_from_slice(&self.input_tokens.to_be_bytes());
        bytes.extend_from_slice(&self.output_tokens.to_be_bytes());
        bytes.extend_from_slice(&self.amount.base_units().to_be_bytes());
        bytes.extend_from_slice(&self.charged_total.base_units().to_be_bytes());
        bytes.push(match self.outcome {
            Outcome::Complete => 0,
            Outcome::Cancelled => 1,
            Outcome::Failed => 2,
        });
        bytes.extend_from_slice(&self.issued_at.0.to_be_bytes());
        bytes
    }
}

impl Durable<Receipt> {
    /// Signs it.
    pub fn sign(self, key: &NodeKey) -> SignedReceipt {
        let receipt = self.into_inner();
        let signature = key.sign(&receipt.signing_bytes());
        SignedReceipt { receipt, signature }
    }
}

impl SignedReceipt {
    /// Checks that `node` signed it.
    pub fn verify(&self, node: NodeId) -> Result<(), ReceiptError> {
        if node.verifies(&self.receipt.signing_bytes(), &self.signature) {
            Ok(())
        } else {
            Err(ReceiptError::BadSignature { node })
        }
    }
}

mod signature_bytes {
    use alloy_primitives::hex;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bytes: &[u8; 64],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode_prefixed(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 64], D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        hex::decode_to_array(text.as_ref()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, FixedBytes};

    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            request: RequestId(FixedBytes([1; 16])),
            channel: ChannelId(B256::repeat_byte(2)),
            sequence: 3,
            model: ModelId(B256::repeat_byte(4)),
            rates: Rates {
                input_per_million: Amount::new(5),
                output_per_million: Amount::new(6),
            },
            upstream: Upstream::ThirdParty,
            input_tokens: 7,
            output_tokens: 8,
            amount: Amount::new(9),
            charged_total: Amount::new(10),
            outcome: Outcome::Complete,
            issued_at: Timestamp(11),
        }
    }

    #[test]
    fn every_field_is_under_the_signature() {
        let key = NodeKey::from_bytes(&[1; 32]);
        let signed = Durable::read_back(receipt()).sign(&key);
        assert_eq!(signed.verify(key.id()), Ok(()));

        let changes: [fn(&mut Receipt); 13] = [
            |r| r.request = RequestId(FixedBytes([9; 16])),
            |r| r.channel = ChannelId(B256::repeat_byte(9)),
            |r| r.sequence += 1,
            |r| r.model = ModelId(B256::repeat_byte(9)),
            |r| r.rates.input_per_million = Amount::new(9),
            |r| r.rates.output_per_million = Amount::new(9),
            |r| r.upstream = Upstream::OwnEngine,
            |r| r.input_tokens += 1,
            |r| r.output_tokens += 1,
            |r| r.amount = Amount::new(1),
            |r| r.charged_total = Amount::new(1),
            |r| r.outcome = Outcome::Failed,
            |r| r.issued_at = Timestamp(0),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut forged = signed.clone();
            change(&mut forged.receipt);
            assert!(
                forged.verify(key.id()).is_err(),
                "change {n} went unnoticed"
            );
        }
    }

    #[test]
    fn json_keeps_a_receipt_whole() {
        let signed = Durable::read_back(receipt()).sign(&NodeKey::from_bytes(&[1; 32]));
        let json = serde_json::to_string(&signed).unwrap();
        assert_eq!(
            serde_json::from_str::<SignedReceipt>(&json).unwrap(),
            signed
        );
    }
}
