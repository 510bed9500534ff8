//! The engine, in this process. All tasks share an owner, as those of a component do: none
//! blocks it.

mod semaphore;

pub(crate) use semaphore::*;

use crate::{
    backend::{Mode, limits, locate},
    error::{Cause, ErrorKind},
};
use clasp_engine::{self as engine, LockManager, Owner};
use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

fn owner() -> &'static Owner {
    static OWNER: OnceLock<Owner> = OnceLock::new();
    OWNER.get_or_init(|| LockManager::global().labelled_owner("tasks", limits()))
}

#[derive(Debug)]
pub(crate) struct Lock(engine::Lock);

impl Lock {
    pub(crate) async fn open(path: &str) -> Result<Lock, Cause> {
        let (grant, name) = locate(path)?;
        Ok(Lock(owner().open(&grant, &name)?))
    }

    pub(crate) async fn try_acquire(&self, mode: Mode) -> Result<Option<Guard>, Cause> {
        match self.0.try_acquire_async(mode.into()).await {
            Ok(guard) => Ok(Some(Guard(guard))),
            Err(error) if error.kind() == engine::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn acquire(
        &self,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<Guard, Cause> {
        Ok(Guard(self.0.start_acquire(mode.into(), timeout)?.await?))
    }

    pub(crate) async fn last_touched(&self) -> Result<Option<SystemTime>, Cause> {
        Ok(self.0.last_touched()?)
    }
}

#[derive(Debug)]
pub(crate) struct Guard(engine::Guard);

impl Guard {
    pub(crate) async fn check(&self) -> Result<(), Cause> {
        Ok(self.0.check()?)
    }

    pub(crate) async fn lost(&self) -> Cause {
        self.0.loss().await;
        match self.0.check() {
            Err(error) => error.into(),
            Ok(()) => ErrorKind::Lost.into(),
        }
    }

    pub(crate) async fn downgrade(&mut self) -> Result<(), Cause> {
        Ok(self.0.downgrade_async().await?)
    }

    pub(crate) async fn try_upgrade(&mut self) -> Result<bool, Cause> {
        Ok(self.0.try_upgrade_async().await?)
    }

    pub(crate) async fn fencing_token(&self) -> Result<u64, Cause> {
        Ok(self.0.token_async().await?)
    }

    pub(crate) async fn touch(&self) -> Result<(), Cause> {
        Ok(self.0.touch()?)
    }

    pub(crate) async fn release(self) -> Result<(), Cause> {
        Ok(self.0.release()?)
    }
}
