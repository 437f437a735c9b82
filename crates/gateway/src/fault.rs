//! What a client is told when there is no answer: one status, one code, one
//! error body that says what to do next.

use std::error::Error;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use consumer::{BrokenError, BudgetError, InferError, Remedy, RouteId, SessionError, Unserved};
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use market::{Demand, Kind, with_causes};
use openai::{BadRequest, ErrorBody, ErrorKind};

use crate::chat::{ROUTE, header};

/// The code where a name has several cards.
pub(crate) const AMBIGUOUS: &str = "model_ambiguous";

/// What to do where not the request but its key demands something.
const KEY_DEMANDS: &str = "the key demands it (`lethe key list`): use another key, choose another model, or change how this node runs";

/// When to come again, where nobody knows better.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// A refusal on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) body: ErrorBody,
    pub(crate) retry_after: Option<Duration>,
    /// Under which id the node says whom the request was to go to.
    pub(crate) route: Option<Box<RouteId>>,
}

/// The first cause of an error, and the last: between them layers of a connection say the same.
fn ends(error: &dyn Error) -> String {
    let (mut causes, mut next) = (Vec::new(), error.source());
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    match causes.as_slice() {
        [] => error.to_string(),
        [only] => only.clone(),
        [first, .., last] => format!("{first}: {last}"),
    }
}

/// The status and the code of every failure.
pub(crate) fn answer(error: &InferError) -> (StatusCode, &'static str) {
    match error {
        InferError::BadRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        InferError::UnknownModel { .. } => (StatusCode::NOT_FOUND, "model_not_found"),
        InferError::Ambiguous { .. } => (StatusCode::BAD_REQUEST, AMBIGUOUS),
        InferError::OtherKind { .. } => (StatusCode::BAD_REQUEST, "model_kind"),
        InferError::NobodyThere { .. } => (StatusCode::SERVICE_UNAVAILABLE, "no_provider"),
        InferError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "providers_busy"),
        InferError::TooLong { .. } => (StatusCode::BAD_REQUEST, "answer_too_long"),
        InferError::Refused { .. } => (StatusCode::BAD_REQUEST, "model_refused"),
        InferError::Payment { .. } => (StatusCode::PAYMENT_REQUIRED, "payment_failed"),
        InferError::Journal { .. } => (StatusCode::SERVICE_UNAVAILABLE, "journal_failed"),
        InferError::ChainGone { .. } => (StatusCode::SERVICE_UNAVAILABLE, "chain_unreachable"),
        InferError::Provider { .. } => (StatusCode::BAD_GATEWAY, "provider_failed"),
        InferError::Path { .. } => (StatusCode::BAD_GATEWAY, "path_failed"),
        InferError::Demand { .. } => (StatusCode::PRECONDITION_FAILED, "demand_not_met"),
        InferError::NobodyFits { .. } => (StatusCode::PRECONDITION_FAILED, "preferences_not_met"),
        InferError::Budget(error) => match error {
            BudgetError::Unlimited { .. } => (StatusCode::BAD_REQUEST, "budget_unlimited"),
            error if error.may_pass_soon() => (StatusCode::TOO_MANY_REQUESTS, "budget_held"),
            BudgetError::Short(_) => (StatusCode::PAYMENT_REQUIRED, "budget_spent"),
            BudgetError::Token { .. } => (StatusCode::PAYMENT_REQUIRED, "budget_token"),
            BudgetError::NoRate { .. } => (StatusCode::PAYMENT_REQUIRED, "budget_rate"),
        },
        InferError::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        InferError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    }
}

