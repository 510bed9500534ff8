//! The exclusive lock between processes.

#[cfg(feature = "async")]
use crate::Request;
use crate::{
    Error,
    backend::Mode,
    guard::guard,
    raw::{RawGuard, RawLock},
};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

/// A lock that one holder has at a time: on this machine, among native
/// programs, other guests, and the other handles of this component.
///
/// ```no_run
/// use clasp_guest::{ErrorKind, InterProcessLock};
/// use std::time::Duration;
///
/// let lock = InterProcessLock::new("locks/report.lock")?;
/// {
///     let _guard = lock.acquire()?;
///     // ... no other process is here ...
/// }
/// match lock.acquire_timeout(Duration::from_secs(10)) {
///     Ok(guard) => guard.release()?,
///     Err(error) if error.kind() == ErrorKind::Timeout => println!("{error}"),
///     Err(error) => return Err(error.into()),
/// }
/// if let Some(_guard) = lock.try_acquire()? {
///     // ... it was free ...
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is not reentrant: acquiring it again while this component holds it is
/// refused with [`ErrorKind::Deadlock`](crate::ErrorKind::Deadlock).
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
    pub fn new(path: impl AsRef<Path>) -> Result<InterProcessLock, Error> {
        RawLock::open(path.as_ref()).map(InterProcessLock)
    }

    /// As [`new`](Self::new), but creates the directories of the path that are
    /// missing, as `fasteners` does. The host must have granted the directory for
    /// files, too.
    ///
    /// # Errors
    /// As `new`, and if a directory cannot be created.
    pub fn create_dirs(path: impl AsRef<Path>) -> Result<InterProcessLock, Error> {
        RawLock::create_dirs(path.as_ref()).map(InterProcessLock)
    }

    /// The path the lock was opened with.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Waits for the lock for as long as the host allows. The whole component
    /// waits.
    ///
    /// # Errors
    /// [`Deadlock`](crate::ErrorKind::Deadlock) if the wait could never end;
    /// [`Timeout`](crate::ErrorKind::Timeout) if the host bounds waits; what the host
    /// denies.
    pub fn acquire(&self) -> Result<InterProcessGuard, Error> {
        self.0.acquire(Mode::Exclusive, None).map(InterProcessGuard)
    }

    /// Waits for the lock until `timeout` has passed on a monotonic clock. Zero
    /// tries once.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout), and as [`acquire`](Self::acquire).
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

    /// Runs a function while the lock is held.
    ///
    /// ```no_run
    /// # use clasp_guest::InterProcessLock;
    /// let lock = InterProcessLock::new("locks/count.lock")?;
    /// let count = lock.with(|| std::fs::read_to_string("data/count"))??;
    /// println!("{count}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); the function is not run then.
    pub fn with<R>(&self, f: impl FnOnce() -> R) -> Result<R, Error> {
        let _guard = self.acquire()?;
        Ok(f())
    }

    /// When a holder last [touched](InterProcessGuard::touch) the lock, in any process;
    /// `None` if none ever did. It is the time of last modification of the lock file,
    /// by the clock of its file system. It may lie in the future, if clocks differ.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported), and what the host denies.
    pub fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.0.last_touched()
    }

    /// Starts to acquire the lock and does not wait for it. The request has its
    /// place in the queue before this returns.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), as far as that is known at once.
    #[cfg(feature = "async")]
    pub fn start_acquire(
        &self,
        timeout: Option<Duration>,
    ) -> Result<Request<InterProcessGuard>, Error> {
        let request = self.0.start_acquire(Mode::Exclusive, timeout)?;
        Ok(Request::new(request, InterProcessGuard))
    }

    /// Waits for the lock while other tasks of this component go on. Dropping the
    /// future withdraws the request.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), except
    /// [`Deadlock`](crate::ErrorKind::Deadlock).
    #[cfg(feature = "wstd")]
    pub async fn acquire_async(&self) -> Result<InterProcessGuard, Error> {
        self.start_acquire(None)?.wait().await
    }
}

/// Holds an [`InterProcessLock`] until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct InterProcessGuard(RawGuard);

guard!(InterProcessGuard, exclusive);
