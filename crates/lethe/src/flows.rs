//! How money flows, as figures for the page's picture: from the wallet through
//! accounts and channels to those who earn it. What each place holds, when and
//! how it gets out, is in `money.rs`; nothing here is needed to account for it.

use std::sync::Arc;

use chain::EvmLedger;
use consumer::{ChannelView, Consumer};
use market::{Address, Amount, Ledger, LedgerError};
use provider::{Provider, Status};
use serde::Serialize;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Flows {
    wallet: Held,
    /// Accounts that pay one provider each.
    accounts: Vec<PayerAccount>,
    channels: Vec<ChannelView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Held {
    account: Address,
    held: Amount,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PayerAccount {
    #[serde(flatten)]
    own: Held,
    provider: Address,
}

impl Flows {
    /// Reads the chain and the consumer's books.
    pub(crate) async fn look(ledger: &EvmLedger, consumer: &Consumer) -> Result<Self, LedgerError> {
        let mor = ledger.mor();
        let held = async |account| {
            let held = ledger.balance(mor, account).await?;
            Ok::<_, LedgerError>(Held { account, held })
        };
        let mut accounts = Vec::new();
        for pseudonym in consumer.pseudonyms() {
            accounts.push(PayerAccount {
                own: held(pseudonym.account).await?,
                provider: pseudonym.provider,
            });
        }
        let mut channels = consumer.channels().await?;
        channels.retain(|channel| channel.config.token == mor);
        Ok(Self {
            wallet: held(consumer.payer()).await?,
            accounts,
            channels,
        })
    }
}

/// A provider of this node: what it does, and what it got for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Seller {
    name: String,
    #[serde(flatten)]
    status: Status,
    /// Claimed on chain, over all channels.
    claimed: Amount,
    /// Of that, paid out.
    settled: Amount,
}

impl Seller {
    /// Reads its counters, and the chain.
    pub(crate) async fn look(
        ledger: &EvmLedger,
        name: &str,
        provider: &Arc<Provider>,
    ) -> Result<Self, LedgerError> {
        let status = provider.status();
        let owed = ledger.receiver(status.provider, ledger.mor()).await?;
        Ok(Self {
            name: name.to_owned(),
            status,
            claimed: owed.total_claimed,
            settled: owed.total_settled,
        })
    }
}
