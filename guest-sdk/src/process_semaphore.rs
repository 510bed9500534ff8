//! The semaphore between processes.

use crate::{Error, backend, raw, raw_permit::RawPermit};
#[cfg(feature = "async")]
use crate::{Request, raw_permit::RawPermitRequest};
use std::{path::Path, sync::Arc, time::Duration};

/// At most so many holders at a time: on this machine, among native programs with this crate,
/// other guests, and the other handles of this component.
///
/// ```no_run
/// use clasp_guest::InterProcessSemaphore;
/// use std::time::Duration;
///
/// // At most four such jobs run on this machine.
/// let jobs = InterProcessSemaphore::new("locks/jobs.sem", 4)?;
/// {
///     let permit = jobs.acquire()?;
///     // No other holder has this number, so nobody else uses this file.
///     std::fs::write(format!("scratch/{}", permit.number()), "...")?;
/// }
/// // Two permits for a job that is twice as heavy.
/// let heavy = jobs.acquire_many_timeout(2, Duration::from_secs(10))?;
/// heavy.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Requests are served in the order in which they came, whatever they ask for, so a request for
/// many permits is not passed by requests for few. A holder that dies frees its permits.
///
/// Open a semaphore with the same number of permits everywhere, and use its file for nothing
/// else. If two processes use different numbers, each takes the permits with the least numbers
/// only.
///
/// On files, semaphores exist on Linux and macOS. Elsewhere [`new`](Self::new) fails with
/// [`Unsupported`](crate::ErrorKind::Unsupported).
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
    /// As [`InterProcessLock::new`](crate::InterProcessLock::new). Also
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for another number of permits than 1 to
    /// 64, or where there are no semaphores;
    /// [`FamilyMismatch`](crate::ErrorKind::FamilyMismatch) if the host has the file open as a
    /// lock, or with another number of permits; [`ReadOnly`](crate::ErrorKind::ReadOnly) where
    /// only shared locks are granted.
    pub fn new(path: impl AsRef<Path>, permits: u32) -> Result<InterProcessSemaphore, Error> {
        let path = raw::checked(path.as_ref())?;
        match backend::Semaphore::open(&path, permits) {
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
    pub fn create_dirs(
        path: impl AsRef<Path>,
        permits: u32,
    ) -> Result<InterProcessSemaphore, Error> {
        raw::create_parents(path.as_ref())?;
        InterProcessSemaphore::new(path, permits)
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
        InterProcessPermit(RawPermit {
            path: Arc::clone(&self.path),
            permit,
        })
    }

    fn wait(&self, count: u32, timeout: Option<Duration>) -> Result<InterProcessPermit, Error> {
        match self.semaphore.acquire(count, timeout) {
            Ok(permit) => Ok(self.permit(permit)),
            Err(cause) => Err(Error::new(&self.path, cause)),
        }
    }

    /// Waits for a permit for as long as the host allows. The whole component waits.
    ///
    /// # Errors
    /// [`Deadlock`](crate::ErrorKind::Deadlock) if this component itself has all the permits;
    /// [`Timeout`](crate::ErrorKind::Timeout) if the host bounds waits; what the host denies.
    pub fn acquire(&self) -> Result<InterProcessPermit, Error> {
        self.wait(1, None)
    }

    /// Waits for a permit until `timeout` has passed on a monotonic clock. Zero tries once.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout), and as [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<InterProcessPermit, Error> {
        self.wait(1, Some(timeout))
    }

    /// Takes a permit if one is free and no other request waits.
    ///
    /// # Errors
    /// What the host denies.
    pub fn try_acquire(&self) -> Result<Option<InterProcessPermit>, Error> {
        self.try_acquire_many(1)
    }

    /// Waits for `count` permits, which are granted all at once.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), with [`Deadlock`](crate::ErrorKind::Deadlock) if this
    /// component itself has so many permits that fewer than `count` are left. Also
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if `count` is zero or greater than the
    /// number of permits.
    pub fn acquire_many(&self, count: u32) -> Result<InterProcessPermit, Error> {
        self.wait(count, None)
    }

    /// Waits for `count` permits until `timeout` has passed on a monotonic clock. Zero tries
    /// once.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout), and as [`acquire_many`](Self::acquire_many).
    pub fn acquire_many_timeout(
        &self,
        count: u32,
        timeout: Duration,
    ) -> Result<InterProcessPermit, Error> {
        self.wait(count, Some(timeout))
    }

    /// Takes `count` permits if so many are free and no other request waits.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if `count` is zero or greater than the
    /// number of permits, and what the host denies.
    pub fn try_acquire_many(&self, count: u32) -> Result<Option<InterProcessPermit>, Error> {
        match self.semaphore.try_acquire(count) {
            Ok(permit) => Ok(permit.map(|permit| self.permit(permit))),
            Err(cause) => Err(Error::new(&self.path, cause)),
        }
    }

    /// Runs a function while a permit is held.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); the function is not run then.
    pub fn with<R>(&self, f: impl FnOnce() -> R) -> Result<R, Error> {
        let _permit = self.acquire()?;
        Ok(f())
    }

    /// Starts to take `count` permits and does not wait for them. The request has its place in
    /// the queue before this returns.
    ///
    /// # Errors
    /// As [`acquire_many`](Self::acquire_many), as far as that is known at once, except
    /// [`Deadlock`](crate::ErrorKind::Deadlock).
    #[cfg(feature = "async")]
    pub fn start_acquire(
        &self,
        count: u32,
        timeout: Option<Duration>,
    ) -> Result<Request<InterProcessPermit>, Error> {
        match self.semaphore.start_acquire(count, timeout) {
            Ok(request) => {
                let path = Arc::clone(&self.path);
                let request = RawPermitRequest { path, request };
                Ok(Request::of_permits(request, InterProcessPermit))
            }
            Err(cause) => Err(Error::new(&self.path, cause)),
        }
    }

    /// Waits for a permit while other tasks of this component go on. Dropping the future
    /// withdraws the request.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), except [`Deadlock`](crate::ErrorKind::Deadlock).
    #[cfg(feature = "wstd")]
    pub async fn acquire_async(&self) -> Result<InterProcessPermit, Error> {
        self.start_acquire(1, None)?.wait().await
    }
}

