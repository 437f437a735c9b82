//! The ciphers: all that this crate knows of `ohttp`.
//!
//! `ohttp` reads and writes asynchronously. Here both ends are buffers in
//! memory, a chunk is put in only when it is whole, and so nothing ever
//! waits: whatever is not ready at once is an error.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use futures_io::{AsyncRead, AsyncWrite};
use ohttp::{ClientRequest, KeyConfig, Server};
use zeroize::Zeroizing;

use crate::frame::TAG_BYTES;

// `ohttp` writes the keys that it derives to `log` at the level of traces.
// The workspace compiles that level out; without this it would not build.
const _: () = assert!(
    (log::STATIC_MAX_LEVEL as usize) < (log::LevelFilter::Trace as usize),
    "keys would be logged: the workspace must set max_level_debug on `log`"
);

/// A chunk or a key that is not what it should be. There is no more to say:
/// ciphers do not tell why.
#[derive(Debug)]
pub(crate) struct Rejected;

/// Encrypts chunk by chunk.
pub(crate) struct ChunkWriter {
    cipher: Pin<Box<dyn AsyncWrite + Send + Sync>>,
    pipe: Pipe,
}

/// Decrypts chunk by chunk.
pub(crate) struct ChunkReader {
    cipher: Pin<Box<dyn AsyncRead + Send + Sync>>,
    pipe: Pipe,
    plaintext: Zeroizing<Vec<u8>>,
}

/// Both directions of a request sealed to this key: the request's chunks, and
/// the response's.
pub(crate) fn seal_to(key: &KeyConfig) -> Result<(ChunkWriter, ChunkReader), io::Error> {
    let (out, into) = (Pipe::default(), Pipe::default());
    let client = ClientRequest::from_config(&mut key.clone()).map_err(io::Error::other)?;
    let request = client
        .encapsulate_stream(out.clone())
        .map_err(io::Error::other)?;
    let response = request.response(into.clone()).map_err(io::Error::other)?;
    let writer = ChunkWriter {
        cipher: Box::pin(request),
        pipe: out,
    };
    Ok((writer, ChunkReader::new(response, into)))
}

/// Both directions of a request that begins with `front`: header,
/// encapsulated key and first chunk. The first cell is then in the reader.
///
/// Here is the work with the private key.
pub(crate) fn open_with(
    key: &KeyConfig,
    front: &[u8],
    cell_bytes: usize,
) -> Result<(ChunkReader, ChunkWriter), Rejected> {
    let (into, out) = (Pipe::default(), Pipe::default());
    let server = Server::new(key.clone()).map_err(|_| Rejected)?;
    let mut request = server.decapsulate_stream(into.clone());
    into.put(front);
    let mut plaintext = Zeroizing::new(Vec::new());
    read_chunk(Pin::new(&mut request), &into, &mut plaintext, cell_bytes)?;
    let response = request.response(out.clone()).map_err(|_| Rejected)?;
    let reader = ChunkReader {
        cipher: Box::pin(request),
        pipe: into,
        plaintext,
    };
    let writer = ChunkWriter {
        cipher: Box::pin(response),
        pipe: out,
    };
    Ok((reader, writer))
}

impl ChunkWriter {
    /// Encrypts one cell into one chunk.
    pub(crate) fn write(&mut self, cell: &[u8]) -> Result<(), io::Error> {
        let mut context = Context::from_waker(Waker::noop());
        match self.cipher.as_mut().poll_write(&mut context, cell) {
            Poll::Ready(Ok(written)) if written == cell.len() => Ok(()),
            Poll::Ready(Err(source)) => Err(source),
            Poll::Ready(Ok(_)) | Poll::Pending => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Writes the last chunk.
    pub(crate) fn close(&mut self) -> Result<(), io::Error> {
        let mut context = Context::from_waker(Waker::noop());
        match self.cipher.as_mut().poll_close(&mut context) {
            Poll::Ready(closed) => closed,
            Poll::Pending => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Makes room for so many bytes at once.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.pipe.lock().bytes.reserve(bytes);
    }

    /// Takes what was written.
    pub(crate) fn take(&mut self) -> Bytes {
        self.pipe.lock().bytes.split().freeze()
    }
}

impl ChunkReader {
    fn new(cipher: impl AsyncRead + Send + Sync + 'static, pipe: Pipe) -> Self {
        Self {
            cipher: Box::pin(cipher),
            pipe,
            plaintext: Zeroizing::new(Vec::new()),
        }
    }

    /// Puts in what stands before the first chunk.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.pipe.put(bytes);
    }

    /// Decrypts a whole chunk.
    pub(crate) fn open(&mut self, frame: &[u8], cell_bytes: usize) -> Result<&[u8], Rejected> {
        self.pipe.put(frame);
        let cipher = self.cipher.as_mut();
        read_chunk(cipher, &self.pipe, &mut self.plaintext, cell_bytes)?;
        Ok(self.cell())
    }

    /// The cell that was opened last.
    pub(crate) fn cell(&self) -> &[u8] {
        let cell_bytes = self.plaintext.len().saturating_sub(TAG_BYTES);
        &self.plaintext[..cell_bytes]
    }

    /// Checks the last chunk.
    pub(crate) fn end(&mut self, frame: &[u8]) -> Result<(), Rejected> {
        self.pipe.put(frame);
        self.pipe.lock().is_whole = true;
        let mut context = Context::from_waker(Waker::noop());
        let mut nothing = [0; TAG_BYTES];
        match self.cipher.as_mut().poll_read(&mut context, &mut nothing) {
            Poll::Ready(Ok(0)) if self.pipe.is_drained() => Ok(()),
            _ => Err(Rejected),
        }
    }
}

/// Reads exactly one cell into the front of `plaintext`.
fn read_chunk(
    cipher: Pin<&mut (impl AsyncRead + ?Sized)>,
    pipe: &Pipe,
    plaintext: &mut Vec<u8>,
    cell_bytes: usize,
) -> Result<(), Rejected> {
    // With room for the ciphertext `ohttp` decrypts in place and yields one chunk at a time.
    plaintext.resize(cell_bytes + TAG_BYTES, 0);
    let mut context = Context::from_waker(Waker::noop());
    match cipher.poll_read(&mut context, plaintext) {
        Poll::Ready(Ok(read)) if read == cell_bytes && pipe.is_drained() => Ok(()),
        _ => Err(Rejected),
    }
}

/// A buffer with two ends.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Buffer>>);

#[derive(Default)]
struct Buffer {
    bytes: BytesMut,
    /// Nothing will come any more.
    is_whole: bool,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, bytes: &[u8]) {
        self.lock().bytes.extend_from_slice(bytes);
    }

    fn is_drained(&self) -> bool {
        self.lock().bytes.is_empty()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = self.lock();
        let bytes = into.len().min(buffer.bytes.len());
        if bytes == 0 && !buffer.is_whole {
            return Poll::Pending;
        }
        buffer.bytes.copy_to_slice(&mut into[..bytes]);
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.put(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
