//! The permits of a semaphore.

use std::{fmt, iter};

/// A set of the permits of a semaphore, which are numbered from zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Permits(u64);

impl Permits {
    /// No permit.
    pub const NONE: Permits = Permits(0);

    /// The most permits that a semaphore has: a host that waits for one of them waits for
    /// each with a thread, so more would be slow.
    pub const MOST: u8 = 64;

    /// The permits with the numbers below `count`, of which there are [`MOST`](Permits::MOST)
    /// at the most.
    ///
    /// ```
    /// use clasp_engine::Permits;
    /// assert_eq!(Permits::first(3).iter().collect::<Vec<_>>(), [0, 1, 2]);
    /// ```
    pub fn first(count: u8) -> Permits {
        match count {
            0 => Permits::NONE,
            count if count < Permits::MOST => Permits((1 << count) - 1),
            _ => Permits(u64::MAX),
        }
    }

    /// The permit with this number, or none if there can be none.
    pub fn one(number: u8) -> Permits {
        Permits(1_u64.checked_shl(number.into()).unwrap_or(0))
    }

    /// How many.
    pub fn len(self) -> u8 {
        self.0.count_ones() as u8
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their numbers, the least first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        let mut left = self.0;
        iter::from_fn(move || {
            // Beyond the last bit there is none.
            let number = left.trailing_zeros() as u8;
            left &= left.checked_sub(1)?;
            Some(number)
        })
    }

    /// These and others.
    #[must_use]
    pub fn with(self, others: Permits) -> Permits {
        Permits(self.0 | others.0)
    }

    /// These without others.
    #[must_use]
    pub fn without(self, others: Permits) -> Permits {
        Permits(self.0 & !others.0)
    }

    /// So many of them, those with the least numbers; `None` if there are fewer.
    pub fn choose(self, count: u8) -> Option<Permits> {
        let chosen = self.iter().take(count.into());
        let chosen = chosen.fold(Permits::NONE, |all, number| all.with(Permits::one(number)));
        (chosen.len() == count).then_some(chosen)
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_permits() {
        assert_eq!(Permits::first(64).len(), 64);
        assert_eq!(Permits::first(200).len(), 64);
        assert_eq!(Permits::one(64), Permits::NONE);
        let some = Permits::one(1).with(Permits::one(63));
        assert_eq!(some.iter().collect::<Vec<_>>(), [1, 63]);
        assert_eq!(some.choose(1), Some(Permits::one(1)));
        assert_eq!(some.choose(3), None);
        assert_eq!(some.choose(0), Some(Permits::NONE));
        assert_eq!(some.without(Permits::one(1)), Permits::one(63));
        assert_eq!(format!("{some:?}"), "{1, 63}");
    }
}
