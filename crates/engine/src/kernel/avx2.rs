//! The loops for processors with AVX2, FMA and F16C.
//!
//! Every function here may run only on such a processor; the one caller is
//! the dispatch in `kernel`, which has looked. Sums are taken block by block
//! in one accumulator per result, whatever the tile: see the module above.
#![expect(
    unsafe_code,
    reason = "vector loads take pointers; bounds are asserted before each loop"
)]

use core::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtph_ps, _mm_cvtsi32_si128,
    _mm_cvtss_f32, _mm_loadu_si128, _mm_movehdup_ps, _mm_movehl_ps, _mm_srli_epi16,
    _mm256_and_si256, _mm256_andnot_ps, _mm256_andnot_si256, _mm256_castps256_ps128,
    _mm256_cmpeq_epi8, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_cvtps_epi32,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_max_ps, _mm256_mul_ps, _mm256_or_si256, _mm256_packs_epi16,
    _mm256_packs_epi32, _mm256_permutevar8x32_epi32, _mm256_set_m128i, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_set1_ps, _mm256_setr_epi32,
    _mm256_setr_epi64x, _mm256_setzero_ps, _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_storeu_ps,
    _mm256_storeu_si256, _mm256_sub_epi8,
};

use super::{BLOCK, Quantised, plain};

