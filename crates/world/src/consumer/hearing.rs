//! What a consumer hears of a provider, and what a silence means to it.

use market::{BuyingError, RequestId, Said, SignedReceipt, Silence, Turn};

use super::MEND_MS;
use crate::people;
use crate::plan::{ConsumerKind, Fault};
use crate::town::{Timer, Token, Town, Who};
use crate::wire::{About, Message, Side, Stream, StreamId};

impl Town {
    /// The provider says something.
    pub(crate) fn consumer_heard(&mut self, id: StreamId, stream: &Stream, message: Message) {
        let at = stream.consumer;
        let request = match stream.about {
            About::Answer(request) => request,
            About::Receipts(_) => return self.receipts_came(at, stream.provider, message),
            About::Replay => return,
        };
        let now = self.moment();
        let Some((answer, channel)) = self.engines(at, request) else {
            return;
        };
        if answer.stream != Some(id) {
            return;
        }
        let Some(buying) = answer.buying.as_mut() else {
            return;
        };
        let said = match &message {
            Message::Begin => Said::Begin,
            Message::Refused { .. } => Said::Refused,
            Message::Chunk { tokens, bytes } => Said::Chunk {
                tokens: *tokens,
                bytes: *bytes,
            },
            Message::End { .. } => Said::End,
            _ => return buying.alive(now),
        };
        let turn = buying.hear(said, &mut channel.spending, now);
        let (left, client) = (answer.left, answer.client);
        match (turn, message) {
            (Ok(Turn::Begun), _) => {}
            (Ok(Turn::Refused), Message::Refused { reason }) => {
                self.oracle.refused(request);
                self.elsewhere(at, request, reason);
            }
            (Ok(Turn::Chunk { due }), Message::Chunk { tokens, bytes }) => {
                self.oracle.received(request, tokens, bytes);
                self.clients[client].tokens = tokens;
                if due {
                    self.pay(at, request);
                }
                let leaves = self.clients[client].wish.leaves_after;
                if !left
                    && leaves.is_some_and(|after| tokens >= after)
                    && self.plan.has(Fault::ClientLeaves)
                {
                    self.client_leaves(at, request);
                }
            }
            (Ok(Turn::Ended), Message::End { receipt, failure }) => {
                self.ended(at, request, &receipt, failure);
            }
            (Err(error), _) => self.broken_answer(at, request, problem(error)),
            _ => {}
        }
        self.deadline(at, request);
    }

    /// The client does not want any more.
    pub(super) fn client_leaves(&mut self, at: usize, request: RequestId) {
        self.tally.fault(Fault::ClientLeaves);
        let now = self.moment();
        let deserts = self.consumers[at].kind == ConsumerKind::Deserts;
        let Some(answer) = self.answer(at, request) else {
            return;
        };
        answer.left = true;
        if let Some(buying) = answer.buying.as_mut() {
            buying.leave(now);
        }
        let stream = answer.stream.filter(|_| !deserts);
        if let Some(stream) = stream {
            self.say(stream, Side::Provider, Message::Leave);
        }
    }

    /// The last word: check the receipt, book it.
    pub(super) fn ended(
        &mut self,
        at: usize,
        request: RequestId,
        receipt: &SignedReceipt,
        failure: Option<String>,
    ) {
        let Some((answer, channel)) = self.engines(at, request) else {
            return;
        };
        let provider = answer.provider;
        if receipt.verify(people::node(provider).id()).is_err() {
            return self.broken_answer(at, request, "receipt is not signed".to_owned());
        }
        let Some(buying) = answer.buying.as_mut() else {
            return;
        };
        match buying.receipted(receipt, &mut channel.spending) {
            Ok(booked) => {
                self.oracle.accepts(&receipt.receipt, false);
                let id = booked.id();
                let token = Token::Booked {
                    request,
                    id,
                    failure,
                };
                self.write_purse(at, provider, &booked, token);
            }
            Err(error) => self.broken_answer(at, request, problem(error)),
        }
    }

    /// Nothing more is to be expected of this stream.
    pub(crate) fn consumer_broke(&mut self, stream: &Stream) {
        match stream.about {
            About::Answer(request) => {
                let open = self.answer(stream.consumer, request);
                let open = open.is_some_and(|a| a.buying.as_ref().is_some_and(|b| !b.is_over()));
                if open {
                    self.broken_answer(stream.consumer, request, "the path failed".to_owned());
                }
            }
            About::Receipts(_) => {
                if let Some(channel) = self.channel(stream.consumer, stream.provider) {
                    channel.mending = false;
                }
                self.mend_later(stream.consumer, stream.provider, MEND_MS);
            }
            About::Replay => {}
        }
    }

    /// Sees to the next time that a silence counts.
    pub(super) fn deadline(&mut self, at: usize, request: RequestId) {
        let now = self.moment();
        let Some(answer) = self.answer(at, request) else {
            return;
        };
        let Some(buying) = answer.buying.as_ref().filter(|buying| !buying.is_over()) else {
            return;
        };
        if answer.watched {
            return;
        }
        let wait = buying.deadline().since(now);
        answer.watched = true;
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.timer(Who::Consumer(at), wait.max(1), Timer::Silence(request));
    }

    /// Whether a silence has lasted too long.
    pub(crate) fn silence(&mut self, at: usize, request: RequestId) {
        let now = self.moment();
        let Some(answer) = self.answer(at, request) else {
            return;
        };
        answer.watched = false;
        let Some(buying) = answer.buying.as_ref() else {
            return;
        };
        let problem = match buying.silence(now) {
            // Heard meanwhile.
            None => return self.deadline(at, request),
            Some(Silence::Unanswered) => "it neither took nor refused the request",
            Some(Silence::Path) => "nothing is heard any more",
            Some(Silence::Mute) => "the provider said nothing",
            Some(Silence::Left) => "the receipt is fetched later",
        };
        self.broken_answer(at, request, problem.to_owned());
    }

    /// An answer ended without a receipt.
    pub(super) fn broken_answer(&mut self, at: usize, request: RequestId, problem: String) {
        let Some((answer, channel)) = self.engines(at, request) else {
            return;
        };
        let (client, provider, stream) = (answer.client, answer.provider, answer.stream);
        match answer.buying.as_mut() {
            Some(buying) if buying.is_over() => return,
            Some(buying) => buying.broken(&mut channel.spending),
            None => return,
        }
        channel.unreconciled = true;
        let first = self.clients[client].tokens == 0;
        if let Some(stream) = stream {
            self.drop_stream(stream);
        }
        if let Some(live) = self.live(at) {
            live.answers.remove(&request);
        }
        self.mend_later(at, provider, 2_000);
        match first {
            true => self.retry(client, problem),
            false => self.failed(client, problem),
        }
    }
}

fn problem(error: BuyingError) -> String {
    error.to_string()
}
