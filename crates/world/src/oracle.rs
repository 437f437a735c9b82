//! What is really true, kept beside the nodes and apart from their engines:
//! who delivered what, who signed what, and what is really on the disks. The
//! invariants are checked against it.

use std::collections::{BTreeMap, BTreeSet};

use chain::OpenTxs;
use chain::sender::machine::Attempt;
use market::{
    Amount, B256, ChannelId, InputBound, PurseEvent, Rates, Receipt, RequestId, STEP_TOKENS,
    Signature, SignedVoucher, TillEvent, TxHash,
};

use crate::disk::Book;
use crate::sender::{Line, POLICY, take};
use crate::town::Who;

/// One try of one request.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) channel: ChannelId,
    pub(crate) rates: Rates,
    pub(crate) bound: InputBound,
    /// Sent by the provider, and the last chunk of it.
    pub(crate) delivered: u32,
    pub(crate) chunk: u32,
    /// Read by the consumer.
    pub(crate) received: u32,
    pub(crate) bytes: u64,
    pub(crate) admitted: bool,
    pub(crate) begun: bool,
    /// The receipt on the provider's disk: what it does not bill the provider gave away.
    pub(crate) closed: Option<Receipt>,
    /// The provider's receipt, once it was signed.
    pub(crate) billed: Option<Receipt>,
    /// The consumer's, once it accepted it.
    pub(crate) accepted: Option<Receipt>,
    pub(crate) late: bool,
    /// Its place among all bookings and signatures, once its receipt was booked.
    pub(crate) booked_at: Option<u64>,
    /// The consumer crashed since it asked.
    pub(crate) forgotten: bool,
    pub(crate) refused: bool,
    /// A voucher that was signed after the receipt was booked is in the
    /// provider's journal.
    pub(crate) paid: bool,
}

/// One channel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Money {
    /// The highest voucher that was signed.
    pub(crate) signed: Amount,
    /// All of them by their sum, with their first place among all bookings and
    /// signatures.
    pub(crate) signatures: BTreeMap<Amount, (Signature, u64)>,
    /// The highest ceiling on the consumer's disk.
    pub(crate) journalled: Amount,
    /// The sum of the receipts on the consumer's disk.
    pub(crate) charged: Amount,
    /// The most that the consumer was ever allowed to sign.
    pub(crate) allowed: Amount,
    /// What had been signed at the consumer's last crash.
    pub(crate) signed_at_crash: Amount,
    /// The best voucher on the provider's disk.
    pub(crate) received: Amount,
    /// Receipts on the provider's disk, by number, and their sum.
    pub(crate) receipts: BTreeMap<u64, Receipt>,
    /// Receipts that the provider signed.
    pub(crate) told: BTreeMap<u64, Receipt>,
    /// The most that the channel ever held.
    pub(crate) escrow: Amount,
    /// Answers that ran at once, at most.
    pub(crate) peak: usize,
}

/// What an account signed and sent.
#[derive(Debug, Default)]
struct Sends {
    /// On its disk.
    journalled: BTreeSet<TxHash>,
    open: OpenTxs,
    /// Wishes whose inclusion somebody heard of in this life.
    told: BTreeSet<TxHash>,
}

/// The truth.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) facts: BTreeMap<RequestId, Facts>,
    pub(crate) money: BTreeMap<ChannelId, Money>,
    /// Channels that something happened to since they were last checked.
    pub(crate) touched: Vec<ChannelId>,
    /// Bookings and signatures so far. Their order decides what a voucher
    /// covers, and a millisecond holds many: two lines that one fsync made
    /// durable are told of at the same time, one after the other.
    order: u64,
    sends: BTreeMap<Who, Sends>,
}

fn cost(rates: &Rates, input: u32, output: u32) -> Amount {
    rates.cost(input, output).unwrap_or(Amount::new(u128::MAX))
}

fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    Amount::sum(amounts).unwrap_or(Amount::new(u128::MAX))
}

impl Facts {
    /// What the consumer may have signed for it: what it read, and to the end
    /// of the step after it.
    fn allowance(&self) -> Amount {
        let steps = self.received / STEP_TOKENS + 1;
        cost(&self.rates, self.bound.estimate, steps * STEP_TOKENS)
    }

