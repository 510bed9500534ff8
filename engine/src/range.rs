//! Ranges of bytes.

use crate::{Error, ErrorKind};
use std::fmt;

/// One or more bytes of a file, which need not be there yet.
///
/// ```
/// use clasp_engine::ByteRange;
/// let range = ByteRange::new(10, 5)?;
/// assert_eq!((range.start(), range.len()), (10, 5));
/// // A length of zero means all bytes from the start on, as with `fcntl`.
/// assert_eq!(ByteRange::new(0, 0)?, ByteRange::ALL);
/// # Ok::<(), clasp_engine::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    /// The first byte after it.
    end: u64,
}

/// The number of bytes that a file can have: offsets are 63 bits long.
const END: u64 = 1 << 63;

#[expect(clippy::len_without_is_empty, reason = "a length of zero means no end")]
impl ByteRange {
    /// All bytes of a file, however long it becomes.
    pub const ALL: ByteRange = ByteRange { start: 0, end: END };

    /// The bytes from `start` on, `len` of them, or all if `len` is zero. Files have no bytes
    /// from offset 2^63 on; a range that goes beyond is one without an end.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if `start` is 2^63 or greater.
    pub fn new(start: u64, len: u64) -> Result<ByteRange, Error> {
        if start >= END {
            let why = "files have no bytes from offset 2^63 on";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let end = match len {
            0 => END,
            len => start.saturating_add(len).min(END),
        };
        Ok(ByteRange { start, end })
    }

    /// The bytes from `start` to before `end`; `None` if there are none.
    pub(crate) fn between(start: u64, end: u64) -> Option<ByteRange> {
        (start < end).then_some(ByteRange { start, end })
    }

    /// The offset of the first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// How many bytes; zero if the range has no end.
    pub fn len(self) -> u64 {
        if self.end == END {
            0
        } else {
            self.end - self.start
        }
    }

    /// The offset after the last byte.
    pub(crate) fn end(self) -> u64 {
        self.end
    }

    /// The bytes that are in both.
    pub(crate) fn common(self, other: ByteRange) -> Option<ByteRange> {
        ByteRange::between(self.start.max(other.start), self.end.min(other.end))
    }
}

/// As `10..15`, and `10..` without an end.
impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.start)?;
        if self.end < END {
            write!(f, "{}", self.end)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_range_is_empty_or_too_long() {
        let range = |start, len| ByteRange::new(start, len).map(|range| range.to_string());
        assert_eq!(range(3, 1).unwrap(), "3..4");
        assert_eq!(range(3, u64::MAX).unwrap(), "3..");
        assert_eq!(range(END - 1, 1).unwrap(), format!("{}..", END - 1));
        assert_eq!(
            range(END - 2, 1).unwrap(),
            format!("{}..{}", END - 2, END - 1)
        );
        assert_eq!(range(END, 0).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
