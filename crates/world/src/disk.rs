//! A node's disk: journals with group commit, as `store` keeps them.
//!
//! A group is whole or absent, because a transaction of SQLite is. What a
//! crash finds on its way to the disk is there afterwards or not; what the
//! process had only queued is gone. A failed fsync closes the disk until the
//! node starts again, and leaves open whether its group is there.

use std::collections::{BTreeMap, VecDeque};

use market::ChannelId;

use crate::random::Random;

/// Which journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Book {
    /// A consumer's list of channels.
    Channels,
    /// A consumer's channel.
    Purse(ChannelId),
    /// A provider's channel.
    Till(ChannelId),
    /// Transactions.
    Sent,
}

/// What the disk says of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is there.
    Durable,
    /// There was no room; it is not there.
    Full,
    /// Nobody knows.
    Broken,
}

/// Who waited for an append, what it is told, and what is really so.
pub(crate) struct Told<T> {
    pub(crate) token: T,
    pub(crate) written: Written,
    pub(crate) book: Book,
    pub(crate) lines: Vec<String>,
    pub(crate) kept: bool,
}

struct Append<T> {
    book: Book,
    lines: Vec<String>,
    token: T,
}

/// The disk. `T` says who waits for an append.
pub(crate) struct Disk<T> {
    books: BTreeMap<Book, Vec<String>>,
    queue: VecDeque<Append<T>>,
    /// So many of the queue are in the group that is being written.
    group: usize,
    pub(crate) full: bool,
    pub(crate) failing: bool,
    broken: bool,
}

impl<T> Default for Disk<T> {
    fn default() -> Self {
        Self {
            books: BTreeMap::new(),
            queue: VecDeque::new(),
            group: 0,
            full: false,
            failing: false,
            broken: false,
        }
    }
}

impl<T> Disk<T> {
    /// Queues lines. Whether a group has to be started for them.
    pub(crate) fn append(&mut self, book: Book, lines: Vec<String>, token: T) -> bool {
        self.queue.push_back(Append { book, lines, token });
        self.start()
    }

    fn start(&mut self) -> bool {
        let idle = self.group == 0 && !self.queue.is_empty();
        if idle {
            self.group = self.queue.len();
        }
        idle
    }

    /// The group that was started is done. What became of whose lines, and
    /// whether the next group starts.
    pub(crate) fn synced(&mut self, random: &mut Random) -> (Vec<Told<T>>, bool) {
        let group: Vec<_> = self.queue.drain(..self.group).collect();
        self.group = 0;
        let failed = !self.broken && std::mem::take(&mut self.failing);
        // Whether a group is there whose fsync failed, nobody can know.
        let drawn = random.chance(5_000);
        self.broken |= failed;
        let (written, kept) = match (self.broken, self.full) {
            (true, _) => (Written::Broken, failed && drawn),
            (_, true) => (Written::Full, false),
            _ => (Written::Durable, true),
        };
        let mut told = Vec::with_capacity(group.len());
        for Append { book, lines, token } in group {
            if kept {
                self.keep(book, &lines);
            }
            told.push(Told {
                token,
                written,
                book,
                lines,
                kept,
            });
        }
        (told, self.start())
    }

    fn keep(&mut self, book: Book, lines: &[String]) {
        let kept = self.books.entry(book).or_default();
        kept.extend(lines.iter().cloned());
    }

    /// The node is gone. What of the group on its way to the disk got there:
    /// all of it or nothing.
    pub(crate) fn crash(&mut self, random: &mut Random) -> Vec<(Book, Vec<String>)> {
        let group: Vec<_> = self.queue.drain(..self.group).collect();
        self.queue.clear();
        self.group = 0;
        let whole = random.chance(5_000) && !self.broken && !self.full;
        self.broken = false;
        self.failing = false;
        if !whole {
            return vec![];
        }
        let mut arrived = Vec::with_capacity(group.len());
        for append in group {
            self.keep(append.book, &append.lines);
            arrived.push((append.book, append.lines));
        }
        arrived
    }

    /// Whether it takes nothing more until the node starts again.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// A journal, as it would be read at a start.
    pub(crate) fn read(&self, book: Book) -> &[String] {
        self.books.get(&book).map_or(&[], Vec::as_slice)
    }

    /// Loses the last line of a journal that is of a kind: only for showing
    /// that the checks notice.
    pub(crate) fn forget(&mut self, book: Book, kind: &str) {
        if let Some(lines) = self.books.get_mut(&book)
            && let Some(at) = lines.iter().rposition(|line| line.contains(kind))
        {
            lines.remove(at);
        }
    }

    /// All journals there are.
    pub(crate) fn books(&self) -> Vec<Book> {
        self.books.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_synced_is_whole_or_gone() {
        let (mut kept, mut torn) = (0, 0);
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut disk = Disk::default();
            assert!(disk.append(Book::Channels, vec!["a".into(), "b".into()], 1));
            assert!(
                !disk.append(Book::Channels, vec!["c".into()], 2),
                "the next group's"
            );
            disk.crash(&mut random);
            match disk.read(Book::Channels) {
                [] => torn += 1,
                [first, second] if first == "a" && second == "b" => kept += 1,
                other => panic!("torn: {other:?}"),
            }
        }
        assert!(kept > 20 && torn > 20, "{kept} kept, {torn} torn");
    }

    #[test]
    fn a_failed_fsync_closes_the_disk_until_the_next_start() {
        let mut random = Random::new(1);
        let mut disk = Disk {
            failing: true,
            ..Disk::default()
        };
        for _ in 0..2 {
            disk.append(Book::Sent, vec!["x".into()], ());
            let (told, _) = disk.synced(&mut random);
            assert_eq!(told[0].written, Written::Broken);
        }
        disk.crash(&mut random);
        disk.append(Book::Sent, vec!["y".into()], ());
        assert_eq!(disk.synced(&mut random).0[0].written, Written::Durable);
    }
}
