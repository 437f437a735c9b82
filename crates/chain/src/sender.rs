//! The one owner of an account's nonce.
//!
//! What is to be done when is decided by [`machine::Machine`], which is pure;
//! here its effects are carried out and its events come in: signing, the
//! journal, the nodes, the callers.
//!
//! There must be one [`Sender`] for each account of a chain. Another program
//! with the same key is noticed (its transactions take nonces), not planned for.

pub mod fees;
pub mod machine;
mod price;
mod sight;
pub mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::{Decodable2718, Encodable2718};
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use market::{LedgerError, TxHash, WalletKey};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::journal::{SignedTx, TxJournal};
use crate::rpc::{Receipt, Rpc};
use fees::{Ceiling, Fees};
use machine::{Attempt, Effect, Entry, Event, Kept, Look, Machine, Notice, Outcome, Policy};
use machine::{Ticket, What};
pub(crate) use price::fee_per_gas;
use price::{Price, too_poor};
use sight::{look, revert_reason};

/// Writes that wait for the owner; more wait with their callers.
const QUEUE: usize = 64;
/// Transactions of which no inclusion is known; more are not begun.
const OPEN_MAX: usize = 64;
/// How long an outcome that nobody waited for is kept for who repeats the wish.
const KEEP_UNTOLD: Duration = Duration::from_secs(600);
/// More is not paid for one unit of gas: 1000 gwei.
const FEE_PER_GAS_MAX_WEI: u128 = 1_000_000_000_000;

/// When a block stays.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Finality {
    /// With so many blocks, itself included.
    Depth(u64),
    /// When the chain says so by its tag `finalized`; with so many blocks where
    /// that tag is not served: 65 outlast a reorganisation of 64.
    TagOrDepth(u64),
}

impl Finality {
    fn at(self, head: u64) -> u64 {
        let (Self::Depth(depth) | Self::TagOrDepth(depth)) = self;
        (head + 1).saturating_sub(depth)
    }
}

/// How patient to be with a chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) policy: Policy,
    pub(crate) finality: Finality,
    /// How long a caller is kept waiting.
    pub(crate) patience: Duration,
}

impl Pace {
    /// For a chain on this machine, which has a block for each transaction and
    /// never takes one back: what is included is final, and is told.
    pub(crate) const LOCAL: Self = Self {
        policy: Policy {
            poll_min: Duration::from_millis(50),
            poll_max: Duration::from_secs(1),
            resend: Duration::from_secs(2),
            raise_after: Duration::from_secs(10),
            tell_depth: 1,
            keep_untold: KEEP_UNTOLD,
            open_max: OPEN_MAX,
            ceiling: Ceiling {
                fee_per_gas: FEE_PER_GAS_MAX_WEI,
                // Ten coins, which cost nothing here.
                cost: 10_000_000_000_000_000_000,
            },
        },
        finality: Finality::Depth(1),
        patience: Duration::from_secs(60),
    };
    /// For a public chain. Inclusion is told at once: the rollups that the
    /// market lives on order transactions in one place and take blocks back only
    /// when that place or the chain below fails, and a quarter of an hour until
    /// finality is too long for who waits to open a channel. What is taken back
    /// all the same is sent again, the same bytes, until it is final.
    pub(crate) const PUBLIC: Self = Self {
        policy: Policy::PUBLIC,
        finality: Finality::TagOrDepth(65),
        patience: Duration::from_secs(180),
    };
}

impl Policy {
    /// For a public chain. The simulator follows it too.
    pub const PUBLIC: Self = Self {
        poll_min: Duration::from_millis(500),
        poll_max: Duration::from_secs(5),
        resend: Duration::from_secs(20),
        raise_after: Duration::from_secs(30),
        tell_depth: 1,
        keep_untold: KEEP_UNTOLD,
        open_max: OPEN_MAX,
        ceiling: Ceiling {
            fee_per_gas: FEE_PER_GAS_MAX_WEI,
            // A twentieth of a coin: a claim of a hundred channels at 12 gwei.
            cost: 50_000_000_000_000_000,
        },
    };
}

