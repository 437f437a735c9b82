//! A consumer of the town: the shell that a real node has around
//! [`market::Spending`] and [`market::Buying`], on virtual time.
//!
//! Whatever it decides about money it asks the engines; here is only what a
//! socket, a disk and a chain would bring and take.

mod funds;
mod hearing;
mod receipts;

use std::collections::BTreeMap;

use market::{
    Amount, Buying, ChannelConfig, ChannelId, Durable, InputBound, Move, MoveId, Pay, PurseError,
    PurseEvent, RequestId, Spending, Voucher,
};

use crate::disk::{Book, Disk, Written};
use crate::people;
use crate::plan::{ConsumerKind, Mutant};
use crate::sender::Sender;
use crate::town::{Timer, Token, Town, Who};
use crate::wire::{About, Infer, Message, Side, StreamId};

/// The most that a channel may hold unspent.
pub(crate) const CHANNEL_MAX: Amount = Amount::new(6_000);
/// Deposits tried for one request.
const TOP_UPS: u32 = 3;
/// Between two tries to fetch receipts.
const MEND_MS: u64 = 4_000;

/// A consumer: what survives a crash, and what does not.
pub(crate) struct Consumer {
    pub(crate) kind: ConsumerKind,
    pub(crate) disk: Disk<Token>,
    pub(crate) life: u64,
    pub(crate) clock_s: i64,
    pub(crate) live: Option<Live>,
    /// Requests are never used twice.
    pub(crate) asked: u64,
}

/// What a crash takes.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) channels: BTreeMap<usize, Channel>,
    pub(crate) answers: BTreeMap<RequestId, Answer>,
    pub(crate) sender: Sender,
}

/// What a channel is busy with on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upkeep {
    Idle,
    Opening,
    Reading,
    Depositing,
}

/// Who waits for money in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiter {
    Ask(RequestId),
    Pay(RequestId),
}

/// A channel to one provider.
pub(crate) struct Channel {
    pub(crate) config: ChannelConfig,
    pub(crate) id: ChannelId,
    pub(crate) spending: Spending,
    upkeep: Upkeep,
    wanted: Amount,
    /// What was signed and receipted when it was last looked at.
    mark: (Amount, u64),
    waiters: Vec<Waiter>,
    pub(crate) unreconciled: bool,
    mending: bool,
}

/// One try at one provider.
pub(crate) struct Answer {
    client: usize,
    provider: usize,
    buying: Option<Buying>,
    stream: Option<StreamId>,
    top_ups: u32,
    paying: bool,
    again: bool,
    left: bool,
    /// A timer for its silence runs.
    watched: bool,
}

impl Channel {
    fn new(config: ChannelConfig, spending: Spending, used: bool) -> Self {
        let mark = (spending.purse().ceiling(), spending.purse().sequence());
        Self {
            mark,
            config,
            id: people::id_of(&config),
            spending,
            upkeep: Upkeep::Idle,
            wanted: Amount::ZERO,
            waiters: vec![],
            unreconciled: used,
            mending: false,
        }
    }
}

fn lines(events: &[PurseEvent]) -> Vec<String> {
    let line = |event| serde_json::to_string(event).expect("an event has only string keys");
    events.iter().map(line).collect()
}

impl Town {
    fn live(&mut self, at: usize) -> Option<&mut Live> {
        self.consumers[at].live.as_mut()
    }

    fn channel(&mut self, at: usize, provider: usize) -> Option<&mut Channel> {
        self.live(at)?.channels.get_mut(&provider)
    }

    fn answer(&mut self, at: usize, request: RequestId) -> Option<&mut Answer> {
        self.live(at)?.answers.get_mut(&request)
    }

    /// The engines of an answer, together.
    fn engines(&mut self, at: usize, request: RequestId) -> Option<(&mut Answer, &mut Channel)> {
        let live = self.live(at)?;
        let answer = live.answers.get_mut(&request)?;
        let channel = live.channels.get_mut(&answer.provider)?;
        Some((answer, channel))
    }

