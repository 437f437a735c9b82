//! A node's description of itself: who it is on the wire, where, and what it
//! asks for which model. Served at `GET /.well-known/lethe` of the endpoint
//! that the provider registered, signed by its wallet.
//!
//! The signature (EIP-191 `personal_sign`) is over the text of the record as
//! it stands in the response, so there is no canonical form to disagree on,
//! and `cast wallet verify` can check it. The node key signs the same text:
//! otherwise any registered account could give another's node an address of
//! its own choice, and whoever looks nodes up by their key would go there.
//!
//! A provider with several hosts has a record of each, signed with the host's
//! account in place of its wallet; who they are, the wallet certifies ([`crate::Certificate`]).

use alloy_primitives::{Address, B512, Signature};
use serde::{Deserialize, Serialize};

use crate::{Card, CardId, Host, ModelId, NodeId, NodeKey, Quote, Timestamp, WalletKey};

/// Nobody describes a node in more than this.
pub const MAX_RECORD_BYTES: usize = 256 * 1024;

/// Fields of a request that one offer may declare to heed.
pub const PARAMETERS_MAX: usize = 64;

/// The longest name of such a field.
pub const PARAMETER_BYTES_MAX: usize = 64;

/// One model on offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// The model's id in the registry.
    pub model: ModelId,
    /// Its name in the registry, for people.
    pub name: String,
    /// The price now.
    pub quote: Quote,
    /// Tokens of request and answer together that fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// The longest answer sold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_max: Option<u32>,
    /// Where the tokens are made: `own-engine` or `third-party`; anything else, or nothing, counts as third party.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Goes on with an answer that the request's last message begins (`continue_final_message`), as the provider has tried.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub continues: bool,
    /// What exactly the model is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<Card>,
    /// Fields of a request that are heeded, beyond those that everybody knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
}

impl Offer {
    /// What tells its card from others, if it has one.
    pub fn card_id(&self) -> Option<CardId> {
        self.card.as_ref().map(Card::id)
    }

    /// Whether names of heeded fields are few, short and plain.
    pub fn are_parameters(names: &[String]) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_name = |name: &String| {
            (1..=PARAMETER_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
        };
        names.len() <= PARAMETERS_MAX && names.iter().all(is_name)
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// 1.
    pub version: u32,
    /// The chain that the node is registered on.
    pub chain_id: u64,
    /// The settlement contract that it takes vouchers of.
    pub settlement: Address,
    /// The registered account; must be the signer, or certify it as its host.
    pub provider: Address,
    /// Who may claim for it; a host's own account.
    pub receiver_authorizer: Address,
    /// The shortest `withdrawDelay` it accepts, in seconds.
    pub withdraw_delay_min_s: u64,
    /// Its key on the wire; signs receipts.
    pub node: NodeId,
    /// Where it listens (UDP, QUIC): `host:port`.
    pub addresses: Vec<String>,
    /// The nodes of the relays at which it waits, and through which alone it is
    /// reached; none: it is dialled at its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<NodeId>,
    /// What it sells.
    pub offers: Vec<Offer>,
    /// Optional parts of the protocol that it speaks.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// When this was written.
    pub issued_at: Timestamp,
    /// Good before this moment.
    pub expires_at: Timestamp,
}

/// A record's exact text and its signature, as served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedRecord {
    /// The record as JSON text.
    pub record: String,
    /// By the provider's wallet, or its host's account, over `record`.
    pub signature: Signature,
    /// By the node that the record names, over a tag and `record`.
    pub node_signature: B512,
}

