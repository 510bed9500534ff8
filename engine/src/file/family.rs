//! Families of locks: which system call carries the exclusion.

use super::sys;
use crate::{Error, ErrorKind};
use std::{fmt, str::FromStr};

/// A family of locks. Programs exclude each other within one family only.
///
/// The default is [`Posix`](Family::Posix), on Windows
/// [`LockFileEx`](Family::LockFileEx). PLATFORM.md says which system has which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// `fcntl` locks over the whole file, held by the open file description.
    /// They exclude `fasteners`, Java's `FileChannel`, `lockf` and every other
    /// user of `fcntl` locks.
    #[doc(alias = "F_OFD_SETLK")]
    Posix,
    /// `flock`, as used by flock(1), Cargo, Go, `filelock`, `portalocker` and
    /// `std::fs::File::lock`.
    Flock,
    /// Both at once: excludes the programs of either family, for twice the
    /// system calls. Locks of this family exclude each other, too.
    Both,
    /// `LockFileEx` on the first byte, as used by `fasteners`' reader-writer
    /// lock, `filelock` and `portalocker` on Windows, and only there. That byte
    /// cannot be read or written by others while it is locked exclusively.
    LockFileEx,
}

impl Family {
    /// Those of this operating system, the default first.
    pub fn supported() -> &'static [Family] {
        sys::FAMILIES
    }

    /// Whether this operating system has it.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) with the families it has.
    pub fn check(self) -> Result<(), Error> {
        if Family::supported().contains(&self) {
            return Ok(());
        }
        let names = Family::supported().iter().map(|f| format!("`{f}`"));
        let names: Vec<_> = names.collect();
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "this operating system has no `{self}` locks: use {}",
                names.join(" or ")
            ),
        ))
    }

    /// Whether an exclusive lock wants a file that is open for writing.
    pub(super) fn writes(self) -> bool {
        // On macOS it is `fcntl` whatever the family.
        matches!(self, Family::Posix | Family::Both)
            || cfg!(target_os = "macos") && self == Family::Flock
    }

    /// The name, as in options: `posix`, `flock`, `both` or `lockfileex`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Posix => "posix",
            Family::Flock => "flock",
            Family::Both => "both",
            Family::LockFileEx => "lockfileex",
        }
    }
}

impl Default for Family {
    fn default() -> Family {
        Family::supported()[0]
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
            "lockfileex" => Ok(Family::LockFileEx),
            other => Err(format!(
                "unknown family {other:?}: use `posix` (fcntl: fasteners, Java, lockf), \
                 `flock` or `both`; on Windows `lockfileex`"
            )),
        }
    }
}
