//! One step: a batch of tokens in, scores over the vocabulary out.
//!
//! The tokens of a batch may belong to several conversations; they share the
//! products with the weights, and each attends to its own past only. Between
//! the parts of a layer the caller may call the whole step off, so that work
//! for nobody ends within a fraction of a step.

use rayon::prelude::*;

use super::matrix::{Input, Lanes};
use super::rope::Angles;
use super::{Cache, GateUp, Layer, Linear, Model, QueryKeyValue};
use crate::kernel;

/// Below this many multiplications attention is not worth splitting.
const PARALLEL_MIN: usize = 1 << 18;

/// One token of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) token: u32,
    /// Its place in its conversation; the cache holds all before it.
    pub(crate) position: usize,
    /// Which of the caches is its conversation's.
    pub(crate) cache: usize,
    /// Whether the scores of the token after it are wanted.
    pub(crate) is_scored: bool,
}

/// Space that steps reuse, so that a step allocates next to nothing.
#[derive(Default)]
pub(crate) struct Scratch {
    input: Input,
    turned: Vec<f32>,
    residual: Vec<f32>,
    normed: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    fused: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    product: Vec<f32>,
    weights: Vec<f32>,
    angles: Angles,
    angles_sliding: Angles,
    scores: Vec<f32>,
}

/// What all parts of a step need to know.
struct Step<'a> {
    rows: &'a [Row],
    lanes: Lanes,
}

impl Model {
    pub(crate) fn lanes(&self, threads: usize) -> Lanes {
        Lanes {
            level: self.level,
            threads,
        }
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::new(self.config.layers, self.config.key_value_heads)
    }

