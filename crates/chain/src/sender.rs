//! The one owner of an account's nonce.
//!
//! Writes queue up here, each gets the next nonce, is journalled, then sent,
//! then followed to its end while the next is on its way. A wish whose
//! transaction was signed is never signed for again before that transaction's
//! end is known and told: the same bytes are sent again, and who repeats the
//! wish is given what became of the first.
//!
//! There must be one [`Sender`] for each account of a chain. Another program
//! with the same key is noticed (its transactions take nonces), not planned for.

mod fees;
mod follow;

use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use market::{LedgerError, TxHash, WalletKey};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::journal::{Ended, SignedTx, TxJournal};
use crate::rpc::{Receipt, Rpc};
use fees::Price;
pub(crate) use fees::fee_per_gas;
use follow::{Fate, Handed, follow};

/// Writes that wait for their nonce; more wait with their callers.
const QUEUE: usize = 64;
/// Transactions of which no end is known; more are not begun.
const OPEN_MAX: usize = 64;
/// How often a nonce that somebody else took is replaced by the next.
const NONCE_ATTEMPTS: u32 = 3;
/// How long a success that nobody waited for is kept for who repeats the wish.
const UNTOLD_KEEP: Duration = Duration::from_secs(600);

/// How patient to be with a chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The first wait for a receipt; later ones grow.
    pub(crate) poll_min: Duration,
    /// Up to this.
    pub(crate) poll_max: Duration,
    /// How long after it was sent it is sent again.
    pub(crate) resend: Duration,
    /// How long a caller is kept waiting.
    pub(crate) patience: Duration,
}

