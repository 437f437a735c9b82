//! Rotating queries and keys by their position.

/// Which two numbers of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pairing {
    /// Neighbours, as llama files are laid out.
    Neighbours,
    /// Each with the one half a head further.
    Halves,
}

/// The rotation of one kind of layer.
#[derive(Debug)]
pub(super) struct Rope {
    pairing: Pairing,
    /// Angle per position, for each pair.
    speeds: Vec<f32>,
    /// What the rotated numbers are multiplied by.
    magnitude: f32,
}

/// Sines and cosines of a batch of positions.
#[derive(Debug, Default)]
pub(super) struct Angles {
    /// For each position and pair: cosine, sine.
    turns: Vec<(f32, f32)>,
}

impl Rope {
    /// `slowdown` divides the speed of each pair; empty for none.
    pub(super) fn new(
        pairing: Pairing,
        rotated: usize,
        base: f32,
        scale: f32,
        slowdown: &[f32],
        magnitude: f32,
    ) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "computed in f64, kept as f32"
        )]
        let speeds = (0..rotated / 2)
            .map(|pair| {
                let speed = f64::from(base).powf(-2.0 * pair as f64 / rotated as f64);
                let slowdown = slowdown.get(pair).copied().unwrap_or(1.0);
                (speed / f64::from(slowdown) / f64::from(scale)) as f32
            })
            .collect();
        Self {
            pairing,
            speeds,
            magnitude,
        }
    }

    pub(super) fn angles(&self, positions: impl Iterator<Item = usize>, angles: &mut Angles) {
        angles.turns.clear();
        for position in positions {
            let position = position as f32;
            angles.turns.extend(self.speeds.iter().map(|speed| {
                let (sine, cosine) = (position * speed).sin_cos();
                (cosine * self.magnitude, sine * self.magnitude)
            }));
        }
    }

    /// Turns all heads of a row of the batch.
    pub(super) fn turn(&self, angles: &Angles, row: usize, heads: &mut [f32], head_width: usize) {
        let pairs = self.speeds.len();
        let turns = &angles.turns[row * pairs..(row + 1) * pairs];
        for head in heads.chunks_exact_mut(head_width) {
            match self.pairing {
                Pairing::Neighbours => {
                    for (pair, (cosine, sine)) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns)
                    {
                        let [a, b] = *pair;
                        *pair = [a * cosine - b * sine, a * sine + b * cosine];
                    }
                }
                Pairing::Halves => {
                    let (first, second) = head.split_at_mut(pairs);
                    for ((a, b), (cosine, sine)) in first.iter_mut().zip(second).zip(turns) {
                        (*a, *b) = (*a * cosine - *b * sine, *a * sine + *b * cosine);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(pairing: Pairing, slowdown: &[f32]) -> Vec<f32> {
        let rope = Rope::new(pairing, 4, 100.0, 1.0, slowdown, 1.0);
        let mut angles = Angles::default();
        rope.angles([0, 3].into_iter(), &mut angles);
        let mut head = vec![1.0, 0.0, 0.0, 1.0, 9.0, 9.0];
        rope.turn(&angles, 0, &mut head, 6);
        assert_eq!(
            head,
            [1.0, 0.0, 0.0, 1.0, 9.0, 9.0],
            "position 0 does not turn"
        );
        rope.turn(&angles, 1, &mut head, 6);
        head
    }

    fn assert_close(found: &[f32], expected: [f32; 6]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
        }
    }

    #[test]
    fn pairs_turn_by_position_times_speed() {
        // Speeds 1 and 0.1, position 3.
        let (s1, c1) = 3f32.sin_cos();
        let (s2, c2) = 0.3f32.sin_cos();
        assert_close(
            &turned(Pairing::Neighbours, &[]),
            [c1, s1, -s2, c2, 9.0, 9.0],
        );
        assert_close(&turned(Pairing::Halves, &[]), [c1, -s2, s1, c2, 9.0, 9.0]);
        let (s4, c4) = 0.75f32.sin_cos();
        assert_close(
            &turned(Pairing::Neighbours, &[4.0, 1.0]),
            [c4, s4, -s2, c2, 9.0, 9.0],
        );
    }
}
