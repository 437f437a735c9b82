//! Numbers that follow from a seed: splitmix64, written out here because a
//! library may change its own, and a recorded choice must replay.

/// A source of numbers.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; zero if that is zero.
    pub fn below(&mut self, end: u64) -> u64 {
        let scaled = u128::from(self.draw()) * u128::from(end);
        u64::try_from(scaled >> 64).unwrap_or(u64::MAX)
    }

    /// A place in a list of this length; none in an empty one.
    pub fn place(&mut self, len: usize) -> Option<usize> {
        let drawn = self.below(u64::try_from(len).unwrap_or(u64::MAX));
        usize::try_from(drawn).ok().filter(|place| *place < len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_tells_the_same_and_all_places_are_drawn_alike() {
        let draws = |seed| {
            let mut chance = Chance::new(seed);
            [chance.draw(), chance.draw()]
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        let mut chance = Chance::new(3);
        let mut times = [0; 4];
        for _ in 0..4000 {
            times[chance.place(4).unwrap()] += 1;
        }
        assert!(times.iter().all(|n| (900..1100).contains(n)), "{times:?}");
        assert_eq!(chance.place(0), None);
    }
}