    fn step(&self) -> Amount {
        cost(&self.rates, 0, STEP_TOKENS)
    }

    /// The input of an answer may come to more than its estimate.
    fn input_beyond(&self) -> Amount {
        let closed = self.closed.as_ref();
        let billed = closed.map_or(0, |receipt| receipt.input_tokens);
        cost(&self.rates, billed.saturating_sub(self.bound.estimate), 0)
    }

    /// What the provider worked for it.
    fn worth(&self) -> Amount {
        match &self.closed {
            Some(receipt) => receipt.amount,
            None if !self.begun => Amount::ZERO,
            None => cost(&self.rates, self.bound.estimate, self.delivered),
        }
    }
}

impl Oracle {
    pub(crate) fn money(&mut self, id: ChannelId) -> &mut Money {
        self.touched.push(id);
        self.money.entry(id).or_default()
    }

    pub(crate) fn asked(
        &mut self,
        request: RequestId,
        channel: ChannelId,
        rates: Rates,
        bound: InputBound,
    ) {
        let facts = Facts {
            channel,
            rates,
            bound,
            delivered: 0,
            chunk: 0,
            received: 0,
            bytes: 0,
            admitted: false,
            begun: false,
            closed: None,
            billed: None,
            accepted: None,
            late: false,
            booked_at: None,
            forgotten: false,
            refused: false,
            paid: false,
        };
        self.facts.insert(request, facts);
        self.allow(channel);
    }

    /// A ceiling is written, and signed, some time after it was due: what
    /// counts is the most that ever was.
    fn allow(&mut self, id: ChannelId) {
        let allowed = self.may_sign(id);
        let money = self.money(id);
        money.allowed = money.allowed.max(allowed);
    }

    fn of(&mut self, request: RequestId, act: impl FnOnce(&mut Facts)) {
        if let Some(facts) = self.facts.get_mut(&request) {
            act(facts);
            self.touched.push(facts.channel);
        }
    }

    pub(crate) fn admitted(&mut self, request: RequestId) {
        self.of(request, |facts| facts.admitted = true);
        if let Some(channel) = self.facts.get(&request).map(|facts| facts.channel) {
            let open = |facts: &&Facts| {
                facts.channel == channel && facts.admitted && facts.billed.is_none()
            };
            let running = self.facts.values().filter(open).count();
            let money = self.money(channel);
            money.peak = money.peak.max(running);
        }
    }

    pub(crate) fn begun(&mut self, request: RequestId) {
        self.of(request, |facts| facts.begun = true);
    }

    pub(crate) fn given_back(&mut self, request: RequestId) {
        self.of(request, |facts| facts.admitted = false);
    }

    pub(crate) fn refused(&mut self, request: RequestId) {
        self.of(request, |facts| facts.refused = true);
    }

    pub(crate) fn delivered(&mut self, request: RequestId, tokens: u32, chunk: u32) {
        self.of(request, |facts| {
            facts.delivered = tokens;
            facts.chunk = chunk;
        });
    }

    pub(crate) fn received(&mut self, request: RequestId, tokens: u32, bytes: u64) {
        self.of(request, |facts| {
            facts.received = facts.received.max(tokens);
            facts.bytes += bytes;
        });
        if let Some(id) = self.facts.get(&request).map(|facts| facts.channel) {
            self.allow(id);
        }
    }

    /// The consumer takes a receipt as right.
    pub(crate) fn accepts(&mut self, receipt: &Receipt, late: bool) {
        self.of(receipt.request, |facts| {
            facts.accepted = Some(receipt.clone());
            facts.late = late;
        });
        self.allow(receipt.channel);
    }

    pub(crate) fn booked(&mut self, request: RequestId) {
        let at = self.next_place();
        self.of(request, |facts| facts.booked_at = Some(at));
    }

