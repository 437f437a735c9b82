//! The one thread that owns the database, and its queue.
//!
//! Commands are taken in order. Appends that stand next to each other in the
//! queue become one transaction; a read first lets those before it be
//! committed, so that nobody sees an entry that is not yet durable. A failed
//! fsync leaves unknown what is on the disk and the next one may wrongly
//! succeed, so after any failure but a full disk nothing more is written.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::database::{Database, OpenError};
use crate::{AppendError, Entry, LoadError, Page};

/// Commands that wait; more callers wait for a place.
const QUEUE: usize = 1024;

/// The most appends, and about the most bytes, in one transaction.
const GROUP: usize = 512;
const GROUP_BYTES: usize = 16 * 1024 * 1024;

/// Where the answer to a read goes.
type Reply<T> = oneshot::Sender<Result<T, LoadError>>;

/// Everything that can be asked of the thread, in one closed list.
pub(crate) enum Command {
    Append(Append),
    Load {
        journal: Arc<str>,
        reply: Reply<Vec<Entry>>,
    },
    Find {
        journal: Arc<str>,
        kind: String,
        key: String,
        reply: Reply<Option<Entry>>,
    },
    Recent {
        journal: Arc<str>,
        kind: String,
        limit: usize,
        reply: Reply<Vec<Entry>>,
    },
    Journals {
        prefix: String,
        reply: Reply<Vec<String>>,
    },
    LoadNext {
        prefix: Arc<str>,
        after: i64,
        entries: usize,
        reply: Reply<Page>,
    },
    Close,
}

/// Entries for one journal, and who waits for them.
pub(crate) struct Append {
    pub(crate) journal: Arc<str>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) reply: oneshot::Sender<Result<u64, AppendError>>,
}

/// The thread, seen from outside.
#[derive(Debug)]
pub(crate) struct Writer {
    commands: mpsc::Sender<Command>,
    commits: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The queue was closed.
pub(crate) struct Gone;

impl Writer {
    pub(crate) fn start(database: Database) -> Result<Self, OpenError> {
        let (commands, queue) = mpsc::channel(QUEUE);
        let commits = Arc::new(AtomicU64::new(0));
        let desk = Desk {
            database,
            queue,
            set_aside: VecDeque::new(),
            commits: Arc::clone(&commits),
            broken: None,
        };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || desk.run())
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self {
            commands,
            commits,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Queues in the order of the calls, also where the runtime would have
    /// one of many callers in a task yield first.
    pub(crate) async fn send(&self, command: Command) -> Result<(), Gone> {
        match self.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(command)) => self.commands.send(command).await.map_err(|_| Gone),
            Err(TrySendError::Closed(_)) => Err(Gone),
        }
    }

    pub(crate) async fn read<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, LoadError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))
            .await
            .map_err(|Gone| LoadError::Closed)?;
        answer.await.unwrap_or(Err(LoadError::Closed))
    }

    fn take_thread(&self) -> Option<JoinHandle<()>> {
        self.thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    pub(crate) async fn close(&self) {
        // Closed already: there is only the thread's end to wait for.
        let _ = self.send(Command::Close).await;
        self.commands.closed().await;
        if let Some(thread) = self.take_thread() {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the store's thread did not end well");
            }
        }
    }
}

impl Drop for Writer {
    /// With the last handle the queue ends, and with it the thread.
    fn drop(&mut self) {
        let (ended, _) = mpsc::channel(1);
        self.commands = ended;
        if let Some(thread) = self.take_thread()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread did not end well");
        }
    }
}

/// The thread's own state.
struct Desk {
    database: Database,
    queue: mpsc::Receiver<Command>,
    /// Taken from the queue, not yet served: what ended a group.
    set_aside: VecDeque<Command>,
    commits: Arc<AtomicU64>,
    /// The failure after which nothing more is written.
    broken: Option<Arc<rusqlite::Error>>,
}

impl Desk {
    fn run(mut self) {
        while let Some(command) = self.next() {
            match command {
                Command::Append(first) => {
                    let group = self.group(first);
                    self.commit(group);
                }
                Command::Close => self.queue.close(),
                read => self.read(read),
            }
        }
        failpoint::hit("store.close.before");
        self.database.close();
        failpoint::hit("store.close.after");
    }

    fn next(&mut self) -> Option<Command> {
        self.set_aside
            .pop_front()
            .or_else(|| self.queue.blocking_recv())
    }

    /// `first` and the appends right behind it that wait already.
    fn group(&mut self, first: Append) -> Vec<Append> {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while group.len() < GROUP && bytes < GROUP_BYTES {
            match self.queue.try_recv() {
                Ok(Command::Append(append)) => {
                    bytes += append.bytes();
                    group.push(append);
                }
                Ok(other) => {
                    self.set_aside.push_back(other);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    fn commit(&mut self, group: Vec<Append>) {
        if let Some(source) = &self.broken {
            let refused = AppendError::Refused {
                source: Arc::clone(source),
            };
            return answer_all(group, &refused);
        }
        match self.database.append(&group) {
            Ok(numbers) => {
                self.commits.fetch_add(1, Ordering::Relaxed);
                for (append, number) in group.into_iter().zip(numbers) {
                    // Who asked may have gone; the entries stand.
                    let _ = append.reply.send(Ok(number));
                }
            }
            Err(source) => {
                let source = Arc::new(source);
                tracing::error!(error = %source, appends = group.len(), "entries were not written");
                if is_full(&source) {
                    return answer_all(group, &AppendError::Full { source });
                }
                self.broken = Some(Arc::clone(&source));
                answer_all(group, &AppendError::Disk { source });
            }
        }
    }

    fn read(&self, command: Command) {
        match command {
            Command::Load { journal, reply } => answer(reply, self.database.load(&journal)),
            Command::Find {
                journal,
                kind,
                key,
                reply,
            } => answer(reply, self.database.find(&journal, &kind, &key)),
            Command::Recent {
                journal,
                kind,
                limit,
                reply,
            } => answer(reply, self.database.recent(&journal, &kind, limit)),
            Command::Journals { prefix, reply } => answer(reply, self.database.journals(&prefix)),
            Command::LoadNext {
                prefix,
                after,
                entries,
                reply,
            } => answer(reply, self.database.load_next(&prefix, after, entries)),
            Command::Append(_) | Command::Close => {}
        }
    }
}

impl Append {
    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.payload.len()).sum()
    }
}

fn answer<T>(reply: Reply<T>, result: rusqlite::Result<T>) {
    // Who asked may have gone.
    let _ = reply.send(result.map_err(|source| LoadError::Disk {
        source: Arc::new(source),
    }));
}

fn answer_all(group: Vec<Append>, error: &AppendError) {
    for append in group {
        // Who asked may have gone.
        let _ = append.reply.send(Err(error.clone()));
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}
