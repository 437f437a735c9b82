//! Why an answer could not be had, or broke off.

use std::time::Duration;

use market::{Address, Kind, LedgerError};
use openai::BadRequest;

use crate::budgets::BudgetError;
use crate::catalog::CardChoice;
use crate::payer::KeysError;
use crate::routes::RouteId;
use crate::session::SessionError;

/// Why a request was not served. Nothing was delivered; what was signed for
/// it, if anything, is booked by the channel's purse.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The request itself is at fault.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// Nobody sells a model of this name.
    #[error("no provider offers model {model:?}; on offer: {}", on_offer(.known))]
    UnknownModel {
        /// What was asked for.
        model: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Several cards are on offer under its name.
    #[error("model {model:?} is sold with {} cards: {}", .choices.len(), listed(.choices))]
    Ambiguous {
        /// What was asked for.
        model: String,
        /// What can be asked for instead.
        choices: Vec<CardChoice>,
    },
    /// It is sold, and is for something else.
    #[error("model {model:?} is for {is}, not for {asked}")]
    OtherKind {
        /// What was asked for.
        model: String,
        /// What it answers with.
        is: Kind,
        /// What was wanted of it.
        asked: Kind,
    },
    /// It is sold, but nobody who sells it can be reached.
    #[error("no provider of model {model:?} can be reached at the moment{}", because(.shortage))]
    NobodyThere {
        /// What was asked for.
        model: String,
        /// What is missing on this side, if that is why.
        shortage: Option<Shortage>,
    },
    /// Everybody who sells it is busy.
    #[error("every provider of model {model:?} is busy")]
    Busy {
        /// What was asked for.
        model: String,
        /// When to come again.
        retry_after: Duration,
    },
    /// Nobody sells an answer so long.
    #[error(
        "max_tokens: {asked}; the longest answer of model {model:?} on the market has {most} tokens"
    )]
    TooLong {
        /// What was asked for.
        model: String,
        /// Tokens asked for.
        asked: u32,
        /// Tokens of the longest answer that is sold.
        most: u32,
    },
    /// The provider, or the backend behind it, finds fault with the request.
    #[error("the provider refused the request: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
    /// The channel could not be opened or topped up.
    #[error("provider {provider} could not be paid")]
    Payment {
        /// Who.
        provider: Address,
        /// Why.
        #[source]
        source: Box<SessionError>,
    },
    /// What has to be written down before anything is signed cannot be written.
    #[error("nothing could be signed for provider {provider}")]
    Journal {
        /// For whom.
        provider: Address,
        /// Why.
        #[source]
        source: Box<SessionError>,
    },
    /// The channel has to be read or funded, and nobody answers for the chain.
    #[error("the channel to provider {provider} has to be funded, and the chain does not answer")]
    ChainGone {
        /// To whom.
        provider: Address,
        /// What was tried.
        #[source]
        source: Box<SessionError>,
    },
    /// The provider took the request and failed before the first piece.
    #[error("provider {provider} failed: {message}")]
    Provider {
        /// Who.
        provider: Address,
        /// What happened.
        message: String,
    },
    /// The way to the provider broke, before anything came that it sealed:
    /// nobody can tell whose fault that is.
    #[error("the path to provider {provider} failed: {problem}")]
    Path {
        /// To whom.
        provider: Address,
        /// What happened.
        problem: String,
    },
    /// Nobody who sells it meets what the request demands.
    #[error("no provider of model {model:?} meets {demanded}; there is only {offered}")]
    Demand {
        /// What was asked for.
        model: String,
        /// What is demanded.
        demanded: &'static str,
        /// What there is instead.
        offered: &'static str,
    },
    /// Nobody who sells it is what the request's preferences allow, or can be
    /// paid with what this node has.
    #[error("no provider of model {model:?} {}: {reasons}", wished(*.is_wished))]
    NobodyFits {
        /// What was asked for.
        model: String,
        /// Who falls short of what.
        reasons: String,
        /// Preferences are among the reasons.
        is_wished: bool,
    },
    /// The budget of the request's key does not reach.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Too many requests are running here.
    #[error("{running} requests are running, which is the limit here")]
    Overloaded {
        /// How many.
        running: usize,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// A request that was not served.
#[derive(Debug)]
pub struct Unserved {
    /// Why.
    pub error: InferError,
    /// Under which id the node says whom it was to go to and who was asked;
    /// none if it did not come so far.
    pub route: Option<RouteId>,
}

impl From<InferError> for Unserved {
    fn from(error: InferError) -> Self {
        Self { error, route: None }
    }
}

impl InferError {
    /// Of two reasons the one that helps a caller more: that somebody is busy
    /// beats that somebody failed, and of two prices that a budget does not
    /// reach for the lower one counts.
    pub(crate) fn nearer(before: Option<Self>, now: Self) -> Self {
        match (before, now) {
            (Some(busy @ Self::Busy { .. }), _) => busy,
            (
                Some(Self::Budget(BudgetError::Short(before))),
                Self::Budget(BudgetError::Short(now)),
            ) => {
                let is_nearer = before.coin == now.coin && before.needed < now.needed;
                BudgetError::Short(if is_nearer { before } else { now }).into()
            }
            (_, now) => now,
        }
    }

    /// Whether what this node has, allows or can write is why: nothing was
    /// learned of the provider.
    pub(crate) fn is_this_nodes(&self) -> bool {
        match self {
            Self::Payment { source, .. } => source.is_this_nodes(),
            Self::Journal { .. } | Self::ChainGone { .. } | Self::Budget(_) => true,
            Self::BadRequest(_)
            | Self::UnknownModel { .. }
            | Self::Ambiguous { .. }
            | Self::OtherKind { .. }
            | Self::NobodyThere { .. }
            | Self::Busy { .. }
            | Self::TooLong { .. }
            | Self::Refused { .. }
            | Self::Provider { .. }
            | Self::Path { .. }
            | Self::Demand { .. }
            | Self::NobodyFits { .. }
            | Self::Overloaded { .. }
            | Self::Stopping => false,
        }
    }

    /// Of the request that went this way.
    pub(crate) fn of(self, route: RouteId) -> Unserved {
        Unserved {
            error: self,
            route: Some(route),
        }
    }

    /// What it is, in words of ours alone: nothing that a provider said.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "the request is at fault",
            Self::UnknownModel { .. } => "nobody offers the model",
            Self::Ambiguous { .. } => "the name has several cards",
            Self::OtherKind { .. } => "the model is for something else",
            Self::NobodyThere { .. } => "nobody can be reached",
            Self::Busy { .. } => "busy",
            Self::TooLong { .. } => "nobody sells an answer so long",
            Self::Refused { .. } => "the provider refused the request",
            Self::Payment { source, .. } => match &**source {
                SessionError::Insufficient { .. } => "this node's account has too little",
                SessionError::OverLimit { .. } => "this node's limit of a channel is too low",
                _ => "it could not be paid",
            },
            Self::Journal { .. } => "nothing could be signed",
            Self::ChainGone { .. } => "its channel has to be funded, and the chain does not answer",
            Self::Provider { .. } => "it failed before the first piece",
            Self::Path { .. } => "the path to it failed",
            Self::Demand { .. } => "it does not meet the demand",
            Self::NobodyFits { .. } => "it does not fit",
            Self::Budget(_) => "the budget of the request's key does not reach",
            Self::Overloaded { .. } => "too many requests are running here",
            Self::Stopping => "the node is stopping",
        }
    }
}

