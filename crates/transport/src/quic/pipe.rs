//! The two ends of a QUIC stream, in the words of [`crate::stream`].

use std::future::Future;
use std::io;

use bytes::{Bytes, BytesMut};
use iroh::endpoint::{ReadError, RecvStream, SendStream, WriteError};

use super::{CODE_LEFT, InUse};
use crate::stream::Broken;

/// The most taken from the connection in one read.
const READ_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct QuicWriter {
    stream: SendStream,
    _in_use: InUse,
}

#[derive(Debug)]
pub(crate) struct QuicReader {
    stream: RecvStream,
    _in_use: InUse,
}

impl QuicWriter {
    pub(super) fn new(stream: SendStream, in_use: InUse) -> Self {
        Self {
            stream,
            _in_use: in_use,
        }
    }

    /// Hands `bytes` to the connection, which sends at once what it may.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), Broken> {
        self.stream
            .write_chunk(bytes)
            .await
            .map_err(|error| match error {
                WriteError::Stopped(_) => Broken::Left,
                other => Broken::Lost(io::Error::from(other)),
            })
    }

    pub(crate) fn finish(&mut self) -> Result<(), Broken> {
        self.stream
            .finish()
            .map_err(|closed| Broken::Lost(io::Error::from(closed)))
    }

    pub(crate) fn reset(&mut self) {
        // Closed already: then the peer knows.
        let _ = self.stream.reset(CODE_LEFT);
    }

    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.stream.stopped();
        async move {
            // Stopped, all read, or the connection lost: the peer is not there to read.
            let _ = stopped.await;
        }
    }
}

impl QuicReader {
    pub(super) fn new(stream: RecvStream, in_use: InUse) -> Self {
        Self {
            stream,
            _in_use: in_use,
        }
    }

    /// Appends what there is to `buffer`; `false` at the end.
    pub(crate) async fn read(&mut self, buffer: &mut BytesMut) -> Result<bool, Broken> {
        match self.stream.read_chunk(READ_BYTES).await {
            Ok(Some(chunk)) => {
                buffer.extend_from_slice(&chunk);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(ReadError::Reset(_)) => Err(Broken::Left),
            Err(other) => Err(Broken::Lost(io::Error::from(other))),
        }
    }
}

impl Drop for QuicReader {
    fn drop(&mut self) {
        // Read to its end already: then there is nothing to stop.
        let _ = self.stream.stop(CODE_LEFT);
    }
}
