//! The accounts that pay one provider each: their keys on disk, and the chain
//! as they see it, connected when one of them first has to write.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use chain::{Endpoints, EvmLedger, Network};
use consumer::{PayerKeys, Pseudonyms};
use market::{BoxFuture, Ledger, LedgerError};
use store::Store;
use tokio::sync::Mutex;

use crate::keystore::Keystore;
use crate::place::Place;
use crate::tx_journal::StoredTransactions;

/// The accounts of a data folder.
pub(crate) struct KeptPseudonyms {
    network: Network,
    endpoints: Endpoints,
    keys: Keystore,
    store: Store,
    /// One for each account at most: a ledger owns its account's nonce.
    ledgers: Mutex<BTreeMap<u32, EvmLedger>>,
}

impl KeptPseudonyms {
    pub(crate) fn new(place: &Place, store: Store) -> Self {
        Self {
            network: place.network.clone(),
            endpoints: place.endpoints.clone(),
            keys: place.keys.clone(),
            store,
            ledgers: Mutex::default(),
        }
    }

    async fn connected(&self, number: u32) -> Result<EvmLedger, LedgerError> {
        let mut ledgers = self.ledgers.lock().await;
        if let Some(ledger) = ledgers.get(&number) {
            return Ok(ledger.clone());
        }
        let name = payer_name(number);
        let key = self
            .keys
            .wallet(&name)
            .map_err(|error| LedgerError::Unreachable(Box::new(error)))?;
        let journal = Arc::new(StoredTransactions::new(&self.store, &name));
        let network = self.network.clone();
        let ledger = EvmLedger::connect(&self.endpoints, network, Arc::new(key), journal).await?;
        ledgers.insert(number, ledger.clone());
        Ok(ledger)
    }
}

impl Pseudonyms for KeptPseudonyms {
    fn keys(&self, number: u32) -> Result<PayerKeys, Box<dyn Error + Send + Sync>> {
        let payer = self.keys.wallet(&payer_name(number))?;
        let hot_key = self.keys.wallet(&format!("hot-{number}"))?;
        Ok(PayerKeys {
            account: payer.address(),
            hot_key: Arc::new(hot_key),
        })
    }

    fn ledger(&self, number: u32) -> BoxFuture<'_, Result<Arc<dyn Ledger>, LedgerError>> {
        Box::pin(async move {
            let ledger = self.connected(number).await?;
            Ok(Arc::new(ledger) as Arc<dyn Ledger>)
        })
    }
}

/// Of the key and of the journal of its transactions.
pub(crate) fn payer_name(number: u32) -> String {
    format!("payer-{number}")
}
