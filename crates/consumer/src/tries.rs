//! Whom a request is still to be put to, and what came of those who were asked.

use std::collections::VecDeque;
use std::time::Duration;

use market::Address;
use tokio::time::Instant;
use tracing::debug;

use crate::answer::since_ms;
use crate::error::InferError;
use crate::router::{Candidate, Route, Router};
use crate::routes::{AskedView, Ending, Turn};

/// Of those who are asked, the ones that may fail; a refusal because of load costs nobody work.
const LOST_MAX: usize = 4;
/// Of these, tries again that are made whatever the budget says: an answer is
/// to be had even where a provider with many requests is lost.
const LOST_FREE: usize = 2;
/// Nobody is thought slow to begin sooner.
pub(crate) const HEDGE_AFTER_MIN: Duration = Duration::from_secs(1);

/// Who is still to be asked for a request, and what came of those who were.
pub(crate) struct Tries<'a> {
    router: &'a Router,
    route: &'a Route,
    started: Instant,
    next: VecDeque<&'a Candidate>,
    /// Who is being asked; what is to come of it is not known yet.
    asked: Vec<AskedView>,
    losses: usize,
    best: Option<InferError>,
}

impl<'a> Tries<'a> {
    pub(crate) fn of(router: &'a Router, route: &'a Route, started: Instant) -> Self {
        Self {
            router,
            route,
            started,
            next: route.in_order(),
            asked: vec![],
            losses: 0,
            best: None,
        }
    }

    /// The next one, unless too much work was lost already.
    pub(crate) fn another(&mut self) -> Option<&'a Candidate> {
        let spent = self.losses > LOST_FREE && !self.router.may_retry();
        if self.losses == LOST_MAX || spent {
            debug!(losses = self.losses, "no further try");
            return None;
        }
        let turn = match self.best {
            None => Turn::First,
            Some(_) => Turn::Next,
        };
        self.begins(turn)
    }

    /// The next one, to be asked beside one that is slow to begin. Only with the
    /// same card: who has none waits until those who have one cannot answer.
    /// `is_slow`: whether it has the request; else its channel takes long, or the way.
    pub(crate) fn beside(&mut self, slow: &Candidate, is_slow: bool) -> Option<&'a Candidate> {
        let card = slow.offer.card_id();
        let is_same = |next: &&&Candidate| next.offer.card_id() == card;
        self.next.front().filter(is_same)?;
        if !self.router.may_retry() {
            return None;
        }
        let provider = slow.seller.address;
        debug!(%provider, is_slow, "slow to begin; another one is asked beside it");
        if is_slow {
            self.router.slow(provider, HEDGE_AFTER_MIN);
        }
        self.begins(Turn::Beside)
    }

    fn begins(&mut self, turn: Turn) -> Option<&'a Candidate> {
        let candidate = self.next.pop_front()?;
        self.asked.push(AskedView {
            provider: candidate.seller.address,
            turn,
            after_ms: since_ms(self.started),
            ending: Ending::Overtaken,
            problem: None,
        });
        Some(candidate)
    }

    /// What came of asking one; when it answers the others are stopped.
    pub(crate) fn ended(
        &mut self,
        provider: Address,
        ending: Ending,
        problem: Option<&'static str>,
    ) {
        let found = self.asked.iter().position(|it| it.provider == provider);
        let Some(mut asked) = found.map(|n| self.asked.remove(n)) else {
            return;
        };
        (asked.ending, asked.problem) = (ending, problem);
        self.router.asked(self.route, asked);
        if ending == Ending::Answered {
            for overtaken in self.asked.drain(..) {
                self.router.asked(self.route, overtaken);
            }
        }
    }

    /// One brought nothing, and another one may do better.
    pub(crate) fn brought_nothing(
        &mut self,
        provider: Address,
        error: InferError,
        busy: Option<Duration>,
    ) {
        debug!(%provider, %error, "no answer from here");
        let ending = match busy {
            Some(retry_after) => {
                self.router.busy(provider, retry_after);
                Ending::Busy
            }
            // It was not asked. Nobody waits for a chain that is gone time and again.
            None if error.is_this_nodes() => {
                self.losses += usize::from(matches!(error, InferError::ChainGone { .. }));
                Ending::Failed
            }
            None => {
                self.router.failed(provider);
                self.losses += 1;
                Ending::Failed
            }
        };
        let problem = busy.is_none().then(|| error.kind());
        self.ended(provider, ending, problem);
        self.best = Some(InferError::nearer(self.best.take(), error));
    }

    /// The error that is nearest to an answer, if there was one.
    pub(crate) fn best(self) -> Option<InferError> {
        self.best
    }
}
