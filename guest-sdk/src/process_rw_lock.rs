//! The reader-writer lock between processes.

use crate::{
    Error,
    bindings::types::Mode,
    raw::{RawGuard, RawLock},
};
use std::{path::Path, time::Duration};

/// A lock that any number of readers or one writer have at a time, among all
/// that [`InterProcessLock`](crate::InterProcessLock) excludes. The two kinds
/// exclude each other on one path, an `InterProcessLock` being a writer.
///
/// ```no_run
/// use clasp_guest::InterProcessReaderWriterLock;
///
/// let rw = InterProcessReaderWriterLock::new("locks/data.lock")?;
/// {
///     let _reading = rw.read()?;
/// }
/// let _writing = rw.write()?;
/// # Ok::<(), clasp_guest::Error>(())
/// ```
///
/// A component that reads may read again, also beside a writer that waits. To
/// write it must first let go: a reader that asks to write waits for itself,
/// which is refused with [`Error::is_deadlock`].
#[derive(Debug)]
pub struct InterProcessReaderWriterLock(RawLock);

impl InterProcessReaderWriterLock {
    /// Opens the lock, as [`InterProcessLock::new`](crate::InterProcessLock::new)
    /// does.
    ///
    /// # Errors
    /// As there.
    pub fn new(path: impl AsRef<Path>) -> Result<InterProcessReaderWriterLock, Error> {
        RawLock::open(path.as_ref()).map(InterProcessReaderWriterLock)
    }

    /// The path the lock was opened with.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Waits for a shared lock as long as the host allows.
    ///
    /// # Errors
    /// As [`InterProcessLock::acquire`](crate::InterProcessLock::acquire).
    pub fn read(&self) -> Result<InterProcessReadGuard, Error> {
        let guard = self.0.acquire(Mode::Shared, None)?;
        Ok(InterProcessReadGuard(guard))
    }

    /// Waits for a shared lock until `timeout` has passed. Zero tries once.
    ///
    /// # Errors
    /// [`Error::is_timed_out`], and as [`read`](Self::read).
    pub fn read_timeout(&self, timeout: Duration) -> Result<InterProcessReadGuard, Error> {
        let guard = self.0.acquire(Mode::Shared, Some(timeout))?;
        Ok(InterProcessReadGuard(guard))
    }

    /// Takes a shared lock if no writer holds the lock or waits for it.
    ///
    /// # Errors
    /// What the host denies.
    pub fn try_read(&self) -> Result<Option<InterProcessReadGuard>, Error> {
        let guard = self.0.try_acquire(Mode::Shared)?;
        Ok(guard.map(InterProcessReadGuard))
    }

    /// Waits for the exclusive lock as long as the host allows.
    ///
    /// # Errors
    /// As [`InterProcessLock::acquire`](crate::InterProcessLock::acquire).
    pub fn write(&self) -> Result<InterProcessWriteGuard, Error> {
        let guard = self.0.acquire(Mode::Exclusive, None)?;
        Ok(InterProcessWriteGuard(guard))
    }

    /// Waits for the exclusive lock until `timeout` has passed. Zero tries
    /// once.
    ///
    /// # Errors
    /// [`Error::is_timed_out`], and as [`write`](Self::write).
    pub fn write_timeout(&self, timeout: Duration) -> Result<InterProcessWriteGuard, Error> {
        let guard = self.0.acquire(Mode::Exclusive, Some(timeout))?;
        Ok(InterProcessWriteGuard(guard))
    }

    /// Takes the exclusive lock if no other request holds it or waits for it.
    ///
    /// # Errors
    /// What the host denies.
    pub fn try_write(&self) -> Result<Option<InterProcessWriteGuard>, Error> {
        let guard = self.0.try_acquire(Mode::Exclusive)?;
        Ok(guard.map(InterProcessWriteGuard))
    }
}

/// Holds an [`InterProcessReaderWriterLock`] shared until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct InterProcessReadGuard(RawGuard);

/// Holds an [`InterProcessReaderWriterLock`] exclusively until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct InterProcessWriteGuard(RawGuard);

macro_rules! guard {
    ($guard:ident) => {
        impl $guard {
            /// The path of the lock.
            pub fn path(&self) -> &Path {
                self.0.path()
            }

            /// Releases the lock and says whether it was held to the end, by
            /// the file that its name leads to.
            ///
            /// # Errors
            /// [`Error::is_lost`] if not. The lock is released in any case.
            pub fn release(self) -> Result<(), Error> {
                self.0.release()
            }
        }
    };
}

guard!(InterProcessReadGuard);
guard!(InterProcessWriteGuard);
