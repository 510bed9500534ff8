//! The host of this component, by the interface `clasp:locks@0.3.0`.

mod semaphore;

pub(crate) use semaphore::*;

use crate::{
    backend::{Mode, causes, nanos, not_granted},
    bindings::p3::{lockspace_of, lockspaces, types},
    error::Cause,
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

causes!(types);

#[derive(Debug)]
pub(crate) struct Lock(types::Lock);

impl Lock {
    pub(crate) async fn open(path: &str) -> Result<Lock, Cause> {
        let Some((space, name)) = lockspace_of(path) else {
            return Err(not_granted(lockspaces().iter().map(|(_, path)| path)));
        };
        Ok(Lock(space.open(name).await?))
    }

    pub(crate) async fn try_acquire(&self, mode: Mode) -> Result<Option<Guard>, Cause> {
        Ok(self.0.try_acquire(mode.into()).await?.map(Guard))
    }

    pub(crate) async fn acquire(
        &self,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<Guard, Cause> {
        Ok(Guard(self.0.acquire(mode.into(), nanos(timeout)).await?))
    }

    pub(crate) async fn last_touched(&self) -> Result<Option<SystemTime>, Cause> {
        let touched = self.0.last_touched().await?;
        Ok(touched.and_then(|at| {
            let since = Duration::new(at.seconds.try_into().unwrap_or(0), at.nanoseconds);
            SystemTime::UNIX_EPOCH.checked_add(since)
        }))
    }
}

#[derive(Debug)]
pub(crate) struct Guard(types::Guard);

impl Guard {
    pub(crate) async fn check(&self) -> Result<(), Cause> {
        Ok(self.0.check().await?)
    }

    pub(crate) async fn lost(&self) -> Cause {
        self.0.lost().await.into()
    }

    pub(crate) async fn downgrade(&mut self) -> Result<(), Cause> {
        Ok(self.0.downgrade().await?)
    }

    pub(crate) async fn try_upgrade(&mut self) -> Result<bool, Cause> {
        Ok(self.0.try_upgrade().await?)
    }

    pub(crate) async fn fencing_token(&self) -> Result<u64, Cause> {
        Ok(self.0.fencing_token().await?)
    }

    pub(crate) async fn touch(&self) -> Result<(), Cause> {
        Ok(self.0.touch().await?)
    }

    pub(crate) async fn release(self) -> Result<(), Cause> {
        Ok(types::Guard::release(self.0).await?)
    }
}
