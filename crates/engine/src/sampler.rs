//! Choosing the next token from the model's scores.
//!
//! Order: bias and penalties, then (at temperature 0) the best; else top-k,
//! min-p and top-p cut the list and the seed decides among what is left. The
//! same seed gives the same tokens whoever else is served at the same time.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How a request wants its tokens chosen; all ranges checked.
#[derive(Debug, Clone)]
pub(crate) struct Sampling {
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    pub(crate) min_p: f32,
    /// 0 for no limit.
    pub(crate) top_k: usize,
    pub(crate) frequency_penalty: f32,
    pub(crate) presence_penalty: f32,
    pub(crate) bias: Vec<(u32, f32)>,
    pub(crate) seed: Option<u64>,
}

/// Log-probability of a token, and its place among the alternatives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scored {
    pub(crate) token: u32,
    pub(crate) logprob: f32,
}

/// Chooses tokens for one answer.
pub(crate) struct Sampler {
    sampling: Sampling,
    random: StdRng,
    /// How often each token was chosen; kept only if a penalty needs it.
    counts: HashMap<u32, u32>,
    /// Kept between calls: candidates as (token, score).
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling) -> Self {
        let random = match sampling.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_os_rng(),
        };
        Self {
            sampling,
            random,
            counts: HashMap::new(),
            candidates: Vec::new(),
        }
    }

    /// Chooses from the scores of the whole vocabulary, which may be changed.
    pub(crate) fn choose(&mut self, scores: &mut [f32]) -> u32 {
        self.adjust(scores);
        let token = if self.sampling.temperature <= 0.0 {
            best(scores)
        } else {
            self.draw(scores)
        };
        if self.penalises() {
            *self.counts.entry(token).or_default() += 1;
        }
        token
    }

    fn penalises(&self) -> bool {
        self.sampling.frequency_penalty != 0.0 || self.sampling.presence_penalty != 0.0
    }

    fn adjust(&self, scores: &mut [f32]) {
        for &(token, bias) in &self.sampling.bias {
            if let Some(score) = scores.get_mut(token as usize) {
                *score += bias;
            }
        }
        for (&token, &count) in &self.counts {
            if let Some(score) = scores.get_mut(token as usize) {
                let count = count as f32;
                *score -= self.sampling.presence_penalty + self.sampling.frequency_penalty * count;
            }
        }
    }

    fn draw(&mut self, scores: &[f32]) -> u32 {
        let Sampling {
            temperature,
            top_p,
            min_p,
            top_k,
            ..
        } = self.sampling;
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // Below this a token's weight is lost in rounding; it keeps the list short.
        const NEGLIGIBLE: f32 = -40.0;
        let floor = if min_p > 0.0 { min_p.ln() } else { NEGLIGIBLE }.max(NEGLIGIBLE);
        self.candidates.clear();
        for (token, &score) in (0u32..).zip(scores) {
            let relative = (score - top) / temperature;
            if relative >= floor {
                self.candidates.push((token, relative));
            }
        }
        let by_score = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if top_k > 0 && top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(top_k - 1, by_score);
            self.candidates.truncate(top_k);
        }
        if top_p < 1.0 || top_k > 0 {
            self.candidates.sort_unstable_by(by_score);
        }
        let mut total = 0.0f32;
        for candidate in &mut self.candidates {
            candidate.1 = candidate.1.exp();
            total += candidate.1;
        }
        if top_p < 1.0 {
            total = self.keep_nucleus(total * top_p, total);
        }
        let mut target = self.random.random::<f32>() * total;
        for &(token, weight) in &self.candidates {
            target -= weight;
            if target < 0.0 {
                return token;
            }
        }
        self.candidates
            .last()
            .map_or_else(|| best(scores), |&(token, _)| token)
    }

    /// Keeps the likeliest candidates that together reach `wanted`.
    fn keep_nucleus(&mut self, wanted: f32, total: f32) -> f32 {
        let mut sum = 0.0;
        for at in 0..self.candidates.len() {
            sum += self.candidates[at].1;
            if sum >= wanted {
                self.candidates.truncate(at + 1);
                return sum;
            }
        }
        total
    }
}

/// The token with the best score; of equals the first. NaN never wins.
fn best(scores: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, &score) in (0u32..).zip(scores) {
        if score > best.1 {
            best = (token, score);
        }
    }
    best.0
}

