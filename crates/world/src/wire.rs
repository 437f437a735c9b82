//! Streams between nodes: what is said, and what the way does to it.
//!
//! A stream keeps the order, as QUIC does: a lost packet makes it late, a way
//! that stays closed ends it. Who is told of the end, and when, depends on
//! which direction broke.

use market::{ChannelConfig, ChannelId, InputBound, RequestId, SignedReceipt, SignedVoucher, Sold};

use crate::plan::Fault;
use crate::town::{Event, Town, Who};

/// Names a stream.
pub(crate) type StreamId = u64;

/// A way that heals within so long only delays what is on it.
const RESEND_MS: u64 = 3_000;
/// A stream on which nothing gets through is given up after so long.
const IDLE_MS: u64 = 10_000;

/// A request for an answer.
#[derive(Debug, Clone)]
pub(crate) struct Infer {
    pub(crate) request: RequestId,
    pub(crate) config: ChannelConfig,
    pub(crate) voucher: SignedVoucher,
    pub(crate) sold: Sold,
    pub(crate) bound: InputBound,
    /// How long the answer will be.
    pub(crate) length: u32,
}

/// Everything that is said on a stream.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Infer(Box<Infer>),
    Pay {
        voucher: SignedVoucher,
        read_tokens: u32,
    },
    Leave,
    AskReceipts {
        channel: ChannelId,
        after: u64,
    },
    Begin,
    Refused {
        reason: String,
    },
    Alive,
    Chunk {
        tokens: u32,
        bytes: u64,
    },
    End {
        receipt: Box<SignedReceipt>,
        failure: Option<String>,
    },
    Receipts {
        receipts: Vec<SignedReceipt>,
        running: usize,
    },
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Answer(RequestId),
    Receipts(ChannelId),
    /// An opening that somebody on the way sent again.
    Replay,
}

/// The two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Consumer,
    Provider,
}

/// A stream.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) about: About,
    pub(crate) consumer: usize,
    consumer_life: u64,
    pub(crate) provider: usize,
    provider_life: u64,
    relay: Option<usize>,
    relay_life: u64,
    /// When the last message to the consumer, and to the provider, arrives.
    last_ms: [u64; 2],
    /// Nothing gets through to the consumer, or to the provider, any more.
    dead: [bool; 2],
}

impl Stream {
    fn end(&self, side: Side) -> (Who, u64) {
        match side {
            Side::Consumer => (Who::Consumer(self.consumer), self.consumer_life),
            Side::Provider => (Who::Provider(self.provider), self.provider_life),
        }
    }
}

/// Two nodes that do not hear each other, or one that does not hear the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) consumer: usize,
    pub(crate) provider: usize,
    pub(crate) to_consumer: bool,
    pub(crate) to_provider: bool,
    pub(crate) until_ms: u64,
}

impl Side {
    fn place(self) -> usize {
        match self {
            Self::Consumer => 0,
            Self::Provider => 1,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Consumer => Self::Provider,
            Self::Provider => Self::Consumer,
        }
    }
}

impl Town {
    /// A consumer opens a stream to a provider.
    pub(crate) fn open(&mut self, consumer: usize, provider: usize, about: About) -> StreamId {
        let relays = self.plan.relays;
        let relay = (relays > 0 && self.dice.chance(6_000)).then(|| self.dice.place(relays));
        let id = self.next_stream;
        self.next_stream += 1;
        let stream = Stream {
            about,
            consumer,
            consumer_life: self.consumers[consumer].life,
            provider,
            // What is sealed for one life no other can open.
            provider_life: self.providers[provider].life,
            relay,
            relay_life: relay.map_or(0, |relay| self.relay_lives[relay]),
            last_ms: [self.now_ms; 2],
            dead: [false; 2],
        };
        self.streams.insert(id, stream);
        id
    }

