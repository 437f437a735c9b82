//! The consumer's side of one channel: how much has been signed away, for
//! what, and when the next voucher is due.
//!
//! The rule: a voucher's ceiling covers what was receipted, what running
//! answers delivered, and one step for each of them; never more. Every
//! decision that raises the ceiling or books a receipt is returned as a
//! [`PurseEvent`]: the caller writes it to the journal, waits until it is
//! durable, and only then signs. Replaying the events gives the same purse,
//! without the answers that were running.

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::durable::MissingField;
use crate::{
    Amount, AmountOverflow, InputBound, Rates, Receipt, RequestId, STEP_TOKENS, SignedReceipt,
};

/// Answers given up that are remembered, per channel: see [`Purse::settled_up`].
const GIVEN_UP_KEPT: usize = 256;

/// What a purse remembers over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", try_from = "PurseLine")]
pub enum PurseEvent {
    /// A request may be sent, with a voucher up to this ceiling.
    Asked {
        /// The request.
        request: RequestId,
        /// The rates agreed.
        rates: Rates,
        /// What its input may come to.
        bound: InputBound,
        /// All that was ever allowed to be claimed.
        ceiling: Amount,
    },
    /// A voucher up to this ceiling may be signed.
    Ceiling {
        /// All that was ever allowed to be claimed.
        ceiling: Amount,
    },
    /// A receipt was accepted that takes more than the channel holds: so far
    /// a voucher would have to reach, and none is signed.
    Short {
        /// All that is read, and a step each.
        needed: Amount,
    },
    /// A receipt was accepted.
    Receipted {
        /// The receipt.
        receipt: Box<SignedReceipt>,
        /// It came after a crash had made us forget its answer.
        #[serde(skip_serializing_if = "core::ops::Not::not")]
        lost: bool,
    },
    /// What was signed up to here is not all in this journal: it is an old
    /// copy, or was made anew. Nothing is signed until [`Self::Resumed`].
    Restored,
    /// The chain proved what the provider's receipts say: signing goes on.
    Resumed {
        /// All that is known to have been allowed.
        ceiling: Amount,
    },
}

/// Any [`PurseEvent`] as it is read; the reason is that of the till's.
#[derive(Deserialize)]
struct PurseLine {
    event: PurseKind,
    request: Option<RequestId>,
    rates: Option<Rates>,
    bound: Option<InputBound>,
    ceiling: Option<Amount>,
    needed: Option<Amount>,
    receipt: Option<Box<SignedReceipt>>,
    #[serde(default)]
    lost: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PurseKind {
    Asked,
    Ceiling,
    Short,
    Receipted,
    Restored,
    Resumed,
}

impl TryFrom<PurseLine> for PurseEvent {
    type Error = MissingField;

    fn try_from(line: PurseLine) -> Result<Self, MissingField> {
        let ceiling = line.ceiling.ok_or(MissingField("ceiling"));
        Ok(match line.event {
            PurseKind::Asked => Self::Asked {
                request: line.request.ok_or(MissingField("request"))?,
                rates: line.rates.ok_or(MissingField("rates"))?,
                bound: line.bound.ok_or(MissingField("bound"))?,
                ceiling: ceiling?,
            },
            PurseKind::Ceiling => Self::Ceiling { ceiling: ceiling? },
            PurseKind::Short => Self::Short {
                needed: line.needed.ok_or(MissingField("needed"))?,
            },
            PurseKind::Receipted => Self::Receipted {
                receipt: line.receipt.ok_or(MissingField("receipt"))?,
                lost: line.lost,
            },
            PurseKind::Restored => Self::Restored,
            PurseKind::Resumed => Self::Resumed { ceiling: ceiling? },
        })
    }
}

impl PurseEvent {
    /// What happened, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Asked { .. } => "asked",
            Self::Ceiling { .. } => "ceiling",
            Self::Short { .. } => "short",
            Self::Receipted { .. } => "receipted",
            Self::Restored => "restored",
            Self::Resumed { .. } => "resumed",
        }
    }
}

/// Why the consumer does not go on with an answer, or does not accept a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PurseError {
    /// The escrow is used up; a deposit would help.
    #[error("channel holds {escrow} base units, a ceiling of {needed} is needed")]
    Escrow {
        /// What the channel holds.
        escrow: Amount,
        /// What it would have to hold.
        needed: Amount,
    },
    /// The request's id is in use, or unknown.
    #[error("request {request} is not running on this channel")]
    UnknownRequest {
        /// The id.
        request: RequestId,
    },
    /// More tokens billed than bytes delivered, or more input than the request can hold.
    #[error("{billed} {what} tokens billed, at most {allowed} are plausible")]
    Overbilled {
        /// `input` or `output`.
        what: &'static str,
        /// What the provider says.
        billed: u32,
        /// What is possible.
        allowed: u64,
    },
    /// The receipt's own numbers do not agree with each other or with what was agreed.
    #[error("receipt's {field} is {got}, expected {expected}")]
    Mismatch {
        /// The field.
        field: &'static str,
        /// What the receipt says.
        got: Amount,
        /// What follows from the rest.
        expected: Amount,
    },
    /// A late receipt for more than vouchers cover, and one step.
    #[error("late receipt is for {amount} base units, vouchers and one step come to {allowed}")]
    Unsigned {
        /// What it is for.
        amount: Amount,
        /// What can be owed.
        allowed: Amount,
    },
    /// A receipt for what this journal never asked: it is an old copy, or
    /// somebody else signs for this channel.
    #[error(
        "receipt {sequence} is for request {request}, which this journal never made: \
         it is older than the provider's, or another node signs for this channel"
    )]
    OldJournal {
        /// The receipt's number.
        sequence: u64,
        /// What it is for.
        request: RequestId,
    },
    /// A new receipt has a number that was given before: the provider's books are old.
    #[error(
        "receipt {sequence} is new, and the provider gave that number before: its books are old"
    )]
    OldProvider {
        /// The number.
        sequence: u64,
    },
    /// Nothing is signed on a restored channel before the chain proves its receipts.
    #[error(
        "the channel was restored, and its receipts come to {charged} base units, of which \
         the chain proves {proved}: nothing is signed before the provider has claimed"
    )]
    Unproved {
        /// What the receipts say.
        charged: Amount,
        /// What was claimed on chain.
        proved: Amount,
    },
    /// An amount left its range.
    #[error(transparent)]
    Overflow(#[from] AmountOverflow),
}

