//! The books after a story: both journals and the chain, compared claim by
//! claim and to the base unit.

use std::path::Path;
use std::time::Duration;

use alloy_primitives::keccak256;
use market::{
    Address, Amount, ChannelConfig, ChannelId, ChannelState, Ledger, Outcome, Purse, PurseEvent,
    STEP_TOKENS, Till, TillEvent,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use store::{OpenError, Store};
use tokio::time::{Instant, sleep};

use crate::backend::INPUT_TOKENS;
use crate::process::{PATIENCE, Running};
use crate::town::Town;

/// Between two looks at the chain when nothing may be missed.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Between the beginning of a process and its own program, at most.
const STARTED_WITHIN: Duration = Duration::from_secs(5);

/// What both wallets held before the first answer.
pub(crate) struct Opening {
    provider: Address,
    payer: Address,
    pub(crate) provider_wallet: Amount,
    pub(crate) payer_wallet: Amount,
}

impl Opening {
    pub(crate) async fn of(town: &Town, provider: &Running, consumer: &Running) -> Self {
        let address = |text: String| text.parse::<Address>().unwrap();
        let (provider, payer) = (
            address(provider.said("provider")),
            address(consumer.said("payer")),
        );
        Self {
            provider,
            payer,
            provider_wallet: wallet(town, provider).await,
            payer_wallet: wallet(town, payer).await,
        }
    }

    /// All that the provider claimed on chain.
    pub(crate) async fn claimed(&self, town: &Town) -> Amount {
        let ledger = town.ledger().await;
        let receiver = ledger.receiver(self.provider, ledger.mor()).await.unwrap();
        receiver.total_claimed
    }

    /// Returns as soon as it claimed more than this.
    pub(crate) async fn claimed_beyond(&self, town: &Town, before: Amount) {
        let ledger = town.ledger().await;
        let claimed = async || {
            let receiver = ledger.receiver(self.provider, ledger.mor()).await.unwrap();
            receiver.total_claimed
        };
        until("claimed", async || claimed().await > before).await;
    }

    /// Returns as soon as so much is settled.
    pub(crate) async fn settled(&self, town: &Town, total: Amount) {
        let ledger = town.ledger().await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let receiver = ledger.receiver(self.provider, ledger.mor()).await.unwrap();
            if receiver.total_settled >= total {
                return;
            }
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(in_time, "{total} never settled: {receiver:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(crate) async fn wallet(town: &Town, owner: Address) -> Amount {
    let ledger = town.ledger().await;
    ledger.balance(ledger.mor(), owner).await.unwrap()
}

/// A channel as the consumer's journal has it.
#[derive(Deserialize)]
pub(crate) struct Opened {
    pub(crate) config: ChannelConfig,
}

/// Opens what the process that wrote it has left. Whoever starts a process in
/// another thread holds this one's locks, too, until that runs.
pub(crate) async fn opened(file: &Path) -> Store {
    let deadline = Instant::now() + STARTED_WITHIN;
    loop {
        match Store::open(file) {
            Err(OpenError::InUse { .. }) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
            opened => return opened.unwrap(),
        }
    }
}

/// The events of the one journal whose name starts like this.
pub(crate) async fn journal<E: DeserializeOwned>(file: &Path, prefix: &str) -> Vec<E> {
    let store = opened(file).await;
    let names = store.journals(prefix).await.unwrap();
    assert_eq!(names.len(), 1, "one channel was enough: {names:?}");
    let entries = store.journal(&names[0]).load().await.unwrap();
    store.close().await;
    // The first entry of a till says which channel it is; that is no event.
    entries
        .iter()
        .filter_map(|entry| serde_json::from_slice(&entry.payload).ok())
        .collect()
}

/// Both sides' books, from their journals.
struct Books {
    channel: ChannelId,
    purse: Purse,
    till: Till,
    /// The totals of the claims that the provider knows of, in their order.
    claims: Vec<Amount>,
    /// Answers that came whole.
    whole: usize,
}

impl Books {
    async fn of(town: &Town) -> Self {
        let purse: Vec<PurseEvent> = journal(&town.consumer_journal(), "consumer/purse/").await;
        let till: Vec<TillEvent> = journal(&town.provider_journal(), "till/").await;
        let channel = till.iter().find_map(|event| match event {
            TillEvent::Receipted { receipt } => Some(receipt.channel),
            _ => None,
        });
        let channel = channel.unwrap();
        let claims = till.iter().filter_map(|event| match event {
            TillEvent::Claimed { total } => Some(*total),
            _ => None,
        });
        let whole = till.iter().filter(|event| {
            matches!(event, TillEvent::Receipted { receipt } if receipt.outcome == Outcome::Complete)
        });
        Self {
            whole: whole.count(),
            channel,
            claims: claims.collect(),
            till: Till::replay(channel, &till),
            purse: Purse::replay(&purse).unwrap(),
        }
    }
}

/// What the contract's events say of a channel's claims: each one's amount,
/// and the total after it.
async fn claims_on_chain(town: &Town, channel: ChannelId) -> Vec<(Amount, Amount)> {
    let ledger = town.ledger().await;
    let filter = json!({
        "address": ledger.domain().settlement,
        "topics": [keccak256("Claimed(bytes32,address,uint128,uint128)"), channel],
        "fromBlock": "0x0",
        "toBlock": "latest",
    });
    let logs = town.rpc("eth_getLogs", json!([filter])).await;
    let logs = logs.as_array().unwrap();
    let words = |log: &Value| {
        let data = log["data"].as_str().unwrap().trim_start_matches("0x");
        let word = |at: usize| u128::from_str_radix(&data[at * 64..(at + 1) * 64], 16).unwrap();
        (Amount::new(word(0)), Amount::new(word(1)))
    };
    logs.iter().map(words).collect()
}

/// What a story does, as far as its books show it.
#[derive(Clone, Copy)]
pub(crate) struct Story {
    /// At least so many receipts.
    pub(crate) answers: u64,
    /// At least so many claims.
    pub(crate) claims: usize,
    /// Base units for a token, both ways.
    pub(crate) token: Amount,
}

impl Story {
    fn tokens(&self, tokens: u32) -> Amount {
        Amount::new(self.token.base_units() * u128::from(tokens))
    }
}

/// Nothing runs any more: both journals tell the same. Then the provider
/// claims what is left, and the chain tells the same, too.
pub(crate) async fn agree(town: &Town, opening: &Opening, answers: u64) {
    let story = Story {
        answers,
        claims: 2,
        token: Amount::new(1),
    };
    books_agree(town, story).await;
    let earned = signed_and_charged(town).await;
    let provider = town.provider();
    opening.settled(town, earned).await;
    provider.stop();
    claims_agree(town, opening, story, earned).await;
}

/// What the provider has earned, says its journal.
pub(crate) async fn signed_and_charged(town: &Town) -> Amount {
    let Books { till, .. } = Books::of(town).await;
    till.charged().min(till.ceiling())
}

/// Both journals tell the same, and what is signed is no more than a step and
/// an input ahead of what is charged.
pub(crate) async fn books_agree(town: &Town, story: Story) {
    let books = Books::of(town).await;
    let Books {
        purse, till, whole, ..
    } = books;
    assert_eq!(
        purse.charged(),
        till.charged(),
        "what one side bills the other side books"
    );
    assert_eq!(purse.sequence(), till.sequence());
    assert!(
        till.sequence() >= story.answers,
        "an answer without a receipt: {}",
        till.sequence()
    );
    assert!(till.ceiling() <= purse.ceiling());
    let short = till.charged().less(till.ceiling());
    assert!(short.is_zero(), "the provider is {short} short");

    // The first voucher reckons with the request's bytes; the rest is the step.
    let input_estimate = story.tokens(200);
    let ahead = purse.ceiling().less(purse.charged());
    assert!(
        ahead <= story.tokens(STEP_TOKENS).plus(input_estimate).unwrap(),
        "{ahead} signed ahead"
    );
    // What the provider broke off costs no input.
    let inputs = u128::from(INPUT_TOKENS) * u128::try_from(whole).unwrap();
    assert!(purse.charged().base_units() >= inputs * story.token.base_units());
}

/// The chain against the provider's journal claim by claim, and against the
/// wallets and the escrow, to the base unit.
pub(crate) async fn claims_agree(town: &Town, opening: &Opening, story: Story, earned: Amount) {
    let Books {
        channel,
        purse,
        till,
        claims,
        ..
    } = Books::of(town).await;
    let on_chain = claims_on_chain(town, channel).await;
    assert!(
        on_chain.len() >= story.claims,
        "{} claims during the story",
        on_chain.len()
    );
    let mut total = Amount::ZERO;
    for (amount, after) in &on_chain {
        total = total.plus(*amount).unwrap();
        assert_eq!(total, *after, "{on_chain:?}");
    }
    assert_eq!(total, earned);
    assert_eq!(till.claimed(), earned, "the journal's last word on claims");
    // A claim that a kill kept out of the journal is in the total of the next entry.
    for journaled in &claims {
        assert!(
            on_chain.iter().any(|(_, after)| after == journaled),
            "{journaled} is in the journal, on chain is {on_chain:?}"
        );
    }

    let ledger = town.ledger().await;
    let mor = ledger.mor();
    let ChannelState {
        balance: deposits,
        total_claimed,
        withdrawal,
    } = ledger.channel(channel).await.unwrap();
    assert_eq!((total_claimed, withdrawal), (earned, None));
    assert!(purse.ceiling() <= deposits, "signed for what is not there");
    let receiver = ledger.receiver(opening.provider, mor).await.unwrap();
    assert_eq!(
        (receiver.total_claimed, receiver.total_settled),
        (earned, earned)
    );

    let gained = wallet(town, opening.provider).await;
    assert_eq!(gained.minus(opening.provider_wallet), Ok(earned));
    let opened: Vec<Opened> = journal(&town.consumer_journal(), "consumer/channels").await;
    let pseudonym = wallet(town, opened[0].config.payer).await;
    let left = wallet(town, opening.payer).await.plus(pseudonym).unwrap();
    assert_eq!(opening.payer_wallet.minus(left), Ok(deposits));
    let escrow = ledger.balance(mor, ledger.domain().settlement).await;
    assert_eq!(escrow.unwrap(), deposits.minus(earned).unwrap());
}
