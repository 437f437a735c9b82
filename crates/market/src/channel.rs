//! A payment channel, as in x402 `batch-settlement`: its configuration, and
//! the id that follows from it.
//!
//! The typed data here must stay byte for byte that of the public scheme;
//! `contracts/oracle/vectors.json` holds vectors made by its JavaScript client.

use std::cell::Cell;
use std::sync::LazyLock;

use alloy_primitives::{Address, B256, Keccak256, U256, aliases::U40, keccak256};
use alloy_sol_types::{SolStruct, sol};
use serde::{Deserialize, Serialize};

use crate::ChannelId;

/// The shortest delay between asking for a withdrawal and getting it.
pub const WITHDRAW_DELAY_MIN_S: u64 = 900;
/// The longest.
pub const WITHDRAW_DELAY_MAX_S: u64 = 2_592_000;

pub(crate) mod typed {
    use super::sol;

    sol! {
        struct ChannelConfig {
            address payer;
            address payerAuthorizer;
            address receiver;
            address receiverAuthorizer;
            address token;
            uint40 withdrawDelay;
            bytes32 salt;
        }

        struct Voucher {
            bytes32 channelId;
            uint128 maxClaimableAmount;
        }
    }
}

/// A struct of the scheme.
pub(crate) trait Typed: SolStruct {
    /// `keccak256` of the type's text, the same each time.
    fn type_hash() -> B256 {
        hash_type::<Self>()
    }
}

impl Typed for typed::ChannelConfig {
    fn type_hash() -> B256 {
        static HASH: LazyLock<B256> = LazyLock::new(hash_type::<typed::ChannelConfig>);
        *HASH
    }
}

impl Typed for typed::Voucher {
    fn type_hash() -> B256 {
        static HASH: LazyLock<B256> = LazyLock::new(hash_type::<typed::Voucher>);
        *HASH
    }
}

fn hash_type<T: SolStruct>() -> B256 {
    keccak256(T::eip712_encode_type().as_bytes())
}

/// Where a signature counts: one contract on one chain (EIP-712 domain).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Domain {
    /// The chain.
    pub chain_id: u64,
    /// The settlement contract.
    pub settlement: Address,
}

/// What of the domain's hash is the same everywhere.
static SAME_WORDS: LazyLock<[B256; 3]> = LazyLock::new(|| {
    let fields =
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
    [fields, "x402 Batch Settlement", "1"].map(keccak256)
});

impl Domain {
    /// What is signed for `data` here (EIP-712).
    pub(crate) fn signing_hash<T: Typed>(&self, data: &T) -> B256 {
        let hash = hash_all([T::type_hash().as_slice(), &data.eip712_encode_data()]);
        let separator = self.separator();
        hash_all([b"\x19\x01", separator.as_slice(), hash.as_slice()])
    }

    /// Who hashes for one domain hashes for it again: a thread remembers the last.
    fn separator(&self) -> B256 {
        thread_local! {
            static LAST: Cell<Option<(Domain, B256)>> = const { Cell::new(None) };
        }
        match LAST.get() {
            Some((domain, separator)) if domain == *self => separator,
            _ => {
                let separator = self.hash();
                LAST.set(Some((*self, separator)));
                separator
            }
        }
    }

    fn hash(&self) -> B256 {
        let [fields, name, version] = *SAME_WORDS;
        let chain = B256::from(U256::from(self.chain_id));
        let contract = self.settlement.into_word();
        keccak256(
            [fields, name, version, chain, contract]
                .map(|word| word.0)
                .as_flattened(),
        )
    }
}

/// `keccak256` of all parts, one after the other.
fn hash_all<const PARTS: usize>(parts: [&[u8]; PARTS]) -> B256 {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Everything that makes a channel. From this alone it can be found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChannelConfig {
    /// Whose money it is.
    pub payer: Address,
    /// Whose signature on a voucher counts: a hot key of the consumer. Zero: the payer's own.
    pub payer_authorizer: Address,
    /// Who is paid.
    pub receiver: Address,
    /// Who may claim and refund for the receiver.
    pub receiver_authorizer: Address,
    /// In what it is paid.
    pub token: Address,
    /// Seconds between the payer's wish to withdraw and the withdrawal.
    pub withdraw_delay_s: u64,
    /// Tells channels between the same parties apart.
    pub salt: B256,
}

/// What a provider asks of a channel before it takes a voucher on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelTerms {
    /// The provider's account.
    pub receiver: Address,
    /// Its key for claims.
    pub receiver_authorizer: Address,
    /// The token that its quotes are in.
    pub token: Address,
    /// The shortest delay that leaves it time to claim.
    pub withdraw_delay_min_s: u64,
}

impl ChannelConfig {
    /// The channel's id: the EIP-712 hash of the configuration.
    pub fn id(&self, domain: &Domain) -> ChannelId {
        ChannelId(domain.signing_hash(&self.typed()))
    }

    /// Who must have signed a voucher.
    pub fn voucher_signer(&self) -> Address {
        if self.payer_authorizer.is_zero() {
            self.payer
        } else {
            self.payer_authorizer
        }
    }

    /// Whether a provider with these terms can be paid over this channel; if
    /// not, the name of the field that is in the way.
    pub fn suits(&self, terms: &ChannelTerms) -> Result<(), &'static str> {
        if self.receiver != terms.receiver {
            return Err("receiver");
        }
        if self.receiver_authorizer != terms.receiver_authorizer {
            return Err("receiverAuthorizer");
        }
        if self.token != terms.token {
            return Err("token");
        }
        if self.withdraw_delay_s < terms.withdraw_delay_min_s
            || self.withdraw_delay_s > WITHDRAW_DELAY_MAX_S
        {
            return Err("withdrawDelay");
        }
        Ok(())
    }

    fn typed(&self) -> typed::ChannelConfig {
        typed::ChannelConfig {
            payer: self.payer,
            payerAuthorizer: self.payer_authorizer,
            receiver: self.receiver,
            receiverAuthorizer: self.receiver_authorizer,
            token: self.token,
            withdrawDelay: U40::saturating_from(self.withdraw_delay_s),
            salt: self.salt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_its_own_id_in_each_domain_whatever_was_hashed_before() {
        let config = ChannelConfig {
            payer: Address::repeat_byte(1),
            payer_authorizer: Address::repeat_byte(2),
            receiver: Address::repeat_byte(3),
            receiver_authorizer: Address::repeat_byte(4),
            token: Address::repeat_byte(5),
            withdraw_delay_s: WITHDRAW_DELAY_MIN_S,
            salt: B256::repeat_byte(6),
        };
        let on = |chain_id| Domain {
            chain_id,
            settlement: Address::repeat_byte(7),
        };
        let alone = |chain_id| std::thread::spawn(move || config.id(&on(chain_id))).join();
        let (first, second) = (alone(1).unwrap(), alone(2).unwrap());
        assert_ne!(first, second);
        let in_turns = [1, 2, 2, 1].map(|chain_id| config.id(&on(chain_id)));
        assert_eq!(in_turns, [first, second, second, first]);
    }
}
