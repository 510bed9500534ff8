//! The bare system calls, for benchmarks and for tests that need a program
//! which knows nothing of the engine.

use super::TestLine;
use crate::{
    Mode,
    file::{Family, fair, sys},
};
use std::{fs::File, io};

/// Takes a lock of the file's description without waiting; `false` if another
/// description has it.
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

/// The line of the hosts that wait for a file; `None` where hosts have no order.
#[cfg(unix)]
pub fn line(file: &File) -> Option<TestLine> {
    use std::os::unix::fs::MetadataExt;

    let found = file.metadata().ok()?;
    let (number, region) = fair::region(found.dev(), found.ino().into());
    let bytes = sys::order_file(number)?;
    Some(TestLine::new(fair::Line::new(bytes, region)))
}

/// The line of the hosts that wait for a file; `None` where hosts have no order.
#[cfg(not(unix))]
pub fn line(_: &File) -> Option<TestLine> {
    let bytes = sys::order_file(0)?;
    let (_, region) = fair::region(0, 0);
    Some(TestLine::new(fair::Line::new(bytes, region)))
}