/// Why a record is not believed.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// Larger than anyone needs.
    #[error("record has {bytes} bytes (allowed: {MAX_RECORD_BYTES})")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// Signed by nobody, or by somebody else than the registered provider or its host.
    #[error("record is not signed by {account}")]
    BadSignature {
        /// Who should have.
        account: Address,
    },
    /// Not signed by the node that it names: that one belongs to somebody else.
    #[error("record is not signed by node {node}, which it names")]
    NotTheNode {
        /// Which.
        node: NodeId,
    },
    /// Good for longer than anything in it can be.
    #[error("record is good for {got_s} s (allowed: {allowed_s} s)", allowed_s = Record::GOOD_S_MAX)]
    TooLong {
        /// How long.
        got_s: u64,
    },
    /// Not a record.
    #[error("record is malformed")]
    Malformed(#[source] serde_json::Error),
    /// From a later version of the protocol.
    #[error("record has version {got} (known: 1)")]
    UnknownVersion {
        /// Its version.
        got: u32,
    },
    /// It speaks for another account, chain or contract.
    #[error("record's {field} is {got}, expected {expected}")]
    Mismatch {
        /// The field.
        field: &'static str,
        /// What it says.
        got: String,
        /// What it should say.
        expected: String,
    },
    /// Heeded fields that are too many, or none that a request can have.
    #[error(
        "record's offer of model {model} declares heeded fields that are not \
         up to {PARAMETERS_MAX} names of up to {PARAMETER_BYTES_MAX} letters, digits and underscores"
    )]
    Parameters {
        /// Of which model.
        model: ModelId,
    },
    /// It waits at more relays than one may.
    #[error("record names {count} relays (allowed: {allowed})", allowed = Record::RELAYS_MAX)]
    Relays {
        /// How many.
        count: usize,
    },
    /// No longer, or not yet, good.
    #[error("record is good from {issued_at} to {expires_at}, it is {now} now", issued_at = .issued_at.0, expires_at = .expires_at.0, now = .now.0)]
    Stale {
        /// Its beginning.
        issued_at: Timestamp,
        /// Its end.
        expires_at: Timestamp,
        /// The reader's clock.
        now: Timestamp,
    },
}

impl Record {
    /// What a relay's record names among its capabilities.
    pub const RELAY: &'static str = "relay";

    /// Whether it is a relay's.
    pub fn is_relay(&self) -> bool {
        self.capabilities.iter().any(|named| named == Self::RELAY)
    }

    /// Relays at which one node waits.
    pub const RELAYS_MAX: usize = 3;

    /// How far a provider's clock may be ahead of ours.
    const CLOCK_SKEW_S: u64 = 300;

    /// The longest that a record is good: what moved away is forgotten after that.
    pub const GOOD_S_MAX: u64 = 24 * 3600;

    const TAG: &'static [u8] = b"lethe descriptor v1\n";

    /// Writes it, and signs it with both keys.
    pub fn sign(&self, wallet: &WalletKey, node: &NodeKey) -> SignedRecord {
        let record = serde_json::to_string(self).expect("a record has only string keys");
        SignedRecord {
            signature: wallet.sign_message(record.as_bytes()),
            node_signature: B512::from(node.sign(&Self::signing_bytes(&record))),
            record,
        }
    }

    fn signing_bytes(record: &str) -> Vec<u8> {
        [Self::TAG, record.as_bytes()].concat()
    }
}

impl SignedRecord {
    /// Who signed it, as their account.
    pub fn signer(&self) -> Option<Address> {
        if self.record.len() > MAX_RECORD_BYTES {
            return None;
        }
        let text = self.record.as_bytes();
        self.signature.recover_address_from_msg(text).ok()
    }

    /// The record, if `host` signed it for this chain and contract and it is good now.
    /// That it is a host of its provider, others have checked.
    pub fn open(
        &self,
        host: Host,
        domain: &crate::Domain,
        now: Timestamp,
    ) -> Result<Record, DescriptorError> {
        let Host { account, provider } = host;
        if self.record.len() > MAX_RECORD_BYTES {
            return Err(DescriptorError::TooLarge {
                bytes: self.record.len(),
            });
        }
        if self.signer() != Some(account) {
            return Err(DescriptorError::BadSignature { account });
        }
        let record: Record =
            serde_json::from_str(&self.record).map_err(DescriptorError::Malformed)?;
        if record.version != 1 {
            return Err(DescriptorError::UnknownVersion {
                got: record.version,
            });
        }
        must_be("provider", record.provider, provider)?;
        if !host.is_own() {
            must_be("receiverAuthorizer", record.receiver_authorizer, account)?;
        }
        must_be("chainId", record.chain_id, domain.chain_id)?;
        must_be("settlement", record.settlement, domain.settlement)?;
        if now >= record.expires_at || record.issued_at > now.after_s(Record::CLOCK_SKEW_S) {
            let Record {
                issued_at,
                expires_at,
                ..
            } = record;
            return Err(DescriptorError::Stale {
                issued_at,
                expires_at,
                now,
            });
        }
        let got_s = record.expires_at.0.saturating_sub(record.issued_at.0);
        if got_s > Record::GOOD_S_MAX {
            return Err(DescriptorError::TooLong { got_s });
        }
        let count = record.relays.len();
        if count > Record::RELAYS_MAX {
            return Err(DescriptorError::Relays { count });
        }
        let odd = |offer: &&Offer| !Offer::are_parameters(&offer.parameters);
        if let Some(Offer { model, .. }) = record.offers.iter().find(odd) {
            return Err(DescriptorError::Parameters { model: *model });
        }
        let node = record.node;
        if !node.verifies(&Record::signing_bytes(&self.record), &self.node_signature.0) {
            return Err(DescriptorError::NotTheNode { node });
        }
        Ok(record)
    }
}

