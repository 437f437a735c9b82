//! The provider's side of one channel: what it was promised, what it
//! delivered, and whether it may go on.
//!
//! The rule: work at most one step per running answer beyond the best
//! voucher. A voucher counts once it is in the journal; with it goes how far
//! each running answer has come, so that a crash costs at most one step.
//! Replaying the events gives the same till; answers that were running are
//! then closed by [`Till::interrupted`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Amount, AmountOverflow, ChannelId, ModelId, Outcome, Rates, Receipt, RequestId, STEP_TOKENS,
    SignedVoucher, Timestamp,
};

/// What a till remembers over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TillEvent {
    /// A better voucher, verified.
    Voucher {
        /// The voucher.
        voucher: SignedVoucher,
    },
    /// How far a running answer has come.
    Progress {
        /// The request.
        request: RequestId,
        /// Its model.
        model: ModelId,
        /// The rates agreed.
        rates: Rates,
        /// Tokens of the request.
        input_tokens: u32,
        /// Tokens delivered.
        output_tokens: u32,
    },
    /// An answer ended.
    Receipted {
        /// Its receipt.
        receipt: Box<Receipt>,
    },
    /// So much has been claimed on chain in all.
    Claimed {
        /// The contract's `totalClaimed`.
        total: Amount,
    },
}

/// Why the provider does not take a request or a voucher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TillError {
    /// The best voucher does not reach.
    #[error("a voucher up to {needed} base units is needed, the best one reaches {ceiling}")]
    Unpaid {
        /// How far it would have to reach.
        needed: Amount,
        /// How far it does.
        ceiling: Amount,
    },
    /// The voucher promises more than the channel holds.
    #[error("voucher reaches {ceiling} base units, the channel holds {escrow}")]
    BeyondEscrow {
        /// The voucher's ceiling.
        ceiling: Amount,
        /// The channel's balance, less a pending withdrawal.
        escrow: Amount,
    },
    /// The request's id was used before, or is unknown.
    #[error("request {request} is not new on this channel, or not running")]
    WrongRequest {
        /// The id.
        request: RequestId,
    },
    /// An amount left its range.
    #[error(transparent)]
    Overflow(#[from] AmountOverflow),
}

#[derive(Debug, Clone, Copy)]
struct Running {
    model: ModelId,
    rates: Rates,
    input_tokens: u32,
    output_tokens: u32,
}

impl Running {
    fn cost(&self) -> Result<Amount, AmountOverflow> {
        self.rates.cost(self.input_tokens, self.output_tokens)
    }
}

/// The provider's side of one channel.
#[derive(Debug, Clone)]
pub struct Till {
    channel: ChannelId,
    escrow: Amount,
    best: Option<SignedVoucher>,
    charged: Amount,
    claimed: Amount,
    sequence: u64,
    running: BTreeMap<RequestId, Running>,
}

impl Till {
    /// A channel that has not paid anything yet.
    pub fn new(channel: ChannelId) -> Self {
        Self {
            channel,
            escrow: Amount::ZERO,
            best: None,
            charged: Amount::ZERO,
            claimed: Amount::ZERO,
            sequence: 0,
            running: BTreeMap::new(),
        }
    }

