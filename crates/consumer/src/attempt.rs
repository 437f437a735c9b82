//! How one provider's try ended, and what a caller is told of it if nobody does better.

use std::time::Duration;

use market::{Address, LedgerError, with_causes};
use transport::message::{Reason, Refusal};

use crate::error::InferError;
use crate::router::Candidate;
use crate::session::SessionError;

/// How one provider's try ended, when it brought no answer.
pub(crate) enum Attempt {
    /// Asking elsewhere would not help.
    Final(InferError),
    /// The next candidate may do better.
    Elsewhere {
        /// What to say if nobody does.
        error: InferError,
        /// It said that it is busy, for about so long.
        busy: Option<Duration>,
    },
}

impl Attempt {
    pub(crate) fn elsewhere(error: InferError) -> Self {
        Self::Elsewhere { error, busy: None }
    }

    pub(crate) fn unpayable(provider: Address, source: SessionError) -> Self {
        let gone = matches!(source, SessionError::Ledger(LedgerError::Unreachable(_)));
        let unwritten = source.is_unwritten();
        let source = Box::new(source);
        Self::elsewhere(match (gone, unwritten) {
            (true, _) => InferError::ChainGone { provider, source },
            (false, true) => InferError::Journal { provider, source },
            (false, false) => InferError::Payment { provider, source },
        })
    }

    /// The provider said so.
    pub(crate) fn failed(provider: Address, problem: impl ToString) -> Self {
        let message = problem.to_string();
        Self::elsewhere(InferError::Provider { provider, message })
    }

    /// Something on the way, or at its end: nobody signed for it.
    pub(crate) fn lost(provider: Address, problem: &dyn std::error::Error) -> Self {
        let problem = with_causes(problem);
        Self::elsewhere(InferError::Path { provider, problem })
    }

    /// It refused.
    pub(crate) fn refused(refusal: Refusal, candidate: &Candidate) -> Self {
        let provider = candidate.seller.address;
        let Refusal {
            reason,
            message,
            retry_after_ms,
        } = refusal;
        match reason {
            Reason::Request => Self::Final(InferError::Refused { message }),
            Reason::Busy => {
                let retry_after = Duration::from_millis(retry_after_ms.unwrap_or(1000));
                let model = candidate.offer.name.clone();
                Self::Elsewhere {
                    error: InferError::Busy { model, retry_after },
                    busy: Some(retry_after),
                }
            }
            Reason::Payment
            | Reason::Quote
            | Reason::Model
            | Reason::Backend
            | Reason::Unavailable
            | Reason::Protocol => Self::elsewhere(InferError::Provider { provider, message }),
        }
    }
}
