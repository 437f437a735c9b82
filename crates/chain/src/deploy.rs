//! The contracts of a local chain: what is in its genesis, and what is
//! deployed onto it.
//!
//! All addresses are known beforehand ([`Network::local`]): the settlement
//! contract and the collectors stand at their public addresses, the rest are
//! the first contracts of a key that does nothing else. How far an earlier
//! deployment came is seen from that key's nonce, so it can be taken up again.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy::sol_types::SolValue;
use market::{Amount, LedgerError, Stakes};
use serde_json::json;

use crate::artifact::{self, Artifact};
use crate::bindings::RegistryParameters;
use crate::call::{Call, units};
use crate::development::DEPLOYER;
use crate::journal::MemoryJournal;
use crate::profile::{
    ALLOWANCE_COLLECTOR, CALL_AGGREGATOR, EIP3009_COLLECTOR, LOCAL_CHAIN_ID, Network, SETTLEMENT,
};
use crate::rpc::{Rpc, RpcError};
use crate::sender::machine::Policy;
use crate::sender::{Intent, Pace, Sender};

/// 42 million MOR, as many as there will ever be.
const MOR_SUPPLY: Amount = Amount::new(42_000_000 * 1_000_000_000_000_000_000);
/// 100 million development dollars.
const USD_SUPPLY: Amount = Amount::new(100_000_000 * 1_000_000);

/// What the market of a local chain is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMarket {
    /// What it takes to take part.
    pub stakes: Stakes,
    /// Who has money in the beginning.
    pub grants: Vec<Grant>,
}

/// Money in the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub account: Address,
    /// MOR.
    pub mor: Amount,
    /// Development dollars.
    pub usd: Amount,
}

impl LocalMarket {
    /// The terms of Morpheus' market on Base.
    pub const STAKES: Stakes = Stakes {
        provider_min: Amount::new(200_000_000_000_000_000),
        model_min: Amount::new(100_000_000_000_000_000),
        bid_fee: Amount::new(300_000_000_000_000_000),
        price_per_second_min: Amount::new(10_000_000_000_000),
        price_per_second_max: Amount::new(10_000_000_000_000_000),
    };
}

/// Where the contracts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deployment {
    /// MOR.
    pub mor: Address,
    /// The registry.
    pub registry: Address,
    /// The development dollar.
    pub usd: Address,
}

/// Why the contracts could not be deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Deploying is for chains that are thrown away.
    #[error(
        "chain {chain_id} is not local (allowed: {LOCAL_CHAIN_ID}); contracts are deployed on local chains only"
    )]
    NotLocal {
        /// Where the node is.
        chain_id: u64,
    },
    /// The deployer's key did something else before.
    #[error(
        "account {} has sent {nonce} transactions, but there is no {contract} at {address}; \
         start with a fresh local chain",
        DEPLOYER.address
    )]
    Spoilt {
        /// What is missing.
        contract: &'static str,
        /// Where.
        address: Address,
        /// How many.
        nonce: u64,
    },
    /// The chain did not do it.
    #[error("the contracts could not be deployed")]
    Ledger(#[from] LedgerError),
}

impl From<RpcError> for DeployError {
    fn from(error: RpcError) -> Self {
        Self::Ledger(error.into())
    }
}

/// The contracts at their public addresses, for the genesis of a local chain.
pub fn genesis_code() -> Vec<(Address, Bytes)> {
    [
        (SETTLEMENT, &*artifact::SETTLEMENT),
        (ALLOWANCE_COLLECTOR, &*artifact::ALLOWANCE_COLLECTOR),
        (EIP3009_COLLECTOR, &*artifact::EIP3009_COLLECTOR),
        (CALL_AGGREGATOR, &*artifact::CALL_AGGREGATOR),
    ]
    .into_iter()
    .map(|(address, artifact)| (address, artifact.deployed_bytecode.clone()))
    .collect()
}

/// Places [`genesis_code`] on a running anvil.
pub async fn place_code(rpc_url: &str) -> Result<(), DeployError> {
    let rpc = local(rpc_url).await?;
    for (address, code) in genesis_code() {
        let _: serde_json::Value = rpc.request("anvil_setCode", json!([address, code])).await?;
    }
    Ok(())
}

