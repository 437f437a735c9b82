//! What stands behind the gateway: somebody who answers.
//!
//! Two implementations keep this seam honest: the [`Consumer`], who buys
//! answers, and a scripted one that the tests drive.

use std::future::Future;

use consumer::{
    Answer, BrokenError, Conditions, Consumer, ModelView, Piece, RouteId, Shortage, Unserved,
};
use futures_util::Stream;
use market::{Address, Labels, RequestId, Timestamp};
use openai::{ChatRequest, EmbeddingsRequest};

/// Who answers requests.
pub trait Market: Send + Sync + 'static {
    /// A running answer. Dropping it must stop all work behind it.
    type Answer: Running;

    /// Starts an answer as it is wished. Dropping the future must stop all
    /// work behind it.
    fn infer(
        &self,
        request: ChatRequest,
        conditions: Conditions,
    ) -> impl Future<Output = Result<Self::Answer, Unserved>> + Send;

    /// Starts the vectors of a request for embeddings, in the same way. The
    /// pieces are those of [`openai::embeddings`].
    fn embed(
        &self,
        request: EmbeddingsRequest,
        conditions: Conditions,
    ) -> impl Future<Output = Result<Self::Answer, Unserved>> + Send;

    /// What is on offer.
    fn models(&self) -> Vec<ModelView>;

    /// Whether there are too few relays for requests to go out.
    fn shortage(&self) -> Option<Shortage>;

    /// Wall time.
    fn now(&self) -> Timestamp;
}

/// An answer that is being delivered.
pub trait Running: Stream<Item = Result<Piece, BrokenError>> + Send + Unpin + 'static {
    /// The request's id in the market.
    fn request(&self) -> RequestId;

    /// Who answers.
    fn provider(&self) -> Address;

    /// What is proved about its privacy.
    fn labels(&self) -> Labels;

    /// The id under which the node says why it comes from where it comes.
    fn route(&self) -> Option<RouteId>;
}

impl Market for Consumer {
    type Answer = Answer;

    async fn infer(
        &self,
        request: ChatRequest,
        conditions: Conditions,
    ) -> Result<Answer, Unserved> {
        Self::infer(self, request, conditions).await
    }

    async fn embed(
        &self,
        request: EmbeddingsRequest,
        conditions: Conditions,
    ) -> Result<Answer, Unserved> {
        Self::embed(self, request, conditions).await
    }

    fn models(&self) -> Vec<ModelView> {
        Self::models(self)
    }

    fn shortage(&self) -> Option<Shortage> {
        Self::shortage(self)
    }

    fn now(&self) -> Timestamp {
        Self::now(self)
    }
}

impl Running for Answer {
    fn request(&self) -> RequestId {
        Self::request(self)
    }

    fn provider(&self) -> Address {
        Self::provider(self)
    }

    fn labels(&self) -> Labels {
        Self::labels(self)
    }

    fn route(&self) -> Option<RouteId> {
        Self::route(self)
    }
}
