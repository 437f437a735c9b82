//! Signed transactions in the node's store, so that a crash between signing
//! and inclusion sends the same bytes again and never a second transaction.

use std::collections::BTreeMap;

use chain::{Ended, JournalError, SignedTx, TxJournal};
use market::{BoxFuture, TxHash};
use store::{Entry, Journal, Store};

/// The transactions of one key.
pub(crate) struct StoredTransactions {
    journal: Journal,
}

impl StoredTransactions {
    /// Of the key with this name.
    pub(crate) fn new(store: &Store, key: &str) -> Self {
        Self {
            journal: store.journal(&format!("transactions/{key}")),
        }
    }

    async fn write(&self, kind: &str, hash: TxHash, payload: Vec<u8>) -> Result<(), JournalError> {
        let entry = Entry {
            kind: kind.to_owned(),
            key: Some(hash.to_string()),
            payload,
        };
        self.journal.append(vec![entry]).await?;
        Ok(())
    }

    async fn unended(&self) -> Result<Vec<SignedTx>, JournalError> {
        let mut open: BTreeMap<u64, SignedTx> = BTreeMap::new();
        for (place, entry) in (0..).zip(self.journal.load().await?) {
            match entry.kind.as_str() {
                "signed" => {
                    open.insert(place, serde_json::from_slice(&entry.payload)?);
                }
                _ => open.retain(|_, tx| Some(tx.hash.to_string()) != entry.key),
            }
        }
        Ok(open.into_values().collect())
    }
}

impl TxJournal for StoredTransactions {
    fn signed(&self, tx: SignedTx) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            let payload = serde_json::to_vec(&tx)?;
            self.write("signed", tx.hash, payload).await
        })
    }

    fn ended(&self, hash: TxHash, how: Ended) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            let payload = serde_json::to_vec(&how)?;
            self.write("ended", hash, payload).await
        })
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<SignedTx>, JournalError>> {
        Box::pin(self.unended())
    }
}

#[cfg(test)]
mod tests {
    use market::{Address, B256};

    use super::*;

    fn tx(nonce: u64) -> SignedTx {
        let hash = B256::with_last_byte(u8::try_from(nonce).unwrap());
        SignedTx {
            chain_id: 1,
            account: Address::ZERO,
            nonce,
            intent: hash,
            hash,
            raw: vec![1, 2].into(),
        }
    }

    #[tokio::test]
    async fn what_has_not_ended_is_found_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Store::open(&path).unwrap();
        let journal = StoredTransactions::new(&store, "payer");
        for nonce in 1..=3 {
            journal.signed(tx(nonce)).await.unwrap();
        }
        journal.ended(tx(2).hash, Ended::Succeeded).await.unwrap();
        store.close().await;

        let store = Store::open(&path).unwrap();
        let open = StoredTransactions::new(&store, "payer")
            .open()
            .await
            .unwrap();
        assert_eq!(open, [tx(1), tx(3)]);
        assert!(
            StoredTransactions::new(&store, "other")
                .open()
                .await
                .unwrap()
                .is_empty()
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
        /// A transaction that is not understood is not taken for one that ended.
        #[test]
        fn entries_of_any_bytes_are_an_error_and_stay(
            payload in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            cut in 0usize..60,
        ) {
            let mut whole = serde_json::to_vec(&tx(1)).unwrap();
            whole.truncate(whole.len() - 1 - cut);
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                for payload in [payload, whole] {
                    let folder = tempfile::tempdir().unwrap();
                    let store = Store::open(&folder.path().join("store")).unwrap();
                    let journal = StoredTransactions::new(&store, "payer");
                    journal.write("signed", tx(1).hash, payload.clone()).await.unwrap();
                    assert!(journal.open().await.is_err());
                    let kept = store.journal("transactions/payer").load().await.unwrap();
                    assert_eq!(kept.len(), 1);
                    assert_eq!(kept[0].payload, payload);
                    store.close().await;
                }
            });
        }
    }
}