fn must_be<T: PartialEq + ToString>(
    field: &'static str,
    got: T,
    expected: T,
) -> Result<(), DescriptorError> {
    if got == expected {
        Ok(())
    } else {
        Err(DescriptorError::Mismatch {
            field,
            got: got.to_string(),
            expected: expected.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;
    use crate::{Amount, Domain, Rates};

    const NOW: Timestamp = Timestamp(1000);
    const DOMAIN: Domain = Domain {
        chain_id: 31337,
        settlement: Address::repeat_byte(4),
    };

    fn wallet() -> WalletKey {
        WalletKey::from_bytes(&[3; 32]).unwrap()
    }

    fn node() -> NodeKey {
        NodeKey::from_bytes(&[5; 32])
    }

    fn record() -> Record {
        Record {
            version: 1,
            chain_id: DOMAIN.chain_id,
            settlement: DOMAIN.settlement,
            provider: wallet().address(),
            receiver_authorizer: wallet().address(),
            withdraw_delay_min_s: 900,
            node: node().id(),
            addresses: vec!["127.0.0.1:1".into()],
            relays: vec![],
            offers: vec![],
            capabilities: vec![],
            issued_at: NOW,
            expires_at: NOW.after_s(60),
        }
    }

    fn opened(record: &Record, at: Timestamp) -> Result<Record, DescriptorError> {
        record
            .sign(&wallet(), &node())
            .open(Host::own(wallet().address()), &DOMAIN, at)
    }

    #[test]
    fn a_fresh_record_of_its_provider_is_believed() {
        assert_eq!(opened(&record(), NOW).unwrap(), record());
    }

    fn offer() -> Offer {
        Offer {
            model: ModelId(B256::ZERO),
            name: "m".into(),
            quote: Quote {
                token: Address::ZERO,
                rates: Rates {
                    input_per_million: Amount::new(1),
                    output_per_million: Amount::new(2),
                },
                expires_at: NOW,
            },
            context_length: None,
            output_tokens_max: None,
            upstream: None,
            continues: false,
            card: None,
            parameters: vec![],
        }
    }

    #[test]
    fn a_card_and_heeded_fields_travel_and_an_older_record_has_none() {
        let plain = Record {
            offers: vec![offer()],
            ..record()
        };
        let text = plain.sign(&wallet(), &node()).record;
        assert!(!text.contains("card") && !text.contains("parameters"));
        assert_eq!(opened(&plain, NOW).unwrap(), plain);
        let full = Offer {
            card: Some(Card::new(crate::card::tests::fields()).unwrap()),
            parameters: vec!["top_p".into()],
            ..offer()
        };
        let full = Record {
            offers: vec![full],
            ..record()
        };
        assert_eq!(opened(&full, NOW).unwrap(), full);
    }

    #[test]
    fn a_record_with_an_odd_card_or_odd_fields_is_not_believed() {
        let odd = Offer {
            parameters: vec!["top p".into()],
            ..offer()
        };
        let odd = Record {
            offers: vec![odd],
            ..record()
        };
        let odd = opened(&odd, NOW);
        assert!(
            matches!(odd, Err(DescriptorError::Parameters { .. })),
            "{odd:?}"
        );

        let carded = Offer {
            card: Some(Card::read(r#"{"repo":"plain"}"#).unwrap()),
            ..offer()
        };
        let carded = Record {
            offers: vec![carded],
            ..record()
        };
        let text = serde_json::to_string(&carded).unwrap();
        let text = text.replace("plain", "pl ain");
        let signed = SignedRecord {
            signature: wallet().sign_message(text.as_bytes()),
            node_signature: B512::from(node().sign(&Record::signing_bytes(&text))),
            record: text,
        };
        let opened = signed.open(Host::own(wallet().address()), &DOMAIN, NOW);
        assert!(
            matches!(opened, Err(DescriptorError::Malformed(_))),
            "{opened:?}"
        );
    }

    #[test]
    fn who_waits_at_relays_names_a_few_of_them_and_others_none() {
        let at = |relays| Record {
            relays: vec![node().id(); relays],
            ..record()
        };
        assert!(!record().sign(&wallet(), &node()).record.contains("relays"));
        let most = at(Record::RELAYS_MAX);
        assert_eq!(opened(&most, NOW).unwrap(), most);
        let more = opened(&at(Record::RELAYS_MAX + 1), NOW);
        assert!(
            matches!(more, Err(DescriptorError::Relays { count: 4 })),
            "{more:?}"
        );
    }

    #[test]
    fn a_forged_record_is_not() {
        let mut signed = record().sign(&wallet(), &node());
        signed.record = signed.record.replace("127.0.0.1", "127.0.0.2");
        let opened = signed.open(Host::own(wallet().address()), &DOMAIN, NOW);
        assert!(matches!(opened, Err(DescriptorError::BadSignature { .. })));
    }

    #[test]
    fn a_hosts_record_is_believed_of_its_own_provider_and_no_other() {
        let key = WalletKey::from_bytes(&[7; 32]).unwrap();
        let (account, provider) = (key.address(), wallet().address());
        let own = Record {
            receiver_authorizer: account,
            ..record()
        };
        let opened = |record: &Record, host| record.sign(&key, &node()).open(host, &DOMAIN, NOW);
        let host = Host { account, provider };
        assert_eq!(opened(&own, host).unwrap(), own);

        // A stranger certifies it, or it claims to be the wallet itself.
        let provider = Address::repeat_byte(8);
        let error = opened(&own, Host { account, provider }).unwrap_err();
        assert!(
            error.to_string().contains("record's provider is"),
            "{error}"
        );
        let as_wallet = opened(&own, Host::own(wallet().address()));
        assert!(matches!(
            as_wallet,
            Err(DescriptorError::BadSignature { .. })
        ));
        // What is paid to it another one could claim.
        let error = opened(&record(), host).unwrap_err().to_string();
        assert!(error.contains("record's receiverAuthorizer is"), "{error}");
    }

    #[test]
    fn a_record_that_names_a_node_of_somebody_else_is_not() {
        let victim = NodeKey::from_bytes(&[6; 32]).id();
        for named in [victim, NodeId(B256::ZERO)] {
            let forged = Record {
                node: named,
                ..record()
            };
            let opened = opened(&forged, NOW);
            assert!(
                matches!(opened, Err(DescriptorError::NotTheNode { node }) if node == named),
                "{opened:?}"
            );
        }
    }

    #[test]
    fn a_record_that_is_good_for_ever_is_not() {
        let forever = Record {
            expires_at: NOW.after_s(Record::GOOD_S_MAX + 1),
            ..record()
        };
        let opened = opened(&forever, NOW);
        assert!(matches!(opened, Err(DescriptorError::TooLong { .. })));
    }

    #[test]
    fn a_stale_or_early_record_is_not() {
        assert!(matches!(
            opened(&record(), NOW.after_s(60)),
            Err(DescriptorError::Stale { .. })
        ));
        let early = Record {
            issued_at: NOW.after_s(301),
            expires_at: NOW.after_s(400),
            ..record()
        };
        assert!(matches!(
            opened(&early, NOW),
            Err(DescriptorError::Stale { .. })
        ));
    }

    #[test]
    fn a_record_for_another_chain_contract_or_account_is_not() {
        for other in [
            Record {
                chain_id: 1,
                ..record()
            },
            Record {
                settlement: Address::ZERO,
                ..record()
            },
            Record {
                provider: Address::ZERO,
                ..record()
            },
        ] {
            assert!(matches!(
                opened(&other, NOW),
                Err(DescriptorError::Mismatch { .. })
            ));
        }
        assert!(matches!(
            opened(
                &Record {
                    version: 2,
                    ..record()
                },
                NOW
            ),
            Err(DescriptorError::UnknownVersion { got: 2 })
        ));
    }
}