    /// The scores that the rows ask for, vocabulary by vocabulary; `None` if
    /// `is_called_off` said so, and then the caches are of no more use.
    pub(crate) fn forward<'s>(
        &self,
        rows: &[Row],
        caches: &mut [&mut Cache],
        lanes: Lanes,
        scratch: &'s mut Scratch,
        is_called_off: impl Fn() -> bool,
    ) -> Option<&'s mut [f32]> {
        let step = Step { rows, lanes };
        self.embed(&step, scratch);
        for (index, layer) in self.layers.iter().enumerate() {
            self.attention(&step, index, layer, caches, scratch);
            if is_called_off() {
                return None;
            }
            self.feed(&step, layer, scratch);
            if is_called_off() {
                return None;
            }
        }
        self.score(&step, scratch);
        Some(&mut scratch.scores)
    }

    fn embed(&self, step: &Step<'_>, scratch: &mut Scratch) {
        let width = self.config.width;
        scratch.residual.resize(step.rows.len() * width, 0.0);
        for (row, out) in step
            .rows
            .iter()
            .zip(scratch.residual.chunks_exact_mut(width))
        {
            self.embedding.read_row(row.token as usize, out);
        }
        if self.config.embedding_scale != 1.0 {
            for number in &mut scratch.residual {
                *number *= self.config.embedding_scale;
            }
        }
        let positions = step.rows.iter().map(|row| row.position);
        self.rope.angles(positions.clone(), &mut scratch.angles);
        if let Some(rope) = &self.rope_sliding {
            rope.angles(positions, &mut scratch.angles_sliding);
        }
    }

    /// Norms the residual into the input of the next products.
    fn norm(&self, step: &Step<'_>, weight: &[f32], scratch: &mut Scratch) {
        let out = scratch.input.start(step.rows.len(), self.config.width);
        kernel::rms_norm(
            step.lanes.level,
            &scratch.residual,
            weight,
            self.config.epsilon,
            out,
        );
    }

    /// Adds a part's product to the residual, normed first where gemma does.
    fn add(&self, step: &Step<'_>, after_norm: Option<&[f32]>, scratch: &mut Scratch) {
        let added = match after_norm {
            Some(weight) => {
                scratch.normed.resize(scratch.product.len(), 0.0);
                let epsilon = self.config.epsilon;
                kernel::rms_norm(
                    step.lanes.level,
                    &scratch.product,
                    weight,
                    epsilon,
                    &mut scratch.normed,
                );
                &scratch.normed
            }
            None => &scratch.product,
        };
        for (residual, added) in scratch.residual.iter_mut().zip(added) {
            *residual += added;
        }
    }

    fn attention(
        &self,
        step: &Step<'_>,
        index: usize,
        layer: &Layer,
        caches: &mut [&mut Cache],
        scratch: &mut Scratch,
    ) {
        let config = &self.config;
        self.norm(step, &layer.attention_norm, scratch);
        self.query_key_value(step, &layer.query_key_value, scratch);
        for (norm, heads) in [
            (&layer.query_norm, &mut scratch.query),
            (&layer.key_norm, &mut scratch.key),
        ] {
            if let Some(weight) = norm {
                scratch.normed.resize(heads.len(), 0.0);
                kernel::rms_norm(
                    step.lanes.level,
                    heads,
                    weight,
                    config.epsilon,
                    &mut scratch.normed,
                );
                std::mem::swap(heads, &mut scratch.normed);
            }
        }

        let (rope, angles) = match (&self.rope_sliding, layer.window) {
            (Some(rope), Some(_)) => (rope, &scratch.angles_sliding),
            _ => (&self.rope, &scratch.angles),
        };
        let query_width = config.heads * config.head_width;
        let key_width = config.key_value_heads * config.head_width;
        let queries = scratch.query.chunks_exact_mut(query_width);
        let keys = scratch.key.chunks_exact_mut(key_width);
        let values = scratch.value.chunks_exact(key_width);
        for (at, (((row, query), key), value)) in step
            .rows
            .iter()
            .zip(queries)
            .zip(keys)
            .zip(values)
            .enumerate()
        {
            rope.turn(angles, at, query, config.head_width);
            rope.turn(angles, at, key, config.head_width);
            caches[row.cache].push(index, key, value);
        }

        self.attend(step, index, layer, caches, scratch);
        let Scratch {
            input,
            turned,
            product,
            ..
        } = scratch;
        layer
            .attention_output
            .multiply(step.lanes, input, turned, product);
        self.add(step, layer.attention_after_norm.as_deref(), scratch);
    }

    fn query_key_value(&self, step: &Step<'_>, weights: &QueryKeyValue, scratch: &mut Scratch) {
        let Scratch {
            input,
            turned,
            query,
            key,
            value,
            fused,
            ..
        } = scratch;
        match weights {
            QueryKeyValue::Apart {
                query: q,
                key: k,
                value: v,
            } => {
                q.multiply(step.lanes, input, turned, query);
                k.multiply(step.lanes, input, turned, key);
                v.multiply(step.lanes, input, turned, value);
            }
            QueryKeyValue::Fused(all) => {
                all.multiply(step.lanes, input, turned, fused);
                let queries = self.config.heads * self.config.head_width;
                let keys = self.config.key_value_heads * self.config.head_width;
                let row = queries + 2 * keys;
                part(fused, row, 0..queries, query);
                part(fused, row, queries..queries + keys, key);
                part(fused, row, queries + keys..row, value);
            }
        }
    }

    /// Every head of every row over its own past.
    fn attend(
        &self,
        step: &Step<'_>,
        index: usize,
        layer: &Layer,
        caches: &[&mut Cache],
        scratch: &mut Scratch,
    ) {
        let config = &self.config;
        let width = config.head_width;
        let heads_per_key = config.heads / config.key_value_heads;
        let out = scratch.input.start(step.rows.len(), config.heads * width);
        let attend = |at: usize, weights: &mut Vec<f32>, out: &mut [f32]| {
            let row = &step.rows[at / config.heads];
            let head = at % config.heads;
            let past = caches[row.cache].head(index, head / heads_per_key);
            let end = row.position + 1;
            let start = layer.window.map_or(0, |window| end.saturating_sub(window));
            let seen = start * width..end * width;
            let query = &scratch.query[at * width..(at + 1) * width];
            let (keys, values) = (&past.keys[seen.clone()], &past.values[seen]);
            kernel::attend(
                step.lanes.level,
                query,
                keys,
                values,
                config.query_scale,
                weights,
                out,
            );
        };
        let positions: usize = step.rows.iter().map(|row| row.position + 1).sum();
        if step.lanes.threads > 1 && positions * config.heads * width * 2 >= PARALLEL_MIN {
            out.par_chunks_mut(width)
                .enumerate()
                .for_each_init(Vec::new, |weights, (at, out)| attend(at, weights, out));
        } else {
            for (at, out) in out.chunks_exact_mut(width).enumerate() {
                attend(at, &mut scratch.weights, out);
            }
        }
    }

    fn feed(&self, step: &Step<'_>, layer: &Layer, scratch: &mut Scratch) {
        let width = self.config.feed_width;
        self.norm(step, &layer.feed_norm, scratch);
        let Scratch {
            input,
            turned,
            fused,
            gate,
            up,
            product,
            ..
        } = scratch;
        match &layer.gate_up {
            GateUp::Apart { gate: g, up: u } => {
                g.multiply(step.lanes, input, turned, gate);
                u.multiply(step.lanes, input, turned, up);
            }
            GateUp::Fused(both) => {
                both.multiply(step.lanes, input, turned, fused);
                part(fused, 2 * width, 0..width, gate);
                part(fused, 2 * width, width..2 * width, up);
            }
        }
        kernel::gate(step.lanes.level, self.config.activation, gate, up);
        input.start(step.rows.len(), width).copy_from_slice(gate);
        layer.down.multiply(step.lanes, input, turned, product);
        self.add(step, layer.feed_after_norm.as_deref(), scratch);
    }

    fn score(&self, step: &Step<'_>, scratch: &mut Scratch) {
        let width = self.config.width;
        let wanted = step.rows.iter().filter(|row| row.is_scored).count();
        scratch.scores.clear();
        if wanted == 0 {
            return;
        }
        let out = scratch.input.start(wanted, width);
        let scored = step.rows.iter().zip(scratch.residual.chunks_exact(width));
        let scored = scored.filter(|(row, _)| row.is_scored);
        for ((_, residual), out) in scored.zip(out.chunks_exact_mut(width)) {
            kernel::rms_norm(
                step.lanes.level,
                residual,
                &self.output_norm,
                self.config.epsilon,
                out,
            );
        }
        let output = self.output.as_ref().unwrap_or(&self.embedding);
        output.multiply(
            step.lanes,
            &mut scratch.input,
            &mut scratch.turned,
            &mut scratch.scores,
        );
        if let Some(cap) = self.config.logit_cap {
            for score in &mut scratch.scores {
                *score = (*score / cap).tanh() * cap;
            }
        }
    }
}

impl Linear {
    fn multiply(&self, lanes: Lanes, input: &mut Input, turned: &mut Vec<f32>, out: &mut Vec<f32>) {
        self.matrix.multiply(lanes, input, turned, out);
        if let Some(bias) = &self.bias {
            for row in out.chunks_exact_mut(bias.len()) {
                for (out, bias) in row.iter_mut().zip(bias) {
                    *out += bias;
                }
            }
        }
    }
}

/// The same columns of every row, gathered.
fn part(rows: &[f32], width: usize, columns: std::ops::Range<usize>, out: &mut Vec<f32>) {
    out.clear();
    for row in rows.chunks_exact(width) {
        out.extend_from_slice(&row[columns.clone()]);
    }
}
