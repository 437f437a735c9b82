//! A bounded queue that many may wait on at either end.
//!
//! Tokio's channel has one receiver, which has to be borrowed mutably; a node
//! is shared, and `accept` takes `&self`. Two semaphores count what is free
//! and what is there, so the lock is never held across a wait and a dropped
//! wait loses nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

#[derive(Debug)]
pub(crate) struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    free: Semaphore,
    there: Semaphore,
}

impl<T> Queue<T> {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            items: Mutex::default(),
            free: Semaphore::new(places),
            there: Semaphore::new(0),
        }
    }

    /// Waits for a place. Gives the item back when the queue is closed.
    pub(crate) async fn push(&self, item: T) -> Result<(), T> {
        let Ok(place) = self.free.acquire().await else {
            return Err(item);
        };
        place.forget();
        self.items().push_back(item);
        self.there.add_permits(1);
        Ok(())
    }

    /// Waits for an item; `None` when the queue is closed.
    pub(crate) async fn pop(&self) -> Option<T> {
        self.there.acquire().await.ok()?.forget();
        let item = self.items().pop_front();
        self.free.add_permits(1);
        item
    }

    /// Wakes everybody and drops what waits.
    pub(crate) fn close(&self) {
        self.free.close();
        self.there.close();
        self.items().clear();
    }

    fn items(&self) -> std::sync::MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
