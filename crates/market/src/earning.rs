//! The provider's engine of one channel: the till, and the order between its
//! journal, its vouchers and its receipts.
//!
//! Pure: what happens comes in by a method, what must be done is what it
//! returns. Every [`Move`] goes to the journal in the order in which it was
//! made, and [`Earning::written`] is told of them in that order. Only then
//! does a voucher count, is a step taken as read, and comes a [`Durable`]
//! receipt out, which alone can be signed. Who meters tokens never waits.

use std::borrow::Borrow;
use std::collections::VecDeque;

use crate::durable::{Durable, Move, MoveId, OrderError};
use crate::{
    Amount, ChannelId, ChannelState, Outcome, Receipt, RequestId, SignedVoucher, Sold, Till,
    TillError, TillEvent, Timestamp,
};

/// What follows from a move once it is in the journal.
#[derive(Debug, Clone)]
struct Waiting {
    id: MoveId,
    voucher: Option<SignedVoucher>,
    read: Option<(RequestId, u32)>,
    receipts: Vec<Receipt>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy)]
pub struct Closing {
    /// Which.
    pub request: RequestId,
    /// Tokens of the request.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// How.
    pub outcome: Outcome,
    /// When.
    pub now: Timestamp,
}

/// The provider's side of one channel, journal and signatures included.
#[derive(Debug, Clone)]
pub struct Earning {
    till: Till,
    moves: u64,
    waiting: VecDeque<Waiting>,
}

impl Earning {
    /// A channel that has not paid anything yet.
    pub fn new(channel: ChannelId) -> Self {
        Self::with(Till::new(channel))
    }

    /// The channel that the journal describes. Answers that were running still
    /// are: close them by [`Self::interrupted`] before anything else.
    pub fn replay<E: Borrow<TillEvent>>(
        channel: ChannelId,
        events: impl IntoIterator<Item = E>,
    ) -> Self {
        Self::with(Till::replay(channel, events))
    }

    fn with(till: Till) -> Self {
        Self {
            till,
            moves: 0,
            waiting: VecDeque::new(),
        }
    }

    /// A look at the till.
    pub fn till(&self) -> &Till {
        &self.till
    }

    /// Answers that may still bring a receipt which the journal does not have:
    /// those that run, and those that ended and wait for the disk. Counted
    /// before receipts are read from the journal, none of them is missed.
    pub fn open(&self) -> usize {
        let closing = self.waiting.iter().map(|waiting| waiting.receipts.len());
        self.till.running() + closing.sum::<usize>()
    }

    /// The payer says, signed, that it has receipts up to this number.
    pub fn shown(&mut self, sequence: u64) {
        self.till.shown(sequence);
    }

    /// What the contract knows of the channel.
    pub fn funded(&mut self, state: ChannelState) {
        self.till.funded(state);
    }

    /// Takes a voucher whose signature was checked. None: it is no better than
    /// those we have.
    pub fn take(&mut self, voucher: &SignedVoucher) -> Result<Option<Move<TillEvent>>, TillError> {
        let Some(event) = self.till.take(voucher)? else {
            return Ok(None);
        };
        Ok(Some(
            self.next_move(vec![event], |w| w.voucher = Some(*voucher)),
        ))
    }

    /// Takes a voucher within an answer, whose signature was checked: the
    /// consumer has read so many of its tokens. With it goes how far the
    /// answer has come; so many tokens are then journalled as delivered.
    pub fn pay(
        &mut self,
        voucher: &SignedVoucher,
        request: RequestId,
        read_tokens: u32,
    ) -> Result<(Move<TillEvent>, u32), TillError> {
        let event = self.till.take(voucher)?;
        let better = event.as_ref().map(|_| *voucher);
        // The answer may have ended meanwhile; its last voucher is still good.
        let progress = self.till.progress(request).ok();
        let journalled = progress.as_ref().map_or(0, tokens_in);
        let events = event.into_iter().chain(progress).collect();
        let to_write = self.next_move(events, |waiting| {
            waiting.voucher = better;
            waiting.read = Some((request, read_tokens));
        });
        Ok((to_write, journalled))
    }

