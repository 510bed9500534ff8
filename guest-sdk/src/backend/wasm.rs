//! The host of this component, by the interface `clasp:locks`.

use super::Mode;
use crate::{
    bindings::{
        lockspace_of, lockspaces,
        types::{self, ErrorCode},
    },
    error::{Cause, ErrorKind},
};
use std::time::{Duration, SystemTime};

impl From<Mode> for types::Mode {
    fn from(mode: Mode) -> types::Mode {
        match mode {
            Mode::Shared => types::Mode::Shared,
            Mode::Exclusive => types::Mode::Exclusive,
        }
    }
}

impl From<ErrorCode> for Cause {
    fn from(code: ErrorCode) -> Cause {
        match code {
            ErrorCode::Timeout => ErrorKind::Timeout,
            ErrorCode::Deadlock => ErrorKind::Deadlock,
            ErrorCode::Access => ErrorKind::Access,
            ErrorCode::ReadOnly => ErrorKind::ReadOnly,
            ErrorCode::NotPermitted => ErrorKind::NotPermitted,
            ErrorCode::FamilyMismatch => ErrorKind::FamilyMismatch,
            ErrorCode::NoEntry => ErrorKind::NoEntry,
            ErrorCode::InvalidName => ErrorKind::InvalidName,
            ErrorCode::IsDirectory => ErrorKind::IsDirectory,
            ErrorCode::NotAFile => ErrorKind::NotAFile,
            ErrorCode::Quota => ErrorKind::Quota,
            ErrorCode::Unavailable => ErrorKind::Unavailable,
            ErrorCode::Unsupported => ErrorKind::Unsupported,
            ErrorCode::Closed => ErrorKind::Closed,
            ErrorCode::Replaced => ErrorKind::Replaced,
            ErrorCode::Lost => ErrorKind::Lost,
            ErrorCode::Io => ErrorKind::Io,
            ErrorCode::Other(Some(text)) => return Cause::new(ErrorKind::Other, text),
            ErrorCode::Other(None) => ErrorKind::Other,
        }
        .into()
    }
}

#[derive(Debug)]
pub(crate) struct Lock(types::Lock);

impl Lock {
    pub(crate) fn open(path: &str) -> Result<Lock, Cause> {
        let Some((space, name)) = lockspace_of(path) else {
            let spaces = lockspaces();
            let granted: Vec<_> = spaces.iter().map(|(_, path)| format!("{path:?}")).collect();
            let text = match granted.is_empty() {
                true => "the host has granted no locks to this component; `clasp run` grants those of a \
                         directory with --locks, an embedder with `LocksCtxBuilder::lockspace`"
                    .to_owned(),
                false => format!(
                    "the host has granted no locks for this path, only for {}",
                    granted.join(", ")
                ),
            };
            return Err(Cause::new(ErrorKind::NotGranted, text));
        };
        Ok(Lock(space.open(&name)?))
    }

    pub(crate) fn try_acquire(&self, mode: Mode) -> Result<Option<Guard>, Cause> {
        Ok(self.0.try_acquire(mode.into())?.map(Guard))
    }

    pub(crate) fn acquire(&self, mode: Mode, timeout: Option<Duration>) -> Result<Guard, Cause> {
        Ok(Guard(self.0.acquire(mode.into(), nanos(timeout))?))
    }

    pub(crate) fn last_touched(&self) -> Result<Option<SystemTime>, Cause> {
        let touched = self.0.last_touched()?;
        Ok(touched.and_then(|at| {
            let since = Duration::new(at.seconds, at.nanoseconds);
            SystemTime::UNIX_EPOCH.checked_add(since)
        }))
    }

    #[cfg(feature = "async")]
    pub(crate) fn start_acquire(
        &self,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<Request, Cause> {
        let request = self.0.start_acquire(mode.into(), nanos(timeout))?;
        Ok(Request(request))
    }
}

/// What 64 bits of nanoseconds cannot hold is 584 years away.
fn nanos(timeout: Option<Duration>) -> Option<u64> {
    timeout.map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
}

#[derive(Debug)]
pub(crate) struct Guard(types::Guard);

impl Guard {
    pub(crate) fn check(&self) -> Result<(), Cause> {
        Ok(self.0.check()?)
    }

    pub(crate) fn downgrade(&mut self) -> Result<(), Cause> {
        Ok(self.0.downgrade()?)
    }

    pub(crate) fn try_upgrade(&mut self) -> Result<bool, Cause> {
        Ok(self.0.try_upgrade()?)
    }

    pub(crate) fn fencing_token(&self) -> Result<u64, Cause> {
        Ok(self.0.fencing_token()?)
    }

    pub(crate) fn touch(&self) -> Result<(), Cause> {
        Ok(self.0.touch()?)
    }

    pub(crate) fn release(self) -> Result<(), Cause> {
        Ok(types::Guard::release(self.0)?)
    }

    /// A pollable that is ready once the lock is not held any more.
    #[cfg(feature = "async")]
    pub(crate) fn pollable(&self) -> Result<wasip2::io::poll::Pollable, Cause> {
        Ok(self.0.subscribe()?)
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn lost(&self) -> Result<(), Cause> {
        wait_for(self.pollable()?).await;
        Ok(())
    }
}

/// A request that was started.
#[cfg(feature = "async")]
#[derive(Debug)]
pub(crate) struct Request(types::FutureGuard);

#[cfg(feature = "async")]
impl Request {
    pub(crate) fn get(&mut self) -> Option<Result<Guard, Cause>> {
        Some(match self.0.get()? {
            Ok(Ok(guard)) => Ok(Guard(guard)),
            Ok(Err(code)) => Err(code.into()),
            Err(()) => Err(Cause::new(ErrorKind::Other, "the outcome was taken before")),
        })
    }

    /// A pollable that is ready once `get` has an answer.
    pub(crate) fn pollable(&self) -> Result<wasip2::io::poll::Pollable, Cause> {
        Ok(self.0.subscribe()?)
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn wait(&mut self) -> Result<Guard, Cause> {
        loop {
            if let Some(outcome) = self.get() {
                return outcome;
            }
            wait_for(self.pollable()?).await;
        }
    }
}

#[cfg(feature = "wstd")]
async fn wait_for(pollable: wasip2::io::poll::Pollable) {
    wstd::runtime::AsyncPollable::new(pollable).wait_for().await;
}
