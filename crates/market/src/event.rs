//! What the settlement contract tells of: its events, by the names of its ABI.

use alloy_primitives::Address;

use crate::{Amount, ChannelConfig, ChannelId, Timestamp};

/// One event of the settlement contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerEvent {
    /// The first money came into a channel, or the first after it was empty.
    ChannelCreated {
        /// Its id.
        channel: ChannelId,
        /// What it is.
        config: ChannelConfig,
    },
    /// The last money left a channel.
    ChannelClosed {
        /// Its id.
        channel: ChannelId,
        /// What it is.
        config: ChannelConfig,
    },
    /// Money came in.
    Deposited {
        /// Where.
        channel: ChannelId,
        /// Whose transaction it was.
        sender: Address,
        /// How much.
        amount: Amount,
        /// What the channel then held.
        new_balance: Amount,
    },
    /// A voucher was presented.
    Claimed {
        /// Where.
        channel: ChannelId,
        /// Whose transaction it was.
        sender: Address,
        /// What is new.
        amount: Amount,
        /// All claims of the channel.
        new_total: Amount,
    },
    /// A receiver was paid.
    Settled {
        /// Who.
        receiver: Address,
        /// In what.
        token: Address,
        /// Whose transaction it was.
        sender: Address,
        /// How much.
        amount: Amount,
    },
    /// The receiver gave back.
    Refunded {
        /// Where.
        channel: ChannelId,
        /// Whose transaction it was.
        sender: Address,
        /// How much.
        amount: Amount,
    },
    /// The payer wants out.
    WithdrawInitiated {
        /// Where.
        channel: ChannelId,
        /// How much.
        amount: Amount,
        /// The delay is over then.
        finalize_after: Timestamp,
    },
    /// The payer is out.
    WithdrawFinalized {
        /// Where.
        channel: ChannelId,
        /// Whose transaction it was.
        sender: Address,
        /// How much it got.
        amount: Amount,
    },
}