pub(super) use super::plain::{Bf16, F32};

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    plain::rms_norm::<true>(x, weight, epsilon, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn silu_gate(gate: &mut [f32], up: &[f32]) {
    plain::silu_gate::<true>(gate, up);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn gelu_gate(gate: &mut [f32], up: &[f32]) {
    plain::gelu_gate::<true>(gate, up);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn attend(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    scale: f32,
    weights: &mut [f32],
    out: &mut [f32],
) {
    plain::attend::<true>(query, keys, values, scale, weights, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply_floats<F: plain::Floats>(
    weights: &[u8],
    width: usize,
    activations: &[f32],
    out: &mut [f32],
) {
    plain::multiply_rows::<F, true>(weights, width, activations, out);
}

/// Half floats, eight at a time.
pub(super) struct F16;

impl plain::Floats for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    fn read(row: &[u8], numbers: &mut [f32]) {
        let whole = numbers.len().min(row.len() / 2) / 8 * 8;
        for at in (0..whole).step_by(8) {
            // SAFETY: 8 half floats at `at` lie in `row`, 8 floats in
            // `numbers`; this type is used by `multiply_floats` above only.
            unsafe {
                let halves = _mm_loadu_si128(row.as_ptr().add(2 * at).cast());
                _mm256_storeu_ps(numbers.as_mut_ptr().add(at), _mm256_cvtph_ps(halves));
            }
        }
        plain::F16::read(&row[2 * whole..], &mut numbers[whole..]);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn half_to_float(bits: u16) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn sum8(x: __m256) -> f32 {
    let sum = _mm_add_ps(_mm256_extractf128_ps::<1>(x), _mm256_castps256_ps128(x));
    let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)))
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn quantise(values: &[f32], numbers: &mut [i8], scales: &mut [f32]) {
    let blocks = values.len() / BLOCK;
    assert!(numbers.len() >= blocks * BLOCK && scales.len() >= blocks);
    let sign = _mm256_set1_ps(-0.0);
    for (block, scale) in scales.iter_mut().enumerate().take(blocks) {
        // SAFETY: the block's 32 values and 32 numbers lie inside, by the assert.
        unsafe {
            let from = values.as_ptr().add(block * BLOCK);
            let v = [
                _mm256_loadu_ps(from),
                _mm256_loadu_ps(from.add(8)),
                _mm256_loadu_ps(from.add(16)),
                _mm256_loadu_ps(from.add(24)),
            ];
            let top = _mm256_max_ps(
                _mm256_max_ps(_mm256_andnot_ps(sign, v[0]), _mm256_andnot_ps(sign, v[1])),
                _mm256_max_ps(_mm256_andnot_ps(sign, v[2]), _mm256_andnot_ps(sign, v[3])),
            );
            let mut lanes = [0.0f32; 8];
            _mm256_storeu_ps(lanes.as_mut_ptr(), top);
            let top = lanes
                .iter()
                .fold(0.0f32, |top, &lane| if lane > top { lane } else { top });
            let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
            *scale = half::f16::from_f32(top / 127.0).to_f32();
            let factor = _mm256_set1_ps(inverse);
            let round = |v: __m256| _mm256_cvtps_epi32(_mm256_mul_ps(v, factor));
            // Packing works within halves of a register; the permutation puts
            // the groups of four back in order.
            let low = _mm256_packs_epi32(round(v[0]), round(v[1]));
            let high = _mm256_packs_epi32(round(v[2]), round(v[3]));
            let packed = _mm256_packs_epi16(low, high);
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let packed = _mm256_permutevar8x32_epi32(packed, order);
            _mm256_storeu_si256(numbers.as_mut_ptr().add(block * BLOCK).cast(), packed);
        }
    }
}

/// A format of 32-number blocks.
pub(super) trait Blocks {
    /// Bytes per block.
    const BYTES: usize;
    /// The numbers of a block.
    ///
    /// # Safety
    /// `BYTES` bytes must be readable at `block`, on a processor with AVX2.
    unsafe fn read(block: *const u8) -> __m256i;
}

pub(super) struct Q8_0;
pub(super) struct Q4_0;
pub(super) struct Q5_0;

impl Blocks for Q8_0 {
    const BYTES: usize = 34;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn read(block: *const u8) -> __m256i {
        // SAFETY: 32 bytes follow the scale.
        unsafe { _mm256_loadu_si256(block.add(2).cast()) }
    }
}

/// 16 bytes of nibbles: the low ones first, then the high ones.
///
/// # Safety
/// 16 bytes must be readable at `from`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles(from: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    let both: __m128i = unsafe { _mm_loadu_si128(from.cast()) };
    let spread = _mm256_set_m128i(_mm_srli_epi16::<4>(both), both);
    _mm256_and_si256(spread, _mm256_set1_epi8(0xf))
}

impl Blocks for Q4_0 {
    const BYTES: usize = 18;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn read(block: *const u8) -> __m256i {
        // SAFETY: 16 bytes follow the scale.
        let unsigned = unsafe { nibbles(block.add(2)) };
        _mm256_sub_epi8(unsigned, _mm256_set1_epi8(8))
    }
}

impl Blocks for Q5_0 {
    const BYTES: usize = 22;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn read(block: *const u8) -> __m256i {
        // SAFETY: 4 bytes of fifth bits and 16 of nibbles follow the scale.
        let (fifth, low) = unsafe {
            (
                block.add(2).cast::<i32>().read_unaligned(),
                nibbles(block.add(6)),
            )
        };
        // Byte i of the register gets the byte that holds bit i, ...
        let bytes = _mm256_shuffle_epi8(
            _mm256_set1_epi32(fifth),
            _mm256_setr_epi64x(
                0,
                0x0101_0101_0101_0101,
                0x0202_0202_0202_0202,
                0x0303_0303_0303_0303,
            ),
        );
        // ... of which only that bit is looked at.
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201u64.cast_signed());
        let is_clear = _mm256_cmpeq_epi8(_mm256_andnot_si256(bytes, bit), bit);
        // With the bit the number is low + 16 - 16, without it low - 16.
        _mm256_or_si256(
            low,
            _mm256_and_si256(is_clear, _mm256_set1_epi8(0xf0u8.cast_signed())),
        )
    }
}

/// The results for `R` rows of weights and `C` columns of activations.
///
/// # Safety
/// `blocks` blocks must be readable at each of `rows`, and as many blocks of
/// activations and their scales at each of `columns`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<B: Blocks, const R: usize, const C: usize>(
    blocks: usize,
    rows: [*const u8; R],
    columns: [(*const i8, *const f32); C],
) -> [[f32; C]; R] {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_ps(); C]; R];
    for block in 0..blocks {
        for r in 0..R {
            // SAFETY: the caller's promise.
            let (scale, weights) = unsafe {
                let at = rows[r].add(block * B::BYTES);
                (
                    half_to_float(at.cast::<u16>().read_unaligned()),
                    B::read(at),
                )
            };
            let magnitudes = _mm256_sign_epi8(weights, weights);
            for c in 0..C {
                // SAFETY: the caller's promise.
                let (activations, other) = unsafe {
                    (
                        _mm256_loadu_si256(columns[c].0.add(block * BLOCK).cast()),
                        *columns[c].1.add(block),
                    )
                };
                // |w| · (a with the sign of w): the instruction wants one side unsigned.
                let pairs =
                    _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(activations, weights));
                let products = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones));
                sums[r][c] = _mm256_fmadd_ps(_mm256_set1_ps(scale * other), products, sums[r][c]);
            }
        }
    }
    let mut results = [[0.0; C]; R];
    for r in 0..R {
        for c in 0..C {
            results[r][c] = sum8(sums[r][c]);
        }
    }
    results
}