    /// Says something on a stream. False: the node died of it.
    pub(crate) fn say(&mut self, id: StreamId, to: Side, message: Message) -> bool {
        let Some(stream) = self.streams.get(&id).cloned() else {
            return true;
        };
        let (from, _) = stream.end(to.other());
        if !self.effect(from) {
            return false;
        }
        if matches!(message, Message::Infer(_)) && self.happens(Fault::Duplicate, 800) {
            self.replay(&stream, message.clone());
        }
        match self.arrival(&stream, to) {
            Some(at_ms) => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.last_ms[to.place()] = at_ms;
                }
                self.at(at_ms, Event::Heard { id, to, message });
            }
            None => self.die(id, to),
        }
        true
    }

    fn replay(&mut self, stream: &Stream, message: Message) {
        let id = self.open(stream.consumer, stream.provider, About::Replay);
        let wait = self.dice.within(500..4_000);
        let to = Side::Provider;
        self.after(wait, Event::Heard { id, to, message });
    }

    /// When something said now arrives; none: it does not.
    fn arrival(&mut self, stream: &Stream, to: Side) -> Option<u64> {
        if stream.dead[to.place()] {
            return None;
        }
        if let Some(relay) = stream.relay
            && (self.relay_lives[relay] != stream.relay_life || !self.relay_up[relay])
        {
            return None;
        }
        let mut from_ms = self.now_ms;
        for cut in &self.cuts {
            let stands = match to {
                Side::Consumer => cut.to_consumer,
                Side::Provider => cut.to_provider,
            };
            let here = (cut.consumer, cut.provider) == (stream.consumer, stream.provider);
            if here && stands && cut.until_ms > from_ms {
                from_ms = cut.until_ms;
            }
        }
        if from_ms > self.now_ms + RESEND_MS {
            return None;
        }
        let mut travel = self.dice.within(5..60);
        if self.happens(Fault::Loss, 300) {
            travel += self.dice.within(200..1_500);
        }
        if self.happens(Fault::Delay, 60) {
            travel += self.dice.within(1_000..9_000);
        }
        Some((from_ms + travel).max(stream.last_ms[to.place()]))
    }

    /// Nothing gets through in this direction any more. Its sender notices in
    /// the end; the other notices that it hears nothing.
    fn die(&mut self, id: StreamId, to: Side) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut stream.dead[to.place()], true) {
            return;
        }
        for side in [Side::Consumer, Side::Provider] {
            self.after(IDLE_MS, Event::Broke { id, side });
        }
    }

    /// A consumer reads no more of a stream. The provider learns it after what
    /// was said before.
    pub(crate) fn drop_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id).cloned() else {
            return;
        };
        match self.arrival(&stream, Side::Provider) {
            Some(at_ms) => {
                let side = Side::Provider;
                self.at(at_ms + 1, Event::Broke { id, side });
            }
            None => self.die(id, Side::Provider),
        }
    }

    /// A node at one end is gone: the other end is told, unless nothing gets
    /// through to it.
    pub(crate) fn hang_up(&mut self, who: Who) {
        let ends = |stream: &Stream| match who {
            Who::Consumer(at) => (stream.consumer == at).then_some(Side::Provider),
            Who::Provider(at) => (stream.provider == at).then_some(Side::Consumer),
        };
        let mut told = Vec::new();
        for (id, stream) in &mut self.streams {
            if let Some(side) = ends(stream) {
                stream.dead = [true; 2];
                told.push((*id, side));
            }
        }
        for (id, side) in told {
            let wait = match self.dice.chance(7_000) {
                true => self.dice.within(10..500),
                false => IDLE_MS,
            };
            self.after(wait, Event::Broke { id, side });
        }
    }

    /// A relay is gone, and the streams over it.
    pub(crate) fn relay_gone(&mut self, relay: usize) {
        self.relay_up[relay] = false;
        self.relay_lives[relay] += 1;
        let over: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.relay == Some(relay))
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.die(id, Side::Consumer);
            self.die(id, Side::Provider);
        }
    }

    /// Something arrives.
    pub(crate) fn heard(&mut self, id: StreamId, to: Side, message: Message) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if stream.dead[to.place()] {
            return;
        }
        let stream = stream.clone();
        let (who, life) = stream.end(to);
        if !self.lives(who, Some(life)) {
            let side = to.other();
            self.after(20, Event::Broke { id, side });
            return;
        }
        match to {
            Side::Consumer => self.consumer_heard(id, &stream, message),
            Side::Provider => self.provider_heard(id, &stream, message),
        }
    }

    /// One end learns that the stream is broken.
    pub(crate) fn broke(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.streams.get(&id).cloned() else {
            return;
        };
        let (who, life) = stream.end(side);
        if !self.lives(who, Some(life)) {
            return;
        }
        match side {
            Side::Consumer => self.consumer_broke(&stream),
            Side::Provider => self.provider_broke(id, &stream),
        }
    }
}
