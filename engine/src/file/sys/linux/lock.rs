//! Taking and dropping locks: `fcntl` with open file descriptions, and `flock`.

use crate::{Mode, file::Family};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Takes a lock without waiting; `false` if somebody else has it.
pub(crate) fn try_lock(file: impl AsFd, family: Family, mode: Mode) -> io::Result<bool> {
    let result = match (family, mode) {
        (Family::Posix, _) => fcntl(file, libc::F_OFD_SETLK, kind(mode)),
        (Family::Flock, Mode::Shared) => flock(file, FlockOperation::NonBlockingLockShared),
        (Family::Flock, Mode::Exclusive) => flock(file, FlockOperation::NonBlockingLockExclusive),
    };
    match result {
        Ok(()) => Ok(true),
        // POSIX lets fcntl answer either.
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes a lock and waits for it in the kernel, until a signal comes.
#[doc(alias = "F_OFD_SETLKW")]
pub(super) fn lock(file: impl AsFd, family: Family, mode: Mode) -> Result<(), Errno> {
    match (family, mode) {
        (Family::Posix, _) => fcntl(file, libc::F_OFD_SETLKW, kind(mode)),
        (Family::Flock, Mode::Shared) => flock(file, FlockOperation::LockShared),
        (Family::Flock, Mode::Exclusive) => flock(file, FlockOperation::LockExclusive),
    }
}

/// Drops whatever lock the description holds.
pub(crate) fn unlock(file: impl AsFd, family: Family) -> io::Result<()> {
    Ok(match family {
        Family::Posix => fcntl(file, libc::F_OFD_SETLK, libc::F_UNLCK),
        Family::Flock => flock(file, FlockOperation::Unlock),
    }?)
}

fn kind(mode: Mode) -> libc::c_int {
    match mode {
        Mode::Shared => libc::F_RDLCK,
        Mode::Exclusive => libc::F_WRLCK,
    }
}

/// A lock request for the whole file. `rustix` has no open file description
/// locks.
fn fcntl(file: impl AsFd, command: libc::c_int, kind: libc::c_int) -> Result<(), Errno> {
    let request = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        // From the first byte to whatever the end will be.
        l_start: 0,
        l_len: 0,
        // Anything else is EINVAL for these commands.
        l_pid: 0,
    };
    // SAFETY: the descriptor is borrowed and open, and the commands read one
    // `flock` through the pointer, which is valid for the call.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw const request) };
    if result == 0 {
        return Ok(());
    }
    let number = io::Error::last_os_error().raw_os_error();
    Err(Errno::from_raw_os_error(number.unwrap_or(libc::EIO)))
}
