//! What a request wants, and why an offer does not fit it.

use market::{Address, Amount, Demand, Load, Moment, Timestamp};
use serde::Serialize;

use crate::cost::Worth;
use crate::preferences::{Preferences, Quantization};
use crate::seen::Seen;
use crate::shelf::Listing;

/// One request, as far as choosing looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Tokens of the request, as estimated.
    pub input_tokens: u32,
    /// Texts that are read one by one, each within the model's length; a
    /// conversation is one.
    pub texts: u32,
    /// The longest answer that is asked for.
    pub output_tokens_max: Option<u32>,
    /// Labels that it insists on.
    pub demand: &'a Demand,
    /// What it prefers.
    pub preferences: &'a Preferences,
    /// Fields that it uses beyond those that everybody knows.
    pub parameters: &'a [&'a str],
    /// Who answered before in the same conversation.
    pub stick_to: Option<Address>,
    /// What time and failure are worth.
    pub worth: Worth,
    /// Wall time, for quotes.
    pub wall: Timestamp,
}

impl Wanted<'_> {
    /// Answers are reckoned at this length when the request does not limit them.
    pub const TYPICAL_OUTPUT_TOKENS: u32 = 256;

    /// How long the answer is reckoned to be.
    pub fn output_tokens(&self) -> u32 {
        let typical = Self::TYPICAL_OUTPUT_TOKENS;
        self.output_tokens_max
            .map_or(typical, |most| most.min(4 * typical))
    }

    /// Why it must not be asked.
    pub(crate) fn misfit(&self, listing: &Listing) -> Option<Misfit> {
        let preferences = self.preferences;
        if !listing.reachable {
            return Some(Misfit::Unreachable);
        }
        if !listing.payable {
            return Some(Misfit::OtherToken);
        }
        if self.wall >= listing.expires_at {
            return Some(Misfit::QuoteExpired);
        }
        let names = |accounts: &[Address]| {
            let Listing {
                provider,
                registered,
                ..
            } = listing;
            accounts.contains(provider) || accounts.contains(registered)
        };
        if names(&preferences.ignore) {
            return Some(Misfit::Ignored);
        }
        let only = preferences.only.as_ref();
        if only.is_some_and(|only| !names(only)) {
            return Some(Misfit::NotAmongOnly);
        }
        if let Some((demanded, offered)) = self.demand.unmet(&listing.labels) {
            return Some(Misfit::Label { demanded, offered });
        }
        if let Some((demanded, offered)) = preferences.collection().unmet(&listing.labels) {
            return Some(Misfit::Label { demanded, offered });
        }
        // It would refuse, and no answer of its could do.
        if let (Some(asked), Some(limit)) = (self.output_tokens_max, listing.output_tokens_max)
            && asked > limit
        {
            return Some(Misfit::AnswerTooLong { asked, limit });
        }
        self.price(listing)
            .or_else(|| self.quantization(listing))
            .or_else(|| self.heeds(listing))
    }

    fn price(&self, listing: &Listing) -> Option<Misfit> {
        let most = self.preferences.max_price;
        let caps = [
            (most.prompt, listing.rates.input_per_million),
            (most.completion, listing.rates.output_per_million),
        ];
        for (cap, price) in caps {
            if let Some(cap) = cap.filter(|cap| price > *cap) {
                return Some(Misfit::Price { price, cap });
            }
        }
        let cap = most.request?;
        let tokens = (self.input_tokens, self.output_tokens());
        let price = listing.rates.cost(tokens.0, tokens.1);
        let price = price.unwrap_or(Amount::new(u128::MAX));
        (price > cap).then_some(Misfit::Price { price, cap })
    }

    fn quantization(&self, listing: &Listing) -> Option<Misfit> {
        let allowed = self.preferences.quantizations.as_ref()?;
        let offered = listing.quantization.unwrap_or(Quantization::Unknown);
        (!allowed.contains(&offered)).then_some(Misfit::Quantization { offered })
    }

    fn heeds(&self, listing: &Listing) -> Option<Misfit> {
        if !self.preferences.require_parameters {
            return None;
        }
        let heeded = listing.parameters.as_deref().unwrap_or_default();
        let missing = |name: &&&str| !heeded.iter().any(|heeded| heeded == **name);
        let missing = self.parameters.iter().find(missing)?;
        Some(Misfit::Parameter {
            parameter: (*missing).to_owned(),
        })
    }

    /// Why it is asked only where nobody better is left.
    pub(crate) fn drawback(
        &self,
        listing: &Listing,
        (seen, load): (Option<&Seen>, Option<Load>),
        now: Moment,
    ) -> Option<Misfit> {
        // How long each text is nobody knows here; the mean is.
        let estimate = self.input_tokens / self.texts.max(1);
        if let Some(limit) = listing.context_length
            && estimate > limit
        {
            return Some(Misfit::RequestTooLong { estimate, limit });
        }
        // To say so costs nobody but itself, so that it is believed.
        let full = || {
            let is_full = load.is_some_and(|load| load.wait_ms.is_none());
            is_full.then_some(Misfit::Full)
        };
        seen.and_then(|seen| Self::out(seen, now)).or_else(full)
    }

    /// Why a provider is left alone now, by what was seen of it.
    fn out(seen: &Seen, now: Moment) -> Option<Misfit> {
        let ms = |until: Moment| {
            let left = until.since(now).as_millis();
            u64::try_from(left).unwrap_or(u64::MAX)
        };
        if let Some(until) = seen.breaker().shut_until(now) {
            return Some(Misfit::Failed {
                times: seen.breaker().failures(),
                wait_ms: ms(until),
            });
        }
        let wait_ms = ms(seen.busy_until(now)?);
        Some(Misfit::Busy { wait_ms })
    }
}

