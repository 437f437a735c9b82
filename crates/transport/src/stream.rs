//! A stream of messages, its frames and its two halves.
//!
//! Each direction starts with one byte, [`VERSION`]; then come frames: four
//! bytes of length, big-endian, and that many bytes of postcard. A length
//! above [`MAX_MESSAGE_BYTES`] is refused before anything is set aside for
//! it, and memory grows only with bytes that really came.
//!
//! A direction ends well only by [`SendHalf::finish`]. A half that is dropped
//! before its end tells the peer so at once: that is how either side leaves.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::memory::{MemoryReader, MemoryWriter};
use crate::message::{MAX_MESSAGE_BYTES, VERSION};
use crate::quic::{QuicReader, QuicWriter};

/// The bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// A stream to or from a peer; its halves may live in two tasks.
#[derive(Debug)]
pub struct Stream {
    /// What this side says.
    pub send: SendHalf,
    /// What the peer says.
    pub receive: ReceiveHalf,
}

/// The sending half. Dropped before [`SendHalf::finish`], it tells the peer
/// that the rest will not come.
#[derive(Debug)]
pub struct SendHalf {
    pipe: Writer,
    state: Sending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// The version byte is still to be written.
    New,
    Open,
    /// A write is on its way; still so when the next begins, it was cancelled.
    Midway,
    Finished,
}

#[derive(Debug)]
enum Writer {
    Quic(QuicWriter),
    Memory(MemoryWriter),
}

/// The receiving half. Dropped, it tells the peer to stop sending.
#[derive(Debug)]
pub struct ReceiveHalf {
    pipe: Reader,
    buffer: BytesMut,
    version_seen: bool,
}

#[derive(Debug)]
enum Reader {
    Quic(QuicReader),
    Memory(MemoryReader),
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The peer would refuse it.
    #[error("message of {size} bytes is too long (allowed: {limit})")]
    TooLong {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The message has no form on the wire.
    #[error("message cannot be encoded")]
    Encode {
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// The peer reads no more: it left.
    #[error("the peer left")]
    Left,
    /// The connection broke.
    #[error("connection lost")]
    Lost {
        /// How.
        #[source]
        source: io::Error,
    },
    /// The stream was finished, or an earlier send was cancelled midway.
    #[error("the stream takes no more messages")]
    Spent,
}

/// Why no message was received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The peer announces more than is allowed.
    #[error("message of {size} bytes announced (allowed: {limit})")]
    TooLong {
        /// What it announces.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The peer speaks another version.
    #[error("the peer speaks version {got} (spoken here: {spoken})")]
    Version {
        /// Its version.
        got: u8,
        /// Ours.
        spoken: u8,
    },
    /// The bytes are no message.
    #[error("malformed message of {size} bytes")]
    Malformed {
        /// How many.
        size: usize,
        /// Where they err.
        #[source]
        source: postcard::Error,
    },
    /// A message, and then some.
    #[error("{extra} bytes too many behind a message of {size}")]
    Trailing {
        /// How many are left over.
        extra: usize,
        /// How long the message is.
        size: usize,
    },
    /// The peer finished within a message.
    #[error("the stream ends within a message")]
    Truncated,
    /// The peer left before its end.
    #[error("the peer left")]
    Left,
    /// The connection broke.
    #[error("connection lost")]
    Lost {
        /// How.
        #[source]
        source: io::Error,
    },
    /// Nothing whole came in time.
    #[error("no message within {within:?}")]
    Late {
        /// How long was waited.
        within: Duration,
    },
}

/// How a pipe of either form ends, other than well.
#[derive(Debug)]
pub(crate) enum Broken {
    Left,
    Lost(io::Error),
}

impl Stream {
    pub(crate) fn quic(send: QuicWriter, receive: QuicReader) -> Self {
        Self::over(Writer::Quic(send), Reader::Quic(receive))
    }

    pub(crate) fn memory(send: MemoryWriter, receive: MemoryReader) -> Self {
        Self::over(Writer::Memory(send), Reader::Memory(receive))
    }

    fn over(send: Writer, receive: Reader) -> Self {
        Self {
            send: SendHalf {
                pipe: send,
                state: Sending::New,
            },
            receive: ReceiveHalf {
                pipe: receive,
                buffer: BytesMut::new(),
                version_seen: false,
            },
        }
    }
}

impl SendHalf {
    /// Sends one message; waits while the peer is slow to read. Cancelled
    /// midway it leaves the stream unfit for more.
    pub async fn send<T: Serialize + Sync>(&mut self, message: &T) -> Result<(), SendError> {
        self.send_many(core::slice::from_ref(message)).await
    }

    /// Sends messages that are ready together in one write.
    pub async fn send_many<T: Serialize + Sync>(
        &mut self,
        messages: &[T],
    ) -> Result<(), SendError> {
        let mut bytes = match self.state {
            Sending::New => vec![VERSION],
            Sending::Open => Vec::new(),
            Sending::Midway | Sending::Finished => return Err(SendError::Spent),
        };
        for message in messages {
            encode(message, &mut bytes)?;
        }
        self.write(bytes.into()).await
    }

    /// Ends this direction: the peer receives all that was sent, then `None`.
    pub async fn finish(&mut self) -> Result<(), SendError> {
        match self.state {
            Sending::Finished => return Ok(()),
            Sending::Midway => return Err(SendError::Spent),
            Sending::New | Sending::Open => {}
        }
        let ended = match &mut self.pipe {
            Writer::Quic(pipe) => pipe.finish(),
            Writer::Memory(pipe) => pipe.finish().await,
        };
        ended.map_err(SendError::from)?;
        self.state = Sending::Finished;
        Ok(())
    }

    /// Resolves when the peer reads no more: it dropped its half or the
    /// stream, or its connection is gone; after [`SendHalf::finish`] also when
    /// it has everything.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let (quic, memory) = match &self.pipe {
            Writer::Quic(pipe) => (Some(pipe.stopped()), None),
            Writer::Memory(pipe) => (None, Some(pipe.stopped())),
        };
        async move {
            match (quic, memory) {
                (Some(stopped), _) => stopped.await,
                (_, Some(stopped)) => stopped.await,
                (None, None) => {}
            }
        }
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), SendError> {
        self.state = Sending::Midway;
        match &mut self.pipe {
            Writer::Quic(pipe) => pipe.write(bytes).await,
            Writer::Memory(pipe) => pipe.write(&bytes).await,
        }?;
        self.state = Sending::Open;
        Ok(())
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if self.state == Sending::Finished {
            return;
        }
        match &mut self.pipe {
            Writer::Quic(pipe) => pipe.reset(),
            Writer::Memory(pipe) => pipe.reset(),
        }
    }
}

