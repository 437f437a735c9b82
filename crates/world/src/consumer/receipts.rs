//! Receipts that a consumer missed: asked for until the books close.

use market::PurseError;

use super::MEND_MS;
use crate::people;
use crate::town::{Timer, Token, Town, Who};
use crate::wire::{About, Message, Side, StreamId};

impl Town {
    /// Fetches receipts some time later, if any are missing.
    pub(super) fn mend_later(&mut self, at: usize, provider: usize, wait_ms: u64) {
        self.timer(Who::Consumer(at), wait_ms, Timer::Mend(provider));
    }

    /// Asks for receipts that were missed.
    pub(crate) fn mend(&mut self, at: usize, provider: usize) {
        let Some(channel) = self.channel(at, provider) else {
            return;
        };
        if channel.mending || !channel.unreconciled {
            return;
        }
        channel.mending = true;
        let (id, after) = (channel.id, channel.spending.purse().sequence());
        let stream = self.open(at, provider, About::Receipts(id));
        let ask = Message::AskReceipts { channel: id, after };
        self.say(stream, Side::Provider, ask);
        // A provider that says nothing is asked again.
        let timer = Timer::MendAgain(provider, stream);
        self.timer(Who::Consumer(at), 5_000, timer);
    }

    /// The provider did not send its receipts.
    pub(crate) fn mend_again(&mut self, at: usize, provider: usize, stream: StreamId) {
        if self.streams.remove(&stream).is_none() {
            return;
        }
        if let Some(channel) = self.channel(at, provider) {
            channel.mending = false;
        }
        self.mend(at, provider);
    }

    pub(super) fn receipts_came(&mut self, at: usize, provider: usize, message: Message) {
        let Some(channel) = self.channel(at, provider) else {
            return;
        };
        channel.mending = false;
        let Message::Receipts { receipts, running } = message else {
            return self.mend_later(at, provider, MEND_MS);
        };
        self.streams.retain(|_, stream| {
            !(stream.consumer == at
                && stream.provider == provider
                && matches!(stream.about, About::Receipts(_)))
        });
        for receipt in &receipts {
            if receipt.verify(people::node(provider).id()).is_err() {
                return self.mend_later(at, provider, MEND_MS);
            }
            let Some(channel) = self.channel(at, provider) else {
                return;
            };
            match channel.spending.reconciled(receipt) {
                Ok(Some(booked)) => {
                    let request = receipt.receipt.request;
                    self.oracle.accepts(&receipt.receipt, true);
                    let token = Token::Late {
                        provider,
                        id: booked.id(),
                        request,
                    };
                    if !self.write_purse(at, provider, &booked, token) {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    self.trace.text(&error.to_string());
                    self.dispute(at, provider, &error);
                    return self.mend_later(at, provider, MEND_MS);
                }
            }
        }
        let Some(channel) = self.channel(at, provider) else {
            return;
        };
        if running == 0 {
            channel.spending.settled_up();
        }
        channel.unreconciled = channel.spending.purse().needs_reconciling();
        if channel.unreconciled {
            self.mend_later(at, provider, MEND_MS);
        } else {
            let id = channel.id;
            self.oracle.reconciled(id);
        }
    }

    /// A receipt that cannot be booked: between honest sides there is none.
    pub(super) fn dispute(&mut self, at: usize, provider: usize, error: &PurseError) {
        let honest =
            self.consumers[at].kind.is_honest() && self.providers[provider].kind.is_honest();
        if honest {
            let problem = format!("consumer {at} refuses provider {provider}'s receipt: {error}");
            self.violate(6, problem);
        }
    }
}