/// `R` rows of weights against all columns.
///
/// # Safety
/// As for [`tile`]; `out` has `R` by the number of columns.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn strip<B: Blocks, const R: usize>(
    weights: &[u8],
    blocks: usize,
    activations: &Quantised,
    out: &mut [f32],
) {
    let columns = activations.scales.len() / blocks;
    let row = |r: usize| weights[r * blocks * B::BYTES..].as_ptr();
    let column = |c: usize| {
        (
            activations.numbers[c * blocks * BLOCK..].as_ptr(),
            activations.scales[c * blocks..].as_ptr(),
        )
    };
    let rows: [*const u8; R] = core::array::from_fn(row);
    let mut c = 0;
    while c + 4 <= columns {
        // SAFETY: `multiply_blocks` has checked the lengths.
        let results =
            unsafe { tile::<B, R, 4>(blocks, rows, core::array::from_fn(|i| column(c + i))) };
        for r in 0..R {
            out[r * columns + c..][..4].copy_from_slice(&results[r]);
        }
        c += 4;
    }
    while c < columns {
        // SAFETY: as above.
        let results = unsafe { tile::<B, R, 1>(blocks, rows, [column(c)]) };
        for r in 0..R {
            out[r * columns + c] = results[r][0];
        }
        c += 1;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply_blocks<B: Blocks>(
    weights: &[u8],
    width: usize,
    activations: &Quantised,
    out: &mut [f32],
) {
    let blocks = width / BLOCK;
    let row_bytes = blocks * B::BYTES;
    let columns = activations.numbers.len() / width;
    let rows = weights.len() / row_bytes;
    assert!(width.is_multiple_of(BLOCK) && weights.len() == rows * row_bytes);
    assert!(
        activations.numbers.len() == columns * width
            && activations.scales.len() == columns * blocks
    );
    assert!(out.len() == rows * columns);

    // Four rows at once hide the latency of the sums when there is one
    // column; with more columns two rows by four columns fill the registers.
    let at_once = if columns == 1 { 4 } else { 2 };
    let mut strips = weights.chunks_exact(at_once * row_bytes);
    let mut outs = out.chunks_exact_mut(at_once * columns);
    for (weights, out) in strips.by_ref().zip(outs.by_ref()) {
        // SAFETY: the lengths asserted above give every tile its bytes.
        unsafe {
            if at_once == 4 {
                strip::<B, 4>(weights, blocks, activations, out);
            } else {
                strip::<B, 2>(weights, blocks, activations, out);
            }
        }
    }
    let rest = strips.remainder().chunks_exact(row_bytes);
    for (weights, out) in rest.zip(outs.into_remainder().chunks_exact_mut(columns)) {
        // SAFETY: as above.
        unsafe { strip::<B, 1>(weights, blocks, activations, out) };
    }
}
