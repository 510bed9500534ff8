//! No semaphores.

use super::unsupported;
use crate::error::Cause;
use std::{convert::Infallible, time::Duration};

#[derive(Debug)]
pub(crate) struct Semaphore(Infallible);

impl Semaphore {
    pub(crate) fn open(_: &str, _: u32) -> Result<Semaphore, Cause> {
        unsupported()
    }

    pub(crate) fn try_acquire(&self, _: u32) -> Result<Option<Permit>, Cause> {
        match self.0 {}
    }

    pub(crate) fn acquire(&self, _: u32, _: Option<Duration>) -> Result<Permit, Cause> {
        match self.0 {}
    }

    #[cfg(feature = "async")]
    pub(crate) fn start_acquire(
        &self,
        _: u32,
        _: Option<Duration>,
    ) -> Result<PermitRequest, Cause> {
        match self.0 {}
    }
}

#[derive(Debug)]
pub(crate) struct Permit(Infallible);

impl Permit {
    pub(crate) fn numbers(&self) -> Vec<u32> {
        match self.0 {}
    }

    pub(crate) fn check(&self) -> Result<(), Cause> {
        match self.0 {}
    }

    pub(crate) fn fencing_token(&self) -> Result<u64, Cause> {
        match self.0 {}
    }

    pub(crate) fn release(self) -> Result<(), Cause> {
        match self.0 {}
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn lost(&self) -> Result<(), Cause> {
        match self.0 {}
    }
}

#[cfg(feature = "async")]
#[derive(Debug)]
pub(crate) struct PermitRequest(Infallible);

#[cfg(feature = "async")]
impl PermitRequest {
    pub(crate) fn get(&mut self) -> Option<Result<Permit, Cause>> {
        match self.0 {}
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn wait(&mut self) -> Result<Permit, Cause> {
        match self.0 {}
    }
}
