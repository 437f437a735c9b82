//! Transfers of tokens: those that an account took part in, by the tokens' own
//! logs, and those that a transaction asks for.
//!
//! Any contract may tell that it moved something. Symbol and digits of one
//! that the network's profile lacks are its own word (`token.rs` says how it
//! is taken), and what it says an account has is left out where it says nothing.

use alloy::consensus::Transaction as _;
use alloy::primitives::{Address, B256, U64, U256};
use alloy::rpc::types::{Log, Transaction};
use alloy::sol_types::{SolCall, SolEvent};
use futures_util::{StreamExt, TryStreamExt, stream};
use market::{Amount, Ledger, LedgerError};
use serde::Serialize;
use serde_json::json;

use super::{AT_ONCE, Explorer, OF_ACCOUNT_MAX};
use crate::bindings::Erc20;
use crate::logs::may_be_too_much;
use crate::profile::{Network, Token};
use crate::rpc::RpcError;

/// Blocks whose logs are looked through for an account's transfers.
const LOOKED_THROUGH: u64 = 10_000;
/// Tokens beyond the profile's that are asked for their names and an account's share.
const MET_MAX: usize = 20;
/// Topics of a token's transfer; that of a thing which is one of a kind has its number as a fourth.
const TOPICS: usize = 3;

/// A token by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenName {
    /// Its contract.
    pub address: Address,
    /// For people.
    pub symbol: String,
    /// Digits after the point.
    pub decimals: u8,
}

/// What an account has of a token.
#[derive(Debug, Clone, Serialize)]
pub struct Holding {
    /// Of which.
    pub token: TokenName,
    /// How much, in its base units.
    pub amount: Amount,
}

/// So much of a token from one to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// Of which.
    pub token: TokenName,
    /// Whose it was; nobody's, if it was made.
    pub from: Address,
    /// Whose it is then.
    pub to: Address,
    /// In base units, in decimals: a token that anybody made may say more than an [`Amount`] holds.
    pub amount: String,
}

/// A transfer that was done.
#[derive(Debug, Clone, Serialize)]
pub struct TransferLine {
    /// What.
    #[serde(flatten)]
    pub transfer: Transfer,
    /// The transaction that it came of.
    pub transaction: Option<B256>,
    /// And that one's block.
    pub block: Option<u64>,
}

/// The transfers of an account.
pub(super) struct Transfers {
    /// Newest first.
    pub(super) newest: Vec<TransferLine>,
    /// Older ones of the same blocks that are not shown.
    pub(super) more: usize,
    /// How many blocks were looked through.
    pub(super) looked_through: u64,
    /// The tokens of those that are shown, without the profile's.
    met: Vec<Token>,
}

impl From<Token> for TokenName {
    fn from(token: Token) -> Self {
        Self {
            address: token.address,
            symbol: token.symbol,
            decimals: token.decimals,
        }
    }
}

impl Transfer {
    /// What a transaction asks a token of the profile to do; None: something else.
    pub(super) fn asked(network: &Network, tx: &Transaction) -> Option<Self> {
        let token = network.token(tx.to()?)?;
        let (from, to, value) = if let Ok(call) = Erc20::transferCall::abi_decode(tx.input()) {
            (tx.inner.signer(), call.to, call.value)
        } else {
            let call = Erc20::transferFromCall::abi_decode(tx.input()).ok()?;
            (call.from, call.to, call.value)
        };
        Some(Self::of(token.clone(), from, to, value))
    }

    fn of(token: Token, from: Address, to: Address, value: U256) -> Self {
        Self {
            token: token.into(),
            from,
            to,
            amount: value.to_string(),
        }
    }
}