/// A wish to write.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    /// Tells what it is for: a repeated wish has the same, also where its bytes differ.
    pub(crate) id: B256,
    /// Whom to call; `Create` for a new contract.
    pub(crate) to: TxKind,
    /// With what.
    pub(crate) data: Bytes,
    /// Coins to send along.
    pub(crate) value: U256,
}

/// Not included in time; it may still be.
#[derive(Debug, thiserror::Error)]
#[error(
    "the transaction was not confirmed within {} s; it is kept and sent again, and repeating the call waits for the same one",
    waited.as_secs()
)]
struct Unconfirmed {
    waited: Duration,
}

/// Too many are on their way.
#[derive(Debug, thiserror::Error)]
#[error("{most} transactions of this account have no known end yet; none is added")]
struct TooManyOpen {
    most: usize,
}

/// The journal failed; nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("the transaction could not be journalled, so it was not sent")]
struct Unjournalled;

/// The owner is gone.
#[derive(Debug, thiserror::Error)]
#[error("the sender of transactions has stopped")]
struct Stopped;

type Reply = oneshot::Sender<Result<Receipt, LedgerError>>;

struct Write {
    intent: Intent,
    reply: Reply,
}

/// Hands writes to the owner of the nonce. Dropping it stops the owner; what
/// was signed is in the journal.
pub(crate) struct Sender {
    writes: mpsc::Sender<Write>,
    patience: Duration,
    _owner: JoinSet<()>,
}

impl Sender {
    /// Starts the owner, which first goes after what the journal has open.
    pub(crate) async fn start(
        rpc: Rpc,
        chain_id: u64,
        key: Arc<WalletKey>,
        journal: Arc<dyn TxJournal>,
        pace: Pace,
    ) -> Result<Self, LedgerError> {
        let account = key.address();
        let open = journal.open().await.map_err(LedgerError::Unreachable)?;
        let (mut kept, mut signed) = (Vec::new(), BTreeMap::new());
        for open in open {
            let tx = open.tx;
            if tx.chain_id != chain_id || tx.account != account {
                continue;
            }
            let Some(attempt) = tx.attempt() else {
                tracing::error!(hash = %tx.hash, "the journal has a transaction that cannot be read");
                continue;
            };
            failpoint::hit("tx.reopened");
            let told = open.told;
            kept.push(Kept { attempt, told });
            signed.insert(tx.hash, tx);
        }
        let owner = Owner {
            machine: Machine::restored(pace.policy, &kept, Duration::ZERO),
            rpc,
            chain_id,
            account,
            key,
            journal,
            pace,
            started: Instant::now(),
            next_ticket: 0,
            askers: BTreeMap::new(),
            prices: BTreeMap::new(),
            handed: signed.keys().copied().collect(),
            signed,
            receipts: BTreeMap::new(),
            errands: JoinSet::new(),
        };
        let (writes, queue) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(owner.run(queue));
        Ok(Self {
            writes,
            patience: pace.patience,
            _owner: tasks,
        })
    }

    /// Writes, and returns once it is included and succeeded. Dropping the
    /// future before its transaction is signed takes the wish back; after
    /// that, the transaction goes on without its caller.
    pub(crate) async fn send(&self, intent: Intent) -> Result<Receipt, LedgerError> {
        let stopped = || LedgerError::Unreachable(Box::new(Stopped));
        let (reply, outcome) = oneshot::channel();
        let answered = async {
            let write = Write { intent, reply };
            self.writes.send(write).await.map_err(|_| stopped())?;
            outcome.await.map_err(|_| stopped())?
        };
        match tokio::time::timeout(self.patience, answered).await {
            Ok(outcome) => outcome,
            Err(_) => Err(LedgerError::Unreachable(Box::new(Unconfirmed {
                waited: self.patience,
            }))),
        }
    }
}

/// Who waits for a wish.
struct Asker {
    intent: Intent,
    reply: Reply,
    /// What the account must have for it, once that is known.
    needs: U256,
}

/// What an errand came back with.
enum Errand {
    Priced(Ticket, Result<Price, LedgerError>),
    Looked(Result<(Look, Vec<Receipt>), LedgerError>),
    Done(Event),
}

