//! A lock by path, in any mode: what the locks of this module have in common.

use super::backend;
use crate::{Error, backend::Mode, error::Cause, raw};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

#[derive(Debug)]
pub(super) struct RawLock {
    path: Arc<str>,
    lock: backend::Lock,
}

#[derive(Debug)]
pub(super) struct RawGuard {
    path: Arc<str>,
    guard: backend::Guard,
}

impl RawLock {
    pub(super) async fn open(path: &Path) -> Result<RawLock, Error> {
        let path = raw::checked(path)?;
        match backend::Lock::open(&path).await {
            Ok(lock) => Ok(RawLock { path, lock }),
            Err(cause) => Err(Error::new(&path, cause)),
        }
    }

    /// Opens a lock and creates the directories of its path.
    pub(super) async fn create_dirs(path: &Path) -> Result<RawLock, Error> {
        raw::create_parents(path)?;
        RawLock::open(path).await
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(&*self.path)
    }

    fn told<T>(&self, result: Result<T, Cause>) -> Result<T, Error> {
        result.map_err(|cause| Error::new(&self.path, cause))
    }

    fn guard(&self, guard: backend::Guard) -> RawGuard {
        RawGuard {
            path: Arc::clone(&self.path),
            guard,
        }
    }

    pub(super) async fn try_acquire(&self, mode: Mode) -> Result<Option<RawGuard>, Error> {
        let tried = self.told(self.lock.try_acquire(mode).await)?;
        Ok(tried.map(|guard| self.guard(guard)))
    }

    pub(super) async fn acquire(
        &self,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<RawGuard, Error> {
        let guard = self.told(self.lock.acquire(mode, timeout).await)?;
        Ok(self.guard(guard))
    }

    pub(super) async fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.told(self.lock.last_touched().await)
    }
}

impl RawGuard {
    /// The path of the lock.
    pub(super) fn lock(&self) -> Arc<str> {
        Arc::clone(&self.path)
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(&*self.path)
    }

    fn told<T>(&self, result: Result<T, Cause>) -> Result<T, Error> {
        result.map_err(|cause| Error::new(&self.path, cause))
    }

    pub(super) async fn check(&self) -> Result<(), Error> {
        self.told(self.guard.check().await)
    }

    pub(super) async fn lost(&self) -> Error {
        Error::new(&self.path, self.guard.lost().await)
    }

    pub(super) async fn downgrade(&mut self) -> Result<(), Error> {
        let done = self.guard.downgrade().await;
        self.told(done)
    }

    pub(super) async fn try_upgrade(&mut self) -> Result<bool, Error> {
        let done = self.guard.try_upgrade().await;
        self.told(done)
    }

    pub(super) async fn fencing_token(&self) -> Result<u64, Error> {
        self.told(self.guard.fencing_token().await)
    }

    pub(super) async fn touch(&self) -> Result<(), Error> {
        self.told(self.guard.touch().await)
    }

    pub(super) async fn release(self) -> Result<(), Error> {
        let RawGuard { path, guard } = self;
        let released = guard.release().await;
        released.map_err(|cause| Error::new(&path, cause))
    }
}
