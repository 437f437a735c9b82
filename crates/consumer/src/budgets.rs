//! What a key may spend in a day, and what it has spent today.
//!
//! A request that may cost more than is left of the day is not begun. What it
//! may cost at most is held, durably, before anything is signed for it; its
//! receipt puts what it did cost in that place. A crash forgets no hold: each
//! is in the day's journal with its channel, and what came of it in that
//! channel's. A day is one of UTC, and a request belongs to the day on which
//! it was begun.
//!
//! A token is counted by itself; in dollars all of them count together, each
//! request by the rate at which it was held. What a budget names no amount for
//! is not paid at all.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use market::{Address, Amount, ChannelId, PurseEvent, RequestId, Timestamp, USD_DECIMALS, UsdRate};
use serde::{Deserialize, Serialize};
use store::{AppendError, Entry, MAX_ENTRIES, Store};

use crate::StartError;
use crate::payment::entry;
use crate::session::{entries, journal_name};

const DAY_S: u64 = 86_400;

/// A journal for each day.
const SPENT: &str = "consumer/spent/";

/// Requests that cost nothing, as it seems, and may be receipted after all.
const GIVEN_UP_KEPT: usize = 256;

/// What a key may spend in a day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budget {
    /// Whose: what was spent is kept under this name.
    pub key: String,
    /// Whatever the model; nothing: that is not limited.
    pub per_day: Vec<Allowance>,
    /// Of single models, by the names under which they are sold.
    pub models: BTreeMap<String, Vec<Allowance>>,
}

/// What may be spent of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// Of what.
    pub coin: Coin,
    /// How much, in base units; of dollars in 10^-18.
    pub amount: Amount,
}

/// What a budget is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coin {
    /// Whatever is paid, by what it is worth.
    Usd,
    /// One token.
    Token {
        /// Which.
        address: Address,
        /// What it is called.
        symbol: String,
        /// Its digits after the point.
        decimals: u8,
    },
}

impl Coin {
    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Usd => "USD",
            Self::Token { symbol, .. } => symbol,
        }
    }

    /// Digits after the point.
    pub fn decimals(&self) -> u8 {
        match self {
            Self::Usd => USD_DECIMALS,
            Self::Token { decimals, .. } => *decimals,
        }
    }

    fn figure(&self, amount: Amount) -> String {
        amount.to_decimal(self.decimals())
    }
}

/// Why a request is not begun: its key's budget does not reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// What is left of the day is less than it may cost.
    #[error(transparent)]
    Short(Box<Short>),
    /// It would be paid in something of which the budget names no amount.
    #[error(
        "the key's budget {}names no amount of {token}, nor dollars, and provider {provider} is paid in it",
        of_model(.model)
    )]
    Token {
        /// Whose budget it is, if it is not that of all models.
        model: Option<String>,
        /// Who.
        provider: Address,
        /// In what: its symbol.
        token: String,
    },
    /// The budget is in dollars, and what would be paid cannot be counted in them.
    #[error(
        "the key's budget is in dollars, and nobody says now what {token} is worth, in which \
         provider {provider} is paid"
    )]
    NoRate {
        /// Who.
        provider: Address,
        /// In what: its symbol.
        token: String,
    },
    /// Nobody says how long the answer may become.
    #[error(
        "the key has a budget, and neither the request nor provider {provider} limits the answer"
    )]
    Unlimited {
        /// Who.
        provider: Address,
    },
}

/// A budget, and what it falls short of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key's budget {}is {} {} a day; {} are spent, {} are held for requests that run, and this \
     one may cost {}; the next day begins at 00:00 UTC, in {}", of_model(.model),
     .coin.figure(*.budget), .coin.name(), .coin.figure(*.spent), .coin.figure(*.held),
     .coin.figure(*.needed), time(.resets_in_s)
)]
pub struct Short {
    /// Whose budget it is, if it is not that of all models.
    pub model: Option<String>,
    /// In what.
    pub coin: Coin,
    /// For a day.
    pub budget: Amount,
    /// What requests of today came to.
    pub spent: Amount,
    /// What those that run may come to.
    pub held: Amount,
    /// What this one may come to.
    pub needed: Amount,
    /// What it would come to if its answer had one token: no shorter answer costs less.
    pub least: Amount,
    /// When the next day begins.
    pub resets_in_s: u64,
}

