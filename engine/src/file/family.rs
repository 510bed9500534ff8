//! Families of locks: which system call carries the exclusion.

use std::{fmt, str::FromStr};

/// A family of locks. Programs exclude each other within one family only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Family {
    /// `fcntl` locks over the whole file, held by the open file description.
    /// They exclude `fasteners`, Java's `FileChannel`, `lockf` and every other
    /// user of `fcntl` locks.
    #[default]
    #[doc(alias = "F_OFD_SETLK")]
    Posix,
    /// `flock`, as used by flock(1), Cargo, Go, `filelock`, `portalocker` and
    /// `std::fs::File::lock`.
    Flock,
    /// Both at once: excludes the programs of either family, for twice the
    /// system calls. Locks of this family exclude each other, too.
    Both,
}

impl Family {
    /// The name, as in options: `posix`, `flock` or `both`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Posix => "posix",
            Family::Flock => "flock",
            Family::Both => "both",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Family, String> {
        match text {
            "posix" => Ok(Family::Posix),
            "flock" => Ok(Family::Flock),
            "both" => Ok(Family::Both),
            other => Err(format!(
                "unknown family {other:?}: use `posix` (fcntl: fasteners, Java, lockf), \
                 `flock` or `both`"
            )),
        }
    }
}