impl ReceiveHalf {
    /// The next message; `None` when the peer finished. Safe to cancel: what
    /// came so far is kept. After an error the stream is of no more use.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ReceiveError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return decode(&frame).map(Some);
            }
            if !self.fill().await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(ReceiveError::Truncated),
                };
            }
        }
    }

    /// As [`ReceiveHalf::receive`], but the message has to be whole `within`
    /// that time: for what a stranger says first.
    pub async fn receive_within<T: DeserializeOwned>(
        &mut self,
        within: Duration,
    ) -> Result<Option<T>, ReceiveError> {
        tokio::time::timeout(within, self.receive())
            .await
            .unwrap_or(Err(ReceiveError::Late { within }))
    }

    /// A whole frame's content, if it is there.
    fn take_frame(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        if !self.version_seen {
            match self.buffer.first() {
                None => return Ok(None),
                Some(&VERSION) => self.buffer.advance(1),
                Some(&got) => {
                    let spoken = VERSION;
                    return Err(ReceiveError::Version { got, spoken });
                }
            }
            self.version_seen = true;
        }
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let size = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if size > MAX_MESSAGE_BYTES {
            let limit = MAX_MESSAGE_BYTES;
            return Err(ReceiveError::TooLong { size, limit });
        }
        if self.buffer.len() < LENGTH_BYTES + size {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(size).freeze()))
    }

    /// What was received and not yet taken keeps this much memory.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Reads what there is; `false` at the end.
    async fn fill(&mut self) -> Result<bool, ReceiveError> {
        let filled = match &mut self.pipe {
            Reader::Quic(pipe) => pipe.read(&mut self.buffer).await,
            Reader::Memory(pipe) => pipe.read(&mut self.buffer).await,
        };
        Ok(filled?)
    }
}

impl From<Broken> for SendError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Left => Self::Left,
            Broken::Lost(source) => Self::Lost { source },
        }
    }
}

impl From<Broken> for ReceiveError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Left => Self::Left,
            Broken::Lost(source) => Self::Lost { source },
        }
    }
}

fn encode<T: Serialize>(message: &T, bytes: &mut Vec<u8>) -> Result<(), SendError> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; LENGTH_BYTES]);
    postcard::to_io(message, &mut *bytes).map_err(|source| SendError::Encode { source })?;
    let size = bytes.len() - start - LENGTH_BYTES;
    let limit = MAX_MESSAGE_BYTES;
    let length = u32::try_from(size).ok().filter(|_| size <= limit);
    let Some(length) = length else {
        return Err(SendError::TooLong { size, limit });
    };
    bytes[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn decode<T: DeserializeOwned>(frame: &Bytes) -> Result<T, ReceiveError> {
    let (message, rest) =
        postcard::take_from_bytes(frame).map_err(|source| ReceiveError::Malformed {
            size: frame.len(),
            source,
        })?;
    if !rest.is_empty() {
        return Err(ReceiveError::Trailing {
            extra: rest.len(),
            size: frame.len() - rest.len(),
        });
    }
    Ok(message)
}
