//! The registry, read: who provides what, and for how much.
//!
//! Anybody may register, so nothing read here is trusted: entries with
//! outsized texts or numbers are passed over, and listings end somewhere.

use std::collections::BTreeSet;
use std::future::Future;

use alloy::primitives::{Address, U256};
use alloy::sol_types::SolCall;
use futures_util::{StreamExt, TryStreamExt, stream};
use market::{Amount, Bid, BidId, LedgerError, Model, ModelId, Provider, Stakes};

use crate::bindings::Market;
use crate::rpc::{Rpc, RpcError};

/// Ids asked for at once.
const PAGE: u64 = 200;
/// More entries of one kind are not read.
const ENTRIES_MAX: usize = 10_000;
/// Entries read at the same time.
const AT_ONCE: usize = 16;
/// The longest endpoint or name that is taken from the chain.
const TEXT_BYTES_MAX: usize = 256;
/// The most tags of a model.
const TAGS_MAX: usize = 64;

/// The registry of one network.
#[derive(Clone)]
pub(crate) struct Directory {
    pub(crate) rpc: Rpc,
    pub(crate) registry: Address,
}

impl Directory {
    /// All active providers.
    pub(crate) async fn providers(&self) -> Result<Vec<Provider>, LedgerError> {
        let addresses = self
            .pages(
                |offset, limit| Market::getActiveProvidersCall { offset, limit },
                |page| (page.page, page.total),
            )
            .await?;
        self.entries(addresses, |this, provider| async move {
            let entry = this.view(&Market::getProviderCall { provider }).await?;
            Ok(provider_of(provider, entry))
        })
        .await
    }

    /// All active models.
    pub(crate) async fn models(&self) -> Result<Vec<Model>, LedgerError> {
        let ids = self
            .pages(
                |offset, limit| Market::getActiveModelIdsCall { offset, limit },
                |page| (page.page, page.total),
            )
            .await?;
        self.entries(ids, |this, id| async move {
            let entry = this.view(&Market::getModelCall { modelId: id }).await?;
            Ok(model_of(ModelId(id), entry))
        })
        .await
    }

    /// The active bids of one provider.
    pub(crate) async fn bids(&self, provider: Address) -> Result<Vec<Bid>, LedgerError> {
        let call = |offset, limit| Market::getProviderActiveBidsCall {
            provider,
            offset,
            limit,
        };
        let ids = self.pages(call, |page| (page.page, page.total)).await?;
        self.entries(ids, |this, id| async move {
            let entry = this.view(&Market::getBidCall { bidId: id }).await?;
            Ok(bid_of(BidId(id), entry))
        })
        .await
    }

    /// A model as it stands, to be changed without losing what is not changed.
    pub(crate) async fn model(&self, id: ModelId) -> Result<Market::Model, RpcError> {
        self.view(&Market::getModelCall { modelId: id.0 }).await
    }

    /// What posting a bid costs now.
    pub(crate) async fn bid_fee(&self) -> Result<Amount, LedgerError> {
        amount(self.view(&Market::getBidFeeCall {}).await?)
    }

    /// What it takes to take part.
    pub(crate) async fn stakes(&self) -> Result<Stakes, LedgerError> {
        let (provider_min, model_min, bid_fee, prices) = tokio::try_join!(
            self.view(&Market::getProviderMinimumStakeCall {}),
            self.view(&Market::getModelMinimumStakeCall {}),
            self.view(&Market::getBidFeeCall {}),
            self.view(&Market::getMinMaxBidPricePerSecondCall {}),
        )?;
        Ok(Stakes {
            provider_min: amount(provider_min)?,
            model_min: amount(model_min)?,
            bid_fee: amount(bid_fee)?,
            price_per_second_min: amount(prices.min)?,
            price_per_second_max: amount(prices.max)?,
        })
    }

    async fn view<C: SolCall>(&self, call: &C) -> Result<C::Return, RpcError> {
        self.rpc.view(self.registry, call).await
    }

