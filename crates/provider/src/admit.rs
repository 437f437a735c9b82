//! Whether a request is taken: cheap questions first, then a place, then the
//! signature. What is refused is refused at once, with what to do about it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use market::{ChannelTerms, InputBound, Kind, TillError};
use openai::{BadRequest, ChatRequest, EmbeddingsRequest};
use transport::message::{Infer, MAX_BODY_BYTES, Reason, Refusal};

use crate::backend::{BackendError, Work};
use crate::payment::{Channel, PaymentError};
use crate::sale::{Place, Sale};
use crate::session::SessionError;
use crate::shell::Inner;

/// When to come again to who rests. To be busy costs a
/// provider nothing in the eyes of who asks.
const RESTING_RETRY_MS: u64 = 60_000;

/// A request that may be worked on as soon as a slot is free.
pub(crate) struct Admitted {
    pub(crate) sale: Arc<Sale>,
    pub(crate) place: Place,
    pub(crate) channel: Arc<Channel>,
    /// What the backend is to do.
    pub(crate) work: Work,
    pub(crate) bound: InputBound,
    /// The longest answer: what is asked for, or what is sold.
    pub(crate) output_tokens_max: Option<u32>,
}

/// Asks all questions that can be asked before there is a slot.
pub(crate) async fn admit(inner: &Inner, infer: &Infer) -> Result<Admitted, Refusal> {
    if inner.tasks.stopping().is_cancelled() || inner.is_closing() {
        return Err(refusal(
            Reason::Unavailable,
            "the provider is stopping; ask another one",
        ));
    }
    if inner.descriptor.is_resting() {
        let message = "the provider sells nothing at this time; ask another one";
        return Err(Refusal {
            retry_after_ms: Some(RESTING_RETRY_MS),
            ..refusal(Reason::Busy, message)
        });
    }
    let sale = inner.sales.get(&infer.model).ok_or_else(|| {
        refusal(
            Reason::Model,
            format!("model {} is not on offer here", infer.model),
        )
    })?;
    if infer.body.len() > MAX_BODY_BYTES {
        let message = format!(
            "the body has {} bytes, allowed are {MAX_BODY_BYTES}",
            infer.body.len()
        );
        return Err(refusal(Reason::Request, message));
    }
    if !inner
        .descriptor
        .honours(infer.model, &infer.rates, (inner.clock)())
    {
        let message = "these rates are not on offer any more: read the descriptor again";
        return Err(refusal(Reason::Quote, message));
    }
    let terms = ChannelTerms {
        token: sale.config.token,
        ..inner.terms
    };
    infer.channel.suits(&terms).map_err(|field| {
        let message = format!("the channel's {field} does not suit this provider's descriptor");
        refusal(Reason::Payment, message)
    })?;
    let place = sale.place().ok_or_else(|| busy(sale))?;
    let (work, output_tokens_max) = work(infer, sale)?;
    let texts = match &work {
        Work::Chat(_) => 1,
        Work::Embed(request) => request.inputs(),
    };
    let bound = InputBound::of_body(infer.body.len());
    let bound = bound.within_each(sale.config.context_length, texts);

    let channel = inner
        .sessions
        .acquire(&infer.channel)
        .await
        .map_err(|error| session(&error))?;
    pay_first(inner, &channel, infer).await?;
    Ok(Admitted {
        sale: Arc::clone(sale),
        place,
        channel,
        work,
        bound,
        output_tokens_max,
    })
}

/// Takes the voucher. One that the escrow as we know it does not cover may
/// come right after a deposit.
async fn pay_first(inner: &Inner, channel: &Channel, infer: &Infer) -> Result<(), Refusal> {
    match channel.pay_first(infer).await {
        Ok(()) => Ok(()),
        Err(PaymentError::Till(TillError::BeyondEscrow { .. })) => {
            inner
                .sessions
                .reread(channel)
                .await
                .map_err(|error| session(&error))?;
            let paid = channel.pay_first(infer).await;
            paid.map_err(|error| payment(&error))
        }
        Err(error) => Err(payment(&error)),
    }
}

/// What the backend is to do, and how long an answer in words may be.
fn work(infer: &Infer, sale: &Sale) -> Result<(Work, Option<u32>), Refusal> {
    match sale.config.kind() {
        Kind::Chat => {
            let (body, longest) = upstream_body(infer, sale)?;
            Ok((Work::Chat(body), longest))
        }
        Kind::Embeddings => {
            let request = EmbeddingsRequest::parse(infer.body.clone())
                .map_err(|error| not_of_kind(&error, Kind::Embeddings))?;
            let request = request.of_model(&sale.config.upstream_model);
            Ok((Work::Embed(request), None))
        }
    }
}

/// A body that is not of the offer's kind, or not well-formed.
fn not_of_kind(error: &BadRequest, kind: Kind) -> Refusal {
    refusal(
        Reason::Request,
        format!("{error} (this model is for {kind})"),
    )
}

