//! A stream of messages, its frames and its two halves.
//!
//! Each direction starts with one byte, [`VERSION`]; then come frames: four
//! bytes of length, big-endian, and that many bytes of postcard. A length
//! above [`MAX_MESSAGE_BYTES`] is refused before anything is set aside for
//! it, and memory grows only with bytes that really came.
//!
//! A direction ends well only by [`SendHalf::finish`]. A half that is dropped
//! before its end tells the peer so at once: that is how either side leaves.
//!
//! From [`Stream::seal`] or [`Stream::unseal`] on, the frames travel in sealed
//! cells ([`seal`]); from [`Stream::through`] on, the other end is the node
//! behind the relay, and everything begins anew with the version's byte.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use market::NodeId;
use seal::{OpenError, Pacing, RequestOpener, RequestSealer, ResponseOpener, SealError, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::memory::{MemoryReader, MemoryWriter};
use crate::message::{FromRelay, Hello, MAX_MESSAGE_BYTES, RelayRefusal, VERSION};
use crate::paced::Paced;
use crate::quic::{QuicReader, QuicWriter};
use crate::sealed::{Opener, Sealed, Sealer};

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
    /// Frames that go out with the next message.
    queued: Vec<u8>,
    sealer: Option<Sealer>,
    /// How it is to go on behind the request's opening.
    pacing: Pacing,
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

/// Where bytes go.
#[derive(Debug)]
pub(crate) enum Writer {
    Quic(QuicWriter),
    Memory(MemoryWriter),
    /// To a task that has the pipe, and beats.
    Paced(Paced),
}

/// The receiving half. Dropped, it tells the peer to stop sending.
#[derive(Debug)]
pub struct ReceiveHalf {
    pipe: Reader,
    /// What came and was not taken yet.
    buffer: BytesMut,
    version_seen: bool,
    /// So many frames that come next are relays' answers.
    relays: u8,
    /// Relays that carry.
    hops: u8,
    sealed: Option<Box<Sealed>>,
    /// The longest frame that is taken.
    limit: usize,
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
    /// The message cannot be sealed.
    #[error("message cannot be sealed")]
    Seal(#[from] SealError),
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
    /// The relay in between does not carry on.
    #[error("the relay does not carry the request: {0}")]
    Relay(RelayRefusal),
    /// The relay behind the first one does not carry on.
    #[error("the relay at which the provider waits does not carry the request: {0}")]
    Behind(RelayRefusal),
    /// A relay that says something else than whether it carries.
    #[error("the relay spoke out of turn")]
    RelayOutOfTurn,
    /// What came is not what the peer sealed, or not all of it.
    #[error("the sealed stream does not hold")]
    Seal(#[from] OpenError),
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
                queued: Vec::new(),
                sealer: None,
                pacing: Pacing::Fast,
            },
            receive: ReceiveHalf {
                pipe: receive,
                buffer: BytesMut::new(),
                version_seen: false,
                relays: 0,
                hops: 0,
                sealed: None,
                limit: MAX_MESSAGE_BYTES,
            },
        }
    }

    /// Asks the relay at the other end to carry on to `to`; from now on the
    /// other end is that node, which may be a relay again. Goes out with the next message; whether the
    /// relay carries is learned at the first [`ReceiveHalf::receive`].
    pub fn through(&mut self, to: NodeId) -> Result<(), SendError> {
        self.send.queue(&Hello::Relay { to })?;
        self.send.state = Sending::New;
        self.receive.relays = self.receive.relays.saturating_add(1);
        Ok(())
    }

    /// Seals all that follows, both ways, as the one who asks.
    pub fn seal(
        &mut self,
        token: Option<Token>,
        (request, response): (RequestSealer, ResponseOpener),
    ) -> Result<(), SendError> {
        self.send.queue(&Hello::Sealed { token })?;
        self.send.pacing = request.pacing();
        self.send.sealer = Some(Sealer::request(request));
        self.receive.sealed = Some(Box::new(Sealed::new(Opener::Response(response))));
        Ok(())
    }

    /// Opens what follows as the one who is asked. What is said back is sealed
    /// from the first message on that was received.
    pub fn unseal(&mut self, opener: RequestOpener) {
        self.receive.sealed = Some(Box::new(Sealed::new(Opener::Request(opener))));
    }

    /// Seals what is said back; good once a message was received.
    pub fn respond(&mut self) -> Result<(), SendError> {
        let sealed = self.receive.sealed.as_mut();
        let sealer = sealed.and_then(|sealed| sealed.respond());
        let (sealer, pacing) = sealer.ok_or(SendError::Spent)?;
        self.send.sealer = Some(sealer);
        match pacing {
            Pacing::Fast => Ok(()),
            Pacing::Paced => self.send.pace(),
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
        self.send_many_in(messages, 0).await
    }

    /// The same, sealed in no fewer cells than `room` bytes more would take:
    /// what is shorter by up to so much looks the same.
    pub async fn send_many_in<T: Serialize + Sync>(
        &mut self,
        messages: &[T],
        room: usize,
    ) -> Result<(), SendError> {
        let mut frames = Vec::new();
        for message in messages {
            encode(message, &mut frames)?;
        }
        let mut bytes = self.begun()?;
        if let Writer::Paced(paced) = &mut self.pipe {
            return paced.say(frames).await;
        }
        match &mut self.sealer {
            Some(sealer) => bytes.extend_from_slice(&sealer.data_in(&frames, room)?),
            None if bytes.is_empty() => bytes = frames,
            None => bytes.append(&mut frames),
        }
        self.write(bytes.into()).await?;
        match (self.pacing, &self.sealer) {
            // The opening is out; what follows is on the beat.
            (Pacing::Paced, Some(_)) => self.pace(),
            _ => Ok(()),
        }
    }

    /// From now on cells go out at a steady beat, whatever is said.
    fn pace(&mut self) -> Result<(), SendError> {
        let front = self.begun()?;
        let sealer = self.sealer.take().ok_or(SendError::Spent)?;
        self.state = Sending::Open;
        let (paced, beginning) = Paced::new();
        let pipe = std::mem::replace(&mut self.pipe, Writer::Paced(paced));
        if let Writer::Paced(paced) = &mut self.pipe {
            paced.start(beginning, pipe, sealer, front);
        }
        Ok(())
    }

    /// Says that this side is there and has nothing to say yet; only on a
    /// stream whose answers are sealed.
    pub async fn keep_alive(&mut self) -> Result<(), SendError> {
        let mut bytes = self.begun()?;
        if let Writer::Paced(paced) = &mut self.pipe {
            return paced.is_alive().await;
        }
        let Some(sealer) = &mut self.sealer else {
            return Ok(());
        };
        bytes.extend_from_slice(&sealer.keep_alive()?);
        self.write(bytes.into()).await
    }

    /// What goes out before the next message.
    fn begun(&mut self) -> Result<Vec<u8>, SendError> {
        let mut bytes = std::mem::take(&mut self.queued);
        match self.state {
            Sending::New => bytes.push(VERSION),
            Sending::Open => {}
            Sending::Midway | Sending::Finished => return Err(SendError::Spent),
        }
        Ok(bytes)
    }

    /// Leaves a message to go out with the next one.
    fn queue<T: Serialize>(&mut self, message: &T) -> Result<(), SendError> {
        let mut bytes = self.begun()?;
        encode(message, &mut bytes)?;
        self.queued = bytes;
        self.state = Sending::Open;
        Ok(())
    }

    /// Ends this direction: the peer receives all that was sent, then `None`.
    pub async fn finish(&mut self) -> Result<(), SendError> {
        match self.state {
            Sending::Finished => return Ok(()),
            Sending::Midway => return Err(SendError::Spent),
            Sending::New | Sending::Open => {}
        }
        if let Some(sealer) = &mut self.sealer {
            let end = sealer.end()?;
            let mut bytes = self.begun()?;
            bytes.extend_from_slice(&end);
            self.write(bytes.into()).await?;
        }
        self.finish_raw().await
    }

    /// Ends this direction of the bytes, whatever they mean.
    pub(crate) async fn finish_raw(&mut self) -> Result<(), SendError> {
        self.pipe.finish().await?;
        self.state = Sending::Finished;
        Ok(())
    }

    /// Resolves when the peer reads no more: it dropped its half or the
    /// stream, or its connection is gone; after [`SendHalf::finish`] also when
    /// it has everything.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.pipe.stopped()
    }

    /// Sends bytes as they are: framed, and perhaps sealed, by somebody before.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), SendError> {
        self.state = Sending::Midway;
        self.pipe.write(bytes).await?;
        self.state = Sending::Open;
        Ok(())
    }
}

