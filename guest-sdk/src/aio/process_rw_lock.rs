//! The reader-writer lock between processes.

use super::{
    guard::guard,
    raw::{RawGuard, RawLock},
};
use crate::{Error, NotConverted, backend::Mode};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

/// As [`InterProcessReaderWriterLock`](crate::InterProcessReaderWriterLock), for tasks.
///
/// A component that reads may read again, also beside a writer that waits. A reader that asks to
/// write waits until all readers have released the lock, itself among them: release it first, or
/// use [`try_upgrade`](InterProcessReadGuard::try_upgrade).
#[derive(Debug)]
pub struct InterProcessReaderWriterLock(RawLock);

impl InterProcessReaderWriterLock {
    /// Opens the lock, as [`InterProcessLock::new`](super::InterProcessLock::new)
    /// does.
    ///
    /// # Errors
    /// As there.
    pub async fn new(path: impl AsRef<Path>) -> Result<InterProcessReaderWriterLock, Error> {
        let lock = RawLock::open(path.as_ref()).await;
        lock.map(InterProcessReaderWriterLock)
    }

    /// As [`new`](Self::new), but creates the directories of the path that are
    /// missing, as `fasteners` does. The host must have granted the directory for
    /// files, too.
    ///
    /// # Errors
    /// As `new`, and if a directory cannot be created.
    pub async fn create_dirs(
        path: impl AsRef<Path>,
    ) -> Result<InterProcessReaderWriterLock, Error> {
        let lock = RawLock::create_dirs(path.as_ref()).await;
        lock.map(InterProcessReaderWriterLock)
    }

    /// The path the lock was opened with.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Waits for a shared lock for as long as the host allows.
    ///
    /// # Errors
    /// As [`InterProcessLock::acquire`](super::InterProcessLock::acquire).
    pub async fn read(&self) -> Result<InterProcessReadGuard, Error> {
        let guard = self.0.acquire(Mode::Shared, None).await?;
        Ok(InterProcessReadGuard(guard))
    }

    /// Waits for a shared lock until `timeout` has passed. Zero tries once.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout), and as [`read`](Self::read).
    pub async fn read_timeout(&self, timeout: Duration) -> Result<InterProcessReadGuard, Error> {
        let guard = self.0.acquire(Mode::Shared, Some(timeout)).await?;
        Ok(InterProcessReadGuard(guard))
    }

    /// Takes a shared lock if no writer holds the lock or waits for it.
    ///
    /// # Errors
    /// What the host denies.
    pub async fn try_read(&self) -> Result<Option<InterProcessReadGuard>, Error> {
        let guard = self.0.try_acquire(Mode::Shared).await?;
        Ok(guard.map(InterProcessReadGuard))
    }

    /// Waits for the exclusive lock for as long as the host allows.
    ///
    /// # Errors
    /// As [`InterProcessLock::acquire`](super::InterProcessLock::acquire).
    pub async fn write(&self) -> Result<InterProcessWriteGuard, Error> {
        let guard = self.0.acquire(Mode::Exclusive, None).await?;
        Ok(InterProcessWriteGuard(guard))
    }

    /// Waits for the exclusive lock until `timeout` has passed. Zero tries
    /// once.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout), and as [`write`](Self::write).
    pub async fn write_timeout(&self, timeout: Duration) -> Result<InterProcessWriteGuard, Error> {
        let guard = self.0.acquire(Mode::Exclusive, Some(timeout)).await?;
        Ok(InterProcessWriteGuard(guard))
    }

    /// Takes the exclusive lock if no other request holds it or waits for it.
    ///
    /// # Errors
    /// What the host denies.
    pub async fn try_write(&self) -> Result<Option<InterProcessWriteGuard>, Error> {
        let guard = self.0.try_acquire(Mode::Exclusive).await?;
        Ok(guard.map(InterProcessWriteGuard))
    }

    /// Runs an asynchronous function while the lock is held shared.
    ///
    /// # Errors
    /// As [`read`](Self::read); the function is not run then.
    pub async fn with_read<R>(&self, f: impl AsyncFnOnce() -> R) -> Result<R, Error> {
        let _guard = self.read().await?;
        Ok(f().await)
    }

    /// Runs an asynchronous function while the lock is held exclusively.
    ///
    /// # Errors
    /// As [`write`](Self::write); the function is not run then.
    pub async fn with_write<R>(&self, f: impl AsyncFnOnce() -> R) -> Result<R, Error> {
        let _guard = self.write().await?;
        Ok(f().await)
    }

    /// When a holder last [touched](InterProcessWriteGuard::touch) the lock, as
    /// [`InterProcessLock::last_touched`](super::InterProcessLock::last_touched).
    ///
    /// # Errors
    /// As there.
    pub async fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.0.last_touched().await
    }
}

/// Holds an [`InterProcessReaderWriterLock`] shared until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct InterProcessReadGuard(RawGuard);

guard!(InterProcessReadGuard);

impl InterProcessReadGuard {
    /// Turns the shared lock into an exclusive one at once, or fails if there is
    /// another holder. An upgrade never waits, because two holders that wait to upgrade
    /// would wait for each other. It overtakes waiting requests.
    ///
    /// ```no_run
    /// # use clasp_guest::aio::InterProcessReaderWriterLock;
    /// # async fn write() -> Result<(), clasp_guest::Error> {
    /// let lock = InterProcessReaderWriterLock::new("locks/a.lock").await?;
    /// let reading = lock.read().await?;
    /// let writing = match reading.try_upgrade().await {
    ///     Ok(writing) => writing,
    ///     Err(refused) => {
    ///         // Others may write before this one does: look at the data anew.
    ///         drop(refused.into_guard());
    ///         lock.write().await?
    ///     }
    /// };
    /// # drop(writing);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The guard, by which the lock is still held shared, with
    /// [`error`](NotConverted::error) `None` if there is another holder;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where this family of locks cannot
    /// do it, [`ReadOnly`](crate::ErrorKind::ReadOnly) or
    /// [`Access`](crate::ErrorKind::Access) where only shared locks are granted, and what
    /// [`check`](Self::check) fails with.
    pub async fn try_upgrade(mut self) -> Result<InterProcessWriteGuard, NotConverted<Self>> {
        match self.0.try_upgrade().await {
            Ok(true) => Ok(InterProcessWriteGuard(self.0)),
            Ok(false) => Err(NotConverted {
                lock: self.0.lock(),
                guard: self,
                error: None,
            }),
            Err(error) => Err(NotConverted {
                lock: self.0.lock(),
                guard: self,
                error: Some(error),
            }),
        }
    }
}

/// Holds an [`InterProcessReaderWriterLock`] exclusively until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct InterProcessWriteGuard(RawGuard);

guard!(InterProcessWriteGuard, exclusive);

impl InterProcessWriteGuard {
    /// Turns the exclusive lock into a shared one; no other holder comes in between.
    ///
    /// # Errors
    /// The guard, with what [`check`](Self::check) fails with.
    pub async fn downgrade(mut self) -> Result<InterProcessReadGuard, NotConverted<Self>> {
        match self.0.downgrade().await {
            Ok(()) => Ok(InterProcessReadGuard(self.0)),
            Err(error) => Err(NotConverted {
                lock: self.0.lock(),
                guard: self,
                error: Some(error),
            }),
        }
    }
}