/// The body for the backend, with the longest answer sold, and how long the
/// answer may be.
fn upstream_body(infer: &Infer, sale: &Sale) -> Result<(Bytes, Option<u32>), Refusal> {
    let bad = |problem: String| refusal(Reason::Request, problem);
    let request =
        ChatRequest::parse(infer.body.clone()).map_err(|error| not_of_kind(&error, Kind::Chat))?;
    let body = request.upstream_body(&sale.config.upstream_model);
    let asked = request.max_output_tokens();
    let body = match asked {
        Some(asked) => with_limit_for_all(&request, body, asked),
        None => body,
    };
    let Some(allowed) = sale.config.output_tokens_max else {
        return Ok((body, asked));
    };
    match asked {
        Some(asked) if asked > allowed => Err(bad(format!(
            "max_tokens: {asked} tokens; answers of at most {allowed} are sold here"
        ))),
        Some(asked) => Ok((body, Some(asked))),
        None => Ok((with_max_tokens(&body, allowed), Some(allowed))),
    }
}

/// The limit also under the older name, if only the newer one was given: every
/// server knows that, and Ollama no other.
fn with_limit_for_all(request: &ChatRequest, body: Bytes, tokens: u32) -> Bytes {
    match request.field("max_tokens") {
        Some(_) => body,
        None => with_max_tokens(&body, tokens),
    }
}

/// Adds the field to an object that has others, but not this one.
fn with_max_tokens(body: &[u8], tokens: u32) -> Bytes {
    let open = body.strip_suffix(b"}").unwrap_or(body);
    let mut out = BytesMut::from(open);
    out.put_slice(format!(",\"max_tokens\":{tokens}}}").as_bytes());
    out.freeze()
}

/// A refusal without a time to come again.
pub(crate) fn refusal(reason: Reason, message: impl Into<String>) -> Refusal {
    Refusal {
        reason,
        message: message.into(),
        retry_after_ms: None,
    }
}

/// All places are taken.
pub(crate) fn busy(sale: &Sale) -> Refusal {
    let message = format!(
        "all {} slots and {} places in the queue are taken",
        sale.config.slots, sale.config.queue
    );
    Refusal {
        retry_after_ms: Some(millis(sale.retry_after())),
        ..refusal(Reason::Busy, message)
    }
}

/// What a voucher or the till is against.
pub(crate) fn payment(error: &PaymentError) -> Refusal {
    let reason = match error {
        PaymentError::Journal => Reason::Unavailable,
        PaymentError::Till(TillError::WrongRequest { .. }) => Reason::Protocol,
        PaymentError::Voucher(_) | PaymentError::Till(_) | PaymentError::Stranger => {
            Reason::Payment
        }
    };
    refusal(reason, error.to_string())
}

fn session(error: &SessionError) -> Refusal {
    let reason = match error {
        SessionError::Ledger(_) | SessionError::TooMany => Reason::Unavailable,
        SessionError::Empty { .. } => Reason::Payment,
    };
    refusal(reason, error.to_string())
}

/// What the backend is against. Its own affairs stay here.
pub(crate) fn backend(error: &BackendError, sale: &Sale) -> Refusal {
    match error {
        BackendError::Request { message } => refusal(Reason::Request, message),
        BackendError::Busy { retry_after } => Refusal {
            retry_after_ms: Some(millis(retry_after.unwrap_or_else(|| sale.retry_after()))),
            ..refusal(Reason::Busy, "the backend is busy")
        },
        BackendError::Misconfigured { .. }
        | BackendError::Unreachable(_)
        | BackendError::Timeout { .. }
        | BackendError::Failed { .. } => refusal(Reason::Backend, told(error)),
    }
}

/// What a consumer is told of a backend that did not begin: not the provider's own affairs.
pub(crate) fn told(error: &BackendError) -> String {
    match error {
        BackendError::Misconfigured { .. } => "the backend refuses the provider".to_owned(),
        error => error.to_string(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_answer_sold_is_asked_for_where_none_is_named() {
        let body = with_max_tokens(br#"{"model":"a"}"#, 7);
        assert_eq!(&body[..], br#"{"model":"a","max_tokens":7}"#);
    }

    #[test]
    fn a_limit_under_the_newer_name_alone_is_said_under_the_older_one_too() {
        let asked = |limit: &str| {
            let text =
                format!(r#"{{"model":"a","messages":[{{"role":"user","content":"b"}}],{limit}}}"#);
            let request = ChatRequest::parse(text.into()).unwrap();
            let (body, tokens) = (
                request.upstream_body("a"),
                request.max_output_tokens().unwrap(),
            );
            let body = with_limit_for_all(&request, body, tokens);
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()
        };
        assert_eq!(asked(r#""max_completion_tokens":7"#)["max_tokens"], 7);
        let null = r#""max_tokens":null,"max_completion_tokens":7"#;
        assert_eq!(asked(null)["max_tokens"], 7);
        let both = r#""max_tokens":5,"max_completion_tokens":7"#;
        assert_eq!(asked(both)["max_tokens"], 5);
    }
}
