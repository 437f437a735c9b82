//! Numbers that follow from a seed, on every machine and in every version:
//! splitmix64, written out here because a library may change its own.

use core::ops::Range;

/// A source of numbers. Clones go on alike.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed ^ 0x6c65_7468_655f_7631);
        random.draw();
        random
    }

    /// A source of its own, so that what one part of a story draws does not
    /// move the dice of another.
    #[must_use]
    pub fn apart(&self, name: u64) -> Self {
        Self::new(self.0 ^ name.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in a range; its start if the range is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        let span = range.end.saturating_sub(range.start);
        let drawn = self.draw();
        range.start + drawn.checked_rem(span).unwrap_or_default()
    }

    /// The same for places in a list.
    pub fn place(&mut self, len: usize) -> usize {
        let drawn = self.within(0..len.try_into().unwrap_or(u64::MAX));
        usize::try_from(drawn).unwrap_or_default()
    }

    /// Whether it happens, so many times in ten thousand.
    pub fn chance(&mut self, in_ten_thousand: u64) -> bool {
        self.within(0..10_000) < in_ten_thousand
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_tells_the_same() {
        let mut random = Random::new(1);
        let drawn: Vec<_> = (0..3).map(|_| random.within(0..1000)).collect();
        let mut again = Random::new(1);
        assert_eq!(drawn, [0; 3].map(|_| again.within(0..1000)));
        assert_ne!(Random::new(2).draw(), Random::new(1).draw());
        assert_eq!(Random::new(5).within(7..7), 7);
    }

    #[test]
    fn chances_come_about_as_often_as_they_say() {
        let mut random = Random::new(3);
        let came = (0..100_000).filter(|_| random.chance(2_500)).count();
        assert!((24_000..26_000).contains(&came), "{came}");
    }
}
