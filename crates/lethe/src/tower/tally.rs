//! What a tower counts, for whoever keeps an eye on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use market::{Address, Amount, Timestamp};

use crate::scrape;

/// Tokens of money that are counted apart.
const TOKENS_MAX: usize = 16;

/// What a tower did since it started.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    held: AtomicUsize,
    leaving: AtomicUsize,
    looks: AtomicU64,
    failed: AtomicU64,
    /// When it last looked at everything, in Unix seconds.
    looked_at: AtomicU64,
    claims: AtomicU64,
    /// When the contract last took one, in Unix seconds; 0: none yet.
    claimed_at: AtomicU64,
    refused: AtomicU64,
    amounts: Mutex<BTreeMap<Address, Amount>>,
}

impl Tally {
    /// It looked: so many signed claims are held, of so many of them the payer is leaving.
    pub(crate) fn looked(&self, held: usize, leaving: usize, now: Timestamp) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.held.store(held, Ordering::Relaxed);
        self.leaving.store(leaving, Ordering::Relaxed);
        self.looked_at.store(now.0, Ordering::Relaxed);
    }

    /// It could not look at everything.
    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// It claimed so much of a token for the provider.
    pub(crate) fn claimed(&self, token: Address, amount: Amount, now: Timestamp) {
        self.claims.fetch_add(1, Ordering::Relaxed);
        self.claimed_at.store(now.0, Ordering::Relaxed);
        let mut amounts = self.amounts.lock().unwrap_or_else(PoisonError::into_inner);
        if amounts.len() < TOKENS_MAX || amounts.contains_key(&token) {
            let sum = amounts.entry(token).or_default();
            *sum = sum.plus(amount).unwrap_or(*sum);
        }
    }

    /// The contract did not take a claim.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it, as Prometheus reads it.
    pub(crate) fn page(&self) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut page = scrape::begun("tower");
        page.one(
            "lethe_tower_claims",
            "gauge",
            "Signed claims that are held.",
            &self.held.load(Ordering::Relaxed),
        );
        page.one(
            "lethe_tower_leaving_channels",
            "gauge",
            "Held claims whose payer is withdrawing.",
            &self.leaving.load(Ordering::Relaxed),
        );
        page.head(
            "lethe_tower_looks_total",
            "counter",
            "Looks at the file and the chain.",
        );
        for (outcome, count) in [("done", &self.looks), ("failed", &self.failed)] {
            page.line(&format!("{{outcome=\"{outcome}\"}}"), &read(count));
        }
        page.one(
            "lethe_tower_looked_at_seconds",
            "gauge",
            "When it last looked at everything, in Unix seconds.",
            &read(&self.looked_at),
        );
        page.head(
            "lethe_tower_claims_made_total",
            "counter",
            "Claims that were sent for the provider.",
        );
        for (outcome, count) in [("taken", &self.claims), ("refused", &self.refused)] {
            page.line(&format!("{{outcome=\"{outcome}\"}}"), &read(count));
        }
        page.one(
            "lethe_tower_claimed_at_seconds",
            "gauge",
            "When the contract last took one, in Unix seconds; 0 before the first.",
            &read(&self.claimed_at),
        );
        page.head(
            "lethe_tower_claimed_base_units_total",
            "counter",
            "What they brought the provider, by token.",
        );
        let amounts = self.amounts.lock().unwrap_or_else(PoisonError::into_inner);
        for (token, amount) in amounts.iter() {
            page.line(&format!("{{token=\"{token}\"}}"), amount);
        }
        drop(amounts);
        page.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_claimed_is_told_by_token() {
        let tally = Tally::default();
        let token = Address::repeat_byte(1);
        tally.looked(3, 1, Timestamp(1_700_000_000));
        tally.failed();
        tally.claimed(token, Amount::new(5), Timestamp(1_699_999_998));
        tally.claimed(token, Amount::new(6), Timestamp(1_699_999_999));
        tally.refused();
        let page = tally.page();
        for line in [
            "lethe_tower_claims 3".to_owned(),
            "lethe_tower_leaving_channels 1".to_owned(),
            "lethe_tower_looked_at_seconds 1700000000".to_owned(),
            "lethe_tower_looks_total{outcome=\"failed\"} 1".to_owned(),
            "lethe_tower_claims_made_total{outcome=\"taken\"} 2".to_owned(),
            "lethe_tower_claimed_at_seconds 1699999999".to_owned(),
            "lethe_tower_claims_made_total{outcome=\"refused\"} 1".to_owned(),
            format!("lethe_tower_claimed_base_units_total{{token=\"{token}\"}} 11"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
    }
}
