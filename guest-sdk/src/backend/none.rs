//! Nothing: neither wasm nor the feature `native`. Opening a lock fails, so nothing else
//! is ever called.

mod semaphore;

pub(crate) use semaphore::*;

use super::Mode;
use crate::error::{Cause, ErrorKind};
use std::time::{Duration, SystemTime};

fn unsupported<T>() -> Result<T, Cause> {
    let text = "there is no host here: build for wasm32-wasip2, or with the feature `native`";
    Err(Cause::new(ErrorKind::Unsupported, text))
}

#[derive(Debug)]
pub(crate) struct Lock;

impl Lock {
    pub(crate) fn open(_: &str) -> Result<Lock, Cause> {
        unsupported()
    }

    pub(crate) fn try_acquire(&self, _: Mode) -> Result<Option<Guard>, Cause> {
        unsupported()
    }

    pub(crate) fn acquire(&self, _: Mode, _: Option<Duration>) -> Result<Guard, Cause> {
        unsupported()
    }

    pub(crate) fn last_touched(&self) -> Result<Option<SystemTime>, Cause> {
        unsupported()
    }

    #[cfg(feature = "async")]
    pub(crate) fn start_acquire(&self, _: Mode, _: Option<Duration>) -> Result<Request, Cause> {
        unsupported()
    }
}

#[derive(Debug)]
pub(crate) struct Guard;

impl Guard {
    pub(crate) fn check(&self) -> Result<(), Cause> {
        unsupported()
    }

    pub(crate) fn downgrade(&mut self) -> Result<(), Cause> {
        unsupported()
    }

    pub(crate) fn try_upgrade(&mut self) -> Result<bool, Cause> {
        unsupported()
    }

    pub(crate) fn fencing_token(&self) -> Result<u64, Cause> {
        unsupported()
    }

    pub(crate) fn touch(&self) -> Result<(), Cause> {
        unsupported()
    }

    pub(crate) fn release(self) -> Result<(), Cause> {
        unsupported()
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn lost(&self) -> Result<(), Cause> {
        unsupported()
    }
}

#[cfg(feature = "async")]
#[derive(Debug)]
pub(crate) struct Request;

#[cfg(feature = "async")]
impl Request {
    pub(crate) fn get(&mut self) -> Option<Result<Guard, Cause>> {
        Some(unsupported())
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn wait(&mut self) -> Result<Guard, Cause> {
        unsupported()
    }
}
