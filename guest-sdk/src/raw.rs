//! A lock by path, in any mode: what the public locks have in common.

use crate::{
    Error,
    bindings::{
        preopens::get_lockspaces,
        types::{ErrorCode, Guard, Lock, Lockspace, Mode},
    },
    error::Cause,
    path,
};
use std::{path::Path, sync::Arc, sync::OnceLock, time::Duration};

/// The grants never change while a component lives.
fn lockspaces() -> &'static [(Lockspace, String)] {
    static SPACES: OnceLock<Vec<(Lockspace, String)>> = OnceLock::new();
    SPACES.get_or_init(get_lockspaces)
}

#[derive(Debug)]
pub(crate) struct RawLock {
    path: Arc<str>,
    lock: Lock,
}

#[derive(Debug)]
pub(crate) struct RawGuard {
    path: Arc<str>,
    guard: Guard,
}

impl RawLock {
    pub(crate) fn open(path: &Path) -> Result<RawLock, Error> {
        let Some(text) = path.to_str() else {
            return Err(Error::new(path.to_string_lossy().into(), Cause::NotUtf8));
        };
        let shown: Arc<str> = text.into();
        if text.is_empty() {
            return Err(Error::host(&shown, ErrorCode::InvalidName));
        }
        let current_dir = std::env::current_dir();
        let current_dir = current_dir
            .as_deref()
            .ok()
            .and_then(Path::to_str)
            .unwrap_or("/");
        let spaces = lockspaces();
        let grants = spaces.iter().map(|(_, path)| path);
        let Some((at, name)) = path::resolve(text, current_dir, grants) else {
            let granted = spaces.iter().map(|(_, path)| format!("{path:?}"));
            return Err(Error::new(shown, Cause::NotGranted(granted.collect())));
        };
        match spaces[at].0.open(&name) {
            Ok(lock) => Ok(RawLock { path: shown, lock }),
            Err(code) => Err(Error::host(&shown, code)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new(&*self.path)
    }

    fn guard(&self, guard: Guard) -> RawGuard {
        RawGuard {
            path: Arc::clone(&self.path),
            guard,
        }
    }

    pub(crate) fn try_acquire(&self, mode: Mode) -> Result<Option<RawGuard>, Error> {
        match self.lock.try_acquire(mode) {
            Ok(guard) => Ok(Some(self.guard(guard))),
            Err(ErrorCode::WouldBlock) => Ok(None),
            Err(code) => Err(Error::host(&self.path, code)),
        }
    }

    pub(crate) fn acquire(&self, mode: Mode, timeout: Option<Duration>) -> Result<RawGuard, Error> {
        // What 64 bits of nanoseconds cannot hold is 584 years away.
        let nanos = timeout.map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX));
        match self.lock.acquire(mode, nanos) {
            Ok(guard) => Ok(self.guard(guard)),
            Err(code) => Err(Error::host(&self.path, code).with_timeout(timeout)),
        }
    }
}

impl RawGuard {
    pub(crate) fn path(&self) -> &Path {
        Path::new(&*self.path)
    }

    pub(crate) fn release(self) -> Result<(), Error> {
        Guard::release(self.guard).map_err(|code| Error::host(&self.path, code))
    }
}
