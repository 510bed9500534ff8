//! The exclusive lock between processes.

use super::{
    guard::guard,
    raw::{RawGuard, RawLock},
};
use crate::{Error, backend::Mode};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

/// As [`InterProcessLock`](crate::InterProcessLock), for tasks.
///
/// It is not reentrant: a component that acquires it again while it holds it waits until another
/// of its tasks releases it.
#[derive(Debug)]
pub struct InterProcessLock(RawLock);

impl InterProcessLock {
    /// Opens the lock whose file `File::open(path)` would open. If the file is
    /// missing, it is created, unless the host forbids that. Directories are not
    /// created.
    ///
    /// # Errors
    /// If no lockspace is granted for the path, it names no regular file, or
    /// the host's policy, quota or operating system denies it.
    pub async fn new(path: impl AsRef<Path>) -> Result<InterProcessLock, Error> {
        RawLock::open(path.as_ref()).await.map(InterProcessLock)
    }

    /// As [`new`](Self::new), but creates the directories of the path that are
    /// missing, as `fasteners` does. The host must have granted the directory for
    /// files, too.
    ///
    /// # Errors
    /// As `new`, and if a directory cannot be created.
    pub async fn create_dirs(path: impl AsRef<Path>) -> Result<InterProcessLock, Error> {
        let lock = RawLock::create_dirs(path.as_ref()).await;
        lock.map(InterProcessLock)
    }

    /// The path the lock was opened with.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Waits for the lock for as long as the host allows. Dropping the future withdraws the
    /// request.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout) if the host bounds waits; what the host denies.
    pub async fn acquire(&self) -> Result<InterProcessGuard, Error> {
        let guard = self.0.acquire(Mode::Exclusive, None).await;
        guard.map(InterProcessGuard)
    }

    /// Waits for the lock until `timeout` has passed on a monotonic clock. Zero
    /// tries once.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout), and as [`acquire`](Self::acquire).
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<InterProcessGuard, Error> {
        let guard = self.0.acquire(Mode::Exclusive, Some(timeout)).await;
        guard.map(InterProcessGuard)
    }

    /// Takes the lock if no other request holds it or waits for it.
    ///
    /// # Errors
    /// What the host denies.
    pub async fn try_acquire(&self) -> Result<Option<InterProcessGuard>, Error> {
        let guard = self.0.try_acquire(Mode::Exclusive).await?;
        Ok(guard.map(InterProcessGuard))
    }

    /// Runs an asynchronous function while the lock is held.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); the function is not run then.
    pub async fn with<R>(&self, f: impl AsyncFnOnce() -> R) -> Result<R, Error> {
        let _guard = self.acquire().await?;
        Ok(f().await)
    }

    /// When a holder last [touched](InterProcessGuard::touch) the lock, in any process;
    /// `None` if none ever did. It is the time of last modification of the lock file,
    /// by the clock of its file system. It may lie in the future, if clocks differ.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported), and what the host denies.
    pub async fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.0.last_touched().await
    }
}

/// Holds an [`InterProcessLock`] until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct InterProcessGuard(RawGuard);

guard!(InterProcessGuard, exclusive);
