//! Who may begin streams when more is asked for than a relay wants to begin.
//!
//! A stream costs a relay much when it begins and little while it runs. While
//! less than a named number begin in a second, all are taken. Beyond that only
//! those who have something left of an allowance of their own: it is full for a
//! peer that was not seen lately, and earns an equal share of the number. Who
//! asks a lot is refused and waits until it has earned the next ones, who asks
//! now and then is taken, and streams that run are not touched.

use std::collections::HashMap;
use std::time::Duration;

use market::NodeId;
use tokio::time::Instant;

/// Streams begun are counted for so long.
const WINDOW: Duration = Duration::from_secs(1);

/// Streams that a peer may begin at once, in a crowd, after a quiet time.
const AT_ONCE: f64 = 32.0;

/// Peers whose allowance is known. More than may be connected at a time.
const PEERS: usize = 4096;

/// A peer that is refused waits until it has earned so many: of what it sends
/// then, most is taken, and little has to be refused.
const EARNED: f64 = 4.0;

/// The longest that it is made to wait for its next stream.
const WAIT: Duration = Duration::from_secs(2);

/// What began in this window, and what each peer has left.
#[derive(Debug)]
pub(crate) struct Shares {
    per_second: usize,
    since: Instant,
    begun: usize,
    left: HashMap<NodeId, Left>,
    /// When those with a full allowance were last forgotten.
    forgot: Instant,
}

/// Of a peer's allowance.
#[derive(Debug, Clone, Copy)]
struct Left {
    streams: f64,
    at: Instant,
}

impl Shares {
    /// `per_second`: streams that begin before allowances count.
    pub(crate) fn new(per_second: usize, now: Instant) -> Self {
        Self {
            per_second,
            since: now,
            begun: 0,
            left: HashMap::new(),
            forgot: now,
        }
    }

    /// Whether this peer may begin a stream now. If so, it counts; if not, for
    /// how long the peer is to wait.
    pub(crate) fn take(&mut self, peer: NodeId, now: Instant) -> Result<(), Duration> {
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.since = now;
            self.begun = 0;
        }
        let charged = self.charge(peer, now);
        if self.begun >= self.per_second {
            charged?;
        }
        self.begun += 1;
        Ok(())
    }

    /// Takes one of the peer's allowance, if there is one.
    fn charge(&mut self, peer: NodeId, now: Instant) -> Result<(), Duration> {
        if self.left.len() >= PEERS && !self.left.contains_key(&peer) {
            if now.saturating_duration_since(self.forgot) >= WINDOW {
                self.forget(now);
            }
            if self.left.len() >= PEERS {
                return Err(WAIT);
            }
        }
        let share = self.share();
        let left = self.left.entry(peer).or_insert(Left {
            streams: AT_ONCE,
            at: now,
        });
        let earned = now.saturating_duration_since(left.at).as_secs_f64() * share;
        left.streams = (left.streams + earned).min(AT_ONCE);
        left.at = now;
        if left.streams < 1.0 {
            let wait = Duration::try_from_secs_f64((EARNED - left.streams) / share);
            return Err(wait.unwrap_or(WAIT).min(WAIT));
        }
        left.streams -= 1.0;
        Ok(())
    }

    /// What each peer earns in a second.
    fn share(&self) -> f64 {
        let peers = u32::try_from(self.left.len().max(1)).unwrap_or(u32::MAX);
        let all = u32::try_from(self.per_second).unwrap_or(u32::MAX);
        f64::from(all) / f64::from(peers)
    }

    /// Those whose allowance is full again.
    fn forget(&mut self, now: Instant) {
        self.forgot = now;
        let share = self.share();
        self.left.retain(|_, left| {
            let earned = now.saturating_duration_since(left.at).as_secs_f64() * share;
            left.streams + earned < AT_ONCE
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        NodeId(bytes.into())
    }

    #[test]
    fn all_are_taken_while_there_is_room() {
        let now = Instant::now();
        let mut shares = Shares::new(100, now);
        assert!((0..100).all(|_| shares.take(peer(1), now).is_ok()));
        assert!(shares.take(peer(1), now).is_err());
        assert_eq!(
            shares.take(peer(2), now),
            Ok(()),
            "another has an allowance"
        );
    }

    #[test]
    fn in_a_crowd_who_asks_now_and_then_is_taken_and_who_asks_a_lot_is_not() {
        let began = Instant::now();
        let mut shares = Shares::new(200, began);
        for second in 0..60_u32 {
            let mut taken = 0;
            for tenth in 0..10 {
                let now = began + WINDOW * second + WINDOW / 10 * tenth;
                for _ in 0..2 {
                    taken += (0..100)
                        .filter(|key| shares.take(peer(*key), now).is_ok())
                        .count();
                }
            }
            let now = began + WINDOW * second + WINDOW * 95 / 100;
            assert_eq!(shares.take(peer(1000), now), Ok(()), "in second {second}");
            // The allowances of the beginning are used up by then.
            if second >= 3 {
                assert!((200..=400).contains(&taken), "{taken} in second {second}");
            }
        }
    }

    #[test]
    fn an_allowance_comes_back() {
        let began = Instant::now();
        let mut shares = Shares::new(0, began);
        assert_eq!(
            (0..100)
                .filter(|_| shares.take(peer(1), began).is_ok())
                .count(),
            32
        );
        let mut shares = Shares::new(10, began);
        while shares.take(peer(1), began).is_ok() {}
        let soon = began + WINDOW / 20;
        assert_eq!(shares.take(peer(1), soon), Err(WINDOW * 35 / 100));
        let later = soon + WINDOW * 35 / 100;
        let taken = (0..5).map(|_| shares.take(peer(1), later));
        let wait = Err(WINDOW * 4 / 10);
        assert_eq!(
            taken.collect::<Vec<_>>(),
            [Ok(()), Ok(()), Ok(()), Ok(()), wait]
        );
    }

    #[test]
    fn no_number_of_keys_makes_it_remember_more_than_so_many() {
        let began = Instant::now();
        let mut shares = Shares::new(1000, began);
        for key in 0..20_000 {
            let _ = shares.take(peer(key), began);
        }
        assert_eq!(shares.left.len(), PEERS);
        // Those are forgotten who have all of theirs again.
        assert_eq!(shares.take(peer(99_999), began + WINDOW * 10), Ok(()));
        assert_eq!(shares.left.len(), 1);
    }
}