    /// Takes a request; see [`Till::admit`].
    pub fn admit(
        &mut self,
        request: RequestId,
        sold: Sold,
        input_tokens: u32,
    ) -> Result<Move<TillEvent>, TillError> {
        let event = self.till.admit(request, sold, input_tokens)?;
        Ok(self.next_move(vec![event], |_| {}))
    }

    /// Gives an admitted request back: no work was done on it.
    pub fn refuse(&mut self, request: RequestId) -> Result<Move<TillEvent>, TillError> {
        let event = self.till.refuse(request)?;
        Ok(self.next_move(vec![event], |_| {}))
    }

    /// So much of an answer was metered and goes out.
    pub fn delivered(
        &mut self,
        request: RequestId,
        input_tokens: u32,
        output_tokens: u32,
    ) -> Result<(), TillError> {
        self.till.delivered(request, input_tokens, output_tokens)
    }

    /// How far an answer has come, without a voucher. So many tokens are then
    /// journalled as delivered.
    pub fn progress(&mut self, request: RequestId) -> Result<(Move<TillEvent>, u32), TillError> {
        let event = self.till.progress(request)?;
        let journalled = tokens_in(&event);
        Ok((self.next_move(vec![event], |_| {}), journalled))
    }

    /// An answer ended. Its receipt comes out of [`Self::written`].
    pub fn close(&mut self, closing: Closing) -> Result<Move<TillEvent>, TillError> {
        let Closing {
            request,
            input_tokens,
            output_tokens,
            outcome,
            now,
        } = closing;
        let receipt = self
            .till
            .close(request, input_tokens, output_tokens, outcome, now)?;
        let event = TillEvent::receipted(&receipt);
        Ok(self.next_move(vec![event], |waiting| waiting.receipts.push(receipt)))
    }

    /// After a replay: closes what was running when the process ended.
    pub fn interrupted(&mut self, now: Timestamp) -> Result<Move<TillEvent>, TillError> {
        let receipts = self.till.interrupted(now)?;
        let events = receipts.iter().map(TillEvent::receipted).collect();
        Ok(self.next_move(events, |waiting| waiting.receipts = receipts))
    }

    /// The contract says that so much was claimed. None: that is known.
    pub fn claimed_to(&mut self, total: Amount) -> Option<Move<TillEvent>> {
        let event = self.till.claimed_to(total)?;
        Some(self.next_move(vec![event], |_| {}))
    }

    /// The journal has the oldest move that waits, on its disk: vouchers of it
    /// count, and its receipts may be signed.
    pub fn written(&mut self, id: MoveId) -> Result<Vec<Durable<Receipt>>, OrderError> {
        let first = self.waiting.front().map(|waiting| waiting.id);
        match first {
            Some(first) if first < id => return Err(OrderError::Overtaken { id, first }),
            Some(first) if first == id => {}
            _ => return Err(OrderError::NotWaiting { id }),
        }
        let done = self.waiting.pop_front().expect("it was looked at just now");
        if let Some(voucher) = &done.voucher {
            self.till.count(voucher);
        }
        if let Some((request, tokens)) = done.read {
            // The answer may have ended meanwhile.
            let _ = self.till.read(request, tokens);
        }
        Ok(done.receipts.into_iter().map(Durable::new).collect())
    }

    fn next_move(
        &mut self,
        events: Vec<TillEvent>,
        then: impl FnOnce(&mut Waiting),
    ) -> Move<TillEvent> {
        let id = MoveId(self.moves);
        self.moves += 1;
        let mut waiting = Waiting {
            id,
            voucher: None,
            read: None,
            receipts: vec![],
        };
        then(&mut waiting);
        self.waiting.push_back(waiting);
        Move::new(id, events)
    }
}