/// What the one who asked can do about it.
fn advice(error: &InferError) -> &'static str {
    match error {
        InferError::BadRequest(_) => "correct the field and send the request again",
        InferError::UnknownModel { .. } => "GET /v1/models lists the names",
        InferError::Ambiguous { .. } => "ask for one of them, by that name",
        InferError::OtherKind { is, .. } => match is {
            Kind::Chat => {
                "ask it at POST /v1/chat/completions; GET /v1/models tells what is for embeddings"
            }
            Kind::Embeddings => {
                "ask it at POST /v1/embeddings; GET /v1/models tells what is for chat"
            }
        },
        InferError::NobodyThere { .. } => {
            "try again shortly, or choose another model of GET /v1/models"
        }
        InferError::Busy { .. } | InferError::Overloaded { .. } => {
            "try again after the time in Retry-After"
        }
        InferError::TooLong { .. } => "ask for so many or fewer, or leave the field out",
        InferError::Refused { .. } => "correct the request and send it again",
        InferError::Payment { source, .. } => advice_on_paying(source),
        InferError::Journal { .. } => {
            "see to the disk of this node's data folder; nothing was signed, so nothing is lost"
        }
        InferError::ChainGone { .. } => {
            "start that server, or this node with another one (--rpc-url); channels that are funded already are served \
             meanwhile"
        }
        InferError::Provider { .. } | InferError::Path { .. } => "try again; nothing was delivered",
        InferError::Demand { .. } => {
            "demand less in the header x-lethe-demand, choose another model, or change how this node runs"
        }
        InferError::NobodyFits { is_wished, .. } => match is_wished {
            true => {
                "allow more in the field provider (`lethe key list` shows what the key prefers by itself), or choose \
                 another model; `lethe route explain MODEL` shows who sells it"
            }
            false => "choose another model; `lethe route explain MODEL` shows who sells it",
        },
        InferError::Budget(BudgetError::Short(short)) => advice_on_budget(short.remedy()),
        InferError::Budget(BudgetError::Token { .. }) => {
            "choose another model, or have the node's owner name an amount of that token, or of USD, in the budget"
        }
        InferError::Budget(BudgetError::NoRate { .. }) => {
            "have the node's owner say what the token is worth (--usd-rate), or name an amount of the token in the budget"
        }
        InferError::Budget(BudgetError::Unlimited { .. }) => "say max_tokens",
        InferError::Stopping => "try again when the node is back",
    }
}

/// What helps where a budget does not reach.
fn advice_on_budget(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Shut => {
            "a budget of 0 pays for nothing: use another key or model, or have the node's owner raise the budget"
        }
        Remedy::ShorterRequest => {
            "the request alone may cost more than a whole day's budget: send a shorter one, choose a cheaper \
             model, or have the node's owner raise the budget"
        }
        Remedy::ShorterAnswer => {
            "this is more than a whole day's budget: ask for a shorter answer (max_tokens), choose a cheaper \
             model, or have the node's owner raise the budget"
        }
        Remedy::Wait => "wait for the next day, or have the node's owner raise the budget",
        Remedy::ShorterOrWait => {
            "ask for a shorter answer (max_tokens), wait, or have the node's owner raise the budget"
        }
    }
}

/// What helps where a provider could not be paid.
fn advice_on_paying(error: &SessionError) -> &'static str {
    match error {
        SessionError::Insufficient { .. } => {
            "`lethe where` shows what this node has; channels that are funded already are served meanwhile"
        }
        SessionError::OverLimit { .. } => {
            "start this node with a higher --channel-max, or choose another provider or model"
        }
        SessionError::Keys(_) => "see to the keys in this node's data folder",
        SessionError::Unused { .. } => "`lethe where` shows the channels",
        SessionError::Ledger(_) | SessionError::Payment(_) | SessionError::Journal(_) => {
            "try again; if it stays so, `lethe doctor` looks at the chain and at this node's folder"
        }
    }
}

fn retry_after(error: &InferError) -> Option<Duration> {
    match error {
        InferError::Busy { retry_after, .. } => Some(*retry_after),
        InferError::Budget(error) if error.may_pass_soon() => Some(RETRY_SOON),
        InferError::Budget(BudgetError::Short(short)) => match short.remedy() {
            Remedy::Wait | Remedy::ShorterOrWait => Some(Duration::from_secs(short.resets_in_s)),
            Remedy::Shut | Remedy::ShorterRequest | Remedy::ShorterAnswer => None,
        },
        InferError::NobodyThere { .. }
        | InferError::ChainGone { .. }
        | InferError::Journal { .. }
        | InferError::Overloaded { .. }
        | InferError::Path { .. }
        | InferError::Stopping => Some(RETRY_SOON),
        InferError::BadRequest(_)
        | InferError::UnknownModel { .. }
        | InferError::Ambiguous { .. }
        | InferError::OtherKind { .. }
        | InferError::TooLong { .. }
        | InferError::Refused { .. }
        | InferError::Payment { .. }
        | InferError::Demand { .. }
        | InferError::NobodyFits { .. }
        | InferError::Budget(_)
        | InferError::Provider { .. } => None,
    }
}

