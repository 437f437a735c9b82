//! Reading the GGUF container: metadata, and where each tensor lies.
//!
//! A file comes from a stranger, so nothing here trusts a number it reads:
//! every count and length is held against the bytes that are left before
//! anything is allocated, and every tensor must lie inside the file. Strings
//! are borrowed, tensors are ranges: reading a file costs little more than
//! its metadata. What the metadata *means* is decided in `config` and
//! `tokenizer`; this file knows the format only.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::quantized::GgmlDType;

/// `GGUF`, little endian.
const MAGIC: &[u8; 4] = b"GGUF";
/// Where tensor data starts when the file does not say.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Above this an alignment is nonsense, not a choice.
const ALIGNMENT_MAX: u64 = 1 << 20;
/// As many dimensions as a tensor may have in this format.
const DIMENSIONS_MAX: u32 = 4;
/// Arrays of arrays do not occur in practice; a chain of them is an attack on the stack.
const NESTING_MAX: u32 = 2;
/// Names are short; this bounds what an error message may quote.
const NAME_BYTES_MAX: usize = 256;

/// Why the bytes are not a GGUF file that can be read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The first four bytes are something else.
    #[error("not a GGUF file: it starts with {found:02x?}, expected \"GGUF\"")]
    Magic {
        /// What stands there.
        found: Vec<u8>,
    },
    /// A version that this reader does not know.
    #[error("GGUF version {version} is not supported, only 2 and 3 are")]
    Version {
        /// What the file says.
        version: u32,
    },
    /// The file is shorter than what it declares.
    #[error(
        "file is cut off: {what} needs {needed} bytes at offset {offset}, {left} are left; download it again"
    )]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// How many bytes it needs.
        needed: u64,
        /// Where.
        offset: usize,
        /// How many there are.
        left: usize,
    },
    /// Text that is not UTF-8.
    #[error("{what} at offset {offset} is not UTF-8")]
    Text {
        /// What was being read.
        what: &'static str,
        /// Where.
        offset: usize,
    },
    /// A value that the format does not allow.
    #[error("{what} is {value}, allowed is {allowed}")]
    Value {
        /// What was being read.
        what: &'static str,
        /// What stands there.
        value: u64,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A name that occurs twice.
    #[error("{what} {name:?} occurs twice")]
    Twice {
        /// Key or tensor.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A tensor that cannot be as declared.
    #[error("tensor {name:?}: {problem}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// A metadata value. Arrays of numbers stay bytes until asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    Texts(Vec<&'a str>),
    Numbers(Numbers<'a>),
    /// An array of arrays: read over, never used.
    Nested,
}

impl<'a> Value<'a> {
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    pub(crate) fn as_f32(&self) -> Option<f32> {
        match *self {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the format's own f32 comes through f64 unharmed"
            )]
            Self::Float(value) => Some(value as f32),
            _ => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value this is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unsigned(_) | Self::Signed(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a bool",
            Self::Text(_) => "a string",
            Self::Texts(_) => "an array of strings",
            Self::Numbers(_) => "an array of numbers",
            Self::Nested => "an array of arrays",
        }
    }
}

/// An array of numbers, still as the file's bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Numbers<'a> {
    kind: u32,
    bytes: &'a [u8],
}

impl<'a> Numbers<'a> {
    /// The numbers one by one; none if the file's type is not a number.
    pub(crate) fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let kind = self.kind;
        self.bytes
            .chunks_exact(number_bytes(kind))
            .map_while(move |bytes| Cursor { file: bytes, at: 0 }.value(kind, NESTING_MAX).ok())
    }
}

/// How long one value of a type is in the file, at least.
fn number_bytes(kind: u32) -> usize {
    match kind {
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        _ => 1,
    }
}

/// Where a tensor lies and how its numbers are stored.
#[derive(Debug, Clone)]
pub(crate) struct TensorInfo {
    /// Innermost first, as in the file: `[columns, rows]` for a matrix.
    pub(crate) dimensions: Vec<usize>,
    pub(crate) kind: GgmlDType,
    /// Checked to lie inside the file.
    pub(crate) bytes: Range<usize>,
}

/// The table of contents of a GGUF file.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) metadata: HashMap<&'a str, Value<'a>>,
    pub(crate) tensors: HashMap<&'a str, TensorInfo>,
}

