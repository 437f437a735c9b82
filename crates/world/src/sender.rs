//! The one owner of an account's nonce, as in the node: the shell that a real
//! node has around [`chain::sender::machine`], on virtual time.
//!
//! What is signed, sent, looked at and told when is the machine's word. Here
//! its effects are carried out, one after the other: like the node's, this
//! shell waits for its journal before it does anything else.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chain::sender::fees::Fees;
use chain::sender::machine::{
    Attempt, Effect, Entry, Event as Input, Kept, Look, Machine, Notice, Outcome as End, Policy,
    Ticket, What,
};
use chain::sender::words::Said;
use chain::{Ended, OpenTxs, SignedTx};
use market::{Address, B256, TxHash};
use serde::{Deserialize, Serialize};

use crate::chain::{Op, Outcome, Tx, digest};
use crate::disk::{Book, Written};
use crate::people;
use crate::plan::{Fault, Mutant};
use crate::town::{Ask, Timer, Token, Town, Who};

/// As patient and as generous as the node is on a public chain.
pub(crate) const POLICY: Policy = Policy::PUBLIC;
/// How long a caller waits, as in the node.
const PATIENCE_MS: u64 = 180_000;
/// What every transaction is said to need.
pub(crate) const GAS: u64 = 100_000;

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Deposit(usize),
    Claim,
    Settle,
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    /// Before it is sent.
    Signed(SignedTx),
    /// Who waited knows that it was included.
    Told(TxHash),
    /// No more need be known of it.
    Ended(TxHash, Ended),
}

/// What is in [`SignedTx::raw`] here.
#[derive(Serialize, Deserialize)]
struct Raw {
    gas: u64,
    fee_per_gas: u64,
    tip_per_gas: u64,
    op: Op,
}

/// Who waits for a wish.
struct Asker {
    op: Op,
    why: Why,
    /// It lost its patience.
    gone: bool,
}

/// What a wish takes.
type Price = Result<(Fees, u64), String>;

/// Everything that an account has sent and is about to send.
pub(crate) struct Sender {
    account: Address,
    machine: Machine,
    askers: BTreeMap<Ticket, Asker>,
    /// Nonces go out in the order of the wishes.
    prices: BTreeMap<Ticket, Option<Price>>,
    /// What the machine knows by hash.
    signed: BTreeMap<TxHash, Tx>,
    next_ticket: u64,
    /// What came from outside, and is taken in when all that went before is done.
    inbox: VecDeque<Input>,
    /// What effects brought.
    events: VecDeque<Input>,
    effects: VecDeque<Effect>,
    /// The line that is on its way to the disk.
    writing: Option<Entry>,
    /// It is at work.
    turning: bool,
    /// The machine is woken then; zero: no timer runs.
    wake_ms: u64,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            account: Address::ZERO,
            machine: Machine::new(POLICY),
            askers: BTreeMap::new(),
            prices: BTreeMap::new(),
            signed: BTreeMap::new(),
            next_ticket: 0,
            inbox: VecDeque::new(),
            events: VecDeque::new(),
            effects: VecDeque::new(),
            writing: None,
            turning: false,
            wake_ms: 0,
        }
    }
}

impl Sender {
    /// What the journal knows. None: it cannot be read.
    pub(crate) fn resume(account: Address, lines: &[String], now: Duration) -> Option<Self> {
        let mut open = OpenTxs::default();
        for line in lines {
            take(&mut open, serde_json::from_str(line).ok()?);
        }
        let (mut kept, mut signed) = (Vec::new(), BTreeMap::new());
        for left in open.left() {
            let tx = read(&left.tx)?;
            kept.push(Kept {
                attempt: tx.attempt,
                told: left.told,
            });
            signed.insert(tx.attempt.hash, tx);
        }
        Some(Self {
            account,
            machine: Machine::restored(POLICY, &kept, now),
            signed,
            ..Self::default()
        })
    }
}

/// Adds a line to what is open.
pub(crate) fn take(open: &mut OpenTxs, line: Line) {
    match line {
        Line::Signed(tx) => open.signed(tx),
        Line::Told(hash) => open.told(hash),
        Line::Ended(hash, how) => open.ended(hash, how),
    }
}

/// What the journal has, as it was signed.
fn read(tx: &SignedTx) -> Option<Tx> {
    let raw: Raw = serde_json::from_slice(&tx.raw).ok()?;
    let attempt = Attempt {
        hash: tx.hash,
        nonce: tx.nonce,
        intent: tx.intent,
        gas: raw.gas,
        fees: Fees {
            fee_per_gas: raw.fee_per_gas.into(),
            tip_per_gas: raw.tip_per_gas.into(),
        },
    };
    Some(Tx {
        from: tx.account,
        attempt,
        op: raw.op,
    })
}

