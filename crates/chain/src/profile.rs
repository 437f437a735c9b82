//! The networks that the market lives on: chain ids and addresses.
//!
//! Lethe's contracts and code are not audited, so every network with real
//! money needs an explicit word, and keys that everybody has are refused there.

use alloy::primitives::{Address, address};
use market::Domain;

use crate::deposit::DepositBy;
use crate::development::{DEPLOYER, is_development_account};

/// The flag that allows a network with real money.
pub const UNAUDITED_FLAG: &str = "--unaudited";

/// The public settlement contract of x402 `batch-settlement`, the same on every chain.
pub const SETTLEMENT: Address = address!("4020074e9dF2ce1deE5A9C1b5c3f541D02a10003");
/// Its public collector of EIP-3009 authorisations.
pub const EIP3009_COLLECTOR: Address = address!("4020806089470a89826cB9fB1f4059150b550004");
/// Its public collector of Permit2 authorisations.
pub const PERMIT2_COLLECTOR: Address = address!("4020425FAf3B746C082C2f942b4E5159887B0005");
/// Our collector of allowances; only in the genesis of local chains.
pub const ALLOWANCE_COLLECTOR: Address = address!("4c45544845000000000000000000000000000001");
/// Where public clients look for a contract that reads much at once (Multicall3).
pub const CALL_AGGREGATOR: Address = address!("cA11bde05977b3631167028862bE2a173976CA11");
/// Permit2, the same on every chain.
pub const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");

/// The chain id of local chains.
pub const LOCAL_CHAIN_ID: u64 = 31_337;

const NAMES: [&str; 5] = [
    "local",
    "arbitrum-one",
    "arbitrum-sepolia",
    "base",
    "base-sepolia",
];

/// Where everything is on one chain. The fields may be set from configuration;
/// [`crate::EvmLedger::connect`] checks them against the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// What the user calls it.
    pub name: String,
    /// EIP-155.
    pub chain_id: u64,
    /// Providers, models and bids (on Morpheus' networks the diamond).
    pub registry: Address,
    /// MOR.
    pub mor: Address,
    /// Payment channels.
    pub settlement: Address,
    /// How deposits get there.
    pub collectors: Collectors,
    /// Tokens of which more is known than their address.
    pub tokens: Vec<Token>,
    /// Where its JSON-RPC is, if everybody has it at the same place.
    pub rpc_url: Option<String>,
}

/// The collectors of a network. One that is absent is never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collectors {
    /// Ours, for any token.
    pub allowance: Option<Address>,
    /// For tokens with EIP-3009.
    pub eip3009: Option<Address>,
    /// For any token, through Permit2.
    pub permit2: Option<Address>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its contract.
    pub address: Address,
    /// For people.
    pub symbol: String,
    /// Digits after the point.
    pub decimals: u8,
    /// Name and version of its EIP-712 domain, if it takes EIP-3009 authorisations.
    pub eip3009: Option<(String, String)>,
}

/// Why a network is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// There is no profile of that name.
    #[error("network {name:?} is not known (allowed: {})", NAMES.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// It needs the user's explicit word.
    #[error(
        "network {name:?} is not local, and neither the contracts nor this program are audited: \
         what is deposited there may be lost; to use it all the same, give {UNAUDITED_FLAG}"
    )]
    Unaudited {
        /// What was asked for.
        name: String,
    },
    /// The key is everybody's.
    #[error(
        "the key of account {address} is a published development key, anybody can take what it has on \
         network {network:?}; use a key of your own, or network \"local\""
    )]
    DevelopmentKey {
        /// Whose key.
        address: Address,
        /// Where it was to be used.
        network: String,
    },
}

impl Network {
    /// The profile of that name. Others than `local` need the user's word that
    /// unaudited code may handle real money ([`UNAUDITED_FLAG`]).
    pub fn by_name(name: &str, unaudited: bool) -> Result<Self, NetworkError> {
        let network = match name {
            "local" => return Ok(Self::local()),
            "arbitrum-one" => Self::arbitrum_one(),
            "arbitrum-sepolia" => Self::arbitrum_sepolia(),
            "base" => Self::base(),
            "base-sepolia" => Self::base_sepolia(),
            _ => {
                return Err(NetworkError::Unknown {
                    name: name.to_owned(),
                });
            }
        };
        if unaudited {
            Ok(network)
        } else {
            Err(NetworkError::Unaudited { name: network.name })
        }
    }

