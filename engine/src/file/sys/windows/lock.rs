//! Taking and dropping locks, without waiting.

use super::{
    code,
    operation::{self, Begun, Operation},
};
use crate::{Mode, file::Family};
use std::{
    fs::File,
    io,
    os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle},
    sync::Arc,
};
use windows_sys::Win32::{
    Foundation::{ERROR_LOCK_VIOLATION, ERROR_NOT_LOCKED},
    Storage::FileSystem::{
        LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, UnlockFileEx,
    },
    System::IO::OVERLAPPED,
};

/// How many bytes are locked, from the first of the file on: one, as others do,
/// so that the rest of the file can be read and written by any program.
const BYTES: u32 = 1;

/// Asks for the lock; where that takes long, `overlapped` tells when it is
/// there.
///
/// # Safety
/// `overlapped` stays valid and where it is until the operation is over.
pub(super) unsafe fn begin(
    file: BorrowedHandle<'_>,
    mode: Mode,
    wait: bool,
    overlapped: *mut OVERLAPPED,
) -> io::Result<Begun> {
    let exclusive = match mode {
        Mode::Shared => 0,
        Mode::Exclusive => LOCKFILE_EXCLUSIVE_LOCK,
    };
    let flags = exclusive | if wait { 0 } else { LOCKFILE_FAIL_IMMEDIATELY };
    // SAFETY: the handle is borrowed and open; the caller keeps `overlapped`.
    let done = unsafe { LockFileEx(file.as_raw_handle(), flags, 0, BYTES, 0, overlapped) };
    Begun::new(done)
}

/// A wait for the lock.
pub(super) fn operation(file: Arc<File>, mode: Mode) -> Operation {
    // SAFETY: asking for a lock is one such operation.
    unsafe {
        Operation::new(file, move |file, overlapped| {
            begin(file, mode, true, overlapped)
        })
    }
}

/// Takes a lock without waiting; `false` if another open file has it.
pub(crate) fn try_lock(file: impl AsHandle, _: Family, mode: Mode) -> io::Result<bool> {
    let file = file.as_handle();
    // SAFETY: `complete` keeps what it passes on until the operation is over.
    let taken = operation::complete(file, |overlapped| unsafe {
        begin(file, mode, false, overlapped)
    });
    match taken {
        Ok(()) => Ok(true),
        Err(error) if code(&error) == Some(ERROR_LOCK_VIOLATION) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Drops the lock, also if there is none.
pub(crate) fn unlock(file: impl AsHandle, _: Family) -> io::Result<()> {
    let mut overlapped = OVERLAPPED::default();
    // SAFETY: the handle is borrowed and open, and unlocking is over when the
    // call returns; it only reads the offset.
    let done = unsafe {
        UnlockFileEx(
            file.as_handle().as_raw_handle(),
            0,
            BYTES,
            0,
            &raw mut overlapped,
        )
    };
    if done != 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // The one is what Windows says if there is no lock, the other Wine.
        error if matches!(code(&error), Some(ERROR_NOT_LOCKED | ERROR_LOCK_VIOLATION)) => Ok(()),
        error => Err(error),
    }
}

/// Whether no open file holds a lock, this one included.
pub(crate) fn is_free(file: impl AsHandle, family: Family) -> io::Result<bool> {
    // There is no asking, only trying.
    let free = try_lock(&file, family, Mode::Exclusive)?;
    if free {
        unlock(&file, family)?;
    }
    Ok(free)
}