impl Writer {
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), SendError> {
        match self {
            Self::Quic(pipe) => pipe.write(bytes).await?,
            Self::Memory(pipe) => pipe.write(&bytes).await?,
            Self::Paced(_) => return Err(SendError::Spent),
        }
        Ok(())
    }

    pub(crate) async fn finish(&mut self) -> Result<(), SendError> {
        match self {
            Self::Quic(pipe) => pipe.finish()?,
            Self::Memory(pipe) => pipe.finish().await?,
            Self::Paced(paced) => paced.finish().await?,
        }
        Ok(())
    }

    pub(crate) fn reset(&mut self) {
        match self {
            Self::Quic(pipe) => pipe.reset(),
            Self::Memory(pipe) => pipe.reset(),
            // Its task resets the pipe when it is dropped.
            Self::Paced(_) => {}
        }
    }

    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let (quic, memory, paced) = match self {
            Self::Quic(pipe) => (Some(pipe.stopped()), None, None),
            Self::Memory(pipe) => (None, Some(pipe.stopped()), None),
            Self::Paced(paced) => (None, None, Some(paced.stopped())),
        };
        async move {
            match (quic, memory, paced) {
                (Some(stopped), _, _) => stopped.await,
                (_, Some(stopped), _) => stopped.await,
                (_, _, Some(stopped)) => stopped.await,
                (None, None, None) => {}
            }
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if self.state == Sending::Finished {
            return;
        }
        self.pipe.reset();
    }
}

