//! A provider of the town: the shell that a real node has around
//! [`market::Earning`] and [`market::Selling`], on virtual time.
//!
//! Its backend is a row of chunks at random times; what it may bill, when a
//! chunk may go out and what a voucher is worth the engines say.

mod claims;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use market::{
    Amount, ChannelConfig, ChannelId, ChannelState, Durable, Earning, Go, Move, MoveId, Outcome,
    Receipt, RequestId, Selling, SignedReceipt, SignedVoucher, TillError, TillEvent,
};
use serde::{Deserialize, Serialize};

use crate::disk::{Book, Disk, Written};
use crate::people;
use crate::plan::{Mutant, ProviderKind};
use crate::sender::Sender;
use crate::town::{Ask, Timer, Token, Town, Who};
use crate::wire::{About, Infer, Message, Side, Stream, StreamId};

/// A voucher is waited for so long.
const PAY_WITHIN: Duration = Duration::from_secs(10);
/// Answers at a time.
const PLACES: usize = 6;
/// An escrow that is older is read again before a request is taken.
const STALE_MS: u64 = 60_000;
/// While the chain does not answer, one that is younger is still good.
const GOOD_MS: u64 = 300_000;
/// Between two looks at what may be claimed.
pub(crate) const CLAIM_MS: u64 = 10_000;
/// Receipts in one answer.
const RECEIPTS_MAX: usize = 256;
/// When the disk is full, between two tries.
const FULL_MS: u64 = 1_000;

/// A provider: what survives a crash, and what does not.
pub(crate) struct Provider {
    pub(crate) kind: ProviderKind,
    pub(crate) disk: Disk<Token>,
    pub(crate) life: u64,
    pub(crate) clock_s: i64,
    pub(crate) live: Option<Live>,
}

/// What a crash takes.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) channels: BTreeMap<ChannelId, Channel>,
    pub(crate) answers: BTreeMap<RequestId, Answer>,
    pub(crate) sender: Sender,
    /// Openings that were seen.
    seen: BTreeSet<RequestId>,
    claiming: bool,
    settling: bool,
    /// When each channel was first seen with something to claim.
    since: BTreeMap<ChannelId, u64>,
}

/// What follows from a write.
#[derive(Debug, Clone)]
pub(crate) enum Then {
    /// Nothing but what the engine does.
    Nothing,
    /// Work may begin.
    Begin(RequestId),
    /// A receipt may be signed and sent.
    Close(RequestId, Option<String>),
}

/// One line of a channel's queue to the disk.
struct Write {
    lines: Vec<String>,
    id: Option<MoveId>,
    then: Then,
}

/// A channel.
pub(crate) struct Channel {
    pub(crate) config: ChannelConfig,
    pub(crate) earning: Earning,
    read_ms: Option<u64>,
    reading: bool,
    /// Requests and vouchers that wait for the chain's word.
    waiting: Vec<Waiting>,
    queue: VecDeque<Write>,
    /// So many of the queue are on their way to the disk.
    writing: usize,
    /// The disk failed: nothing of it can be made durable any more.
    closed: bool,
    /// When the chain last said something new of its claims.
    claimed_ms: Option<u64>,
}

enum Waiting {
    Infer(StreamId, Box<Infer>),
    Pay(RequestId, SignedVoucher, u32),
}

/// One answer.
pub(crate) struct Answer {
    channel: ChannelId,
    stream: StreamId,
    selling: Selling,
    /// Input as it is reckoned with, and as the backend counts it in the end.
    input: (u32, u32),
    length: u32,
    /// A chunk that waits for its voucher takes the answer to so many tokens.
    held: Option<u32>,
    journalled: u32,
    begun: bool,
    closing: bool,
}

#[derive(Serialize, Deserialize)]
struct Opened {
    config: ChannelConfig,
}

fn line(event: &TillEvent) -> String {
    serde_json::to_string(event).expect("an event has only string keys")
}

impl Channel {
    fn new(config: ChannelConfig, earning: Earning) -> Self {
        Self {
            config,
            earning,
            read_ms: None,
            reading: false,
            waiting: vec![],
            queue: VecDeque::new(),
            writing: 0,
            closed: false,
            claimed_ms: None,
        }
    }

