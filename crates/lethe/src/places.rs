//! The places where an account's money can be, each explained: since when it
//! is there, when it can be had, by which command, and by which line of `cast`.

use std::collections::{BTreeMap, BTreeSet};

use chain::{Call, EvmLedger, Network};
use consumer::{ChannelView, PurseView};
use market::{
    Address, Amount, ChannelConfig, ChannelState, Claim, Departure, Ledger, LedgerError, Timestamp,
};
use provider::TillView;
use serde::{Deserialize, Serialize};

use crate::bookkeeping::Statement;
use crate::tokens::TokenView;

/// Tills that are told one by one; the others together.
const TILLS_TOLD: usize = 50;
/// What brings everything back; the flags come behind it.
const EXIT: &str = "lethe exit";

/// A place that holds some of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) label: String,
    /// What it is there for, and how it gets out.
    pub(crate) detail: String,
    /// `wallet`, `escrow`, `earned`, `stake` or `treasury`.
    pub(crate) kind: String,
    pub(crate) amount: Amount,
    /// Since when it waits there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// From when on it can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unlocks_at: Option<Timestamp>,
    /// Our command that moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
    /// The same without us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cast: Option<String>,
    /// Told even if nothing is there.
    #[serde(skip)]
    pub(crate) stays: bool,
    /// What tells it apart from others of the same label.
    #[serde(skip)]
    pub(crate) apart: String,
}

impl Place {
    /// One that needs no more words.
    pub(crate) fn new(label: impl Into<String>, kind: &str, amount: Amount, detail: &str) -> Self {
        Self {
            label: label.into(),
            detail: detail.to_owned(),
            kind: kind.to_owned(),
            amount,
            since: None,
            unlocks_at: None,
            command: None,
            cast: None,
            stays: false,
            apart: String::new(),
        }
    }

    /// Says, as a shell reads it, which key signs what is done by hand.
    pub(crate) fn signed_by(mut self, key: &str) -> Self {
        if let Some(cast) = &mut self.cast {
            cast.push_str(&format!(" # key: lethe wallet export {key}"));
        }
        self
    }

    /// Told even if nothing is there, where that is so.
    pub(crate) fn staying(self, stays: bool) -> Self {
        Self { stays, ..self }
    }

    /// Makes the label one that no other has.
    fn told_apart(mut self) -> Self {
        self.label = format!("{}, {}", self.label, self.apart);
        self
    }

    /// Makes the command, if there is one, a line that works as it is. `flags`:
    /// those of the folder and its chain.
    pub(crate) fn with_flags(mut self, flags: &str) -> Self {
        if let Some(command) = &mut self.command {
            command.push_str(flags);
        }
        self
    }

    /// Adds the folder's flag to the command, if it has none.
    pub(crate) fn name_folder(&mut self, flag: &str) {
        if let Some(command) = &mut self.command
            && !command.contains(" --data ")
        {
            command.push_str(flag);
        }
    }

    fn by(mut self, command: &str, call: &Call) -> Self {
        self.command = Some(command.to_owned());
        self.cast = Some(call.cast());
        self
    }

    fn between(mut self, since: Timestamp, unlocks_at: Timestamp) -> Self {
        (self.since, self.unlocks_at) = (Some(since), Some(unlocks_at));
        self
    }
}

/// A channel as its payer knows it.
pub(crate) struct Paid {
    pub(crate) config: ChannelConfig,
    pub(crate) state: ChannelState,
    pub(crate) ceiling: Amount,
    pub(crate) charged: Amount,
}

impl From<&ChannelView> for Paid {
    fn from(view: &ChannelView) -> Self {
        Self {
            config: view.config,
            state: ChannelState {
                balance: view.escrow,
                total_claimed: view.claimed,
                withdrawal: view.withdrawal,
            },
            ceiling: view.ceiling,
            charged: view.charged,
        }
    }
}

impl Paid {
    /// Of a journal, with what the chain says.
    pub(crate) async fn read(ledger: &dyn Ledger, purse: &PurseView) -> Result<Self, LedgerError> {
        let id = purse.config.id(&ledger.domain());
        Ok(Self {
            config: purse.config,
            state: ledger.channel(id).await?,
            ceiling: purse.ceiling,
            charged: purse.charged,
        })
    }

    /// Whom it pays, and at which host, where `provider` has several.
    pub(crate) fn to(&self, provider: &str) -> String {
        let ChannelConfig {
            receiver,
            receiver_authorizer,
            ..
        } = self.config;
        match receiver == receiver_authorizer {
            true => provider.to_owned(),
            false => format!("{provider} at host {}", short(receiver_authorizer)),
        }
    }

