//! The provider's side of one channel: what it was promised, what it
//! delivered, and whether it may go on.
//!
//! The rule: a chunk goes out only if the answer is then within one step of
//! what vouchers cover ([`Till::may_deliver`]). One exception, because a chunk
//! cannot be cut: one that is larger than a step goes out when all before it
//! is covered. What it is beyond the step is billed only once a voucher covers
//! it, so a receipt never asks for more than a step that nobody has signed.
//!
//! A voucher counts once it is in the journal ([`Till::take`], then the caller
//! writes, then [`Till::count`]); with it goes how far each running answer has
//! come, so that a crash costs at most one step. Replaying the events gives
//! the same till, in whatever order they came to stand in the journal; answers
//! that were running are then closed by [`Till::interrupted`].

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::durable::MissingField;
use crate::{
    Amount, AmountOverflow, ChannelId, ChannelState, ModelId, Outcome, Rates, Receipt, RequestId,
    STEP_TOKENS, SignedVoucher, Sold, Timestamp, Upstream,
};

/// Ids of ended answers that are remembered, per channel: a request that comes
/// again is refused as long as its id is among them. What keeps money safe is
/// not this list but that all receipts stay charged, see
/// `docs/decisions/005-request-ids-are-forgotten.md`.
pub(crate) const ENDED_KEPT: usize = 256;

/// What a till remembers over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", try_from = "TillLine")]
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
        /// What it is.
        #[serde(flatten)]
        sold: Sold,
        /// Tokens of the request.
        input_tokens: u32,
        /// Tokens delivered.
        output_tokens: u32,
    },
    /// A request was given back before any work on it: nothing is owed.
    Refused {
        /// The request.
        request: RequestId,
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

/// Any [`TillEvent`] as it is read. With all fields in one struct each goes to
/// its place as it comes; a tagged enum would be kept as a tree until its tag
/// is known, and a provider reads hundreds of thousands when it starts.
#[derive(Deserialize)]
struct TillLine {
    event: TillKind,
    voucher: Option<SignedVoucher>,
    request: Option<RequestId>,
    model: Option<ModelId>,
    rates: Option<Rates>,
    upstream: Option<Upstream>,
    input_tokens: Option<u32>,
    output_tokens: Option<u32>,
    receipt: Option<Box<Receipt>>,
    total: Option<Amount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum TillKind {
    Voucher,
    Progress,
    Refused,
    Receipted,
    Claimed,
}

impl TryFrom<TillLine> for TillEvent {
    type Error = MissingField;

    fn try_from(line: TillLine) -> Result<Self, MissingField> {
        let request = line.request.ok_or(MissingField("request"));
        Ok(match line.event {
            TillKind::Voucher => Self::Voucher {
                voucher: line.voucher.ok_or(MissingField("voucher"))?,
            },
            TillKind::Progress => Self::Progress {
                request: request?,
                sold: Sold {
                    model: line.model.ok_or(MissingField("model"))?,
                    rates: line.rates.ok_or(MissingField("rates"))?,
                    upstream: line.upstream.unwrap_or_default(),
                },
                input_tokens: line.input_tokens.ok_or(MissingField("input_tokens"))?,
                output_tokens: line.output_tokens.ok_or(MissingField("output_tokens"))?,
            },
            TillKind::Refused => Self::Refused { request: request? },
            TillKind::Receipted => Self::Receipted {
                receipt: line.receipt.ok_or(MissingField("receipt"))?,
            },
            TillKind::Claimed => Self::Claimed {
                total: line.total.ok_or(MissingField("total"))?,
            },
        })
    }
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
    /// More was claimed than these books know to have been earned.
    #[error(
        "of this channel {claimed} base units were claimed on chain, and these books know of {charged}: \
         they are an old copy, and take nothing more on it; open another channel"
    )]
    ClaimedMore {
        /// What the chain says.
        claimed: Amount,
        /// All receipts that are known.
        charged: Amount,
    },
    /// The payer has receipts that these books do not know.
    #[error(
        "the payer has receipts of this channel up to number {theirs}, these books know {ours}: \
         they are an old copy, and take nothing more on it; open another channel"
    )]
    ReceiptedMore {
        /// The last that the payer has.
        theirs: u64,
        /// The last that is known here.
        ours: u64,
    },
    /// There is no number after the last receipt's.
    #[error("the last receipt has the highest number there is: the books are damaged")]
    Numbers,
    /// An amount left its range.
    #[error(transparent)]
    Overflow(#[from] AmountOverflow),
}

#[derive(Debug, Clone, Copy)]
struct Running {
    sold: Sold,
    input_tokens: u32,
    output_tokens: u32,
    /// Of these, what the consumer says it has read.
    read_tokens: u32,
}

impl Running {
    /// Up to here its payer's vouchers cover it: what was read, to the end of
    /// the step that was being read.
    fn covered(&self) -> u32 {
        let steps = (self.read_tokens / STEP_TOKENS).saturating_add(1);
        steps.saturating_mul(STEP_TOKENS)
    }

