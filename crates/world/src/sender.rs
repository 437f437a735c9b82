//! Transactions of one account: one owner of the nonce, journalled before
//! they are sent, watched until no reorganisation can reach them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use market::Address;
use serde::{Deserialize, Serialize};

use crate::chain::{Op, Outcome, REORG_MAX, Tx};
use crate::disk::{Book, Written};
use crate::plan::Fault;
use crate::town::{Ask, Event, Included, Timer, Token, Town, Who};

/// The fee that is offered first.
const FEE: u64 = 12;
/// The most that is ever offered.
const FEE_MAX: u64 = 400;
/// Without a block, a better fee is offered after so long.
const BUMP_MS: u64 = 9_000;
/// Between two looks, while something waits and while nothing does.
const POLL_MS: u64 = 2_000;
const WATCH_MS: u64 = 10_000;

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Deposit(usize),
    Claim,
    Settle,
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Sent(Box<Tx>),
    Final(u64),
}

struct Flight {
    tx: Tx,
    /// The same for a better fee, on its way to the journal.
    better: Option<Tx>,
    why: Option<Why>,
    journalled: bool,
    /// When that was last sent.
    sent_ms: u64,
}

/// Everything an account has sent and is about to send.
#[derive(Default)]
pub(crate) struct Sender {
    account: Address,
    next: u64,
    queue: VecDeque<(Op, Why)>,
    flights: BTreeMap<u64, Flight>,
    /// Sent before the last crash, and not seen in a block since.
    unsure: BTreeSet<u64>,
    asking: bool,
    /// The next look; none is planned if it is zero.
    poll_ms: u64,
}

impl Sender {
    /// What the journal knows.
    pub(crate) fn resume(account: Address, lines: &[String]) -> Self {
        let mut sender = Self {
            account,
            ..Self::default()
        };
        for line in lines {
            match serde_json::from_str(line) {
                Ok(Line::Sent(tx)) => {
                    sender.next = sender.next.max(tx.nonce + 1);
                    sender.unsure.insert(tx.nonce);
                    let flight = Flight {
                        tx: *tx,
                        better: None,
                        why: None,
                        journalled: true,
                        sent_ms: 0,
                    };
                    sender.flights.insert(flight.tx.nonce, flight);
                }
                Ok(Line::Final(nonce)) => {
                    sender.unsure.remove(&nonce);
                    sender.flights.remove(&nonce);
                }
                Err(_) => {}
            }
        }
        sender
    }

    /// Whether it is not known what came of an earlier life's transactions.
    pub(crate) fn is_unsure(&self) -> bool {
        !self.unsure.is_empty()
    }

    /// Whether something waits for a block.
    pub(crate) fn is_busy(&self) -> bool {
        let waits = |flight: &Flight| flight.why.is_some();
        self.is_unsure() || !self.queue.is_empty() || self.flights.values().any(waits)
    }
}

fn line(line: &Line) -> String {
    serde_json::to_string(line).expect("a transaction is JSON")
}

impl Town {
    fn sender(&mut self, who: Who) -> Option<&mut Sender> {
        match who {
            Who::Consumer(at) => Some(&mut self.consumers[at].live.as_mut()?.sender),
            Who::Provider(at) => Some(&mut self.providers[at].live.as_mut()?.sender),
        }
    }

    /// Sends a transaction, in its turn.
    pub(crate) fn transact(&mut self, who: Who, op: Op, why: Why) {
        let Some(sender) = self.sender(who) else {
            return;
        };
        sender.queue.push_back((op, why));
        self.next_tx(who);
    }

    fn next_tx(&mut self, who: Who) {
        let account = self.account(who);
        let Some(sender) = self.sender(who) else {
            return;
        };
        sender.account = account;
        let waits = sender.flights.values().any(|flight| flight.why.is_some());
        if sender.asking || waits || sender.queue.is_empty() || sender.is_unsure() {
            return;
        }
        sender.asking = true;
        self.question(who, Ask::Nonce);
    }

    /// The chain said how many transactions the account has, or did not.
    pub(crate) fn tx_nonce(&mut self, who: Who, nonce: Result<u64, String>) {
        let Some(sender) = self.sender(who) else {
            return;
        };
        sender.asking = false;
        let Ok(nonce) = nonce else {
            return self.timer(who, POLL_MS, Timer::NextTx);
        };
        let Some((op, why)) = sender.queue.pop_front() else {
            return;
        };
        let nonce = nonce.max(sender.next);
        sender.next = nonce + 1;
        let tx = Tx {
            from: sender.account,
            nonce,
            fee: FEE,
            op,
        };
        self.write_tx(who, tx, Some(why));
    }

    fn write_tx(&mut self, who: Who, tx: Tx, why: Option<Why>) {
        let nonce = tx.nonce;
        let written = line(&Line::Sent(Box::new(tx.clone())));
        let Some(sender) = self.sender(who) else {
            return;
        };
        let flight = Flight {
            tx,
            better: None,
            why,
            journalled: false,
            sent_ms: 0,
        };
        sender.flights.insert(nonce, flight);
        self.append(who, Book::Sent, vec![written], Token::Sent { nonce });
    }

    /// The next transaction's turn may have come.
    pub(crate) fn next_tx_again(&mut self, who: Who) {
        self.next_tx(who);
    }

