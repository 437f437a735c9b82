//! What consumer and provider say to each other, version 1.
//!
//! One request is one stream. The consumer's first message is an [`Ask`]; for
//! an answer it goes on with vouchers ([`FromConsumer::Pay`]). The provider
//! speaks [`FromProvider`]: begin, chunks, at the end a receipt. Whoever
//! leaves drops the stream, and the other side stops working.
//!
//! Answers travel as the JSON text of OpenAI chunks, byte for byte as the
//! backend wrote them; nobody on the way parses them. A later version puts
//! sealed cells where [`Infer::body`] and [`FromProvider::Chunk`] carry text.

use std::time::Duration;

use bytes::Bytes;
use market::{ChannelConfig, ChannelId, ModelId, Rates, RequestId, SignedReceipt, SignedVoucher};
use serde::{Deserialize, Serialize};

/// The version that this code speaks; the first byte of every stream.
pub const VERSION: u8 = 1;

/// The longest message either side accepts. The largest is an [`Infer`].
pub const MAX_MESSAGE_BYTES: usize = 20 * 1024 * 1024;

/// The longest request body within it.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The longest that a consumer waits for the next message of a running answer.
/// A provider that waits for somebody itself gives up before that, and says so.
pub const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The most receipts in one answer to [`Ask::Receipts`].
pub const MAX_RECEIPTS: usize = 256;

/// What a stream is opened for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// An answer.
    Infer(Box<Infer>),
    /// Receipts of a channel that the consumer has not seen; answered by [`FromProvider::Receipts`].
    Receipts {
        /// Of which channel.
        channel: ChannelId,
        /// Those numbered above this.
        after: u64,
    },
}

/// A request for an answer, with its payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Infer {
    /// Chosen at random; never used twice.
    pub request: RequestId,
    /// The channel that pays.
    pub channel: ChannelConfig,
    /// Covers all before, this request's input, and its first step.
    pub voucher: SignedVoucher,
    /// The model.
    pub model: ModelId,
    /// The rates of the quote that the consumer accepted.
    pub rates: Rates,
    /// The OpenAI chat request as JSON text.
    pub body: Bytes,
}

/// What the consumer says while the answer runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromConsumer {
    /// A better voucher.
    Pay {
        /// Covers what was read of every running answer, and one step for each.
        voucher: SignedVoucher,
        /// Tokens of this answer that were read.
        read_tokens: u32,
    },
    /// The consumer wants no more of this answer: stop the backend at once.
    /// What was delivered is still owed; the provider answers with
    /// [`FromProvider::End`]. A dropped stream means the same, unreceipted.
    Leave,
}

/// What the provider says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one comes once per answer, and none are kept"
)]
pub enum FromProvider {
    /// Nothing was done and nothing is owed.
    Refused(Refusal),
    /// The request is paid and a place is free; work starts.
    Begin,
    /// A piece of the answer.
    Chunk {
        /// Tokens delivered so far, this piece included.
        tokens: u32,
        /// One OpenAI `chat.completion.chunk` as JSON text.
        json: Bytes,
    },
    /// The answer's end, however it ended. The last message.
    End {
        /// What it was and cost.
        receipt: SignedReceipt,
        /// Why it did not end well, if so.
        failure: Option<Failure>,
    },
    /// The answer to [`Ask::Receipts`]. The last message.
    Receipts {
        /// In order, at most [`MAX_RECEIPTS`].
        receipts: Vec<SignedReceipt>,
        /// Answers on this channel that still run.
        running: u32,
    },
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind.
    pub reason: Reason,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// When to come again, if that helps.
    pub retry_after_ms: Option<u64>,
}

/// Kinds of refusal; each is a case that the consumer treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Every place and the queue are taken.
    Busy,
    /// The voucher does not reach, is not signed right, or the channel does not suit.
    Payment,
    /// The rates are not, or no longer, on offer.
    Quote,
    /// The model is not on offer.
    Model,
    /// The backend finds fault with the request itself; asking elsewhere does not help.
    Request,
    /// The backend is down.
    Backend,
    /// The provider cannot read its chain or its journal, or is stopping.
    Unavailable,
    /// A malformed message, or a version that is not spoken.
    Protocol,
}

/// Why an answer broke off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
}

/// Kinds of failure within an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The backend broke off, stalled, or sent what is not an answer.
    Backend,
    /// No voucher came for the next step.
    Unpaid,
    /// The provider is stopping.
    Stopping,
}