#[derive(Debug, Clone)]
struct Running {
    rates: Rates,
    bound: InputBound,
    /// What the provider says it delivered, checked against bytes.
    tokens: u32,
    bytes: u64,
}

impl Running {
    fn new(rates: Rates, bound: InputBound) -> Self {
        Self {
            rates,
            bound,
            tokens: 0,
            bytes: 0,
        }
    }

    /// Signed for: what is delivered, to the step below, and one step more.
    fn signed_tokens(&self) -> u32 {
        (self.tokens / STEP_TOKENS + 1).saturating_mul(STEP_TOKENS)
    }

    fn allowance(&self) -> Result<Amount, AmountOverflow> {
        self.rates.cost(self.bound.estimate, self.signed_tokens())
    }

    /// What its receipt may have beyond what was signed: one step, and what
    /// the input came to beyond its estimate.
    fn beyond(&self, receipt: &Receipt) -> Result<Amount, AmountOverflow> {
        let input = receipt.input_tokens.saturating_sub(self.bound.estimate);
        self.rates.step()?.plus(self.rates.cost(input, 0)?)
    }

    /// What its receipt may come to that nothing was signed for, of that which
    /// it does come to: its input beyond the estimate, and the last step of its
    /// output. The first step was signed for with the request.
    fn unsigned(&self, receipt: &Receipt) -> Result<Amount, AmountOverflow> {
        let input = receipt.input_tokens.saturating_sub(self.bound.estimate);
        let output = receipt.output_tokens.saturating_sub(STEP_TOKENS);
        self.rates.cost(input, output.min(STEP_TOKENS))
    }
}

/// The consumer's side of one channel.
#[derive(Debug, Clone, Default)]
pub struct Purse {
    escrow: Amount,
    ceiling: Amount,
    charged: Amount,
    /// Receipts 1 to this one are booked.
    sequence: u64,
    /// Receipts beyond a gap: their amount and the total they claim.
    ahead: BTreeMap<u64, (Amount, Amount)>,
    running: BTreeMap<RequestId, Running>,
    /// Answers that ended without a receipt: what they may still be billed.
    unreceipted: BTreeMap<RequestId, Running>,
    /// The same, from before a replay: how far they had come is forgotten.
    lost: BTreeMap<RequestId, Running>,
    /// Answers of which the provider knew nothing when it was asked, the latest
    /// at the back: nothing is reserved for them.
    given_up: VecDeque<(RequestId, Running)>,
    /// All that was claimed, says the chain.
    claimed: Amount,
    /// What was signed for those, less their receipts, as far as these can have
    /// been signed for: what one came to beyond that was not taken from the others.
    lost_signed: Amount,
    /// What their receipts may still come to, and each of them one step more.
    lost_reach: Amount,
    /// What was signed is not known; see [`PurseEvent::Restored`].
    restored: bool,
    /// What was claimed on chain: so much was signed for certain.
    proved: Amount,
}

impl Purse {
    /// The purse that the journal describes. Answers that were running count
    /// as ended without a receipt.
    pub fn replay<E: Borrow<PurseEvent>>(
        events: impl IntoIterator<Item = E>,
    ) -> Result<Self, PurseError> {
        let mut purse = Self::default();
        // What can be owed in all: the ceiling, and a step for each late receipt.
        let mut reach = Amount::ZERO;
        // How far the last voucher would have had to reach, had the channel held enough.
        let mut short = Amount::ZERO;
        for event in events {
            let event = event.borrow();
            match event {
                PurseEvent::Short { needed } => short = *needed,
                PurseEvent::Restored => {}
                // The ceiling reached as far as it had to, or there is a word of it next.
                _ => short = Amount::ZERO,
            }
            match event {
                PurseEvent::Asked {
                    request,
                    rates,
                    bound,
                    ceiling,
                } => {
                    purse.ceiling = purse.ceiling.max(*ceiling);
                    purse.lost.insert(*request, Running::new(*rates, *bound));
                }
                PurseEvent::Ceiling { ceiling } => purse.ceiling = purse.ceiling.max(*ceiling),
                PurseEvent::Short { needed } => reach = reach.max(*needed),
                PurseEvent::Receipted { receipt, lost } => {
                    let receipt = &receipt.receipt;
                    let asked = purse.lost.remove(&receipt.request);
                    purse.book(receipt)?;
                    if let Some(asked) = asked.filter(|_| *lost) {
                        reach = reach.plus(asked.beyond(receipt)?)?;
                    }
                }
                PurseEvent::Restored => purse.restored = true,
                PurseEvent::Resumed { ceiling } => {
                    purse.ceiling = purse.ceiling.max(*ceiling);
                    purse.restored = false;
                    purse.settle_lost();
                }
            }
            reach = reach.max(purse.ceiling);
        }
        if purse.lost.is_empty() {
            // An emptied map keeps its memory, and most channels are never asked again.
            purse.lost = BTreeMap::new();
        } else {
            purse.lost_signed = purse.ceiling.max(short).less(purse.charged);
            purse.lost_reach = reach.less(purse.charged);
        }
        Ok(purse)
    }

