//! The reader-writer lock between processes.

#[cfg(feature = "async")]
use crate::Request;
use crate::{
    Error, NotConverted,
    backend::Mode,
    guard::guard,
    raw::{RawGuard, RawLock},
};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

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
/// A component that reads may read again, also beside a writer that waits. A reader
/// that asks to write would wait for itself, which is refused with
/// [`ErrorKind::Deadlock`](crate::ErrorKind::Deadlock): release the lock first, or use
/// [`try_upgrade`](InterProcessReadGuard::try_upgrade).
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

    /// As [`new`](Self::new), but creates the directories of the path that are
    /// missing, as `fasteners` does. The host must have granted the directory for
    /// files, too.
    ///
    /// # Errors
    /// As `new`, and if a directory cannot be created.
    pub fn create_dirs(path: impl AsRef<Path>) -> Result<InterProcessReaderWriterLock, Error> {
        RawLock::create_dirs(path.as_ref()).map(InterProcessReaderWriterLock)
    }

    /// The path the lock was opened with.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Waits for a shared lock for as long as the host allows.
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
    /// [`Timeout`](crate::ErrorKind::Timeout), and as [`read`](Self::read).
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

    /// Waits for the exclusive lock for as long as the host allows.
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
    /// [`Timeout`](crate::ErrorKind::Timeout), and as [`write`](Self::write).
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

    /// Runs a function while the lock is held shared.
    ///
    /// # Errors
    /// As [`read`](Self::read); the function is not run then.
    pub fn with_read<R>(&self, f: impl FnOnce() -> R) -> Result<R, Error> {
        let _guard = self.read()?;
        Ok(f())
    }

    /// Runs a function while the lock is held exclusively.
    ///
    /// # Errors
    /// As [`write`](Self::write); the function is not run then.
    pub fn with_write<R>(&self, f: impl FnOnce() -> R) -> Result<R, Error> {
        let _guard = self.write()?;
        Ok(f())
    }

    /// When a holder last [touched](InterProcessWriteGuard::touch) the lock, as
    /// [`InterProcessLock::last_touched`](crate::InterProcessLock::last_touched).
    ///
    /// # Errors
    /// As there.
    pub fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.0.last_touched()
    }

    /// Starts to acquire a shared lock and does not wait for it. The request has
    /// its place in the queue before this returns.
    ///
    /// # Errors
    /// As [`read`](Self::read), as far as that is known at once.
    #[cfg(feature = "async")]
    pub fn start_read(
        &self,
        timeout: Option<Duration>,
    ) -> Result<Request<InterProcessReadGuard>, Error> {
        let request = self.0.start_acquire(Mode::Shared, timeout)?;
        Ok(Request::new(request, InterProcessReadGuard))
    }

    /// Starts to acquire the exclusive lock and does not wait for it. The request has
    /// its place in the queue before this returns.
    ///
    /// # Errors
    /// As [`write`](Self::write), as far as that is known at once.
    #[cfg(feature = "async")]
    pub fn start_write(
        &self,
        timeout: Option<Duration>,
    ) -> Result<Request<InterProcessWriteGuard>, Error> {
        let request = self.0.start_acquire(Mode::Exclusive, timeout)?;
        Ok(Request::new(request, InterProcessWriteGuard))
    }

    /// Waits for a shared lock while other tasks of this component go on. Dropping the
    /// future withdraws the request.
    ///
    /// # Errors
    /// As [`read`](Self::read), except
    /// [`Deadlock`](crate::ErrorKind::Deadlock).
    #[cfg(feature = "wstd")]
    pub async fn read_async(&self) -> Result<InterProcessReadGuard, Error> {
        self.start_read(None)?.wait().await
    }

    /// Waits for the exclusive lock while other tasks of this component go on.
    /// Dropping the future withdraws the request.
    ///
    /// # Errors
    /// As [`write`](Self::write), except
    /// [`Deadlock`](crate::ErrorKind::Deadlock).
    #[cfg(feature = "wstd")]
    pub async fn write_async(&self) -> Result<InterProcessWriteGuard, Error> {
        self.start_write(None)?.wait().await
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
    /// # use clasp_guest::InterProcessReaderWriterLock;
    /// # let lock = InterProcessReaderWriterLock::new("locks/a.lock")?;
    /// let reading = lock.read()?;
    /// let writing = match reading.try_upgrade() {
    ///     Ok(writing) => writing,
    ///     Err(refused) => {
    ///         // Others may write before this one does: look at the data anew.
    ///         drop(refused.into_guard());
    ///         lock.write()?
    ///     }
    /// };
    /// # drop(writing);
    /// # Ok::<(), clasp_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// The guard, by which the lock is still held shared, with
    /// [`error`](NotConverted::error) `None` if there is another holder;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where this family of locks cannot
    /// do it, [`ReadOnly`](crate::ErrorKind::ReadOnly) or
    /// [`Access`](crate::ErrorKind::Access) where only shared locks are granted, and what
    /// [`check`](Self::check) fails with.
    pub fn try_upgrade(mut self) -> Result<InterProcessWriteGuard, NotConverted<Self>> {
        match self.0.try_upgrade() {
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
    pub fn downgrade(mut self) -> Result<InterProcessReadGuard, NotConverted<Self>> {
        match self.0.downgrade() {
            Ok(()) => Ok(InterProcessReadGuard(self.0)),
            Err(error) => Err(NotConverted {
                lock: self.0.lock(),
                guard: self,
                error: Some(error),
            }),
        }
    }
}
