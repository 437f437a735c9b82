//! A request's body, read within limits of size, time and memory.
//!
//! A body that is too long is refused by its announced length, before a byte
//! of it is read; one that lies about it, once it passes the limit. Who sends
//! too slowly is cut off: a slow body holds memory and a connection.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::fault::Fault;
use crate::settings::Limits;

/// Memory is counted in units of this many bytes.
const UNIT: usize = 1024;

/// The memory for all bodies together.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            (bytes / UNIT).min(Semaphore::MAX_PERMITS),
        )))
    }

    /// A place that grows with the body in it.
    fn place(&self) -> Result<Place, Fault> {
        let permit = Arc::clone(&self.0)
            .try_acquire_many_owned(0)
            .map_err(|_| no_room())?;
        Ok(Place {
            room: Arc::clone(&self.0),
            permit,
            bytes: 0,
        })
    }
}

fn no_room() -> Fault {
    Fault::overloaded("no memory is left for another request of this size; try again shortly")
}

/// The memory that one body takes; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
    bytes: usize,
}

impl Place {
    fn grow(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes;
        let needed = self
            .bytes
            .div_ceil(UNIT)
            .saturating_sub(self.permit.num_permits());
        let needed = u32::try_from(needed).map_err(|_| no_room())?;
        let more = Arc::clone(&self.room).try_acquire_many_owned(needed);
        self.permit.merge(more.map_err(|_| no_room())?);
        Ok(())
    }
}

/// Reads a body whole, or says why not.
pub(crate) async fn read(
    body: Body,
    room: &Room,
    limits: &Limits,
) -> Result<(Bytes, Place), Fault> {
    let announced = body.size_hint().lower();
    if announced > limits.body_bytes as u64 {
        return Err(too_long(limits));
    }
    let mut body = body;
    let mut place = room.place()?;
    let mut whole = BytesMut::new();
    let begun = Instant::now();
    loop {
        let allowed = whole.len() as f64 / f64::from(limits.body_bytes_per_s.max(1));
        let deadline = begun + limits.body_time + Duration::from_secs_f64(allowed);
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(too_slow(limits, whole.len())),
            Ok(None) => return Ok((whole.freeze(), place)),
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers mean nothing here.
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > limits.body_bytes {
                return Err(too_long(limits));
            }
            place.grow(data.len())?;
            whole.extend_from_slice(&data);
        }
    }
}

fn too_long(limits: &Limits) -> Fault {
    let message = format!(
        "body: longer than {} bytes, which is the limit here; send a shorter conversation",
        limits.body_bytes
    );
    Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn too_slow(limits: &Limits, received: usize) -> Fault {
    let message = format!(
        "body: only {received} bytes came in time; after {} s at least {} bytes a second are needed",
        limits.body_time.as_secs_f64(),
        limits.body_bytes_per_s
    );
    Fault::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
}

fn broken(error: &axum::Error) -> Fault {
    Fault::new(
        StatusCode::BAD_REQUEST,
        "body_broken",
        format!("body: it cannot be read: {error}; send it again"),
    )
}