/// What helps where a budget does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: the budget is 0.
    Shut,
    /// A shorter request: on no day does the budget reach for this one, whatever the answer's length.
    ShorterRequest,
    /// A shorter answer: on no day does the budget reach for so long a one.
    ShorterAnswer,
    /// The next day: today no shorter answer fits either.
    Wait,
    /// A shorter answer, or the next day.
    ShorterOrWait,
}

impl Short {
    /// What helps.
    pub fn remedy(&self) -> Remedy {
        let left = self.budget.less(self.spent);
        if self.budget.is_zero() {
            return Remedy::Shut;
        }
        match (self.least > self.budget, self.needed > self.budget) {
            (true, _) => Remedy::ShorterRequest,
            (false, true) => Remedy::ShorterAnswer,
            (false, false) if self.least > left => Remedy::Wait,
            (false, false) => Remedy::ShorterOrWait,
        }
    }
}

impl BudgetError {
    /// Whether it fits once what runs has cost little.
    pub fn may_pass_soon(&self) -> bool {
        match self {
            Self::Short(short) => sum(short.spent, short.needed) <= short.budget,
            Self::Token { .. } | Self::NoRate { .. } | Self::Unlimited { .. } => false,
        }
    }
}

fn of_model(model: &Option<String>) -> String {
    let model = model.as_ref();
    model.map_or_else(String::new, |model| format!("for model {model:?} "))
}

fn time(seconds: &u64) -> String {
    let minutes = seconds.div_ceil(60);
    format!("{} h {} min", minutes / 60, minutes % 60)
}

/// `left + right`, or all that there can be.
fn sum(left: Amount, right: Amount) -> Amount {
    left.plus(right).unwrap_or(Amount::new(u128::MAX))
}

/// What a key has spent today.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentView {
    /// Whatever the model.
    pub all: Tallies,
    /// Of each model, by its name.
    pub models: BTreeMap<String, Tallies>,
}

/// What was spent today, of each token and in dollars.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallies {
    /// In base units.
    pub tokens: BTreeMap<Address, TallyView>,
    /// All that was paid while its worth was known, in 10^-18 dollars.
    pub usd: TallyView,
}

/// What was spent today.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyView {
    /// What requests came to.
    pub spent: Amount,
    /// What those that run, or whose receipts are missing, may come to at most.
    pub held: Amount,
}

impl Tallies {
    /// What was spent of it.
    pub fn of(&self, coin: &Coin) -> TallyView {
        match coin {
            Coin::Usd => self.usd,
            Coin::Token { address, .. } => self.tokens.get(address).copied().unwrap_or_default(),
        }
    }

    fn hold(&mut self, price: &Price) {
        self.tokens.entry(price.token).or_default().hold(price.most);
        self.usd.hold(price.usd(price.most));
    }

    /// `most` of it was held.
    fn end(&mut self, price: &Price, most: Amount, cost: Amount) {
        let tally = self.tokens.entry(price.token).or_default();
        tally.end(most, cost);
        self.usd.end(price.usd(most), price.usd(cost));
    }
}

impl TallyView {
    fn hold(&mut self, most: Amount) {
        self.held = sum(self.held, most);
    }

    fn end(&mut self, most: Amount, cost: Amount) {
        self.held = self.held.less(most);
        self.spent = sum(self.spent, cost);
    }
}

/// A line of a day's journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Held {
        request: RequestId,
        key: String,
        model: String,
        most: Amount,
        /// None, in lines of before there were several: MOR.
        #[serde(default)]
        token: Option<Address>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate: Option<UsdRate>,
        channel: ChannelId,
    },
    Ended {
        request: RequestId,
        cost: Amount,
    },
}

impl Line {
    fn written(&self) -> Entry {
        let (kind, request) = match self {
            Self::Held { request, .. } => ("held", request),
            Self::Ended { request, .. } => ("ended", request),
        };
        let payload = serde_json::to_vec(self).expect("a line has only string keys");
        entry(kind, Some(request.to_string()), payload)
    }
}

/// What a request buys, where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purchase<'a> {
    pub(crate) provider: Address,
    pub(crate) model: &'a str,
    /// What the token is called that it is paid in.
    pub(crate) symbol: &'a str,
}