    fn next_place(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    pub(crate) fn reconciled(&mut self, id: ChannelId) {
        self.touched.push(id);
    }

    pub(crate) fn consumer_gone(&mut self, id: ChannelId) {
        for facts in self.facts.values_mut().filter(|facts| facts.channel == id) {
            facts.forgotten = true;
        }
        let money = self.money(id);
        // What was read and could not be signed, because the channel held too
        // little for it, may still be billed.
        let known = [money.journalled, money.charged, money.allowed];
        money.signed_at_crash = known.into_iter().fold(money.signed, Amount::max);
    }

    /// A node died: what it had only in mind is gone.
    pub(crate) fn node_gone(&mut self, who: Who) {
        self.sends.entry(who).or_default().told.clear();
    }

    /// A transaction is signed: for no more than the ceiling, and if it is for
    /// a new wish, no other nonce has the same wish in the journal unheard.
    pub(crate) fn signs(&mut self, who: Who, attempt: &Attempt, new: bool) -> Result<(), String> {
        let (fee, most) = (attempt.fees.fee_per_gas, POLICY.ceiling.of(attempt.gas));
        if fee > most {
            return Err(format!(
                "{fee} wei per gas are signed, at most {most} allowed"
            ));
        }
        let sends = self.sends.entry(who).or_default();
        let open = sends.open.clone().left();
        // Whoever heard of one of a nonce's transactions heard of all.
        let heard = |nonce| {
            let mut of = open.iter().filter(|open| open.tx.nonce == nonce);
            of.any(|open| open.told || sends.told.contains(&open.tx.hash))
        };
        let mut same = open.iter().filter(|open| open.tx.intent == attempt.intent);
        let unheard = same.find(|open| open.tx.nonce != attempt.nonce && !heard(open.tx.nonce));
        match unheard.filter(|_| new) {
            Some(open) => Err(format!(
                "{who:?}: one wish is signed for with nonce {} and with {}",
                open.tx.nonce, attempt.nonce
            )),
            None => Ok(()),
        }
    }

    /// Somebody hears that a wish was included.
    pub(crate) fn told(&mut self, who: Who, intent: B256) {
        let sends = self.sends.entry(who).or_default();
        let open = sends.open.clone().left();
        let heard = open.iter().filter(|open| open.tx.intent == intent);
        sends.told.extend(heard.map(|open| open.tx.hash));
    }

    /// A transaction is handed in: only what is on the disk.
    pub(crate) fn sends(&mut self, who: Who, hash: TxHash) -> Result<(), String> {
        match self
            .sends
            .entry(who)
            .or_default()
            .journalled
            .contains(&hash)
        {
            true => Ok(()),
            false => Err(format!("{who:?} sends {hash}, which is not in its journal")),
        }
    }

    /// A node starts: it knows the transactions that its disk left open.
    pub(crate) fn sends_again(&mut self, who: Who, known: BTreeSet<TxHash>) -> Result<(), String> {
        let open = self.sends.entry(who).or_default().open.clone().left();
        let open: BTreeSet<_> = open.iter().map(|open| open.tx.hash).collect();
        match open == known {
            true => Ok(()),
            false => Err(format!(
                "{who:?} starts with {} transactions, its disk had {}",
                known.len(),
                open.len()
            )),
        }
    }

    fn transaction(&mut self, who: Who, line: Line) {
        let sends = self.sends.entry(who).or_default();
        if let Line::Signed(tx) = &line {
            sends.journalled.insert(tx.hash);
        }
        take(&mut sends.open, line);
    }

    /// Lines are on a disk.
    pub(crate) fn synced(&mut self, who: Who, book: Book, lines: &[String]) {
        match book {
            Book::Purse(id) => {
                for line in lines {
                    match serde_json::from_str(line) {
                        Ok(PurseEvent::Asked { ceiling, .. } | PurseEvent::Ceiling { ceiling }) => {
                            let money = self.money(id);
                            money.journalled = money.journalled.max(ceiling);
                        }
                        Ok(PurseEvent::Receipted { receipt, .. }) => {
                            let money = self.money(id);
                            money.charged = sum([money.charged, receipt.receipt.amount]);
                        }
                        Ok(PurseEvent::Resumed { ceiling }) => {
                            let money = self.money(id);
                            money.journalled = money.journalled.max(ceiling);
                        }
                        Ok(PurseEvent::Short { .. } | PurseEvent::Restored) | Err(_) => {}
                    }
                }
            }
            Book::Till(id) => {
                for line in lines {
                    match serde_json::from_str(line) {
                        Ok(TillEvent::Voucher { voucher }) => {
                            self.paid(id, voucher.voucher.ceiling)
                        }
                        Ok(TillEvent::Receipted { receipt }) => {
                            let closed = (*receipt).clone();
                            self.of(receipt.request, |facts| facts.closed = Some(closed));
                            self.money(id).receipts.insert(receipt.sequence, *receipt);
                        }
                        _ => {}
                    }
                }
            }
            Book::Sent => {
                for line in lines {
                    if let Ok(line) = serde_json::from_str(line) {
                        self.transaction(who, line);
                    }
                }
            }
            Book::Channels => {}
        }
    }

    fn paid(&mut self, id: ChannelId, ceiling: Amount) {
        let money = self.money(id);
        money.received = money.received.max(ceiling);
        let Some((_, signed_at)) = money.signatures.get(&ceiling).copied() else {
            return;
        };
        // A voucher covers an answer's receipt, and all that its input came to
        // beyond the estimate, only if it was signed after that was booked.
        let of = self.facts.values_mut().filter(|facts| facts.channel == id);
        let booked = of.filter(|facts| facts.booked_at.is_some_and(|at| at < signed_at));
        let mut booked: Vec<_> = booked.collect();
        let amounts = booked.iter().filter_map(|facts| facts.accepted.as_ref());
        // A voucher that the channel holds too little for does not cover them.
        if sum(amounts.map(|receipt| receipt.amount)) <= ceiling {
            for facts in &mut booked {
                facts.paid = true;
            }
        }
    }

    /// A consumer signs a voucher: only what is on its disk, within what the
    /// channel held, for what it read and one step more.
    pub(crate) fn signed(&mut self, voucher: &SignedVoucher) -> Result<(), String> {
        let place = self.next_place();
        let (id, ceiling) = (voucher.voucher.channel, voucher.voucher.ceiling);
        let money = self.money(id);
        let allowed = money.allowed;
        if ceiling > money.journalled {
            let journalled = money.journalled;
            return Err(format!("{ceiling} signed, {journalled} in the journal"));
        }
        if ceiling > money.escrow {
            let escrow = money.escrow;
            return Err(format!(
                "{ceiling} signed, the channel never held more than {escrow}"
            ));
        }
        if ceiling > money.signed && ceiling > allowed {
            return Err(format!(
                "{ceiling} signed, {allowed} are read, and a step each"
            ));
        }
        let known = money
            .signatures
            .entry(ceiling)
            .or_insert((voucher.signature, place));
        if known.0 != voucher.signature {
            return Err(format!("two signatures for {ceiling}"));
        }
        money.signed = money.signed.max(ceiling);
        Ok(())
    }

    /// Up to where an honest consumer may sign now.
    fn may_sign(&mut self, id: ChannelId) -> Amount {
        let at_crash = self.money(id).signed_at_crash;
        let of = self
            .facts
            .values()
            .filter(|facts| facts.channel == id && !facts.refused);
        let parts = of.map(|facts| match (&facts.accepted, facts.forgotten) {
            (Some(receipt), false) => receipt.amount,
            (None, false) => facts.allowance(),
            // It is within what was signed at the crash, but for its last step.
            (Some(receipt), true) if facts.late => {
                let beyond = receipt.input_tokens.saturating_sub(facts.bound.estimate);
                sum([facts.step(), cost(&facts.rates, beyond, 0)])
            }
            (_, true) => Amount::ZERO,
        });
        let parts: Vec<_> = parts.collect();
        // Without a crash every unit is accounted for; after one, what was
        // signed before it is.
        sum(parts.into_iter().chain([at_crash]))
    }

    /// A provider signs a receipt: only what is on its disk, and never two
    /// under one number.
    pub(crate) fn receipt_signed(&mut self, receipt: &Receipt) -> Result<(), String> {
        let money = self.money(receipt.channel);
        if money.receipts.get(&receipt.sequence) != Some(receipt) {
            return Err(format!(
                "receipt {} signed and not in the journal",
                receipt.sequence
            ));
        }
        let told = money
            .told
            .entry(receipt.sequence)
            .or_insert_with(|| receipt.clone());
        if told != receipt {
            return Err(format!("two receipts under number {}", receipt.sequence));
        }
        Ok(())
    }

    /// What a receipt bills was delivered; what is not billed of it is two
    /// steps at most, or a chunk and a step.
    pub(crate) fn billed(&mut self, receipt: &Receipt) -> Result<(), String> {
        let Some(facts) = self.facts.get_mut(&receipt.request) else {
            return Err(format!(
                "receipt for {} that nobody asked for",
                receipt.request
            ));
        };
        facts.billed = Some(receipt.clone());
        let (billed, delivered) = (receipt.output_tokens, facts.delivered);
        if billed > delivered {
            return Err(format!("{billed} tokens billed, {delivered} delivered"));
        }
        // A crash loses what was on its way to the disk: the step that is
        // being read, and the one that runs ahead.
        let allowed = facts.chunk.max(STEP_TOKENS) + STEP_TOKENS;
        if delivered - billed > allowed {
            return Err(format!(
                "{delivered} tokens delivered, only {billed} billed"
            ));
        }
        Ok(())
    }

    /// Whether a channel is within all bounds.
    pub(crate) fn check(
        &self,
        id: ChannelId,
        honest_consumer: bool,
        honest_provider: bool,
    ) -> Result<(), (u8, String)> {
        let Some(money) = self.money.get(&id) else {
            return Ok(());
        };
        if honest_provider {
            self.unpaid(id, money, honest_consumer)
                .map_err(|problem| (3, problem))?;
        }
        if honest_consumer {
            self.overpaid(id).map_err(|problem| (3, problem))?;
        }
        Ok(())
    }

    /// The provider's work beyond its vouchers.
    fn unpaid(&self, id: ChannelId, money: &Money, honest_consumer: bool) -> Result<(), String> {
        let of: Vec<_> = self
            .facts
            .values()
            .filter(|facts| facts.channel == id && facts.admitted)
            .collect();
        let worth = sum(of.iter().map(|facts| facts.worth()));
        let unpaid = worth.less(money.received);
        let rounding = Amount::new(u128::try_from(of.len()).unwrap_or(u128::MAX));
        let at_stake = |facts: &&Facts| {
            let chunk = cost(&facts.rates, 0, facts.chunk.max(STEP_TOKENS));
            sum([chunk, facts.input_beyond()])
        };
        let open = of.iter().copied().filter(|facts| !facts.paid);
        let each = sum(open.map(|facts| at_stake(&facts)));
        let allowed = match honest_consumer {
            true => each,
            // One that does not pay is not let in again.
            false => {
                let largest = of.iter().map(at_stake).max().unwrap_or_default();
                let times = u128::try_from(money.peak + 1).unwrap_or(u128::MAX);
                let beyond = sum(of.iter().filter(|f| !f.paid).map(|f| f.input_beyond()));
                let several = largest.times(times).unwrap_or(Amount::new(u128::MAX));
                each.min(sum([several, beyond]))
            }
        };
        let allowed = sum([allowed, rounding]);
        match unpaid <= allowed {
            true => Ok(()),
            false => Err(format!("{unpaid} unpaid, a step each comes to {allowed}")),
        }
    }

    /// What a consumer took as right beyond what it read: one step that it had
    /// signed ahead and one that the provider may run ahead, where the way broke.
    fn overpaid(&self, id: ChannelId) -> Result<(), String> {
        for facts in self.facts.values().filter(|facts| facts.channel == id) {
            let Some(receipt) = &facts.accepted else {
                continue;
            };
            let billed = u64::from(receipt.output_tokens);
            let allowed = match (facts.late, facts.forgotten) {
                (false, _) => facts.bytes,
                (true, false) => u64::from(facts.received + 2 * STEP_TOKENS),
                // What it had read is forgotten: the sum is bounded.
                (true, true) => continue,
            };
            if billed > allowed {
                return Err(format!("{billed} tokens taken as right, {allowed} allowed"));
            }
        }
        Ok(())
    }
}