    /// The channel's balance on chain is now this.
    pub fn funded(&mut self, escrow: Amount) {
        self.escrow = escrow;
    }

    /// The chain says that so much was claimed in all: it was signed, whatever
    /// is known here. More than we have receipts for: some are missing.
    pub fn claimed_to(&mut self, total: Amount) {
        self.claimed = total;
        self.proved = self.proved.max(total);
    }

    /// What was signed is not all known here: nothing is signed until
    /// [`Self::resume`]. None: that is so already.
    pub fn restore(&mut self) -> Option<PurseEvent> {
        if self.restored {
            return None;
        }
        self.restored = true;
        Some(PurseEvent::Restored)
    }

    /// Whether nothing is signed.
    pub fn is_restored(&self) -> bool {
        self.restored
    }

    /// Goes on after [`Self::restore`], once all receipts of the provider are
    /// booked and nothing runs. A receipt alone proves nothing: who sees that
    /// we lost our journal could make them up. What the chain paid out was
    /// signed by us; beyond that, `allowance` (a step) is let pass.
    pub fn resume(&mut self, allowance: Amount) -> Result<PurseEvent, PurseError> {
        let (charged, proved) = (self.charged, self.proved);
        if charged > proved.plus(allowance)? || !self.ahead.is_empty() {
            return Err(PurseError::Unproved { charged, proved });
        }
        self.restored = false;
        self.settled_up();
        self.ceiling = self.ceiling.max(proved).max(charged);
        let ceiling = self.ceiling;
        Ok(PurseEvent::Resumed { ceiling })
    }

    /// What the channel holds on chain.
    pub fn escrow(&self) -> Amount {
        self.escrow
    }

    /// All that may ever be claimed by what was signed.
    pub fn ceiling(&self) -> Amount {
        self.ceiling
    }

    /// All that was receipted.
    pub fn charged(&self) -> Amount {
        self.charged
    }

    /// What is owed for certain: all that was receipted, and on a restored
    /// channel, where receipts may be made up, what the chain proves.
    pub fn billed(&self) -> Amount {
        match self.restored {
            true => self.proved,
            false => self.charged,
        }
    }

    /// Receipts are complete up to this number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Answers that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether this one is among them.
    pub fn is_running(&self, request: RequestId) -> bool {
        self.running.contains_key(&request)
    }

    /// Whether the provider may hold receipts that we have not seen: an
    /// answer ended without one, there is a gap, or more was claimed.
    pub fn needs_reconciling(&self) -> bool {
        let open = !(self.unreceipted.is_empty() && self.lost.is_empty());
        open || !self.ahead.is_empty() || self.claimed > self.charged
    }

    /// Whether a crash made us forget answers that may still run: how far each
    /// had come is not known, so what the provider has delivered may be more
    /// than the ceiling reckons with until its receipts are here.
    pub fn forgot(&self) -> bool {
        !self.lost.is_empty()
    }

    /// A request is about to be sent. The ceiling covers its input and one step.
    pub fn ask(
        &mut self,
        request: RequestId,
        rates: Rates,
        bound: InputBound,
    ) -> Result<PurseEvent, PurseError> {
        self.signs()?;
        let known = [&self.running, &self.unreceipted, &self.lost];
        if known.iter().any(|answers| answers.contains_key(&request)) {
            return Err(PurseError::UnknownRequest { request });
        }
        let running = Running::new(rates, bound);
        let needed = self.target()?.plus(running.allowance()?)?;
        self.raise(needed)?;
        self.running.insert(request, running);
        let ceiling = self.ceiling;
        Ok(PurseEvent::Asked {
            request,
            rates,
            bound,
            ceiling,
        })
    }

    /// The provider delivered up to here. An event when the next voucher is due.
    pub fn delivered(
        &mut self,
        request: RequestId,
        tokens: u32,
        bytes: u64,
    ) -> Result<Option<PurseEvent>, PurseError> {
        let running = self
            .running
            .get_mut(&request)
            .ok_or(PurseError::UnknownRequest { request })?;
        if u64::from(tokens) > bytes {
            return Err(PurseError::Overbilled {
                what: "output",
                billed: tokens,
                allowed: bytes,
            });
        }
        running.bytes = bytes;
        let steps = running.tokens / STEP_TOKENS;
        running.tokens = running.tokens.max(tokens);
        if running.tokens / STEP_TOKENS == steps {
            return Ok(None);
        }
        self.due()
    }

    /// An event if the ceiling lags behind what is running, as after a deposit
    /// that [`PurseError::Escrow`] had asked for.
    pub fn due(&mut self) -> Result<Option<PurseEvent>, PurseError> {
        self.signs()?;
        let needed = self.target()?;
        self.raise(needed)
    }

    /// Checks and books the receipt of a running answer. A ceiling among the
    /// events means that a last voucher is due, because the provider's last
    /// step ran ahead of the one before.
    pub fn receipted(&mut self, signed: &SignedReceipt) -> Result<Vec<PurseEvent>, PurseError> {
        let receipt = &signed.receipt;
        let request = receipt.request;
        let running = self
            .running
            .get(&request)
            .ok_or(PurseError::UnknownRequest { request })?;
        if receipt.rates != running.rates {
            return Err(PurseError::Mismatch {
                field: "rates",
                got: receipt.rates.output_per_million,
                expected: running.rates.output_per_million,
            });
        }
        plausible(
            "input",
            receipt.input_tokens,
            u64::from(running.bound.ceiling),
        )?;
        plausible("output", receipt.output_tokens, running.bytes)?;
        if self.is_booked(receipt) {
            let sequence = receipt.sequence;
            return Err(PurseError::OldProvider { sequence });
        }
        self.book(receipt)?;
        self.running.remove(&request);
        Ok(self.booked(signed, false))
    }

