//! Semaphores of the engine, in this process.

use super::owner;
use crate::{
    backend::{amount, locate},
    error::{Cause, ErrorKind},
};
use clasp_engine as engine;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Semaphore(engine::Semaphore);

impl Semaphore {
    pub(crate) async fn open(path: &str, permits: u32) -> Result<Semaphore, Cause> {
        let (grant, name) = locate(path)?;
        let opened = owner().open_semaphore(&grant, &name, amount(permits));
        Ok(Semaphore(opened?))
    }

    pub(crate) async fn try_acquire(&self, count: u32) -> Result<Option<Permit>, Cause> {
        match self.0.try_acquire_async(amount(count)).await {
            Ok(permit) => Ok(Some(Permit(permit))),
            Err(error) if error.kind() == engine::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn acquire(
        &self,
        count: u32,
        timeout: Option<Duration>,
    ) -> Result<Permit, Cause> {
        let request = self.0.start_acquire(amount(count), timeout)?;
        Ok(Permit(request.await?))
    }
}

#[derive(Debug)]
pub(crate) struct Permit(engine::Permit);

impl Permit {
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.0.numbers().iter().map(u32::from).collect()
    }

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

    pub(crate) async fn fencing_token(&self) -> Result<u64, Cause> {
        Ok(self.0.token()?)
    }

    pub(crate) async fn release(self) -> Result<(), Cause> {
        Ok(self.0.release()?)
    }
}
