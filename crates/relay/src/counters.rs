//! What a relay counts. Nothing else of a stream is kept or logged.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use transport::Carried;
use transport::message::RelayRefusal;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    carried: AtomicU64,
    running: AtomicU64,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
    described: AtomicU64,
    unknown: AtomicU64,
    unreachable: AtomicU64,
    busy: AtomicU64,
    malformed: AtomicU64,
    loads_heard: AtomicU64,
    loads_refused: AtomicU64,
    loads_told: AtomicU64,
}

/// What a relay did since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Streams carried, those that run included.
    pub carried: u64,
    /// Streams that run now.
    pub running: u64,
    /// Bytes from those who ask, of streams that ended.
    pub up_bytes: u64,
    /// Bytes to them, of streams that ended.
    pub down_bytes: u64,
    /// Times that descriptions were told.
    pub described: u64,
    /// Refused: no registered node of that id.
    pub unknown: u64,
    /// Refused: the node does not answer.
    pub unreachable: u64,
    /// Refused: as many streams as are taken.
    pub busy: u64,
    /// Streams that did not say what they were for.
    pub malformed: u64,
    /// Load digests that were news, from providers or through other relays.
    pub loads_heard: u64,
    /// Load digests that were not believed, came too late, or too many.
    pub loads_refused: u64,
    /// Times that load digests were told.
    pub loads_told: u64,
    /// Nodes that wait here now.
    pub waiting: u64,
}

/// What a relay keeps in memory, in entries. Each has its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tables {
    /// Registered nodes.
    pub nodes: usize,
    /// Peers whose streams it carries now.
    pub peers: usize,
    /// Load digests of providers that are good.
    pub loads: usize,
    /// Other relays that it listens to.
    pub relays: usize,
}

impl Counters {
    pub(crate) fn began(&self) {
        add(&self.carried, 1);
        add(&self.running, 1);
    }

    pub(crate) fn ended(&self, carried: Carried) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        add(&self.up_bytes, carried.up_bytes);
        add(&self.down_bytes, carried.down_bytes);
    }

    pub(crate) fn described(&self) {
        add(&self.described, 1);
    }

    pub(crate) fn malformed(&self) {
        add(&self.malformed, 1);
    }

    pub(crate) fn load_heard(&self) {
        add(&self.loads_heard, 1);
    }

    pub(crate) fn load_refused(&self) {
        add(&self.loads_refused, 1);
    }

    pub(crate) fn loads_told(&self) {
        add(&self.loads_told, 1);
    }

    pub(crate) fn refused(&self, refusal: RelayRefusal) {
        add(
            match refusal {
                RelayRefusal::Unknown => &self.unknown,
                RelayRefusal::Unreachable => &self.unreachable,
                RelayRefusal::Busy => &self.busy,
            },
            1,
        );
    }

    pub(crate) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            carried: read(&self.carried),
            running: read(&self.running),
            up_bytes: read(&self.up_bytes),
            down_bytes: read(&self.down_bytes),
            described: read(&self.described),
            unknown: read(&self.unknown),
            unreachable: read(&self.unreachable),
            busy: read(&self.busy),
            malformed: read(&self.malformed),
            loads_heard: read(&self.loads_heard),
            loads_refused: read(&self.loads_refused),
            loads_told: read(&self.loads_told),
            waiting: 0,
        }
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