/// What a request may cost.
#[derive(Debug, Clone)]
pub(crate) struct Price {
    /// In what it is paid.
    pub(crate) token: Address,
    /// At most, in base units.
    pub(crate) most: Amount,
    /// The same with an answer of one token.
    pub(crate) least: Amount,
    /// What the token is worth, if somebody says so now.
    pub(crate) rate: Option<UsdRate>,
}

impl Price {
    /// In 10^-18 dollars; nothing where that is not known.
    fn usd(&self, amount: Amount) -> Amount {
        let rate = self.rate.as_ref();
        rate.map_or(Amount::ZERO, |rate| rate.usd_of(amount))
    }

    /// What it takes of an allowance in this, at most and at least; none: nothing, it is another token.
    fn of(
        &self,
        coin: &Coin,
        buys: &Purchase<'_>,
    ) -> Result<Option<(Amount, Amount)>, BudgetError> {
        let (most, least) = (self.most, self.least);
        match coin {
            Coin::Token { address, .. } => Ok((*address == self.token).then_some((most, least))),
            Coin::Usd if self.rate.is_none() => Err(BudgetError::NoRate {
                provider: buys.provider,
                token: buys.symbol.to_owned(),
            }),
            Coin::Usd => Ok(Some((self.usd(most), self.usd(least)))),
        }
    }
}

#[derive(Debug, Clone)]
struct Hold {
    key: String,
    model: String,
    price: Price,
    /// Over which it is paid; none before that is known.
    channel: Option<ChannelId>,
    /// Something is signed for it.
    asked: bool,
}

/// The day as it is so far: the rules, without a journal.
#[derive(Debug, Default)]
struct Today {
    /// Days since 1970.
    day: u64,
    keys: BTreeMap<String, SpentView>,
    holds: HashMap<RequestId, Hold>,
    given_up: VecDeque<(RequestId, Hold)>,
    /// Ends of holds that go into the journal with the next hold; a crash
    /// forgets them, and finds them in the journals of their channels.
    unwritten: VecDeque<Line>,
}

impl Today {
    /// A clock that goes back does not bring a day back.
    fn turn(&mut self, now: Timestamp) {
        let day = now.0 / DAY_S;
        if day > self.day {
            *self = Self {
                day,
                ..Self::default()
            };
        }
    }

    /// Holds what a request may cost, if every budget reaches.
    fn hold(
        &mut self,
        budget: &Budget,
        request: RequestId,
        buys: Purchase<'_>,
        price: Price,
        now: Timestamp,
    ) -> Result<(), BudgetError> {
        let model = buys.model;
        self.turn(now);
        let resets_in_s = ((self.day + 1) * DAY_S).saturating_sub(now.0);
        let so_far = self.keys.get(&budget.key);
        let of_model = budget.models.get(model).map_or(&[][..], Vec::as_slice);
        let limits = [
            (None, &budget.per_day[..], so_far.map(|view| &view.all)),
            (
                Some(model.to_owned()),
                of_model,
                so_far.and_then(|view| view.models.get(model)),
            ),
        ];
        for (model, allowances, tallies) in limits {
            let mut is_named = allowances.is_empty();
            for Allowance { coin, amount } in allowances {
                let Some((needed, least)) = price.of(coin, &buys)? else {
                    continue;
                };
                is_named = true;
                let tally = tallies.map(|tallies| tallies.of(coin));
                let TallyView { spent, held } = tally.unwrap_or_default();
                if sum(sum(spent, held), needed) > *amount {
                    return Err(BudgetError::Short(Box::new(Short {
                        model,
                        coin: coin.clone(),
                        budget: *amount,
                        spent,
                        held,
                        needed,
                        least,
                        resets_in_s,
                    })));
                }
            }
            if !is_named {
                return Err(BudgetError::Token {
                    model,
                    provider: buys.provider,
                    token: buys.symbol.to_owned(),
                });
            }
        }
        let hold = Hold {
            key: budget.key.clone(),
            model: model.to_owned(),
            price,
            channel: None,
            asked: false,
        };
        self.held(request, hold);
        Ok(())
    }

    fn held(&mut self, request: RequestId, hold: Hold) {
        let view = self.keys.entry(hold.key.clone()).or_default();
        view.all.hold(&hold.price);
        let of_model = view.models.entry(hold.model.clone()).or_default();
        of_model.hold(&hold.price);
        self.holds.insert(request, hold);
    }

