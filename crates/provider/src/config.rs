//! What a provider is told: its offers, its terms, its habits with claims.
//!
//! Values only. Who reads files and the environment is `lethe`; who checks is
//! [`Config::check`], once, before anything else happens.

use std::time::Duration;

use market::{
    Address, Amount, B256, Card, ClaimPolicy, ENDPOINT_BYTES_MAX, Kind, Model, Offer,
    PARAMETER_BYTES_MAX, PARAMETERS_MAX, Rates, Record, SignedCertificate, Stakes,
    WITHDRAW_DELAY_MAX_S, WITHDRAW_DELAY_MIN_S,
};

use transport::describe::Endpoint;

use crate::backend::BackendHandle;

/// The most offers of one provider: its descriptor must stay readable.
pub const OFFERS_MAX: usize = 256;

/// Cards and heeded fields of all offers together: the rest of a descriptor needs its room.
pub const DECLARED_BYTES_MAX: usize = 64 * 1024;

/// The shortest time that a quote may be good for: a consumer looks at
/// descriptors about twice a minute.
pub const QUOTE_VALIDITY_MIN_S: u64 = 60;

/// Answers of one offer that may run, and wait, at a time.
pub const PLACES_MAX: usize = 4096;

/// One model on offer.
#[derive(Debug, Clone)]
pub struct OfferConfig {
    /// Its name in the registry.
    pub name: String,
    /// What its id is derived from; stays the same for ever.
    pub base: B256,
    /// Free words in the registry.
    pub tags: Vec<String>,
    /// The price, at the start.
    pub rates: Rates,
    /// In which token it is.
    pub token: Address,
    /// The standing bid: MOR base units per second of a session.
    pub price_per_second: Amount,
    /// Tokens of request and answer together that fit.
    pub context_length: Option<u32>,
    /// The longest answer sold.
    pub output_tokens_max: Option<u32>,
    /// Where the tokens are made: `own-engine` or `third-party`.
    pub upstream: Option<String>,
    /// The backend's own name for the model.
    pub upstream_model: String,
    /// Who answers.
    pub backend: BackendHandle,
    /// Answers at a time.
    pub slots: usize,
    /// Requests that wait for a slot; one more is refused at once.
    pub queue: usize,
    /// Whether the backend is asked, by two short requests of our own, if it
    /// goes on with a begun answer. Only then the offer says so.
    pub probe: bool,
    /// What exactly the model is.
    pub card: Option<Card>,
    /// Fields of a request that are heeded, beyond those that everybody knows.
    pub parameters: Vec<String>,
}

/// What a provider is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port` where others reach the descriptor; goes into the registry.
    pub endpoint: String,
    /// `host:port` (UDP) where others reach the node; empty: where it is bound.
    pub addresses: Vec<String>,
    /// Endpoints of registered relays at which it waits, because nobody can dial
    /// it: these then stand in the registry in place of `endpoint`. None: it is dialled.
    pub behind: Vec<String>,
    /// Who the hosts are of the provider that it is a host of; none: it is registered itself.
    pub hosts: Option<SignedCertificate>,
    /// What is sold.
    pub offers: Vec<OfferConfig>,
    /// The shortest withdrawal delay of a channel that is accepted.
    pub withdraw_delay_min_s: u64,
    /// For how long a quote is good.
    pub quote_validity_s: u64,
    /// How long an answer waits for the voucher of its next step.
    pub pay_within: Duration,
    /// How long running answers may go on when the provider stops.
    pub stop_within: Duration,
    /// When to claim.
    pub claims: ClaimPolicy,
}

/// A value that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, allowed is {allowed}")]
pub struct ConfigError {
    /// The field, as in [`Config`].
    pub field: String,
    /// What it says.
    pub value: String,
    /// What it may say.
    pub allowed: String,
}

impl ConfigError {
    fn new(
        field: impl Into<String>,
        value: impl ToString,
        allowed: impl Into<String>,
    ) -> Result<(), Self> {
        Err(Self {
            field: field.into(),
            value: value.to_string(),
            allowed: allowed.into(),
        })
    }
}

impl Config {
    /// How long an answer waits for a voucher, where nothing else is said.
    /// A consumer may have to deposit first, which takes a few blocks.
    pub const PAY_WITHIN: Duration = Duration::from_secs(30);

    /// What stands in the registry for this account.
    pub(crate) fn registered_endpoint(&self, account: Address) -> String {
        match self.behind.is_empty() {
            true => self.endpoint.clone(),
            false => Endpoint::at_relays(self.behind.clone(), account).to_string(),
        }
    }