    /// The node starts: everything it knows comes from its disk.
    pub(crate) fn consumer_starts(&mut self, at: usize) {
        let mut live = Live::default();
        let consumer = &mut self.consumers[at];
        if self.plan.mutant == Some(Mutant::ForgetCeiling) {
            for book in consumer.disk.books() {
                if matches!(book, Book::Purse(_)) {
                    consumer.disk.forget(book, "ceiling");
                }
            }
        }
        let opened: Vec<(usize, ChannelConfig)> = consumer
            .disk
            .read(Book::Channels)
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        for (provider, config) in opened {
            let id = people::id_of(&config);
            let read = consumer.disk.read(Book::Purse(id)).iter();
            let events: Result<Vec<PurseEvent>, _> =
                read.map(|l| serde_json::from_str(l)).collect();
            let replayed = events
                .ok()
                .and_then(|events| Spending::replay(id, &events).ok());
            let Some(spending) = replayed else {
                return self.violate(6, format!("consumer {at} cannot read its journal of {id}"));
            };
            let used = !spending.durable().is_zero();
            live.channels
                .insert(provider, Channel::new(config, spending, used));
        }
        let Some(sender) = self.sender_starts(Who::Consumer(at)) else {
            return;
        };
        live.sender = sender;
        self.consumers[at].live = Some(live);
        self.consumer_same_as_before(at);
        self.turn(Who::Consumer(at));
        self.timer(Who::Consumer(at), 10_000, Timer::Look);
        let live = self.consumers[at].live.iter();
        let providers: Vec<_> = live
            .flat_map(|live| live.channels.keys().copied())
            .collect();
        for provider in providers {
            self.mend_later(at, provider, 1_000);
        }
    }

    /// A client wants something.
    pub(crate) fn wish(&mut self, client: usize) {
        let wish = self.clients[client].wish;
        if self.consumers[wish.consumer].live.is_none() {
            return self.tell(client, Err("the gateway is not there".to_owned()));
        }
        self.try_next(client);
    }

    /// Asks the next provider for a client.
    fn try_next(&mut self, client: usize) {
        let tried = self.clients[client].tried;
        let wish = self.clients[client].wish;
        if tried >= self.providers.len() {
            let last = self.clients[client].problem.clone();
            return self.tell(
                client,
                Err(last.unwrap_or_else(|| "nobody sells".to_owned())),
            );
        }
        self.clients[client].tried += 1;
        let (at, provider) = (wish.consumer, (wish.first + tried) % self.providers.len());
        self.consumers[at].asked += 1;
        let mut id = [0u8; 16];
        id[0] = u8::try_from(at).unwrap_or(u8::MAX);
        id[8..].copy_from_slice(&self.consumers[at].asked.to_be_bytes());
        let request = RequestId(id.into());
        let Some(live) = self.live(at) else { return };
        live.answers.insert(
            request,
            Answer {
                client,
                provider,
                buying: None,
                stream: None,
                top_ups: 0,
                paying: false,
                again: false,
                left: false,
                watched: false,
            },
        );
        self.clients[client].request = Some(request);
        let Some(live) = self.live(at) else { return };
        if let Some(channel) = live.channels.get_mut(&provider) {
            if channel.upkeep == Upkeep::Opening {
                channel.waiters.push(Waiter::Ask(request));
                return;
            }
            return self.reserve(at, request);
        }
        let config = people::channel(at, provider);
        let id = people::id_of(&config);
        let mut channel = Channel::new(config, Spending::new(id), false);
        channel.upkeep = Upkeep::Opening;
        channel.waiters.push(Waiter::Ask(request));
        live.channels.insert(provider, channel);
        let line = serde_json::to_string(&(provider, config)).expect("a config is JSON");
        let token = Token::Opened { provider };
        self.append(Who::Consumer(at), Book::Channels, vec![line], token);
    }

    /// Reserves what a request may cost, or sees to the money for it.
    fn reserve(&mut self, at: usize, request: RequestId) {
        let Some(answer) = self.answer(at, request) else {
            return;
        };
        let (client, provider, top_ups) = (answer.client, answer.provider, answer.top_ups);
        let bound = InputBound::of_body(self.clients[client].wish.body_bytes);
        let rates = people::sold(provider).rates;
        let Some(channel) = self.channel(at, provider) else {
            return;
        };
        match channel.spending.ask(request, rates, bound) {
            Ok(asked) => {
                let id = channel.id;
                let token = Token::Asked {
                    request,
                    id: asked.id(),
                };
                self.oracle.asked(request, id, rates, bound);
                if self.plan.mutant == Some(Mutant::SignBeforeJournal) {
                    let ceiling = self
                        .channel(at, provider)
                        .map(|c| c.spending.purse().ceiling());
                    let ceiling = ceiling.unwrap_or_default();
                    self.sign(
                        at,
                        Durable::read_back(Voucher {
                            channel: id,
                            ceiling,
                        }),
                    );
                }
                self.write_purse(at, provider, &asked, token);
            }
            Err(PurseError::Escrow { needed, .. }) if top_ups < TOP_UPS => {
                if let Some(answer) = self.answer(at, request) {
                    answer.top_ups += 1;
                }
                self.top_up(at, provider, needed, Waiter::Ask(request));
            }
            Err(error) => self.give_up(at, request, error.to_string()),
        }
    }

    fn write_purse(
        &mut self,
        at: usize,
        provider: usize,
        moved: &Move<PurseEvent>,
        token: Token,
    ) -> bool {
        let Some(channel) = self.channel(at, provider) else {
            return false;
        };
        let book = Book::Purse(channel.id);
        self.append(Who::Consumer(at), book, lines(moved.events()), token)
    }

