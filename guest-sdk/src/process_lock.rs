//! The exclusive lock between processes.

use crate::{
    Error,
    bindings::types::Mode,
    raw::{RawGuard, RawLock},
};
use std::{path::Path, time::Duration};

/// A lock that one holder has at a time: on this machine, among native
/// programs, other guests, and the other handles of this component.
///
/// ```no_run
/// use clasp_guest::InterProcessLock;
/// use std::time::Duration;
///
/// let lock = InterProcessLock::new("locks/report.lock")?;
/// {
///     let _guard = lock.acquire()?;
///     // ... no other process is here ...
/// }
/// match lock.acquire_timeout(Duration::from_secs(10)) {
///     Ok(guard) => guard.release()?,
///     Err(error) if error.is_timed_out() => println!("{error}"),
///     Err(error) => return Err(error.into()),
/// }
/// if let Some(_guard) = lock.try_acquire()? {
///     // ... it was free ...
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is not reentrant: acquiring it again while this component holds it is
/// refused with [`Error::is_deadlock`].
#[derive(Debug)]
pub struct InterProcessLock(RawLock);

impl InterProcessLock {
    /// Opens the lock whose file `File::open(path)` would open, creating the
    /// file if it is missing and the host permits it. Directories are not
    /// created.
    ///
    /// # Errors
    /// If no lockspace is granted for the path, it names no regular file, or
    /// the host's policy, quota or operating system denies it.
    pub fn new(path: impl AsRef<Path>) -> Result<InterProcessLock, Error> {
        RawLock::open(path.as_ref()).map(InterProcessLock)
    }

    /// The path the lock was opened with.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Waits for the lock as long as the host allows. The whole component
    /// waits.
    ///
    /// # Errors
    /// [`Error::is_deadlock`] if the wait could never end;
    /// [`Error::is_timed_out`] if the host bounds waits; what the host denies.
    pub fn acquire(&self) -> Result<InterProcessGuard, Error> {
        self.0.acquire(Mode::Exclusive, None).map(InterProcessGuard)
    }

    /// Waits for the lock until `timeout` has passed on a monotonic clock. Zero
    /// tries once.
    ///
    /// # Errors
    /// [`Error::is_timed_out`], and as [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<InterProcessGuard, Error> {
        self.0
            .acquire(Mode::Exclusive, Some(timeout))
            .map(InterProcessGuard)
    }

    /// Takes the lock if no other request holds it or waits for it.
    ///
    /// # Errors
    /// What the host denies.
    pub fn try_acquire(&self) -> Result<Option<InterProcessGuard>, Error> {
        Ok(self.0.try_acquire(Mode::Exclusive)?.map(InterProcessGuard))
    }
}

/// Holds an [`InterProcessLock`] until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct InterProcessGuard(RawGuard);

impl InterProcessGuard {
    /// The path of the lock.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Releases the lock and says whether it was held to the end, by the file
    /// that its name leads to.
    ///
    /// # Errors
    /// [`Error::is_lost`] if not. The lock is released in any case.
    pub fn release(self) -> Result<(), Error> {
        self.0.release()
    }
}