/// Why an offer does not fit a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Misfit {
    /// Its address or its key is not known.
    #[error("its address or key is not known")]
    Unreachable,
    /// It is paid in a token that is not paid with.
    #[error(
        "it is paid in a token that this node does not pay with (--pay-with), or that nobody says the worth of now (--usd-rate)"
    )]
    OtherToken,
    /// Its quote is over.
    #[error("its quote has expired")]
    QuoteExpired,
    /// It sells no such model.
    #[error("it does not sell this model")]
    NotSold,
    /// It is in `provider.ignore`.
    #[error("provider.ignore names it")]
    Ignored,
    /// There is `provider.only`, or `provider.order` without fallbacks, and it is not in it.
    #[error("it is not among those that are allowed by name")]
    NotAmongOnly,
    /// A label falls short.
    #[error("{demanded} is demanded, it has {offered}")]
    Label {
        /// What is demanded.
        demanded: &'static str,
        /// What it has.
        offered: &'static str,
    },
    /// Too expensive.
    #[error("its price {price} is above the cap {cap} (base units)")]
    Price {
        /// What it asks, in base units.
        price: Amount,
        /// What is allowed, in base units.
        cap: Amount,
    },
    /// Another precision.
    #[error("its precision is {offered}, which is not allowed")]
    Quantization {
        /// What it declares.
        offered: Quantization,
    },
    /// It does not declare that it heeds a field.
    #[error("it does not declare that it heeds {parameter:?}")]
    Parameter {
        /// Which.
        parameter: String,
    },
    /// It sells no answer so long.
    #[error("an answer of {asked} tokens is asked for, it sells {limit}")]
    AnswerTooLong {
        /// Tokens asked for.
        asked: u32,
        /// Tokens that it sells.
        limit: u32,
    },
    /// The request probably does not fit.
    #[error("about {estimate} tokens are asked, {limit} fit")]
    RequestTooLong {
        /// Tokens, as estimated.
        estimate: u32,
        /// Tokens that fit.
        limit: u32,
    },
    /// Its breaker is open.
    #[error("it failed {times} times in a row; tried again in {wait_ms} ms")]
    Failed {
        /// Failures in a row.
        times: u32,
        /// Until it is tried again.
        wait_ms: u64,
    },
    /// Its load digest says that it would refuse.
    #[error("it says that it takes no request now")]
    Full,
    /// Others have the card of the model.
    #[error("it declares no card, others do")]
    Cardless,
    /// It said that it is busy.
    #[error("it is busy for {wait_ms} ms more")]
    Busy {
        /// Until it is asked again.
        wait_ms: u64,
    },
}
