//! Waits on Wine, where a lock that is waited for never comes.
//!
//! Wine 8.0 begins such a wait on a file that is open for overlapped operations
//! and never ends it, and cannot cancel one on other files. So there, and only
//! there, the lock is asked for again and again.

use super::lock::try_lock;
use crate::{
    Mode,
    file::{Family, kernel::Waited},
    sync::{Condvar, Mutex},
};
use std::{fs::File, io, sync::Arc, sync::LazyLock, time::Duration};
use windows_sys::{
    Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress},
    s, w,
};

/// Between two times of asking.
const AGAIN: Duration = Duration::from_millis(5);

/// Whether this is Wine.
pub(super) fn is_needed() -> bool {
    static WINE: LazyLock<bool> = LazyLock::new(|| {
        // SAFETY: both names are strings that end with a zero, and this library
        // is part of every process, for as long as it lives.
        unsafe {
            let library = GetModuleHandleW(w!("ntdll.dll"));
            !library.is_null() && GetProcAddress(library, s!("wine_get_version")).is_some()
        }
    });
    *WINE
}

pub(super) struct Polled {
    file: Arc<File>,
    mode: Mode,
    cancelled: Mutex<bool>,
    changed: Condvar,
}

impl Polled {
    pub(super) fn new(file: Arc<File>, mode: Mode) -> Polled {
        Polled {
            file,
            mode,
            cancelled: Mutex::new(false),
            changed: Condvar::default(),
        }
    }

    pub(super) fn run(&self) -> io::Result<Waited> {
        let mut cancelled = self.cancelled.lock();
        loop {
            if *cancelled {
                return Ok(Waited::Cancelled);
            }
            if try_lock(&self.file, Family::LockFileEx, self.mode)? {
                return Ok(Waited::Granted);
            }
            (cancelled, _) = self.changed.wait_timeout(cancelled, AGAIN);
        }
    }

    pub(super) fn cancel(&self) {
        *self.cancelled.lock() = true;
        self.changed.notify_all();
    }
}
