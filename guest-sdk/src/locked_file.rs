//! A file that is locked while it is open.

use crate::{
    ErrorKind,
    backend::Mode,
    raw::{RawGuard, RawLock},
};
use std::{
    fs::{File, OpenOptions},
    io,
    ops::{Deref, DerefMut},
    path::Path,
    time::{Duration, Instant},
};

/// How often a file is opened again that others replace meanwhile. If it
/// happens more often, a program replaces the file in a loop.
const REOPEN_LIMIT: usize = 64;

/// A file that is open while its own lock is held.
///
/// ```no_run
/// use clasp_guest::LockedFile;
/// use std::io::{Read, Seek, Write};
///
/// let mut file = LockedFile::open("data/count")?;
/// let mut text = String::new();
/// file.read_to_string(&mut text)?;
/// let count: u64 = text.parse().unwrap_or(0);
/// file.rewind()?;
/// write!(file, "{}", count + 1)?;
/// file.close()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Use it for files that are changed in place. Programs that replace a file by another,
/// with a rename, need a lock file beside it: a lock on the old file does not exclude
/// programs that open the new one. On Windows the first byte of a locked file can be
/// neither read nor written by another handle, this one included, so a lock file is
/// needed there as well.
#[derive(Debug)]
pub struct LockedFile {
    // Closed before the lock is released.
    file: File,
    mode: Mode,
    guard: RawGuard,
}

impl LockedFile {
    /// Waits for the exclusive lock and opens the file for reading and writing. If the
    /// file is missing, it is created, unless the host forbids that.
    ///
    /// # Errors
    /// As [`InterProcessLock::acquire`](crate::InterProcessLock::acquire), and what
    /// opening the file answers.
    pub fn open(path: impl AsRef<Path>) -> io::Result<LockedFile> {
        LockedFile::acquire(path.as_ref(), Mode::Exclusive, None)
    }

    /// As [`open`](Self::open), until `timeout` has passed.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut), and as `open`.
    pub fn open_timeout(path: impl AsRef<Path>, timeout: Duration) -> io::Result<LockedFile> {
        LockedFile::acquire(path.as_ref(), Mode::Exclusive, Some(timeout))
    }

    /// Waits for a shared lock and opens the file for reading.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_shared(path: impl AsRef<Path>) -> io::Result<LockedFile> {
        LockedFile::acquire(path.as_ref(), Mode::Shared, None)
    }

    fn acquire(path: &Path, mode: Mode, timeout: Option<Duration>) -> io::Result<LockedFile> {
        let lock = RawLock::open(path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(mode == Mode::Exclusive);
        let begun = Instant::now();
        for _ in 0..REOPEN_LIMIT {
            let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
            let guard = lock.acquire(mode, left)?;
            let opened = options.open(path);
            // Another file may have taken the path since the lock was granted.
            match guard.check() {
                Ok(()) => {
                    return Ok(LockedFile {
                        file: opened?,
                        mode,
                        guard,
                    });
                }
                Err(error) if error.kind() == ErrorKind::Replaced => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("{} was replaced {REOPEN_LIMIT} times", path.display()),
        ))
    }

    /// The path of the file and of its lock.
    pub fn path(&self) -> &Path {
        self.guard.path()
    }

    /// Writes all data to the disk, closes the file, releases the lock, and reports
    /// whether it was held until now.
    ///
    /// # Errors
    /// The errors of writing, and as [`InterProcessGuard::check`](crate::InterProcessGuard::check).
    /// The lock is released in any case.
    pub fn close(self) -> io::Result<()> {
        let synced = match self.mode {
            Mode::Exclusive => self.file.sync_all(),
            Mode::Shared => Ok(()),
        };
        drop(self.file);
        let released = self.guard.release();
        synced?;
        Ok(released?)
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl DerefMut for LockedFile {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.file
    }
}
