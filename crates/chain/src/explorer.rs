//! The chain to look at: blocks, transactions, accounts, transfers, channels
//! and registrations, with calls and events by their names.
//!
//! For people, of a chain of this machine: one server's word, nothing here
//! decides anything. Every answer is bounded.

mod transfers;

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::consensus::Transaction as _;
use alloy::primitives::{Address, B256, U64, U256};
use alloy::rpc::types::{Block, Log, Transaction, TransactionReceipt};
use futures_util::{StreamExt, TryStreamExt, stream};
use market::{ChannelConfig, ChannelId, ChannelState, Ledger, LedgerError, Model, Provider};
use serde::Serialize;
use serde_json::json;

pub use self::transfers::{Holding, TokenName, Transfer, TransferLine};
use crate::decode::{Contracts, Decoded, bytes_shown};
use crate::ledger::EvmLedger;
use crate::rpc::{Rpc, RpcError};

/// Blocks of one page.
pub const PAGE_BLOCKS: u64 = 20;
/// Transactions of one block that are shown.
const TRANSACTIONS_MAX: usize = 50;
/// Events of one transaction or one channel that are shown.
const EVENTS_MAX: usize = 100;
/// Blocks that are looked through for what an account did.
const LOOKED_THROUGH: u64 = 200;
/// Transactions of an account that are shown, and transfers.
const OF_ACCOUNT_MAX: usize = 50;
/// Channels, providers or models that are shown.
const LISTED_MAX: usize = 100;
/// Questions to the server at the same time.
const AT_ONCE: usize = 8;

/// A transaction in one line.
#[derive(Debug, Clone, Serialize)]
pub struct TransactionLine {
    /// Its hash.
    pub hash: B256,
    /// The block that it is in.
    pub block: Option<u64>,
    /// Who sent it.
    pub from: Address,
    /// To whom; none creates a contract.
    pub to: Option<Address>,
    /// Coins that went along, in wei.
    pub value: U256,
    /// What was called, as `contract.function`.
    pub call: Option<String>,
    /// The transfer that a token of the network's profile was asked for.
    pub transfer: Option<Transfer>,
}

/// A block.
#[derive(Debug, Clone, Serialize)]
pub struct BlockView {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// The hash of the one before.
    pub parent: B256,
    /// When it was made, in Unix seconds.
    pub at: u64,
    /// Gas that its transactions used.
    pub gas_used: u64,
    /// Gas that it has room for.
    pub gas_limit: u64,
    /// What gas cost at least, in wei.
    pub base_fee: u64,
    /// The first of its transactions.
    pub transactions: Vec<TransactionLine>,
    /// How many there are further.
    pub more: usize,
}

/// An event.
#[derive(Debug, Clone, Serialize)]
pub struct EventView {
    /// The contract that told it.
    pub address: Address,
    /// By its name, if it is known.
    pub decoded: Option<Decoded>,
    /// Its topics.
    pub topics: Vec<B256>,
    /// Its data, cut where it is long.
    pub data: String,
    /// The transaction that it came of.
    pub transaction: Option<B256>,
    /// And that one's block.
    pub block: Option<u64>,
}

/// A transaction with all that came of it.
#[derive(Debug, Clone, Serialize)]
pub struct TransactionView {
    /// The same in one line.
    #[serde(flatten)]
    pub line: TransactionLine,
    /// When its block was made, in Unix seconds.
    pub at: Option<u64>,
    /// The sender's count of transactions before it.
    pub nonce: u64,
    /// The most gas that it may use.
    pub gas_limit: u64,
    /// What it used. None: it waits.
    pub gas_used: Option<u64>,
    /// What it cost, in wei.
    pub fee: Option<U256>,
    /// Whether it did what it was to do.
    pub succeeded: Option<bool>,
    /// The contract that it created.
    pub created: Option<Address>,
    /// What was called, by its name.
    pub decoded: Option<Decoded>,
    /// What was sent along, cut where it is long.
    pub input: String,
    /// The first of its events.
    pub events: Vec<EventView>,
    /// How many there are further.
    pub more: usize,
}