    /// All profiles, to know their tokens by.
    pub fn all() -> Vec<Self> {
        let all = NAMES.iter().map(|name| Self::by_name(name, true));
        all.filter_map(Result::ok).collect()
    }

    /// A chain that is thrown away: the embedded one, or anvil. MOR, the
    /// registry and a dollar are the [`DEPLOYER`]'s first three contracts.
    pub fn local() -> Self {
        let deployed = |nonce| DEPLOYER.address.create(nonce);
        let mor = deployed(0);
        let usd = Token {
            address: deployed(2),
            symbol: "USDdev".to_owned(),
            decimals: 6,
            eip3009: Some(("Development Dollar".to_owned(), "1".to_owned())),
        };
        Self {
            name: "local".to_owned(),
            chain_id: LOCAL_CHAIN_ID,
            registry: deployed(1),
            mor,
            settlement: SETTLEMENT,
            collectors: Collectors {
                allowance: Some(ALLOWANCE_COLLECTOR),
                eip3009: Some(EIP3009_COLLECTOR),
                permit2: None,
            },
            tokens: vec![mor_token(mor), usd],
            rpc_url: Some("http://127.0.0.1:8545".to_owned()),
        }
    }

    fn arbitrum_one() -> Self {
        Self::public(
            "arbitrum-one",
            42_161,
            address!("DE819AaEE474626E3f34Ef0263373357e5a6C71b"),
            address!("092bAaDB7DEf4C3981454dD9c0A0D7FF07bCFc86"),
        )
        .with_usdc(
            address!("af88d065e77c8cC2239327C5EDb3A432268e5831"),
            Some("USD Coin"),
        )
    }

    fn arbitrum_sepolia() -> Self {
        Self::public(
            "arbitrum-sepolia",
            421_614,
            address!("b8C55cD613af947E73E262F0d3C54b7211Af16CF"),
            address!("34a285a1b1c166420df5b6630132542923b5b27e"),
        )
        // By which name it signs is not known for certain: Permit2 does without.
        .with_usdc(address!("75faf114eafb1BDbe2F0316DF893fd58CE46AA4d"), None)
    }

