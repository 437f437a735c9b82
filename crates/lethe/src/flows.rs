//! How money flows, as figures for the page's picture: from the wallet through
//! accounts and channels to those who earn it. What each place holds, when and
//! how it gets out, is in `money.rs`; nothing here is needed to account for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use chain::EvmLedger;
use consumer::{ChannelView, Consumer};
use market::{Address, Amount, Ledger, LedgerError};
use provider::{Provider, Status};
use serde::Serialize;

/// All of it: of MOR, and of each other token of which there is some. No two are added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Flows {
    #[serde(flatten)]
    mor: TokenFlows,
    others: Vec<TokenFlows>,
}

/// How one token flows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct TokenFlows {
    token: Address,
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
        let channels = consumer.channels().await?;
        let mut tokens: BTreeSet<_> = consumer.funding().keys().copied().collect();
        tokens.extend(channels.iter().map(|channel| channel.config.token));
        tokens.remove(&ledger.mor());
        let mut others = Vec::new();
        for token in tokens {
            let flows = TokenFlows::look(ledger, consumer, &channels, token).await?;
            others.extend(flows.is_some().then_some(flows));
        }
        let mor = ledger.mor();
        Ok(Self {
            mor: TokenFlows::look(ledger, consumer, &channels, mor).await?,
            others,
        })
    }
}

impl TokenFlows {
    async fn look(
        ledger: &EvmLedger,
        consumer: &Consumer,
        channels: &[ChannelView],
        token: Address,
    ) -> Result<Self, LedgerError> {
        let held = async |account| {
            let held = ledger.balance(token, account).await?;
            Ok::<_, LedgerError>(Held { account, held })
        };
        let mut accounts = Vec::new();
        for pseudonym in consumer.pseudonyms() {
            accounts.push(PayerAccount {
                own: held(pseudonym.account).await?,
                provider: pseudonym.provider,
            });
        }
        let of_token = channels.iter().filter(|it| it.config.token == token);
        Ok(Self {
            token,
            wallet: held(consumer.payer()).await?,
            accounts,
            channels: of_token.cloned().collect(),
        })
    }

    /// Whether there is anything of it.
    fn is_some(&self) -> bool {
        let held = self.accounts.iter().map(|account| &account.own);
        let mut held = held.chain([&self.wallet]);
        !self.channels.is_empty() || held.any(|held| !held.held.is_zero())
    }
}

/// A provider of this node: what it does, and what it got for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Seller {
    name: String,
    #[serde(flatten)]
    status: Status,
    /// What is on chain of each token that it has to do with.
    paid: Vec<PaidView>,
}

/// What became of one token on chain, over all channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct PaidView {
    token: Address,
    /// Claimed.
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
        let mut tokens: BTreeSet<_> = status.offers.iter().map(|offer| offer.token).collect();
        tokens.extend(status.money.iter().map(|money| money.token));
        let mut paid = Vec::with_capacity(tokens.len());
        for token in tokens {
            let owed = ledger.receiver(status.provider, token).await?;
            paid.push(PaidView {
                token,
                claimed: owed.total_claimed,
                settled: owed.total_settled,
            });
        }
        Ok(Self {
            name: name.to_owned(),
            status,
            paid,
        })
    }
}