/// The log-probability of `token` and of the `top` likeliest tokens, as the
/// model sees them: before temperature, penalties and cuts.
pub(crate) fn logprobs(scores: &[f32], token: u32, top: usize) -> (f32, Vec<Scored>) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores
        .iter()
        .map(|&score| f64::from(score - highest).exp())
        .sum();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a logarithm of a vocabulary's size"
    )]
    let log_sum = sum.ln() as f32 + highest;
    let of = |token: u32| {
        scores
            .get(token as usize)
            .map_or(f32::NEG_INFINITY, |&score| score - log_sum)
    };

    let mut ranked: Vec<Scored> = Vec::new();
    if top > 0 {
        let mut all: Vec<Scored> = (0u32..)
            .zip(scores)
            .map(|(token, _)| Scored {
                token,
                logprob: of(token),
            })
            .collect();
        let by_logprob =
            |a: &Scored, b: &Scored| b.logprob.total_cmp(&a.logprob).then(a.token.cmp(&b.token));
        let top = top.min(all.len());
        if top < all.len() {
            all.select_nth_unstable_by(top, by_logprob);
        }
        all.truncate(top);
        all.sort_unstable_by(by_logprob);
        ranked = all;
    }
    (of(token), ranked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            top_k: 0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            bias: Vec::new(),
            seed: Some(7),
        }
    }

    /// How often each of three tokens is chosen in a thousand draws.
    fn draws(sampling: Sampling) -> [u32; 3] {
        let mut sampler = Sampler::new(sampling);
        let mut counts = [0; 3];
        for _ in 0..1000 {
            let token = sampler.choose(&mut [0.0, 1.0, 2.0]);
            counts[token as usize] += 1;
        }
        counts
    }

    #[test]
    fn draws_follow_the_scores() {
        let [a, b, c] = draws(sampling());
        // exp(0), exp(1), exp(2) over their sum: 0.090, 0.245, 0.665.
        assert!(
            (60..120).contains(&a) && (200..290).contains(&b) && (620..710).contains(&c),
            "{a} {b} {c}"
        );
    }

    #[test]
    fn cuts_leave_out_the_unlikely() {
        assert_eq!(
            draws(Sampling {
                temperature: 0.0,
                ..sampling()
            }),
            [0, 0, 1000]
        );
        assert_eq!(
            draws(Sampling {
                top_k: 1,
                ..sampling()
            }),
            [0, 0, 1000]
        );
        assert_eq!(
            draws(Sampling {
                top_p: 0.6,
                ..sampling()
            }),
            [0, 0, 1000]
        );
        assert_eq!(
            draws(Sampling {
                top_p: 0.0,
                ..sampling()
            }),
            [0, 0, 1000]
        );
        assert_eq!(
            draws(Sampling {
                top_p: 0.8,
                ..sampling()
            })[0],
            0
        );
        assert_eq!(
            draws(Sampling {
                min_p: 0.3,
                ..sampling()
            })[0],
            0
        );
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        assert_eq!(draws(sampling()), draws(sampling()));
        assert_ne!(
            draws(sampling()),
            draws(Sampling {
                seed: Some(8),
                ..sampling()
            })
        );
    }

    #[test]
    fn penalties_and_bias_change_the_choice() {
        let mut sampler = Sampler::new(Sampling {
            temperature: 0.0,
            frequency_penalty: 0.6,
            ..sampling()
        });
        let chosen: Vec<u32> = (0..4)
            .map(|_| sampler.choose(&mut [0.0, 1.0, 2.0]))
            .collect();
        assert_eq!(chosen, [2, 2, 1, 2]);
        let banned = Sampling {
            temperature: 0.0,
            bias: vec![(2, -100.0), (9, 1.0)],
            ..sampling()
        };
        assert_eq!(draws(banned), [0, 1000, 0]);
    }

    #[test]
    fn logprobs_are_those_of_the_model() {
        let (chosen, top) = logprobs(&[0.0, 1.0, 2.0], 1, 2);
        assert!((chosen - -1.4076).abs() < 1e-4);
        assert_eq!(
            top.iter().map(|scored| scored.token).collect::<Vec<_>>(),
            [2, 1]
        );
        assert!((top[0].logprob - -0.4076).abs() < 1e-4);
        assert_eq!(logprobs(&[0.0, 1.0], 0, 20).1.len(), 2);
    }
}