    /// Says what cannot work. The market's bounds come from the chain.
    pub fn check(&self, stakes: &Stakes) -> Result<(), ConfigError> {
        let plain = |text: &str| {
            let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            !text.contains(['/', '@', '?', '#', ' ']) && matches!(port, Some(Ok(1..)))
        };
        if !plain(&self.endpoint) {
            return ConfigError::new("endpoint", &self.endpoint, "host:port, nothing else");
        }
        if let Some(address) = self.addresses.iter().find(|address| !plain(address)) {
            return ConfigError::new("addresses", address, "host:port, nothing else");
        }
        let relays = &self.behind;
        let is_twice = |at: usize| relays[..at].contains(&relays[at]);
        let is_good = |at: usize| plain(&relays[at]) && !relays[at].contains(',') && !is_twice(at);
        if relays.len() > Record::RELAYS_MAX || !(0..relays.len()).all(is_good) {
            let allowed = format!("up to {} times host:port, each once", Record::RELAYS_MAX);
            return ConfigError::new("behind", relays.join(" "), allowed);
        }
        let bytes = self.registered_endpoint(Address::ZERO).len();
        if bytes > ENDPOINT_BYTES_MAX {
            let allowed = format!("up to {ENDPOINT_BYTES_MAX} bytes in all");
            return ConfigError::new("behind", format!("{bytes} bytes"), allowed);
        }
        let delays = WITHDRAW_DELAY_MIN_S..=WITHDRAW_DELAY_MAX_S;
        if !delays.contains(&self.withdraw_delay_min_s) {
            let allowed =
                format!("{WITHDRAW_DELAY_MIN_S} to {WITHDRAW_DELAY_MAX_S}, as the contract has it");
            return ConfigError::new("withdraw_delay_min_s", self.withdraw_delay_min_s, allowed);
        }
        if self.quote_validity_s < QUOTE_VALIDITY_MIN_S {
            let allowed = format!("{QUOTE_VALIDITY_MIN_S} and more");
            return ConfigError::new("quote_validity_s", self.quote_validity_s, allowed);
        }
        let count = self.offers.len();
        if count == 0 || count > OFFERS_MAX {
            return ConfigError::new("offers", count, format!("1 to {OFFERS_MAX} offers"));
        }
        for (at, offer) in self.offers.iter().enumerate() {
            if self.offers[..at]
                .iter()
                .any(|before| before.base == offer.base)
            {
                let field = format!("offers[{at}].base");
                return ConfigError::new(field, offer.base, "one that no other offer has");
            }
            offer.check(at, stakes)?;
        }
        let each = self.offers.iter().map(OfferConfig::declared_bytes);
        let declared = each.fold(0, usize::saturating_add);
        if declared > DECLARED_BYTES_MAX {
            let allowed = format!("up to {DECLARED_BYTES_MAX} bytes of cards and parameters");
            return ConfigError::new("offers", format!("{declared} bytes of them"), allowed);
        }
        Ok(())
    }
}

impl OfferConfig {
    /// What it is asked for.
    pub(crate) fn kind(&self) -> Kind {
        Kind::of_card(self.card.as_ref())
    }

    /// What its card and its heeded fields take of the descriptor.
    fn declared_bytes(&self) -> usize {
        let text = serde_json::to_vec(&(&self.card, &self.parameters));
        text.map_or(usize::MAX, |text| text.len())
    }

    fn check(&self, at: usize, stakes: &Stakes) -> Result<(), ConfigError> {
        let field = |name: &str| format!("offers[{at}].{name}");
        let name = &self.name;
        if let Some(fault) = Model::name_fault(name) {
            let allowed = format!("a name that people can read and type ({fault})");
            return ConfigError::new(field("name"), format!("{name:?}"), allowed);
        }
        let prices = stakes.price_per_second_min..=stakes.price_per_second_max;
        if !prices.contains(&self.price_per_second) {
            let allowed = format!("{} to {} on this market", prices.start(), prices.end());
            return ConfigError::new(field("price_per_second"), self.price_per_second, allowed);
        }
        check_rates(&field("rates"), &self.rates)?;
        if self.slots == 0 || self.slots > PLACES_MAX {
            return ConfigError::new(field("slots"), self.slots, format!("1 to {PLACES_MAX}"));
        }
        if self.queue > PLACES_MAX {
            return ConfigError::new(field("queue"), self.queue, format!("0 to {PLACES_MAX}"));
        }
        if self.output_tokens_max == Some(0) {
            return ConfigError::new(field("output_tokens_max"), 0, "1 and more, or nothing");
        }
        if !Offer::are_parameters(&self.parameters) {
            let allowed = format!(
                "up to {PARAMETERS_MAX} names of up to {PARAMETER_BYTES_MAX} letters, digits and underscores"
            );
            return ConfigError::new(field("parameters"), self.parameters.join(","), allowed);
        }
        Ok(())
    }
}

/// Rates at which the longest imaginable answer still has a price.
pub(crate) fn check_rates(field: &str, rates: &Rates) -> Result<(), ConfigError> {
    const LARGEST: u32 = u32::MAX;
    if rates.cost(LARGEST, LARGEST).is_err() {
        let Rates {
            input_per_million,
            output_per_million,
        } = rates;
        let value = format!("{input_per_million} in, {output_per_million} out");
        return ConfigError::new(field, value, "less than 2^95 base units per 10^6 tokens");
    }
    Ok(())
}
