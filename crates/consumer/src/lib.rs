//! Buys answers: knows what is on offer, chooses, opens channels, pays step
//! by step and checks what it paid for.
//!
//! [`Consumer::infer`] is the whole of it for a caller: a request goes in, an
//! [`Answer`] comes out as a stream; dropping it stops everything behind it.
//! Providers are reached only through `transport`'s messages, the chain only
//! through [`market::Ledger`].

mod answer;
mod attempt;
mod books;
mod budgets;
mod catalog;
mod descriptions;
mod detours;
mod error;
mod exchange;
mod failover;
mod guards;
mod loads;
mod look_alikes;
mod misfits;
mod paths;
mod payer;
mod payment;
mod policy;
mod prices;
mod reconcile;
mod restore;
mod router;
mod routes;
mod session;
mod shell;
mod speaking;
mod standby;
mod telling;
mod tries;
mod upkeep;
mod view;

pub use answer::{Answer, PartSummary, Piece, Summary};
pub use books::{PurseView, read_books};
pub use budgets::{
    Allowance, Budget, BudgetError, Coin, Remedy, Short, SpentView, Tallies, TallyView, read_spent,
};
pub use catalog::CardChoice;
pub use error::{BrokenError, InferError, Shortage, StartError, Unserved};
pub use failover::{Conditions, Failover, FailoverError};
pub use paths::PathError;
pub use payer::{KeysError, PayerKeys, Pseudonyms};
pub use payment::PaymentError;
pub use policy::Policy;
pub use restore::{Found, RestoreError, RestoredChannel, restore, restore_known};
pub use routes::{AskedView, ChoiceView, Ending, HostView, RouteId, RouteIdError, RouteView, Turn};
pub use routing::{Defaults, PreferenceError};
pub use seal::Pacing;
pub use session::{MoneyError, SessionError};
pub use shell::{Clock, Consumer, Deps};
pub use view::{AnswerView, ChannelView, ModelView, OfferView, PseudonymView, RelayView};