    fn queue(&mut self, moved: &Move<TillEvent>, then: Then) {
        let lines = moved.events().iter().map(line).collect();
        let id = Some(moved.id());
        self.queue.push_back(Write { lines, id, then });
    }
}

impl Town {
    fn shop(&mut self, at: usize) -> Option<&mut Live> {
        self.providers[at].live.as_mut()
    }

    fn till(&mut self, at: usize, id: ChannelId) -> Option<&mut Channel> {
        self.shop(at)?.channels.get_mut(&id)
    }

    fn sale(&mut self, at: usize, request: RequestId) -> Option<(&mut Answer, &mut Channel)> {
        let live = self.shop(at)?;
        let answer = live.answers.get_mut(&request)?;
        let channel = live.channels.get_mut(&answer.channel)?;
        Some((answer, channel))
    }

    /// The node starts: everything it knows comes from its disk, and what was
    /// running is closed.
    pub(crate) fn provider_starts(&mut self, at: usize) {
        let now = self.clock(Who::Provider(at));
        let now_ms = self.now_ms;
        let mut live = Live::default();
        let provider = &mut self.providers[at];
        for book in provider.disk.books() {
            let Book::Till(id) = book else { continue };
            if self.plan.mutant == Some(Mutant::ForgetVoucher) {
                provider.disk.forget(book, "\"voucher\"");
            }
            let read = provider.disk.read(book);
            let Some((head, rest)) = read.split_first() else {
                continue;
            };
            let opened: Result<Opened, _> = serde_json::from_str(head);
            let events: Result<Vec<TillEvent>, _> =
                rest.iter().map(|l| serde_json::from_str(l)).collect();
            let (Ok(opened), Ok(events)) = (opened, events) else {
                return self.violate(6, format!("provider {at} cannot read its journal of {id}"));
            };
            let mut channel = Channel::new(opened.config, Earning::replay(id, &events));
            match channel.earning.interrupted(now) {
                Ok(closed) => channel.queue(&closed, Then::Nothing),
                Err(error) => return self.violate(6, format!("provider {at}: {error}")),
            }
            if !channel.earning.till().claimed().is_zero() {
                channel.claimed_ms = Some(now_ms);
            }
            live.channels.insert(id, channel);
        }
        let ids: Vec<_> = live.channels.keys().copied().collect();
        let Some(sender) = self.sender_starts(Who::Provider(at)) else {
            return;
        };
        live.sender = sender;
        self.providers[at].live = Some(live);
        self.provider_same_as_before(at);
        for id in ids {
            self.flush(at, id);
        }
        self.turn(Who::Provider(at));
        self.timer(Who::Provider(at), 1_000, Timer::Claims);
    }

    /// Hands what a channel queued to the disk, if nothing of it is there yet.
    fn flush(&mut self, at: usize, id: ChannelId) {
        let Some(channel) = self.till(at, id) else {
            return;
        };
        if channel.writing > 0 || channel.queue.is_empty() || channel.closed {
            return;
        }
        channel.writing = channel.queue.len();
        let lines = channel
            .queue
            .iter()
            .flat_map(|write| write.lines.iter().cloned());
        let lines = lines.collect();
        self.append(
            Who::Provider(at),
            Book::Till(id),
            lines,
            Token::Till { channel: id },
        );
    }

    /// The disk has something, or has not.
    pub(crate) fn provider_written(&mut self, at: usize, token: Token, written: Written) {
        let id = match token {
            Token::Till { channel } => channel,
            Token::Sent => return self.tx_written(Who::Provider(at), written),
            _ => return,
        };
        let Some(channel) = self.till(at, id) else {
            return;
        };
        match written {
            Written::Durable => {}
            Written::Full => {
                channel.writing = 0;
                return self.timer(Who::Provider(at), FULL_MS, Timer::Flush(id));
            }
            Written::Broken => {
                channel.closed = true;
                return;
            }
        }
        let batch: Vec<_> = channel.queue.drain(..channel.writing).collect();
        channel.writing = 0;
        for write in batch {
            let Some(channel) = self.till(at, id) else {
                return;
            };
            let receipts = match write.id.map(|id| channel.earning.written(id)).transpose() {
                Ok(receipts) => receipts.unwrap_or_default(),
                Err(error) => return self.violate(6, format!("provider {at}: {error}")),
            };
            match write.then {
                Then::Nothing => {}
                Then::Begin(request) => self.begin(at, request),
                Then::Close(request, failure) => self.closed(at, request, receipts, failure),
            }
        }
        self.flush(at, id);
        self.moved(at, id);
    }

