//! Which provider to ask: the cheapest offer of those that are there and have
//! room, the rest behind it in the order in which they would be asked.
//!
//! Pure: a snapshot, what is known of each provider's load, and the time come
//! in; a ranked list comes out. Deliberately simple: price first, then the
//! fewest running requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use market::{Address, Amount, InputBound, Offer, Timestamp};

use crate::catalog::{Seller, Snapshot};

/// Answers are reckoned at this length when the request does not limit them.
const TYPICAL_OUTPUT_TOKENS: u32 = 256;

/// What this consumer has seen of a provider.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load {
    /// Requests that it is answering for us.
    pub(crate) running: u32,
    /// It said it is busy until then.
    pub(crate) busy_until: Option<Timestamp>,
    /// It failed; not asked before then unless nobody else is there.
    pub(crate) failed_until: Option<Timestamp>,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Times to the first piece, latest last.
    pub(crate) ttft_ms: Vec<u64>,
}

impl Load {
    const TTFT_KEPT: usize = 32;
    const BACKOFF_MAX_S: u64 = 60;

    /// It answered.
    pub(crate) fn answered(&mut self, ttft_ms: u64) {
        self.failures = 0;
        self.failed_until = None;
        self.busy_until = None;
        if self.ttft_ms.len() == Self::TTFT_KEPT {
            self.ttft_ms.remove(0);
        }
        self.ttft_ms.push(ttft_ms);
    }

    /// It failed: left alone for twice as long each time.
    pub(crate) fn failed(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let wait_s = 1u64.checked_shl(self.failures.min(16)).unwrap_or(u64::MAX);
        self.failed_until = Some(now.after_s(wait_s.min(Self::BACKOFF_MAX_S)));
    }

    /// It is busy for about this long.
    pub(crate) fn busy(&mut self, now: Timestamp, retry_after: Duration) {
        self.busy_until = Some(now.after_s(retry_after.as_secs().min(Self::BACKOFF_MAX_S)));
    }

    /// The median time to the first piece.
    pub(crate) fn ttft_median_ms(&self) -> Option<u64> {
        let mut sorted = self.ttft_ms.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// It is busy, or failed lately.
    pub(crate) fn is_out(&self, now: Timestamp) -> bool {
        [self.busy_until, self.failed_until]
            .into_iter()
            .flatten()
            .any(|until| now < until)
    }
}

/// An offer, and why it stands where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) seller: Arc<Seller>,
    pub(crate) offer: Offer,
    /// What the answer would cost, as estimated.
    pub(crate) estimate: Amount,
}

/// Ranks the offers for `model`. Those whose provider is out, and behind them
/// those that sell no answer so long, come last: a request is tried rather
/// than refused when nobody else is there.
pub(crate) fn choose(
    snapshot: &Snapshot,
    loads: &BTreeMap<Address, Load>,
    model: &str,
    bound: InputBound,
    output_tokens_max: Option<u32>,
    now: Timestamp,
) -> Vec<Candidate> {
    let none = Load::default();
    let output = output_tokens_max.unwrap_or(TYPICAL_OUTPUT_TOKENS);
    let reachable = |(seller, offer): &(Arc<Seller>, Offer)| {
        seller.key.is_some() && now < offer.quote.expires_at
    };
    let priced = |(seller, offer): (Arc<Seller>, Offer)| {
        let estimate = offer.quote.rates.cost(bound.estimate, output).ok()?;
        Some(Candidate {
            seller,
            offer,
            estimate,
        })
    };
    let mut ranked: Vec<_> = snapshot
        .offers(model)
        .into_iter()
        .filter(reachable)
        .filter_map(priced)
        .collect();
    ranked.sort_by_key(|candidate| {
        let load = loads.get(&candidate.seller.address).unwrap_or(&none);
        let out = load.is_out(now) || candidate.seller.problem.is_some();
        let longest = candidate.offer.output_tokens_max.unwrap_or(u32::MAX);
        let too_long = output_tokens_max.is_some_and(|asked| asked > longest);
        (
            too_long,
            out,
            candidate.estimate,
            load.running,
            candidate.seller.address,
        )
    });
    ranked
}

#[cfg(test)]
mod tests {
    use market::{B256, Domain, ModelId, NodeId, NodeKey, Quote, Rates};
    use seal::{EpochKey, EpochKeys, Identity};

    use super::*;

    const NOW: Timestamp = Timestamp(1000);

    fn key(provider: Address) -> Arc<EpochKey> {
        let domain = Domain {
            chain_id: 1,
            settlement: Address::ZERO,
        };
        let node = NodeKey::from_bytes(&[1; 32]);
        let keys = EpochKeys::new(Identity { domain, provider }, &node, NOW);
        Arc::new(
            keys.record()
                .open(node.id(), provider, &domain, NOW)
                .unwrap(),
        )
    }

    fn seller(n: u8, price: u128) -> (Address, Arc<Seller>) {
        let address = Address::repeat_byte(n);
        let rate = Amount::new(price);
        let offer = Offer {
            model: ModelId(B256::ZERO),
            name: "m".into(),
            quote: Quote {
                token: Address::ZERO,
                rates: Rates {
                    input_per_million: rate,
                    output_per_million: rate,
                },
                expires_at: NOW.after_s(10),
            },
            context_length: None,
            output_tokens_max: None,
            upstream: None,
            continues: false,
        };
        let seller = Seller {
            address,
            endpoint: String::new(),
            node: NodeId(B256::ZERO),
            key: Some(key(address)),
            addresses: vec!["127.0.0.1:1".parse().unwrap()],
            receiver_authorizer: address,
            withdraw_delay_min_s: 900,
            offers: vec![offer],
            problem: None,
        };
        (address, Arc::new(seller))
    }

    fn chosen(loads: &[(u8, Load)], now: Timestamp) -> Vec<u8> {
        let snapshot = Snapshot {
            registry: Arc::default(),
            names: [(ModelId(B256::ZERO), "m".to_owned())].into(),
            seen_at: BTreeMap::new(),
            sellers: [
                seller(1, 3_000_000),
                seller(2, 1_000_000),
                seller(3, 2_000_000),
            ]
            .into(),
        };
        let loads = loads
            .iter()
            .map(|(n, load)| (Address::repeat_byte(*n), load.clone()))
            .collect();
        let ranked = choose(&snapshot, &loads, "m", InputBound::of_body(100), None, now);
        ranked
            .iter()
            .map(|candidate| candidate.seller.address[0])
            .collect()
    }

    #[test]
    fn the_cheapest_comes_first() {
        assert_eq!(chosen(&[], NOW), [2, 3, 1]);
    }

    #[test]
    fn who_is_busy_or_failed_comes_last_until_the_time_is_up() {
        let mut busy = Load::default();
        busy.busy(NOW, Duration::from_secs(5));
        let mut failed = Load::default();
        failed.failed(NOW);
        assert_eq!(
            chosen(&[(2, busy.clone()), (3, failed.clone())], NOW),
            [1, 2, 3]
        );
        assert_eq!(chosen(&[(2, busy), (3, failed)], NOW.after_s(5)), [2, 3, 1]);
    }

    #[test]
    fn an_expired_quote_is_not_asked() {
        assert!(chosen(&[], NOW.after_s(10)).is_empty());
    }
}
