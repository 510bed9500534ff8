//! The host of this component, by the interface `clasp:locks`.

mod semaphore;

pub(crate) use semaphore::*;

use super::Mode;
use crate::{
    bindings::{lockspace_of, lockspaces, types},
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

/// The errors of one of the generated modules `types`.
macro_rules! causes {
    ($types:ident) => {
        impl From<$types::ErrorCode> for crate::error::Cause {
            fn from(code: $types::ErrorCode) -> crate::error::Cause {
                use crate::error::{Cause, ErrorKind};

                match code {
                    $types::ErrorCode::Timeout => ErrorKind::Timeout,
                    $types::ErrorCode::Deadlock => ErrorKind::Deadlock,
                    $types::ErrorCode::Access => ErrorKind::Access,
                    $types::ErrorCode::ReadOnly => ErrorKind::ReadOnly,
                    $types::ErrorCode::NotPermitted => ErrorKind::NotPermitted,
                    $types::ErrorCode::FamilyMismatch => ErrorKind::FamilyMismatch,
                    $types::ErrorCode::NoEntry => ErrorKind::NoEntry,
                    $types::ErrorCode::InvalidName => ErrorKind::InvalidName,
                    $types::ErrorCode::IsDirectory => ErrorKind::IsDirectory,
                    $types::ErrorCode::NotAFile => ErrorKind::NotAFile,
                    $types::ErrorCode::Quota => ErrorKind::Quota,
                    $types::ErrorCode::Unavailable => ErrorKind::Unavailable,
                    $types::ErrorCode::Unsupported => ErrorKind::Unsupported,
                    $types::ErrorCode::Closed => ErrorKind::Closed,
                    $types::ErrorCode::Replaced => ErrorKind::Replaced,
                    $types::ErrorCode::Lost => ErrorKind::Lost,
                    $types::ErrorCode::Io => ErrorKind::Io,
                    $types::ErrorCode::Other(Some(text)) => {
                        return Cause::new(ErrorKind::Other, text);
                    }
                    $types::ErrorCode::Other(None) => ErrorKind::Other,
                }
                .into()
            }
        }
    };
}
#[cfg(feature = "p3")]
pub(crate) use causes;

causes!(types);

#[derive(Debug)]
pub(crate) struct Lock(types::Lock);

impl Lock {
    pub(crate) fn open(path: &str) -> Result<Lock, Cause> {
        let Some((space, name)) = lockspace_of(path) else {
            return Err(not_granted(lockspaces().iter().map(|(_, path)| path)));
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

/// Why no lock can be opened: locks are granted for these paths only.
pub(crate) fn not_granted<'a>(granted: impl Iterator<Item = &'a String>) -> Cause {
    let granted: Vec<_> = granted.map(|path| format!("{path:?}")).collect();
    let text = match granted.is_empty() {
        true => "the host has granted no locks to this component; `clasp run` grants those of a \
                 directory with --locks, an embedder with `LocksCtxBuilder::lockspace`"
            .to_owned(),
        false => format!(
            "the host has granted no locks for this path, only for {}",
            granted.join(", ")
        ),
    };
    Cause::new(ErrorKind::NotGranted, text)
}

/// What 64 bits of nanoseconds cannot hold is 584 years away.
pub(crate) fn nanos(timeout: Option<Duration>) -> Option<u64> {
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
