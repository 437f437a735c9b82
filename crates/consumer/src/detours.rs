//! Which relay leads to a provider that waits at several: one that just failed
//! to reach it comes after the others, for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use market::NodeId;
use tokio::time::Instant;
use transport::NodeAddr;

/// For so long a relay that failed to reach a provider comes after the others.
const SHUN: Duration = Duration::from_secs(20);

/// Failures that are remembered; more push the oldest out.
const KEPT: usize = 1024;

/// Relays that just failed to reach a provider, by provider and relay.
#[derive(Debug, Default)]
pub(crate) struct Detours(Mutex<HashMap<(NodeId, NodeId), Instant>>);

impl Detours {
    /// A provider's relays in the order in which they are tried: by chance, so that
    /// they share the work, and those that just failed last.
    pub(crate) fn ordered(
        &self,
        provider: NodeId,
        relays: &[NodeAddr],
        now: Instant,
    ) -> Vec<NodeAddr> {
        let failed = self.held();
        let mut relays = relays.to_vec();
        relays.sort_by_cached_key(|relay| {
            let failed_at = failed.get(&(provider, relay.id)).copied();
            let recent = failed_at.filter(|at| is_recent(*at, now));
            (recent, rand::random::<u64>())
        });
        relays
    }

    /// The one that is tried first by whoever goes through that guard: the guard
    /// itself, where the provider waits there.
    pub(crate) fn first(
        &self,
        provider: NodeId,
        relays: &[NodeAddr],
        guard: NodeId,
        now: Instant,
    ) -> Option<NodeId> {
        let is_guard = relays.iter().any(|relay| relay.id == guard);
        if is_guard && !self.has_failed(provider, guard, now) {
            return Some(guard);
        }
        let ordered = self.ordered(provider, relays, now);
        ordered.first().map(|relay| relay.id)
    }

    /// A relay did not reach a provider.
    pub(crate) fn failed(&self, provider: NodeId, relay: NodeId, now: Instant) {
        let mut failed = self.held();
        if failed.len() >= KEPT {
            failed.retain(|_, at| is_recent(*at, now));
        }
        if failed.len() >= KEPT {
            let oldest = failed.iter().min_by_key(|(_, at)| **at);
            let oldest = oldest.map(|(key, _)| *key);
            oldest.and_then(|key| failed.remove(&key));
        }
        failed.insert((provider, relay), now);
    }

    /// Whether a relay just failed to reach a provider and another one did not.
    pub(crate) fn is_left(&self, provider: NodeId, relays: &[NodeAddr], now: Instant) -> bool {
        let failed = relays
            .iter()
            .filter(|relay| self.has_failed(provider, relay.id, now))
            .count();
        failed > 0 && failed < relays.len()
    }

    fn has_failed(&self, provider: NodeId, relay: NodeId, now: Instant) -> bool {
        let failed = self.held();
        let at = failed.get(&(provider, relay));
        at.is_some_and(|at| is_recent(*at, now))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<(NodeId, NodeId), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < SHUN
}

#[cfg(test)]
mod tests {
    use market::B256;

    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId(B256::repeat_byte(n))
    }

    fn relays(of: &[u8]) -> Vec<NodeAddr> {
        let addr = |n: &u8| NodeAddr {
            id: node(*n),
            addresses: vec![],
        };
        of.iter().map(addr).collect()
    }

    #[test]
    fn a_relay_that_failed_comes_last_for_a_while_and_for_that_provider_only() {
        let (detours, now) = (Detours::default(), Instant::now());
        let both = relays(&[1, 2]);
        let first = |provider, now| detours.first(node(provider), &both, node(9), now);
        let all: Vec<_> = (0..64).map(|_| first(7, now)).collect();
        assert!(all.contains(&Some(node(1))) && all.contains(&Some(node(2))));

        assert!(!detours.is_left(node(7), &both, now));
        detours.failed(node(7), node(1), now);
        assert!(detours.is_left(node(7), &both, now));
        assert!(!detours.is_left(node(8), &both, now));
        assert!((0..64).all(|_| first(7, now) == Some(node(2))));
        assert!((0..64).any(|_| first(8, now) == Some(node(1))));
        assert!((0..64).any(|_| first(7, now + SHUN) == Some(node(1))));

        // If all failed, the one that did so first is tried again.
        detours.failed(node(7), node(2), now + SHUN / 2);
        assert!(!detours.is_left(node(7), &both, now + SHUN / 2));
        assert_eq!(first(7, now + SHUN / 2), Some(node(1)));
        assert_eq!(detours.first(node(7), &[], node(9), now), None);
    }

    #[test]
    fn a_guard_at_which_the_provider_waits_is_the_way_unless_it_failed() {
        let (detours, now) = (Detours::default(), Instant::now());
        let both = relays(&[1, 2]);
        let first = || detours.first(node(7), &both, node(2), now);
        assert!((0..64).all(|_| first() == Some(node(2))));
        detours.failed(node(7), node(2), now);
        assert!((0..64).all(|_| first() == Some(node(1))));
    }

    #[test]
    fn no_number_of_failures_takes_more_memory_than_so_much() {
        let (detours, now) = (Detours::default(), Instant::now());
        for n in 0..3 * KEPT {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            detours.failed(NodeId(B256::from(bytes)), node(1), now);
        }
        assert_eq!(detours.held().len(), KEPT);
    }
}