fn tokens_in(event: &TillEvent) -> u32 {
    match event {
        TillEvent::Progress { output_tokens, .. } => *output_tokens,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, FixedBytes, Signature, U256};

    use super::*;
    use crate::{ModelId, Rates, STEP_TOKENS, Upstream, Voucher};

    const CHANNEL: ChannelId = ChannelId(B256::repeat_byte(1));
    const SOLD: Sold = Sold {
        model: ModelId(B256::repeat_byte(2)),
        rates: Rates {
            input_per_million: Amount::new(1_000_000),
            output_per_million: Amount::new(1_000_000),
        },
        upstream: Upstream::OwnEngine,
    };
    const ID: RequestId = RequestId(FixedBytes([1; 16]));

    fn voucher(ceiling: u128) -> SignedVoucher {
        SignedVoucher {
            voucher: Voucher {
                channel: CHANNEL,
                ceiling: Amount::new(ceiling),
            },
            signature: Signature::new(U256::ZERO, U256::ZERO, false),
        }
    }

    fn earning() -> Earning {
        let mut earning = Earning::new(CHANNEL);
        earning.funded(ChannelState {
            balance: Amount::new(1000),
            ..ChannelState::default()
        });
        earning
    }

    fn closing() -> Closing {
        Closing {
            request: ID,
            input_tokens: 10,
            output_tokens: 5,
            outcome: Outcome::Complete,
            now: Timestamp(7),
        }
    }

    #[test]
    fn a_voucher_counts_and_a_receipt_comes_out_only_once_written() {
        let mut earning = earning();
        let paid = earning.take(&voucher(42)).unwrap().unwrap();
        let admitted = earning.admit(ID, SOLD, 10).unwrap();
        earning.delivered(ID, 10, 5).unwrap();
        let closed = earning.close(closing()).unwrap();
        assert_eq!(earning.till().ceiling(), Amount::ZERO);

        let (id, first) = (closed.id(), paid.id());
        assert_eq!(
            earning.written(id),
            Err(OrderError::Overtaken { id, first }),
            "a receipt may not be signed while what it rests on is not written"
        );
        assert_eq!(earning.written(paid.id()), Ok(vec![]));
        assert_eq!(earning.till().ceiling(), Amount::new(42));
        assert_eq!(earning.written(admitted.id()), Ok(vec![]));
        let receipts = earning.written(id).unwrap();
        assert_eq!(receipts[0].get().amount, Amount::new(15));
        assert_eq!(earning.written(id), Err(OrderError::NotWaiting { id }));
    }

    #[test]
    fn a_step_is_read_once_its_voucher_is_written() {
        let mut earning = earning();
        for made in [
            earning.take(&voucher(42)).unwrap().unwrap(),
            earning.admit(ID, SOLD, 10).unwrap(),
        ] {
            earning.written(made.id()).unwrap();
        }
        earning.delivered(ID, 10, 2 * STEP_TOKENS).unwrap();
        let further = 2 * STEP_TOKENS + 1;
        assert_eq!(earning.till().may_deliver(ID, further), Ok(false));
        let (paid, journalled) = earning.pay(&voucher(106), ID, 2 * STEP_TOKENS).unwrap();
        assert_eq!(journalled, 2 * STEP_TOKENS);
        assert_eq!(earning.till().may_deliver(ID, further), Ok(false));
        earning.written(paid.id()).unwrap();
        assert_eq!(earning.till().may_deliver(ID, further), Ok(true));
    }

    #[test]
    fn what_was_running_is_closed_by_one_move() {
        let mut earning = earning();
        let admitted = earning.admit(ID, SOLD, 0).unwrap();
        let mut again = Earning::replay(CHANNEL, admitted.events());
        let closed = again.interrupted(Timestamp(9)).unwrap();
        assert_eq!(closed.events().len(), 1);
        assert_eq!(again.written(closed.id()).unwrap().len(), 1);
        assert_eq!(again.till().running(), 0);
    }
}