    /// What the channel still holds, by what it is for. `to`: whom it pays;
    /// `key`: the name of its payer's key.
    pub(crate) fn places(&self, network: &Network, (to, key): (&str, &str)) -> Vec<Place> {
        let id = self.config.id(&network.domain()).to_string();
        let mut places = self.parts(network, (to, key));
        for place in &mut places {
            place.apart = format!("{} of {key}", &id[..10]);
        }
        places
    }

    fn parts(&self, network: &Network, (to, key): (&str, &str)) -> Vec<Place> {
        let (config, state) = (&self.config, &self.state);
        let held = state.balance.less(state.total_claimed);
        let charged = self.charged.less(state.total_claimed).min(held);
        let signed = self
            .ceiling
            .less(state.total_claimed)
            .min(held)
            .less(charged);
        let free = held.less(charged).less(signed);
        let delay = config.withdraw_delay_s;
        let mut places = vec![Place::new(
            format!("channel to {to}: owed"),
            "earned",
            charged,
            "billed by receipts; the provider's when it claims",
        )];
        let Some(Departure { began_at, ends_at }) = Departure::of(config, state) else {
            let all = Call::initiate_withdraw(network, config, held);
            let free = Place::new(
                format!("channel to {to}: free"),
                "escrow",
                free,
                &format!("yours {delay} s after you ask for it"),
            );
            let signed = Place::new(
                format!("channel to {to}: signed ahead"),
                "escrow",
                signed,
                &format!(
                    "covered by vouchers, not billed; counts for the next answers, or yours {delay} s after you ask for it"
                ),
            );
            let ways = [free, signed].map(|place| place.by(EXIT, &all).signed_by(key));
            places.extend(ways);
            return places;
        };
        // What is billed goes first to whom it belongs; the rest is leaving.
        let asked = state
            .withdrawal
            .map_or(Amount::ZERO, |pending| pending.amount);
        let leaving = asked.min(held.less(charged));
        let rest = held.less(charged).less(leaving);
        let leaving = Place::new(
            format!("channel to {to}: leaving"),
            "escrow",
            leaving,
            "yours when the delay is over, less what the provider claims until then",
        );
        let rest = Place::new(
            format!("channel to {to}: free"),
            "escrow",
            rest,
            &format!(
                "yours {delay} s after you ask for it, once the withdrawal before is finished"
            ),
        );
        let finalise = Call::finalize_withdraw(network, config);
        let leaving = leaving.by(EXIT, &finalise).signed_by(key);
        places.push(leaving.between(began_at, ends_at));
        places.push(rest);
        places
    }
}

/// The same places; those that would have the label of another say which channel they are.
pub(crate) fn apart(places: Vec<Place>) -> Vec<Place> {
    let mut labels: BTreeMap<String, usize> = BTreeMap::new();
    for place in &places {
        *labels.entry(place.label.clone()).or_default() += 1;
    }
    let is_one = |place: &Place| labels.get(&place.label) == Some(&1);
    let places = places
        .into_iter()
        .map(|place| match is_one(&place) || place.apart.is_empty() {
            true => place,
            false => place.told_apart(),
        });
    places.collect()
}

/// Whom an account claims for: itself, and the provider whose host it is.
fn receivers(account: Address, tills: &[TillView]) -> BTreeSet<Address> {
    let receivers = tills.iter().map(|till| till.config.receiver);
    receivers.chain([account]).collect()
}

/// What a host has claimed so far for the provider whose it is, in words; nothing of a
/// provider's own node.
pub(crate) async fn host_words(
    ledger: &dyn Ledger,
    account: Address,
    tills: &[TillView],
    token: &TokenView,
) -> Result<Vec<String>, LedgerError> {
    let mut claimed: BTreeMap<Address, Amount> = BTreeMap::new();
    for till in tills {
        let config = &till.config;
        if config.receiver != account && config.token == token.address {
            // Anybody may have brought a claim to the chain, by hand or from a tower.
            let on_chain = ledger.channel(till.id).await?.total_claimed;
            let sum = claimed.entry(config.receiver).or_default();
            *sum = sum.plus(on_chain).unwrap_or(Amount::new(u128::MAX));
        }
    }
    let words = |(provider, sum)| {
        let sum = token.shown(sum);
        format!("host of {provider}: claimed {sum} for it so far; what is settled is in its wallet")
    };
    Ok(claimed.into_iter().map(words).collect())
}

/// An account in few letters.
fn short(account: Address) -> String {
    account.to_string().chars().take(10).collect()
}