/// Too few relays for a request to go out: one carries, another one confirms
/// the provider's key (`docs/decisions/006-two-relays-and-no-bids.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{reached} of the {needed} relays that it takes can be reached (of {registered} registered); \
     run `lethe relay` where they are missing, or let requests go straight to providers with `--direct`"
)]
pub struct Shortage {
    /// Relays that answer.
    pub reached: usize,
    /// Relays that it takes.
    pub needed: usize,
    /// Relays in the registry.
    pub registered: usize,
}

fn because(shortage: &Option<Shortage>) -> String {
    shortage.map_or_else(String::new, |shortage| format!(": {shortage}"))
}

fn wished(is_wished: bool) -> &'static str {
    match is_wished {
        true => "is what the request's preferences allow",
        false => "can be asked for this",
    }
}

fn listed(choices: &[CardChoice]) -> String {
    const SHOWN: usize = 20;
    let one = |choice: &CardChoice| {
        let CardChoice {
            model,
            card,
            providers,
        } = choice;
        let quantization = card.quantization.as_deref().unwrap_or("unknown");
        let count = providers.len();
        format!(
            "{model} (repo {}, quantization {quantization}, providers: {count})",
            card.repo
        )
    };
    let mut text: Vec<_> = choices.iter().take(SHOWN).map(one).collect();
    if choices.len() > SHOWN {
        text.push("…".to_owned());
    }
    text.join(", ")
}

fn on_offer(known: &[String]) -> String {
    const SHOWN: usize = 20;
    if known.is_empty() {
        return "nothing at the moment".into();
    }
    let mut text = known
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if known.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

/// Why an answer that had begun did not come to its end. What was delivered is paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off after {tokens} tokens: {problem}")]
pub struct BrokenError {
    /// Tokens delivered.
    pub tokens: u32,
    /// What happened.
    pub problem: String,
}

/// Why the buying side did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal cannot be read.
    #[error("the consumer's journal cannot be read")]
    Journal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A journal entry is not what this version writes.
    #[error("journal {journal} holds an entry that is not understood")]
    Entry {
        /// Which journal.
        journal: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The keys here do not sign for the channels in the journal.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The chain cannot be read.
    #[error("the chain cannot be read")]
    Ledger(#[from] LedgerError),
    /// The HTTP client for descriptors cannot be built.
    #[error("no HTTP client")]
    Http(#[source] reqwest::Error),
}
