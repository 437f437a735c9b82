//! The fast loops against the portable ones, and both against candle.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-2.0..2.0)).collect()
}

/// Weights in a storage format, and the numbers that they then stand for.
fn stored(kind: GgmlDType, rows: usize, width: usize) -> (Vec<u8>, Vec<f32>) {
    let tensor = Tensor::from_vec(numbers(1, rows * width), (rows, width), &Device::Cpu).unwrap();
    let quantised = QTensor::quantize(&tensor, kind).unwrap();
    let exact = quantised.dequantize(&Device::Cpu).unwrap();
    (
        quantised.data().unwrap().into_owned(),
        exact.flatten_all().unwrap().to_vec1().unwrap(),
    )
}

fn naive(weights: &[f32], activations: &[f32], width: usize) -> Vec<f32> {
    weights
        .chunks(width)
        .flat_map(|row| {
            activations
                .chunks(width)
                .map(|column| row.iter().zip(column).map(|(a, b)| a * b).sum())
        })
        .collect()
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance,
            "{at}: {found} and {expected}"
        );
    }
}

const FORMATS: [(Format, GgmlDType); 6] = [
    (Format::Q8_0, GgmlDType::Q8_0),
    (Format::Q4_0, GgmlDType::Q4_0),
    (Format::Q5_0, GgmlDType::Q5_0),
    (Format::F32, GgmlDType::F32),
    (Format::F16, GgmlDType::F16),
    (Format::Bf16, GgmlDType::BF16),
];

fn multiply(
    level: Level,
    format: Format,
    weights: &[u8],
    width: usize,
    activations: &[f32],
    rows: usize,
) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows * activations.len() / width];
    if matches!(format, Format::F32 | Format::F16 | Format::Bf16) {
        multiply_floats(level, format, weights, width, activations, &mut out);
    } else {
        let mut quantised = Quantised::default();
        quantised.fill(level, activations);
        multiply_blocks(level, format, weights, width, &quantised, &mut out);
    }
    out
}

#[test]
fn products_are_right_for_every_format_and_shape() {
    for (format, kind) in FORMATS {
        for (rows, width, columns) in [(1, 32, 1), (7, 96, 1), (5, 64, 3), (6, 128, 9)] {
            let (weights, exact) = stored(kind, rows, width);
            let activations = numbers(2, columns * width);
            let expected = naive(&exact, &activations, width);
            for level in [Level::detect(), Level::plain()] {
                let found = multiply(level, format, &weights, width, &activations, rows);
                // Rounding activations to 8 bits costs about 0.4 % per number.
                assert_close(&found, &expected, 0.4);
            }
        }
    }
}

#[test]
fn a_column_gets_the_same_bits_alone_and_in_company() {
    for (format, kind) in FORMATS {
        let (rows, width) = (9, 64);
        let (weights, _) = stored(kind, rows, width);
        let activations = numbers(3, 6 * width);
        let together = multiply(Level::detect(), format, &weights, width, &activations, rows);
        for (column, one) in activations.chunks(width).enumerate() {
            let alone = multiply(Level::detect(), format, &weights, width, one, rows);
            let same: Vec<f32> = together.chunks(6).map(|row| row[column]).collect();
            assert_eq!(alone, same, "{format:?}, column {column}");
        }
    }
}

#[test]
fn candle_products_have_the_same_layout() {
    use candle_core::quantized::k_quants::BlockQ8K;
    let (weights, exact) = stored(GgmlDType::Q6K, 3, 256);
    let activations = numbers(4, 2 * 256);
    let mut quantised = vec![BlockQ8K::zeros(); 2];
    BlockQ8K::from_float(&activations, &mut quantised);
    let mut out = vec![0.0; 6];
    multiply_candle::<BlockQ6K>(blocks(&weights).unwrap(), 256, &quantised, &mut out);
    assert_close(&out, &naive(&exact, &activations, 256), 0.5);
}

#[test]
fn bytes_that_do_not_lie_evenly_are_no_blocks() {
    let bytes = [0u16; 35];
    let bytes: Vec<u8> = bytes.iter().flat_map(|pair| pair.to_le_bytes()).collect();
    assert!(blocks::<BlockQ8_0>(&bytes[..33]).is_none());
    assert!(
        blocks::<BlockQ8_0>(&bytes[1..35]).is_none() || blocks::<BlockQ8_0>(&bytes[..34]).is_none()
    );
}

#[test]
fn attention_is_a_weighted_mean_of_the_values() {
    let (width, positions) = (40, 75);
    let (query, keys, values) = (
        numbers(5, width),
        numbers(6, width * positions),
        numbers(7, width * positions),
    );
    let scores: Vec<f32> = naive(&keys, &query, width)
        .iter()
        .map(|score| (score * 0.3).exp())
        .collect();
    let total: f32 = scores.iter().sum();
    let mut expected = vec![0.0; width];
    for (score, value) in scores.iter().zip(values.chunks(width)) {
        for (expected, value) in expected.iter_mut().zip(value) {
            *expected += score / total * value;
        }
    }
    for level in [Level::detect(), Level::plain()] {
        let mut out = vec![f32::NAN; width];
        attend(
            level,
            &query,
            &keys,
            &values,
            0.3,
            &mut Vec::new(),
            &mut out,
        );
        assert_close(&out, &expected, 1e-5);
    }
}

proptest! {
    #[test]
    fn gates_and_norms_are_those_of_the_textbook(x in prop::collection::vec(-60f32..60.0, 1..70)) {
        for level in [Level::detect(), Level::plain()] {
            let up = vec![2.0; x.len()];
            let mut gated = x.clone();
            gate(level, Activation::Silu, &mut gated, &up);
            for (x, gated) in x.iter().zip(&gated) {
                let expected = f64::from(*x) / (1.0 + (-f64::from(*x)).exp()) * 2.0;
                prop_assert!((f64::from(*gated) - expected).abs() <= 1e-5 * expected.abs() + 1e-12);
            }
            let mut gated = x.clone();
            gate(level, Activation::Gelu, &mut gated, &up);
            for (x, gated) in x.iter().zip(&gated) {
                let x = f64::from(*x);
                let expected = x * (1.0 + (0.797_884_560_8 * (x + 0.044_715 * x * x * x)).tanh());
                prop_assert!((f64::from(*gated) - expected).abs() <= 1e-5 * expected.abs() + 1e-5);
            }
            let mut normed = vec![0.0; x.len()];
            rms_norm(level, &x, &up, 1e-5, &mut normed);
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64;
            for (x, normed) in x.iter().zip(&normed) {
                let expected = f64::from(*x) / (mean + 1e-5).sqrt() * 2.0;
                prop_assert!((f64::from(*normed) - expected).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn rounding_activations_loses_at_most_half_a_step(x in prop::collection::vec(-9f32..9.0, 64)) {
        for level in [Level::detect(), Level::plain()] {
            let mut quantised = Quantised::default();
            quantised.fill(level, &x);
            for (at, x) in x.iter().enumerate() {
                let scale = quantised.scales[at / BLOCK];
                let back = f32::from(quantised.numbers[at]) * scale;
                prop_assert!((back - x).abs() <= 0.56 * scale + 1e-6, "{back} for {x}");
            }
        }
    }
}