impl<'a> Contents<'a> {
    pub(crate) fn read(file: &'a [u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor { file, at: 0 };
        let magic = cursor
            .take("the magic", 4)
            .map_err(|_| FormatError::Magic {
                found: file.to_vec(),
            })?;
        if magic != MAGIC {
            return Err(FormatError::Magic {
                found: magic.to_vec(),
            });
        }
        let version = cursor.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(FormatError::Version { version });
        }
        // The smallest tensor entry: empty name, no dimensions, type, offset.
        let tensor_count = cursor.count("the tensor count", 8 + 4 + 4 + 8)?;
        // The smallest metadata entry: empty key, type, one byte.
        let metadata_count = cursor.count("the metadata count", 8 + 4 + 1)?;

        let metadata = read_metadata(&mut cursor, metadata_count)?;
        let tensors = read_tensors(&mut cursor, tensor_count, &metadata)?;
        Ok(Self { metadata, tensors })
    }
}

fn read_metadata<'a>(
    cursor: &mut Cursor<'a>,
    count: usize,
) -> Result<HashMap<&'a str, Value<'a>>, FormatError> {
    let mut metadata = HashMap::new();
    for _ in 0..count {
        let key = cursor.text("a metadata key")?;
        let kind = cursor.u32("a metadata type")?;
        let value = cursor.value(kind, 0)?;
        if metadata.insert(key, value).is_some() {
            return Err(FormatError::Twice {
                what: "metadata key",
                name: quoted(key),
            });
        }
    }
    Ok(metadata)
}

/// A tensor as the file declares it, before its place is known to be sound.
struct Declared<'a> {
    name: &'a str,
    dimensions: Vec<usize>,
    kind: u32,
    offset: u64,
}

fn read_tensors<'a>(
    cursor: &mut Cursor<'a>,
    count: usize,
    metadata: &HashMap<&'a str, Value<'a>>,
) -> Result<HashMap<&'a str, TensorInfo>, FormatError> {
    let mut declared = Vec::new();
    for _ in 0..count {
        declared.push(read_declared(cursor)?);
    }

    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(value) => value.as_u64().unwrap_or(0),
    };
    if !alignment.is_power_of_two() || !(8..=ALIGNMENT_MAX).contains(&alignment) {
        return Err(FormatError::Value {
            what: "general.alignment",
            value: alignment,
            allowed: "a power of two from 8 to 1048576",
        });
    }
    let data_start = (cursor.at as u64).next_multiple_of(alignment);

    let mut tensors = HashMap::new();
    for entry in declared {
        let info = place(&entry, data_start, cursor.file.len())?;
        if tensors.insert(entry.name, info).is_some() {
            return Err(FormatError::Twice {
                what: "tensor",
                name: quoted(entry.name),
            });
        }
    }
    Ok(tensors)
}

fn read_declared<'a>(cursor: &mut Cursor<'a>) -> Result<Declared<'a>, FormatError> {
    let name = cursor.text("a tensor name")?;
    let dimension_count = cursor.u32("a tensor's dimension count")?;
    if !(1..=DIMENSIONS_MAX).contains(&dimension_count) {
        return Err(FormatError::Tensor {
            name: quoted(name),
            problem: format!("has {dimension_count} dimensions, allowed is 1 to {DIMENSIONS_MAX}"),
        });
    }
    let mut dimensions = Vec::new();
    for _ in 0..dimension_count {
        let size = cursor.u64("a tensor dimension")?;
        let size = usize::try_from(size).map_err(|_| FormatError::Tensor {
            name: quoted(name),
            problem: format!("dimension {size} does not fit in memory"),
        })?;
        dimensions.push(size);
    }
    Ok(Declared {
        name,
        dimensions,
        kind: cursor.u32("a tensor type")?,
        offset: cursor.u64("a tensor offset")?,
    })
}

/// Checks that a tensor's numbers lie inside the file.
fn place(
    entry: &Declared<'_>,
    data_start: u64,
    file_bytes: usize,
) -> Result<TensorInfo, FormatError> {
    let wrong = |problem: String| FormatError::Tensor {
        name: quoted(entry.name),
        problem,
    };
    let kind = kind_of(entry.kind).ok_or_else(|| {
        wrong(format!(
            "storage type {} is not supported; supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K and Q6_K",
            entry.kind
        ))
    })?;
    let columns = entry.dimensions.first().copied().unwrap_or(0);
    if columns == 0 || columns % kind.block_size() != 0 {
        return Err(wrong(format!(
            "{columns} columns are not a positive multiple of the block size {} of {kind:?}",
            kind.block_size()
        )));
    }
    let bytes = entry
        .dimensions
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .and_then(|numbers| (numbers / kind.block_size()).checked_mul(kind.type_size()));
    let range = bytes.and_then(|bytes| {
        let start = usize::try_from(data_start.checked_add(entry.offset)?).ok()?;
        let end = start.checked_add(bytes)?;
        (end <= file_bytes).then_some(start..end)
    });
    let bytes = range.ok_or_else(|| {
        wrong(format!(
            "dimensions {:?} at offset {} reach past the end of the file ({file_bytes} bytes)",
            entry.dimensions, entry.offset
        ))
    })?;
    Ok(TensorInfo {
        dimensions: entry.dimensions.clone(),
        kind,
        bytes,
    })
}