fn kind_of(status: StatusCode) -> ErrorKind {
    match status {
        StatusCode::UNAUTHORIZED => ErrorKind::Authentication,
        StatusCode::FORBIDDEN => ErrorKind::Permission,
        StatusCode::TOO_MANY_REQUESTS => ErrorKind::RateLimit,
        StatusCode::PAYMENT_REQUIRED => ErrorKind::InsufficientQuota,
        status if status.is_client_error() => ErrorKind::InvalidRequest,
        _ => ErrorKind::Server,
    }
}

impl Fault {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            body: ErrorBody::new(kind_of(status), code, message),
            retry_after: None,
            route: None,
        }
    }

    /// One that passes by itself.
    pub(crate) fn overloaded(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(RETRY_SOON),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
        }
    }

    /// The same, of a request that went this way.
    pub(crate) fn on(self, route: Option<RouteId>) -> Self {
        let route = route.map(Box::new);
        Self { route, ..self }
    }

    /// The gateway was told to stop and cannot wait longer.
    pub(crate) fn stopping() -> Self {
        Self::from(&InferError::Stopping)
    }

    /// As an event in a stream that had begun.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        self.body.to_json()
    }
}

impl From<&InferError> for Fault {
    fn from(error: &InferError) -> Self {
        if let InferError::BadRequest(bad) = error {
            return bad.into();
        }
        Self::told(error, advice(error))
    }
}

impl Fault {
    fn told(error: &InferError, advice: &str) -> Self {
        let (status, code) = answer(error);
        let message = match error {
            // Its own words say what to do already.
            InferError::Refused { message } if message.contains("; ") => error.to_string(),
            InferError::ChainGone { source, .. } => {
                format!("{error}: {}; {advice}", ends(&**source))
            }
            error => format!("{}; {advice}", with_causes(error)),
        };
        let retry_after = retry_after(error);
        let fault = Self {
            retry_after,
            ..Self::new(status, code, message)
        };
        match error {
            InferError::UnknownModel { .. }
            | InferError::Ambiguous { .. }
            | InferError::OtherKind { .. } => Self {
                body: fault.body.with_param("model"),
                ..fault
            },
            InferError::TooLong { .. } => Self {
                body: fault.body.with_param("max_tokens"),
                ..fault
            },
            _ => fault,
        }
    }
}

impl Fault {
    /// Of a request that itself demanded no more than this.
    pub(crate) fn unserved(unserved: &Unserved, asked: Demand) -> Self {
        let fault = match &unserved.error {
            error @ InferError::Demand { demanded, .. } if !demands(asked, demanded) => {
                Self::told(error, KEY_DEMANDS)
            }
            error => Self::from(error),
        };
        fault.on(unserved.route)
    }
}

/// Whether a label is among those that are demanded.
fn demands(demand: Demand, label: &str) -> bool {
    let one: Result<Demand, _> = label.parse();
    one.is_ok_and(|one| demand.and(one) == demand)
}

impl From<&BadRequest> for Fault {
    fn from(bad: &BadRequest) -> Self {
        let mut fault = Self::new(StatusCode::BAD_REQUEST, "invalid_request", bad.to_string());
        if bad.field != BadRequest::BODY {
            fault.body = fault.body.with_param(&bad.field);
        }
        fault
    }
}