    /// Writes again after the disk was full.
    pub(crate) fn flush_again(&mut self, at: usize, id: ChannelId) {
        self.flush(at, id);
    }

    /// A voucher may count that did not: held chunks may go out.
    fn moved(&mut self, at: usize, id: ChannelId) {
        let Some(live) = self.shop(at) else { return };
        let waiting: Vec<_> = live
            .answers
            .iter()
            .filter(|(_, answer)| answer.channel == id && answer.selling.is_waiting())
            .map(|(request, _)| *request)
            .collect();
        for request in waiting {
            self.chunk(at, request);
        }
    }

    /// A consumer says something.
    pub(crate) fn provider_heard(&mut self, id: StreamId, stream: &Stream, message: Message) {
        let at = stream.provider;
        match (message, stream.about) {
            (Message::Infer(infer), _) => self.infer(at, id, infer),
            (Message::AskReceipts { channel, after }, _) => self.receipts(at, id, channel, after),
            (
                Message::Pay {
                    voucher,
                    read_tokens,
                },
                About::Answer(request),
            ) => {
                self.paid(at, request, voucher, read_tokens, true);
            }
            (Message::Leave, About::Answer(request)) => {
                self.end(at, request, Outcome::Cancelled, None);
            }
            _ => {}
        }
    }

    /// Nothing more is heard of a consumer.
    pub(crate) fn provider_broke(&mut self, id: StreamId, stream: &Stream) {
        let at = stream.provider;
        let Some(live) = self.shop(at) else { return };
        let on = live.answers.iter().find(|(_, answer)| answer.stream == id);
        if let Some(request) = on.map(|(request, _)| *request) {
            self.end(at, request, Outcome::Cancelled, None);
        }
    }

    fn refuse(&mut self, stream: StreamId, reason: &str) {
        let reason = reason.to_owned();
        self.say(stream, Side::Consumer, Message::Refused { reason });
    }

    /// A request: is there room, is there money?
    fn infer(&mut self, at: usize, stream: StreamId, infer: Box<Infer>) {
        let now_ms = self.now_ms;
        let Some(live) = self.shop(at) else { return };
        // What was seen before gets no answer at all.
        if !live.seen.insert(infer.request) {
            return;
        }
        if live.answers.len() >= PLACES {
            return self.refuse(stream, "busy");
        }
        let id = people::id_of(&infer.config);
        let known = live.channels.contains_key(&id);
        let channel = live
            .channels
            .entry(id)
            .or_insert_with(|| Channel::new(infer.config, Earning::new(id)));
        if !known {
            let opened = Opened {
                config: infer.config,
            };
            let head = serde_json::to_string(&opened).expect("a config is JSON");
            let write = Write {
                lines: vec![head],
                id: None,
                then: Then::Nothing,
            };
            channel.queue.push_back(write);
        }
        if channel.closed {
            return self.refuse(stream, "the provider's journal cannot be written");
        }
        let fresh = channel.read_ms.is_some_and(|read| now_ms - read < STALE_MS);
        if fresh {
            return self.pay_first(at, stream, infer, true);
        }
        channel.waiting.push(Waiting::Infer(stream, infer));
        self.read_till(at, id);
    }

    fn read_till(&mut self, at: usize, id: ChannelId) {
        let Some(channel) = self.till(at, id) else {
            return;
        };
        if !std::mem::replace(&mut channel.reading, true) {
            self.question(Who::Provider(at), Ask::Channel(id));
        }
    }

    /// The chain said what a channel holds, or did not.
    pub(crate) fn provider_read(
        &mut self,
        at: usize,
        id: ChannelId,
        read: Result<ChannelState, String>,
    ) {
        let now_ms = self.now_ms;
        let Some(channel) = self.till(at, id) else {
            return;
        };
        channel.reading = false;
        let mut good = channel.read_ms.is_some_and(|read| now_ms - read < GOOD_MS);
        if let Ok(state) = read {
            good = true;
            channel.read_ms = Some(now_ms);
            channel.earning.funded(state);
            if let Some(claimed) = channel.earning.claimed_to(state.total_claimed) {
                channel.claimed_ms = Some(now_ms);
                channel.queue(&claimed, Then::Nothing);
            }
        }
        for waiting in std::mem::take(&mut channel.waiting) {
            match waiting {
                Waiting::Infer(stream, infer) if good => self.pay_first(at, stream, infer, false),
                Waiting::Infer(stream, _) => self.refuse(stream, "the chain cannot be read"),
                Waiting::Pay(request, voucher, read) => {
                    self.paid(at, request, voucher, read, false)
                }
            }
        }
        self.flush(at, id);
    }

