//! The consumer's engine of one answer: whose turn it is, when a voucher is
//! due, how long a silence is borne, and when it is over.
//!
//! Pure: what the provider said comes in by [`Buying::hear`], with the time.
//! The money is [`Spending`]'s; this knows when it is to be asked. Reading
//! never waits for paying: [`Turn::Chunk`] says that a voucher is due, and the
//! caller sees to it beside its reading.

use core::time::Duration;

use crate::durable::Move;
use crate::{Moment, PurseError, PurseEvent, RequestId, STEP_TOKENS, SignedReceipt, Spending};

/// Time for a provider to take or refuse a request; it may stand in its queue that long.
pub const BEGIN_WITHIN: Duration = Duration::from_secs(60);

/// A provider that is there gives a sign of life several times a second.
pub const SIGN_OF_LIFE_WITHIN: Duration = Duration::from_secs(3);

/// The longest that a provider may say nothing before its first word, signs of
/// life apart: it may read a long request, or think.
pub const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The same between two words of its text. Another provider goes on then.
pub const PAUSE_MAX: Duration = Duration::from_secs(20);

/// Time for the receipt of an answer that the caller left.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// After the end, time for the voucher that covers the last step: for the
/// consumer to bring it, and for the provider to wait for it.
pub const LAST_VOUCHER_WITHIN: Duration = Duration::from_secs(2);

/// What the provider said, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It took the request.
    Begin,
    /// It did not, and did no work.
    Refused,
    /// Some of the answer.
    Chunk {
        /// Tokens of the answer by now, says the provider.
        tokens: u32,
        /// Bytes of text in this chunk.
        bytes: u64,
    },
    /// The last word; its receipt goes to [`Buying::receipted`].
    End,
}

/// What follows from what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The answer runs.
    Begun,
    /// Nothing is owed.
    Refused,
    /// A piece to pass on, unless the caller left.
    Chunk {
        /// A step was read that the provider does not know of: a voucher is due.
        due: bool,
    },
    /// The receipt is to be checked and booked.
    Ended,
}

/// Why an answer is not gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuyingError {
    /// It said something that has no place here.
    #[error("the provider spoke out of turn")]
    OutOfTurn,
    /// More than was asked for, or than is sold, and a step: whoever stopped the
    /// answer there would not have been paid for the rest.
    #[error("the answer has {tokens} tokens, {limit} were asked for")]
    TooLong {
        /// Its tokens by now, or as billed.
        tokens: u32,
        /// The limit.
        limit: u32,
    },
    /// The rules of the purse are against it.
    #[error(transparent)]
    Purse(#[from] PurseError),
}

/// What a silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The request was neither taken nor refused.
    Unanswered,
    /// Not even a sign of life: the path is broken.
    Path,
    /// It lives, but does not say anything.
    Mute,
    /// The receipt of an answer that was left did not come; it is fetched later.
    Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Asked,
    Reading,
    Leaving,
    Over,
}

/// One answer, as its buyer follows it.
#[derive(Debug, Clone)]
pub struct Buying {
    request: RequestId,
    /// The longest answer that is paid for.
    limit: Option<u32>,
    phase: Phase,
    /// When the phase began, or the last word in it was said.
    since: Moment,
    /// The last sign of life.
    heard: Moment,
    tokens: u32,
    bytes: u64,
    /// Tokens that the last due voucher tells the provider of.
    told: u32,
}

impl Buying {
    /// The request was sent. `limit`: the most tokens that its answer may have.
    pub fn new(request: RequestId, limit: Option<u32>, now: Moment) -> Self {
        Self {
            request,
            limit,
            phase: Phase::Asked,
            since: now,
            heard: now,
            tokens: 0,
            bytes: 0,
            told: 0,
        }
    }

    /// Which.
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// Tokens that were delivered, as the provider counts them.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// What the next voucher says to have been read.
    pub fn read_tokens(&self) -> u32 {
        self.told
    }