    /// The till that the journal describes. Answers that were running still
    /// are: close them by [`Self::interrupted`].
    pub fn replay<'a>(channel: ChannelId, events: impl IntoIterator<Item = &'a TillEvent>) -> Self {
        let mut till = Self::new(channel);
        for event in events {
            match event {
                TillEvent::Voucher { voucher } => till.best = Some(*voucher),
                TillEvent::Progress {
                    request,
                    model,
                    rates,
                    input_tokens,
                    output_tokens,
                } => {
                    let running = Running {
                        model: *model,
                        rates: *rates,
                        input_tokens: *input_tokens,
                        output_tokens: *output_tokens,
                    };
                    till.running.insert(*request, running);
                }
                TillEvent::Receipted { receipt } => {
                    till.running.remove(&receipt.request);
                    till.charged = receipt.charged_total;
                    till.sequence = receipt.sequence;
                }
                TillEvent::Claimed { total } => till.claimed = *total,
            }
        }
        till
    }

    /// What the channel can still pay in all: its balance on chain, less a pending withdrawal.
    pub fn funded(&mut self, escrow: Amount) {
        self.escrow = escrow;
    }

    /// How far the best voucher reaches.
    pub fn ceiling(&self) -> Amount {
        self.best.map_or(Amount::ZERO, |best| best.voucher.ceiling)
    }

    /// The best voucher, for a claim.
    pub fn best(&self) -> Option<&SignedVoucher> {
        self.best.as_ref()
    }

    /// All that was receipted.
    pub fn charged(&self) -> Amount {
        self.charged
    }

    /// All that was claimed on chain.
    pub fn claimed(&self) -> Amount {
        self.claimed
    }

    /// The number of the last receipt.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What a claim would now be for, in all: earned, promised, and covered.
    pub fn claimable_total(&self) -> Amount {
        self.charged.min(self.ceiling()).min(self.escrow)
    }

    /// Takes a verified voucher. None: it is no better than the one we have.
    pub fn take(&mut self, voucher: &SignedVoucher) -> Result<Option<TillEvent>, TillError> {
        let ceiling = voucher.voucher.ceiling;
        if ceiling <= self.ceiling() {
            return Ok(None);
        }
        if ceiling > self.escrow {
            return Err(TillError::BeyondEscrow {
                ceiling,
                escrow: self.escrow,
            });
        }
        self.best = Some(*voucher);
        Ok(Some(TillEvent::Voucher { voucher: *voucher }))
    }

    /// Takes a request: its input and its first step must be covered beside all that is running.
    pub fn admit(
        &mut self,
        request: RequestId,
        model: ModelId,
        rates: Rates,
        input_tokens: u32,
    ) -> Result<TillEvent, TillError> {
        if self.running.contains_key(&request) {
            return Err(TillError::WrongRequest { request });
        }
        let needed = self.owed()?.plus(rates.cost(input_tokens, STEP_TOKENS)?)?;
        let ceiling = self.ceiling();
        if needed > ceiling {
            return Err(TillError::Unpaid { needed, ceiling });
        }
        self.running.insert(
            request,
            Running {
                model,
                rates,
                input_tokens,
                output_tokens: 0,
            },
        );
        self.progress(request)
    }

    /// So much of an answer was metered. Whether to go on without another voucher.
    pub fn delivered(
        &mut self,
        request: RequestId,
        input_tokens: u32,
        output_tokens: u32,
    ) -> Result<bool, TillError> {
        let running = self
            .running
            .get_mut(&request)
            .ok_or(TillError::WrongRequest { request })?;
        running.input_tokens = input_tokens;
        running.output_tokens = output_tokens;
        self.may_go_on()
    }

    /// Whether the running answers are within one step each of the best voucher.
    pub fn may_go_on(&self) -> Result<bool, TillError> {
        let steps = self
            .running
            .values()
            .map(|running| running.rates.step())
            .collect::<Result<Vec<_>, _>>()?;
        let reach = Amount::sum([self.ceiling()].into_iter().chain(steps))?;
        Ok(self.owed()? <= reach)
    }

    /// How far an answer has come, to be written beside the voucher that pays for it.
    pub fn progress(&self, request: RequestId) -> Result<TillEvent, TillError> {
        let running = self
            .running
            .get(&request)
            .ok_or(TillError::WrongRequest { request })?;
        let Running {
            model,
            rates,
            input_tokens,
            output_tokens,
        } = *running;
        Ok(TillEvent::Progress {
            request,
            model,
            rates,
            input_tokens,
            output_tokens,
        })
    }

    /// An answer ended: its receipt, to be journalled, then signed, then sent.
    pub fn close(
        &mut self,
        request: RequestId,
        input_tokens: u32,
        output_tokens: u32,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<Receipt, TillError> {
        let running = self
            .running
            .get(&request)
            .ok_or(TillError::WrongRequest { request })?;
        let amount = running.rates.cost(input_tokens, output_tokens)?;
        let charged_total = self.charged.plus(amount)?;
        let receipt = Receipt {
            request,
            channel: self.channel,
            sequence: self.sequence + 1,
            model: running.model,
            rates: running.rates,
            input_tokens,
            output_tokens,
            amount,
            charged_total,
            outcome,
            issued_at: now,
        };
        self.running.remove(&request);
        self.charged = charged_total;
        self.sequence = receipt.sequence;
        Ok(receipt)
    }

    /// The claim of `total` went through.
    pub fn claimed_to(&mut self, total: Amount) -> Option<TillEvent> {
        if total <= self.claimed {
            return None;
        }
        self.claimed = total;
        Some(TillEvent::Claimed { total })
    }

    /// After a replay: closes what was running when the process ended, as far
    /// as the journal knows it was delivered.
    pub fn interrupted(&mut self, now: Timestamp) -> Result<Vec<Receipt>, TillError> {
        let running: Vec<_> = self
            .running
            .iter()
            .map(|(request, running)| (*request, *running))
            .collect();
        running
            .into_iter()
            .map(|(request, r)| {
                self.close(
                    request,
                    r.input_tokens,
                    r.output_tokens,
                    Outcome::Failed,
                    now,
                )
            })
            .collect()
    }

    /// Receipted, and delivered by running answers.
    fn owed(&self) -> Result<Amount, AmountOverflow> {
        let running = self
            .running
            .values()
            .map(Running::cost)
            .collect::<Result<Vec<_>, _>>()?;
        Amount::sum([self.charged].into_iter().chain(running))
    }
}

impl TillEvent {
    /// The event for a receipt that is about to be signed.
    pub fn receipted(receipt: &Receipt) -> Self {
        Self::Receipted {
            receipt: Box::new(receipt.clone()),
        }
    }
}
