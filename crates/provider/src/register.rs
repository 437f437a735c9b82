//! On the market: the provider, its models and its bids in the registry.
//!
//! Says everything anew at each start and pays only for what is not there
//! yet: what is found registered is left alone, what differs is changed. A host
//! says nothing: it sells what its provider is found to have bids on.

use market::{
    Address, Amount, CertificateError, Host, Ledger, LedgerError, Model, ModelId, Stakes,
};
use tracing::{info, warn};

use crate::config::{Config, OfferConfig};

/// Why the provider is not on the market. What was registered before the
/// error stays, and is not paid for again at the next try.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The registry cannot be read.
    #[error("the registry cannot be read")]
    Read(#[source] LedgerError),
    /// The provider itself.
    #[error("the provider could not be registered with endpoint {endpoint:?}")]
    Provider {
        /// Its endpoint.
        endpoint: String,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// A model.
    #[error("model {name:?} could not be registered")]
    Model {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// A bid.
    #[error("the bid for model {name:?} could not be posted")]
    Bid {
        /// The model's name.
        name: String,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// A host that is registered as a provider of its own.
    #[error(transparent)]
    Host(#[from] CertificateError),
    /// The provider of a host.
    #[error(
        "provider {provider}, whose host this is, is not registered; its wallet has to be, once: \
         `lethe provide` without --hosts does it, and may be stopped then"
    )]
    NotRegistered {
        /// Who.
        provider: Address,
    },
    /// Nothing of what the host has.
    #[error(
        "provider {provider}, whose host this is, has no bid on {names}; its wallet has to post one, once: \
         `lethe provide` without --hosts does it, and may be stopped then"
    )]
    NoBid {
        /// Who.
        provider: Address,
        /// What the host would sell.
        names: String,
    },
}

/// Sees that what is sold is on the market. What is sold of the config, and its models' ids.
pub(crate) async fn registered(
    ledger: &dyn Ledger,
    host: Host,
    config: Config,
    stakes: &Stakes,
) -> Result<(Config, Vec<ModelId>), RegisterError> {
    if host.is_own() {
        let models = register(ledger, &config, stakes).await?;
        return Ok((config, models));
    }
    found(ledger, host, config).await
}

/// What of the config the host's provider has bids on.
async fn found(
    ledger: &dyn Ledger,
    host: Host,
    mut config: Config,
) -> Result<(Config, Vec<ModelId>), RegisterError> {
    let provider = host.provider;
    let known = ledger.providers().await.map_err(RegisterError::Read)?;
    let is_registered = |account| known.iter().any(|one| one.address == account);
    if is_registered(host.account) {
        return Err(CertificateError::Registered { host }.into());
    }
    if !is_registered(provider) {
        return Err(RegisterError::NotRegistered { provider });
    }
    let bids = ledger.bids(provider).await.map_err(RegisterError::Read)?;
    let mut models = ledger.models().await.map_err(RegisterError::Read)?;
    models.retain(|model| bids.iter().any(|bid| bid.model == model.id));

    let names: Vec<_> = config
        .offers
        .iter()
        .map(|offer| offer.name.clone())
        .collect();
    let mut ids = Vec::with_capacity(names.len());
    config.offers.retain(|offer| {
        let own = ModelId::derive(provider, offer.base);
        // Its own model, or one of that name that somebody else registered.
        let is_own = |model: &&Model| model.id == own;
        let named = |model: &&Model| model.name == offer.name;
        let found = models.iter().find(is_own);
        let found = found.or_else(|| models.iter().find(named));
        ids.extend(found.map(|model| model.id));
        if found.is_none() {
            warn!(model = offer.name, %provider, "not sold: the provider has no bid on it");
        }
        found.is_some()
    });
    match ids.is_empty() {
        true => Err(RegisterError::NoBid {
            provider,
            names: names.join(", "),
        }),
        false => Ok((config, ids)),
    }
}

/// Puts the provider, its models and its bids on the market. The ids of the
/// offers, in their order.
async fn register(
    ledger: &dyn Ledger,
    config: &Config,
    stakes: &Stakes,
) -> Result<Vec<ModelId>, RegisterError> {
    failpoint::hit("provider.registering");
    register_provider(ledger, &config.endpoint, stakes).await?;
    failpoint::hit("provider.registered");
    let models = ledger.models().await.map_err(RegisterError::Read)?;
    let bids = ledger
        .bids(ledger.account())
        .await
        .map_err(RegisterError::Read)?;

    let mut ids = Vec::with_capacity(config.offers.len());
    for offer in &config.offers {
        let id = ModelId::derive(ledger.account(), offer.base);
        let known = models.iter().find(|model| model.id == id);
        if known.is_none_or(|model| model.name != offer.name || model.tags != offer.tags) {
            let stake = known.map_or(stakes.model_min, |_| Amount::ZERO);
            register_model(ledger, offer, stake).await?;
        }
        let price = offer.price_per_second;
        if !bids
            .iter()
            .any(|bid| bid.model == id && bid.price_per_second == price)
        {
            let posted = ledger.post_bid(id, price).await;
            posted.map_err(|source| RegisterError::Bid {
                name: offer.name.clone(),
                source,
            })?;
            failpoint::hit("provider.bid.posted");
            info!(model = offer.name, %id, "bid posted");
        }
        ids.push(id);
    }
    Ok(ids)
}

async fn register_provider(
    ledger: &dyn Ledger,
    endpoint: &str,
    stakes: &Stakes,
) -> Result<(), RegisterError> {
    let registered = market::register_endpoint(ledger, endpoint, stakes).await;
    let is_new = registered.map_err(|source| RegisterError::Provider {
        endpoint: endpoint.to_owned(),
        source,
    })?;
    if is_new {
        info!(endpoint, "provider registered");
    }
    Ok(())
}