/// The storage types that this engine can compute with, by their number in the file.
fn kind_of(number: u32) -> Option<GgmlDType> {
    Some(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// A name from the file, short enough for a message.
fn quoted(name: &str) -> String {
    name.chars().take(NAME_BYTES_MAX / 4).collect()
}

/// A place in the file that only moves forward and never past the end.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, what: &'static str, bytes: u64) -> Result<&'a [u8], FormatError> {
        let left = self.file.len() - self.at;
        let taken = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| self.file.get(self.at..self.at.checked_add(bytes)?))
            .ok_or(FormatError::Truncated {
                what,
                needed: bytes,
                offset: self.at,
                left,
            })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(what, N as u64)?);
        Ok(bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `bytes_each` of what is left.
    fn count(&mut self, what: &'static str, bytes_each: u64) -> Result<usize, FormatError> {
        let count = self.u64(what)?;
        let left = self.file.len() - self.at;
        let needed = count.saturating_mul(bytes_each);
        match usize::try_from(count) {
            Ok(count) if needed <= left as u64 => Ok(count),
            _ => Err(FormatError::Truncated {
                what,
                needed,
                offset: self.at,
                left,
            }),
        }
    }

    fn text(&mut self, what: &'static str) -> Result<&'a str, FormatError> {
        let bytes = self.u64(what)?;
        let offset = self.at;
        core::str::from_utf8(self.take(what, bytes)?)
            .map_err(|_| FormatError::Text { what, offset })
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<Value<'a>, FormatError> {
        const WHAT: &str = "a metadata value";
        Ok(match kind {
            0 => Value::Unsigned(u64::from(u8::from_le_bytes(self.array(WHAT)?))),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.array(WHAT)?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array(WHAT)?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.array(WHAT)?))),
            4 => Value::Unsigned(u64::from(u32::from_le_bytes(self.array(WHAT)?))),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.array(WHAT)?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array(WHAT)?))),
            7 => match self.array::<1>(WHAT)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => {
                    return Err(FormatError::Value {
                        what: "a metadata bool",
                        value: u64::from(other),
                        allowed: "0 or 1",
                    });
                }
            },
            8 => Value::Text(self.text("a metadata string")?),
            9 => self.list(depth)?,
            10 => Value::Unsigned(u64::from_le_bytes(self.array(WHAT)?)),
            11 => Value::Signed(i64::from_le_bytes(self.array(WHAT)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(WHAT)?)),
            other => {
                return Err(FormatError::Value {
                    what: "a metadata type",
                    value: u64::from(other),
                    allowed: "0 to 12",
                });
            }
        })
    }

    fn list(&mut self, depth: u32) -> Result<Value<'a>, FormatError> {
        const WHAT: &str = "a metadata array";
        let kind = self.u32(WHAT)?;
        if depth >= NESTING_MAX {
            return Err(FormatError::Value {
                what: "the nesting of a metadata array",
                value: u64::from(depth) + 1,
                allowed: "at most 2",
            });
        }
        let bytes_each = number_bytes(kind);
        let count = self.count(WHAT, bytes_each as u64)?;
        if kind == 8 {
            let mut texts = Vec::with_capacity(count);
            for _ in 0..count {
                texts.push(self.text("a string in a metadata array")?);
            }
            return Ok(Value::Texts(texts));
        }
        if kind == 9 {
            for _ in 0..count {
                self.value(kind, depth + 1)?;
            }
            return Ok(Value::Nested);
        }
        if kind > 12 {
            return Err(FormatError::Value {
                what: "the type of a metadata array",
                value: u64::from(kind),
                allowed: "0 to 12",
            });
        }
        let bytes = self.take(WHAT, (count * bytes_each) as u64)?;
        Ok(Value::Numbers(Numbers { kind, bytes }))
    }
}