    fn base() -> Self {
        Self::public(
            "base",
            8453,
            address!("6aBE1d282f72B474E54527D93b979A4f64d3030a"),
            address!("7431aDa8a591C955a994a21710752EF9b882b8e3"),
        )
        .with_usdc(
            address!("833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
            Some("USD Coin"),
        )
    }

    fn base_sepolia() -> Self {
        Self::public(
            "base-sepolia",
            84_532,
            address!("6e4d0B775E3C3b02683A6F277Ac80240C4aFF930"),
            address!("5C80Ddd187054E1E4aBBfFCD750498e81d34FfA3"),
        )
        .with_usdc(
            address!("036CbD53842c5426634e7929541eC2318f3dCF7e"),
            Some("USDC"),
        )
    }

    fn public(name: &str, chain_id: u64, registry: Address, mor: Address) -> Self {
        Self {
            name: name.to_owned(),
            chain_id,
            registry,
            mor,
            settlement: SETTLEMENT,
            collectors: Collectors {
                allowance: None,
                eip3009: Some(EIP3009_COLLECTOR),
                permit2: Some(PERMIT2_COLLECTOR),
            },
            tokens: vec![mor_token(mor)],
            rpc_url: None,
        }
    }

    /// Circle's dollar; `signs_as`: the name of its EIP-712 domain.
    fn with_usdc(mut self, address: Address, signs_as: Option<&str>) -> Self {
        self.tokens.push(Token {
            address,
            symbol: "USDC".to_owned(),
            decimals: 6,
            eip3009: signs_as.map(|name| (name.to_owned(), "2".to_owned())),
        });
        self
    }

    /// Whether it is thrown away.
    pub fn is_local(&self) -> bool {
        self.chain_id == LOCAL_CHAIN_ID
    }

    /// Where vouchers count.
    pub fn domain(&self) -> Domain {
        Domain {
            chain_id: self.chain_id,
            settlement: self.settlement,
        }
    }

    /// What is known of a token.
    pub fn token(&self, address: Address) -> Option<&Token> {
        self.tokens.iter().find(|token| token.address == address)
    }

    /// Whether a key of `account` may be used here.
    pub fn admits(&self, account: Address) -> Result<(), NetworkError> {
        if !self.is_local() && is_development_account(account) {
            return Err(NetworkError::DevelopmentKey {
                address: account,
                network: self.name.clone(),
            });
        }
        Ok(())
    }

    /// How a token gets into a channel here: by an authorisation where the
    /// token takes one, else out of an allowance, else through Permit2.
    pub(crate) fn deposit_by(&self, token: Address) -> Option<DepositBy> {
        let authorisation = self.token(token).and_then(|token| token.eip3009.clone());
        if let (Some(collector), Some((name, version))) = (self.collectors.eip3009, authorisation) {
            return Some(DepositBy::Eip3009 {
                collector,
                name,
                version,
            });
        }
        if let Some(collector) = self.collectors.allowance {
            return Some(DepositBy::Allowance { collector });
        }
        let collector = self.collectors.permit2?;
        Some(DepositBy::Permit2 { collector })
    }
}

fn mor_token(address: Address) -> Token {
    Token {
        address,
        symbol: "MOR".to_owned(),
        decimals: 18,
        eip3009: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_comes_without_the_flag() {
        assert!(Network::by_name("local", false).unwrap().is_local());
        for name in &NAMES[1..] {
            let refused = Network::by_name(name, false).unwrap_err();
            assert!(matches!(refused, NetworkError::Unaudited { .. }));
            assert!(refused.to_string().contains("--unaudited"), "{refused}");
            let network = Network::by_name(name, true).unwrap();
            assert_eq!(network.name, *name);
            assert!(!network.is_local());
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = Network::by_name("Base", true).unwrap_err().to_string();
        assert_eq!(
            error,
            "network \"Base\" is not known (allowed: local, arbitrum-one, arbitrum-sepolia, base, base-sepolia)"
        );
    }

    #[test]
    fn published_keys_are_good_on_local_chains_only() {
        let known = DEPLOYER.address;
        assert_eq!(Network::local().admits(known), Ok(()));
        let base = Network::by_name("base", true).unwrap();
        assert_eq!(
            base.admits(known),
            Err(NetworkError::DevelopmentKey {
                address: known,
                network: "base".to_owned()
            })
        );
        assert_eq!(base.admits(Address::repeat_byte(7)), Ok(()));
    }

    #[test]
    fn each_token_goes_the_way_it_can() {
        let base = Network::by_name("base", true).unwrap();
        let usdc = base.tokens[1].address;
        assert!(matches!(
            base.deposit_by(usdc),
            Some(DepositBy::Eip3009 { name, .. }) if name == "USD Coin"
        ));
        assert_eq!(
            base.deposit_by(base.mor),
            Some(DepositBy::Permit2 {
                collector: PERMIT2_COLLECTOR
            })
        );
        let local = Network::local();
        assert_eq!(
            local.deposit_by(local.mor),
            Some(DepositBy::Allowance {
                collector: ALLOWANCE_COLLECTOR
            })
        );
        let mut poor = base;
        poor.collectors.permit2 = None;
        assert_eq!(poor.deposit_by(poor.mor), None);
    }

    #[test]
    fn every_public_network_has_its_dollar() {
        let by = |name| {
            let network = Network::by_name(name, true).unwrap();
            let usdc = network.token_named("usdc").unwrap();
            network.deposit_by(usdc.address)
        };
        for (name, signs_as) in [("base", "USD Coin"), ("base-sepolia", "USDC")] {
            let by = by(name);
            assert!(
                matches!(&by, Some(DepositBy::Eip3009 { name, .. }) if name == signs_as),
                "{by:?}"
            );
        }
        let by = by("arbitrum-sepolia");
        assert!(matches!(by, Some(DepositBy::Permit2 { .. })), "{by:?}");
    }

    #[test]
    fn no_address_was_mistyped() {
        let mut seen = vec![
            SETTLEMENT,
            EIP3009_COLLECTOR,
            PERMIT2_COLLECTOR,
            ALLOWANCE_COLLECTOR,
            PERMIT2,
        ];
        for name in NAMES {
            let network = Network::by_name(name, true).unwrap();
            seen.push(network.registry);
            seen.extend(network.tokens.iter().map(|token| token.address));
            assert_eq!(network.mor, network.tokens[0].address);
        }
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../contracts/oracle/vectors.json")).unwrap();
        for (key, address) in [
            ("settlement", SETTLEMENT),
            ("eip3009Collector", EIP3009_COLLECTOR),
            ("allowanceCollector", ALLOWANCE_COLLECTOR),
        ] {
            assert_eq!(vectors[key].as_str().unwrap().parse(), Ok(address), "{key}");
        }
    }
}
