//! The inner loops, chosen by what the processor at hand can do.
//!
//! The binary is built for any x86-64, so the fast paths are picked at run
//! time. candle does the same for its k-quants, whose dot products are used
//! as they are; its 32-number blocks (Q8_0 and kin) convert two half floats
//! per block through a call, which costs more than the dot product, so those
//! are done here. Every kernel sums in an order that does not depend on how
//! many rows are computed together: a request gets the same tokens alone and
//! in company.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;

use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0,
};

/// Numbers per block of Q8_0, Q4_0 and Q5_0, and of the activations they meet.
pub(crate) const BLOCK: usize = 32;

/// What the processor can do. Only [`Level::detect`] makes one, so holding
/// `Fast` proves that the instructions are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(Tier);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tier {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Level {
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            return Self(Tier::Avx2);
        }
        Self(Tier::Plain)
    }

    /// The portable loops, for comparison in tests.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self(Tier::Plain)
    }
}

/// Calls the fast form of a loop where the processor has it.
macro_rules! dispatch {
    ($level:expr, $name:ident::<$format:ident>($($argument:expr),*)) => {
        match $level.0 {
            Tier::Plain => plain::$name::<plain::$format>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls code for a processor that `Level::detect` has found")]
            // SAFETY: a `Level` with `Avx2` exists only after avx2, fma and f16c were detected.
            Tier::Avx2 => unsafe { avx2::$name::<avx2::$format>($($argument),*) },
        }
    };
    ($level:expr, $name:ident($($argument:expr),*)) => {
        match $level.0 {
            Tier::Plain => plain::$name::<false>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls code for a processor that `Level::detect` has found")]
            // SAFETY: a `Level` with `Avx2` exists only after avx2, fma and f16c were detected.
            Tier::Avx2 => unsafe { avx2::$name($($argument),*) },
        }
    };
}

/// Rows of activations in blocks of 32 signed bytes with one scale each.
#[derive(Debug, Default)]
pub(crate) struct Quantised {
    pub(crate) numbers: Vec<i8>,
    pub(crate) scales: Vec<f32>,
}

impl Quantised {
    /// Takes over `values`, whose length is a multiple of [`BLOCK`].
    pub(crate) fn fill(&mut self, level: Level, values: &[f32]) {
        self.numbers.resize(values.len(), 0);
        self.scales.resize(values.len() / BLOCK, 0.0);
        dispatch!(level, quantise(values, &mut self.numbers, &mut self.scales));
    }
}

/// How weights of 32-number blocks and plain floats are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Q8_0,
    Q4_0,
    Q5_0,
    F32,
    F16,
    Bf16,
}

/// `out[row][column] = weights[row] · activations[column]` for block formats.
///
/// `weights` are whole rows of `width` numbers; `activations` are `columns`
/// rows of `width`; `out` has the rows of `weights` by `columns`.
pub(crate) fn multiply_blocks(
    level: Level,
    format: Format,
    weights: &[u8],
    width: usize,
    activations: &Quantised,
    out: &mut [f32],
) {
    match format {
        Format::Q8_0 => dispatch!(
            level,
            multiply_blocks::<Q8_0>(weights, width, activations, out)
        ),
        Format::Q4_0 => dispatch!(
            level,
            multiply_blocks::<Q4_0>(weights, width, activations, out)
        ),
        Format::Q5_0 => dispatch!(
            level,
            multiply_blocks::<Q5_0>(weights, width, activations, out)
        ),
        Format::F32 | Format::F16 | Format::Bf16 => {
            debug_assert!(false, "float weights meet float activations");
        }
    }
}

/// As [`multiply_blocks`], for float weights and activations.
pub(crate) fn multiply_floats(
    level: Level,
    format: Format,
    weights: &[u8],
    width: usize,
    activations: &[f32],
    out: &mut [f32],
) {
    match format {
        Format::F32 => dispatch!(
            level,
            multiply_floats::<F32>(weights, width, activations, out)
        ),
        Format::F16 => dispatch!(
            level,
            multiply_floats::<F16>(weights, width, activations, out)
        ),
        Format::Bf16 => dispatch!(
            level,
            multiply_floats::<Bf16>(weights, width, activations, out)
        ),
        Format::Q8_0 | Format::Q4_0 | Format::Q5_0 => {
            debug_assert!(false, "block weights meet block activations");
        }
    }
}

/// As [`multiply_blocks`], for the formats that candle has the loops for.
pub(crate) fn multiply_candle<T: GgmlType>(
    weights: &[T],
    width: usize,
    activations: &[T::VecDotType],
    out: &mut [f32],
) {
    let blocks = width / T::BLCK_SIZE;
    let columns = activations.len() / blocks;
    for (row, out) in weights
        .chunks_exact(blocks)
        .zip(out.chunks_exact_mut(columns))
    {
        for (column, out) in activations.chunks_exact(blocks).zip(out) {
            *out = T::vec_dot(width, row, column);
        }
    }
}

/// `out = x / rms(x) * weight`, row by row of the weight's length.
pub(crate) fn rms_norm(level: Level, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    for (x, out) in x
        .chunks_exact(weight.len())
        .zip(out.chunks_exact_mut(weight.len()))
    {
        dispatch!(level, rms_norm(x, weight, epsilon, out));
    }
}

/// What a feed-forward layer applies to its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Silu,
    /// The approximation by tanh, as gemma was trained with.
    Gelu,
}

/// `gate = activation(gate) * up`.
pub(crate) fn gate(level: Level, activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::Silu => dispatch!(level, silu_gate(gate, up)),
        Activation::Gelu => dispatch!(level, gelu_gate(gate, up)),
    }
}

/// One head's attention over the keys and values it may see.
///
/// `keys` and `values` are positions of `query.len()` numbers each; `weights`
/// is scratch space for one number per position.
pub(crate) fn attend(
    level: Level,
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    scale: f32,
    weights: &mut Vec<f32>,
    out: &mut [f32],
) {
    weights.resize(keys.len() / query.len(), 0.0);
    dispatch!(level, attend(query, keys, values, scale, weights, out));
}

/// Quantised blocks that any bytes are a valid value of.
pub(crate) trait Plain: GgmlType {}
impl Plain for BlockQ4_0 {}
impl Plain for BlockQ4_1 {}
impl Plain for BlockQ5_0 {}
impl Plain for BlockQ5_1 {}
impl Plain for BlockQ8_0 {}
impl Plain for BlockQ2K {}
impl Plain for BlockQ3K {}
impl Plain for BlockQ4K {}
impl Plain for BlockQ5K {}
impl Plain for BlockQ6K {}

/// The file's bytes seen as blocks; `None` if they do not lie evenly.
pub(crate) fn blocks<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    let size = size_of::<T>();
    if !bytes.as_ptr().cast::<T>().is_aligned() || !bytes.len().is_multiple_of(size) {
        return None;
    }
    #[expect(
        unsafe_code,
        reason = "candle has no safe way from bytes to blocks without a copy"
    )]
    // SAFETY: the pointer is aligned and the length whole, both checked above.
    // The types are `repr(C)` structs of integers and half floats without
    // padding, for which every bit pattern is a value, and the result borrows
    // the bytes it points into.
    Some(unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast::<T>(), bytes.len() / size) })
}

#[cfg(test)]
mod tests;
