//! What a call of `fcntl`, `lockf` or `flock` asks for.

/// How bytes are to be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// Whose lock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belongs {
    /// To the process: it is the same lock by each of its descriptors of the file.
    Process,
    /// To the open file description.
    Description,
}

/// What a command of `fcntl` does to locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Asks which lock stands in the way.
    Test(Belongs),
    /// Locks or releases.
    Set {
        belongs: Belongs,
        /// Until that is possible.
        wait: bool,
    },
}

/// What a command of `fcntl` does to locks; `None` if it is another command.
///
/// wasi-libc had no numbers for the commands of POSIX until it took over 7 to 9. SQLite and
/// others then define those of musl for machines of 32 bits, 12 to 14.
pub(crate) fn command(number: i32) -> Option<Command> {
    use Belongs::{Description, Process};

    Some(match number {
        7 | 12 => Command::Test(Process),
        8 | 13 => Command::Set {
            belongs: Process,
            wait: false,
        },
        9 | 14 => Command::Set {
            belongs: Process,
            wait: true,
        },
        36 => Command::Test(Description),
        37 => Command::Set {
            belongs: Description,
            wait: false,
        },
        38 => Command::Set {
            belongs: Description,
            wait: true,
        },
        _ => return None,
    })
}

/// `l_type`.
pub(crate) const F_RDLCK: i16 = 0;
pub(crate) const F_WRLCK: i16 = 1;
pub(crate) const F_UNLCK: i16 = 2;

/// The mode of an `l_type`, `None` in it to release; `None` if there is no such type.
#[expect(clippy::option_option, reason = "two questions")]
pub(crate) fn mode(l_type: i16) -> Option<Option<Mode>> {
    match l_type {
        F_RDLCK => Some(Some(Mode::Shared)),
        F_WRLCK => Some(Some(Mode::Exclusive)),
        F_UNLCK => Some(None),
        _ => None,
    }
}

/// Why a range is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRange {
    /// It begins before the file: `EINVAL`.
    Negative,
    /// It ends beyond all offsets: `EOVERFLOW`.
    TooFar,
}

/// The first byte and the number of bytes, zero for all that follow, of a range that is
/// given as in `struct flock`: relative to `base`, and before it if `len` is negative.
pub(crate) fn range(base: i64, start: i64, len: i64) -> Result<(u64, u64), NoRange> {
    let start = base.checked_add(start).ok_or(NoRange::TooFar)?;
    let (start, len) = match len {
        0.. => (start, len),
        _ => {
            let first = start.checked_add(len).ok_or(NoRange::Negative)?;
            (first, len.checked_neg().ok_or(NoRange::Negative)?)
        }
    };
    if start < 0 {
        return Err(NoRange::Negative);
    }
    // The last byte has an offset.
    if len > 0 && start.checked_add(len - 1).is_none() {
        return Err(NoRange::TooFar);
    }
    Ok((start.unsigned_abs(), len.unsigned_abs()))
}

/// What `flock` is asked for: a mode, or `None` to release; and whether it waits.
pub(crate) fn flock(operation: i32) -> Option<(Option<Mode>, bool)> {
    const LOCK_SH: i32 = 1;
    const LOCK_EX: i32 = 2;
    const LOCK_NB: i32 = 4;
    const LOCK_UN: i32 = 8;

    let mode = match operation & !LOCK_NB {
        LOCK_SH => Some(Mode::Shared),
        LOCK_EX => Some(Mode::Exclusive),
        LOCK_UN => None,
        _ => return None,
    };
    Some((mode, operation & LOCK_NB == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numberings_of_commands_are_known() {
        for (one, other) in [(7, 12), (8, 13), (9, 14)] {
            assert!(command(one).is_some());
            assert_eq!(command(one), command(other));
        }
        for other in [0, 1, 2, 3, 4, 5, 6, 10, 11, 15, 35, 39, 1030] {
            assert_eq!(command(other), None);
        }
    }

    #[test]
    fn a_range_may_lie_before_its_start() {
        assert_eq!(range(0, 10, 5), Ok((10, 5)));
        assert_eq!(range(100, -10, 0), Ok((90, 0)));
        assert_eq!(range(0, 10, -5), Ok((5, 5)));
        assert_eq!(range(0, 10, -11), Err(NoRange::Negative));
        assert_eq!(range(0, -1, 1), Err(NoRange::Negative));
        assert_eq!(range(0, i64::MAX, 1), Ok((i64::MAX as u64, 1)));
        assert_eq!(range(0, i64::MAX, 2), Err(NoRange::TooFar));
        assert_eq!(range(i64::MAX, 1, 0), Err(NoRange::TooFar));
        assert_eq!(range(0, 0, i64::MIN), Err(NoRange::Negative));
    }

    #[test]
    fn an_operation_of_flock_is_one_of_three() {
        assert_eq!(flock(1), Some((Some(Mode::Shared), true)));
        assert_eq!(flock(2 | 4), Some((Some(Mode::Exclusive), false)));
        assert_eq!(flock(8), Some((None, true)));
        for other in [0, 3, 4, 9, 16] {
            assert_eq!(flock(other), None);
        }
    }
}