    /// Books a receipt that the provider sent later, for an answer that broke
    /// off. It may have one step beyond what was signed for that answer, and
    /// its input up to the bound's ceiling; a provider bills no more than that
    /// without a voucher, however large its chunks are. Of answers that a crash
    /// made us forget only what was signed for all of them together is known:
    /// the same holds for their sum. Events as for [`Self::receipted`]; none
    /// if it is known already, or about to come by itself.
    pub fn reconciled(&mut self, signed: &SignedReceipt) -> Result<Vec<PurseEvent>, PurseError> {
        let receipt = &signed.receipt;
        let request = receipt.request;
        if self.is_booked(receipt) || self.running.contains_key(&request) {
            return Ok(vec![]);
        }
        if self.restored {
            // What was asked and signed is not known: the chain proves it, or nothing does.
            self.book(receipt)?;
            self.unreceipted.remove(&request);
            self.lost.remove(&request);
            return Ok(self.booked(signed, true));
        }
        let given_up = self.given_up.iter().find(|(known, _)| *known == request);
        let given_up = given_up.map(|(_, running)| running);
        let broken = self.unreceipted.get(&request).or(given_up);
        let Some(asked) = broken.or_else(|| self.lost.get(&request)) else {
            let sequence = receipt.sequence;
            return Err(PurseError::OldJournal { sequence, request });
        };
        if receipt.rates != asked.rates {
            return Err(PurseError::Mismatch {
                field: "rates",
                got: receipt.rates.output_per_million,
                expected: asked.rates.output_per_million,
            });
        }
        plausible(
            "input",
            receipt.input_tokens,
            u64::from(asked.bound.ceiling),
        )?;
        if let Some(broken) = broken {
            let reach = broken.signed_tokens().saturating_add(STEP_TOKENS);
            plausible("output", receipt.output_tokens, u64::from(reach))?;
            self.book(receipt)?;
            self.unreceipted.remove(&request);
            self.given_up.retain(|(known, _)| *known != request);
            return Ok(self.booked(signed, false));
        }
        let amount = receipt.amount;
        let allowed = self.lost_reach.plus(asked.beyond(receipt)?)?;
        if amount > allowed {
            return Err(PurseError::Unsigned { amount, allowed });
        }
        let signed_for = self.lost_signed.plus(asked.unsigned(receipt)?)?;
        self.book(receipt)?;
        self.lost.remove(&request);
        self.lost_signed = signed_for.less(amount);
        self.lost_reach = allowed.less(amount);
        if self.lost.is_empty() {
            self.settle_lost();
        }
        Ok(self.booked(signed, true))
    }

    /// The events of a receipt that was booked: the receipt comes first.
    fn booked(&mut self, signed: &SignedReceipt, lost: bool) -> Vec<PurseEvent> {
        let raised = match self.due() {
            Ok(raised) => raised,
            // There is no last voucher; the receipt stands, and what it took
            // is not taken from what other answers may still be billed.
            Err(PurseError::Escrow { needed, .. }) => Some(PurseEvent::Short { needed }),
            Err(_) => None,
        };
        let receipted = PurseEvent::Receipted {
            receipt: Box::new(signed.clone()),
            lost,
        };
        [receipted].into_iter().chain(raised).collect()
    }

    /// The provider has nothing more to bill: what was reserved is free again.
    /// A request that is still on its way to it may yet be answered; so it is
    /// remembered what was asked, and a receipt for it is booked as for an
    /// answer that broke off.
    pub fn settled_up(&mut self) {
        let unreceipted = core::mem::take(&mut self.unreceipted);
        let lost = core::mem::take(&mut self.lost);
        self.given_up.extend(unreceipted.into_iter().chain(lost));
        let over = self.given_up.len().saturating_sub(GIVEN_UP_KEPT);
        self.given_up.drain(..over);
        self.settle_lost();
    }

    fn settle_lost(&mut self) {
        self.lost.clear();
        self.lost_signed = Amount::ZERO;
        self.lost_reach = Amount::ZERO;
    }

    /// A running answer ended without a receipt: what it may cost stays reserved.
    pub fn broken(&mut self, request: RequestId) -> Result<(), PurseError> {
        let running = self
            .running
            .remove(&request)
            .ok_or(PurseError::UnknownRequest { request })?;
        self.unreceipted.insert(request, running);
        Ok(())
    }

    /// A request that the provider refused before it worked: nothing to bill.
    pub fn refused(&mut self, request: RequestId) {
        self.running.remove(&request);
    }

    /// Whether anything may be signed.
    fn signs(&self) -> Result<(), PurseError> {
        if self.restored {
            let (charged, proved) = (self.charged, self.proved);
            return Err(PurseError::Unproved { charged, proved });
        }
        Ok(())
    }

    /// How far the ceiling would have to reach for all that is running or unsettled.
    fn target(&self) -> Result<Amount, AmountOverflow> {
        let sum = |answers: &BTreeMap<_, Running>| {
            Amount::try_sum(answers.values().map(Running::allowance))
        };
        let signed = [sum(&self.unreceipted)?, sum(&self.running)?];
        Amount::sum([self.charged, self.lost_signed].into_iter().chain(signed))
    }

