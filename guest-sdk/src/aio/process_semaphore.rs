//! The semaphore between processes.

use super::backend;
use crate::{Error, error::Cause, raw};
use std::{path::Path, sync::Arc, time::Duration};

/// At most so many holders at a time, among processes, other guests and the tasks of this
/// component. See [`InterProcessSemaphore`](crate::InterProcessSemaphore).
#[derive(Debug)]
pub struct InterProcessSemaphore {
    path: Arc<str>,
    permits: u32,
    semaphore: backend::Semaphore,
}

impl InterProcessSemaphore {
    /// Opens the semaphore whose file `File::open(path)` would open, with so many permits, from
    /// 1 to 64. If the file is missing, it is created, unless the host forbids that. Directories
    /// are not created.
    ///
    /// # Errors
    /// As [`InterProcessSemaphore::new`](crate::InterProcessSemaphore::new).
    pub async fn new(path: impl AsRef<Path>, permits: u32) -> Result<InterProcessSemaphore, Error> {
        let path = raw::checked(path.as_ref())?;
        match backend::Semaphore::open(&path, permits).await {
            Ok(semaphore) => Ok(InterProcessSemaphore {
                path,
                permits,
                semaphore,
            }),
            Err(cause) => Err(Error::new(&path, cause)),
        }
    }

    /// As [`new`](Self::new), but creates the directories of the path that are missing. The host
    /// must have granted the directory for files, too.
    ///
    /// # Errors
    /// As `new`, and if a directory cannot be created.
    pub async fn create_dirs(
        path: impl AsRef<Path>,
        permits: u32,
    ) -> Result<InterProcessSemaphore, Error> {
        raw::create_parents(path.as_ref())?;
        InterProcessSemaphore::new(path, permits).await
    }

    /// The path the semaphore was opened with.
    pub fn path(&self) -> &Path {
        Path::new(&*self.path)
    }

    /// The number of permits it was opened with.
    pub fn permits(&self) -> u32 {
        self.permits
    }

    fn permit(&self, permit: backend::Permit) -> InterProcessPermit {
        InterProcessPermit {
            path: Arc::clone(&self.path),
            permit,
        }
    }

    async fn wait(
        &self,
        count: u32,
        timeout: Option<Duration>,
    ) -> Result<InterProcessPermit, Error> {
        match self.semaphore.acquire(count, timeout).await {
            Ok(permit) => Ok(self.permit(permit)),
            Err(cause) => Err(Error::new(&self.path, cause)),
        }
    }

    /// Waits for a permit for as long as the host allows.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout) if the host bounds waits; what the host denies.
    pub async fn acquire(&self) -> Result<InterProcessPermit, Error> {
        self.wait(1, None).await
    }

    /// Waits for a permit until `timeout` has passed on a monotonic clock. Zero tries once.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout), and as [`acquire`](Self::acquire).
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<InterProcessPermit, Error> {
        self.wait(1, Some(timeout)).await
    }

    /// Takes a permit if one is free and no other request waits.
    ///
    /// # Errors
    /// What the host denies.
    pub async fn try_acquire(&self) -> Result<Option<InterProcessPermit>, Error> {
        self.try_acquire_many(1).await
    }

    /// Waits for `count` permits, which are granted all at once.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`Unsupported`](crate::ErrorKind::Unsupported) if
    /// `count` is zero or greater than the number of permits.
    pub async fn acquire_many(&self, count: u32) -> Result<InterProcessPermit, Error> {
        self.wait(count, None).await
    }

    /// Waits for `count` permits until `timeout` has passed on a monotonic clock. Zero tries
    /// once.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout), and as [`acquire_many`](Self::acquire_many).
    pub async fn acquire_many_timeout(
        &self,
        count: u32,
        timeout: Duration,
    ) -> Result<InterProcessPermit, Error> {
        self.wait(count, Some(timeout)).await
    }

    /// Takes `count` permits if so many are free and no other request waits.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if `count` is zero or greater than the
    /// number of permits, and what the host denies.
    pub async fn try_acquire_many(&self, count: u32) -> Result<Option<InterProcessPermit>, Error> {
        match self.semaphore.try_acquire(count).await {
            Ok(permit) => Ok(permit.map(|permit| self.permit(permit))),
            Err(cause) => Err(Error::new(&self.path, cause)),
        }
    }

    /// Runs an asynchronous function while a permit is held.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); the function is not run then.
    pub async fn with<R>(&self, f: impl AsyncFnOnce() -> R) -> Result<R, Error> {
        let _permit = self.acquire().await?;
        Ok(f().await)
    }
}

/// Holds permits of an [`InterProcessSemaphore`] until it is dropped: one, or as many as were
/// asked for.
#[derive(Debug)]
#[must_use = "the permits are released when this is dropped"]
pub struct InterProcessPermit {
    path: Arc<str>,
    permit: backend::Permit,
}

impl InterProcessPermit {
    fn told<T>(&self, result: Result<T, Cause>) -> Result<T, Error> {
        result.map_err(|cause| Error::new(&self.path, cause))
    }

    /// The path of the semaphore.
    pub fn path(&self) -> &Path {
        Path::new(&*self.path)
    }

    /// The number of the permit, from zero; of several permits the least. No two holders have
    /// the same one at the same time.
    pub fn number(&self) -> u32 {
        self.permit.numbers().first().copied().unwrap_or_default()
    }

    /// The numbers of the permits, in ascending order.
    pub fn numbers(&self) -> Vec<u32> {
        self.permit.numbers()
    }

    /// Checks that the permits are still held and, if the semaphore is a file, that its path
    /// still refers to it.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) or [`Lost`](crate::ErrorKind::Lost) if they are not
    /// held any more, [`Replaced`](crate::ErrorKind::Replaced) if the path refers to another
    /// file, and the errors of opening a lock if the path cannot be looked up.
    pub async fn check(&self) -> Result<(), Error> {
        self.told(self.permit.check().await)
    }

    /// Waits until the permits are not held any more, and returns the reason, of the kind
    /// [`Closed`](crate::ErrorKind::Closed) or [`Lost`](crate::ErrorKind::Lost). To be awaited
    /// beside the work that the permits allow.
    pub async fn lost(&self) -> Error {
        Error::new(&self.path, self.permit.lost().await)
    }

    /// Returns a number greater than any that an earlier holder of one of these permits has
    /// requested. See [`InterProcessPermit::fencing_token`](crate::InterProcessPermit::fencing_token).
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a file, whose permits cannot be lost,
    /// and the errors of [`check`](Self::check).
    pub async fn fencing_token(&self) -> Result<u64, Error> {
        self.told(self.permit.fencing_token().await)
    }

    /// Releases the permits, and reports whether they were held until now and the path still
    /// refers to the file.
    ///
    /// # Errors
    /// As [`check`](Self::check). The permits are released in any case.
    pub async fn release(self) -> Result<(), Error> {
        let InterProcessPermit { path, permit } = self;
        let released = permit.release().await;
        released.map_err(|cause| Error::new(&path, cause))
    }
}