impl Pace {
    /// For a chain on this machine, which has a block for each transaction.
    pub(crate) const LOCAL: Self = Self {
        poll_min: Duration::from_millis(50),
        poll_max: Duration::from_secs(1),
        resend: Duration::from_secs(2),
        patience: Duration::from_secs(60),
    };
    /// For a public chain.
    pub(crate) const PUBLIC: Self = Self {
        poll_min: Duration::from_millis(500),
        poll_max: Duration::from_secs(5),
        resend: Duration::from_secs(20),
        patience: Duration::from_secs(180),
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
#[error("{OPEN_MAX} transactions of this account have no known end yet; none is added")]
struct TooManyOpen;

/// The journal failed; nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("the transaction could not be journalled, so it was not sent")]
struct Unjournalled(#[source] crate::journal::JournalError);

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
        let open = journal.open().await.map_err(LedgerError::Unreachable)?;
        let mut owner = Owner {
            rpc,
            chain_id,
            account: key.address(),
            key,
            journal,
            pace,
            next_nonce: None,
            open: Vec::new(),
            untold: Vec::new(),
            following: JoinSet::new(),
        };
        for tx in open {
            if tx.chain_id == chain_id && tx.account == owner.account {
                failpoint::hit("tx.reopened");
                owner.follow(tx, Handed::Unknown, None);
            }
        }
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

/// A transaction on its way.
struct Open {
    intent: B256,
    hash: TxHash,
    nonce: u64,
    reply: Option<Reply>,
}

/// A success that nobody has heard of yet.
struct Untold {
    intent: B256,
    receipt: Receipt,
    since: Instant,
}

struct Owner {
    rpc: Rpc,
    chain_id: u64,
    account: Address,
    key: Arc<WalletKey>,
    journal: Arc<dyn TxJournal>,
    pace: Pace,
    /// None: to be asked of the chain.
    next_nonce: Option<u64>,
    open: Vec<Open>,
    untold: Vec<Untold>,
    following: JoinSet<(TxHash, Fate)>,
}

impl Owner {
    async fn run(mut self, mut queue: mpsc::Receiver<Write>) {
        loop {
            tokio::select! {
                Some(followed) = self.following.join_next() => match followed {
                    Ok((hash, fate)) => self.ended(hash, fate).await,
                    Err(broken) => tracing::error!(%broken, "lost sight of a transaction"),
                },
                write = queue.recv() => match write {
                    Some(write) => self.write(write).await,
                    None => break,
                },
            }
        }
    }

    async fn write(&mut self, write: Write) {
        let Write { intent, reply } = write;
        if reply.is_closed() {
            return;
        }
        let Some(reply) = self.repeated(intent.id, reply) else {
            return;
        };
        let outcome = if self.open.len() < OPEN_MAX {
            self.sign_and_send(&intent).await
        } else {
            Err(LedgerError::Unreachable(Box::new(TooManyOpen)))
        };
        failpoint::hit("tx.submitted");
        match outcome {
            Ok((tx, handed)) => self.follow(tx, handed, Some(reply)),
            Err(error) => {
                self.next_nonce = None;
                // The asker may have gone; nothing was sent for it.
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Serves a wish that was signed for before. None: it is served.
    fn repeated(&mut self, intent: B256, reply: Reply) -> Option<Reply> {
        self.untold
            .retain(|untold| untold.since.elapsed() < UNTOLD_KEEP);
        if let Some(place) = self.untold.iter().position(|u| u.intent == intent) {
            let told = self.untold.remove(place);
            let _ = reply.send(Ok(told.receipt));
            return None;
        }
        let forsaken = |open: &&mut Open| {
            let waited_for = open.reply.as_ref().is_some_and(|reply| !reply.is_closed());
            open.intent == intent && !waited_for
        };
        match self.open.iter_mut().find(forsaken) {
            Some(open) => {
                open.reply = Some(reply);
                None
            }
            None => Some(reply),
        }
    }

    /// Signs with the next nonce, journals, sends. What comes back is, or may be, on its way.
    async fn sign_and_send(&mut self, intent: &Intent) -> Result<(SignedTx, Handed), LedgerError> {
        failpoint::hit("tx.wished");
        let price = fees::price(&self.rpc, self.account, intent).await?;
        for _ in 0..NONCE_ATTEMPTS {
            let nonce = self.nonce().await?;
            let tx = self.sign(intent, nonce, price);
            failpoint::hit("tx.signed");
            self.journal
                .signed(tx.clone())
                .await
                .map_err(|error| LedgerError::Unreachable(Box::new(Unjournalled(error))))?;
            failpoint::hit("tx.journalled");
            self.next_nonce = Some(nonce + 1);
            match follow::hand_in(&self.rpc, &tx).await {
                // Unknown counts as sent: it is sent again until its end is known.
                handed @ (Handed::Taken | Handed::Unknown) => return Ok((tx, handed)),
                Handed::NonceTaken => {
                    self.next_nonce = None;
                    self.note(tx.hash, Ended::Rejected).await;
                }
                Handed::TooPoor => {
                    self.note(tx.hash, Ended::Rejected).await;
                    return Err(fees::too_poor(&self.rpc, self.account, price.total()).await);
                }
                Handed::Refused { message } => {
                    self.note(tx.hash, Ended::Rejected).await;
                    let reason = format!("the node does not take the transaction: {message}");
                    return Err(LedgerError::Refused { reason });
                }
            }
        }
        Err(LedgerError::Refused {
            reason: format!(
                "another program keeps taking the nonces of account {}; run one program for each key",
                self.account
            ),
        })
    }

    async fn nonce(&self) -> Result<u64, LedgerError> {
        if let Some(next) = self.next_nonce {
            return Ok(next);
        }
        let known = self.rpc.transactions_of(self.account, "pending").await?;
        // A node that lost ours from its pool will be given them again.
        let ours = self.open.iter().map(|open| open.nonce + 1).max();
        Ok(known.max(ours.unwrap_or_default()))
    }

    fn sign(&self, intent: &Intent, nonce: u64, price: Price) -> SignedTx {
        let tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit: price.gas,
            max_fee_per_gas: price.fee_per_gas,
            max_priority_fee_per_gas: price.tip_per_gas,
            to: intent.to,
            value: intent.value,
            access_list: Default::default(),
            input: intent.data.clone(),
        };
        let signature = self.key.sign(&tx.signature_hash());
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        SignedTx {
            chain_id: self.chain_id,
            account: self.account,
            nonce,
            intent: intent.id,
            hash: *envelope.tx_hash(),
            raw: envelope.encoded_2718().into(),
        }
    }

    fn follow(&mut self, tx: SignedTx, handed: Handed, reply: Option<Reply>) {
        self.open.push(Open {
            intent: tx.intent,
            hash: tx.hash,
            nonce: tx.nonce,
            reply,
        });
        self.following
            .spawn(follow(self.rpc.clone(), self.pace, tx, handed));
    }

    async fn ended(&mut self, hash: TxHash, fate: Fate) {
        failpoint::hit("tx.included");
        self.note(hash, fate.ended()).await;
        failpoint::hit("tx.ended");
        let Some(place) = self.open.iter().position(|open| open.hash == hash) else {
            return;
        };
        let open = self.open.remove(place);
        if matches!(fate, Fate::Replaced) {
            self.next_nonce = None;
        }
        let untold = match open.reply {
            Some(reply) => reply.send(fate.outcome()).is_err(),
            None => true,
        };
        failpoint::hit("tx.told");
        // A wish that came to nothing may be tried again.
        if let (true, Fate::Succeeded(receipt)) = (untold, fate) {
            self.untold.push(Untold {
                intent: open.intent,
                receipt,
                since: Instant::now(),
            });
        }
    }

    /// A journal that keeps an ended transaction open only makes it be looked up again.
    async fn note(&self, hash: TxHash, how: Ended) {
        if let Err(error) = self.journal.ended(hash, how).await {
            tracing::warn!(%hash, error, "could not journal the end of a transaction");
        }
    }
}
