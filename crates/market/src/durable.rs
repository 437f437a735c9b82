//! The order of money, as a type: journal before sign, sign before send.
//!
//! An engine ([`crate::Spending`], [`crate::Earning`]) hands out a [`Move`]:
//! events that the caller writes to its journal. Only when the caller reports
//! the move as written does it get a [`Durable`] voucher or receipt, and only
//! what is durable can be signed: [`crate::Voucher`] and [`crate::Receipt`]
//! have no other way to a signature. The check of the report is made in
//! release builds, too.

use core::fmt;

/// Names a move of one engine; numbers go up by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MoveId(pub(crate) u64);

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an engine decided and the journal must hold before anything follows
/// from it. May be without events: what follows then waits only for the moves
/// before it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "nothing follows from it before it is written and reported"]
pub struct Move<E> {
    id: MoveId,
    events: Vec<E>,
}

impl<E> Move<E> {
    pub(crate) fn new(id: MoveId, events: Vec<E>) -> Self {
        Self { id, events }
    }

    /// To report it by.
    pub fn id(&self) -> MoveId {
        self.id
    }

    /// What goes to the journal, in this order and all or nothing.
    pub fn events(&self) -> &[E] {
        &self.events
    }
}

/// A line of a journal lacks what its event must have.
#[derive(Debug, thiserror::Error)]
#[error("the event has no field `{0}`")]
pub(crate) struct MissingField(pub(crate) &'static str);

/// A report of the journal that cannot be right: the engine stops there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The move was reported before, or never made.
    #[error("move {id} does not wait for the journal")]
    NotWaiting {
        /// The move.
        id: MoveId,
    },
    /// Moves of this engine are written in their order.
    #[error("move {id} is reported before move {first}, which was made earlier")]
    Overtaken {
        /// What was reported.
        id: MoveId,
        /// What comes first.
        first: MoveId,
    },
}

/// Something that is in a journal, and may therefore be signed and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    /// For the engines, when a move is reported as written.
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }

    /// What was read from a journal is durable. Also for those who keep none
    /// because nothing hangs on it, as tests.
    pub fn read_back(value: T) -> Self {
        Self(value)
    }

    /// A look at it.
    pub fn get(&self) -> &T {
        &self.0
    }

    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}
