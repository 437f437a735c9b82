//! The consumer's engine of one channel: the purse, and the order between its
//! journal and the hot key.
//!
//! Pure: what happens comes in by a method, what must be done is what it
//! returns. A [`Move`] is to be written; once [`Spending::written`] is told of
//! it, a [`Durable`] voucher comes out, which alone can be signed. Moves of
//! several answers may be written in any order: a ceiling is cumulative, so
//! the highest one in the journal stands for all below it.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use crate::durable::{Durable, Move, MoveId, OrderError};
use crate::{
    Amount, ChannelId, InputBound, Purse, PurseError, PurseEvent, Rates, RequestId, SignedReceipt,
    Voucher,
};

/// What a voucher up to the present ceiling takes.
#[derive(Debug, PartialEq, Eq)]
pub enum Pay {
    /// The journal has the ceiling.
    Sign(Durable<Voucher>),
    /// This has to be written first; [`Spending::written`] then gives the voucher.
    Write(Move<PurseEvent>),
}

/// What may be done once a move is in the journal.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// All that may be signed by now.
    pub voucher: Durable<Voucher>,
    /// A receipt raised the ceiling: a voucher is to be sent, because the
    /// provider may wait for it with other answers.
    pub raised: bool,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    ceiling: Amount,
    raised: bool,
}

/// The consumer's side of one channel, journal and signatures included.
#[derive(Debug, Clone)]
pub struct Spending {
    channel: ChannelId,
    purse: Purse,
    /// The highest ceiling that is known to be in the journal.
    durable: Amount,
    moves: u64,
    /// Moves that the journal did not answer for.
    waiting: BTreeMap<MoveId, Waiting>,
}

impl Spending {
    /// A channel that nothing was paid over yet.
    pub fn new(channel: ChannelId) -> Self {
        Self::with(channel, Purse::default())
    }

    /// The channel that the journal describes. Answers that were running count
    /// as ended without a receipt.
    pub fn replay<E: Borrow<PurseEvent>>(
        channel: ChannelId,
        events: impl IntoIterator<Item = E>,
    ) -> Result<Self, PurseError> {
        Ok(Self::with(channel, Purse::replay(events)?))
    }