    /// A request came to so much. Of another day: nothing changes.
    fn end(&mut self, request: RequestId, cost: Amount) {
        let (hold, most) = match self.holds.remove(&request) {
            Some(hold) => {
                let most = hold.price.most;
                (hold, most)
            }
            None => {
                let given_up = self.given_up.iter().position(|(it, _)| *it == request);
                let Some((_, hold)) = given_up.and_then(|n| self.given_up.remove(n)) else {
                    return;
                };
                (hold, Amount::ZERO)
            }
        };
        if let Some(view) = self.keys.get_mut(&hold.key) {
            view.all.end(&hold.price, most, cost);
            let of_model = view.models.entry(hold.model.clone()).or_default();
            of_model.end(&hold.price, most, cost);
        }
        if hold.channel.is_some() {
            self.unwritten.push_back(Line::Ended { request, cost });
        }
        if cost.is_zero() && hold.asked {
            if self.given_up.len() == GIVEN_UP_KEPT {
                self.given_up.pop_front();
            }
            self.given_up.push_back((request, hold));
        }
    }

    /// The provider says that nothing runs: what was asked over this channel
    /// and does not run costs nothing, unless a receipt says otherwise later.
    fn give_up(&mut self, channel: ChannelId, runs: impl Fn(RequestId) -> bool) {
        let is_over = |(request, hold): &(&RequestId, &Hold)| {
            hold.asked && hold.channel == Some(channel) && !runs(**request)
        };
        let over = self.holds.iter().filter(is_over);
        let over: Vec<_> = over.map(|(request, _)| *request).collect();
        for request in over {
            self.end(request, Amount::ZERO);
        }
    }

    fn replay(&mut self, line: Line, mor: Address) {
        match line {
            Line::Ended { request, cost } => self.end(request, cost),
            Line::Held {
                request,
                key,
                model,
                most,
                token,
                rate,
                channel,
            } => {
                let price = Price {
                    token: token.unwrap_or(mor),
                    most,
                    least: most,
                    rate,
                };
                let hold = Hold {
                    key,
                    model,
                    price,
                    channel: Some(channel),
                    asked: true,
                };
                self.held(request, hold);
            }
        }
    }
}

/// What the keys have spent today.
pub(crate) struct Budgets {
    store: Store,
    today: Mutex<Today>,
}

impl Budgets {
    /// What the journals know of today.
    pub(crate) async fn load(
        store: Store,
        mor: Address,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        let mut today = Today::default();
        today.turn(now);
        for line in entries::<Line>(&store, &journal_of(today.day)).await? {
            today.replay(line, mor);
        }
        today.unwritten.clear();
        let open = today.holds.iter();
        let open = open.filter_map(|(request, hold)| Some((*request, hold.channel?)));
        let open: Vec<_> = open.collect();
        for (request, channel) in open {
            if let Some(cost) = came_to(&store, request, channel).await? {
                today.end(request, cost);
            }
        }
        let today = today.into();
        Ok(Self { store, today })
    }

    fn today(&self) -> MutexGuard<'_, Today> {
        self.today.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds what a request may cost at most, to a provider of a model, so that
    /// no other request can spend it. Nothing is written yet.
    pub(crate) fn hold(
        self: &Arc<Self>,
        budget: &Budget,
        request: RequestId,
        buys: Purchase<'_>,
        price: Price,
        now: Timestamp,
    ) -> Result<Held, BudgetError> {
        let mut today = self.today();
        today.hold(budget, request, buys, price, now)?;
        Ok(Held {
            budgets: Arc::clone(self),
            request,
            day: today.day,
            asked: false,
        })
    }

    /// The request's receipt is in the journal.
    pub(crate) fn receipted(&self, request: RequestId, cost: Amount) {
        self.today().end(request, cost);
    }

    /// Nothing runs on a channel but these.
    pub(crate) fn give_up(&self, channel: ChannelId, runs: impl Fn(RequestId) -> bool) {
        self.today().give_up(channel, runs);
    }

    /// What was spent today, by the keys' names.
    pub(crate) fn view(&self, now: Timestamp) -> BTreeMap<String, SpentView> {
        let mut today = self.today();
        today.turn(now);
        today.keys.clone()
    }
}