impl From<&BrokenError> for Fault {
    fn from(error: &BrokenError) -> Self {
        let message =
            format!("{error}; what came so far is not the whole answer, ask again for that");
        Self::new(StatusCode::BAD_GATEWAY, "answer_broken", message)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // What the client still sends of its request is not wanted.
        if matches!(
            self.status,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT
        ) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(route) = &self.route {
            headers.insert(ROUTE, header(route));
        }
        // For a route whose clients expect other errors.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_to_wait_round_up() {
        let error = InferError::Busy {
            model: "m".into(),
            retry_after: Duration::from_millis(1200),
        };
        let response = Fault::from(&error).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn the_advice_fits_what_stood_in_the_way_of_paying() {
        let told = |source: SessionError| {
            let source = Box::new(source);
            let provider = market::Address::ZERO;
            let fault = Fault::from(&InferError::Payment { provider, source });
            fault.body.error.message
        };
        let [has, needed, lacking] = ["0 MOR", "1 MOR", "1 MOR"].map(str::to_owned);
        let empty = told(SessionError::Insufficient {
            owner: market::Address::ZERO,
            has,
            needed: needed.clone(),
            lacking,
        });
        assert!(empty.contains("send 1 MOR to it; `lethe where`"), "{empty}");
        let allowed = "0.5 MOR".to_owned();
        let limit = told(SessionError::OverLimit { needed, allowed });
        assert!(limit.contains("with a higher --channel-max"), "{limit}");
        assert!(!limit.contains("`lethe where`"), "{limit}");
    }

    #[test]
    fn the_advice_fits_who_demands_or_wishes() {
        let unserved = Unserved {
            error: InferError::Demand {
                model: "m".into(),
                demanded: "network=oblivious",
                offered: "network=direct",
            },
            route: None,
        };
        let told = |header: &str| {
            let fault = Fault::unserved(&unserved, header.parse().unwrap());
            fault.body.error.message
        };
        for header in ["", "network=direct", "payer=pseudonym"] {
            let told = told(header);
            assert!(
                told.contains("; the key demands it (`lethe key list`)"),
                "{told}"
            );
            assert!(!told.contains("x-lethe-demand"), "{told}");
        }
        let told = told("payer=wallet,network=oblivious");
        assert!(told.contains("less in the header x-lethe-demand"), "{told}");

        let told = |is_wished| {
            let fault = Fault::from(&InferError::NobodyFits {
                model: "m".into(),
                reasons: "3 providers: why".into(),
                is_wished,
            });
            fault.body.error.message
        };
        assert!(told(true).contains("allow more in the field provider"));
        assert!(!told(false).contains("preferences") && !told(false).contains("field provider"));
    }

    #[test]
    fn a_chain_that_is_gone_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Layer(&'static str, #[source] Option<Box<Layer>>);
        let layers = [
            "no answer from http://h:1",
            "error sending request",
            "refused",
        ];
        let layers = layers.into_iter().rev();
        let source = layers.fold(None, |inner, text| Some(Box::new(Layer(text, inner))));
        let source = market::LedgerError::Unreachable(source.unwrap());
        let fault = Fault::from(&InferError::ChainGone {
            provider: market::Address::ZERO,
            source: Box::new(source.into()),
        });
        let told = fault.body.error.message;
        assert!(
            told.contains("answer: no answer from http://h:1: refused; start"),
            "{told}"
        );
    }

    #[test]
    fn a_refusal_that_says_what_to_do_is_not_told_to_do_something_else() {
        let told = |message: &str| {
            let message = message.to_owned();
            let fault = Fault::from(&InferError::Refused { message });
            fault.body.error.message
        };
        let own = "tools cannot be passed on; leave them out";
        assert_eq!(
            told(own),
            format!("the provider refused the request: {own}")
        );
        assert!(told("bad").ends_with(": bad; correct the request and send it again"));
    }

    #[test]
    fn every_failure_says_what_to_do() {
        let model = || "m".to_owned();
        let provider = market::Address::ZERO;
        let failures = [
            InferError::UnknownModel {
                model: model(),
                known: vec!["other".into()],
            },
            InferError::Ambiguous {
                model: model(),
                choices: vec![],
            },
            InferError::OtherKind {
                model: model(),
                is: Kind::Embeddings,
                asked: Kind::Chat,
            },
            InferError::NobodyThere {
                model: model(),
                shortage: None,
            },
            InferError::Busy {
                model: model(),
                retry_after: RETRY_SOON,
            },
            InferError::TooLong {
                model: model(),
                asked: 1024,
                most: 512,
            },
            InferError::Refused {
                message: "no".into(),
            },
            InferError::Provider {
                provider,
                message: "gone".into(),
            },
            InferError::NobodyFits {
                model: model(),
                reasons: "0xaa: ignored".into(),
                is_wished: true,
            },
            InferError::Overloaded { running: 3 },
            InferError::Stopping,
        ];
        for error in &failures {
            let fault = Fault::from(error);
            assert!(fault.body.error.message.contains("; "), "{:?}", fault.body);
            assert!(fault.body.error.code.is_some(), "{:?}", fault.body);
            assert_eq!(
                fault.retry_after.is_some(),
                fault.status == StatusCode::SERVICE_UNAVAILABLE,
                "{:?}",
                fault.body
            );
        }
    }
}
