//! A matrix of weights as it lies in the file, and its product with activations.
//!
//! Weights are never copied or widened: a file of 2 GB takes 2 GB. What they
//! meet is rounded instead, once per layer input, to the form that their
//! format wants.

use std::ops::Range;

use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0, BlockQ8_1, BlockQ8K,
};
use candle_core::quantized::{GgmlDType, GgmlType};
use half::{bf16, f16};
use rayon::prelude::*;

use super::File;
use crate::kernel::{self, BLOCK, Format, Level, Plain, Quantised};

/// Below this many multiplications a product is not worth splitting.
const PARALLEL_MIN: usize = 1 << 18;
/// Rows given to one thread at a time, at least.
const ROWS_MIN: usize = 16;

/// Weights of `rows` outputs by `width` inputs.
pub(super) struct Matrix {
    file: File,
    bytes: Range<usize>,
    kind: GgmlDType,
    pub(super) rows: usize,
    pub(super) width: usize,
}

/// What the formats want their activations to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Floats,
    Bytes,
    Q8K,
    Q8_1,
}

fn form(kind: GgmlDType) -> Form {
    match kind {
        GgmlDType::Q8_0 | GgmlDType::Q4_0 | GgmlDType::Q5_0 => Form::Bytes,
        GgmlDType::Q4_1 | GgmlDType::Q5_1 => Form::Q8_1,
        GgmlDType::Q2K | GgmlDType::Q3K | GgmlDType::Q4K | GgmlDType::Q5K | GgmlDType::Q6K => {
            Form::Q8K
        }
        _ => Form::Floats,
    }
}

/// Rows of activations, in every form that has been asked for.
#[derive(Default)]
pub(super) struct Input {
    width: usize,
    floats: Vec<f32>,
    bytes: Quantised,
    q8k: Vec<BlockQ8K>,
    q8_1: Vec<BlockQ8_1>,
    /// Which forms are up to date.
    ready: Vec<Form>,
}

impl Input {
    /// Starts over with new rows, and returns the place for them.
    pub(super) fn start(&mut self, rows: usize, width: usize) -> &mut [f32] {
        self.ready.clear();
        self.width = width;
        self.floats.resize(rows * width, 0.0);
        &mut self.floats
    }

    fn prepare(&mut self, form: Form, level: Level) {
        if self.ready.contains(&form) {
            return;
        }
        match form {
            Form::Floats => {}
            Form::Bytes => self.bytes.fill(level, &self.floats),
            Form::Q8K => {
                self.q8k
                    .resize(self.floats.len() / BlockQ8K::BLCK_SIZE, BlockQ8K::zeros());
                BlockQ8K::from_float(&self.floats, &mut self.q8k);
            }
            Form::Q8_1 => {
                self.q8_1
                    .resize(self.floats.len() / BlockQ8_1::BLCK_SIZE, BlockQ8_1::zeros());
                BlockQ8_1::from_float(&self.floats, &mut self.q8_1);
            }
        }
        self.ready.push(form);
    }
}

/// How a product is computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lanes {
    pub(super) level: Level,
    /// Threads of the pool that the caller runs in; 1 for none.
    pub(crate) threads: usize,
}

/// Calls a function with the bytes seen as blocks of the matrix's format.
macro_rules! with_blocks {
    ($kind:expr, $bytes:expr, $blocks:ident => $call:expr, else $other:expr) => {
        match $kind {
            GgmlDType::Q4_0 => with_blocks!(@ BlockQ4_0, $bytes, $blocks, $call),
            GgmlDType::Q4_1 => with_blocks!(@ BlockQ4_1, $bytes, $blocks, $call),
            GgmlDType::Q5_0 => with_blocks!(@ BlockQ5_0, $bytes, $blocks, $call),
            GgmlDType::Q5_1 => with_blocks!(@ BlockQ5_1, $bytes, $blocks, $call),
            GgmlDType::Q8_0 => with_blocks!(@ BlockQ8_0, $bytes, $blocks, $call),
            GgmlDType::Q2K => with_blocks!(@ BlockQ2K, $bytes, $blocks, $call),
            GgmlDType::Q3K => with_blocks!(@ BlockQ3K, $bytes, $blocks, $call),
            GgmlDType::Q4K => with_blocks!(@ BlockQ4K, $bytes, $blocks, $call),
            GgmlDType::Q5K => with_blocks!(@ BlockQ5K, $bytes, $blocks, $call),
            GgmlDType::Q6K => with_blocks!(@ BlockQ6K, $bytes, $blocks, $call),
            _ => $other,
        }
    };
    (@ $block:ty, $bytes:expr, $blocks:ident, $call:expr) => {{
        let $blocks: &[$block] = kernel::blocks($bytes).expect("`Matrix::new` has checked that the bytes are blocks");
        $call
    }};
}

impl Matrix {
    /// `None` if the bytes are not whole, evenly lying blocks.
    pub(super) fn new(
        file: &File,
        bytes: Range<usize>,
        kind: GgmlDType,
        rows: usize,
        width: usize,
    ) -> Option<Self> {
        let held = file.get(bytes.clone())?;
        let row_bytes = width / kind.block_size() * kind.type_size();
        if !width.is_multiple_of(kind.block_size()) || held.len() != rows.checked_mul(row_bytes)? {
            return None;
        }
        // All of candle's blocks hold half floats and bytes, so even is enough.
        let is_even = form(kind) == Form::Floats || held.as_ptr().cast::<u16>().is_aligned();
        // Products over whole blocks of 32 need the width to be one.
        let is_whole = width.is_multiple_of(BLOCK) || form(kind) == Form::Floats;
        (is_even && is_whole).then(|| Self {
            file: file.clone(),
            bytes,
            kind,
            rows,
            width,
        })
    }

