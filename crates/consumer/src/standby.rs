//! Somebody stands by: of the providers that would go on with an answer, one
//! can be paid at once, since its channel is open and funded. Without that,
//! the first answer that is lost would wait for a transaction.
//!
//! One is enough, and it is the one that is asked first when it is needed. Its
//! deposit is the policy's, and comes back like any other.

use std::sync::Arc;
use std::time::Duration;

use market::Address;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::router::{Candidate, Route};
use crate::session::Sessions;
use crate::shell::Inner;

/// After a try that failed: there may be no money, or no chain.
const PAUSE: Duration = Duration::from_secs(60);

/// Whether a try runs, and when the next one may.
#[derive(Default)]
pub(crate) struct Standby {
    turn: Arc<Mutex<Option<Instant>>>,
}

/// Whose channel has to be made ready so that somebody of the route stands by
/// while `answering` answers. None: somebody does, or nobody could go on.
fn wanting<'a>(route: &'a Route, answering: Address, sessions: &Sessions) -> Option<&'a Candidate> {
    let all = route.in_order();
    let answers = |candidate: &&&Candidate| candidate.seller.address == answering;
    let token = all
        .iter()
        .find(answers)
        .map(|candidate| candidate.offer.quote.token);
    let could: Vec<_> = all
        .into_iter()
        .filter(|candidate| {
            let offer = &candidate.offer;
            let is_other = candidate.seller.address != answering;
            is_other && offer.continues && token.is_none_or(|token| offer.quote.token == token)
        })
        .collect();
    let stands_by = |candidate: &&Candidate| sessions.stands_by(&candidate.terms());
    match could.iter().any(stands_by) {
        true => None,
        false => could.first().copied(),
    }
}

impl Inner {
    /// Sees to it that somebody stands by, in the background, one at a time.
    pub(crate) fn stand_by(self: &Arc<Self>, route: &Route, answering: Address) {
        if !self.has_standby() || self.stop.is_cancelled() {
            return;
        }
        let Ok(mut turn) = Arc::clone(&self.standby.turn).try_lock_owned() else {
            return;
        };
        if turn.is_some_and(|not_before| Instant::now() < not_before) {
            return;
        }
        let Some(candidate) = wanting(route, answering, &self.sessions) else {
            return;
        };
        let (inner, terms) = (Arc::clone(self), candidate.terms());
        self.tasks.spawn(async move {
            let provider = terms.receiver;
            *turn = match inner.sessions.make_ready(&terms).await {
                Ok(()) => {
                    info!(%provider, "stands by: its channel is funded");
                    None
                }
                Err(error) => {
                    debug!(%provider, %error, "cannot stand by");
                    Some(Instant::now() + PAUSE)
                }
            };
        });
    }
}