    /// One step beyond what is covered: it is billed up to here and no further.
    fn reach(&self) -> u32 {
        self.covered().saturating_add(STEP_TOKENS)
    }

    /// What it would be billed now. A chunk larger than a step stands in
    /// nobody else's way.
    fn cost(&self) -> Result<Amount, AmountOverflow> {
        let tokens = self.output_tokens.min(self.reach());
        self.sold.rates.cost(self.input_tokens, tokens)
    }

    /// Its cost as far as its payer can have seen it.
    fn seen(&self) -> Result<Amount, AmountOverflow> {
        let tokens = self.output_tokens.min(self.covered());
        self.sold.rates.cost(self.input_tokens, tokens)
    }
}

/// The provider's side of one channel.
#[derive(Debug, Clone)]
pub struct Till {
    channel: ChannelId,
    state: ChannelState,
    /// In the journal.
    best: Option<SignedVoucher>,
    /// The best of those that are verified, perhaps still on the way to the journal.
    promised: Amount,
    charged: Amount,
    claimed: Amount,
    sequence: u64,
    running: BTreeMap<RequestId, Running>,
    /// The last requests that ended with a receipt, latest at the back.
    ended: VecDeque<RequestId>,
    /// Receipts that the payer says it has, up to this one.
    shown: u64,
}

impl Till {
    /// A channel that has not paid anything yet.
    pub fn new(channel: ChannelId) -> Self {
        Self {
            channel,
            state: ChannelState::default(),
            best: None,
            promised: Amount::ZERO,
            charged: Amount::ZERO,
            claimed: Amount::ZERO,
            sequence: 0,
            running: BTreeMap::new(),
            ended: VecDeque::new(),
            shown: 0,
        }
    }

    /// The till that the journal describes. Answers that were running still
    /// are: close them by [`Self::interrupted`].
    pub fn replay<E: Borrow<TillEvent>>(
        channel: ChannelId,
        events: impl IntoIterator<Item = E>,
    ) -> Self {
        let mut till = Self::new(channel);
        for event in events {
            till.apply(event.borrow());
        }
        till
    }

    /// Events of different answers may stand in the journal in another order
    /// than they happened, so each one only ever moves the till forward.
    fn apply(&mut self, event: &TillEvent) {
        match event {
            TillEvent::Voucher { voucher } => self.count(voucher),
            TillEvent::Progress {
                request,
                sold,
                input_tokens,
                output_tokens,
            } => {
                if self.ended.contains(request) {
                    return;
                }
                let running = self.running.entry(*request).or_insert(Running {
                    sold: *sold,
                    input_tokens: 0,
                    output_tokens: 0,
                    read_tokens: 0,
                });
                running.input_tokens = running.input_tokens.max(*input_tokens);
                running.output_tokens = running.output_tokens.max(*output_tokens);
                // Only what may be billed is written.
                running.read_tokens = running.output_tokens;
            }
            TillEvent::Refused { request } => _ = self.end(*request),
            TillEvent::Receipted { receipt } => {
                self.end(receipt.request);
                self.remember(receipt.request);
                self.charged = self.charged.max(receipt.charged_total);
                self.sequence = self.sequence.max(receipt.sequence);
            }
            // The chain may have taken a claim back.
            TillEvent::Claimed { total } => self.claimed = *total,
        }
    }

    /// Which channel.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// What the contract knows of the channel.
    pub fn funded(&mut self, state: ChannelState) {
        self.state = state;
    }

    /// The payer says, signed, that it has receipts up to this number.
    pub fn shown(&mut self, sequence: u64) {
        self.shown = self.shown.max(sequence);
    }

    /// Whether these books are all there is. If they are an old copy, numbers
    /// and totals of new receipts would contradict those that the payer has,
    /// so no more work is taken. What they know to be earned can be claimed.
    pub fn is_current(&self) -> Result<(), TillError> {
        let (claimed, charged) = (self.state.total_claimed, self.charged);
        if claimed > charged {
            return Err(TillError::ClaimedMore { claimed, charged });
        }
        if self.shown > self.sequence {
            let (theirs, ours) = (self.shown, self.sequence);
            return Err(TillError::ReceiptedMore { theirs, ours });
        }
        Ok(())
    }

    /// What the contract was last seen to know.
    pub fn state(&self) -> &ChannelState {
        &self.state
    }