fn written(tx: &Tx) -> SignedTx {
    let Attempt {
        hash,
        nonce,
        intent,
        gas,
        fees,
    } = tx.attempt;
    let wei = |wei: u128| u64::try_from(wei).expect("the policy's ceiling is below that");
    let raw = Raw {
        gas,
        fee_per_gas: wei(fees.fee_per_gas),
        tip_per_gas: wei(fees.tip_per_gas),
        op: tx.op.clone(),
    };
    let raw = serde_json::to_vec(&raw).expect("it has only string keys");
    SignedTx {
        chain_id: people::DOMAIN.chain_id,
        account: tx.from,
        nonce,
        intent,
        hash,
        raw: raw.into(),
    }
}

/// The wish: what is repeated after a crash is known again by it.
fn intent(op: &Op) -> B256 {
    digest(op)
}

impl Town {
    fn sender(&mut self, who: Who) -> Option<&mut Sender> {
        match who {
            Who::Consumer(at) => Some(&mut self.consumers[at].live.as_mut()?.sender),
            Who::Provider(at) => Some(&mut self.providers[at].live.as_mut()?.sender),
        }
    }

    fn machine_time(&self) -> Duration {
        Duration::from_millis(self.now_ms)
    }

    /// The sender of a node that starts: all that it knows is in its journal.
    pub(crate) fn sender_starts(&mut self, who: Who) -> Option<Sender> {
        let (account, now) = (self.account(who), self.machine_time());
        if self.plan.mutant == Some(Mutant::ForgetTransaction) {
            self.disk(who).forget(Book::Sent, "Signed");
        }
        let sender = Sender::resume(account, self.disk(who).read(Book::Sent), now);
        let Some(sender) = sender else {
            let problem = format!("{who:?} cannot read its journal of transactions");
            self.violate(6, problem);
            return None;
        };
        let known = sender.machine.attempts().map(|attempt| attempt.hash);
        if let Err(problem) = self.oracle.sends_again(who, known.collect()) {
            self.violate(6, problem);
        }
        Some(sender)
    }

    /// Somebody wants something written.
    pub(crate) fn transact(&mut self, who: Who, op: Op, why: Why) {
        let Some(sender) = self.sender(who) else {
            return;
        };
        let ticket = Ticket(sender.next_ticket);
        sender.next_ticket += 1;
        let intent = intent(&op);
        let asker = Asker {
            op,
            why,
            gone: false,
        };
        sender.askers.insert(ticket, asker);
        sender.inbox.push_back(Input::Wished { ticket, intent });
        self.timer(who, PATIENCE_MS, Timer::Patience(ticket));
        self.turn(who);
    }

    /// Who waits does not wait any longer.
    pub(crate) fn patience_ends(&mut self, who: Who, ticket: Ticket) {
        let Some(sender) = self.sender(who) else {
            return;
        };
        if let Some(asker) = sender.askers.get_mut(&ticket)
            && !std::mem::replace(&mut asker.gone, true)
        {
            let why = asker.why;
            self.sent(who, why, Err("it was not confirmed in time".to_owned()));
        }
    }

    /// Time passed.
    pub(crate) fn tick(&mut self, who: Who) {
        let now_ms = self.now_ms;
        let Some(sender) = self.sender(who) else {
            return;
        };
        if sender.wake_ms == 0 || now_ms < sender.wake_ms {
            return;
        }
        sender.wake_ms = 0;
        self.came(who, Input::Tick);
    }

    /// Something came from outside.
    fn came(&mut self, who: Who, input: Input) {
        if let Some(sender) = self.sender(who) {
            sender.inbox.push_back(input);
            self.turn(who);
        }
    }

    /// Gives the machine what came, and does what it asks for, until it waits
    /// for the journal or for something from outside.
    pub(crate) fn turn(&mut self, who: Who) {
        let life = self.life(who);
        let now = self.machine_time();
        let Some(sender) = self.sender(who) else {
            return;
        };
        if std::mem::replace(&mut sender.turning, true) {
            return;
        }
        while self.lives(who, Some(life)) {
            let Some(sender) = self.sender(who) else {
                return;
            };
            if sender.writing.is_some() {
                break;
            }
            if let Some(effect) = sender.effects.pop_front() {
                self.carry_out(who, effect);
                continue;
            }
            let next = sender.events.pop_front();
            let Some(input) = next.or_else(|| sender.inbox.pop_front()) else {
                break;
            };
            let effects = sender.machine.on(input, now);
            sender.effects.extend(effects);
        }
        if self.lives(who, Some(life)) {
            self.plan_tick(who);
        }
    }