    /// The disk has something, or has not.
    pub(crate) fn consumer_written(&mut self, at: usize, token: Token, written: Written) {
        match token {
            Token::Opened { provider } => match written {
                Written::Durable => self.funded(at, provider, Ok(())),
                _ => {
                    let problem = "the journal cannot be written".to_owned();
                    self.funded(at, provider, Err(problem));
                    if let Some(live) = self.live(at) {
                        live.channels.remove(&provider);
                    }
                }
            },
            Token::Asked { request, id } => self.asked(at, request, id, written),
            Token::Ceiling { request, id } => {
                let Some((_, channel)) = self.engines(at, request) else {
                    return;
                };
                let voucher = match reported(&mut channel.spending, id, written) {
                    Ok(done) => done,
                    Err(problem) => return self.give_up(at, request, problem),
                };
                self.bring(at, request, voucher.voucher);
            }
            Token::Booked {
                request,
                id,
                failure,
            } => {
                let Some((answer, channel)) = self.engines(at, request) else {
                    return;
                };
                let client = answer.client;
                let done = match reported(&mut channel.spending, id, written) {
                    Ok(done) => done,
                    Err(problem) => return self.give_up(at, request, problem),
                };
                self.oracle.booked(request);
                if done.raised && self.consumers[at].kind != ConsumerKind::Stingy {
                    // The provider's last step ran ahead of the voucher before.
                    self.bring(at, request, done.voucher);
                }
                let Some(live) = self.live(at) else { return };
                let provider = live.answers.remove(&request).map(|answer| answer.provider);
                if let Some(provider) = provider {
                    self.missing(at, provider);
                }
                match failure {
                    None => self.tell(client, Ok(request)),
                    Some(problem) => self.failed(client, problem),
                }
            }
            Token::Late {
                provider,
                id,
                request,
            } => {
                let Some(channel) = self.channel(at, provider) else {
                    return;
                };
                let Ok(done) = reported(&mut channel.spending, id, written) else {
                    return;
                };
                self.oracle.booked(request);
                if done.raised {
                    self.raised(at, provider, request);
                }
            }
            Token::Sent => self.tx_written(Who::Consumer(at), written),
            Token::Till { .. } => {}
        }
    }

    /// A request is in the journal: sign, and send it.
    fn asked(&mut self, at: usize, request: RequestId, id: MoveId, written: Written) {
        let Some((answer, channel)) = self.engines(at, request) else {
            return;
        };
        let provider = answer.provider;
        let client = answer.client;
        let config = channel.config;
        let voucher = match reported(&mut channel.spending, id, written) {
            Ok(done) => done.voucher,
            Err(problem) => return self.give_up(at, request, problem),
        };
        if !self.effect(Who::Consumer(at)) {
            return;
        }
        let voucher = self.sign(at, voucher);
        let stream = self.open(at, provider, About::Answer(request));
        let now = self.moment();
        let Some(answer) = self.answer(at, request) else {
            return;
        };
        answer.stream = Some(stream);
        answer.buying = Some(Buying::new(request, None, now));
        let wish = self.clients[client].wish;
        let infer = Infer {
            request,
            config,
            voucher,
            sold: people::sold(provider),
            bound: InputBound::of_body(wish.body_bytes),
            length: wish.tokens,
        };
        self.deadline(at, request);
        self.say(stream, Side::Provider, Message::Infer(Box::new(infer)));
    }

    /// Signs a voucher that the engine gave out.
    fn sign(&mut self, at: usize, voucher: Durable<Voucher>) -> market::SignedVoucher {
        let voucher = match self.plan.mutant {
            Some(Mutant::SignTooMuch) => {
                let Voucher { channel, ceiling } = *voucher.get();
                let ceiling = ceiling.plus(Amount::new(40)).unwrap_or(ceiling);
                Durable::read_back(Voucher { channel, ceiling })
            }
            _ => voucher,
        };
        let signed = people::sign(at, voucher);
        self.trace.number(signed.voucher.ceiling.base_units());
        self.note_voucher(at, &signed);
        let honest = self.consumers[at].kind.is_honest();
        if honest && let Err(problem) = self.oracle.signed(&signed) {
            self.violate(2, problem);
        }
        signed
    }