/// An account.
#[derive(Debug, Clone, Serialize)]
pub struct AccountView {
    /// Its address.
    pub address: Address,
    /// Coins, in wei.
    pub coins: U256,
    /// Each token of the network's profile, MOR first, and those of the transfers.
    pub tokens: Vec<Holding>,
    /// Transactions that it sent.
    pub sent: u64,
    /// The length of its code in bytes; more than none is a contract.
    pub code_bytes: usize,
    /// Its newest transactions of the blocks that were looked through, newest first.
    pub latest: Vec<TransactionLine>,
    /// How many blocks those are.
    pub looked_through: u64,
    /// The newest transfers of tokens from and to it, newest first.
    pub transfers: Vec<TransferLine>,
    /// Older ones of the blocks that were looked through for them.
    pub more_transfers: usize,
    /// How many blocks those are.
    pub transfers_through: u64,
}

/// A channel.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelLine {
    /// Its id.
    pub id: ChannelId,
    /// What it was created with.
    pub config: ChannelConfig,
    /// What is paid with on it.
    pub token: TokenName,
    /// The block that it was created in.
    pub block: u64,
    /// What is in it now.
    pub state: ChannelState,
}

/// A channel with what happened to it.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelWhole {
    /// The same in one line.
    #[serde(flatten)]
    pub line: ChannelLine,
    /// Newest first.
    pub events: Vec<EventView>,
    /// Older ones that are not shown.
    pub more: usize,
}

/// Who is registered.
#[derive(Debug, Clone, Serialize)]
pub struct Registrations {
    /// Providers and relays.
    pub providers: Vec<Provider>,
    /// Models.
    pub models: Vec<Model>,
    /// How many of both there are further.
    pub more: usize,
}

/// What a text names.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// A block, by number or hash.
    Block(BlockView),
    /// A transaction, by its hash.
    Transaction(Box<TransactionView>),
    /// An account, by its address.
    Account(AccountView),
    /// A channel, by its id.
    Channel(ChannelWhole),
}

/// What a text may name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Number(u64),
    Address(Address),
    Hash(B256),
}

/// See the module's text. Cheap to clone.
#[derive(Clone)]
pub struct Explorer {
    ledger: EvmLedger,
    contracts: Arc<Contracts>,
}

impl Explorer {
    /// Of the chain that `ledger` is on.
    pub fn new(ledger: EvmLedger) -> Self {
        let contracts = Arc::new(Contracts::of(ledger.network()));
        Self { ledger, contracts }
    }

