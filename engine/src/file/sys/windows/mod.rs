//! Windows: `LockFileEx` on files that are open for overlapped operations.

mod identity;
mod lock;
mod names;
mod operation;
mod polled;
mod port;
mod wait;

pub(crate) use super::{no_order::*, no_ranges::*, no_signal::*};
pub(crate) use identity::{file_system, is_linked, look_up, numbers};
#[cfg(feature = "conformance")]
pub(crate) use lock::{try_lock, unlock};
pub(crate) use names::check_name;
pub(crate) use wait::NativeFile;
#[cfg(feature = "conformance")]
pub(crate) use wait::lock;

use crate::{
    ErrorKind,
    file::{Family, Order},
};
use cap_std::fs::{OpenOptions, OpenOptionsExt};
use std::{io, path::PathBuf};
use windows_sys::Win32::{
    Foundation::{
        ERROR_ACCESS_DENIED, ERROR_BUFFER_OVERFLOW, ERROR_CANT_ACCESS_FILE,
        ERROR_CANT_RESOLVE_FILENAME, ERROR_DIRECTORY, ERROR_DIRECTORY_NOT_SUPPORTED,
        ERROR_DISK_FULL, ERROR_FILENAME_EXCED_RANGE, ERROR_HANDLE_DISK_FULL,
        ERROR_INVALID_FUNCTION, ERROR_INVALID_NAME, ERROR_NO_SYSTEM_RESOURCES,
        ERROR_NOT_ENOUGH_MEMORY, ERROR_NOT_ENOUGH_QUOTA, ERROR_NOT_SUPPORTED,
        ERROR_SHARING_VIOLATION, ERROR_STOPPED_ON_SYMLINK, ERROR_TOO_MANY_LINKS,
        ERROR_TOO_MANY_OPEN_FILES, ERROR_WRITE_PROTECT,
    },
    Storage::FileSystem::FILE_FLAG_OVERLAPPED,
};

/// There is one kind of locks.
pub(crate) const FAMILIES: &[Family] = &[Family::LockFileEx];

/// Tickets need to ask for locks without taking them, and there is no asking.
pub(crate) const ORDERS: &[Order] = &[Order::Kernel];

/// Whoever asks wants locks on ranges, or those of `flock`, and there are none.
pub(crate) fn path_of<T>(_: T) -> io::Result<PathBuf> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The number of an error of the system.
fn code(error: &io::Error) -> Option<u32> {
    Some(error.raw_os_error()? as u32)
}

/// What an error number means for a lock, if the number says more than
/// `io::ErrorKind` does.
pub(crate) fn classify(error: &io::Error) -> Option<ErrorKind> {
    Some(match code(error)? {
        ERROR_WRITE_PROTECT => ErrorKind::Access,
        ERROR_DIRECTORY
        | ERROR_CANT_RESOLVE_FILENAME
        | ERROR_CANT_ACCESS_FILE
        | ERROR_STOPPED_ON_SYMLINK
        // Symlinks that go round in a circle lead nowhere.
        | ERROR_TOO_MANY_LINKS => ErrorKind::NoEntry,
        ERROR_DIRECTORY_NOT_SUPPORTED => ErrorKind::IsDirectory,
        ERROR_INVALID_NAME | ERROR_FILENAME_EXCED_RANGE | ERROR_BUFFER_OVERFLOW => {
            ErrorKind::InvalidName
        }
        ERROR_TOO_MANY_OPEN_FILES
        | ERROR_NOT_ENOUGH_MEMORY
        | ERROR_NOT_ENOUGH_QUOTA
        | ERROR_NO_SYSTEM_RESOURCES
        | ERROR_DISK_FULL
        | ERROR_HANDLE_DISK_FULL => ErrorKind::Unavailable,
        // Another program has opened the file and shares it with none.
        ERROR_SHARING_VIOLATION => ErrorKind::Unavailable,
        ERROR_INVALID_FUNCTION | ERROR_NOT_SUPPORTED => ErrorKind::Unsupported,
        _ => return None,
    })
}

/// Whether a file could perhaps be opened if only for reading.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    matches!(code(error), Some(ERROR_ACCESS_DENIED | ERROR_WRITE_PROTECT))
}

/// Waits for a lock must not hold up whatever else is done with the file.
pub(crate) fn prepare(options: &mut OpenOptions) {
    options.custom_flags(FILE_FLAG_OVERLAPPED);
}

/// Whether a file's time of creation is what it says. Wine 8.0 answers another time
/// of the file for it.
pub(crate) fn keeps_creation_times() -> bool {
    !polled::is_needed()
}

/// Files have access control lists of their directory.
pub(crate) fn set_creation_mode(_: &mut OpenOptions, _: u32) {}