/// Holds permits of an [`InterProcessSemaphore`] until it is dropped: one, or as many as were
/// asked for.
#[derive(Debug)]
#[must_use = "the permits are released when this is dropped"]
pub struct InterProcessPermit(RawPermit);

impl InterProcessPermit {
    /// The path of the semaphore.
    pub fn path(&self) -> &Path {
        Path::new(&*self.0.path)
    }

    /// The number of the permit, from zero; of several permits the least. No two holders have
    /// the same one at the same time.
    pub fn number(&self) -> u32 {
        self.0.permit.numbers().first().copied().unwrap_or_default()
    }

    /// The numbers of the permits, in ascending order.
    pub fn numbers(&self) -> Vec<u32> {
        self.0.permit.numbers()
    }

    /// Checks that the permits are still held and, if the semaphore is a file, that its path
    /// still refers to it.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) or [`Lost`](crate::ErrorKind::Lost) if they are not
    /// held any more, [`Replaced`](crate::ErrorKind::Replaced) if the path refers to another
    /// file, and the errors of opening a lock if the path cannot be looked up.
    pub fn check(&self) -> Result<(), Error> {
        self.0.told(self.0.permit.check())
    }

    /// Returns a number greater than any that an earlier holder of one of these permits has
    /// requested. Every call returns the same number. See
    /// [`InterProcessGuard::fencing_token`](crate::InterProcessGuard::fencing_token).
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a file, whose permits cannot be lost,
    /// and the errors of [`check`](Self::check).
    pub fn fencing_token(&self) -> Result<u64, Error> {
        self.0.told(self.0.permit.fencing_token())
    }

    /// Releases the permits, and reports whether they were held until now and the path still
    /// refers to the file.
    ///
    /// # Errors
    /// As [`check`](Self::check). The permits are released in any case.
    pub fn release(self) -> Result<(), Error> {
        self.0.release()
    }

    /// A pollable that is ready once the permits are not held any more;
    /// [`check`](Self::check) then returns the reason.
    ///
    /// # Errors
    /// [`Quota`](crate::ErrorKind::Quota) if the host has no room for it.
    #[cfg(all(feature = "async", target_family = "wasm"))]
    pub fn pollable(&self) -> Result<wasip2::io::poll::Pollable, Error> {
        self.0.told(self.0.permit.pollable())
    }

    /// Waits until the permits are not held any more; [`check`](Self::check) then returns the
    /// reason.
    ///
    /// # Errors
    /// [`Quota`](crate::ErrorKind::Quota) if the host has no room for what is needed to wait.
    #[cfg(feature = "wstd")]
    pub async fn lost(&self) -> Result<(), Error> {
        let waited = self.0.permit.lost().await;
        self.0.told(waited)
    }
}