    /// Takes the voucher that comes with a request, and then the request.
    fn pay_first(&mut self, at: usize, stream: StreamId, infer: Box<Infer>, again: bool) {
        let id = people::id_of(&infer.config);
        if !people::verifies(&infer.voucher, &infer.config) {
            return self.refuse(stream, "voucher is not signed");
        }
        let Some(channel) = self.till(at, id) else {
            return;
        };
        match channel.earning.take(&infer.voucher) {
            Ok(Some(taken)) => channel.queue(&taken, Then::Nothing),
            Ok(None) => {}
            // It may come right after a deposit.
            Err(TillError::BeyondEscrow { .. }) if again => {
                channel.waiting.push(Waiting::Infer(stream, infer));
                return self.timer(Who::Provider(at), 1_000, Timer::Reread(id));
            }
            Err(error) => {
                self.flush(at, id);
                return self.refuse(stream, &error.to_string());
            }
        }
        let request = infer.request;
        let admitted = channel
            .earning
            .admit(request, infer.sold, infer.bound.estimate);
        match admitted {
            Ok(admitted) => channel.queue(&admitted, Then::Begin(request)),
            Err(error) => {
                self.flush(at, id);
                return self.refuse(stream, &error.to_string());
            }
        }
        let counted = self.dice.within(1..u64::from(infer.bound.ceiling) + 1);
        let counted = match self.dice.chance(9_000) {
            true => counted.min(infer.bound.estimate.into()),
            false => counted,
        };
        let answer = Answer {
            channel: id,
            stream,
            selling: Selling::new(request, PAY_WITHIN),
            input: (infer.bound.estimate, u32::try_from(counted).unwrap_or(1)),
            length: infer.length,
            held: None,
            journalled: 0,
            begun: false,
            closing: false,
        };
        if let Some(live) = self.shop(at) {
            live.answers.insert(request, answer);
        }
        self.oracle.admitted(request);
        self.flush(at, id);
    }

    /// Reads a channel again after a voucher that it did not cover.
    pub(crate) fn reread(&mut self, at: usize, id: ChannelId) {
        self.read_till(at, id);
    }

    /// The request is in the journal: work begins.
    fn begin(&mut self, at: usize, request: RequestId) {
        let Some((answer, _)) = self.sale(at, request) else {
            return;
        };
        let stream = answer.stream;
        answer.begun = true;
        self.oracle.begun(request);
        if !self.say(stream, Side::Consumer, Message::Begin) {
            return;
        }
        self.next_chunk(at, request);
        self.timer(Who::Provider(at), 2_000, Timer::Alive(request));
    }

    fn next_chunk(&mut self, at: usize, request: RequestId) {
        let pace = match self.providers[at].kind {
            ProviderKind::Slow => self.dice.within(100..600),
            _ => self.dice.within(10..150),
        };
        self.timer(Who::Provider(at), pace, Timer::Chunk(request));
    }

    /// A sign of life, while an answer runs.
    pub(crate) fn alive(&mut self, at: usize, request: RequestId) {
        let mute = self.providers[at].kind == ProviderKind::Mute;
        let Some((answer, _)) = self.sale(at, request) else {
            return;
        };
        if answer.closing || (mute && answer.selling.tokens() > 20) {
            return;
        }
        let stream = answer.stream;
        if self.say(stream, Side::Consumer, Message::Alive) {
            self.timer(Who::Provider(at), 2_000, Timer::Alive(request));
        }
    }

