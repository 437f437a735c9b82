//! One offer while it is being sold: its places, and how its backend does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use market::{Load, ModelId, Quote};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::warn;

use crate::backend::BackendError;
use crate::config::OfferConfig;
use crate::times::Times;
use crate::uncounted::Counts;

/// The longest that a request stands in the queue. Its consumer gives up later.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(45);

/// What a refused consumer is told at least and at most.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// An answer's time counts so much in the mean: one of eight.
const MEAN_WEIGHT: u64 = 8;

/// The mean time of an answer before there was one.
const MEAN_MS_AT_FIRST: u64 = 1000;

/// One offer while it is being sold.
pub(crate) struct Sale {
    pub(crate) model: ModelId,
    pub(crate) config: OfferConfig,
    slots: Arc<Semaphore>,
    /// Slots and queue together.
    places: Arc<Semaphore>,
    mean_ms: AtomicU64,
    pub(crate) times: Arc<Times>,
    /// What its backend counted.
    pub(crate) counts: Counts,
    /// Why the backend is not well, if so.
    problem: Mutex<Option<String>>,
}

/// A place in the queue; held to the answer's end.
#[must_use]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A slot of the backend, and the place that led to it.
#[must_use]
pub(crate) struct Slot {
    _slot: OwnedSemaphorePermit,
    _place: Place,
}

impl Sale {
    pub(crate) fn new(model: ModelId, config: OfferConfig) -> Self {
        Self {
            model,
            slots: Arc::new(Semaphore::new(config.slots)),
            places: Arc::new(Semaphore::new(config.slots + config.queue)),
            config,
            mean_ms: AtomicU64::new(MEAN_MS_AT_FIRST),
            times: Arc::default(),
            counts: Counts::default(),
            problem: Mutex::default(),
        }
    }

    /// A place, if there is one at once.
    pub(crate) fn place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { _permit: permit })
    }

    /// Waits for a slot. None: it took too long.
    pub(crate) async fn slot(&self, place: Place) -> Option<Slot> {
        let slot = timeout(QUEUE_WAIT_MAX, Arc::clone(&self.slots).acquire_owned()).await;
        let slot = slot.ok()?.ok()?;
        Some(Slot {
            _slot: slot,
            _place: place,
        })
    }

    /// Answers that run.
    pub(crate) fn running(&self) -> usize {
        self.config
            .slots
            .saturating_sub(self.slots.available_permits())
    }

    /// Requests that wait.
    pub(crate) fn queued(&self) -> usize {
        let places = self.config.slots + self.config.queue;
        let taken = places.saturating_sub(self.places.available_permits());
        taken.saturating_sub(self.running())
    }

    /// When a place may be free: after a mean answer, as many as the queue has turns.
    pub(crate) fn retry_after(&self) -> Duration {
        let turns = 1 + self.queued() / self.config.slots.max(1);
        let turns = u64::try_from(turns).unwrap_or(u64::MAX);
        let wait = self.mean_ms.load(Ordering::Relaxed).saturating_mul(turns);
        Duration::from_millis(wait).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }

    /// What is told of it. It takes nothing while all places are taken, while
    /// its backend is drained, and while that is not well.
    pub(crate) fn load(&self, quote: Quote) -> Load {
        let is_shut = self.config.backend.is_drained() || self.problem().is_some();
        let places = self.places.available_permits();
        let slots = self.slots.available_permits().min(places);
        let (free_slots, wait_ms) = match (is_shut || places == 0, slots) {
            (true, _) => (0, None),
            (false, 0) => {
                let ms = self.retry_after().as_millis();
                (0, Some(u32::try_from(ms).unwrap_or(u32::MAX)))
            }
            (false, slots) => (u16::try_from(slots).unwrap_or(u16::MAX), Some(0)),
        };
        Load {
            model: self.model.into(),
            free_slots,
            wait_ms,
            token: quote.token.into(),
            rates: quote.rates,
        }
    }

    /// An answer took so long.
    pub(crate) fn took(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mean = self.mean_ms.load(Ordering::Relaxed);
        let mean = mean.saturating_mul(MEAN_WEIGHT - 1).saturating_add(ms) / MEAN_WEIGHT;
        self.mean_ms.store(mean, Ordering::Relaxed);
    }

    /// Why the backend is not well, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        self.held().clone()
    }

    /// Asks the backend how it does.
    pub(crate) async fn ask(&self) -> Result<(), BackendError> {
        let asked = self.config.backend.check().await;
        match &asked {
            Ok(()) => self.is_well(),
            Err(error) => self.is_unwell(error),
        }
        asked
    }

    /// The backend took a request, or was asked how it does.
    pub(crate) fn is_well(&self) {
        *self.held() = None;
    }

    /// The backend did not take a request, or did not answer for its health.
    /// To be busy, or to find fault with a request, is no illness.
    pub(crate) fn is_unwell(&self, error: &BackendError) {
        if matches!(
            error,
            BackendError::Busy { .. } | BackendError::Request { .. }
        ) {
            self.is_well();
            return;
        }
        let text = error.to_string();
        let mut problem = self.held();
        if problem.as_ref() != Some(&text) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            warn!(model = self.config.name, problem = text, cause, "backend");
        }
        *problem = Some(text);
    }

    fn held(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