/// What the keys of a consumer that does not run have spent today, by their names.
pub async fn read_spent(
    store: &Store,
    now: Timestamp,
) -> Result<BTreeMap<String, SpentView>, StartError> {
    // Which token is MOR is not known here; lines that do not name theirs are of a day long ago.
    let budgets = Budgets::load(store.clone(), Address::ZERO, now).await?;
    Ok(budgets.view(now))
}

fn journal_of(day: u64) -> String {
    format!("{SPENT}{day}")
}

/// What its channel knows of a request: none while its receipt is missing.
async fn came_to(
    store: &Store,
    request: RequestId,
    channel: ChannelId,
) -> Result<Option<Amount>, StartError> {
    let name = journal_name(&channel);
    let (journal, key) = (store.journal(&name), request.to_string());
    let find = async |kind| {
        let found = journal.find(kind, &key).await;
        found.map_err(|error| StartError::Journal(error.into()))
    };
    let Some(receipted) = find("receipted").await? else {
        // Without this line nothing was signed.
        return Ok(find("asked").await?.is_none().then_some(Amount::ZERO));
    };
    let event = serde_json::from_slice(&receipted.payload);
    let event: PurseEvent = event.map_err(|source| StartError::Entry {
        journal: name,
        source: source.into(),
    })?;
    Ok(match event {
        PurseEvent::Receipted { receipt, .. } => Some(receipt.receipt.amount),
        _ => None,
    })
}

/// What is held for a request. Dropped before anything is signed for it, it
/// costs nothing; later its receipt says what it cost.
pub(crate) struct Held {
    budgets: Arc<Budgets>,
    request: RequestId,
    day: u64,
    asked: bool,
}

impl Held {
    /// Makes it durable, with the channel over which it is to be paid.
    pub(crate) async fn write(&self, channel: ChannelId) -> Result<(), AppendError> {
        let entries = {
            let mut today = self.budgets.today();
            let Some(hold) = today.holds.get_mut(&self.request) else {
                // Another day has begun, of which it does not take.
                return Ok(());
            };
            hold.channel = Some(channel);
            let held = Line::Held {
                request: self.request,
                key: hold.key.clone(),
                model: hold.model.clone(),
                most: hold.price.most,
                token: Some(hold.price.token),
                rate: hold.price.rate.clone(),
                channel,
            };
            let ended = today.unwritten.len().min(MAX_ENTRIES - 1);
            let ended = today.unwritten.drain(..ended);
            let mut entries: Vec<_> = ended.map(|line| line.written()).collect();
            entries.push(held.written());
            entries
        };
        let journal = self.budgets.store.journal(&journal_of(self.day));
        journal.append(entries).await.map(drop)
    }

    /// Something is signed for it.
    pub(crate) fn asked(&mut self) {
        self.asked = true;
        if let Some(hold) = self.budgets.today().holds.get_mut(&self.request) {
            hold.asked = true;
        }
    }

