//! Random numbers that depend on a seed and on what they are for, so that one decision less does not change the others.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// A generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Returns the generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number of the range.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (first, last) = (*range.start(), *range.end());
        first + self.number() % (last - first + 1)
    }

    /// Returns a number below the bound.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound.max(1) as u64).unwrap_or(0)
    }

    /// Returns true in so many of 1,000 cases.
    pub fn per_mille(&mut self, cases: u64) -> bool {
        self.number() % 1000 < cases
    }

    /// Returns one of the values.
    pub fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Returns a hash of texts and numbers (FNV-1a).
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

/// Draws for decisions that have a name. The n-th draw of a name is the same whatever else is drawn.
#[derive(Debug)]
pub struct Draws {
    seed: u64,
    drawn: BTreeMap<u64, u64>,
}

impl Draws {
    /// Returns the draws of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            drawn: BTreeMap::new(),
        }
    }

    /// Returns the generator for the next decision of this name.
    pub fn of(&mut self, name: &[&str]) -> Random {
        let name = hash(name);
        let count = self.drawn.entry(name).or_default();
        *count += 1;
        Random(mix(self.seed ^ name).wrapping_add(mix(*count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_of_one_name_do_not_depend_on_draws_of_others() {
        let (mut one, mut other) = (Draws::new(7), Draws::new(7));
        let first = one.of(&["create", "a"]).number();
        other.of(&["create", "b"]).number();
        assert_eq!(other.of(&["create", "a"]).number(), first);
        assert_ne!(other.of(&["create", "a"]).number(), first);
        assert_ne!(Draws::new(8).of(&["create", "a"]).number(), first);
    }
}
