//! What the market looks like from here, for people and for `/v1/models`.

use market::{
    Address, Amount, Asked, Card, CardId, ChannelConfig, ChannelId, Labels, ModelId, Outcome,
    Rates, RequestId, Timestamp, Withdrawal,
};
use serde::{Deserialize, Serialize};

use crate::routes::RouteId;

/// A relay of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayView {
    /// Its account.
    pub address: Address,
    /// `host:port`, as it is registered.
    pub endpoint: String,
}

/// A model and who sells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelView {
    /// What a request's `model` says: its name in the registry, with a card
    /// behind it where the name has several.
    pub name: String,
    /// Its registered ids; more than one if the name was registered twice.
    pub ids: Vec<ModelId>,
    /// When the first offer was seen.
    pub seen_at: Timestamp,
    /// What exactly it is, if somebody says so.
    pub card: Option<Card>,
    /// Other names on offer that it looks like.
    pub look_alike_of: Vec<String>,
    /// Offers, those with the card first, of them the live ones, cheapest first.
    pub offers: Vec<OfferView>,
}

impl ModelView {
    /// Whether a request's `model` means it, or it and others.
    pub fn is_meant_by(&self, model: &str) -> bool {
        let (own, asked) = (Asked::read(&self.name), Asked::read(model));
        let card = self.card.as_ref().map(Card::id);
        own.name == asked.name && asked.means(card)
    }

    /// Whether somebody who sells it can be reached.
    pub fn is_live(&self) -> bool {
        self.offers.iter().any(|offer| offer.live)
    }
}

/// One provider's offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfferView {
    /// Who: its account, or that of one of its hosts.
    pub provider: Address,
    /// The registered account, which has the stake and is paid.
    pub registered: Address,
    /// Where its descriptor is.
    pub endpoint: String,
    /// In what it is paid.
    pub token: Address,
    /// For how much.
    pub rates: Rates,
    /// Tokens that fit.
    pub context_length: Option<u32>,
    /// The longest answer sold.
    pub output_tokens_max: Option<u32>,
    /// What would be proved about the privacy of an answer.
    pub labels: Labels,
    /// What tells its card from others; none if it is cardless.
    pub card: Option<CardId>,
    /// Fields of a request that it declares to heed.
    pub parameters: Vec<String>,
    /// `own-engine` or `third-party`.
    pub upstream: Option<String>,
    /// Whether its descriptor is fresh and it did not fail lately.
    pub live: bool,
    /// Whether its load digest says that it takes no request now.
    pub full: bool,
    /// Median time to the first token lately, if it was used.
    pub ttft_ms: Option<u64>,
    /// Requests that it is answering for us.
    pub running: u32,
    /// Why it is not live.
    pub problem: Option<String>,
}

/// A past answer: what it was and cost, nothing of what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerView {
    /// The request.
    pub request: RequestId,
    /// The model's name.
    pub model: String,
    /// Who answered: its account, or that of one of its hosts.
    pub provider: Address,
    /// When it ended.
    pub at: Timestamp,
    /// Tokens of the request.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// What it cost.
    pub cost: Amount,
    /// In what.
    pub token: Address,
    /// How it ended; none if no receipt came.
    pub outcome: Option<Outcome>,
    /// To the first piece.
    pub ttft_ms: u64,
    /// To the end.
    pub duration_ms: u64,
    /// Microseconds for a token, as they came in from the provider; none of so little that it says
    /// nothing, where the wire was paced, and in records of before it was measured.
    #[serde(default)]
    pub token_us: Option<u64>,
    /// What is proved about its privacy; none in records of before there were labels.
    #[serde(default)]
    pub labels: Option<Labels>,
    /// Why it came from there: [`Consumer::found`](crate::Consumer::found), as
    /// long as that is kept; none in records of before there were routes.
    #[serde(default)]
    pub route: Option<RouteId>,
}

/// An account beside the wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PseudonymView {
    /// The account.
    pub account: Address,
    /// The only provider that it pays.
    pub provider: Address,
    /// Its number, as its keys have it.
    pub number: u32,
}

/// A channel and the money in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelView {
    /// Its id.
    pub id: ChannelId,
    /// Its configuration: with this and the payer's key the money can be got back.
    pub config: ChannelConfig,
    /// On chain.
    pub escrow: Amount,
    /// Claimed on chain.
    pub claimed: Amount,
    /// Signed away at most.
    pub ceiling: Amount,
    /// Receipted.
    pub charged: Amount,
    /// Receipts are complete up to this number.
    pub receipts: u64,
    /// A withdrawal on its way.
    pub withdrawal: Option<Withdrawal>,
}