    /// A voucher is due for what was read.
    fn pay(&mut self, at: usize, request: RequestId) {
        let kind = self.consumers[at].kind;
        let Some((answer, channel)) = self.engines(at, request) else {
            return;
        };
        if kind == ConsumerKind::Stingy {
            return;
        }
        if answer.paying {
            answer.again = true;
            return;
        }
        let provider = answer.provider;
        match channel.spending.pay() {
            Ok(Pay::Sign(voucher)) => self.bring(at, request, voucher),
            Ok(Pay::Write(ceiling)) => {
                answer.paying = true;
                let token = Token::Ceiling {
                    request,
                    id: ceiling.id(),
                };
                self.write_purse(at, provider, &ceiling, token);
            }
            Err(PurseError::Escrow { needed, .. }) => {
                answer.paying = true;
                self.top_up(at, provider, needed, Waiter::Pay(request));
                if let Some(answer) = self.answer(at, request) {
                    answer.paying = false;
                }
            }
            Err(error) => self.give_up(at, request, error.to_string()),
        }
    }

    /// Brings a voucher to the provider.
    fn bring(&mut self, at: usize, request: RequestId, voucher: Durable<Voucher>) {
        if !self.effect(Who::Consumer(at)) {
            return;
        }
        let mut voucher = self.sign(at, voucher);
        if self.consumers[at].kind == ConsumerKind::Forges && self.dice.chance(5_000) {
            voucher = people::forge(voucher);
        }
        let Some(answer) = self.answer(at, request) else {
            return;
        };
        answer.paying = false;
        let again = std::mem::take(&mut answer.again);
        let read_tokens = answer.buying.as_ref().map_or(0, Buying::read_tokens);
        if let Some(stream) = answer.stream {
            let pay = Message::Pay {
                voucher,
                read_tokens,
            };
            if !self.say(stream, Side::Provider, pay) {
                return;
            }
        }
        if again {
            self.pay(at, request);
        }
    }

    /// A receipt raised the ceiling: somebody brings the voucher.
    fn raised(&mut self, at: usize, provider: usize, ended: RequestId) {
        let Some(live) = self.live(at) else { return };
        let running = live.answers.iter();
        let running =
            running.filter(|(_, answer)| answer.provider == provider && answer.stream.is_some());
        match running.map(|(request, _)| *request).next() {
            Some(request) => self.pay(at, request),
            // The next request brings it.
            None => self.trace.number(u128::from(ended.0[15])),
        }
    }

    /// What was never sent, or could not be paid on, is given up.
    fn give_up(&mut self, at: usize, request: RequestId, problem: String) {
        let Some((answer, channel)) = self.engines(at, request) else {
            return;
        };
        if answer.buying.is_some() {
            if answer.buying.as_ref().is_some_and(Buying::is_over) {
                let client = answer.client;
                if let Some(live) = self.live(at) {
                    live.answers.remove(&request);
                }
                return self.failed(client, problem);
            }
            return self.broken_answer(at, request, problem);
        }
        // It may be reserved; what was not sent may still be unknown to the disk.
        let reserved = channel.spending.broken(request).is_ok();
        let (client, provider) = (answer.client, answer.provider);
        channel.unreconciled |= reserved;
        if let Some(live) = self.live(at) {
            live.answers.remove(&request);
        }
        if reserved {
            self.mend_later(at, provider, 2_000);
        }
        self.retry(client, problem);
    }

    /// The provider did not take it.
    fn elsewhere(&mut self, at: usize, request: RequestId, problem: String) {
        let Some(answer) = self.answer(at, request) else {
            return;
        };
        let client = answer.client;
        if let Some(live) = self.live(at) {
            live.answers.remove(&request);
        }
        self.retry(client, problem);
    }

    fn retry(&mut self, client: usize, problem: String) {
        self.clients[client].problem = Some(problem);
        self.try_next(client);
    }

    fn failed(&mut self, client: usize, problem: String) {
        if self.plan.mutant == Some(Mutant::SilentLoss) {
            return;
        }
        self.tell(client, Err(problem));
    }

    /// The node is gone: what its clients saw breaks off.
    pub(crate) fn consumer_gone(&mut self, at: usize) {
        let all = self.clients.iter().enumerate();
        let open = all.filter(|(_, client)| client.wish.consumer == at && client.is_open());
        for client in open.map(|(at, _)| at).collect::<Vec<_>>() {
            self.failed(client, "the connection was reset".to_owned());
        }
        for provider in 0..self.providers.len() {
            let id = people::channel_id(at, provider);
            self.oracle.consumer_gone(id);
        }
    }

    /// Wakes channels up when faults have ended.
    pub(crate) fn consumer_calm(&mut self, at: usize) {
        let Some(live) = self.live(at) else { return };
        let providers: Vec<_> = live.channels.keys().copied().collect();
        for provider in providers {
            self.mend_later(at, provider, 100);
        }
    }
}

/// Reports a move, and has what may be signed for it.
fn reported(
    spending: &mut Spending,
    id: MoveId,
    written: Written,
) -> Result<market::Written, String> {
    match written {
        Written::Durable => spending.written(id).map_err(|error| error.to_string()),
        Written::Full | Written::Broken => {
            spending.unwritten(id);
            Err("the journal cannot be written".to_owned())
        }
    }
}
