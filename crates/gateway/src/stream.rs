//! An answer as server-sent events.
//!
//! Chunks are wrapped, not parsed. All that is ready goes out in one write; a
//! quiet stream is kept open by comments. A good end is `[DONE]`, a bad one an
//! error event and no `[DONE]`: a client is never left to guess. In another
//! dialect a translator says the same in its words.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::HttpBody;
use bytes::{BufMut, Bytes, BytesMut};
use consumer::{BrokenError, Piece, Summary};
use futures_util::StreamExt;
use hyper::body::Frame;
use memchr::memmem;
use openai::dialect::{Opening, TranslateError, Translator};
use openai::sse;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::behind::Running;
use crate::chat::{Delivery, ending, silent, unusable};
use crate::fault::Fault;
use crate::metrics::Ending;

/// So much goes out in one write if so much is ready.
const BATCH_BYTES: usize = 32 * 1024;

/// What a usage holds that is there.
static COUNTED: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(b"\"prompt_tokens\""));

/// How an answer is told.
pub(crate) enum Telling {
    /// As it comes.
    Forwarded { include_usage: bool },
    /// In another dialect.
    Translated(Box<Translator>, Option<Opening>),
}

impl Telling {
    pub(crate) fn new(include_usage: bool, translation: Option<(Translator, Opening)>) -> Self {
        match translation {
            None => Self::Forwarded { include_usage },
            Some((translator, opening)) => Self::Translated(Box::new(translator), Some(opening)),
        }
    }

    fn chunk(&mut self, json: &[u8], out: &mut BytesMut) -> Result<(), TranslateError> {
        match self {
            Self::Forwarded { include_usage } => {
                if *include_usage || !is_only_usage(json) {
                    sse::encode_into(json, out);
                }
                Ok(())
            }
            Self::Translated(translator, opening) => {
                begin(translator, opening, out);
                translator.chunk(json, out)
            }
        }
    }

    fn end(&mut self, summary: &Summary, out: &mut BytesMut) -> Result<(), TranslateError> {
        match self {
            Self::Forwarded { .. } => {
                put_receipt(summary, out);
                out.put_slice(&sse::DONE);
                Ok(())
            }
            Self::Translated(translator, opening) => {
                begin(translator, opening, out);
                translator.end(&ending(summary), out)
            }
        }
    }

    fn fail(&mut self, fault: &Fault, out: &mut BytesMut) {
        match self {
            Self::Forwarded { .. } => sse::encode_into(&fault.to_json(), out),
            Self::Translated(translator, opening) => {
                begin(translator, opening, out);
                translator.fail(&fault.body, out);
            }
        }
    }

    fn quiet(&self, out: &mut BytesMut) {
        match self {
            Self::Forwarded { .. } => out.put_slice(&sse::KEEP_ALIVE),
            Self::Translated(translator, _) => translator.quiet(out),
        }
    }
}

/// Once, before all else.
fn begin(translator: &mut Translator, opening: &mut Option<Opening>, out: &mut BytesMut) {
    if let Some(opening) = opening.take() {
        translator.begin(opening, out);
    }
}

/// The events of one answer.
pub(crate) struct Events<A> {
    /// None once the answer has ended: dropping it stops all work behind it.
    answer: Option<A>,
    first: Option<Piece>,
    telling: Telling,
    delivery: Delivery,
    keep_alive: Duration,
    quiet: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<A: Running> Events<A> {
    pub(crate) fn new(answer: A, first: Piece, telling: Telling, delivery: Delivery) -> Self {
        let keep_alive = delivery.front().settings.limits.keep_alive;
        let cut = delivery.front().cut.clone();
        Self {
            answer: Some(answer),
            first: Some(first),
            telling,
            delivery,
            keep_alive,
            quiet: Box::pin(tokio::time::sleep(keep_alive)),
            cut: Box::pin(cut.cancelled_owned()),
        }
    }

    /// Writes all that is ready, up to a batch.
    fn fill(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) {
        if let Some(first) = self.first.take() {
            self.write(first, out);
        }
        while out.len() < BATCH_BYTES {
            let Some(answer) = &mut self.answer else {
                return;
            };
            match answer.poll_next_unpin(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(piece))) => self.write(piece, out),
                Poll::Ready(Some(Err(broken))) => self.break_off(&broken, out),
                Poll::Ready(None) => self.break_off(&silent(), out),
            }
        }
    }

    fn write(&mut self, piece: Piece, out: &mut BytesMut) {
        match piece {
            Piece::Chunk(json) => {
                self.delivery.chunk();
                if let Err(error) = self.telling.chunk(&json, out) {
                    self.end_with(&unusable(&error), out);
                }
            }
            Piece::End(summary) => {
                self.delivery.complete(&summary);
                self.answer = None;
                if let Err(error) = self.telling.end(&summary, out) {
                    self.end_with(&unusable(&error), out);
                }
            }
        }
    }

    fn break_off(&mut self, broken: &BrokenError, out: &mut BytesMut) {
        self.end_with(&Fault::from(broken), out);
    }

    fn end_with(&mut self, fault: &Fault, out: &mut BytesMut) {
        self.delivery.ended(Ending::Broken);
        self.answer = None;
        self.telling.fail(fault, out);
    }

    /// What the answer is, for its head.
    pub(crate) fn media_type(&self) -> &'static str {
        match &self.telling {
            Telling::Forwarded { .. } => "text/event-stream; charset=utf-8",
            Telling::Translated(translator, _) => translator.media_type(),
        }
    }
}

/// What the answer was and cost, as a comment: clients of OpenAI skip it.
fn put_receipt(summary: &Summary, out: &mut BytesMut) {
    let json = serde_json::to_string(summary).expect("a summary has only string keys");
    sse::comment_into(&format!("lethe {json}"), out);
}

/// Whether a chunk is the last one that only carries the usage. Backends are
/// always asked for it; clients that did not ask may not expect it.
fn is_only_usage(json: &[u8]) -> bool {
    // The search is a tenth of the scan, and says no for all but one chunk:
    // many backends write `"usage":null` into each.
    COUNTED.find(json).is_some()
        && openai::scan(json).is_ok_and(|facts| facts.no_choices && facts.usage.is_some())
}

impl<A: Running> HttpBody for Events<A> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut out = BytesMut::new();
        self.fill(cx, &mut out);
        if out.is_empty() && self.answer.is_none() {
            return Poll::Ready(None);
        }
        if out.is_empty() && self.cut.as_mut().poll(cx).is_ready() {
            self.end_with(&Fault::stopping(), &mut out);
        }
        if out.is_empty() && self.quiet.as_mut().poll(cx).is_ready() {
            self.telling.quiet(&mut out);
        }
        if out.is_empty() {
            return Poll::Pending;
        }
        let until = Instant::now() + self.keep_alive;
        self.quiet.as_mut().reset(until);
        Poll::Ready(Some(Ok(Frame::data(out.freeze()))))
    }
}