    /// The provider refused it.
    pub(crate) fn refused(&self) {
        self.budgets.today().end(self.request, Amount::ZERO);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.asked {
            self.budgets.today().end(self.request, Amount::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use market::B256;
    use proptest::prelude::*;

    use super::*;

    const NOON: Timestamp = Timestamp(DAY_S / 2);

    const MOR: Address = Address::repeat_byte(1);
    const DOLLAR: Address = Address::repeat_byte(2);
    const OTHER: Address = Address::repeat_byte(3);

    fn allowed(address: Address, amount: u128) -> Allowance {
        let coin = Coin::Token {
            address,
            symbol: "MOR".into(),
            decimals: 18,
        };
        let amount = Amount::new(amount);
        Allowance { coin, amount }
    }

    fn budget(per_day: u128) -> Budget {
        Budget {
            key: "alice".into(),
            per_day: vec![allowed(MOR, per_day)],
            models: BTreeMap::from([("small".into(), vec![allowed(MOR, 10)])]),
        }
    }

    /// So much of a token that is worth so many millionths of a dollar.
    fn price(token: Address, most: u128, micro_usd: Option<u64>) -> Price {
        let rate = micro_usd.map(|micro_usd| UsdRate {
            token,
            decimals: 0,
            micro_usd,
            source: "a test".into(),
            at: None,
        });
        let most = Amount::new(most);
        Price {
            token,
            most,
            least: most,
            rate,
        }
    }

    fn request(n: u8) -> RequestId {
        RequestId([n; 16].into())
    }

    fn hold(today: &mut Today, n: u8, model: &str, most: u128, now: Timestamp) -> bool {
        let held = held(today, &budget(100), n, model, price(MOR, most, None), now);
        held.is_ok()
    }

    fn held(
        today: &mut Today,
        budget: &Budget,
        n: u8,
        model: &str,
        price: Price,
        now: Timestamp,
    ) -> Result<(), BudgetError> {
        let buys = Purchase {
            provider: OTHER,
            model,
            symbol: "USDC",
        };
        today.hold(budget, request(n), buys, price, now)
    }

    fn figures(today: &Today) -> (u128, u128) {
        let tally = today.keys["alice"].all.tokens[&MOR];
        (tally.spent.base_units(), tally.held.base_units())
    }

    #[test]
    fn a_hold_gives_back_what_the_receipt_leaves_of_it() {
        let mut today = Today::default();
        assert!(hold(&mut today, 1, "large", 60, NOON));
        assert!(!hold(&mut today, 2, "large", 41, NOON));
        today.end(request(1), Amount::new(20));
        today.end(request(1), Amount::new(20));
        assert_eq!(figures(&today), (20, 0));
        assert!(hold(&mut today, 2, "large", 80, NOON));
        assert_eq!(figures(&today), (20, 80));
    }

    #[test]
    fn what_helps_depends_on_what_falls_short() {
        let helps = |budget: u128, spent: u128, needed: u128, least: u128| {
            let [budget, spent, needed, least] = [budget, spent, needed, least].map(Amount::new);
            let short = Short {
                model: None,
                coin: Coin::Usd,
                budget,
                spent,
                held: Amount::ZERO,
                needed,
                least,
                resets_in_s: 60,
            };
            short.remedy()
        };
        assert_eq!(helps(0, 0, 10, 5), Remedy::Shut);
        assert_eq!(helps(4, 0, 10, 5), Remedy::ShorterRequest);
        assert_eq!(helps(9, 0, 10, 5), Remedy::ShorterAnswer);
        assert_eq!(helps(10, 6, 10, 5), Remedy::Wait);
        assert_eq!(helps(10, 1, 10, 5), Remedy::ShorterOrWait);
    }

    #[test]
    fn a_models_budget_holds_beside_that_of_all() {
        let mut today = Today::default();
        assert!(!hold(&mut today, 1, "small", 11, NOON));
        assert!(hold(&mut today, 1, "small", 10, NOON));
        let one = price(MOR, 1, None);
        let refused = held(&mut today, &budget(100), 2, "small", one, NOON);
        let error = refused.unwrap_err();
        assert!(!error.may_pass_soon() || figures(&today).1 > 0);
        let told = error.to_string();
        assert!(told.contains("for model \"small\""), "{told}");
        assert!(told.contains("in 12 h 0 min"), "{told}");
        assert!(hold(&mut today, 2, "large", 90, NOON));
    }

    #[test]
    fn the_next_day_begins_with_nothing_and_a_clock_that_goes_back_changes_nothing() {
        let mut today = Today::default();
        assert!(hold(&mut today, 1, "large", 100, NOON));
        let morning = Timestamp(DAY_S);
        assert!(hold(&mut today, 2, "large", 100, morning));
        // It is of yesterday.
        today.end(request(1), Amount::new(100));
        assert_eq!(figures(&today), (0, 100));
        assert!(!hold(&mut today, 3, "large", 1, NOON));
    }

    #[test]
    fn what_is_given_up_costs_nothing_until_its_receipt_comes() {
        let mut today = Today::default();
        let channel = ChannelId(B256::repeat_byte(7));
        for n in 1..=3 {
            assert!(hold(&mut today, n, "large", 10, NOON));
            let hold = today.holds.get_mut(&request(n)).unwrap();
            (hold.channel, hold.asked) = (Some(channel), n < 3);
        }
        today.give_up(channel, |it| it == request(2));
        assert_eq!(figures(&today), (0, 20));
        today.end(request(1), Amount::new(4));
        assert_eq!(figures(&today), (4, 20));
    }

    #[test]
    fn each_token_counts_by_itself_and_one_that_is_not_named_is_not_paid() {
        let mut today = Today::default();
        let both = Budget {
            per_day: vec![allowed(MOR, 100), allowed(DOLLAR, 20)],
            ..budget(0)
        };
        let mut ask = |n, token, most| {
            let price = price(token, most, Some(1));
            held(&mut today, &both, n, "large", price, NOON)
        };
        assert_eq!(ask(1, MOR, 100), Ok(()));
        assert_eq!(ask(2, DOLLAR, 20), Ok(()));
        for token in [MOR, DOLLAR] {
            assert!(matches!(ask(3, token, 1), Err(BudgetError::Short(_))));
        }
        let refused = ask(3, OTHER, 1).unwrap_err();
        assert!(matches!(refused, BudgetError::Token { model: None, .. }));
        let told = refused.to_string();
        assert!(told.contains("names no amount of USDC"), "{told}");
        assert!(!refused.may_pass_soon());
        // The model's own budget names MOR alone.
        let dollar = price(DOLLAR, 1, None);
        let refused = held(&mut Today::default(), &both, 3, "small", dollar, NOON);
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("for model \"small\"")
        );
    }

    #[test]
    fn in_dollars_all_tokens_count_together_by_the_rate_at_which_they_were_held() {
        let mut today = Today::default();
        let ten = Allowance {
            coin: Coin::Usd,
            amount: Amount::from_decimal("10", USD_DECIMALS).unwrap(),
        };
        let budget = Budget {
            key: "alice".into(),
            per_day: vec![ten],
            models: BTreeMap::new(),
        };
        let ask = |today: &mut Today, n, token, most, micro_usd| {
            let price = price(token, most, micro_usd);
            held(today, &budget, n, "large", price, NOON)
        };
        assert_eq!(ask(&mut today, 1, MOR, 2, Some(2_500_000)), Ok(()));
        assert_eq!(ask(&mut today, 2, DOLLAR, 4, Some(1_000_000)), Ok(()));
        let error = ask(&mut today, 3, DOLLAR, 2, Some(1_000_000)).unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("is 10 USD a day; 0 are spent, 9 are held"),
            "{told}"
        );
        // It came to 1 of 2, at the rate of then, whatever it is now.
        today.end(request(1), Amount::new(1));
        let usd = today.keys["alice"].all.usd;
        assert_eq!(usd.spent.to_decimal(USD_DECIMALS), "2.5");
        assert_eq!(usd.held.to_decimal(USD_DECIMALS), "4");
        assert_eq!(ask(&mut today, 3, MOR, 1, Some(3_500_000)), Ok(()));
        // What cannot be counted is not paid.
        let refused = ask(&mut today, 4, MOR, 0, None).unwrap_err();
        assert!(matches!(refused, BudgetError::NoRate { .. }));
    }

    #[test]
    fn a_line_of_before_there_were_several_tokens_counts_in_mor() {
        let line = format!(
            r#"{{"event":"held","request":"{}","key":"alice","model":"m","most":"7","channel":"{}"}}"#,
            request(1),
            ChannelId(B256::repeat_byte(7))
        );
        let mut today = Today::default();
        today.replay(serde_json::from_str(&line).unwrap(), MOR);
        assert_eq!(figures(&today), (0, 7));
    }

    proptest! {
        #[test]
        fn what_is_spent_and_held_never_exceeds_the_budget(
            deeds in prop::collection::vec((0_u8..12, 0_u128..60, any::<bool>()), 0..60),
        ) {
            let mut today = Today::default();
            for (n, amount, ends) in deeds {
                let amount = Amount::new(amount);
                match today.holds.get(&request(n)).map(|hold| hold.price.most) {
                    Some(most) if ends => today.end(request(n), amount.min(most)),
                    Some(_) => {}
                    None => _ = hold(&mut today, n, "large", amount.base_units(), NOON),
                }
                if let Some(view) = today.keys.get("alice") {
                    let held = today.holds.values().map(|it| it.price.most.base_units());
                    let held: u128 = held.sum();
                    let tally = view.all.tokens[&MOR];
                    prop_assert_eq!(tally.held.base_units(), held);
                    prop_assert!(tally.spent.base_units() + held <= 100);
                }
            }
        }
    }
}