/// What a provider, a relay or a tower has, as its journal and the chain know it.
pub(crate) struct Seller<'a> {
    pub(crate) ledger: &'a EvmLedger,
    pub(crate) account: Address,
    pub(crate) name: &'a str,
    pub(crate) tills: &'a [TillView],
}

impl Seller<'_> {
    /// All of it in the statement's token, and the postings of it.
    pub(crate) async fn places(
        &self,
        statement: &mut Statement,
    ) -> Result<Vec<Place>, LedgerError> {
        let (ledger, name) = (self.ledger, self.name);
        let token = statement.token().address;
        let held = ledger.balance(token, self.account).await?;
        statement.wallet(self.account, held);
        let label = format!("{name}: wallet");
        let mut places = vec![Place::new(label, "wallet", held, "yours at any time")];
        places.extend(self.earned(statement).await?);
        for receiver in receivers(self.account, self.tills) {
            let owed = ledger.receiver(receiver, token).await?;
            statement.receiver(receiver, &owed);
            let settle = Call::settle(ledger.network(), receiver, token);
            let (label, detail) = match receiver == self.account {
                true => (
                    format!("{name}: claimed"),
                    "yours when anybody settles it".to_owned(),
                ),
                false => (
                    format!("{name}: claimed by all hosts of {}", short(receiver)),
                    format!("of {receiver} when anybody settles it"),
                ),
            };
            let amount = owed.total_claimed.less(owed.total_settled);
            let claimed = Place::new(label, "earned", amount, &detail);
            places.push(claimed.by(EXIT, &settle));
        }
        if token == ledger.mor() {
            places.extend(self.stakes(statement).await?);
        }
        let places = places.into_iter();
        Ok(places.map(|place| place.signed_by(self.name)).collect())
    }

    /// What was earned and is not claimed, in the channels of its payers.
    async fn earned(&self, statement: &mut Statement) -> Result<Vec<Place>, LedgerError> {
        let network = self.ledger.network();
        let token = statement.token().address;
        let mut places = Vec::new();
        let mut others = Amount::ZERO;
        let claims = self.tills.iter().filter_map(TillView::claim);
        for claim in claims.filter(|claim| claim.config.token == token) {
            let id = claim.config.id(&self.ledger.domain());
            let state = self.ledger.channel(id).await?;
            let total = claim.total.min(state.balance);
            let amount = total.less(state.total_claimed);
            if !statement.earned_in(id, amount) {
                continue;
            }
            if places.len() >= TILLS_TOLD {
                others = others.plus(amount).unwrap_or(Amount::new(u128::MAX));
                continue;
            }
            let call = Call::claim(network, &[Claim { total, ..claim }]);
            let short = id.to_string();
            let label = format!("{}: earned on channel {}", self.name, &short[..10]);
            let place = match Departure::of(&claim.config, &state) {
                Some(Departure { began_at, ends_at }) => {
                    let detail =
                        "the payer withdraws: lost if it is not claimed before the delay is over";
                    Place::new(label, "earned", amount, detail).between(began_at, ends_at)
                }
                None => {
                    let whose = match claim.config.receiver == self.account {
                        true => "yours".to_owned(),
                        false => format!("goes to {}", claim.config.receiver),
                    };
                    let detail = format!("billed; {whose} when you claim it");
                    Place::new(label, "earned", amount, &detail)
                }
            };
            places.push(place.by(EXIT, &call));
        }
        let label = format!("{}: earned on other channels", self.name);
        places.push(Place::new(
            label,
            "earned",
            others,
            "billed; yours when you claim it",
        ));
        Ok(places)
    }

    async fn stakes(&self, statement: &mut Statement) -> Result<Vec<Place>, LedgerError> {
        let (ledger, network) = (self.ledger, self.ledger.network());
        let providers = ledger.providers().await?;
        let own = providers.iter().find(|known| known.address == self.account);
        let mut places = Vec::new();
        let bids = ledger.bids(self.account).await?;
        let deletes = bids
            .iter()
            .map(|bid| Call::delete_bid(network, bid.id).cast());
        if let Some(own) = own {
            let leave = Call::deregister_provider(network, self.account);
            let lines: Vec<_> = deletes.chain([leave.cast()]).collect();
            statement.stake(self.account, own.stake);
            let detail = match bids.is_empty() {
                true => "back when it leaves the registry",
                false => "back when its bids are deleted and it leaves the registry",
            };
            let label = format!("{}: stake", self.name);
            let stake = Place::new(label, "stake", own.stake, detail).by(EXIT, &leave);
            places.push(Place {
                cast: Some(lines.join(" && ")),
                ..stake
            });
        }
        let models = ledger.models().await?;
        for model in models.iter().filter(|model| model.owner == self.account) {
            let stake = ledger.model_stake(model.id).await?;
            statement.stake(self.account, stake);
            let call = Call::deregister_model(network, model.id);
            let label = format!("{}: stake of model {}", self.name, model.name);
            let detail = "back when it is taken off the market, once nobody bids for it";
            places.push(Place::new(label, "stake", stake, detail).by(EXIT, &call));
        }
        Ok(places)
    }
}

