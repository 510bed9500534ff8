//! Semaphores of the host, by the interface `clasp:locks/semaphores`.

#[cfg(feature = "wstd")]
use super::wait_for;
use super::{nanos, not_granted};
#[cfg(feature = "async")]
use crate::error::ErrorKind;
use crate::{
    bindings::{lockspace_of, lockspaces, semaphores},
    error::Cause,
};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Semaphore(semaphores::Semaphore);

impl Semaphore {
    pub(crate) fn open(path: &str, permits: u32) -> Result<Semaphore, Cause> {
        let Some((space, name)) = lockspace_of(path) else {
            return Err(not_granted(lockspaces().iter().map(|(_, path)| path)));
        };
        Ok(Semaphore(semaphores::Semaphore::open(
            space, &name, permits,
        )?))
    }

    pub(crate) fn try_acquire(&self, count: u32) -> Result<Option<Permit>, Cause> {
        Ok(self.0.try_acquire(count)?.map(Permit))
    }

    pub(crate) fn acquire(&self, count: u32, timeout: Option<Duration>) -> Result<Permit, Cause> {
        Ok(Permit(self.0.acquire(count, nanos(timeout))?))
    }

    #[cfg(feature = "async")]
    pub(crate) fn start_acquire(
        &self,
        count: u32,
        timeout: Option<Duration>,
    ) -> Result<PermitRequest, Cause> {
        let request = self.0.start_acquire(count, nanos(timeout))?;
        Ok(PermitRequest(request))
    }
}

#[derive(Debug)]
pub(crate) struct Permit(semaphores::Permit);

impl Permit {
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.0.numbers()
    }

    pub(crate) fn check(&self) -> Result<(), Cause> {
        Ok(self.0.check()?)
    }

    pub(crate) fn fencing_token(&self) -> Result<u64, Cause> {
        Ok(self.0.fencing_token()?)
    }

    pub(crate) fn release(self) -> Result<(), Cause> {
        Ok(semaphores::Permit::release(self.0)?)
    }

    /// A pollable that is ready once the permits are not held any more.
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
pub(crate) struct PermitRequest(semaphores::FuturePermit);

#[cfg(feature = "async")]
impl PermitRequest {
    pub(crate) fn get(&mut self) -> Option<Result<Permit, Cause>> {
        Some(match self.0.get()? {
            Ok(Ok(permit)) => Ok(Permit(permit)),
            Ok(Err(code)) => Err(code.into()),
            Err(()) => Err(Cause::new(ErrorKind::Other, "the outcome was taken before")),
        })
    }

    /// A pollable that is ready once `get` has an answer.
    pub(crate) fn pollable(&self) -> Result<wasip2::io::poll::Pollable, Cause> {
        Ok(self.0.subscribe()?)
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn wait(&mut self) -> Result<Permit, Cause> {
        loop {
            if let Some(outcome) = self.get() {
                return outcome;
            }
            wait_for(self.pollable()?).await;
        }
    }
}