    fn held(&self) -> &[u8] {
        &self.file[self.bytes.clone()]
    }

    fn row_bytes(&self) -> usize {
        self.width / self.kind.block_size() * self.kind.type_size()
    }

    /// One row as floats.
    pub(super) fn read_row(&self, row: usize, out: &mut [f32]) {
        fn widen<T: GgmlType>(blocks: &[T], out: &mut [f32]) {
            T::to_float(blocks, out);
        }
        let from = row * self.row_bytes();
        let bytes = &self.held()[from..from + self.row_bytes()];
        with_blocks!(self.kind, bytes, blocks => widen(blocks, out), else read_floats(self.kind, bytes, out));
    }

    /// `out[column][row]`: every row of activations times every row of weights.
    ///
    /// `turned` is scratch space. Threads split the rows of weights, so their
    /// results lie row by row first and are turned round at the end.
    pub(super) fn multiply(
        &self,
        lanes: Lanes,
        input: &mut Input,
        turned: &mut Vec<f32>,
        out: &mut Vec<f32>,
    ) {
        debug_assert_eq!(input.width, self.width);
        input.prepare(form(self.kind), lanes.level);
        let columns = input.floats.len() / self.width;
        out.resize(columns * self.rows, 0.0);
        if columns == 1 {
            self.multiply_turned(lanes, input, 1, out);
            return;
        }
        turned.resize(columns * self.rows, 0.0);
        self.multiply_turned(lanes, input, columns, turned);
        for (column, out) in out.chunks_exact_mut(self.rows).enumerate() {
            for (out, results) in out.iter_mut().zip(turned.chunks_exact(columns)) {
                *out = results[column];
            }
        }
    }

    fn multiply_turned(&self, lanes: Lanes, input: &Input, columns: usize, out: &mut [f32]) {
        let work = self.rows * self.width * columns;
        if lanes.threads == 1 || work < PARALLEL_MIN {
            self.multiply_rows(lanes.level, 0, input, out);
            return;
        }
        // A few parts per thread even out what else the machine does.
        let rows = self
            .rows
            .div_ceil(lanes.threads * 4)
            .next_multiple_of(4)
            .max(ROWS_MIN);
        out.par_chunks_mut(rows * columns)
            .enumerate()
            .for_each(|(part, out)| self.multiply_rows(lanes.level, part * rows, input, out));
    }

    /// The product of as many rows as `out` has place for, from `first` on.
    fn multiply_rows(&self, level: Level, first: usize, input: &Input, out: &mut [f32]) {
        let columns = input.floats.len() / self.width;
        let from = first * self.row_bytes();
        let bytes = &self.held()[from..from + out.len() / columns * self.row_bytes()];
        let width = self.width;
        let mut plain =
            |format| kernel::multiply_floats(level, format, bytes, width, &input.floats, out);
        match self.kind {
            GgmlDType::Q8_0 => {
                kernel::multiply_blocks(level, Format::Q8_0, bytes, width, &input.bytes, out)
            }
            GgmlDType::Q4_0 => {
                kernel::multiply_blocks(level, Format::Q4_0, bytes, width, &input.bytes, out)
            }
            GgmlDType::Q5_0 => {
                kernel::multiply_blocks(level, Format::Q5_0, bytes, width, &input.bytes, out)
            }
            GgmlDType::Q4_1 => candle::<BlockQ4_1>(bytes, width, &input.q8_1, out),
            GgmlDType::Q5_1 => candle::<BlockQ5_1>(bytes, width, &input.q8_1, out),
            GgmlDType::Q2K => candle::<BlockQ2K>(bytes, width, &input.q8k, out),
            GgmlDType::Q3K => candle::<BlockQ3K>(bytes, width, &input.q8k, out),
            GgmlDType::Q4K => candle::<BlockQ4K>(bytes, width, &input.q8k, out),
            GgmlDType::Q5K => candle::<BlockQ5K>(bytes, width, &input.q8k, out),
            GgmlDType::Q6K => candle::<BlockQ6K>(bytes, width, &input.q8k, out),
            GgmlDType::F16 => plain(Format::F16),
            GgmlDType::BF16 => plain(Format::Bf16),
            _ => plain(Format::F32),
        }
    }
}

fn candle<T: Plain>(bytes: &[u8], width: usize, activations: &[T::VecDotType], out: &mut [f32]) {
    let blocks =
        kernel::blocks::<T>(bytes).expect("`Matrix::new` has checked that the bytes are blocks");
    kernel::multiply_candle(blocks, width, activations, out);
}

/// Floats of any width as f32.
pub(super) fn read_floats(kind: GgmlDType, bytes: &[u8], out: &mut [f32]) {
    match kind {
        GgmlDType::F16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f16::from_le_bytes(*bytes).to_f32();
            }
        }
        GgmlDType::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        _ => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
    }
}