    /// The contracts whose calls and events have names.
    pub fn contracts(&self) -> BTreeMap<Address, &'static str> {
        self.contracts.names()
    }

    /// The blocks before this one, or the latest; newest first.
    pub async fn blocks(&self, before: Option<u64>) -> Result<Vec<BlockView>, LedgerError> {
        let latest = self.ledger.block_number().await?;
        let end = before.unwrap_or(u64::MAX).min(latest.saturating_add(1));
        self.range(end.saturating_sub(PAGE_BLOCKS), end).await
    }

    /// What `text` names: a number, a hash, an address or a channel's id.
    /// None: nothing that is on the chain.
    pub async fn find(&self, text: &str) -> Result<Option<Found>, LedgerError> {
        match Name::read(text) {
            None => Ok(None),
            Some(Name::Number(number)) => {
                let block = self
                    .block("eth_getBlockByNumber", json!(U64::from(number)))
                    .await?;
                Ok(block.map(Found::Block))
            }
            Some(Name::Address(address)) => {
                self.account(address).await.map(Found::Account).map(Some)
            }
            Some(Name::Hash(hash)) => self.of_hash(hash).await,
        }
    }

    /// The newest channels, newest first.
    pub async fn channels(&self) -> Result<Vec<ChannelLine>, LedgerError> {
        let created = self.created().await?;
        let newest = created.into_iter().rev().take(LISTED_MAX);
        stream::iter(newest.map(|(config, block)| self.channel_line(config, block)))
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Who is registered, and with which models.
    pub async fn registrations(&self) -> Result<Registrations, LedgerError> {
        let (mut providers, mut models) =
            tokio::try_join!(self.ledger.providers(), self.ledger.models())?;
        let left = |count: usize| count.saturating_sub(LISTED_MAX);
        let more = left(providers.len()) + left(models.len());
        providers.truncate(LISTED_MAX);
        models.truncate(LISTED_MAX);
        Ok(Registrations {
            providers,
            models,
            more,
        })
    }

    fn rpc(&self) -> &Rpc {
        self.ledger.rpc()
    }

    async fn range(&self, from: u64, end: u64) -> Result<Vec<BlockView>, LedgerError> {
        let blocks = (from..end)
            .rev()
            .map(|number| self.block("eth_getBlockByNumber", json!(U64::from(number))));
        let blocks: Vec<_> = stream::iter(blocks).buffered(AT_ONCE).try_collect().await?;
        Ok(blocks.into_iter().flatten().collect())
    }

    async fn block(
        &self,
        method: &'static str,
        which: serde_json::Value,
    ) -> Result<Option<BlockView>, RpcError> {
        let block: Option<Block> = self.rpc().request(method, json!([which, true])).await?;
        Ok(block.map(|block| self.block_view(&block)))
    }

    fn block_view(&self, block: &Block) -> BlockView {
        let all = block.transactions.as_transactions().unwrap_or_default();
        let shown = all.iter().take(TRANSACTIONS_MAX);
        BlockView {
            number: block.header.number,
            hash: block.header.hash,
            parent: block.header.parent_hash,
            at: block.header.timestamp,
            gas_used: block.header.gas_used,
            gas_limit: block.header.gas_limit,
            base_fee: block.header.base_fee_per_gas.unwrap_or_default(),
            transactions: shown.map(|tx| self.line(tx)).collect(),
            more: all.len().saturating_sub(TRANSACTIONS_MAX),
        }
    }

    fn line(&self, tx: &Transaction) -> TransactionLine {
        let call = self.call_of(tx);
        TransactionLine {
            hash: *tx.inner.tx_hash(),
            block: tx.block_number,
            from: tx.inner.signer(),
            to: tx.to(),
            value: tx.value(),
            call: call.map(|call| format!("{}.{}", call.contract, call.name)),
            transfer: Transfer::asked(self.ledger.network(), tx),
        }
    }

    fn call_of(&self, tx: &Transaction) -> Option<Decoded> {
        self.contracts.call(tx.to()?, tx.input())
    }

    fn event(&self, log: &Log) -> EventView {
        EventView {
            address: log.address(),
            decoded: self.contracts.event(&log.inner),
            topics: log.topics().to_vec(),
            data: bytes_shown(&log.data().data),
            transaction: log.transaction_hash,
            block: log.block_number,
        }
    }

    async fn of_hash(&self, hash: B256) -> Result<Option<Found>, LedgerError> {
        if let Some(transaction) = self.transaction(hash).await? {
            return Ok(Some(Found::Transaction(Box::new(transaction))));
        }
        if let Some(block) = self.block("eth_getBlockByHash", json!(hash)).await? {
            return Ok(Some(Found::Block(block)));
        }
        Ok(self.channel(ChannelId(hash)).await?.map(Found::Channel))
    }

    async fn transaction(&self, hash: B256) -> Result<Option<TransactionView>, LedgerError> {
        let (asked, also) = (json!([hash]), json!([hash]));
        let (tx, receipt): (Option<Transaction>, Option<TransactionReceipt>) = tokio::try_join!(
            self.rpc().request("eth_getTransactionByHash", asked),
            self.rpc().request("eth_getTransactionReceipt", also),
        )?;
        let Some(tx) = tx else { return Ok(None) };
        let logs = receipt.as_ref().map_or(&[][..], |receipt| receipt.logs());
        let cost = |receipt: &TransactionReceipt| {
            U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price)
        };
        Ok(Some(TransactionView {
            line: self.line(&tx),
            at: tx.block_timestamp,
            nonce: tx.nonce(),
            gas_limit: tx.gas_limit(),
            gas_used: receipt.as_ref().map(|receipt| receipt.gas_used),
            fee: receipt.as_ref().map(cost),
            succeeded: receipt.as_ref().map(|receipt| receipt.status()),
            created: receipt
                .as_ref()
                .and_then(|receipt| receipt.contract_address),
            decoded: self.call_of(&tx),
            input: bytes_shown(tx.input()),
            events: logs
                .iter()
                .take(EVENTS_MAX)
                .map(|log| self.event(log))
                .collect(),
            more: logs.len().saturating_sub(EVENTS_MAX),
        }))
    }

    async fn account(&self, address: Address) -> Result<AccountView, LedgerError> {
        let rpc = self.rpc();
        let (coins, sent, code) = tokio::try_join!(
            rpc.coins(address),
            rpc.transactions_of(address),
            rpc.code(address),
        )?;
        let end = self.ledger.block_number().await? + 1;
        let from = end.saturating_sub(LOOKED_THROUGH);
        let blocks = self.range(from, end).await?;
        let all = blocks.into_iter().flat_map(|block| block.transactions);
        let own = all.filter(|tx| tx.from == address || tx.to == Some(address));
        let transfers = self.transfers(address, end).await?;
        Ok(AccountView {
            address,
            coins,
            tokens: self.holdings(address, &transfers).await?,
            sent,
            code_bytes: code.len(),
            latest: own.take(OF_ACCOUNT_MAX).collect(),
            looked_through: end - from,
            transfers: transfers.newest,
            more_transfers: transfers.more,
            transfers_through: transfers.looked_through,
        })
    }

    /// Every channel with the block that it was first created in.
    async fn created(&self) -> Result<Vec<(ChannelConfig, u64)>, LedgerError> {
        let (mut all, _) = self.ledger.channels_created(0).await?;
        let mut seen = std::collections::BTreeSet::new();
        let domain = self.ledger.domain();
        all.retain(|(config, _)| seen.insert(config.id(&domain)));
        Ok(all)
    }

    async fn channel_line(
        &self,
        config: ChannelConfig,
        block: u64,
    ) -> Result<ChannelLine, LedgerError> {
        let id = config.id(&self.ledger.domain());
        let state = self.ledger.channel(id).await?;
        let token = self.token(config.token).await.into();
        Ok(ChannelLine {
            id,
            config,
            token,
            block,
            state,
        })
    }

    async fn channel(&self, id: ChannelId) -> Result<Option<ChannelWhole>, LedgerError> {
        let domain = self.ledger.domain();
        let created = self.created().await?;
        let Some((config, block)) = created
            .into_iter()
            .find(|(config, _)| config.id(&domain) == id)
        else {
            return Ok(None);
        };
        let filter = json!({
            "address": domain.settlement,
            "topics": [null, id.0],
            "fromBlock": U64::from(block),
        });
        let logs: Vec<Log> = self.rpc().request("eth_getLogs", json!([filter])).await?;
        let newest = logs.iter().rev().take(EVENTS_MAX);
        Ok(Some(ChannelWhole {
            line: self.channel_line(config, block).await?,
            events: newest.map(|log| self.event(log)).collect(),
            more: logs.len().saturating_sub(EVENTS_MAX),
        }))
    }
}

impl Name {
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Some(Self::Number(number));
        }
        // Their own parsers take them without the prefix, too.
        text.starts_with("0x").then_some(())?;
        let address = text.parse().map(Self::Address).ok();
        address.or_else(|| text.parse().map(Self::Hash).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_a_number_an_address_or_a_hash() {
        let (address, hash) = (Address::repeat_byte(0xab), B256::repeat_byte(0xcd));
        for (text, name) in [
            (" 12 ".to_owned(), Some(Name::Number(12))),
            (address.to_string(), Some(Name::Address(address))),
            (
                address.to_string().to_lowercase(),
                Some(Name::Address(address)),
            ),
            (hash.to_string(), Some(Name::Hash(hash))),
            ("".to_owned(), None),
            ("0x".to_owned(), None),
            ("0x12".to_owned(), None),
            ("-1".to_owned(), None),
            (u64::MAX.to_string() + "0", None),
            (format!("{hash}00"), None),
            ("<img>".to_owned(), None),
        ] {
            assert_eq!(Name::read(&text), name, "{text}");
        }
    }
}
