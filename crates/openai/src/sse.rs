//! Server-sent events, read piece by piece and written whole.
//!
//! The reader follows the WHATWG rules: lines end with LF, CR or CRLF, a
//! blank line ends an event, a colon starts a comment, a leading byte order
//! mark is nothing. Unlike a browser it notices when the input ends within an
//! event: half an answer must never look like a whole one.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest event, and the longest line, that is read.
pub const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// The event that ends a good stream.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// The data of that event.
pub const DONE_DATA: &[u8] = b"[DONE]";

/// A comment that keeps proxies and clients from giving up on a quiet stream.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its `event:` field, if it has one.
    pub name: Option<Bytes>,
    /// Its `data:` lines, joined by line feeds.
    pub data: Bytes,
}

impl Event {
    /// Whether it says that the stream ended well.
    pub fn is_done(&self) -> bool {
        self.data.trim_ascii() == DONE_DATA
    }
}

/// Why a stream of events cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// An event or a line does not end.
    #[error("an event is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The input ended within an event.
    #[error("the stream ended within an event, after {bytes} bytes of it")]
    Truncated {
        /// How much of the event was there.
        bytes: usize,
    },
}

/// Turns pieces of input, cut anywhere, into events.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// Input that is not yet a whole line.
    buffer: BytesMut,
    /// So much of the buffer is known to hold no line end.
    searched: usize,
    /// The last line ended with CR: a LF right after it belongs to it.
    after_cr: bool,
    /// Nothing was read yet: a byte order mark may come.
    at_start: bool,
    name: Option<Bytes>,
    data: Data,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    /// The usual case; no copy.
    One(Bytes),
    Many(BytesMut),
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limit(MAX_EVENT_BYTES)
    }
}

impl Decoder {
    /// A decoder for one stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with another limit than [`MAX_EVENT_BYTES`].
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
            searched: 0,
            after_cr: false,
            at_start: true,
            name: None,
            data: Data::None,
        }
    }

    /// Takes a piece of input. Call [`Self::next`] until there is none before the next piece.
    pub fn push(&mut self, input: &[u8]) {
        self.buffer.extend_from_slice(input);
    }

    /// The next whole event; none until more input comes. An error is final.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator cannot go on after none"
    )]
    pub fn next(&mut self) -> Result<Option<Event>, SseError> {
        while let Some(line) = self.line() {
            if self.pending() + line.len() > self.limit {
                return Err(SseError::TooLong { limit: self.limit });
            }
            if !line.is_empty() {
                self.field(line);
            } else if let Some(event) = self.dispatch() {
                return Ok(Some(event));
            }
        }
        if self.pending() + self.buffer.len() > self.limit {
            return Err(SseError::TooLong { limit: self.limit });
        }
        Ok(None)
    }

    /// The input has ended. An error if it ended within an event.
    pub fn finish(self) -> Result<(), SseError> {
        let comment = self.buffer.first().is_none_or(|first| *first == b':');
        let lone_lf = self.after_cr && &self.buffer[..] == b"\n";
        let lone_bom = self.at_start && &self.buffer[..] == BOM;
        if matches!(self.data, Data::None) && (comment || lone_lf || lone_bom) {
            return Ok(());
        }
        Err(SseError::Truncated {
            bytes: self.pending() + self.buffer.len(),
        })
    }

    /// Bytes of the event that is being put together.
    fn pending(&self) -> usize {
        let data = match &self.data {
            Data::None => 0,
            Data::One(data) => data.len(),
            Data::Many(data) => data.len(),
        };
        data + self.name.as_ref().map_or(0, Bytes::len)
    }

    /// Takes a whole line off the buffer, without its end.
    fn line(&mut self) -> Option<Bytes> {
        if self.after_cr && !self.buffer.is_empty() {
            self.after_cr = false;
            if self.buffer[0] == b'\n' {
                self.buffer.advance(1);
            }
        }
        let Some(found) = memchr::memchr2(b'\n', b'\r', &self.buffer[self.searched..]) else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.searched + found).freeze();
        self.searched = 0;
        self.after_cr = self.buffer.get_u8() == b'\r';
        if std::mem::take(&mut self.at_start) && line.starts_with(BOM) {
            line.advance(BOM.len());
        }
        Some(line)
    }

    fn field(&mut self, line: Bytes) {
        let colon = memchr::memchr(b':', &line).unwrap_or(line.len());
        let after = line.get(colon + 1..).unwrap_or_default();
        let space = usize::from(after.first() == Some(&b' '));
        let value = line.slice((colon + 1 + space).min(line.len())..);
        match &line[..colon] {
            b"data" => self.add_data(value),
            b"event" => self.name = Some(value),
            // Comments, and fields that mean nothing here.
            _ => {}
        }
    }

    fn add_data(&mut self, value: Bytes) {
        self.data = match std::mem::take(&mut self.data) {
            Data::None => Data::One(value),
            Data::One(first) => {
                let mut joined = BytesMut::with_capacity(first.len() + value.len() + 1);
                joined.put(first);
                joined.put_u8(b'\n');
                joined.put(value);
                Data::Many(joined)
            }
            Data::Many(mut joined) => {
                joined.put_u8(b'\n');
                joined.put(value);
                Data::Many(joined)
            }
        };
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = self.name.take();
        let data = match std::mem::take(&mut self.data) {
            Data::None => return None,
            Data::One(data) => data,
            Data::Many(data) => data.freeze(),
        };
        Some(Event { name, data })
    }
}

/// An event that carries a JSON text.
pub fn encode(json: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encode_into(json, &mut out);
    out.freeze()
}

/// Appends an event that carries a JSON text.
///
/// Line ends in JSON are only ever space between tokens; they become spaces,
/// so that no text can end the event and begin one of its own.
pub fn encode_into(json: &[u8], out: &mut BytesMut) {
    out.reserve(json.len() + "data: \n\n".len());
    out.put_slice(b"data: ");
    put_line(json, out);
    out.put_slice(b"\n\n");
}

/// Appends an event of this name that carries a JSON text.
pub fn named_into(name: &str, json: &[u8], out: &mut BytesMut) {
    out.put_slice(b"event: ");
    put_line(name.as_bytes(), out);
    out.put_u8(b'\n');
    encode_into(json, out);
}

/// Appends a comment, which clients skip.
pub fn comment_into(text: &str, out: &mut BytesMut) {
    out.put_slice(b": ");
    put_line(text.as_bytes(), out);
    out.put_slice(b"\n\n");
}

fn put_line(text: &[u8], out: &mut BytesMut) {
    let start = out.len();
    out.put_slice(text);
    let mut at = start;
    while let Some(found) = memchr::memchr2(b'\n', b'\r', &out[at..]) {
        at += found;
        out[at] = b' ';
    }
}
