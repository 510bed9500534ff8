//! A lock by path, in any mode: what the public locks have in common.

use crate::{
    Error, ErrorKind,
    backend::{self, Mode},
    error::Cause,
};
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

#[derive(Debug)]
pub(crate) struct RawLock {
    path: Arc<str>,
    lock: backend::Lock,
}

#[derive(Debug)]
pub(crate) struct RawGuard {
    path: Arc<str>,
    guard: backend::Guard,
}

/// The path as text, which is what a host takes.
pub(crate) fn checked(path: &Path) -> Result<Arc<str>, Error> {
    match path.to_str() {
        Some(text) if !text.is_empty() => Ok(text.into()),
        _ => {
            let shown = path.to_string_lossy().into();
            Err(Error::new(&shown, ErrorKind::InvalidName))
        }
    }
}

/// Creates the directories of a path that are missing.
pub(crate) fn create_parents(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let created = fs::create_dir_all(parent);
    created.map_err(|error| Error::new(&path.to_string_lossy().into(), error))
}

impl RawLock {
    pub(crate) fn open(path: &Path) -> Result<RawLock, Error> {
        let path = checked(path)?;
        match backend::Lock::open(&path) {
            Ok(lock) => Ok(RawLock { path, lock }),
            Err(cause) => Err(Error::new(&path, cause)),
        }
    }

    /// Opens a lock and creates the directories of its path.
    pub(crate) fn create_dirs(path: &Path) -> Result<RawLock, Error> {
        create_parents(path)?;
        RawLock::open(path)
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new(&*self.path)
    }

    fn guard(&self, guard: backend::Guard) -> RawGuard {
        RawGuard {
            path: Arc::clone(&self.path),
            guard,
        }
    }

    pub(crate) fn try_acquire(&self, mode: Mode) -> Result<Option<RawGuard>, Error> {
        match self.lock.try_acquire(mode) {
            Ok(guard) => Ok(guard.map(|guard| self.guard(guard))),
            Err(cause) => Err(Error::new(&self.path, cause)),
        }
    }

    pub(crate) fn acquire(&self, mode: Mode, timeout: Option<Duration>) -> Result<RawGuard, Error> {
        match self.lock.acquire(mode, timeout) {
            Ok(guard) => Ok(self.guard(guard)),
            Err(cause) => Err(Error::new(&self.path, cause)),
        }
    }

    pub(crate) fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        let touched = self.lock.last_touched();
        touched.map_err(|cause| Error::new(&self.path, cause))
    }

    #[cfg(feature = "async")]
    pub(crate) fn start_acquire(
        &self,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<RawRequest, Error> {
        match self.lock.start_acquire(mode, timeout) {
            Ok(request) => Ok(RawRequest {
                path: Arc::clone(&self.path),
                request,
            }),
            Err(cause) => Err(Error::new(&self.path, cause)),
        }
    }
}

impl RawGuard {
    /// The path of the lock.
    pub(crate) fn lock(&self) -> Arc<str> {
        Arc::clone(&self.path)
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new(&*self.path)
    }

    fn told<T>(&self, result: Result<T, Cause>) -> Result<T, Error> {
        result.map_err(|cause| Error::new(&self.path, cause))
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.told(self.guard.check())
    }

    pub(crate) fn downgrade(&mut self) -> Result<(), Error> {
        let done = self.guard.downgrade();
        self.told(done)
    }

    pub(crate) fn try_upgrade(&mut self) -> Result<bool, Error> {
        let done = self.guard.try_upgrade();
        self.told(done)
    }

    pub(crate) fn fencing_token(&self) -> Result<u64, Error> {
        self.told(self.guard.fencing_token())
    }

    pub(crate) fn touch(&self) -> Result<(), Error> {
        self.told(self.guard.touch())
    }

    pub(crate) fn release(self) -> Result<(), Error> {
        let RawGuard { path, guard } = self;
        guard.release().map_err(|cause| Error::new(&path, cause))
    }

    #[cfg(all(feature = "async", target_family = "wasm"))]
    pub(crate) fn pollable(&self) -> Result<wasip2::io::poll::Pollable, Error> {
        self.told(self.guard.pollable())
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn lost(&self) -> Result<(), Error> {
        let waited = self.guard.lost().await;
        self.told(waited)
    }
}

/// A request that was started.
#[cfg(feature = "async")]
#[derive(Debug)]
pub(crate) struct RawRequest {
    path: Arc<str>,
    request: backend::Request,
}

#[cfg(feature = "async")]
impl RawRequest {
    fn told(&self, outcome: Result<backend::Guard, Cause>) -> Result<RawGuard, Error> {
        match outcome {
            Ok(guard) => Ok(RawGuard {
                path: Arc::clone(&self.path),
                guard,
            }),
            Err(cause) => Err(Error::new(&self.path, cause)),
        }
    }

    pub(crate) fn get(&mut self) -> Option<Result<RawGuard, Error>> {
        let outcome = self.request.get()?;
        Some(self.told(outcome))
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn pollable(&self) -> Result<wasip2::io::poll::Pollable, Error> {
        let pollable = self.request.pollable();
        pollable.map_err(|cause| Error::new(&self.path, cause))
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn wait(&mut self) -> Result<RawGuard, Error> {
        let outcome = self.request.wait().await;
        self.told(outcome)
    }
}
