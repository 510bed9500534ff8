//! Taking and dropping locks: `fcntl` with open file descriptions, `flock`, and
//! the two together.

use super::super::unix::operation;
use crate::{
    Mode,
    file::{Family, kernel::Range},
};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

/// Takes a lock without waiting; `false` if another open file has it.
pub(crate) fn try_lock(file: impl AsFd, family: Family, mode: Mode) -> io::Result<bool> {
    let file = file.as_fd();
    let result = match family {
        Family::Posix => set(file, libc::F_OFD_SETLK, kind(mode), WHOLE),
        Family::Flock => flock(file, operation(mode, false)),
        Family::Both => set(file, libc::F_OFD_SETLK, kind(mode), WHOLE).and_then(|()| {
            let result = flock(file, operation(mode, false));
            if result.is_err() {
                unlock_fcntl(file)?;
            }
            result
        }),
        Family::LockFileEx => Err(Errno::OPNOTSUPP),
    };
    match result {
        Ok(()) => Ok(true),
        // POSIX lets fcntl answer either.
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes a lock and waits for it in the kernel, until a signal comes.
#[cfg(feature = "conformance")]
pub(crate) fn lock(file: impl AsFd, family: Family, mode: Mode) -> io::Result<()> {
    Ok(lock_interruptibly(file, family, mode)?)
}

/// Takes a lock and waits for it in the kernel, until a signal comes.
#[doc(alias = "F_OFD_SETLKW")]
pub(super) fn lock_interruptibly(file: impl AsFd, family: Family, mode: Mode) -> Result<(), Errno> {
    let file = file.as_fd();
    match family {
        Family::Posix => set(file, libc::F_OFD_SETLKW, kind(mode), WHOLE),
        Family::Flock => flock(file, operation(mode, true)),
        Family::Both => lock_both(file, mode),
        Family::LockFileEx => Err(Errno::OPNOTSUPP),
    }
}

/// Waits for one family only while it does not hold the other, or two such
/// waits, or one and a program that uses both in its own order, could wait for
/// each other.
fn lock_both(file: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    loop {
        set(file, libc::F_OFD_SETLKW, kind(mode), WHOLE)?;
        match flock(file, operation(mode, false)) {
            Err(Errno::AGAIN) => unlock_fcntl(file)?,
            done => return done,
        }
        flock(file, operation(mode, true))?;
        match set(file, libc::F_OFD_SETLK, kind(mode), WHOLE) {
            Err(Errno::AGAIN | Errno::ACCESS) => flock(file, FlockOperation::Unlock)?,
            done => return done,
        }
    }
}

/// Drops whatever lock the description holds.
pub(crate) fn unlock(file: impl AsFd, family: Family) -> io::Result<()> {
    let file = file.as_fd();
    Ok(match family {
        Family::Posix => unlock_fcntl(file),
        Family::Flock => flock(file, FlockOperation::Unlock),
        Family::Both => {
            // Both, whatever becomes of the first.
            let fcntl = unlock_fcntl(file);
            flock(file, FlockOperation::Unlock).and(fcntl)
        }
        Family::LockFileEx => Err(Errno::OPNOTSUPP),
    }?)
}

/// Whether no description holds a lock, this one included.
pub(crate) fn is_free(file: impl AsFd, family: Family) -> io::Result<bool> {
    let file = file.as_fd();
    let fcntl_free = || Ok(conflict(file, WHOLE, Mode::Exclusive)?.is_none());
    // There is no asking, only trying.
    let flock_free = || {
        let free = try_lock(file, Family::Flock, Mode::Exclusive)?;
        if free {
            unlock(file, Family::Flock)?;
        }
        Ok(free)
    };
    match family {
        Family::Posix => fcntl_free(),
        Family::Flock => flock_free(),
        Family::Both => Ok(fcntl_free()? && flock_free()?),
        Family::LockFileEx => Err(Errno::OPNOTSUPP.into()),
    }
}

fn unlock_fcntl(file: BorrowedFd<'_>) -> Result<(), Errno> {
    set(file, libc::F_OFD_SETLK, libc::F_UNLCK, WHOLE)
}

fn kind(mode: Mode) -> libc::c_int {
    match mode {
        Mode::Shared => libc::F_RDLCK,
        Mode::Exclusive => libc::F_WRLCK,
    }
}

/// From the first byte to whatever the end will be.
const WHOLE: Range = Range { start: 0, len: 0 };

/// Takes a lock on a range, and waits for it if `wait`.
pub(super) fn lock_range(
    file: impl AsFd,
    range: Range,
    mode: Mode,
    wait: bool,
) -> Result<(), Errno> {
    let command = if wait {
        libc::F_OFD_SETLKW
    } else {
        libc::F_OFD_SETLK
    };
    set(file, command, kind(mode), range)
}

/// Drops what the description holds of a range.
pub(super) fn unlock_range(file: impl AsFd, range: Range) -> Result<(), Errno> {
    set(file, libc::F_OFD_SETLK, libc::F_UNLCK, range)
}

/// A lock of another description that stands against `mode` somewhere in a
/// range; not the first of them in particular.
#[doc(alias = "F_OFD_GETLK")]
pub(super) fn conflict(
    file: impl AsFd,
    range: Range,
    mode: Mode,
) -> Result<Option<(Range, Mode)>, Errno> {
    let found = fcntl(file, libc::F_OFD_GETLK, kind(mode), range)?;
    let mode = match libc::c_int::from(found.l_type) {
        libc::F_UNLCK => return Ok(None),
        libc::F_RDLCK => Mode::Shared,
        _ => Mode::Exclusive,
    };
    let range = Range {
        start: found.l_start,
        len: found.l_len,
    };
    Ok(Some((range, mode)))
}

fn set(
    file: impl AsFd,
    command: libc::c_int,
    kind: libc::c_int,
    range: Range,
) -> Result<(), Errno> {
    fcntl(file, command, kind, range).map(drop)
}

/// A lock request. `rustix` has no open file description locks.
fn fcntl(
    file: impl AsFd,
    command: libc::c_int,
    kind: libc::c_int,
    range: Range,
) -> Result<libc::flock, Errno> {
    let mut request = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: range.start,
        l_len: range.len,
        // Anything else is EINVAL for these commands.
        l_pid: 0,
    };
    // SAFETY: the descriptor is borrowed and open, and the commands read and
    // write one `flock` through the pointer, which is valid for the call.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw mut request) };
    if result == 0 {
        return Ok(request);
    }
    let number = io::Error::last_os_error().raw_os_error();
    Err(Errno::from_raw_os_error(number.unwrap_or(libc::EIO)))
}
