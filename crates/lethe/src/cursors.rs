//! How far the chain's logs were read, in the node's store, so that a reader
//! goes on where it was after any outage.

use chain::{Cursor, CursorBook, JournalError};
use market::BoxFuture;
use store::{Entry, Journal, Store};

/// The kind of its lines; the newest counts.
const KIND: &str = "cursor";

/// The cursor of one reader.
pub(crate) struct StoredCursor {
    journal: Journal,
    name: &'static str,
}

impl StoredCursor {
    /// Of the reader with this name.
    pub(crate) fn new(store: &Store, name: &'static str) -> Self {
        Self {
            journal: store.journal(&format!("cursors/{name}")),
            name,
        }
    }
}

impl CursorBook for StoredCursor {
    fn load(&self) -> BoxFuture<'_, Result<Option<Cursor>, JournalError>> {
        Box::pin(async move {
            let found = self.journal.find(KIND, self.name).await?;
            let cursor = found.map(|entry| serde_json::from_slice(&entry.payload));
            Ok(cursor.transpose()?)
        })
    }

    fn save<'a>(&'a self, cursor: &'a Cursor) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let entry = Entry {
                kind: KIND.to_owned(),
                key: Some(self.name.to_owned()),
                payload: serde_json::to_vec(cursor)?,
            };
            self.journal.append(vec![entry]).await?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_outlasts_the_process_and_nonsense_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Store::open(&path).unwrap();
        let book = StoredCursor::new(&store, "withdrawals");
        assert_eq!(book.load().await.unwrap(), None);
        for block in [5, 9] {
            book.save(&Cursor::new(block)).await.unwrap();
        }
        store.close().await;

        let store = Store::open(&path).unwrap();
        let book = StoredCursor::new(&store, "withdrawals");
        assert_eq!(book.load().await.unwrap(), Some(Cursor::new(9)));
        let other = StoredCursor::new(&store, "other");
        assert_eq!(other.load().await.unwrap(), None);
        let torn = Entry {
            kind: KIND.to_owned(),
            key: Some("withdrawals".to_owned()),
            payload: b"{\"next_block\":".to_vec(),
        };
        book.journal.append(vec![torn]).await.unwrap();
        assert!(book.load().await.is_err());
    }
}
