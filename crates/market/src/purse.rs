//! The consumer's side of one channel: how much has been signed away, for
//! what, and when the next voucher is due.
//!
//! The rule: a voucher's ceiling covers what was receipted, what running
//! answers delivered, and one step for each of them; never more. Every
//! decision that raises the ceiling or books a receipt is returned as a
//! [`PurseEvent`]: the caller writes it to the journal, waits until it is
//! durable, and only then signs. Replaying the events gives the same purse,
//! without the answers that were running.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Amount, AmountOverflow, InputBound, Rates, Receipt, RequestId, STEP_TOKENS, SignedReceipt,
};

/// What a purse remembers over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PurseEvent {
    /// A voucher up to this ceiling may be signed.
    Ceiling {
        /// All that was ever allowed to be claimed.
        ceiling: Amount,
    },
    /// A receipt was accepted.
    Receipted {
        /// The receipt.
        receipt: Box<SignedReceipt>,
    },
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
    /// What is delivered, to the step below, and one step more.
    fn allowance(&self) -> Result<Amount, AmountOverflow> {
        let steps = self.tokens / STEP_TOKENS + 1;
        self.rates
            .cost(self.bound.estimate, steps.saturating_mul(STEP_TOKENS))
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
    unreceipted: BTreeMap<RequestId, Amount>,
}

impl Purse {
    /// The purse that the journal describes.
    pub fn replay<'a>(
        events: impl IntoIterator<Item = &'a PurseEvent>,
    ) -> Result<Self, PurseError> {
        let mut purse = Self::default();
        for event in events {
            match event {
                PurseEvent::Ceiling { ceiling } => purse.ceiling = purse.ceiling.max(*ceiling),
                PurseEvent::Receipted { receipt } => purse.book(&receipt.receipt)?,
            }
        }
        Ok(purse)
    }

    /// The channel's balance on chain is now this.
    pub fn funded(&mut self, escrow: Amount) {
        self.escrow = escrow;
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

    /// Receipts are complete up to this number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether the provider may hold receipts that we have not seen: an
    /// answer ended without one, or there is a gap, or signed money is
    /// unaccounted for while nothing runs.
    pub fn needs_reconciling(&self) -> bool {
        !self.unreceipted.is_empty() || !self.ahead.is_empty()
    }

    /// A request is about to be sent. The ceiling covers its input and one step.
    pub fn ask(
        &mut self,
        request: RequestId,
        rates: Rates,
        bound: InputBound,
    ) -> Result<Option<PurseEvent>, PurseError> {
        if self.running.contains_key(&request) {
            return Err(PurseError::UnknownRequest { request });
        }
        let running = Running {
            rates,
            bound,
            tokens: 0,
            bytes: 0,
        };
        let needed = self.target()?.plus(running.allowance()?)?;
        let event = self.raise(needed)?;
        self.running.insert(request, running);
        Ok(event)
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
        if tokens / STEP_TOKENS == running.tokens / STEP_TOKENS {
            running.tokens = running.tokens.max(tokens);
            return Ok(None);
        }
        running.tokens = tokens;
        self.due()
    }

    /// An event if the ceiling lags behind what is running, as after a deposit
    /// that [`PurseError::Escrow`] had asked for.
    pub fn due(&mut self) -> Result<Option<PurseEvent>, PurseError> {
        let needed = self.target()?;
        self.raise(needed)
    }

    /// Checks and books the receipt of a running answer. The first event is
    /// the receipt; a second one means that a last voucher is due, because
    /// the provider's last step ran ahead of the ceiling.
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
        self.book(receipt)?;
        self.running.remove(&request);
        let mut events = vec![PurseEvent::Receipted {
            receipt: Box::new(signed.clone()),
        }];
        events.extend(self.due()?);
        Ok(events)
    }

    /// Books a receipt that the provider sent later, for an answer that broke
    /// off. What was delivered is no longer known here, so it is accepted up
    /// to what was signed away.
    pub fn reconciled(&mut self, signed: &SignedReceipt) -> Result<Option<PurseEvent>, PurseError> {
        let receipt = &signed.receipt;
        if self.is_booked(receipt) {
            return Ok(None);
        }
        let step = receipt.rates.step()?;
        let allowed = self.ceiling.plus(step)?;
        if receipt.charged_total > allowed {
            return Err(PurseError::Mismatch {
                field: "charged_total",
                got: receipt.charged_total,
                expected: allowed,
            });
        }
        self.book(receipt)?;
        self.unreceipted.remove(&receipt.request);
        Ok(Some(PurseEvent::Receipted {
            receipt: Box::new(signed.clone()),
        }))
    }

    /// The provider has nothing more to bill: what was reserved is free again.
    pub fn settled_up(&mut self) {
        self.unreceipted.clear();
    }

    /// A running answer ended without a receipt: what it may cost stays reserved.
    pub fn broken(&mut self, request: RequestId) -> Result<(), PurseError> {
        let running = self
            .running
            .remove(&request)
            .ok_or(PurseError::UnknownRequest { request })?;
        self.unreceipted.insert(request, running.allowance()?);
        Ok(())
    }

    /// A request that the provider refused before it worked: nothing to bill.
    pub fn refused(&mut self, request: RequestId) {
        self.running.remove(&request);
    }

    /// How far the ceiling would have to reach for all that is running.
    fn target(&self) -> Result<Amount, AmountOverflow> {
        let running = self
            .running
            .values()
            .map(Running::allowance)
            .collect::<Result<Vec<_>, _>>()?;
        Amount::sum(
            [self.charged]
                .into_iter()
                .chain(running)
                .chain(self.unreceipted.values().copied()),
        )
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
