//! On the market: the provider, its models and its bids in the registry.
//!
//! Says everything anew at each start and pays only for what is not there
//! yet: what is found registered is left alone, what differs is changed.

use market::{Amount, Ledger, LedgerError, ModelId, Stakes};
use tracing::info;

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
}

/// Puts the provider, its models and its bids on the market. The ids of the
/// offers, in their order.
pub(crate) async fn register(
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

    use market::{Address, B256, Domain, MemoryLedger, Rates, Timestamp};

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
    async fn after_a_failure_in_the_middle_only_the_rest_is_paid() {
        let ledger = ledger(250);
        let config = config("a:1", 5);
        let short = register(&ledger, &config, &MemoryLedger::STAKES).await;
        assert!(matches!(short, Err(RegisterError::Model { .. })));
        ledger.mint(MOR, ME, Amount::new(53)).unwrap();
        assert_eq!(left_after(&ledger, &[config]).await, 0);
    }
}
