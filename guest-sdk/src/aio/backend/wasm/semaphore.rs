//! Semaphores of the host, by the interface `clasp:locks/semaphores@0.3.0`.

use crate::{
    backend::{nanos, not_granted},
    bindings::p3::{lockspace_of, lockspaces, semaphores},
    error::Cause,
};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Semaphore(semaphores::Semaphore);

impl Semaphore {
    pub(crate) async fn open(path: &str, permits: u32) -> Result<Semaphore, Cause> {
        let Some((space, name)) = lockspace_of(path) else {
            return Err(not_granted(lockspaces().iter().map(|(_, path)| path)));
        };
        let opened = semaphores::Semaphore::open(space, name, permits).await;
        Ok(Semaphore(opened?))
    }

    pub(crate) async fn try_acquire(&self, count: u32) -> Result<Option<Permit>, Cause> {
        Ok(self.0.try_acquire(count).await?.map(Permit))
    }

    pub(crate) async fn acquire(
        &self,
        count: u32,
        timeout: Option<Duration>,
    ) -> Result<Permit, Cause> {
        Ok(Permit(self.0.acquire(count, nanos(timeout)).await?))
    }
}

#[derive(Debug)]
pub(crate) struct Permit(semaphores::Permit);

impl Permit {
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.0.numbers()
    }

    pub(crate) async fn check(&self) -> Result<(), Cause> {
        Ok(self.0.check().await?)
    }

    pub(crate) async fn lost(&self) -> Cause {
        self.0.lost().await.into()
    }

    pub(crate) async fn fencing_token(&self) -> Result<u64, Cause> {
        Ok(self.0.fencing_token().await?)
    }

    pub(crate) async fn release(self) -> Result<(), Cause> {
        Ok(semaphores::Permit::release(self.0).await?)
    }
}