impl ReceiveHalf {
    /// The next message; `None` when the peer finished. Safe to cancel: what
    /// came so far is kept. After an error the stream is of no more use.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ReceiveError> {
        self.pass_relay().await?;
        loop {
            if let Some(frame) = self.take_frame()? {
                return decode(&frame).map(Some);
            }
            if !self.fill().await? {
                return self.ended().map(|()| None);
            }
        }
    }

    /// As [`ReceiveHalf::receive`], but a sealed peer of which not even a sign
    /// of life is heard for `silence` counts as gone.
    pub async fn receive_alive<T: DeserializeOwned>(
        &mut self,
        silence: Duration,
    ) -> Result<Option<T>, ReceiveError> {
        let mut cells = self.cells();
        let mut deadline = Instant::now() + silence;
        loop {
            match timeout_at(deadline, self.receive_some()).await {
                Ok(Ok(Some(frame))) => return decode(&frame).map(Some),
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(Waiting::Failed(error))) => return Err(error),
                Ok(Err(Waiting::More)) => {}
                Err(_) => return Err(ReceiveError::Late { within: silence }),
            }
            if self.cells() != cells {
                cells = self.cells();
                deadline = Instant::now() + silence;
            }
        }
    }

    /// A frame if it is there, else whatever comes next of it.
    async fn receive_some(&mut self) -> Result<Option<Bytes>, Waiting> {
        self.pass_relay().await?;
        if let Some(frame) = self.take_frame()? {
            return Ok(Some(frame));
        }
        if !self.fill().await? {
            self.ended()?;
            return Ok(None);
        }
        match self.take_frame()? {
            Some(frame) => Ok(Some(frame)),
            None => Err(Waiting::More),
        }
    }

    /// Sealed cells that came so far.
    fn cells(&self) -> u64 {
        self.sealed.as_ref().map_or(0, |sealed| sealed.cells())
    }

    /// The hash of a sealed request's encapsulated key, as soon as it is
    /// there: nothing was opened for it.
    pub async fn encapsulated(&mut self) -> Result<[u8; 32], ReceiveError> {
        loop {
            self.push_sealed()?;
            if let Some(hash) = self
                .sealed
                .as_ref()
                .and_then(|sealed| sealed.encapsulated())
            {
                return Ok(hash);
            }
            if !self.fill().await? {
                return Err(ReceiveError::Truncated);
            }
        }
    }

    /// Waits for each relay's word that it carries.
    async fn pass_relay(&mut self) -> Result<(), ReceiveError> {
        while self.relays > 0 {
            if let Some(frame) = self.take_plain_frame()? {
                match decode::<FromRelay>(&frame)? {
                    FromRelay::Carrying => {}
                    FromRelay::Refused(refusal) if self.hops == 0 => {
                        return Err(ReceiveError::Relay(refusal));
                    }
                    FromRelay::Refused(refusal) => return Err(ReceiveError::Behind(refusal)),
                    _ => return Err(ReceiveError::RelayOutOfTurn),
                }
                self.relays -= 1;
                self.hops += 1;
                self.version_seen = false;
            } else if !self.fill().await? {
                return Err(ReceiveError::Truncated);
            }
        }
        Ok(())
    }

    /// The peer finished: well, if nothing is missing.
    fn ended(&mut self) -> Result<(), ReceiveError> {
        let rest = match &mut self.sealed {
            Some(sealed) => sealed.ended()?,
            None => !self.buffer.is_empty(),
        };
        match rest {
            true => Err(ReceiveError::Truncated),
            false => Ok(()),
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

    /// From now on takes no message of more than `bytes`.
    pub fn limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// A whole frame's content, if it is there.
    fn take_frame(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        if self.sealed.is_none() {
            return self.take_plain_frame();
        }
        self.push_sealed()?;
        match &mut self.sealed {
            Some(sealed) => cut_frame(sealed.open()?, self.limit),
            None => Ok(None),
        }
    }

    fn take_plain_frame(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        take_frame(&mut self.buffer, &mut self.version_seen, self.limit)
    }

    /// Gives all that came to the opener.
    fn push_sealed(&mut self) -> Result<(), ReceiveError> {
        if version_in(&mut self.buffer, &mut self.version_seen)?
            && let Some(sealed) = &mut self.sealed
        {
            sealed.push(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// What came and was not taken, as it came.
    pub(crate) fn take_buffered(&mut self) -> BytesMut {
        self.buffer.split()
    }

    /// Appends what comes next, as it comes; `false` at the end.
    pub(crate) async fn read_raw(&mut self, bytes: &mut BytesMut) -> Result<bool, ReceiveError> {
        let read = match &mut self.pipe {
            Reader::Quic(pipe) => pipe.read(bytes).await,
            Reader::Memory(pipe) => pipe.read(bytes).await,
        };
        Ok(read?)
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

/// Why there is no frame yet.
enum Waiting {
    /// More came, but not all.
    More,
    Failed(ReceiveError),
}

impl From<ReceiveError> for Waiting {
    fn from(error: ReceiveError) -> Self {
        Self::Failed(error)
    }
}

/// A whole frame's content, if it is there.
fn cut_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, ReceiveError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let size = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if size > limit {
        return Err(ReceiveError::TooLong { size, limit });
    }
    if buffer.len() < LENGTH_BYTES + size {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(size).freeze()))
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

/// The messages of one direction, recorded from its beginning, as
/// [`ReceiveHalf::receive`] would yield them: for tests, and for looking into
/// what came.
pub fn messages_in<T: DeserializeOwned>(direction: &[u8]) -> Result<Vec<T>, ReceiveError> {
    let mut buffer = BytesMut::from(direction);
    let mut version_seen = false;
    let mut messages = Vec::new();
    while let Some(frame) = take_frame(&mut buffer, &mut version_seen, MAX_MESSAGE_BYTES)? {
        messages.push(decode(&frame)?);
    }
    match buffer.is_empty() {
        true => Ok(messages),
        false => Err(ReceiveError::Truncated),
    }
}

/// A whole frame's content, if it is there, behind the version's byte.
fn take_frame(
    buffer: &mut BytesMut,
    version_seen: &mut bool,
    limit: usize,
) -> Result<Option<Bytes>, ReceiveError> {
    match version_in(buffer, version_seen)? {
        true => cut_frame(buffer, limit),
        false => Ok(None),
    }
}

/// Whether the peer's version was seen, and is ours.
fn version_in(buffer: &mut BytesMut, seen: &mut bool) -> Result<bool, ReceiveError> {
    if !*seen {
        match buffer.first() {
            None => return Ok(false),
            Some(&VERSION) => buffer.advance(1),
            Some(&got) => {
                let spoken = VERSION;
                return Err(ReceiveError::Version { got, spoken });
            }
        }
        *seen = true;
    }
    Ok(true)
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
