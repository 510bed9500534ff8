//! The bare system calls, for benchmarks and for tests that need a program
//! which knows nothing of the engine.

use super::{Family, sys};
use crate::Mode;
use std::{fs::File, io};

/// Takes a lock of the file's description without waiting; `false` if somebody
/// else has it.
///
/// # Errors
/// Those of the system call.
pub fn try_lock(file: &File, family: Family, mode: Mode) -> io::Result<bool> {
    sys::try_lock(file, family, mode)
}

/// Waits for a lock in the kernel.
///
/// # Errors
/// Those of the system call, [`io::ErrorKind::Interrupted`] included.
pub fn lock(file: &File, family: Family, mode: Mode) -> io::Result<()> {
    sys::lock(file, family, mode)
}

/// Drops the lock of the file's description.
///
/// # Errors
/// Those of the system call.
pub fn unlock(file: &File, family: Family) -> io::Result<()> {
    sys::unlock(file, family)
}