impl Explorer {
    /// The newest transfers from and to the account in blocks before `end`.
    pub(super) async fn transfers(
        &self,
        account: Address,
        end: u64,
    ) -> Result<Transfers, LedgerError> {
        let mut blocks = LOOKED_THROUGH.min(end);
        let mut logs = loop {
            match self.logs_of(account, end - blocks, end).await {
                Err(error) if blocks > 1 && may_be_too_much(&error) => blocks /= 2,
                answered => break answered?,
            }
        };
        logs.sort_by_key(|(log, _)| std::cmp::Reverse((log.block_number, log.log_index)));
        // To itself, one is found twice.
        logs.dedup_by_key(|(log, _)| (log.block_number, log.log_index));
        let more = logs.len().saturating_sub(OF_ACCOUNT_MAX);
        logs.truncate(OF_ACCOUNT_MAX);
        let mut met: Vec<_> = logs.iter().map(|(log, _)| log.address()).collect();
        met.sort();
        met.dedup();
        met.retain(|token| self.ledger.network().token(*token).is_none());
        met.truncate(MET_MAX);
        let asked = met.into_iter().map(|token| self.token(token));
        let met: Vec<Token> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        let named = |address| {
            let mut all = self.ledger.network().tokens.iter().chain(&met);
            let found = all.find(|token| token.address == address).cloned();
            found.unwrap_or_else(|| Token::unknown(address))
        };
        let lines = logs.into_iter().map(|(log, event)| TransferLine {
            transfer: Transfer::of(named(log.address()), event.from, event.to, event.value),
            transaction: log.transaction_hash,
            block: log.block_number,
        });
        Ok(Transfers {
            newest: lines.collect(),
            more,
            looked_through: blocks,
            met,
        })
    }

    /// What the account has of each token of the profile, MOR first, and of those that it met.
    pub(super) async fn holdings(
        &self,
        account: Address,
        transfers: &Transfers,
    ) -> Result<Vec<Holding>, LedgerError> {
        let known = self.ledger.network().tokens.clone();
        let asked = known.into_iter().chain(transfers.met.clone());
        let asked = asked.map(|token| self.holding(account, token));
        let all: Vec<_> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        Ok(all.into_iter().flatten().collect())
    }

    /// A token by its name. One that cannot be asked for it, whoever wrote it, spoils no page.
    pub(super) async fn token(&self, address: Address) -> Token {
        let named = self.ledger.token(address).await;
        named.unwrap_or_else(|_| Token::unknown(address))
    }

    /// None: a token that is not of the profile does not say it.
    async fn holding(
        &self,
        account: Address,
        token: Token,
    ) -> Result<Option<Holding>, LedgerError> {
        match self.ledger.balance(token.address, account).await {
            Ok(amount) => Ok(Some(Holding {
                token: token.into(),
                amount,
            })),
            Err(_) if self.ledger.network().token(token.address).is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Of blocks `from..end`, in no order.
    async fn logs_of(
        &self,
        account: Address,
        from: u64,
        end: u64,
    ) -> Result<Vec<(Log, Erc20::Transfer)>, RpcError> {
        let filter = |topics| {
            json!([{
                "topics": topics,
                "fromBlock": U64::from(from),
                "toBlock": U64::from(end.saturating_sub(1)),
            }])
        };
        let (kind, word) = (Erc20::Transfer::SIGNATURE_HASH, account.into_word());
        let (given, gotten): (Vec<Log>, Vec<Log>) = tokio::try_join!(
            self.rpc()
                .request("eth_getLogs", filter(json!([kind, word]))),
            self.rpc()
                .request("eth_getLogs", filter(json!([kind, null, word]))),
        )?;
        let all = given.into_iter().chain(gotten);
        Ok(all.filter_map(read).collect())
    }
}

/// None: of something that is one of a kind, or it tells no amount.
fn read(log: Log) -> Option<(Log, Erc20::Transfer)> {
    (log.topics().len() == TOPICS).then_some(())?;
    let event = Erc20::Transfer::decode_log_data(log.data()).ok()?;
    Some((log, event))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Bytes, LogData};

    use super::*;

    fn log(topics: usize, data: &[u8]) -> Log {
        let mut all = vec![B256::ZERO; topics];
        if let Some(first) = all.first_mut() {
            *first = Erc20::Transfer::SIGNATURE_HASH;
        }
        let data = LogData::new_unchecked(all, Bytes::copy_from_slice(data));
        Log {
            inner: alloy::primitives::Log {
                address: Address::repeat_byte(1),
                data,
            },
            ..Log::default()
        }
    }

    #[test]
    fn only_what_tells_an_amount_is_a_transfer() {
        let value = U256::MAX.to_be_bytes::<32>();
        let (_, event) = read(log(3, &value)).unwrap();
        let token = Token::unknown(Address::repeat_byte(1));
        let told = Transfer::of(token, event.from, event.to, event.value);
        assert_eq!(told.amount, U256::MAX.to_string());
        assert!(read(log(4, &[])).is_none(), "one of a kind has a number");
        assert!(read(log(3, &value[1..])).is_none(), "half an amount");
        assert!(read(log(1, &value)).is_none());
    }
}