/// The name of a provider, or its account.
pub(crate) fn name(names: &BTreeMap<Address, String>, provider: Address) -> String {
    names
        .get(&provider)
        .cloned()
        .unwrap_or_else(|| provider.to_string())
}

#[cfg(test)]
mod tests {
    use market::{B256, Withdrawal};

    use super::*;

    fn paid(withdrawal: Option<u128>) -> Paid {
        Paid {
            config: ChannelConfig {
                payer: Address::repeat_byte(1),
                payer_authorizer: Address::repeat_byte(2),
                receiver: Address::repeat_byte(3),
                receiver_authorizer: Address::repeat_byte(3),
                token: Address::repeat_byte(4),
                withdraw_delay_s: 900,
                salt: B256::ZERO,
            },
            state: ChannelState {
                balance: Amount::new(100),
                total_claimed: Amount::new(10),
                withdrawal: withdrawal.map(|amount| Withdrawal {
                    amount: Amount::new(amount),
                    initiated_at: Timestamp(1_000),
                }),
            },
            ceiling: Amount::new(60),
            charged: Amount::new(40),
        }
    }

    #[test]
    fn two_channels_to_one_provider_are_told_apart_by_id_and_payer() {
        let mut other = paid(None);
        other.config.payer = Address::repeat_byte(5);
        let network = Network::local();
        let one = paid(None).places(&network, ("p", "payer-1"));
        assert_eq!(apart(one.clone()), one, "one alone has a short label");
        let both = [one, other.places(&network, ("p", "payer"))].concat();
        let labels: Vec<_> = apart(both).into_iter().map(|place| place.label).collect();
        let distinct: BTreeSet<_> = labels.iter().collect();
        assert_eq!(distinct.len(), 6, "{labels:?}");
        for (label, key) in [(&labels[1], "of payer-1"), (&labels[4], "of payer")] {
            let begins = label.starts_with("channel to p: free, 0x");
            assert!(begins && label.ends_with(key), "{label}");
        }
    }

    fn told(paid: &Paid) -> Vec<(String, u128)> {
        let places = paid.places(&Network::local(), ("p", "payer-1"));
        let sum: u128 = places.iter().map(|place| place.amount.base_units()).sum();
        assert_eq!(sum, 90, "every unit that is not claimed");
        let told = |place: &Place| (place.label.clone(), place.amount.base_units());
        places.iter().map(told).collect()
    }

    #[test]
    fn a_channels_money_is_told_apart_to_the_unit() {
        let at = |what: &str, amount| (format!("channel to p: {what}"), amount);
        let quiet = [at("owed", 30), at("free", 40), at("signed ahead", 20)];
        assert_eq!(told(&paid(None)), quiet);
        let all = [at("owed", 30), at("leaving", 60), at("free", 0)];
        assert_eq!(told(&paid(Some(90))), all);
        let some = [at("owed", 30), at("leaving", 25), at("free", 35)];
        assert_eq!(told(&paid(Some(25))), some);
    }

    #[test]
    fn what_leaves_says_since_when_until_when_and_how() {
        let places = paid(Some(90)).places(&Network::local(), ("p", "payer-1"));
        let leaving = &places[1];
        assert_eq!(leaving.since, Some(Timestamp(1_000)));
        assert_eq!(leaving.unlocks_at, Some(Timestamp(1_900)));
        assert_eq!(leaving.command.as_deref(), Some("lethe exit"));
        let cast = leaving.cast.as_deref().unwrap();
        assert!(cast.starts_with("cast send 0x4020"), "{cast}");
        assert!(cast.contains("finalizeWithdraw"), "{cast}");
        let mut named = leaving.clone();
        for _ in 0..2 {
            named.name_folder(" --data /d");
            assert_eq!(named.command.as_deref(), Some("lethe exit --data /d"));
        }
        let quiet = paid(None).places(&Network::local(), ("p", "payer-1"));
        let cast = quiet[1].cast.as_deref().unwrap();
        assert!(
            cast.contains("initiateWithdraw")
                && cast.ends_with(" 90 # key: lethe wallet export payer-1"),
            "{cast}"
        );
    }
}
