//! Signed transactions in the node's store, so that a crash between signing
//! and inclusion sends the same bytes again and never a second transaction.

use chain::{Ended, JournalError, OpenTx, OpenTxs, SignedTx, TxJournal};
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

    async fn unended(&self) -> Result<Vec<OpenTx>, JournalError> {
        let mut open = OpenTxs::default();
        for entry in self.journal.load().await? {
            let hash = || entry.key.as_deref().unwrap_or_default().parse::<TxHash>();
            match entry.kind.as_str() {
                "signed" => open.signed(serde_json::from_slice(&entry.payload)?),
                "told" => open.told(hash()?),
                _ => open.ended(hash()?, serde_json::from_slice(&entry.payload)?),
            }
        }
        Ok(open.left())
    }
}

impl TxJournal for StoredTransactions {
    fn signed(&self, tx: SignedTx) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            let payload = serde_json::to_vec(&tx)?;
            self.write("signed", tx.hash, payload).await
        })
    }

    fn told(&self, hash: TxHash) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move { self.write("told", hash, Vec::new()).await })
    }

    fn ended(&self, hash: TxHash, how: Ended) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            let payload = serde_json::to_vec(&how)?;
            self.write("ended", hash, payload).await
        })
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<OpenTx>, JournalError>> {
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

    /// The same, signed again for more.
    fn raised(nonce: u64) -> SignedTx {
        SignedTx {
            hash: B256::repeat_byte(u8::try_from(nonce).unwrap()),
            ..tx(nonce)
        }
    }

    fn open(tx: SignedTx, told: bool) -> OpenTx {
        OpenTx { tx, told }
    }

    #[tokio::test]
    async fn what_has_not_ended_is_found_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Store::open(&path).unwrap();
        let journal = StoredTransactions::new(&store, "payer");
        for tx in [tx(1), tx(2), tx(3), raised(2), raised(3)] {
            journal.signed(tx).await.unwrap();
        }
        // Whichever of a number ends, the others end with it.
        let hash = raised(2).hash;
        journal.ended(hash, Ended::Succeeded).await.unwrap();
        journal.told(tx(3).hash).await.unwrap();
        // The fourth number was tried in vain, then used for another wish.
        journal.signed(tx(4)).await.unwrap();
        journal.ended(tx(4).hash, Ended::Rejected).await.unwrap();
        journal.signed(raised(4)).await.unwrap();
        store.close().await;

        let store = Store::open(&path).unwrap();
        let found = StoredTransactions::new(&store, "payer").open().await;
        let left = [
            open(tx(1), false),
            open(tx(3), true),
            open(raised(3), false),
            open(raised(4), false),
        ];
        assert_eq!(found.unwrap(), left);
        let other = StoredTransactions::new(&store, "other").open().await;
        assert!(other.unwrap().is_empty());
    }

    /// As versions before 0.2 wrote it: one line signed, one ended, nothing told.
    #[tokio::test]
    async fn a_journal_of_an_older_version_is_understood() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let journal = StoredTransactions::new(&store, "payer");
        let line = |kind: &str, hash: u8, payload: &str| Entry {
            kind: kind.to_owned(),
            key: Some(B256::with_last_byte(hash).to_string()),
            payload: payload.as_bytes().to_vec(),
        };
        let signed = |hash: u8| {
            let word = B256::with_last_byte(hash);
            let payload = format!(
                r#"{{"chain_id":1,"account":"0x0000000000000000000000000000000000000000","nonce":{hash},"intent":"{word}","hash":"{word}","raw":"0x0102"}}"#
            );
            line("signed", hash, &payload)
        };
        let lines = vec![
            signed(1),
            signed(2),
            line("ended", 1, r#""Succeeded""#),
            signed(3),
            line("ended", 3, r#""Rejected""#),
        ];
        journal.journal.append(lines).await.unwrap();
        let found = journal.open().await.unwrap();
        assert_eq!(found, [open(tx(2), false)]);
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