async fn register_model(
    ledger: &dyn Ledger,
    offer: &OfferConfig,
    stake: Amount,
) -> Result<(), RegisterError> {
    let OfferConfig {
        name, base, tags, ..
    } = offer;
    let registered = ledger
        .register_model(*base, name.clone(), tags.clone(), stake)
        .await;
    let id = registered.map_err(|source| RegisterError::Model {
        name: name.clone(),
        source,
    })?;
    failpoint::hit("provider.model.registered");
    info!(model = name, %id, "model registered");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use market::{B256, Domain, MemoryLedger, Rates, Timestamp};

    use super::*;
    use crate::backend::{BackendHandle, Script, ScriptedBackend};
    use market::ClaimPolicy;

    const ME: Address = Address::repeat_byte(1);
    const MOR: Address = Address::repeat_byte(9);

    fn ledger(money: u128) -> MemoryLedger {
        let domain = Domain {
            chain_id: 1,
            settlement: Address::repeat_byte(8),
        };
        let ledger = MemoryLedger::new(domain, MOR, Timestamp(0)).of(ME);
        ledger.mint(MOR, ME, Amount::new(money)).unwrap();
        ledger
    }

    fn config(endpoint: &str, price: u128) -> Config {
        let offer = OfferConfig {
            name: "llama".into(),
            base: B256::repeat_byte(2),
            tags: vec!["chat".into()],
            rates: Rates {
                input_per_million: Amount::new(1),
                output_per_million: Amount::new(1),
            },
            token: MOR,
            price_per_second: Amount::new(price),
            context_length: None,
            output_tokens_max: None,
            upstream: None,
            upstream_model: "llama".into(),
            backend: BackendHandle::new(ScriptedBackend::new(Script::default())),
            slots: 1,
            queue: 0,
            probe: false,
            card: None,
            parameters: vec![],
        };
        Config {
            endpoint: endpoint.into(),
            addresses: vec![],
            behind: vec![],
            hosts: None,
            offers: vec![offer],
            withdraw_delay_min_s: 900,
            quote_validity_s: 60,
            pay_within: Config::PAY_WITHIN,
            stop_within: Duration::ZERO,
            claims: ClaimPolicy {
                threshold: Amount::new(1),
                interval: Duration::from_secs(1),
                ..ClaimPolicy::default()
            },
        }
    }

    /// Registers one after the other; what is left of the money.
    async fn left_after(ledger: &MemoryLedger, configs: &[Config]) -> u128 {
        for config in configs {
            register(ledger, config, &MemoryLedger::STAKES)
                .await
                .unwrap();
        }
        ledger.balance(MOR, ME).await.unwrap().base_units()
    }

    #[tokio::test]
    async fn what_is_registered_is_not_paid_for_again() {
        let ledger = ledger(1000);
        let (first, moved, dearer) = (config("a:1", 5), config("b:2", 5), config("b:2", 6));
        let once = 1000 - 200 - 100 - 3;
        assert_eq!(
            left_after(&ledger, std::slice::from_ref(&first)).await,
            once
        );
        assert_eq!(left_after(&ledger, &[first.clone(), first]).await, once);
        assert_eq!(
            left_after(&ledger, &[moved]).await,
            once,
            "a new endpoint is free"
        );
        assert_eq!(ledger.providers().await.unwrap()[0].endpoint, "b:2");
        assert_eq!(
            left_after(&ledger, &[dearer]).await,
            once - 3,
            "a new bid has its fee"
        );
        assert_eq!(ledger.bids(ME).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_host_sells_what_its_provider_bids_on_and_registers_nothing() {
        let ledger = ledger(1000);
        let account = Address::repeat_byte(7);
        let (here, provider) = (ledger.of(account), ME);
        let host = Host { account, provider };
        let tries = async || {
            let mut config = config("a:1", 5);
            config.offers.push(OfferConfig {
                name: "mistral".into(),
                base: B256::repeat_byte(3),
                ..config.offers[0].clone()
            });
            registered(&here, host, config, &MemoryLedger::STAKES).await
        };
        let error = tries().await.unwrap_err();
        assert!(
            matches!(error, RegisterError::NotRegistered { .. }),
            "{error}"
        );
        let stakes = MemoryLedger::STAKES;
        market::register_endpoint(&ledger, "a:1", &stakes)
            .await
            .unwrap();
        let error = tries().await.unwrap_err().to_string();
        assert!(error.contains("no bid on llama, mistral"), "{error}");
        left_after(&ledger, &[config("a:1", 5)]).await;
        let (config, models) = tries().await.unwrap();
        assert_eq!(config.offers.len(), 1);
        assert_eq!(models, [ModelId::derive(ME, config.offers[0].base)]);

        ledger.mint(MOR, account, Amount::new(500)).unwrap();
        market::register_endpoint(&here, "b:2", &stakes)
            .await
            .unwrap();
        let error = tries().await.unwrap_err().to_string();
        assert!(error.contains("is itself registered"), "{error}");
    }

    #[tokio::test]
    async fn after_a_failure_in_the_middle_only_the_rest_is_paid() {
        let ledger = ledger(250);
        let config = config("a:1", 5);
        let short = register(&ledger, &config, &MemoryLedger::STAKES).await;
        assert!(matches!(short, Err(RegisterError::Model { .. })));
        ledger.mint(MOR, ME, Amount::new(53)).unwrap();
        assert_eq!(left_after(&ledger, &[config]).await, 0);
    }
}
