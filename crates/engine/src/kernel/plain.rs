//! The loops in portable Rust.
//!
//! Those that take `FMA` are written so that a compiler that may use wide
//! registers does: `avx2` compiles the same text once more with them.

use half::{bf16, f16};

use super::{BLOCK, Quantised};

/// Independent sums per dot product: enough to fill the widest registers.
const LANES: usize = 32;

#[inline(always)]
fn fused<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    // Without the instruction a fused multiply-add is a slow call.
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn sum_lanes(lanes: &[f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = *lanes;
    while width > 0 {
        for at in 0..width {
            lanes[at] += lanes[at + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
pub(super) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for at in 0..LANES {
            lanes[at] = fused::<FMA>(a[at], b[at], lanes[at]);
        }
    }
    let mut sum = sum_lanes(&lanes);
    for (a, b) in a_rest.iter().zip(b_rest) {
        sum = fused::<FMA>(*a, *b, sum);
    }
    sum
}

/// e to the x within two units of the last place; below -87 it is 0.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the constants as published")]
fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Adding it rounds to an integer, which the low bits then show.
    const ROUND: f32 = 12_582_912.0;
    let small = x < -87.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = fused::<FMA>(x, core::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = fused::<FMA>(whole, -0.693_145_751_953_125, x);
    let rest = fused::<FMA>(whole, -1.428_606_765_330_187_045e-6, rest);
    let mut power = 1.987_569_150_0e-4;
    power = fused::<FMA>(power, rest, 1.398_199_950_7e-3);
    power = fused::<FMA>(power, rest, 8.333_451_907_3e-3);
    power = fused::<FMA>(power, rest, 4.166_579_589_4e-2);
    power = fused::<FMA>(power, rest, 1.666_666_545_9e-1);
    power = fused::<FMA>(power, rest, 5.000_000_120_1e-1);
    power = fused::<FMA>(power, rest * rest, rest) + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if small { 0.0 } else { power * scale }
}

#[inline(always)]
pub(super) fn rms_norm<const FMA: bool>(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let mean = dot::<FMA>(x, x) / x.len() as f32;
    let scale = 1.0 / (mean + epsilon).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

#[inline(always)]
pub(super) fn silu_gate<const FMA: bool>(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp::<FMA>(-*gate)) * up;
    }
}

#[inline(always)]
pub(super) fn gelu_gate<const FMA: bool>(gate: &mut [f32], up: &[f32]) {
    /// √(2/π), twice: tanh(y) is 1 - 2/(1 + e^2y).
    const TWICE: f32 = 2.0 * 0.797_884_6;
    for (gate, up) in gate.iter_mut().zip(up) {
        let x = *gate;
        let doubled = TWICE * x * (1.0 + 0.044_715 * x * x);
        *gate = x * (1.0 - 1.0 / (1.0 + exp::<FMA>(doubled))) * up;
    }
}

#[inline(always)]
pub(super) fn attend<const FMA: bool>(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    scale: f32,
    weights: &mut [f32],
    out: &mut [f32],
) {
    let width = query.len();
    let mut top = f32::NEG_INFINITY;
    for (weight, key) in weights.iter_mut().zip(keys.chunks_exact(width)) {
        *weight = dot::<FMA>(query, key) * scale;
        top = top.max(*weight);
    }
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = weights.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for at in 0..LANES {
            chunk[at] = exp::<FMA>(chunk[at] - top);
            lanes[at] += chunk[at];
        }
    }
    let mut sum = sum_lanes(&lanes);
    for weight in rest {
        *weight = exp::<FMA>(*weight - top);
        sum += *weight;
    }
    out.fill(0.0);
    for (&weight, value) in weights.iter().zip(values.chunks_exact(width)) {
        for (out, value) in out.iter_mut().zip(value) {
            *out = fused::<FMA>(weight, *value, *out);
        }
    }
    let scale = 1.0 / sum;
    for out in out {
        *out *= scale;
    }
}

/// Rounds each block of activations to signed bytes.
pub(super) fn quantise<const FMA: bool>(values: &[f32], numbers: &mut [i8], scales: &mut [f32]) {
    let (values, _) = values.as_chunks::<BLOCK>();
    let (numbers, _) = numbers.as_chunks_mut::<BLOCK>();
    for ((values, numbers), scale) in values.iter().zip(numbers).zip(scales) {
        let top = values
            .iter()
            .fold(0.0f32, |top, value| top.max(value.abs()));
        let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
        // Rounded through a half float, as the file's own blocks are.
        *scale = f16::from_f32(top / 127.0).to_f32();
        for (number, value) in numbers.iter_mut().zip(values) {
            #[expect(clippy::cast_possible_truncation, reason = "within ±127 by the scale")]
            let rounded = (value * inverse).round_ties_even() as i8;
            *number = rounded;
        }
    }
}

/// A format of 32-number blocks.
pub(super) trait Blocks {
    /// Bytes per block.
    const BYTES: usize;
    /// Scale and numbers of a block.
    fn read(block: &[u8]) -> (f32, [i8; BLOCK]);
}

fn half_at(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

pub(super) struct Q8_0;
pub(super) struct Q4_0;
pub(super) struct Q5_0;

impl Blocks for Q8_0 {
    const BYTES: usize = 34;
    fn read(block: &[u8]) -> (f32, [i8; BLOCK]) {
        let mut numbers = [0; BLOCK];
        for (number, byte) in numbers.iter_mut().zip(&block[2..]) {
            *number = byte.cast_signed();
        }
        (half_at(block), numbers)
    }
}

impl Blocks for Q4_0 {
    const BYTES: usize = 18;
    fn read(block: &[u8]) -> (f32, [i8; BLOCK]) {
        let mut numbers = [0; BLOCK];
        for (at, byte) in block[2..].iter().enumerate() {
            numbers[at] = (byte & 0xf).cast_signed() - 8;
            numbers[at + BLOCK / 2] = (byte >> 4).cast_signed() - 8;
        }
        (half_at(block), numbers)
    }
}

impl Blocks for Q5_0 {
    const BYTES: usize = 22;
    fn read(block: &[u8]) -> (f32, [i8; BLOCK]) {
        let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
        let bit = |at: usize| if fifth >> at & 1 == 1 { 16 } else { 0 };
        let mut numbers = [0; BLOCK];
        for (at, byte) in block[6..].iter().enumerate() {
            numbers[at] = (byte & 0xf | bit(at)).cast_signed() - 16;
            numbers[at + BLOCK / 2] = (byte >> 4 | bit(at + BLOCK / 2)).cast_signed() - 16;
        }
        (half_at(block), numbers)
    }
}

pub(super) fn multiply_blocks<B: Blocks>(
    weights: &[u8],
    width: usize,
    activations: &Quantised,
    out: &mut [f32],
) {
    let blocks = width / BLOCK;
    let columns = activations.numbers.len() / width;
    for (row, out) in weights
        .chunks_exact(blocks * B::BYTES)
        .zip(out.chunks_exact_mut(columns))
    {
        out.fill(0.0);
        for (at, block) in row.chunks_exact(B::BYTES).enumerate() {
            let (scale, numbers) = B::read(block);
            for (column, out) in out.iter_mut().enumerate() {
                let from = column * width + at * BLOCK;
                let sum: i32 = numbers
                    .iter()
                    .zip(&activations.numbers[from..from + BLOCK])
                    .map(|(&weight, &activation)| i32::from(weight) * i32::from(activation))
                    .sum();
                let sum = sum as f32;
                *out += scale * activations.scales[column * blocks + at] * sum;
            }
        }
    }
}

/// A format of plain floats.
pub(super) trait Floats {
    /// Bytes per number.
    const BYTES: usize;
    /// The numbers of a row.
    fn read(row: &[u8], numbers: &mut [f32]);
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Floats for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    fn read(row: &[u8], numbers: &mut [f32]) {
        for (number, bytes) in numbers.iter_mut().zip(row.as_chunks::<4>().0) {
            *number = f32::from_le_bytes(*bytes);
        }
    }
}

impl Floats for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn read(row: &[u8], numbers: &mut [f32]) {
        for (number, bytes) in numbers.iter_mut().zip(row.as_chunks::<2>().0) {
            *number = f16::from_le_bytes(*bytes).to_f32();
        }
    }
}

impl Floats for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn read(row: &[u8], numbers: &mut [f32]) {
        for (number, bytes) in numbers.iter_mut().zip(row.as_chunks::<2>().0) {
            *number = bf16::from_le_bytes(*bytes).to_f32();
        }
    }
}

/// A row is widened once and then meets every column.
#[inline(always)]
pub(super) fn multiply_rows<F: Floats, const FMA: bool>(
    weights: &[u8],
    width: usize,
    activations: &[f32],
    out: &mut [f32],
) {
    let columns = activations.len() / width;
    let mut numbers = vec![0.0; width];
    for (row, out) in weights
        .chunks_exact(width * F::BYTES)
        .zip(out.chunks_exact_mut(columns))
    {
        F::read(row, &mut numbers);
        for (column, out) in activations.chunks_exact(width).zip(out) {
            *out = dot::<FMA>(&numbers, column);
        }
    }
}

pub(super) fn multiply_floats<F: Floats>(
    weights: &[u8],
    width: usize,
    activations: &[f32],
    out: &mut [f32],
) {
    multiply_rows::<F, false>(weights, width, activations, out);
}