    fn plan_tick(&mut self, who: Who) {
        let now_ms = self.now_ms;
        let Some(sender) = self.sender(who) else {
            return;
        };
        sender.turning = false;
        // What waits for the journal is woken by it.
        let wake = sender.machine.wake().filter(|_| sender.writing.is_none());
        let Some(wake) = wake else { return };
        let at_ms = u64::try_from(wake.as_millis()).unwrap_or(u64::MAX);
        let at_ms = at_ms.max(now_ms + 1);
        if sender.wake_ms == 0 || at_ms < sender.wake_ms {
            sender.wake_ms = at_ms;
            self.timer(who, at_ms - now_ms, Timer::Tick);
        }
    }

    fn carry_out(&mut self, who: Who, effect: Effect) {
        match effect {
            Effect::Price { ticket, .. } => {
                if let Some(sender) = self.sender(who) {
                    sender.prices.insert(ticket, None);
                }
                self.question(who, Ask::Price(ticket));
            }
            Effect::Sign {
                what,
                intent,
                nonce,
                gas,
                fees,
            } => self.sign_tx(who, what, intent, nonce, (gas, fees)),
            Effect::Journal(entry) => self.journal(who, entry),
            Effect::Send(hash) => {
                if !self.effect(who) {
                    return;
                }
                if let Err(problem) = self.oracle.sends(who, hash) {
                    self.violate(2, problem);
                }
                let tx = self.sender(who).and_then(|s| s.signed.get(&hash).cloned());
                if let Some(tx) = tx {
                    self.tally.handed_in += 1;
                    self.question(who, Ask::HandIn(Box::new(tx)));
                }
            }
            Effect::Look(wanted) => self.question(who, Ask::Look(wanted)),
            Effect::Tell(ticket, end) => self.tell_asker(who, ticket, end),
            Effect::Forget(hashes) => {
                if let Some(sender) = self.sender(who) {
                    for hash in hashes {
                        sender.signed.remove(&hash);
                    }
                }
            }
            Effect::Say(notice) => self.notice(&notice),
        }
    }

    fn sign_tx(
        &mut self,
        who: Who,
        what: What,
        intent: B256,
        nonce: u64,
        (gas, fees): (u64, Fees),
    ) {
        let Some(sender) = self.sender(who) else {
            return;
        };
        let account = sender.account;
        let op = match what {
            What::Again(hash) => sender.signed.get(&hash).map(|tx| tx.op.clone()),
            What::Wish(ticket) => sender.askers.get(&ticket).map(|asker| asker.op.clone()),
            What::Nothing => Some(Op::Nothing),
        };
        let signed = op.map(|op| Tx::sign(account, intent, nonce, (gas, fees), op));
        let attempt = signed.as_ref().map(|tx| tx.attempt);
        let input = match (signed, attempt) {
            (Some(tx), Some(attempt)) => {
                sender.signed.insert(attempt.hash, tx);
                Input::Signed(attempt)
            }
            _ => Input::Unwritten(Entry::Signed(Attempt {
                hash: TxHash::ZERO,
                nonce,
                intent,
                gas,
                fees,
            })),
        };
        sender.events.push_back(input);
        let Some(attempt) = attempt else { return };
        self.trace.number(u128::from(nonce));
        self.trace.number(fees.fee_per_gas);
        let new = matches!(what, What::Wish(_));
        if let Err(problem) = self.oracle.signs(who, &attempt, new) {
            self.violate(2, problem);
        }
    }

    fn journal(&mut self, who: Who, entry: Entry) {
        let Some(sender) = self.sender(who) else {
            return;
        };
        let line = match entry {
            Entry::Signed(attempt) => {
                let tx = sender.signed.get(&attempt.hash);
                Line::Signed(written(tx.expect("it was signed just now")))
            }
            Entry::Told(hash) => Line::Told(hash),
            Entry::Ended(hash, how) => Line::Ended(hash, how),
        };
        let line = serde_json::to_string(&line).expect("it has only string keys");
        if self.plan.mutant == Some(Mutant::SendBeforeJournal)
            && let Some(sender) = self.sender(who)
        {
            sender.events.push_back(Input::Written(entry));
            self.append(who, Book::Sent, vec![line], Token::Sent);
            return;
        }
        if let Some(sender) = self.sender(who) {
            sender.writing = Some(entry);
        }
        self.append(who, Book::Sent, vec![line], Token::Sent);
    }

    /// The line is in the journal, or is not.
    pub(crate) fn tx_written(&mut self, who: Who, written: Written) {
        let Some(sender) = self.sender(who) else {
            return;
        };
        let Some(entry) = sender.writing.take() else {
            return;
        };
        sender.events.push_back(match written {
            Written::Durable => Input::Written(entry),
            Written::Full | Written::Broken => Input::Unwritten(entry),
        });
        self.turn(who);
    }

