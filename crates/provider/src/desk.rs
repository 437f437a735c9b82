//! Where sealed requests come in: the epoch keys that open them, and what is
//! asked before a key is used at all.
//!
//! Opening a request costs a public-key operation, and nobody has paid yet.
//! So it is done at once for those who bring a token that an earlier answer
//! gave them, and for strangers only so many times a second. A request whose
//! encapsulated key was seen before is a replay and is not opened.

use std::sync::{Mutex, MutexGuard, PoisonError};

use market::{Domain, NodeKey, Timestamp, WalletKey};
use seal::{Admission, EpochKeys, Identity, Replays, RequestOpener, SignedEpoch, Token};
use tokio::time::Instant;

/// Requests of strangers opened in a second, for as long as it lasts.
const STRANGERS_PER_SECOND: f64 = 200.0;

/// The same at once, after a quiet time.
const STRANGERS_AT_ONCE: f64 = 400.0;

/// Tokens given with each answer: one for the next, and some for company.
const TOKENS_GIVEN: usize = 4;

/// Why a request is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeskError {
    /// Strangers come faster than they are served.
    #[error("it brings no token, and too many strangers ask at the moment")]
    Crowd,
    /// It was seen before, or too many were for one more to be told apart.
    #[error("its key was seen before")]
    Replay,
}

/// How many strangers may still come.
struct Allowance {
    left: f64,
    since: Instant,
}

/// The keys and who may use them.
pub(crate) struct Desk {
    keys: Mutex<EpochKeys>,
    replays: Mutex<Replays>,
    admission: Mutex<Admission>,
    strangers: Mutex<Allowance>,
}

impl Desk {
    pub(crate) fn new(
        domain: Domain,
        wallet: &WalletKey,
        node_key: &NodeKey,
        now: Timestamp,
    ) -> Self {
        let identity = Identity {
            domain,
            provider: wallet.address(),
        };
        Self {
            keys: Mutex::new(EpochKeys::new(identity, node_key, now)),
            replays: Mutex::new(Replays::new()),
            admission: Mutex::new(Admission::new()),
            strangers: Mutex::new(Allowance {
                left: STRANGERS_AT_ONCE,
                since: Instant::now(),
            }),
        }
    }

    /// New keys when it is time. Whether there is a new record.
    pub(crate) fn refresh(&self, node_key: &NodeKey, now: Timestamp) -> bool {
        held(&self.keys).refresh(node_key, now)
    }

    /// What consumers are told of the keys.
    pub(crate) fn record(&self) -> SignedEpoch {
        held(&self.keys).record().clone()
    }

    /// Whether one who brings this token, or none, is let in now.
    pub(crate) fn enter(&self, token: Option<&Token>, now: Timestamp) -> Result<(), DeskError> {
        if token.is_some_and(|token| held(&self.admission).admit(token, now)) {
            return Ok(());
        }
        let mut strangers = held(&self.strangers);
        let earned = strangers.since.elapsed().as_secs_f64() * STRANGERS_PER_SECOND;
        strangers.since = Instant::now();
        strangers.left = (strangers.left + earned).min(STRANGERS_AT_ONCE);
        if strangers.left < 1.0 {
            return Err(DeskError::Crowd);
        }
        strangers.left -= 1.0;
        Ok(())
    }

    /// Opens a request that begins to come now.
    pub(crate) fn opener(&self, now: Timestamp) -> RequestOpener {
        RequestOpener::new(&held(&self.keys), now)
    }

    /// Refuses a request that was noted before. Asked before it is opened.
    pub(crate) fn not_again(&self, encapsulated: &[u8; 32]) -> Result<(), DeskError> {
        match held(&self.replays).knows(encapsulated) {
            true => Err(DeskError::Replay),
            false => Ok(()),
        }
    }

    /// Notes a request that opened; one that was noted before is refused.
    /// What does not open is not noted: it would only fill the memory.
    pub(crate) fn first(&self, encapsulated: [u8; 32], now: Timestamp) -> Result<(), DeskError> {
        match held(&self.replays).first(encapsulated, now) {
            true => Ok(()),
            false => Err(DeskError::Replay),
        }
    }

    /// For later requests of one who pays.
    pub(crate) fn tokens(&self, now: Timestamp) -> Vec<Token> {
        held(&self.admission).issue(now, TOKENS_GIVEN)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use market::Address;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000);

    fn desk() -> Desk {
        let domain = Domain {
            chain_id: 1,
            settlement: Address::ZERO,
        };
        let wallet = WalletKey::from_bytes(&[1; 32]).unwrap();
        Desk::new(domain, &wallet, &NodeKey::from_bytes(&[2; 32]), NOW)
    }

    /// How many strangers of a great many are let in now.
    fn strangers_let_in(desk: &Desk) -> usize {
        (0..10_000)
            .filter(|_| desk.enter(None, NOW).is_ok())
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_share_what_there_is_and_tokens_pass() {
        let desk = desk();
        assert_eq!(strangers_let_in(&desk), 400);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(strangers_let_in(&desk), 200);
        for token in desk.tokens(NOW) {
            assert_eq!(desk.enter(Some(&token), NOW), Ok(()));
            assert_eq!(
                desk.enter(Some(&token), NOW),
                Err(DeskError::Crowd),
                "good once"
            );
        }
    }

    #[tokio::test]
    async fn what_was_seen_is_not_opened_again() {
        let desk = desk();
        assert_eq!(desk.not_again(&[1; 32]), Ok(()));
        assert_eq!(desk.first([1; 32], NOW), Ok(()));
        assert_eq!(desk.not_again(&[1; 32]), Err(DeskError::Replay));
        assert_eq!(desk.first([1; 32], NOW), Err(DeskError::Replay));
        assert_eq!(desk.first([2; 32], NOW), Ok(()));
    }
}
