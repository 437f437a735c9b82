//! The payer's word that lets a collector move tokens into a channel.
//!
//! Three ways, one for each kind of token; all bind the money to the channel
//! id, so that nobody can put it into a channel with keys of their own.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol;
use alloy::sol_types::{Eip712Domain, SolStruct, SolValue, eip712_domain};
use market::{Amount, ChannelId, WalletKey};

use crate::profile::PERMIT2;

sol! {
    struct AllowanceDeposit {
        bytes32 channelId;
        address token;
        uint128 amount;
        uint256 nonce;
        uint256 deadline;
    }

    struct ReceiveWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct DepositWitness {
        bytes32 channelId;
    }

    struct PermitWitnessTransferFrom {
        TokenPermissions permitted;
        address spender;
        uint256 nonce;
        uint256 deadline;
        DepositWitness witness;
    }
}

/// How a token gets into a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DepositBy {
    /// The token itself takes the payer's signature (EIP-3009).
    Eip3009 {
        /// Who brings it.
        collector: Address,
        /// The token's EIP-712 name.
        name: String,
        /// And version.
        version: String,
    },
    /// The payer approved the collector, which also wants a signature.
    Allowance {
        /// Who takes it.
        collector: Address,
    },
    /// The payer approved Permit2, which wants a signature.
    Permit2 {
        /// Who takes it.
        collector: Address,
    },
}

/// An approval that must stand before the deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spender {
    /// Who must be approved.
    pub(crate) address: Address,
    /// Once and for all, or each time for what is needed.
    pub(crate) unlimited: bool,
}

/// What the payer agrees to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agreement {
    /// On which chain.
    pub(crate) chain_id: u64,
    /// Into which channel.
    pub(crate) channel: ChannelId,
    /// Of which token.
    pub(crate) token: Address,
    /// How much.
    pub(crate) amount: Amount,
    /// A number that the payer has not used before.
    pub(crate) nonce: U256,
    /// Unix seconds after which it is void.
    pub(crate) deadline: u64,
}

impl DepositBy {
    /// The contract to be named in the deposit.
    pub(crate) fn collector(&self) -> Address {
        match self {
            Self::Eip3009 { collector, .. }
            | Self::Allowance { collector }
            | Self::Permit2 { collector } => *collector,
        }
    }

    /// Who must be approved first.
    pub(crate) fn spender(&self) -> Option<Spender> {
        match self {
            Self::Eip3009 { .. } => None,
            Self::Allowance { collector } => Some(Spender {
                address: *collector,
                unlimited: false,
            }),
            // Permit2's idea: one approval, then a signature for each transfer.
            Self::Permit2 { .. } => Some(Spender {
                address: PERMIT2,
                unlimited: true,
            }),
        }
    }

    /// Signs, and encodes it as the collector wants it.
    pub(crate) fn collector_data(&self, agreement: &Agreement, key: &WalletKey) -> Bytes {
        let signature = Bytes::from(
            key.sign(&self.digest(agreement, key.address()))
                .as_bytes()
                .to_vec(),
        );
        let (nonce, deadline) = (agreement.nonce, U256::from(agreement.deadline));
        let encoded = match self {
            Self::Eip3009 { .. } => (U256::ZERO, deadline, nonce, signature).abi_encode_params(),
            Self::Allowance { .. } => (nonce, deadline, signature).abi_encode_params(),
            // Last: an EIP-2612 permit for Permit2, which MOR does not have.
            Self::Permit2 { .. } => (nonce, deadline, signature, Bytes::new()).abi_encode_params(),
        };
        encoded.into()
    }