    /// Every id of a paged list, once: the list may shift while it is read.
    async fn pages<C: SolCall, T: Ord + Copy>(
        &self,
        call: impl Fn(U256, U256) -> C,
        parts: impl Fn(C::Return) -> (Vec<T>, U256),
    ) -> Result<Vec<T>, LedgerError> {
        let mut seen = BTreeSet::new();
        let mut offset = 0u64;
        loop {
            let request = call(U256::from(offset), U256::from(PAGE));
            let (page, total) = parts(self.view(&request).await?);
            let ended = page.is_empty();
            seen.extend(page);
            offset += PAGE;
            if seen.len() >= ENTRIES_MAX {
                tracing::warn!(%total, ENTRIES_MAX, "the registry lists more than is read");
                break;
            }
            if ended || U256::from(offset) >= total {
                break;
            }
        }
        Ok(seen.into_iter().take(ENTRIES_MAX).collect())
    }

    /// Reads the entry of every id, some at a time.
    async fn entries<T, E, F>(
        &self,
        ids: Vec<T>,
        read: impl Fn(Self, T) -> F,
    ) -> Result<Vec<E>, LedgerError>
    where
        F: Future<Output = Result<Option<E>, RpcError>>,
    {
        let reads = ids.into_iter().map(|id| {
            let entry = read(self.clone(), id);
            async move {
                match entry.await {
                    // One odd entry must not hide all others.
                    Err(error @ (RpcError::Malformed { .. } | RpcError::TooLong { .. })) => {
                        tracing::warn!(%error, "passed over an entry of the registry");
                        Ok(None)
                    }
                    other => other,
                }
            }
        });
        let entries: Vec<Option<E>> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        Ok(entries.into_iter().flatten().collect())
    }
}

fn provider_of(address: Address, entry: Market::Provider) -> Option<Provider> {
    let fits = entry.endpoint.len() <= TEXT_BYTES_MAX;
    let stake = amount(entry.stake).ok()?;
    (fits && !entry.isDeleted).then_some(Provider {
        address,
        endpoint: entry.endpoint,
        stake,
    })
}

fn model_of(id: ModelId, entry: Market::Model) -> Option<Model> {
    let fits = entry.name.len() <= TEXT_BYTES_MAX
        && entry.tags.len() <= TAGS_MAX
        && entry.tags.iter().all(|tag| tag.len() <= TEXT_BYTES_MAX);
    (fits && !entry.isDeleted).then_some(Model {
        id,
        owner: entry.owner,
        name: entry.name,
        tags: entry.tags,
    })
}

fn bid_of(id: BidId, entry: Market::Bid) -> Option<Bid> {
    let price_per_second = amount(entry.pricePerSecond).ok()?;
    (entry.deletedAt == 0).then_some(Bid {
        id,
        provider: entry.provider,
        model: ModelId(entry.modelId),
        price_per_second,
    })
}

/// A number of the chain as a sum of money.
pub(crate) fn amount(number: U256) -> Result<Amount, LedgerError> {
    u128::try_from(number)
        .map(Amount::new)
        .map_err(|_| LedgerError::Nonsense {
            problem: format!("{number} base units are more than there can be"),
        })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;

    fn provider(endpoint: String, stake: U256) -> Market::Provider {
        Market::Provider {
            endpoint,
            stake,
            createdAt: 1,
            limitPeriodEnd: 2,
            limitPeriodEarned: U256::ZERO,
            isDeleted: false,
        }
    }

    #[test]
    fn outsized_entries_are_passed_over() {
        let address = Address::repeat_byte(1);
        let sane = provider("host:1".into(), U256::from(5));
        assert!(provider_of(address, sane).is_some());
        let long = provider("x".repeat(TEXT_BYTES_MAX + 1), U256::from(5));
        assert_eq!(provider_of(address, long), None);
        let rich = provider("host:1".into(), U256::MAX);
        assert_eq!(provider_of(address, rich), None);

        let model = |tags: usize| Market::Model {
            ipfsCID: B256::ZERO,
            fee: U256::MAX,
            stake: U256::MAX,
            owner: address,
            name: "m".into(),
            tags: vec!["t".into(); tags],
            createdAt: 1,
            isDeleted: false,
        };
        let id = ModelId(B256::ZERO);
        assert!(model_of(id, model(TAGS_MAX)).is_some());
        assert_eq!(model_of(id, model(TAGS_MAX + 1)), None);
    }

    #[test]
    fn more_money_than_there_is_makes_no_sense() {
        assert_eq!(amount(U256::from(7)).unwrap(), Amount::new(7));
        assert!(matches!(
            amount(U256::from(1) << 128),
            Err(LedgerError::Nonsense { .. })
        ));
    }
}