    /// Answers that run.
    pub fn running(&self) -> usize {
        self.running.len()
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

    /// What a claim would now be for, in all: earned, promised, and there. A
    /// withdrawal that is still pending does not stand in its way.
    pub fn claimable_total(&self) -> Amount {
        self.charged.min(self.ceiling()).min(self.state.balance)
    }

    /// Takes a verified voucher. It counts only after [`Self::count`]. None:
    /// it is no better than those we have.
    pub fn take(&mut self, voucher: &SignedVoucher) -> Result<Option<TillEvent>, TillError> {
        let ceiling = voucher.voucher.ceiling;
        if ceiling <= self.promised {
            return Ok(None);
        }
        let escrow = self.state.covered();
        if ceiling > escrow {
            return Err(TillError::BeyondEscrow { ceiling, escrow });
        }
        self.promised = ceiling;
        Ok(Some(TillEvent::Voucher { voucher: *voucher }))
    }

    /// The voucher is in the journal: now it counts.
    pub fn count(&mut self, voucher: &SignedVoucher) {
        if voucher.voucher.ceiling > self.ceiling() {
            self.best = Some(*voucher);
        }
        self.promised = self.promised.max(self.ceiling());
    }

    /// Takes a request: its input and its first step must be covered by a
    /// voucher that may still be on its way to the journal. Of what else runs
    /// only that counts which its payer can have seen; and a step is let
    /// pass, for a receipt that is on its way to it.
    pub fn admit(
        &mut self,
        request: RequestId,
        sold: Sold,
        input_tokens: u32,
    ) -> Result<TillEvent, TillError> {
        self.is_current()?;
        if self.running.contains_key(&request) || self.ended.contains(&request) {
            return Err(TillError::WrongRequest { request });
        }
        let needed = self
            .seen()?
            .plus(sold.rates.cost(input_tokens, STEP_TOKENS)?)?;
        if needed > self.promised.plus(sold.rates.step()?)? {
            return Err(TillError::Unpaid {
                needed,
                ceiling: self.promised,
            });
        }
        self.running.insert(
            request,
            Running {
                sold,
                input_tokens,
                output_tokens: 0,
                read_tokens: 0,
            },
        );
        self.progress(request)
    }

    /// Gives an admitted request back: no work was done on it.
    pub fn refuse(&mut self, request: RequestId) -> Result<TillEvent, TillError> {
        match self.end(request) {
            Some(_) => Ok(TillEvent::Refused { request }),
            None => Err(TillError::WrongRequest { request }),
        }
    }

    /// So much of an answer was metered and goes out.
    pub fn delivered(
        &mut self,
        request: RequestId,
        input_tokens: u32,
        output_tokens: u32,
    ) -> Result<(), TillError> {
        let running = self
            .running
            .get_mut(&request)
            .ok_or(TillError::WrongRequest { request })?;
        running.input_tokens = input_tokens;
        running.output_tokens = output_tokens;
        Ok(())
    }

    /// The consumer says, with a voucher, that it has read so many tokens of
    /// an answer: the voucher covers them and one step more.
    pub fn read(&mut self, request: RequestId, tokens: u32) -> Result<(), TillError> {
        let running = self
            .running
            .get_mut(&request)
            .ok_or(TillError::WrongRequest { request })?;
        running.read_tokens = running.read_tokens.max(tokens.min(running.output_tokens));
        Ok(())
    }

    /// Whether a chunk that takes an answer to so many tokens may go out now:
    /// the answer is then within one step of what its payer has read, so that
    /// it does not use up what was signed for others, and all together are
    /// within one step each of the best voucher. A chunk larger than a step
    /// may go out when all before it is covered.
    pub fn may_deliver(&self, request: RequestId, output_tokens: u32) -> Result<bool, TillError> {
        let running = self.of(request)?;
        let promised = self.ceiling().plus(self.steps()?)?;
        if output_tokens <= running.reach() && self.owed_at(request, output_tokens)? <= promised {
            return Ok(true);
        }
        let covered = running.covered();
        let own_step = running.sold.rates.step()?;
        Ok(running.output_tokens <= covered
            && self.owed_at(request, covered)?.plus(own_step)? <= promised)
    }

    /// Whether vouchers cover all that was delivered of an answer to within a
    /// step, so that closing it now bills all of it. It is so unless a chunk
    /// was larger than a step.
    pub fn is_billable(&self, request: RequestId) -> Result<bool, TillError> {
        let running = self.of(request)?;
        let promised = self.ceiling().plus(self.steps()?)?;
        Ok(running.output_tokens <= running.reach() && self.owed()? <= promised)
    }

    /// How far an answer has come, to be written beside the voucher that pays for it.
    pub fn progress(&self, request: RequestId) -> Result<TillEvent, TillError> {
        let running = self.of(request)?;
        let Running {
            sold,
            input_tokens,
            output_tokens,
            ..
        } = *running;
        Ok(TillEvent::Progress {
            request,
            sold,
            input_tokens,
            output_tokens: output_tokens.min(running.reach()),
        })
    }

    /// An answer ended: its receipt, to be journalled, then signed, then sent.
    /// Output beyond one step of what vouchers cover is not billed.
    pub fn close(
        &mut self,
        request: RequestId,
        input_tokens: u32,
        output_tokens: u32,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<Receipt, TillError> {
        let running = self.of(request)?;
        let output_tokens = output_tokens.min(running.reach());
        let amount = running.sold.rates.cost(input_tokens, output_tokens)?;
        let charged_total = self.charged.plus(amount)?;
        let sequence = self.sequence.checked_add(1).ok_or(TillError::Numbers)?;
        let receipt = Receipt {
            request,
            channel: self.channel,
            sequence,
            model: running.sold.model,
            rates: running.sold.rates,
            upstream: running.sold.upstream,
            input_tokens,
            output_tokens,
            amount,
            charged_total,
            outcome,
            issued_at: now,
        };
        self.end(request);
        self.remember(request);
        self.charged = charged_total;
        self.sequence = receipt.sequence;
        Ok(receipt)
    }

    /// The chain says that so much was claimed. Less than before: it took the
    /// blocks of a claim back, and what is gone has to be claimed again.
    pub fn claimed_to(&mut self, total: Amount) -> Option<TillEvent> {
        if total == self.claimed {
            return None;
        }
        self.claimed = total;
        Some(TillEvent::Claimed { total })
    }

    /// After a replay: closes what was running when the process ended, as far
    /// as the journal knows it was delivered. Nobody counted its input, and it
    /// was not the payer who broke off: that is not billed.
    pub fn interrupted(&mut self, now: Timestamp) -> Result<Vec<Receipt>, TillError> {
        let running: Vec<_> = self
            .running
            .iter()
            .map(|(request, running)| (*request, *running))
            .collect();
        running
            .into_iter()
            .map(|(request, r)| self.close(request, 0, r.output_tokens, Outcome::Failed, now))
            .collect()
    }

    fn of(&self, request: RequestId) -> Result<&Running, TillError> {
        let running = self.running.get(&request);
        running.ok_or(TillError::WrongRequest { request })
    }

    /// An answer runs no more. Most channels have none that does, and then
    /// hold no memory for them: an empty map keeps that of eleven.
    fn end(&mut self, request: RequestId) -> Option<Running> {
        let ended = self.running.remove(&request);
        if self.running.is_empty() {
            self.running = BTreeMap::new();
        }
        ended
    }

    fn remember(&mut self, request: RequestId) {
        if self.ended.len() == ENDED_KEPT {
            self.ended.pop_front();
        }
        self.ended.push_back(request);
    }

    /// One step for each running answer.
    fn steps(&self) -> Result<Amount, AmountOverflow> {
        Amount::try_sum(
            self.running
                .values()
                .map(|running| running.sold.rates.step()),
        )
    }

    /// Receipted, and of running answers what the payer's vouchers reckon with.
    fn seen(&self) -> Result<Amount, AmountOverflow> {
        let running = Amount::try_sum(self.running.values().map(Running::seen))?;
        self.charged.plus(running)
    }

    /// Receipted, and what running answers would be billed now.
    fn owed(&self) -> Result<Amount, AmountOverflow> {
        let running = Amount::try_sum(self.running.values().map(Running::cost))?;
        self.charged.plus(running)
    }

    /// The same if one of them had come to so many tokens.
    fn owed_at(&self, request: RequestId, output_tokens: u32) -> Result<Amount, TillError> {
        let running = self.of(request)?;
        let then = running
            .sold
            .rates
            .cost(running.input_tokens, output_tokens)?;
        Ok(self.owed()?.minus(running.cost()?)?.plus(then)?)
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

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, FixedBytes, Signature, U256};
    use proptest::prelude::*;

    use super::*;
    use crate::{Voucher, Withdrawal};

    const CHANNEL: ChannelId = ChannelId(B256::repeat_byte(1));
    const NOW: Timestamp = Timestamp(7);
    /// One base unit a token, both ways.
    const RATES: Rates = Rates {
        input_per_million: Amount::new(1_000_000),
        output_per_million: Amount::new(1_000_000),
    };
    const SOLD: Sold = Sold {
        model: ModelId(B256::repeat_byte(2)),
        rates: RATES,
        upstream: Upstream::OwnEngine,
    };
    const STEP: u128 = STEP_TOKENS as u128;

    fn id(n: u8) -> RequestId {
        RequestId(FixedBytes([n; 16]))
    }

    /// The till gets vouchers that are verified; here nobody looks at the signature.
    fn voucher(ceiling: u128) -> SignedVoucher {
        SignedVoucher {
            voucher: Voucher {
                channel: CHANNEL,
                ceiling: Amount::new(ceiling),
            },
            signature: Signature::new(U256::ZERO, U256::ZERO, false),
        }
    }

    fn funded(balance: u128, leaving: u128) -> ChannelState {
        let withdrawal = Withdrawal {
            amount: Amount::new(leaving),
            initiated_at: NOW,
        };
        ChannelState {
            balance: Amount::new(balance),
            total_claimed: Amount::ZERO,
            withdrawal: (leaving > 0).then_some(withdrawal),
        }
    }

    fn till(balance: u128, ceiling: u128) -> Till {
        let mut till = Till::new(CHANNEL);
        till.funded(funded(balance, 0));
        till.take(&voucher(ceiling)).unwrap();
        till.count(&voucher(ceiling));
        till
    }

    fn admit(till: &mut Till, n: u8, input: u32) -> Result<TillEvent, TillError> {
        till.admit(id(n), SOLD, input)
    }

    #[test]
    fn a_request_is_taken_only_when_its_input_is_promised() {
        for (ceiling, taken) in [(0, false), (9, false), (10, true), (10 + STEP, true)] {
            let admitted = admit(&mut till(1000, ceiling), 1, 10);
            assert_eq!(admitted.is_ok(), taken, "ceiling {ceiling}");
        }
    }

    #[test]
    fn a_verified_voucher_admits_before_it_counts_but_work_waits_for_the_journal() {
        let mut till = Till::new(CHANNEL);
        till.funded(funded(1000, 0));
        till.take(&voucher(100 + STEP)).unwrap().unwrap();
        admit(&mut till, 1, 100).unwrap();
        assert_eq!(till.ceiling(), Amount::ZERO);
        assert_eq!(till.may_deliver(id(1), 1), Ok(false));
        till.count(&voucher(100 + STEP));
        assert_eq!(till.may_deliver(id(1), 1), Ok(true));
    }

    #[test]
    fn work_stops_one_step_beyond_the_voucher() {
        let mut till = till(1000, 10 + STEP);
        admit(&mut till, 1, 10).unwrap();
        till.delivered(id(1), 10, STEP_TOKENS + 1).unwrap();
        assert_eq!(till.may_deliver(id(1), 2 * STEP_TOKENS), Ok(true));
        assert_eq!(till.may_deliver(id(1), 2 * STEP_TOKENS + 1), Ok(false));
    }

    #[test]
    fn a_chunk_larger_than_a_step_waits_until_all_before_it_is_covered() {
        const LARGE: u32 = 5 * STEP_TOKENS;
        let mut till = till(1000, 10 + STEP);
        admit(&mut till, 1, 10).unwrap();
        till.delivered(id(1), 10, STEP_TOKENS).unwrap();
        let to = STEP_TOKENS + LARGE;
        assert_eq!(till.may_deliver(id(1), to), Ok(true));
        till.delivered(id(1), 10, STEP_TOKENS + 1).unwrap();
        let to = to + 1;
        assert_eq!(till.may_deliver(id(1), to), Ok(false));
        till.take(&voucher(10 + 2 * STEP)).unwrap();
        till.count(&voucher(10 + 2 * STEP));
        assert_eq!(till.may_deliver(id(1), to), Ok(false), "paid, for another");
        till.read(id(1), STEP_TOKENS).unwrap();
        assert_eq!(till.may_deliver(id(1), to), Ok(true));
    }

    #[test]
    fn a_chunk_larger_than_a_step_is_billed_as_far_as_vouchers_go_and_a_step() {
        const LARGE: u32 = 5 * STEP_TOKENS;
        let paid = |pays: bool| {
            let mut till = till(1000, STEP);
            let mut journal = vec![admit(&mut till, 1, 0).unwrap()];
            till.delivered(id(1), 0, LARGE).unwrap();
            assert_eq!(till.is_billable(id(1)), Ok(false));
            assert_eq!(till.may_deliver(id(1), LARGE), Ok(false));
            if pays {
                till.take(&voucher(6 * STEP)).unwrap();
                till.count(&voucher(6 * STEP));
                till.read(id(1), LARGE).unwrap();
                assert_eq!(till.is_billable(id(1)), Ok(true));
            }
            journal.push(till.progress(id(1)).unwrap());
            let receipt = till.close(id(1), 0, LARGE, Outcome::Complete, NOW);
            let mut again = Till::replay(CHANNEL, &journal);
            let after_a_crash = again.interrupted(NOW).unwrap();
            let billed = receipt.unwrap().output_tokens;
            assert_eq!(billed, after_a_crash[0].output_tokens);
            billed
        };
        assert_eq!(paid(false), 2 * STEP_TOKENS);
        assert_eq!(paid(true), LARGE);
    }

    #[test]
    fn answers_at_once_are_taken_while_others_are_a_step_ahead() {
        let mut till = till(1000, STEP);
        admit(&mut till, 1, 0).unwrap();
        till.delivered(id(1), 0, 2 * STEP_TOKENS).unwrap();
        // The consumer saw one step of the first answer when it signed for the second.
        till.take(&voucher(3 * STEP)).unwrap();
        till.count(&voucher(3 * STEP));
        admit(&mut till, 2, 0).unwrap();
        assert!(matches!(
            admit(&mut till, 3, 2 * STEP_TOKENS + 1),
            Err(TillError::Unpaid { .. })
        ));
    }

    #[test]
    fn an_id_is_good_for_one_answer() {
        let mut till = till(1000, 500);
        admit(&mut till, 1, 0).unwrap();
        let wrong = Err(TillError::WrongRequest { request: id(1) });
        assert_eq!(admit(&mut till, 1, 0), wrong);
        let receipt = till.close(id(1), 0, 1, Outcome::Complete, NOW).unwrap();
        assert_eq!(admit(&mut till, 1, 0), wrong);
        let mut again = Till::replay(CHANNEL, [&TillEvent::receipted(&receipt)]);
        assert_eq!(admit(&mut again, 1, 0), wrong);
    }

    #[test]
    fn every_event_is_read_as_written_also_in_another_order() {
        let mut till = Till::new(CHANNEL);
        till.count(&voucher(1_000));
        let admitted = till.admit(id(1), SOLD, 10).unwrap();
        let receipt = till.close(id(1), 10, 5, Outcome::Complete, NOW).unwrap();
        let events = [
            TillEvent::Voucher {
                voucher: voucher(1_000),
            },
            admitted,
            TillEvent::Refused { request: id(2) },
            TillEvent::receipted(&receipt),
            TillEvent::Claimed {
                total: Amount::new(7),
            },
        ];
        for event in events {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<TillEvent>(&text).unwrap(), event);
            let fields: serde_json::Map<_, _> = serde_json::from_str(&text).unwrap();
            let turned: serde_json::Map<_, _> = fields.clone().into_iter().rev().collect();
            let turned = serde_json::to_string(&turned).unwrap();
            assert_eq!(serde_json::from_str::<TillEvent>(&turned).unwrap(), event);
            for field in fields.keys().filter(|field| *field != "upstream") {
                let mut fewer = fields.clone();
                fewer.remove(field);
                let fewer = serde_json::to_string(&fewer).unwrap();
                let told = serde_json::from_str::<TillEvent>(&fewer).unwrap_err();
                assert!(told.to_string().contains(field.as_str()), "{told}");
            }
        }
    }

    #[test]
    fn a_line_of_before_there_were_labels_is_read() {
        let event = TillEvent::Progress {
            request: id(1),
            sold: Sold {
                upstream: Upstream::default(),
                ..SOLD
            },
            input_tokens: 10,
            output_tokens: 5,
        };
        let mut fields = serde_json::to_value(&event).unwrap();
        fields.as_object_mut().unwrap().remove("upstream").unwrap();
        let text = fields.to_string();
        assert_eq!(serde_json::from_str::<TillEvent>(&text).unwrap(), event);
    }

    #[test]
    fn ids_are_forgotten_in_the_end_but_no_answer_is_had_twice_for_one_price() {
        let request = |n: u16| {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            RequestId(FixedBytes(bytes))
        };
        const ANSWERS: u16 = 600;
        assert!(usize::from(ANSWERS) > 2 * ENDED_KEPT);
        // Each takes one step's price, and the vouchers reach exactly so far.
        let price = u128::from(ANSWERS) * STEP;
        let mut till = till(10 * price, price);
        let mut journal = Vec::new();
        for n in 0..ANSWERS {
            till.admit(request(n), SOLD, 0).unwrap();
            let closed = till.close(request(n), 0, STEP_TOKENS, Outcome::Complete, NOW);
            journal.push(TillEvent::receipted(&closed.unwrap()));
        }
        let mut again = Till::replay(CHANNEL, &journal);
        again.funded(funded(10 * price, 0));
        again.take(&voucher(price)).unwrap();
        again.count(&voucher(price));
        for mut till in [till, again] {
            assert_eq!(till.ended.len(), ENDED_KEPT);
            let (old, late) = (request(0), request(ANSWERS - 1));
            let mut came_again = |id| till.admit(id, SOLD, 1);
            assert_eq!(
                came_again(late),
                Err(TillError::WrongRequest { request: late })
            );
            assert!(matches!(came_again(old), Err(TillError::Unpaid { .. })));
        }
    }

    #[test]
    fn a_refused_request_costs_nothing_even_after_a_restart() {
        let mut till = till(1000, 500);
        let admitted = admit(&mut till, 1, 100).unwrap();
        let refused = till.refuse(id(1)).unwrap();
        assert!(till.refuse(id(1)).is_err());
        let mut again = Till::replay(CHANNEL, [&admitted, &refused]);
        assert_eq!(again.interrupted(NOW), Ok(vec![]));
    }

    #[test]
    fn vouchers_beyond_what_a_withdrawal_leaves_are_refused_but_old_ones_still_claim() {
        let mut till = till(100, 80);
        admit(&mut till, 1, 0).unwrap();
        till.close(id(1), 0, 64, Outcome::Complete, NOW).unwrap();
        till.funded(funded(100, 100));
        assert!(matches!(
            till.take(&voucher(81)),
            Err(TillError::BeyondEscrow { .. })
        ));
        assert_eq!(till.claimable_total(), Amount::new(64));
    }

    #[test]
    fn a_claim_that_the_chain_took_back_is_due_again() {
        let mut till = till(1_000, 0);
        let mut journal = vec![till.take(&voucher(100)).unwrap().unwrap()];
        till.count(&voucher(100));
        journal.extend(till.claimed_to(Amount::new(80)));
        journal.extend(till.claimed_to(Amount::new(30)));
        assert_eq!(till.claimed_to(Amount::new(30)), None);
        assert_eq!(till.claimed(), Amount::new(30));
        assert_eq!(Till::replay(CHANNEL, &journal).claimed(), Amount::new(30));
    }

    #[test]
    fn a_claim_is_capped_by_what_is_earned_promised_and_there() {
        for (balance, ceiling, output, claimable) in
            [(500, 400, 32, 32), (500, 32, 64, 32), (20, 20, 0, 0)]
        {
            let mut till = till(balance, ceiling);
            if output > 0 {
                admit(&mut till, 1, 0).unwrap();
                till.close(id(1), 0, output, Outcome::Complete, NOW)
                    .unwrap();
            }
            assert_eq!(till.claimable_total(), Amount::new(claimable));
        }
        let mut till = till(500, 400);
        admit(&mut till, 1, 300).unwrap();
        till.close(id(1), 300, 0, Outcome::Complete, NOW).unwrap();
        till.funded(funded(200, 0));
        assert_eq!(till.claimable_total(), Amount::new(200));
    }

    #[test]
    fn absurd_rates_are_an_error_and_change_nothing() {
        let mut till = till(1000, 500);
        let rates = Rates {
            input_per_million: Amount::new(u128::MAX),
            output_per_million: Amount::new(u128::MAX),
        };
        let admitted = till.admit(id(1), Sold { rates, ..SOLD }, 2);
        assert!(matches!(admitted, Err(TillError::Overflow(_))));
        assert_eq!(till.running(), 0);
    }

    #[test]
    fn late_entries_in_the_journal_bring_nothing_back() {
        let mut till = till(1000, 500);
        let progress = admit(&mut till, 1, 3).unwrap();
        let first = till.close(id(1), 3, 4, Outcome::Complete, NOW).unwrap();
        admit(&mut till, 2, 0).unwrap();
        let second = till.close(id(2), 0, 5, Outcome::Complete, NOW).unwrap();
        let (first, second) = (TillEvent::receipted(&first), TillEvent::receipted(&second));
        let (high, low) = (voucher(90), voucher(80));
        let (high, low) = (
            TillEvent::Voucher { voucher: high },
            TillEvent::Voucher { voucher: low },
        );
        let again = Till::replay(CHANNEL, [&high, &second, &first, &progress, &low]);
        assert_eq!(again.running(), 0);
        assert_eq!(again.charged(), Amount::new(12));
        assert_eq!(again.sequence(), 2);
        assert_eq!(again.ceiling(), Amount::new(90));
    }

    /// What may happen to a till, in any order.
    #[derive(Debug, Clone)]
    enum Act {
        Pay(u8),
        Ask(u8, u8),
        Deliver(u8),
        Close(u8),
        Refuse(u8),
        Crash,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let n = 1u8..5;
        let act = prop_oneof![
            3 => any::<u8>().prop_map(Act::Pay),
            3 => (1u8..60, 0u8..40).prop_map(|(n, input)| Act::Ask(n, input)),
            8 => n.clone().prop_map(Act::Deliver),
            1 => n.clone().prop_map(Act::Close),
            1 => n.prop_map(Act::Refuse),
            1 => Just(Act::Crash),
        ];
        prop::collection::vec(act, 0..120)
    }

    /// A till with its journal and the answers that run.
    struct World {
        till: Till,
        journal: Vec<TillEvent>,
        running: Vec<(RequestId, u32, u32)>,
        receipts: Vec<Receipt>,
    }

    impl World {
        fn pick(&self, n: u8) -> Option<usize> {
            (!self.running.is_empty()).then(|| usize::from(n) % self.running.len())
        }

        fn owed(&self) -> u128 {
            let running = self.running.iter().map(|(_, i, o)| u128::from(i + o));
            self.till.charged().base_units() + running.sum::<u128>()
        }

        fn receipt(&mut self, receipt: Receipt) {
            self.journal.push(TillEvent::receipted(&receipt));
            self.receipts.push(receipt);
        }

        fn act(&mut self, act: Act) {
            match act {
                Act::Pay(more) => {
                    let voucher = voucher(self.till.ceiling().base_units() + u128::from(more));
                    if let Ok(Some(event)) = self.till.take(&voucher) {
                        self.journal.push(event);
                        let running: Vec<_> = self.running.iter().map(|(id, ..)| *id).collect();
                        for id in running {
                            self.journal.push(self.till.progress(id).unwrap());
                        }
                        self.till.count(&voucher);
                    }
                }
                Act::Ask(n, input) => {
                    if let Ok(event) = self.till.admit(id(n), SOLD, input.into()) {
                        self.journal.push(event);
                        self.running.push((id(n), input.into(), 0));
                    }
                }
                Act::Deliver(n) => {
                    if let Some(at) = self.pick(n) {
                        let (id, input, output) = &mut self.running[at];
                        if self.till.may_deliver(*id, *output + 1) == Ok(true) {
                            *output += 1;
                            self.till.delivered(*id, *input, *output).unwrap();
                        }
                    }
                }
                Act::Close(n) => {
                    if let Some(at) = self.pick(n) {
                        let (id, input, output) = self.running.remove(at);
                        let closed = self.till.close(id, input, output, Outcome::Complete, NOW);
                        self.receipt(closed.unwrap());
                    }
                }
                Act::Refuse(n) => {
                    if let Some(at) = self.pick(n)
                        && self.running[at].2 == 0
                    {
                        let (id, ..) = self.running.remove(at);
                        self.journal.push(self.till.refuse(id).unwrap());
                    }
                }
                Act::Crash => {
                    let state = *self.till.state();
                    self.till = Till::replay(CHANNEL, &self.journal);
                    self.till.funded(state);
                    self.running.clear();
                    for receipt in self.till.interrupted(NOW).unwrap() {
                        self.receipt(receipt);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_a_step_each_is_all_that_is_at_stake(acts in acts()) {
            let mut world = World {
                till: till(10_000, 0),
                journal: vec![],
                running: vec![],
                receipts: vec![],
            };
            for act in acts {
                let paid_to = world.till.ceiling().base_units();
                let owed = world.owed();
                let crash = matches!(act, Act::Crash);
                world.act(act);
                let reach = world.till.ceiling().base_units() + world.running.len() as u128 * STEP;
                prop_assert!(crash || world.owed() <= reach.max(owed));
                if crash {
                    prop_assert!(world.owed() <= owed, "a crash must not invent work");
                    prop_assert_eq!(world.till.ceiling().base_units(), paid_to);
                }
            }
            let numbers: Vec<_> = world.receipts.iter().map(|receipt| receipt.sequence).collect();
            prop_assert_eq!(numbers, (1..=world.receipts.len() as u64).collect::<Vec<_>>());
            let sum: u128 = world.receipts.iter().map(|receipt| receipt.amount.base_units()).sum();
            prop_assert_eq!(sum, world.till.charged().base_units());
            prop_assert!(world.till.claimable_total() <= world.till.ceiling());
        }

        #[test]
        fn a_replay_gives_the_same_till(acts in acts()) {
            let mut world = World {
                till: till(10_000, 0),
                journal: vec![],
                running: vec![],
                receipts: vec![],
            };
            for act in acts {
                world.act(act);
            }
            let again = Till::replay(CHANNEL, &world.journal);
            prop_assert_eq!(again.charged(), world.till.charged());
            prop_assert_eq!(again.ceiling(), world.till.ceiling());
            prop_assert_eq!(again.sequence(), world.till.sequence());
            prop_assert_eq!(again.running(), world.till.running());
        }
    }

    /// A till that earned 50 units, in one answer.
    fn earned() -> (Till, Vec<TillEvent>) {
        let mut till = Till::new(CHANNEL);
        till.funded(funded(1000, 0));
        let mut journal: Vec<_> = till.take(&voucher(100)).unwrap().into_iter().collect();
        till.count(&voucher(100));
        journal.push(till.admit(id(1), SOLD, 10).unwrap());
        till.delivered(id(1), 10, 40).unwrap();
        till.read(id(1), 40).unwrap();
        let receipt = till.close(id(1), 10, 40, Outcome::Complete, NOW).unwrap();
        journal.push(TillEvent::receipted(&receipt));
        (till, journal)
    }

    #[test]
    fn old_books_take_no_work_that_their_receipts_would_contradict() {
        let claimed = |total| ChannelState {
            total_claimed: Amount::new(total),
            ..funded(1000, 0)
        };
        let (mut till, journal) = earned();
        till.funded(claimed(50));
        till.shown(1);
        assert!(
            till.admit(id(2), SOLD, 10).is_ok(),
            "these are all there are"
        );

        // Put back from a backup: the chain knows of more.
        let mut old = Till::replay(CHANNEL, &journal);
        old.funded(claimed(51));
        let refused = TillError::ClaimedMore {
            claimed: Amount::new(51),
            charged: Amount::new(50),
        };
        assert_eq!(old.admit(id(2), SOLD, 10), Err(refused));
        // Or its payer does, by its vouchers' receipts.
        let mut old = Till::replay(CHANNEL, &journal);
        old.funded(claimed(50));
        old.take(&voucher(500)).unwrap().unwrap();
        old.count(&voucher(500));
        old.shown(3);
        let refused = TillError::ReceiptedMore { theirs: 3, ours: 1 };
        assert_eq!(old.admit(id(2), SOLD, 10), Err(refused));
        // What it knows to be earned is claimed all the same, and no more than that.
        assert_eq!(old.claimable_total(), Amount::new(50));
    }
}