    fn tell_asker(&mut self, who: Who, ticket: Ticket, end: End) {
        let included = matches!(end, End::Included(_));
        let outcome = match end {
            End::Included(inclusion) if inclusion.succeeded => Ok(()),
            End::Included(inclusion) => {
                let reason = self.chain.outcome(&inclusion.hash);
                Err(reason.and_then(Result::err).unwrap_or("reverted".into()))
            }
            other => Err(format!("{other:?}")),
        };
        let Some(sender) = self.sender(who) else {
            return;
        };
        let asker = sender.askers.remove(&ticket).filter(|asker| !asker.gone);
        let Some(Asker { why, op, .. }) = asker else {
            return sender.events.push_back(Input::Left(ticket));
        };
        sender.events.push_back(Input::Told(ticket));
        if included {
            self.oracle.told(who, intent(&op));
        }
        self.sent(who, why, outcome);
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Raised { .. } => self.tally.raised += 1,
            Notice::Undone { .. } => self.tally.undone += 1,
            _ => {}
        }
        self.note_notice(notice);
        // Nobody else has any of the keys.
        if let Notice::Taken { .. } = notice {
            self.violate(6, format!("{notice:?}: by whom?"));
        }
    }

    /// The endpoint said what a wish takes, or did not.
    pub(crate) fn priced(&mut self, who: Who, ticket: Ticket, read: Result<u64, String>) {
        let asked = self.chain.asked();
        let account = self.account(who);
        let Some(sender) = self.sender(who) else {
            return;
        };
        let op = sender.askers.get(&ticket).map(|asker| asker.op.clone());
        let tried = self.chain.tried(account, &op.unwrap_or(Op::Nothing));
        let price = read.and_then(|pending| {
            // What is bound to fail shows here.
            tried.map_err(|error| error.to_string())??;
            let fees = Fees::first(asked, GAS, &POLICY.ceiling);
            Ok((fees.map_err(|dear| dear.to_string())?, pending))
        });
        let Some(sender) = self.sender(who) else {
            return;
        };
        sender.prices.insert(ticket, Some(price));
        while let Some(first) = self.sender(who).and_then(|s| s.prices.first_entry())
            && first.get().is_some()
        {
            let (ticket, price) = first.remove_entry();
            if let Some(price) = price {
                self.price_is_known(who, ticket, price);
            }
        }
        self.turn(who);
    }

    fn price_is_known(&mut self, who: Who, ticket: Ticket, price: Price) {
        let Some(sender) = self.sender(who) else {
            return;
        };
        // What fills a gap has no asker.
        let gone = sender.askers.get(&ticket).is_some_and(|asker| asker.gone);
        match price {
            Ok((fees, pending)) if !gone => sender.inbox.push_back(Input::Priced {
                ticket,
                gas: GAS,
                fees,
                pending,
            }),
            refused => {
                sender.inbox.push_back(Input::Left(ticket));
                let asker = sender.askers.remove(&ticket);
                if let (Some(asker), Err(problem), false) = (asker, refused, gone) {
                    self.sent(who, asker.why, Err(problem));
                }
            }
        }
    }

    /// A transaction arrives at the endpoint, whatever became of who sent it.
    pub(crate) fn handed_in(&mut self, who: Who, life: u64, tx: Tx, fails: bool) {
        let hash = tx.attempt.hash;
        // An endpoint that gives no answer may have passed it on, or not.
        let arrives = !fails || self.dice.chance(5_000);
        let mut said = Said::Unknown;
        if arrives {
            said = self.chain.submit(tx);
            self.trace.text(&format!("{said:?}"));
            self.tally.transactions += u64::from(said == Said::Taken);
            self.blocks_wanted();
        }
        if self.lives(who, Some(life)) {
            let said = match fails {
                true => Said::Unknown,
                false => said,
            };
            self.came(who, Input::Said { hash, said });
        }
    }

    /// The chain was looked at, or could not be.
    pub(crate) fn looked(&mut self, who: Who, look: Result<Look, String>) {
        let input = match look {
            Ok(look) => Input::Looked(look),
            Err(_) => Input::Blind,
        };
        self.came(who, input);
    }

    /// Depths at which an endpoint sees transactions and their receipts.
    pub(crate) fn sight(&mut self, depth: usize) -> (usize, usize) {
        let other = self.happens(Fault::RpcStale, 400);
        let behind = self.dice.place(12);
        let receipts = if other { behind } else { depth };
        (depth, receipts)
    }

    fn sent(&mut self, who: Who, why: Why, outcome: Outcome) {
        match who {
            Who::Consumer(at) => self.consumer_sent(at, why, outcome),
            Who::Provider(at) => self.provider_sent(at, why, outcome),
        }
    }

    fn blocks_wanted(&mut self) {
        if !std::mem::replace(&mut self.mining, true) {
            self.after(1_000, crate::town::Event::Mine);
        }
    }
}