    /// Whether nothing more is to be heard.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The provider said something.
    pub fn hear(
        &mut self,
        said: Said,
        spending: &mut Spending,
        now: Moment,
    ) -> Result<Turn, BuyingError> {
        let turn = match (self.phase, said) {
            (Phase::Asked, Said::Begin) => {
                self.phase = Phase::Reading;
                Turn::Begun
            }
            (Phase::Asked, Said::Refused) => {
                spending.refused(self.request);
                self.phase = Phase::Over;
                Turn::Refused
            }
            (Phase::Reading | Phase::Leaving, Said::Chunk { tokens, bytes }) => {
                let due = self.metered(tokens, bytes, spending)?;
                Turn::Chunk { due }
            }
            (Phase::Reading | Phase::Leaving, Said::End) => Turn::Ended,
            _ => return Err(BuyingError::OutOfTurn),
        };
        self.heard = now;
        if self.phase != Phase::Leaving {
            self.since = now;
        }
        Ok(turn)
    }

    fn metered(
        &mut self,
        tokens: u32,
        bytes: u64,
        spending: &mut Spending,
    ) -> Result<bool, BuyingError> {
        self.within_limit(tokens)?;
        self.bytes = self.bytes.saturating_add(bytes);
        self.tokens = self.tokens.max(tokens);
        let raised = match spending.delivered(self.request, tokens, self.bytes) {
            Ok(raised) => raised,
            // A deposit is seen to before the voucher is made.
            Err(PurseError::Escrow { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        // The provider waits for word of a step even where an old voucher
        // reaches far enough, as after an answer that cost less than was
        // reserved for it.
        let lags = tokens / STEP_TOKENS > self.told / STEP_TOKENS;
        if raised || lags {
            self.told = tokens;
        }
        Ok(raised || lags)
    }

    /// Backends count a little differently; a step is let pass.
    fn within_limit(&self, tokens: u32) -> Result<(), BuyingError> {
        match self.limit {
            Some(limit) if tokens > limit.saturating_add(STEP_TOKENS) => {
                Err(BuyingError::TooLong { tokens, limit })
            }
            _ => Ok(()),
        }
    }

    /// A sign of life, and nothing else.
    pub fn alive(&mut self, now: Moment) {
        self.heard = now;
    }

    /// The caller left: the provider is to be told, and its receipt awaited
    /// for a moment.
    pub fn leave(&mut self, now: Moment) {
        if matches!(self.phase, Phase::Asked | Phase::Reading) {
            self.phase = Phase::Leaving;
            self.since = now;
        }
    }

    /// Books the receipt that came with the end; its signature was checked.
    /// The answer is complete once the move is written.
    pub fn receipted(
        &mut self,
        receipt: &SignedReceipt,
        spending: &mut Spending,
    ) -> Result<Move<PurseEvent>, BuyingError> {
        if !matches!(self.phase, Phase::Reading | Phase::Leaving)
            || receipt.receipt.request != self.request
        {
            return Err(BuyingError::OutOfTurn);
        }
        self.within_limit(receipt.receipt.output_tokens)?;
        let to_write = spending.receipted(receipt)?;
        self.phase = Phase::Over;
        Ok(to_write)
    }

    /// It ended without a receipt: what it may cost stays reserved until the
    /// provider's receipt is fetched. Nothing happens if it is over.
    pub fn broken(&mut self, spending: &mut Spending) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            // The purse knows it since it was asked for.
            let _ = spending.broken(self.request);
        }
    }

    /// How long a word may be waited for, apart from signs of life.
    pub fn patience(&self, now: Moment) -> Duration {
        self.until().since(now)
    }

    fn until(&self) -> Moment {
        self.since.after(match self.phase {
            Phase::Asked => BEGIN_WITHIN,
            Phase::Reading if self.bytes > 0 => PAUSE_MAX,
            Phase::Reading => SILENCE_MAX,
            Phase::Leaving | Phase::Over => LEAVE_WITHIN,
        })
    }

    /// When [`Self::silence`] is to be asked next.
    pub fn deadline(&self) -> Moment {
        match self.phase {
            Phase::Leaving | Phase::Over => self.until(),
            _ => self.until().min(self.heard.after(SIGN_OF_LIFE_WITHIN)),
        }
    }

    /// What it means that nothing was heard by now; none if there is still time.
    pub fn silence(&self, now: Moment) -> Option<Silence> {
        if now < self.deadline() || self.phase == Phase::Over {
            return None;
        }
        let silent = now >= self.until();
        Some(match self.phase {
            Phase::Leaving => Silence::Left,
            Phase::Asked if silent => Silence::Unanswered,
            _ if silent => Silence::Mute,
            _ => Silence::Path,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, FixedBytes};

    use super::*;
    use crate::{Amount, ChannelId, InputBound, Rates};

    const ID: RequestId = RequestId(FixedBytes([1; 16]));
    /// One unit a token, both ways.
    const RATES: Rates = Rates {
        input_per_million: Amount::new(1_000_000),
        output_per_million: Amount::new(1_000_000),
    };
    const BOUND: InputBound = InputBound {
        estimate: 10,
        ceiling: 40,
    };

    fn at(seconds: u64) -> Moment {
        Moment::default().after(Duration::from_secs(seconds))
    }

    fn asked(escrow: u128) -> (Buying, Spending) {
        let mut spending = Spending::new(ChannelId(B256::ZERO));
        spending.funded(Amount::new(escrow));
        let to_write = spending.ask(ID, RATES, BOUND).unwrap();
        spending.written(to_write.id()).unwrap();
        (Buying::new(ID, Some(100), at(0)), spending)
    }

    fn chunk(tokens: u32) -> Said {
        let bytes = 40;
        Said::Chunk { tokens, bytes }
    }

    #[test]
    fn words_have_their_turn() {
        let (mut buying, mut spending) = asked(1000);
        let mut hear = |said| buying.hear(said, &mut spending, at(1));
        assert_eq!(hear(chunk(1)), Err(BuyingError::OutOfTurn));
        assert_eq!(hear(Said::End), Err(BuyingError::OutOfTurn));
        assert_eq!(hear(Said::Begin), Ok(Turn::Begun));
        assert_eq!(hear(Said::Begin), Err(BuyingError::OutOfTurn));
        assert_eq!(hear(Said::Refused), Err(BuyingError::OutOfTurn));
        assert_eq!(hear(chunk(1)), Ok(Turn::Chunk { due: false }));
        assert_eq!(hear(Said::End), Ok(Turn::Ended));
    }

    #[test]
    fn a_voucher_is_due_once_a_step_also_where_money_is_missing() {
        let (mut buying, mut spending) = asked(50);
        buying.hear(Said::Begin, &mut spending, at(0)).unwrap();
        let mut due = |tokens| buying.hear(chunk(tokens), &mut spending, at(1));
        assert_eq!(due(31), Ok(Turn::Chunk { due: false }));
        assert_eq!(due(32), Ok(Turn::Chunk { due: true }));
        assert_eq!(due(33), Ok(Turn::Chunk { due: false }));
        assert_eq!(buying.read_tokens(), 32);
        assert!(matches!(spending.pay(), Err(PurseError::Escrow { .. })));
    }

    #[test]
    fn nothing_is_signed_beyond_the_length_that_was_asked_for() {
        let (mut buying, mut spending) = asked(1_000_000);
        buying.hear(Said::Begin, &mut spending, at(0)).unwrap();
        let mut hear = |tokens| {
            let bytes = 1_000_000;
            let said = Said::Chunk { tokens, bytes };
            buying.hear(said, &mut spending, at(1))
        };
        assert!(hear(132).is_ok(), "a step beyond the limit");
        let (tokens, limit) = (133, 100);
        assert_eq!(hear(133), Err(BuyingError::TooLong { tokens, limit }));
        // Its input, what was heard within the limit, and a step.
        assert_eq!(spending.purse().ceiling(), Amount::new(10 + 160));
    }

    #[test]
    fn every_silence_has_its_meaning() {
        let (mut buying, mut spending) = asked(1000);
        assert_eq!(buying.silence(at(2)), None);
        assert_eq!(buying.silence(at(3)), Some(Silence::Path));
        buying.alive(at(58));
        assert_eq!(buying.silence(at(60)), Some(Silence::Unanswered));
        buying.hear(Said::Begin, &mut spending, at(60)).unwrap();
        buying.alive(at(179));
        assert_eq!(buying.silence(at(179)), None);
        assert_eq!(buying.silence(at(180)), Some(Silence::Mute));
        let first = buying.hear(chunk(1), &mut spending, at(180));
        assert_eq!(first, Ok(Turn::Chunk { due: false }));
        buying.alive(at(199));
        assert_eq!(buying.silence(at(199)), None);
        assert_eq!(buying.silence(at(200)), Some(Silence::Mute));
        buying.leave(at(200));
        assert_eq!(buying.deadline(), at(202));
        assert_eq!(buying.silence(at(202)), Some(Silence::Left));
        buying.broken(&mut spending);
        assert_eq!(buying.silence(at(9999)), None);
        assert!(spending.purse().needs_reconciling());
    }
}
