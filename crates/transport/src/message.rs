//! What nodes say to each other, version 1.
//!
//! One request is one stream. In the clear, for the node at the other end, is
//! only a [`Hello`]: carry this on, tell me who there is, or: what follows is
//! sealed to you. Sealed inside, the consumer's first message is an [`Ask`];
//! for an answer it goes on with vouchers ([`FromConsumer::Pay`]). The
//! provider speaks [`FromProvider`]: begin, chunks, at the end a receipt.
//! Whoever leaves drops the stream, and the other side stops working.
//!
//! Answers travel as the JSON text of OpenAI chunks, byte for byte as the
//! backend wrote them; nobody on the way parses them.

use alloy_primitives::Signature;
use bytes::Bytes;
use market::{
    Address, B256, ChannelConfig, ChannelId, ModelId, NodeId, Rates, RequestId, SignedReceipt,
    SignedVoucher, WalletKey,
};
use serde::{Deserialize, Serialize};

/// The version that this code speaks; the first byte of every stream.
pub const VERSION: u8 = 1;

/// The longest message either side accepts. The largest is an [`Infer`].
pub const MAX_MESSAGE_BYTES: usize = 20 * 1024 * 1024;

/// The longest request body within it.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The longest that a consumer waits for the next message of a running answer.
/// A provider that waits for somebody itself gives up before that, and says so.
pub use market::SILENCE_MAX;

/// The most receipts in one answer to [`Ask::Receipts`].
pub const MAX_RECEIPTS: usize = 256;

/// The most descriptions in one [`FromRelay::Described`].
pub const MAX_DESCRIBED: usize = 64;

/// The most load digests in one [`FromRelay::Loads`].
pub const MAX_LOADS: usize = 256;

/// The longest frame behind [`Hello::Gossip`].
pub const MAX_GOSSIP_BYTES: usize = 1024;

/// The longest text of one description.
pub const MAX_DESCRIPTION_BYTES: usize = 2 * market::MAX_RECORD_BYTES;

/// What a stream is opened for, said in the clear to the node at its other end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hello {
    /// What follows is sealed to this node's epoch key.
    Sealed {
        /// Lets it pass before strangers; the node itself gave it out.
        token: Option<seal::Token>,
    },
    /// Carry what follows to that registered node, as it is. Answered by
    /// [`FromRelay::Carrying`] and then by what that node says.
    Relay {
        /// To whom.
        to: NodeId,
    },
    /// Tell the descriptions of all registered nodes. Answered by
    /// [`FromRelay::Described`], as often as it takes, and
    /// [`FromRelay::Complete`]; or by [`FromRelay::Unchanged`].
    Describe {
        /// What [`FromRelay::Complete`] said before, if anything.
        known: Option<B256>,
    },
    /// The load digest of a registered provider whose node opened the stream:
    /// keep it and pass it on. The last message; nothing is answered.
    Load {
        /// As [`market::LoadDigest::sign`] makes it.
        digest: Bytes,
    },
    /// Tell the newest load digests of all registered providers. Answered by
    /// [`FromRelay::Loads`], as often as it takes, and the stream's end.
    Loads,
    /// What follows is gossip between two relays: frames that hold one byte
    /// string each, of [`MAX_GOSSIP_BYTES`] at most. Nothing is answered: the
    /// other one says what it has to say on a stream of its own.
    Gossip,
    /// Let streams to this node come on the connection on which this is said, as
    /// long as this stream is open: nobody can dial it. What follows is its
    /// [`Description`], at once and whenever it changes. Answered by
    /// [`FromRelay::Waiting`] when the first one is believed.
    Wait,
}

/// What a relay says, in the clear: its own words, not those of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRelay {
    /// The way is open; what follows comes from the other node.
    Carrying,
    /// It does not carry. The last message.
    Refused(RelayRefusal),
    /// Some of what registered nodes say of themselves.
    Described(Vec<Description>),
    /// That was all. The last message.
    Complete {
        /// Names this state of things.
        digest: B256,
    },
    /// Nothing changed since the digest that was named. The last message.
    Unchanged,
    /// Some of the newest load digests, each as its provider's node signed it;
    /// at most [`MAX_LOADS`].
    Loads(Vec<Bytes>),
    /// The one who waits is told of, and what is for it is carried to it.
    Waiting,
}

/// A registered node's description, exactly as its endpoint serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The registered account.
    pub account: Address,
    /// The text.
    pub text: Bytes,
}

/// Why a relay does not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RelayRefusal {
    /// The node is not in the registry, or has not described itself.
    #[error("it knows no registered node of the provider's id")]
    Unknown,
    /// The node does not answer, or takes no more streams of those that it has to
    /// be brought.
    #[error("the provider does not answer it")]
    Unreachable,
    /// As many streams as it takes, in all or from one peer.
    #[error("it carries as many streams as it takes")]
    Busy,
}

/// What a sealed stream is opened for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// An answer.
    Infer(Box<Infer>),
    /// Receipts of a channel that the consumer has not seen; answered by [`FromProvider::Receipts`].
    Receipts(ReceiptsAsk),
}

/// A question for receipts, by who may sign the channel's vouchers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsAsk {
    /// Of which channel.
    pub channel: ChannelId,
    /// Those numbered above this.
    pub after: u64,
    /// By the channel's `payerAuthorizer` (EIP-191), over [`ReceiptsAsk::signed_text`].
    pub signature: Signature,
}

impl ReceiptsAsk {
    /// Asks for the receipts numbered above `after`.
    pub fn sign(channel: ChannelId, after: u64, hot_key: &WalletKey) -> Self {
        let signature = hot_key.sign_message(Self::signed_text(channel, after).as_bytes());
        Self {
            channel,
            after,
            signature,
        }
    }

    /// Whether `authorizer` asks.
    pub fn is_by(&self, authorizer: Address) -> bool {
        let text = Self::signed_text(self.channel, self.after);
        self.signature
            .recover_address_from_msg(text.as_bytes())
            .is_ok_and(|signer| signer == authorizer)
    }

    /// What is signed.
    pub fn signed_text(channel: ChannelId, after: u64) -> String {
        format!("lethe receipts v1\nchannel {channel}\nafter {after}")
    }
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
    /// By the channel's `payerAuthorizer` (EIP-191), over [`Infer::signed_text`]:
    /// vouchers become public when they are claimed, so one alone proves nothing.
    pub signature: Signature,
}

impl Infer {
    /// What is signed.
    pub fn signed_text(request: RequestId, channel: ChannelId) -> String {
        format!("lethe request v1\nrequest {request}\nchannel {channel}")
    }

    /// Whether `authorizer` asks.
    pub fn is_by(&self, authorizer: Address) -> bool {
        let text = Self::signed_text(self.request, self.voucher.voucher.channel);
        self.signature
            .recover_address_from_msg(text.as_bytes())
            .is_ok_and(|signer| signer == authorizer)
    }
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
    Begin {
        /// Each lets one later request pass before strangers.
        tokens: Vec<seal::Token>,
    },
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