    /// A transaction is in the journal, or is not.
    pub(crate) fn tx_written(&mut self, who: Who, nonce: u64, written: Written) {
        let Some(sender) = self.sender(who) else {
            return;
        };
        let Some(flight) = sender.flights.get_mut(&nonce) else {
            return;
        };
        let better = flight.better.take();
        if written == Written::Durable {
            flight.journalled = true;
            flight.tx = better.unwrap_or_else(|| flight.tx.clone());
            return self.send_tx(who, nonce);
        }
        // What was never sent is given up; a better fee is tried again later.
        if flight.sent_ms == 0
            && let Some(why) = flight.why
        {
            sender.flights.remove(&nonce);
            if sender.next == nonce + 1 {
                sender.next = nonce;
            }
            let problem = "the journal cannot be written".to_owned();
            self.sent(who, why, Err(problem));
        }
    }

    fn send_tx(&mut self, who: Who, nonce: u64) {
        if !self.effect(who) {
            return;
        }
        let now_ms = self.now_ms;
        let lost = self.happens(Fault::RpcTimeout, 500);
        let Some(sender) = self.sender(who) else {
            return;
        };
        let Some(flight) = sender.flights.get_mut(&nonce) else {
            return;
        };
        if !flight.journalled {
            return;
        }
        flight.sent_ms = now_ms.max(1);
        let tx = flight.tx.clone();
        self.trace.number(u128::from(tx.nonce));
        // An endpoint that times out may have passed it on, or not.
        if !lost || self.dice.chance(5_000) {
            if let Err(problem) = self.chain.submit(tx) {
                self.trace.text(problem);
            } else {
                self.tally.transactions += 1;
            }
        }
        self.blocks_wanted();
        self.look(who, POLL_MS);
    }

    /// Plans the next look, unless one comes sooner.
    pub(crate) fn look(&mut self, who: Who, wait_ms: u64) {
        let at_ms = self.now_ms + wait_ms;
        let Some(sender) = self.sender(who) else {
            return;
        };
        if sender.poll_ms == 0 || at_ms < sender.poll_ms {
            sender.poll_ms = at_ms;
            self.timer(who, wait_ms, Timer::Poll);
        }
    }

    /// Looks what became of everything that is not final.
    pub(crate) fn poll(&mut self, who: Who) {
        let now_ms = self.now_ms;
        let Some(sender) = self.sender(who) else {
            return;
        };
        if sender.poll_ms == 0 || now_ms < sender.poll_ms {
            return;
        }
        sender.poll_ms = 0;
        if sender.flights.is_empty() {
            return self.next_tx(who);
        }
        let nonces = sender.flights.keys().copied().collect();
        self.question(who, Ask::Included(nonces));
    }

    /// The chain said what is in it, or did not.
    pub(crate) fn tx_included(&mut self, who: Who, read: Result<Vec<Included>, String>) {
        let Ok(read) = read else {
            return self.look(who, POLL_MS);
        };
        let mut waits = false;
        for (nonce, found) in read {
            match found {
                Some((deep, outcome)) => self.tx_found(who, nonce, deep, outcome),
                None => {
                    waits = true;
                    self.tx_missing(who, nonce);
                }
            }
        }
        self.next_tx(who);
        let wait = match waits {
            true => POLL_MS,
            false => WATCH_MS,
        };
        self.look(who, wait);
    }

    fn tx_found(&mut self, who: Who, nonce: u64, deep: u64, outcome: Outcome) {
        let Some(sender) = self.sender(who) else {
            return;
        };
        sender.unsure.remove(&nonce);
        let Some(flight) = sender.flights.get_mut(&nonce) else {
            return;
        };
        let why = flight.why.take();
        if deep >= REORG_MAX {
            sender.flights.remove(&nonce);
            let written = line(&Line::Final(nonce));
            // Nobody waits for it: it is a shortcut for the next start.
            let token = Token::Opened {
                provider: usize::MAX,
            };
            self.append(who, Book::Sent, vec![written], token);
        }
        if let Some(why) = why {
            self.sent(who, why, outcome);
        }
    }

    /// Not in a block: it is sent again, for more if it has waited.
    fn tx_missing(&mut self, who: Who, nonce: u64) {
        let now_ms = self.now_ms;
        let Some(sender) = self.sender(who) else {
            return;
        };
        let Some(flight) = sender.flights.get_mut(&nonce) else {
            return;
        };
        let waited = now_ms.saturating_sub(flight.sent_ms) >= BUMP_MS;
        let may = flight.sent_ms > 0 && flight.better.is_none() && flight.tx.fee < FEE_MAX;
        if waited && may {
            let mut tx = flight.tx.clone();
            tx.fee = (tx.fee * 3 / 2).min(FEE_MAX);
            let written = line(&Line::Sent(Box::new(tx.clone())));
            flight.better = Some(tx);
            self.append(who, Book::Sent, vec![written], Token::Sent { nonce });
            return;
        }
        self.send_tx(who, nonce);
    }

    fn sent(&mut self, who: Who, why: Why, outcome: Outcome) {
        match who {
            Who::Consumer(at) => self.consumer_sent(at, why, outcome),
            Who::Provider(at) => self.provider_sent(at, why, outcome),
        }
        self.next_tx(who);
    }

    fn blocks_wanted(&mut self) {
        if !std::mem::replace(&mut self.mining, true) {
            self.after(1_000, Event::Mine);
        }
    }
}
