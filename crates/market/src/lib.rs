//! The words and the rules of the market: amounts, ids, quotes, channels,
//! vouchers, receipts, and who may owe whom how much.
//!
//! Pure: no runtime, no I/O, no clock, no randomness. Time is a
//! [`Timestamp`] that the caller brings, keys are lent, and what must be done
//! in the world is returned as a value. Both sides of the market depend on
//! this crate and on nothing of each other.

mod amount;
mod books;
mod buying;
mod card;
mod causes;
mod channel;
mod claim_batch;
mod claiming;
mod descriptor;
mod durable;
mod earning;
mod event;
mod funding;
mod hosts;
mod ids;
mod json;
mod key;
mod kind;
mod labels;
mod leaving;
mod ledger;
mod load;
mod memory;
mod naming;
mod purse;
mod quote;
mod rate_book;
mod receipt;
mod selling;
mod spending;
mod stated;
mod till;
mod usd;
mod voucher;

pub use alloy_primitives::{Address, B256, I256, Signature, U256, keccak256};
pub use amount::{Amount, AmountOverflow, Moment, ParseAmountError, Timestamp};
pub use books::{Account, Books, BooksError, Posting};
pub use buying::{
    BEGIN_WITHIN, Buying, BuyingError, LAST_VOUCHER_WITHIN, LEAVE_WITHIN, PAUSE_MAX,
    SIGN_OF_LIFE_WITHIN, SILENCE_MAX, Said, Silence, Turn,
};
pub use card::{CARD_TEXT_BYTES_MAX, Card, CardError, CardFields, CardId};
pub use causes::with_causes;
pub use channel::{
    ChannelConfig, ChannelTerms, Domain, WITHDRAW_DELAY_MAX_S, WITHDRAW_DELAY_MIN_S,
};
pub use claim_batch::{SignedClaim, SignedClaimError, batch_digest};
pub use claiming::{
    CLAIM_GAS, CLAIM_ROW_GAS, ClaimPlan, ClaimPolicy, Departure, Earned, GAS_LOOK, GasPolicy,
    SETTLE_GAS, is_settlement_due, plan_claims,
};
pub use descriptor::{
    DescriptorError, MAX_RECORD_BYTES, Offer, PARAMETER_BYTES_MAX, PARAMETERS_MAX, Record,
    SignedRecord,
};
pub use durable::{Durable, Move, MoveId, OrderError};
pub use earning::{Closing, Earning};
pub use event::LedgerEvent;
pub use funding::{Escrowed, FundingPolicy, FundingStep, OverLimit};
pub use hosts::{
    CERTIFICATE_DAYS_MAX, Certificate, CertificateError, CertifiedHost, ENDPOINT_BYTES_MAX,
    HOSTS_MAX, Host, HostBook, SignedCertificate,
};
pub use ids::{BidId, ChannelId, ModelId, NodeId, RequestId};
pub use json::read_json;
pub use key::{KeyError, NodeKey, WalletKey};
pub use kind::Kind;
pub use labels::{Demand, DemandError, Labels, Network, Payer, Upstream};
pub use leaving::{Belongings, Blocked, Exit, ExitError, ExitStep, Holdings, Wait, exit};
pub use ledger::{
    Bid, BoxFuture, ChannelState, Claim, Ledger, LedgerError, Model, Provider, Receiver, Stakes,
    TxHash, Withdrawal, register_endpoint,
};
pub use load::{
    Heard, LOAD_BYTES_MAX, LOADS_MAX, Load, LoadBook, LoadDigest, LoadError, ModelTag, TokenTag,
};
pub use memory::MemoryLedger;
pub use naming::{Asked, NAME_BYTES_MAX, NameFault, Which};
pub use purse::{Purse, PurseError, PurseEvent};
pub use quote::{InputBound, Quote, Rates, STEP_TOKENS};
pub use rate_book::{
    PoolSide, RateBook, RateFault, RateReading, RateRule, feed_micro_usd, mean_tick, pool_micro_usd,
};
pub use receipt::{Outcome, Receipt, ReceiptError, SignedReceipt, Sold};
pub use selling::{Go, Selling};
pub use spending::{Pay, Spending, Written};
pub use stated::{Named, NamedError, Stated, StatedError, Unit};
pub use till::{Till, TillError, TillEvent};
pub use usd::{Accepted, CapError, DECIMALS_MAX, Tender, USD_DECIMALS, UsdRate, UsdRates};
pub use voucher::{SignedVoucher, Voucher, VoucherError};