    fn with(channel: ChannelId, purse: Purse) -> Self {
        Self {
            channel,
            durable: purse.ceiling(),
            purse,
            moves: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// The channel.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// A look at the purse.
    pub fn purse(&self) -> &Purse {
        &self.purse
    }

    /// The highest ceiling that may be signed now.
    pub fn durable(&self) -> Amount {
        self.durable
    }

    /// The channel's balance on chain is now this.
    pub fn funded(&mut self, escrow: Amount) {
        self.purse.funded(escrow);
    }

    /// The chain says that so much was claimed of the channel in all.
    pub fn claimed_to(&mut self, total: Amount) {
        self.purse.claimed_to(total);
    }

    /// What was signed is not all known here: nothing is signed until
    /// [`Self::resume`]. None: that is so already.
    pub fn restore(&mut self) -> Option<Move<PurseEvent>> {
        let event = self.purse.restore()?;
        Some(self.next_move(vec![event]))
    }

    /// Goes on, if the chain proves the receipts; see [`Purse::resume`].
    pub fn resume(&mut self, allowance: Amount) -> Result<Move<PurseEvent>, PurseError> {
        let event = self.purse.resume(allowance)?;
        Ok(self.next_move(vec![event]))
    }

    /// A request is to be sent, with the voucher that [`Self::written`] gives.
    pub fn ask(
        &mut self,
        request: RequestId,
        rates: Rates,
        bound: InputBound,
    ) -> Result<Move<PurseEvent>, PurseError> {
        let event = self.purse.ask(request, rates, bound)?;
        Ok(self.next_move(vec![event]))
    }

    /// An answer came to so many tokens, in so many bytes. Whether the ceiling
    /// rose: [`Self::pay`] is then due.
    pub fn delivered(
        &mut self,
        request: RequestId,
        tokens: u32,
        bytes: u64,
    ) -> Result<bool, PurseError> {
        let raised = self.purse.delivered(request, tokens, bytes)?;
        Ok(raised.is_some())
    }

    /// A voucher for all that is read by now is wanted. An error if the
    /// channel does not hold enough for it.
    pub fn pay(&mut self) -> Result<Pay, PurseError> {
        self.purse.due()?;
        let ceiling = self.purse.ceiling();
        if ceiling <= self.durable {
            return Ok(Pay::Sign(self.voucher()));
        }
        let event = PurseEvent::Ceiling { ceiling };
        Ok(Pay::Write(self.next_move(vec![event])))
    }

    /// The receipt of a running answer; its signature was checked.
    pub fn receipted(&mut self, signed: &SignedReceipt) -> Result<Move<PurseEvent>, PurseError> {
        let events = self.purse.receipted(signed)?;
        Ok(self.next_move(events))
    }

    /// A receipt that the provider sent later; its signature was checked.
    /// None: it is known, or about to come by itself.
    pub fn reconciled(
        &mut self,
        signed: &SignedReceipt,
    ) -> Result<Option<Move<PurseEvent>>, PurseError> {
        let events = self.purse.reconciled(signed)?;
        Ok((!events.is_empty()).then(|| self.next_move(events)))
    }

    /// A running answer ended without a receipt.
    pub fn broken(&mut self, request: RequestId) -> Result<(), PurseError> {
        self.purse.broken(request)
    }

    /// A request that the provider refused before it worked.
    pub fn refused(&mut self, request: RequestId) {
        self.purse.refused(request);
    }

    /// The provider has nothing more to bill.
    pub fn settled_up(&mut self) {
        self.purse.settled_up();
    }

    /// The journal has a move, on its disk.
    pub fn written(&mut self, id: MoveId) -> Result<Written, OrderError> {
        let Waiting { ceiling, raised } = self
            .waiting
            .remove(&id)
            .ok_or(OrderError::NotWaiting { id })?;
        self.durable = self.durable.max(ceiling);
        Ok(Written {
            voucher: self.voucher(),
            raised,
        })
    }

    /// The journal does not have it, or nobody knows. What it reserved stays
    /// reserved; what it would have allowed is not signed.
    pub fn unwritten(&mut self, id: MoveId) {
        self.waiting.remove(&id);
    }

    fn voucher(&self) -> Durable<Voucher> {
        Durable::new(Voucher {
            channel: self.channel,
            ceiling: self.durable,
        })
    }

    fn next_move(&mut self, events: Vec<PurseEvent>) -> Move<PurseEvent> {
        let id = MoveId(self.moves);
        self.moves += 1;
        let mut waiting = Waiting {
            ceiling: Amount::ZERO,
            raised: false,
        };
        for event in &events {
            match event {
                PurseEvent::Asked { ceiling, .. } => {
                    waiting.ceiling = waiting.ceiling.max(*ceiling)
                }
                PurseEvent::Ceiling { ceiling } => {
                    waiting.ceiling = waiting.ceiling.max(*ceiling);
                    waiting.raised = events.len() > 1;
                }
                PurseEvent::Resumed { ceiling } => waiting.ceiling = waiting.ceiling.max(*ceiling),
                PurseEvent::Receipted { .. } | PurseEvent::Short { .. } | PurseEvent::Restored => {}
            }
        }
        self.waiting.insert(id, waiting);
        Move::new(id, events)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, FixedBytes};

    use super::*;

    const CHANNEL: ChannelId = ChannelId(B256::repeat_byte(1));
    /// One unit a token, both ways.
    const RATES: Rates = Rates {
        input_per_million: Amount::new(1_000_000),
        output_per_million: Amount::new(1_000_000),
    };
    const BOUND: InputBound = InputBound {
        estimate: 10,
        ceiling: 40,
    };

    fn id(n: u8) -> RequestId {
        RequestId(FixedBytes([n; 16]))
    }

    fn spending() -> Spending {
        let mut spending = Spending::new(CHANNEL);
        spending.funded(Amount::new(1000));
        spending
    }

    fn ceiling(voucher: &Durable<Voucher>) -> u128 {
        voucher.get().ceiling.base_units()
    }

    #[test]
    fn no_voucher_comes_out_before_its_move_is_in_the_journal() {
        let mut spending = spending();
        let asked = spending.ask(id(1), RATES, BOUND).unwrap();
        assert_eq!(spending.durable(), Amount::ZERO);
        let Pay::Write(ceiling_move) = spending.pay().unwrap() else {
            panic!("42 units are not in the journal yet");
        };
        let written = spending.written(asked.id()).unwrap();
        assert_eq!(ceiling(&written.voucher), 42);
        assert!(!written.raised);
        assert_eq!(
            ceiling(&spending.written(ceiling_move.id()).unwrap().voucher),
            42
        );
    }

    #[test]
    fn what_the_journal_refused_is_not_signed_and_stays_reserved() {
        let mut spending = spending();
        let asked = spending.ask(id(1), RATES, BOUND).unwrap();
        spending.unwritten(asked.id());
        spending.broken(id(1)).unwrap();
        let id = asked.id();
        assert_eq!(spending.written(id), Err(OrderError::NotWaiting { id }));
        assert_eq!(spending.durable(), Amount::ZERO);
        assert_eq!(spending.purse().ceiling(), Amount::new(42));
    }

    #[test]
    fn a_report_counts_once_and_a_later_move_may_be_reported_first() {
        let mut spending = spending();
        let first = spending.ask(id(1), RATES, BOUND).unwrap();
        let second = spending.ask(id(2), RATES, BOUND).unwrap();
        assert_eq!(ceiling(&spending.written(second.id()).unwrap().voucher), 84);
        assert_eq!(ceiling(&spending.written(first.id()).unwrap().voucher), 84);
        assert!(spending.written(first.id()).is_err());
    }

    #[test]
    fn a_replay_may_sign_what_the_journal_has() {
        let mut spending = spending();
        let asked = spending.ask(id(1), RATES, BOUND).unwrap();
        let again = Spending::replay(CHANNEL, asked.events()).unwrap();
        assert_eq!(again.durable(), Amount::new(42));
    }
}