struct Owner {
    machine: Machine,
    rpc: Rpc,
    chain_id: u64,
    account: Address,
    key: Arc<WalletKey>,
    journal: Arc<dyn TxJournal>,
    pace: Pace,
    /// The machine's time begins here.
    started: Instant,
    next_ticket: u64,
    askers: BTreeMap<Ticket, Asker>,
    /// What it takes, once that is known: nonces go out in the order of the wishes.
    prices: BTreeMap<Ticket, Option<Result<Price, LedgerError>>>,
    /// The bytes of what the machine knows by hash.
    signed: BTreeMap<TxHash, SignedTx>,
    /// Of those, what was handed in, or may have been before a restart.
    handed: BTreeSet<TxHash>,
    receipts: BTreeMap<TxHash, Receipt>,
    errands: JoinSet<Errand>,
}

impl Owner {
    async fn run(mut self, mut queue: mpsc::Receiver<Write>) {
        loop {
            let wake = self.machine.wake().map(|at| self.started + at);
            let rest = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => core::future::pending().await,
                }
            };
            tokio::select! {
                Some(errand) = self.errands.join_next() => match errand {
                    Ok(errand) => self.came_back(errand).await,
                    Err(broken) => {
                        tracing::error!(%broken, "an errand of the sender broke off");
                        self.feed(Event::Blind).await;
                    }
                },
                write = queue.recv() => match write {
                    Some(write) => self.write(write).await,
                    None => break,
                },
                () = rest => self.feed(Event::Tick).await,
            }
        }
    }

    async fn write(&mut self, write: Write) {
        let gone = self
            .askers
            .iter()
            .filter(|(_, asker)| asker.reply.is_closed());
        for ticket in gone.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            self.askers.remove(&ticket);
            self.feed(Event::Left(ticket)).await;
        }
        let Write { intent, reply } = write;
        if reply.is_closed() {
            return;
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let id = intent.id;
        let needs = U256::ZERO;
        self.askers.insert(
            ticket,
            Asker {
                intent,
                reply,
                needs,
            },
        );
        let intent = id;
        failpoint::hit("tx.wished");
        self.feed(Event::Wished { ticket, intent }).await;
    }

    async fn came_back(&mut self, errand: Errand) {
        let event = match errand {
            Errand::Done(event) => {
                if matches!(event, Event::Said { .. }) {
                    failpoint::hit("tx.submitted");
                }
                event
            }
            Errand::Looked(Err(error)) => {
                tracing::debug!(%error, "the chain could not be looked at");
                Event::Blind
            }
            Errand::Looked(Ok((look, receipts))) => {
                if !receipts.is_empty() {
                    failpoint::hit("tx.included");
                }
                let known = receipts.into_iter().map(|r| (r.transaction_hash, r));
                self.receipts.extend(known);
                Event::Looked(look)
            }
            Errand::Priced(ticket, priced) => {
                self.prices.insert(ticket, Some(priced));
                return self.hand_out_prices().await;
            }
        };
        self.feed(event).await;
    }

    async fn hand_out_prices(&mut self) {
        while let Some(first) = self.prices.first_entry()
            && first.get().is_some()
        {
            let (ticket, priced) = first.remove_entry();
            if let Some(priced) = priced {
                let event = self.priced(ticket, priced);
                self.feed(event).await;
            }
        }
    }

    fn priced(&mut self, ticket: Ticket, priced: Result<Price, LedgerError>) -> Event {
        // What fills a gap has no asker.
        let asker = self.askers.get_mut(&ticket);
        let gone = asker.as_ref().is_some_and(|asker| asker.reply.is_closed());
        match priced {
            Ok(price) if !gone => {
                if let Some(asker) = asker {
                    asker.needs = price.total;
                }
                Event::Priced {
                    ticket,
                    gas: price.gas,
                    fees: price.fees,
                    pending: price.pending,
                }
            }
            refused => {
                if let (Some(asker), Err(error)) = (self.askers.remove(&ticket), refused) {
                    // The asker may have gone; nothing was signed for it.
                    let _ = asker.reply.send(Err(error));
                }
                Event::Left(ticket)
            }
        }
    }

    /// Gives the machine an event, carries out what it asks for, and so on.
    async fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.started.elapsed();
            for effect in self.machine.on(event, now) {
                events.extend(self.carry_out(effect).await);
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Price { ticket, .. } => self.price(ticket),
            Effect::Sign {
                what,
                intent,
                nonce,
                gas,
                fees,
            } => return Some(self.sign(what, intent, nonce, gas, fees)),
            Effect::Journal(entry) => return Some(self.journal(entry).await),
            Effect::Send(hash) => self.hand_in(hash),
            Effect::Look(wanted) => {
                let (rpc, account, finality) = (self.rpc.clone(), self.account, self.pace.finality);
                self.errands.spawn(async move {
                    Errand::Looked(look(&rpc, account, finality, wanted).await)
                });
            }
            Effect::Tell(ticket, outcome) => return self.tell(ticket, outcome),
            Effect::Forget(hashes) => {
                for hash in hashes {
                    self.signed.remove(&hash);
                    self.handed.remove(&hash);
                    self.receipts.remove(&hash);
                }
            }
            Effect::Say(notice) => self.say(&notice),
        }
        None
    }

    fn price(&mut self, ticket: Ticket) {
        let (rpc, account, ceiling) = (self.rpc.clone(), self.account, self.pace.policy.ceiling);
        let asked = self.askers.get(&ticket).map(|asker| asker.intent.clone());
        let intent = asked.unwrap_or_else(|| self.nothing());
        self.prices.insert(ticket, None);
        self.errands.spawn(async move {
            Errand::Priced(ticket, price::price(&rpc, account, &intent, &ceiling).await)
        });
    }

    /// A transaction to the account itself, of nothing.
    fn nothing(&self) -> Intent {
        Intent {
            id: B256::ZERO,
            to: self.account.into(),
            data: Bytes::new(),
            value: U256::ZERO,
        }
    }

    fn sign(&mut self, what: What, intent: B256, nonce: u64, gas: u64, fees: Fees) -> Event {
        let unsigned = match what {
            What::Again(hash) => self.signed.get(&hash).and_then(as_signed),
            What::Wish(ticket) => self.askers.get(&ticket).map(|asker| message(&asker.intent)),
            What::Nothing => Some(message(&self.nothing())),
        };
        let attempt = |hash| Attempt {
            hash,
            nonce,
            intent,
            gas,
            fees,
        };
        let Some(unsigned) = unsigned else {
            // Nothing is lost: it is not signed, so it is not journalled.
            return Event::Unwritten(Entry::Signed(attempt(TxHash::ZERO)));
        };
        let tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: fees.fee_per_gas,
            max_priority_fee_per_gas: fees.tip_per_gas,
            ..unsigned
        };
        let signature = self.key.sign(&tx.signature_hash());
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        let hash = *envelope.tx_hash();
        let tx = SignedTx {
            chain_id: self.chain_id,
            account: self.account,
            nonce,
            intent,
            hash,
            raw: envelope.encoded_2718().into(),
        };
        self.signed.insert(hash, tx);
        failpoint::hit("tx.signed");
        Event::Signed(attempt(hash))
    }

    async fn journal(&self, entry: Entry) -> Event {
        let written = match entry {
            Entry::Signed(attempt) => match self.signed.get(&attempt.hash) {
                Some(tx) => self.journal.signed(tx.clone()).await,
                None => Err("its bytes are lost".into()),
            },
            Entry::Told(hash) => self.journal.told(hash).await,
            Entry::Ended(hash, how) => self.journal.ended(hash, how).await,
        };
        match written {
            Ok(()) => {
                match entry {
                    Entry::Signed(_) => failpoint::hit("tx.journalled"),
                    Entry::Told(_) => {}
                    Entry::Ended(..) => failpoint::hit("tx.ended"),
                }
                Event::Written(entry)
            }
            Err(error) => {
                tracing::warn!(?entry, error, "the journal of transactions failed");
                Event::Unwritten(entry)
            }
        }
    }

    fn hand_in(&mut self, hash: TxHash) {
        if !self.handed.insert(hash) {
            failpoint::hit("tx.resent");
        }
        let (rpc, tx) = (self.rpc.clone(), self.signed.get(&hash).cloned());
        self.errands.spawn(async move {
            let said = match tx {
                Some(tx) => rpc.hand_in(&tx.raw).await,
                None => words::Said::Unknown,
            };
            Errand::Done(Event::Said { hash, said })
        });
    }

    fn tell(&mut self, ticket: Ticket, outcome: Outcome) -> Option<Event> {
        let Some(Asker { reply, needs, .. }) = self.askers.remove(&ticket) else {
            return Some(Event::Left(ticket));
        };
        let refused = |reason: String| Err(LedgerError::Refused { reason });
        let outcome = match outcome {
            Outcome::Included(inclusion) if inclusion.succeeded => {
                match self.receipts.get(&inclusion.hash) {
                    Some(receipt) => Ok(receipt.clone()),
                    None => return Some(Event::Left(ticket)),
                }
            }
            Outcome::Included(inclusion) => {
                let (rpc, tx) = (self.rpc.clone(), self.signed.get(&inclusion.hash).cloned());
                self.errands.spawn(async move {
                    let reason = match &tx {
                        Some(tx) => revert_reason(&rpc, tx, inclusion.block).await,
                        None => "reverted".to_owned(),
                    };
                    told(ticket, reply, Err(LedgerError::Refused { reason }))
                });
                return None;
            }
            Outcome::TooPoor => {
                let (rpc, account) = (self.rpc.clone(), self.account);
                self.errands.spawn(async move {
                    let error = too_poor(&rpc, account, needs).await;
                    told(ticket, reply, Err(error))
                });
                return None;
            }
            Outcome::Refused { message } => {
                refused(format!("the node does not take the transaction: {message}"))
            }
            Outcome::Unjournalled => Err(LedgerError::Unreachable(Box::new(Unjournalled))),
            Outcome::TooMany { most } => {
                Err(LedgerError::Unreachable(Box::new(TooManyOpen { most })))
            }
            Outcome::Outrun => refused(format!(
                "another program keeps taking the nonces of account {}; run one program for each key",
                self.account
            )),
        };
        match told(ticket, reply, outcome) {
            Errand::Done(event) => Some(event),
            Errand::Priced(..) | Errand::Looked(_) => None,
        }
    }

    fn say(&self, notice: &Notice) {
        let account = self.account;
        match notice {
            Notice::Raised { nonce, fees } => {
                tracing::info!(%account, nonce, fee = fees.fee_per_gas, "a transaction is signed again for more");
            }
            Notice::AtCeiling { .. } => {
                tracing::warn!(%account, ?notice, "a transaction waits: blocks ask for more than is paid");
            }
            Notice::Undone { .. } => {
                tracing::warn!(%account, ?notice, "a block with a transaction is no more; it is sent again");
            }
            Notice::Turned { .. } | Notice::Taken { told: true, .. } => {
                tracing::error!(%account, ?notice, "a transaction was told to have succeeded, and did not in the end");
            }
            Notice::Taken { .. } | Notice::Gap { .. } => {
                tracing::warn!(%account, ?notice, "does another program use this key? run one program for each");
            }
            Notice::Unwelcome { .. } => {
                tracing::warn!(%account, ?notice, "nodes do not take a transaction now; it is kept");
            }
        }
    }
}

/// Answers who waits; whether it was heard is the machine's event.
fn told(ticket: Ticket, reply: Reply, outcome: Result<Receipt, LedgerError>) -> Errand {
    let heard = reply.send(outcome).is_ok();
    failpoint::hit("tx.told");
    Errand::Done(match heard {
        true => Event::Told(ticket),
        false => Event::Left(ticket),
    })
}

fn message(intent: &Intent) -> TxEip1559 {
    TxEip1559 {
        to: intent.to,
        value: intent.value,
        input: intent.data.clone(),
        ..TxEip1559::default()
    }
}

/// What was signed, to be signed again.
fn as_signed(tx: &SignedTx) -> Option<TxEip1559> {
    match TxEnvelope::decode_2718(&mut tx.raw.as_ref()).ok()? {
        TxEnvelope::Eip1559(signed) => Some(signed.strip_signature()),
        _ => None,
    }
}