    fn raise(&mut self, needed: Amount) -> Result<Option<PurseEvent>, PurseError> {
        if needed <= self.ceiling {
            return Ok(None);
        }
        if needed > self.escrow {
            return Err(PurseError::Escrow {
                escrow: self.escrow,
                needed,
            });
        }
        self.ceiling = needed;
        Ok(Some(PurseEvent::Ceiling { ceiling: needed }))
    }

    fn is_booked(&self, receipt: &Receipt) -> bool {
        receipt.sequence <= self.sequence || self.ahead.contains_key(&receipt.sequence)
    }

    fn book(&mut self, receipt: &Receipt) -> Result<(), PurseError> {
        let expected = receipt
            .rates
            .cost(receipt.input_tokens, receipt.output_tokens)?;
        if receipt.amount != expected {
            return Err(PurseError::Mismatch {
                field: "amount",
                got: receipt.amount,
                expected,
            });
        }
        if self.is_booked(receipt) {
            return Err(PurseError::UnknownRequest {
                request: receipt.request,
            });
        }
        let mut ahead = self.ahead.clone();
        ahead.insert(receipt.sequence, (receipt.amount, receipt.charged_total));

        // Totals can be checked as far as the numbers run without a gap.
        let mut sequence = self.sequence;
        let mut total = self.through_total()?;
        while let Some((amount, claimed)) = ahead.remove(&(sequence + 1)) {
            sequence += 1;
            total = total.plus(amount)?;
            if claimed != total {
                return Err(PurseError::Mismatch {
                    field: "charged_total",
                    got: claimed,
                    expected: total,
                });
            }
        }
        self.charged = self.charged.plus(receipt.amount)?;
        self.sequence = sequence;
        self.ahead = ahead;
        Ok(())
    }

    /// The total of receipts 1 to `sequence`.
    fn through_total(&self) -> Result<Amount, AmountOverflow> {
        let beyond = Amount::sum(self.ahead.values().map(|(amount, _)| *amount))?;
        self.charged.minus(beyond)
    }
}

