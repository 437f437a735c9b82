//! The thread that owns the chain.
//!
//! Questions come in over a bounded queue and are answered in order. What
//! changes the chain is answered only after it is on disk; several waiting
//! requests share one write to it (a group commit), so many senders cost little
//! more than one. When the disk fails, nothing is served any more: memory would
//! be ahead of what a restart finds.

use std::thread::{self, JoinHandle};

use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::journal::{Journal, OpenError};
use crate::rpc::error::RpcError;
use crate::rpc::subscriptions::News;
use crate::rpc::{Answer, Node};

/// Requests that may wait; more are felt by their senders.
const QUEUE: usize = 256;
/// Requests that share one write to the disk.
const GROUP_MAX: usize = 64;
/// News that waits for those who listen; who is further behind has missed some.
const NEWS: usize = 1024;

/// The caller's clock: Unix seconds.
pub(crate) type Clock = Box<dyn Fn() -> u64 + Send>;

/// What the owner is told.
enum Command {
    /// Answer a request.
    Answer {
        method: String,
        params: Option<Box<RawValue>>,
        reply: oneshot::Sender<Answer>,
    },
    /// Make a block of what waits: time is up.
    Mine,
    /// Wake up and see that the chain is to be closed.
    Close,
}

/// A way to ask; as many as there are connections.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    commands: mpsc::Sender<Command>,
    news: broadcast::Sender<News>,
}

impl Asker {
    /// Puts a request into the queue; the answer comes over the receiver.
    pub(crate) async fn ask(
        &self,
        method: String,
        params: Option<Box<RawValue>>,
    ) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        // When the owner is gone the receiver says so.
        let _ = self
            .commands
            .send(Command::Answer {
                method,
                params,
                reply,
            })
            .await;
        answer
    }

    /// What happens from now on, once it is on disk.
    pub(crate) fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Asks for a block now.
    pub(crate) async fn mine(&self) {
        // When the owner is gone there are no more blocks.
        let _ = self.commands.send(Command::Mine).await;
    }
}

/// The running owner. Dropping it closes the chain and waits for that, whoever
/// still holds an [`Asker`]; these are answered that the chain has stopped.
#[derive(Debug)]
pub(crate) struct Running {
    asker: Asker,
    closing: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn asker(&self) -> &Asker {
        &self.asker
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.closing.cancel();
        // Wakes the owner if it sleeps; with a full queue it is awake.
        let _ = self.asker.commands.try_send(Command::Close);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the chain's thread panicked");
        }
    }
}

/// Starts the owner.
pub(crate) fn start(
    node: Node,
    journal: Option<Journal>,
    clock: Clock,
) -> Result<Running, OpenError> {
    let (commands, queue) = mpsc::channel(QUEUE);
    let (news, _) = broadcast::channel(NEWS);
    let closing = CancellationToken::new();
    let keeper = Keeper {
        node,
        journal,
        clock,
        news: news.clone(),
        broken: None,
        closing: closing.clone(),
    };
    let thread = thread::Builder::new().name("devchain".to_owned());
    let thread = thread
        .spawn(move || keeper.run(queue))
        .map_err(OpenError::Thread)?;
    Ok(Running {
        asker: Asker { commands, news },
        closing,
        thread: Some(thread),
    })
}

struct Keeper {
    node: Node,
    journal: Option<Journal>,
    clock: Clock,
    news: broadcast::Sender<News>,
    /// Why the log can't be written any more.
    broken: Option<String>,
    closing: CancellationToken,
}

impl Keeper {
    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while !self.closing.is_cancelled()
            && let Some(first) = queue.blocking_recv()
        {
            let mut replies = Vec::new();
            self.handle(first, &mut replies);
            while replies.len() < GROUP_MAX
                && self.node.chain.unwritten() < GROUP_MAX
                && let Ok(next) = queue.try_recv()
            {
                self.handle(next, &mut replies);
            }
            self.persist();
            for (reply, answer) in replies {
                // The asker may have gone; what it asked for is done all the same.
                let _ = reply.send(self.broken().map_or(answer, Err));
            }
        }
    }

    fn handle(&mut self, command: Command, replies: &mut Vec<(oneshot::Sender<Answer>, Answer)>) {
        if self.broken.is_some() {
            if let Command::Answer { reply, .. } = command {
                replies.push((reply, Err(RpcError::Stopped)));
            }
            return;
        }
        match command {
            Command::Close => {}
            Command::Mine => self.node.chain.mine((self.clock)()),
            Command::Answer { reply, .. } if reply.is_closed() => {}
            Command::Answer {
                method,
                params,
                reply,
            } => {
                let answer = self.node.answer(&method, params.as_deref(), (self.clock)());
                replies.push((reply, answer));
            }
        }
    }

    fn persist(&mut self) {
        let records = self.node.chain.take_unwritten();
        if records.is_empty() {
            return;
        }
        if let Some(journal) = &mut self.journal
            && let Err(source) = journal.append(&records)
        {
            error!(error = %source, "the chain's log cannot be written; nothing more is served");
            self.broken = Some(source.to_string());
            return;
        }
        if self.news.receiver_count() > 0 {
            for news in records
                .iter()
                .filter_map(|record| self.node.chain.news(record))
            {
                // The last listener may just have gone.
                let _ = self.news.send(news);
            }
        }
    }

    fn broken(&self) -> Option<RpcError> {
        self.broken.clone().map(|why| RpcError::NotDurable { why })
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;
    use crate::chain::Chain;
    use crate::genesis::{Birth, Genesis};
    use crate::record::{Record, VERSION};
    use crate::rpc::filters::Filters;

    #[tokio::test]
    async fn a_disk_that_fails_stops_everything() {
        let folder = tempfile::tempdir().unwrap();
        let genesis = Genesis {
            timestamp: Some(1),
            ..Genesis::new(1)
        };
        let fingerprint = genesis.fingerprint();
        let first = Record::Genesis {
            version: VERSION,
            fingerprint,
            timestamp: 1,
            randomness: B256::ZERO,
        };
        let journal = Journal::that_fails(folder.path(), &first);
        let chain = Chain::new(&genesis, Birth::at(1), true);
        let node = Node {
            chain,
            filters: Filters::default(),
            cheats: true,
        };
        let running = start(node, Some(journal), Box::new(|| 2)).unwrap();
        let ask = async |method: &str| {
            running
                .asker()
                .ask(method.to_owned(), None)
                .await
                .await
                .unwrap()
        };
        assert_eq!(ask("eth_blockNumber").await.unwrap().get(), "\"0x0\"");
        for method in ["evm_mine", "eth_blockNumber"] {
            let error = ask(method).await.unwrap_err();
            assert!(matches!(error, RpcError::NotDurable { .. }), "{error}");
        }
    }
}
