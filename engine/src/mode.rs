//! How a lock is held.

use std::fmt;

/// How a lock is held (S1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Any number of holders, as long as all of them are shared.
    Shared,
    /// One holder, and none beside it.
    Exclusive,
}

impl Mode {
    /// Whether a holder in this mode and one in `other` exclude each other.
    ///
    /// ```
    /// use clasp_engine::Mode;
    /// assert!(Mode::Shared.conflicts(Mode::Exclusive));
    /// assert!(!Mode::Shared.conflicts(Mode::Shared));
    /// ```
    pub fn conflicts(self, other: Mode) -> bool {
        self == Mode::Exclusive || other == Mode::Exclusive
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Shared => "shared",
            Mode::Exclusive => "exclusive",
        })
    }
}