fn plausible(what: &'static str, billed: u32, allowed: u64) -> Result<(), PurseError> {
    if u64::from(billed) > allowed {
        return Err(PurseError::Overbilled {
            what,
            billed,
            allowed,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, FixedBytes};

    use super::*;
    use crate::{ChannelId, Durable, ModelId, NodeKey, Outcome, Timestamp, Upstream};

    /// One unit per token, both ways.
    const RATES: Rates = Rates {
        input_per_million: Amount::new(1_000_000),
        output_per_million: Amount::new(1_000_000),
    };
    const BOUND: InputBound = InputBound {
        estimate: 10,
        ceiling: 40,
    };

    fn request(n: u8) -> RequestId {
        RequestId(FixedBytes([n; 16]))
    }

    fn receipt(n: u8, sequence: u64, input: u32, output: u32, total: u128) -> SignedReceipt {
        let receipt = Receipt {
            request: request(n),
            channel: ChannelId(B256::ZERO),
            sequence,
            model: ModelId(B256::ZERO),
            rates: RATES,
            upstream: Upstream::ThirdParty,
            input_tokens: input,
            output_tokens: output,
            amount: RATES.cost(input, output).unwrap(),
            charged_total: Amount::new(total),
            outcome: Outcome::Complete,
            issued_at: Timestamp(0),
        };
        Durable::read_back(receipt).sign(&NodeKey::from_bytes(&[1; 32]))
    }

    fn purse(escrow: u128) -> Purse {
        let mut purse = Purse::default();
        purse.funded(Amount::new(escrow));
        purse
    }

    fn ceiling(event: impl Into<Option<PurseEvent>>) -> Option<u128> {
        event.into().map(|event| match event {
            PurseEvent::Asked { ceiling, .. } | PurseEvent::Ceiling { ceiling } => {
                ceiling.base_units()
            }
            _ => panic!("not a ceiling"),
        })
    }

    #[test]
    fn the_first_voucher_covers_the_input_and_one_step() {
        assert_eq!(
            ceiling(purse(1000).ask(request(1), RATES, BOUND).unwrap()),
            Some(10 + 32)
        );
    }

    #[test]
    fn a_voucher_is_due_once_per_step_and_reaches_one_step_ahead() {
        let mut purse = purse(1000);
        purse.ask(request(1), RATES, BOUND).unwrap();
        let mut due = |tokens| ceiling(purse.delivered(request(1), tokens, 500).unwrap());
        assert_eq!(due(31), None);
        assert_eq!(due(32), Some(10 + 64));
        assert_eq!(due(33), None);
        assert_eq!(
            due(5),
            None,
            "a provider that counts backwards changes nothing"
        );
        assert_eq!(due(100), Some(10 + 128));
    }

    #[test]
    fn several_answers_share_one_ceiling() {
        let mut purse = purse(1000);
        purse.ask(request(1), RATES, BOUND).unwrap();
        assert_eq!(
            ceiling(purse.ask(request(2), RATES, BOUND).unwrap()),
            Some(84)
        );
        purse.delivered(request(1), 20, 100).unwrap();
        purse.receipted(&receipt(1, 1, 9, 20, 29)).unwrap();
        // 13 units of the first were not used: the third needs that much less.
        assert_eq!(
            ceiling(purse.ask(request(3), RATES, BOUND).unwrap()),
            Some(29 + 42 + 42)
        );
    }

    #[test]
    fn nothing_is_signed_beyond_the_escrow() {
        let mut purse = purse(60);
        purse.ask(request(1), RATES, BOUND).unwrap();
        let needed = Amount::new(74);
        let escrow = Amount::new(60);
        assert_eq!(
            purse.delivered(request(1), 32, 99),
            Err(PurseError::Escrow { escrow, needed })
        );
        assert_eq!(purse.ceiling(), Amount::new(42));
        purse.funded(Amount::new(100));
        assert_eq!(ceiling(purse.due().unwrap()), Some(74));
    }

    #[test]
    fn more_tokens_than_bytes_are_not_paid() {
        let mut purse = purse(1000);
        purse.ask(request(1), RATES, BOUND).unwrap();
        let overbilled = PurseError::Overbilled {
            what: "output",
            billed: 33,
            allowed: 32,
        };
        assert_eq!(purse.delivered(request(1), 33, 32), Err(overbilled));
        purse.delivered(request(1), 5, 5).unwrap();
        assert!(purse.receipted(&receipt(1, 1, 10, 6, 16)).is_err());
        assert!(purse.receipted(&receipt(1, 1, 41, 5, 46)).is_err());
        assert_eq!(purse.charged(), Amount::ZERO);
    }

    #[test]
    fn a_receipt_that_does_not_add_up_changes_nothing() {
        let mut purse = purse(1000);
        purse.ask(request(1), RATES, BOUND).unwrap();
        purse.delivered(request(1), 5, 50).unwrap();
        assert!(matches!(
            purse.receipted(&receipt(1, 1, 10, 5, 16)),
            Err(PurseError::Mismatch {
                field: "charged_total",
                ..
            })
        ));
        let mut padded = receipt(1, 1, 10, 5, 15);
        padded.receipt.amount = Amount::new(99);
        assert!(matches!(
            purse.receipted(&padded),
            Err(PurseError::Mismatch {
                field: "amount",
                ..
            })
        ));
        assert_eq!(purse.receipted(&receipt(1, 1, 10, 5, 15)).unwrap().len(), 1);
        assert!(
            purse.receipted(&receipt(1, 1, 10, 5, 15)).is_err(),
            "booked twice"
        );
        assert_eq!(purse.charged(), Amount::new(15));
    }

    #[test]
    fn receipts_may_overtake_each_other() {
        let mut purse = purse(1000);
        for n in 1..=3 {
            purse.ask(request(n), RATES, BOUND).unwrap();
            purse.delivered(request(n), 5, 50).unwrap();
        }
        purse.receipted(&receipt(3, 3, 10, 5, 45)).unwrap();
        assert!(purse.needs_reconciling());
        purse.receipted(&receipt(1, 1, 10, 5, 15)).unwrap();
        assert_eq!(purse.sequence(), 1);
        purse.receipted(&receipt(2, 2, 10, 5, 30)).unwrap();
        assert_eq!((purse.sequence(), purse.charged()), (3, Amount::new(45)));
        assert!(!purse.needs_reconciling());
    }

    #[test]
    fn a_broken_answer_stays_reserved_until_its_receipt_or_the_all_clear() {
        let mut purse = purse(1000);
        purse.ask(request(1), RATES, BOUND).unwrap();
        purse.delivered(request(1), 40, 400).unwrap();
        purse.broken(request(1)).unwrap();
        assert_eq!(
            ceiling(purse.ask(request(2), RATES, BOUND).unwrap()),
            Some(74 + 42)
        );
        assert_eq!(
            purse.reconciled(&receipt(1, 1, 10, 40, 50)).unwrap().len(),
            1
        );
        assert_eq!(
            purse.reconciled(&receipt(1, 1, 10, 40, 50)),
            Ok(vec![]),
            "it is known by now"
        );
        assert_eq!(purse.charged(), Amount::new(50));
        assert!(!purse.needs_reconciling());
    }

    /// Two answers were signed for with 42 units each, and broke off.
    fn broken() -> (Purse, Vec<PurseEvent>) {
        let mut purse = purse(1000);
        let mut journal = Vec::new();
        for n in 1..=2 {
            journal.push(purse.ask(request(n), RATES, BOUND).unwrap());
            purse.broken(request(n)).unwrap();
        }
        (purse, journal)
    }

    fn crashed(journal: &[PurseEvent]) -> Purse {
        let mut purse = Purse::replay(journal).unwrap();
        purse.funded(Amount::new(1000));
        purse
    }

    #[test]
    fn a_late_receipt_may_be_a_step_beyond_what_was_signed() {
        let (mut purse, _) = broken();
        let over = purse.reconciled(&receipt(1, 1, 10, 65, 75));
        assert!(matches!(over, Err(PurseError::Overbilled { .. })));
        let booked = purse.reconciled(&receipt(1, 1, 10, 64, 74)).unwrap();
        // Its own 42 units were signed before; the ceiling follows.
        assert_eq!(ceiling(booked[1].clone()), Some(74 + 42));
    }

    #[test]
    fn after_a_crash_late_receipts_may_be_a_step_each_beyond_all_that_was_signed() {
        let (_, mut journal) = broken();
        let mut purse = crashed(&journal);
        let over = purse.reconciled(&receipt(1, 1, 10, 84 + 32 - 9, 117));
        let (amount, allowed) = (Amount::new(117), Amount::new(116));
        assert_eq!(over, Err(PurseError::Unsigned { amount, allowed }));
        // The first takes some of it, the second what is left, and again after a crash.
        journal.extend(purse.reconciled(&receipt(1, 1, 10, 90, 100)).unwrap());
        for mut purse in [purse, crashed(&journal)] {
            assert!(purse.reconciled(&receipt(2, 2, 10, 39, 149)).is_err());
            assert!(purse.reconciled(&receipt(2, 2, 10, 38, 148)).is_ok());
            assert!(!purse.needs_reconciling());
        }
    }

    #[test]
    fn a_receipt_beyond_the_escrow_does_not_take_what_others_may_be_billed() {
        let mut purse = purse(84);
        let mut journal = Vec::new();
        for n in 1..=2 {
            journal.push(purse.ask(request(n), RATES, BOUND).unwrap());
        }
        purse.delivered(request(1), 32, 99).unwrap_err();
        let booked = purse.receipted(&receipt(1, 1, 40, 60, 100)).unwrap();
        let needed = Amount::new(142);
        assert_eq!(booked[1], PurseEvent::Short { needed });
        journal.extend(booked);
        let mut purse = Purse::replay(&journal).unwrap();
        purse.funded(Amount::new(1000));
        assert_eq!(purse.ceiling(), Amount::new(84));
        assert!(purse.reconciled(&receipt(2, 2, 10, 65, 175)).is_err());
        assert!(purse.reconciled(&receipt(2, 2, 10, 64, 174)).is_ok());
    }

    #[test]
    fn a_late_receipt_may_have_more_input_than_was_estimated() {
        let (known, journal) = broken();
        for mut purse in [known, crashed(&journal)] {
            assert!(purse.reconciled(&receipt(1, 1, 41, 64, 105)).is_err());
            assert!(purse.reconciled(&receipt(1, 1, 40, 64, 104)).is_ok());
        }
    }

    /// Two answers run, each signed for up to 42 units, when the process ends.
    fn two_lost() -> Vec<PurseEvent> {
        let mut purse = purse(1000);
        let asked = [1, 2].map(|n| purse.ask(request(n), RATES, BOUND).unwrap());
        asked.to_vec()
    }

    #[test]
    fn a_late_receipt_does_not_take_what_was_signed_for_others() {
        // What nothing was signed for: 30 tokens of input, 8 of output.
        for (input, output, unsigned) in [(10, 32, 0), (40, 32, 30), (10, 40, 8), (40, 40, 38)] {
            let mut purse = crashed(&two_lost());
            let amount = u128::from(input + output);
            let late = receipt(1, 1, input, output, amount);
            let booked = purse.reconciled(&late).unwrap();
            assert_eq!(purse.ceiling(), Amount::new(84 + unsigned));
            // The other's 42 and the new one's.
            let next = ceiling(purse.ask(request(3), RATES, BOUND).unwrap());
            assert_eq!(next, Some(amount + 42 + 42));
            // The journal says the same.
            let mut again = crashed(&[two_lost(), booked].concat());
            let next = ceiling(again.ask(request(3), RATES, BOUND).unwrap());
            assert_eq!(next, Some(amount + 42 + 42));
        }
    }

    #[test]
    fn what_the_channel_held_too_little_for_is_signed_for_after_a_crash_too() {
        let mut purse = crashed(&two_lost());
        purse.funded(Amount::new(84));
        let booked = purse.reconciled(&receipt(1, 1, 40, 32, 72)).unwrap();
        let needed = Amount::new(114);
        assert_eq!(booked[1], PurseEvent::Short { needed });
        let mut again = crashed(&[two_lost(), booked].concat());
        let next = ceiling(again.ask(request(3), RATES, BOUND).unwrap());
        assert_eq!(next, Some(72 + 42 + 42));
    }

    #[test]
    fn what_a_crash_made_us_forget_stays_reserved_beside_what_breaks_off_later() {
        let (_, journal) = broken();
        let mut purse = crashed(&journal);
        for n in 3..=4 {
            purse.ask(request(n), RATES, BOUND).unwrap();
            purse.broken(request(n)).unwrap();
        }
        assert_eq!(purse.ceiling(), Amount::new(4 * 42));
    }

    #[test]
    fn a_request_that_arrives_after_the_all_clear_is_still_paid_for() {
        let (mut purse, _) = broken();
        purse.settled_up();
        assert!(!purse.needs_reconciling());
        // Nothing is reserved for it, and another goes on.
        purse.ask(request(3), RATES, BOUND).unwrap();
        assert_eq!(purse.ceiling(), Amount::new(84));
        purse.claimed_to(Amount::new(20));
        assert!(purse.needs_reconciling(), "more was claimed than receipted");
        assert!(purse.reconciled(&receipt(1, 1, 10, 65, 75)).is_err());
        assert_eq!(
            purse.reconciled(&receipt(1, 1, 10, 64, 74)).unwrap().len(),
            2
        );
        assert!(
            purse.reconciled(&receipt(1, 2, 10, 64, 148)).is_err(),
            "once"
        );
        assert!(!purse.needs_reconciling());
        assert_eq!(purse.ceiling(), Amount::new(74 + 42));
    }

    #[test]
    fn a_replay_gives_the_same_books() {
        let mut purse = purse(1000);
        let mut journal = Vec::new();
        journal.push(purse.ask(request(1), RATES, BOUND).unwrap());
        journal.extend(purse.delivered(request(1), 40, 400).unwrap());
        journal.extend(purse.receipted(&receipt(1, 1, 10, 40, 50)).unwrap());
        let replayed = Purse::replay(&journal).unwrap();
        assert_eq!(replayed.ceiling(), purse.ceiling());
        assert_eq!(replayed.charged(), purse.charged());
        assert_eq!(replayed.sequence(), 1);
    }

    #[test]
    fn after_a_crash_everything_signed_stays_reserved_until_the_books_close() {
        let mut purse = purse(1000);
        let mut journal = vec![purse.ask(request(1), RATES, BOUND).unwrap()];
        journal.extend(purse.delivered(request(1), 40, 400).unwrap());
        let mut purse = Purse::replay(&journal).unwrap();
        purse.funded(Amount::new(1000));
        assert!(purse.needs_reconciling());
        assert_eq!(
            ceiling(purse.ask(request(2), RATES, BOUND).unwrap()),
            Some(74 + 42)
        );
        purse.refused(request(2));
        assert_eq!(
            purse.reconciled(&receipt(1, 1, 10, 40, 50)).unwrap().len(),
            1
        );
        purse.settled_up();
        assert_eq!(
            ceiling(purse.ask(request(3), RATES, BOUND).unwrap()),
            Some(116)
        );
        assert_eq!(purse.charged(), Amount::new(50));
    }

    #[test]
    fn a_receipt_for_what_was_never_asked_is_not_booked() {
        let mut purse = purse(1000);
        purse.ask(request(1), RATES, BOUND).unwrap();
        let old = PurseError::OldJournal {
            sequence: 1,
            request: request(9),
        };
        assert_eq!(purse.reconciled(&receipt(9, 1, 10, 1, 11)), Err(old));
        // One that is still running comes by its own stream.
        assert_eq!(purse.reconciled(&receipt(1, 1, 10, 1, 11)), Ok(vec![]));
    }

    /// A journal that ends after its first answer, while the provider has three more.
    fn old_copy() -> (Purse, Vec<PurseEvent>) {
        let mut purse = purse(1000);
        let mut journal = vec![purse.ask(request(1), RATES, BOUND).unwrap()];
        purse.delivered(request(1), 5, 50).unwrap();
        journal.extend(purse.receipted(&receipt(1, 1, 10, 5, 15)).unwrap());
        (crashed(&journal), journal)
    }

    /// The provider's receipts 2 to 4, 15 units each.
    fn unknown_receipts() -> [SignedReceipt; 3] {
        [(2, 30), (3, 45), (4, 60)].map(|(n, total)| receipt(n, u64::from(n), 10, 5, total))
    }

    #[test]
    fn an_old_journal_is_found_out_by_the_first_receipt_that_it_does_not_know() {
        let (mut purse, _) = old_copy();
        let [first, ..] = unknown_receipts();
        let old = PurseError::OldJournal {
            sequence: 2,
            request: request(2),
        };
        assert_eq!(purse.reconciled(&first), Err(old));
        assert_eq!(purse.charged(), Amount::new(15), "nothing was booked");
    }

    #[test]
    fn a_restored_channel_signs_nothing_until_the_chain_proves_its_receipts() {
        let (mut purse, mut journal) = old_copy();
        journal.extend(purse.restore());
        assert_eq!(purse.restore(), None);
        for receipt in &unknown_receipts() {
            journal.extend(purse.reconciled(receipt).unwrap());
        }
        assert_eq!((purse.charged(), purse.sequence()), (Amount::new(60), 4));
        let step = Amount::new(4);
        for mut purse in [purse, crashed(&journal)] {
            let unproved = |proved| PurseError::Unproved {
                charged: Amount::new(60),
                proved: Amount::new(proved),
            };
            assert_eq!(purse.ask(request(9), RATES, BOUND), Err(unproved(0)));
            assert_eq!(purse.due(), Err(unproved(0)));
            purse.claimed_to(Amount::new(55));
            assert_eq!(purse.resume(step), Err(unproved(55)));
            assert!(purse.is_restored());
            purse.claimed_to(Amount::new(56));
            let ceiling = Amount::new(60);
            let resumed = purse.resume(step).unwrap();
            assert_eq!(resumed, PurseEvent::Resumed { ceiling });
            // And so it stays.
            let mut journal = journal.clone();
            journal.push(resumed);
            for mut purse in [purse, crashed(&journal)] {
                assert_eq!(
                    ceiling_of(&purse.ask(request(9), RATES, BOUND).unwrap()),
                    Some(60 + 42)
                );
            }
        }
    }

    fn ceiling_of(event: &PurseEvent) -> Option<u128> {
        ceiling(event.clone())
    }

    #[test]
    fn made_up_receipts_are_not_paid_after_a_restore() {
        let mut purse = purse(1_000_000);
        purse.restore();
        // A liar's: they add up, are signed, and nobody ever asked for them.
        for n in 1..=100 {
            let total = u128::from(n) * 1010;
            purse
                .reconciled(&receipt(n, n.into(), 10, 1000, total))
                .unwrap();
        }
        assert!(purse.resume(Amount::new(32)).is_err());
        assert_eq!(purse.billed(), Amount::ZERO, "all of it can be asked back");
        assert!(purse.ask(request(200), RATES, BOUND).is_err());
        assert_eq!(purse.ceiling(), Amount::ZERO, "nothing was signed for them");
    }

    #[test]
    fn a_restored_journal_still_refuses_receipts_that_do_not_add_up() {
        let (mut purse, _) = old_copy();
        purse.restore();
        assert!(matches!(
            purse.reconciled(&receipt(2, 2, 10, 5, 31)),
            Err(PurseError::Mismatch {
                field: "charged_total",
                ..
            })
        ));
    }

    #[test]
    fn a_provider_that_gives_a_number_twice_has_old_books() {
        let (mut purse, _) = old_copy();
        purse.ask(request(2), RATES, BOUND).unwrap();
        purse.delivered(request(2), 5, 50).unwrap();
        let old = PurseError::OldProvider { sequence: 1 };
        assert_eq!(purse.receipted(&receipt(2, 1, 10, 5, 15)), Err(old));
        assert_eq!(purse.charged(), Amount::new(15));
    }
}