    /// What the payer signs.
    fn digest(&self, agreement: &Agreement, payer: Address) -> B256 {
        let Agreement {
            chain_id,
            channel,
            token,
            amount,
            nonce,
            deadline,
        } = *agreement;
        let value = U256::from(amount.base_units());
        let deadline = U256::from(deadline);
        match self {
            Self::Eip3009 {
                collector,
                name,
                version,
            } => ReceiveWithAuthorization {
                from: payer,
                to: *collector,
                value,
                validAfter: U256::ZERO,
                validBefore: deadline,
                nonce: keccak256((channel.0, nonce).abi_encode()),
            }
            .eip712_signing_hash(&Eip712Domain::new(
                Some(name.clone().into()),
                Some(version.clone().into()),
                Some(U256::from(chain_id)),
                Some(token),
                None,
            )),
            Self::Allowance { collector } => AllowanceDeposit {
                channelId: channel.0,
                token,
                amount: amount.base_units(),
                nonce,
                deadline,
            }
            .eip712_signing_hash(&eip712_domain! {
                name: "Lethe Allowance Collector",
                version: "1",
                chain_id: chain_id,
                verifying_contract: *collector,
            }),
            Self::Permit2 { collector } => PermitWitnessTransferFrom {
                permitted: TokenPermissions {
                    token,
                    amount: value,
                },
                spender: *collector,
                nonce,
                deadline,
                witness: DepositWitness {
                    channelId: channel.0,
                },
            }
            .eip712_signing_hash(&eip712_domain! {
                name: "Permit2",
                chain_id: chain_id,
                verifying_contract: PERMIT2,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::b256;
    use serde_json::Value;

    use super::*;
    use crate::profile::{ALLOWANCE_COLLECTOR, EIP3009_COLLECTOR, PERMIT2_COLLECTOR};

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../../contracts/oracle/vectors.json")).unwrap()
    }

    fn read<T: core::str::FromStr<Err: core::fmt::Debug>>(value: &Value, key: &str) -> T {
        value[key].as_str().unwrap().parse().unwrap()
    }

    fn payer(vectors: &Value) -> WalletKey {
        let secret: B256 = read(&vectors["keys"]["payer"], "privateKey");
        WalletKey::from_bytes(&secret.0).unwrap()
    }

    /// Every deposit of one kind in the vectors: its agreement and its JSON.
    fn deposits(
        vectors: &Value,
        kind: &str,
        nonce: &str,
        deadline: &str,
    ) -> Vec<(Agreement, Value)> {
        let mut found = Vec::new();
        for chain in vectors["chains"].as_array().unwrap() {
            for channel in chain["channels"].as_array().unwrap() {
                for deposit in channel[kind].as_array().unwrap() {
                    // One vector tries a deadline at the end of time.
                    let Ok(deadline) = deposit[deadline].as_str().unwrap().parse() else {
                        continue;
                    };
                    let agreement = Agreement {
                        chain_id: chain["chainId"].as_u64().unwrap(),
                        channel: read(channel, "channelId"),
                        token: read(&channel["config"], "token"),
                        amount: read(deposit, "amount"),
                        nonce: read(deposit, nonce),
                        deadline,
                    };
                    found.push((agreement, deposit.clone()));
                }
            }
        }
        assert!(found.len() >= 4, "the vectors lost {kind}");
        found
    }

    #[test]
    fn an_eip3009_deposit_is_the_public_clients_to_the_byte() {
        let vectors = vectors();
        let key = payer(&vectors);
        for (agreement, vector) in deposits(&vectors, "eip3009Deposits", "salt", "validBefore") {
            let by = DepositBy::Eip3009 {
                collector: EIP3009_COLLECTOR,
                name: read(&vector, "tokenName"),
                version: read(&vector, "tokenVersion"),
            };
            assert_eq!(
                by.digest(&agreement, key.address()),
                read::<B256>(&vector, "digest")
            );
            assert_eq!(
                by.collector_data(&agreement, &key),
                read::<Bytes>(&vector, "collectorData")
            );
        }
    }

    #[test]
    fn an_allowance_deposit_is_what_the_collector_takes() {
        let vectors = vectors();
        let key = payer(&vectors);
        let by = DepositBy::Allowance {
            collector: ALLOWANCE_COLLECTOR,
        };
        for (agreement, vector) in deposits(&vectors, "allowanceDeposits", "nonce", "deadline") {
            assert_eq!(
                by.digest(&agreement, key.address()),
                read::<B256>(&vector, "digest")
            );
            assert_eq!(
                by.collector_data(&agreement, &key),
                read::<Bytes>(&vector, "collectorData")
            );
        }
    }

    /// Computed with viem from the type definitions in `@x402/evm` 2.27.0.
    #[test]
    fn a_permit2_deposit_is_what_viem_signs() {
        let key = payer(&vectors());
        let by = DepositBy::Permit2 {
            collector: PERMIT2_COLLECTOR,
        };
        let agreement = Agreement {
            chain_id: 42_161,
            channel: ChannelId(B256::repeat_byte(0x11)),
            token: Address::repeat_byte(0x22),
            amount: Amount::new(5_000_000),
            nonce: U256::from(7),
            deadline: 1_800_000_600,
        };
        assert_eq!(
            by.digest(&agreement, key.address()),
            b256!("58bf15ba4e4edf40547386b7d5066a1bdd460cdcb0b398fea20992a63ae1eebe")
        );
        let data = by.collector_data(&agreement, &key);
        let (nonce, deadline, signature, permit) =
            <(U256, U256, Bytes, Bytes)>::abi_decode_params(&data).unwrap();
        assert_eq!(
            (nonce, deadline),
            (U256::from(7), U256::from(1_800_000_600))
        );
        assert_eq!(signature.len(), 65);
        assert!(permit.is_empty());
    }
}