    /// The backend has a chunk, or a held one may go out now.
    pub(crate) fn chunk(&mut self, at: usize, request: RequestId) {
        let now = self.moment();
        let kind = self.providers[at].kind;
        let large = self.dice.chance(200);
        let size = match large {
            true => self.dice.within(33..90),
            false => self.dice.within(1..12),
        };
        let size = u32::try_from(size).unwrap_or(1);
        let never_hold = self.plan.mutant == Some(Mutant::NeverHold);
        let Some((answer, channel)) = self.sale(at, request) else {
            return;
        };
        if answer.closing || !answer.begun {
            return;
        }
        let sent = answer.selling.tokens();
        if kind == ProviderKind::Mute && sent > 20 {
            return;
        }
        if sent >= answer.length && answer.held.is_none() {
            return self.complete(at, request);
        }
        let tokens = answer.held.unwrap_or((sent + size).min(answer.length));
        let go = match answer.selling.deliver(&channel.earning, tokens, now) {
            _ if never_hold => Ok(Go::On),
            go => go,
        };
        match go {
            Ok(Go::On) => self.deliver(at, request, tokens),
            Ok(Go::Wait { until }) => {
                answer.held = Some(tokens);
                let wait = u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX);
                self.timer(Who::Provider(at), wait.max(1), Timer::Chunk(request));
            }
            Ok(Go::Unpaid) => {
                let problem = "no voucher came for the next step".to_owned();
                self.end(at, request, Outcome::Cancelled, Some(problem));
            }
            Err(error) => self.end(at, request, Outcome::Failed, Some(error.to_string())),
        }
    }

    /// A chunk goes out.
    fn deliver(&mut self, at: usize, request: RequestId, tokens: u32) {
        let Some((answer, channel)) = self.sale(at, request) else {
            return;
        };
        answer.held = None;
        let (stream, input) = (answer.stream, answer.input.0);
        let before = answer.selling.tokens();
        if answer
            .selling
            .delivered(&mut channel.earning, input, tokens)
            .is_err()
        {
            return;
        }
        self.oracle.delivered(request, tokens, tokens - before);
        let new = tokens - before;
        let bytes = u64::from(new) * self.dice.within(1..5);
        let told = match self.providers[at].kind {
            // More tokens than bytes.
            ProviderKind::Miscounts if self.dice.chance(500) => tokens.saturating_mul(6),
            _ => tokens,
        };
        let chunk = Message::Chunk {
            tokens: told,
            bytes,
        };
        if !self.say(stream, Side::Consumer, chunk) {
            return;
        }
        let Some((answer, channel)) = self.sale(at, request) else {
            return;
        };
        if answer.selling.lags(answer.journalled)
            && let Ok((progress, tokens)) = channel.earning.progress(request)
        {
            answer.journalled = answer.journalled.max(tokens);
            let id = answer.channel;
            channel.queue(&progress, Then::Nothing);
            self.flush(at, id);
        }
        self.next_chunk(at, request);
    }

    /// The backend is done: it is closed once all of it can be billed.
    fn complete(&mut self, at: usize, request: RequestId) {
        let now = self.moment();
        let Some((answer, channel)) = self.sale(at, request) else {
            return;
        };
        match answer.selling.bill(&channel.earning, now) {
            Ok(Go::On) => self.end(at, request, Outcome::Complete, None),
            Ok(Go::Wait { until }) => {
                let wait = u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX);
                self.timer(Who::Provider(at), wait.max(1), Timer::Chunk(request));
            }
            _ => {
                let problem = "no voucher came for the last step".to_owned();
                self.end(at, request, Outcome::Cancelled, Some(problem));
            }
        }
    }

    /// An answer ends: its receipt goes to the journal.
    fn end(&mut self, at: usize, request: RequestId, outcome: Outcome, failure: Option<String>) {
        let now = self.clock(Who::Provider(at));
        let kind = self.providers[at].kind;
        let more = match kind {
            ProviderKind::Overbills => u32::try_from(self.dice.within(0..80)).unwrap_or(0),
            _ if self.plan.mutant == Some(Mutant::BillBeyondDelivered) => 7,
            _ => 0,
        };
        let Some((answer, channel)) = self.sale(at, request) else {
            return;
        };
        if std::mem::replace(&mut answer.closing, true) {
            return;
        }
        let (id, begun) = (answer.channel, answer.begun);
        if !begun {
            // No work was done on it.
            if let Ok(given_back) = channel.earning.refuse(request) {
                channel.queue(&given_back, Then::Nothing);
            }
            self.oracle.given_back(request);
            if let Some(live) = self.shop(at) {
                live.answers.remove(&request);
            }
            return self.flush(at, id);
        }
        let output = answer.selling.tokens() + more;
        let input = answer.input.1;
        let closing = answer.selling.closing(outcome, input, output, now);
        match channel.earning.close(closing) {
            Ok(closed) => channel.queue(&closed, Then::Close(request, failure)),
            Err(error) => return self.trace.text(&error.to_string()),
        }
        self.flush(at, id);
    }

    /// A receipt is in the journal: sign, and send it.
    fn closed(
        &mut self,
        at: usize,
        request: RequestId,
        receipts: Vec<Durable<Receipt>>,
        failure: Option<String>,
    ) {
        let Some(live) = self.shop(at) else { return };
        let stream = live.answers.remove(&request).map(|answer| answer.stream);
        for receipt in receipts {
            if !self.effect(Who::Provider(at)) {
                return;
            }
            let receipt = Box::new(self.sign_receipt(at, receipt));
            let failure = failure.clone();
            if let Some(stream) = stream {
                self.say(stream, Side::Consumer, Message::End { receipt, failure });
            }
        }
    }

    fn sign_receipt(&mut self, at: usize, receipt: Durable<Receipt>) -> SignedReceipt {
        let kind = self.providers[at].kind;
        self.trace.number(receipt.get().amount.base_units());
        self.note_receipt(at, receipt.get());
        if kind.is_honest() {
            if let Err(problem) = self.oracle.receipt_signed(receipt.get()) {
                self.violate(2, problem);
            }
            if let Err(problem) = self.oracle.billed(receipt.get()) {
                self.violate(5, problem);
            }
        }
        let receipt = match kind {
            ProviderKind::Equivocates if self.dice.chance(5_000) => {
                let mut other = receipt.get().clone();
                other.output_tokens += 3;
                other.amount = other.amount.plus(Amount::new(3)).unwrap_or(other.amount);
                Durable::read_back(other)
            }
            _ => receipt,
        };
        receipt.sign(people::node(at))
    }

    /// A voucher within an answer.
    fn paid(
        &mut self,
        at: usize,
        request: RequestId,
        voucher: SignedVoucher,
        read: u32,
        again: bool,
    ) {
        let id = voucher.voucher.channel;
        // The answer may have ended meanwhile; its last voucher is still good.
        let Some(channel) = self.till(at, id) else {
            return;
        };
        if !people::verifies(&voucher, &channel.config) {
            let fraud = "voucher is not signed by the channel's payer authorizer".to_owned();
            return self.end(at, request, Outcome::Cancelled, Some(fraud));
        }
        match channel.earning.pay(&voucher, request, read) {
            Ok((paid, tokens)) => {
                channel.queue(&paid, Then::Nothing);
                if let Some((answer, _)) = self.sale(at, request) {
                    answer.journalled = answer.journalled.max(tokens);
                }
                self.flush(at, id);
            }
            Err(TillError::BeyondEscrow { .. }) if again => {
                channel.waiting.push(Waiting::Pay(request, voucher, read));
                self.timer(Who::Provider(at), 1_000, Timer::Reread(id));
            }
            // It does not count; if it was needed, the answer will end unpaid.
            Err(error) => self.trace.text(&error.to_string()),
        }
    }

    /// A consumer asks for receipts that it missed: they are read back.
    fn receipts(&mut self, at: usize, stream: StreamId, id: ChannelId, after: u64) {
        let Some(channel) = self.till(at, id) else {
            let nothing = Message::Receipts {
                receipts: vec![],
                running: 0,
            };
            self.say(stream, Side::Consumer, nothing);
            return;
        };
        let running = channel.earning.open();
        let read = self.providers[at].disk.read(Book::Till(id)).iter().skip(1);
        let events = read.filter_map(|line| serde_json::from_str::<TillEvent>(line).ok());
        let receipts: Vec<_> = events
            .filter_map(|event| match event {
                TillEvent::Receipted { receipt } if receipt.sequence > after => Some(*receipt),
                _ => None,
            })
            .take(RECEIPTS_MAX)
            .collect();
        let mut signed = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            signed.push(self.sign_receipt(at, Durable::read_back(receipt)));
        }
        let receipts = Message::Receipts {
            receipts: signed,
            running,
        };
        self.say(stream, Side::Consumer, receipts);
    }
}