/// Deploys MOR, the registry and a dollar on a local chain, and makes the
/// grants. What was done before is not done again.
pub async fn deploy(rpc_url: &str, market: &LocalMarket) -> Result<Deployment, DeployError> {
    let rpc = local(rpc_url).await?;
    let plan = plan(market);
    let done = rpc.transactions_of(DEPLOYER.address).await?;
    let sender = Sender::start(
        rpc.clone(),
        LOCAL_CHAIN_ID,
        Arc::new(DEPLOYER.wallet()),
        Arc::new(MemoryJournal::default()),
        DEPLOY_PACE,
    )
    .await?;
    let done = usize::try_from(done).unwrap_or(usize::MAX);
    for intent in plan.into_iter().skip(done) {
        sender.send(intent).await?;
    }
    let network = Network::local();
    let deployment = Deployment {
        mor: network.mor,
        registry: network.registry,
        usd: DEPLOYER.address.create(2),
    };
    for (contract, address) in [
        ("MOR token", deployment.mor),
        ("registry", deployment.registry),
        ("dollar", deployment.usd),
    ] {
        if rpc.code(address).await?.is_empty() {
            let nonce = rpc.transactions_of(DEPLOYER.address).await?;
            return Err(DeployError::Spoilt {
                contract,
                address,
                nonce,
            });
        }
    }
    Ok(deployment)
}

/// Somebody waits for a local chain to come up.
const DEPLOY_PACE: Pace = Pace {
    policy: Policy {
        poll_min: Duration::from_millis(10),
        ..Pace::LOCAL.policy
    },
    ..Pace::LOCAL
};

async fn local(rpc_url: &str) -> Result<Rpc, DeployError> {
    let rpc = Rpc::new(&rpc_url.into(), None)?;
    let chain_id = rpc.chain_id().await?;
    if chain_id != LOCAL_CHAIN_ID {
        return Err(DeployError::NotLocal { chain_id });
    }
    Ok(rpc)
}

/// The deployer's transactions: the n-th has nonce n.
fn plan(market: &LocalMarket) -> Vec<Intent> {
    let owner = DEPLOYER.address;
    let (mor, usd) = (owner.create(0), owner.create(2));
    let parameters = RegistryParameters {
        token: mor,
        minPricePerSecond: units(market.stakes.price_per_second_min),
        maxPricePerSecond: units(market.stakes.price_per_second_max),
        providerMinStake: units(market.stakes.provider_min),
        modelMinStake: units(market.stakes.model_min),
        bidFee: units(market.stakes.bid_fee),
        owner,
    };
    let mut plan = vec![
        creation(
            &artifact::MOR,
            (owner, owner, units(MOR_SUPPLY)).abi_encode_params(),
        ),
        creation(&artifact::REGISTRY, parameters.abi_encode()),
        creation(
            &artifact::USD,
            (owner, owner, units(USD_SUPPLY)).abi_encode_params(),
        ),
    ];
    for grant in &market.grants {
        for (token, amount) in [(mor, grant.mor), (usd, grant.usd)] {
            if !amount.is_zero() {
                plan.push(message(Call::transfer(token, grant.account, amount)));
            }
        }
    }
    // Two equal grants are two wishes.
    for (place, intent) in plan.iter_mut().enumerate() {
        intent.id = numbered(place, intent.id);
    }
    plan
}

fn creation(artifact: &Artifact, arguments: Vec<u8>) -> Intent {
    let data = Bytes::from([artifact.bytecode.as_ref(), &arguments].concat());
    Intent {
        id: keccak256(&data),
        to: TxKind::Create,
        data,
        value: U256::ZERO,
    }
}

fn message(call: Call) -> Intent {
    Intent {
        id: call.digest(),
        to: call.to.into(),
        data: call.data,
        value: U256::ZERO,
    }
}

fn numbered(place: usize, id: B256) -> B256 {
    keccak256([id.as_slice(), &place.to_be_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_genesis_has_code_at_every_public_address() {
        let code = genesis_code();
        let addresses: Vec<Address> = code.iter().map(|(address, _)| *address).collect();
        let local = Network::local();
        assert_eq!(
            addresses,
            [
                local.settlement,
                local.collectors.allowance.unwrap(),
                local.collectors.eip3009.unwrap(),
                CALL_AGGREGATOR,
            ]
        );
        assert!(code.iter().all(|(_, code)| code.len() > 100));
    }

    #[test]
    fn equal_grants_are_made_twice() {
        let grant = Grant {
            account: Address::repeat_byte(1),
            mor: Amount::new(5),
            usd: Amount::ZERO,
        };
        let plan = plan(&LocalMarket {
            stakes: LocalMarket::STAKES,
            grants: vec![grant, grant],
        });
        assert_eq!(plan.len(), 5);
        assert_eq!(plan[3].data, plan[4].data);
        assert_ne!(plan[3].id, plan[4].id);
    }
}
