//! No semaphores.

use crate::error::{Cause, ErrorKind};
use std::{convert::Infallible, time::Duration};

#[derive(Debug)]
pub(crate) struct Semaphore(Infallible);

impl Semaphore {
    pub(crate) async fn open(_: &str, _: u32) -> Result<Semaphore, Cause> {
        let why = "semaphores off wasm need the feature `native` of clasp-guest";
        Err(Cause::new(ErrorKind::Unsupported, why))
    }

    pub(crate) async fn try_acquire(&self, _: u32) -> Result<Option<Permit>, Cause> {
        match self.0 {}
    }

    pub(crate) async fn acquire(&self, _: u32, _: Option<Duration>) -> Result<Permit, Cause> {
        match self.0 {}
    }
}

#[derive(Debug)]
pub(crate) struct Permit(Infallible);

impl Permit {
    pub(crate) fn numbers(&self) -> Vec<u32> {
        match self.0 {}
    }

    pub(crate) async fn check(&self) -> Result<(), Cause> {
        match self.0 {}
    }

    pub(crate) async fn lost(&self) -> Cause {
        match self.0 {}
    }

    pub(crate) async fn fencing_token(&self) -> Result<u64, Cause> {
        match self.0 {}
    }

    pub(crate) async fn release(self) -> Result<(), Cause> {
        match self.0 {}
    }
}
