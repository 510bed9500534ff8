//! No locks.

mod semaphore;

pub(crate) use semaphore::*;

use crate::{
    backend::Mode,
    error::{Cause, ErrorKind},
};
use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

#[derive(Debug)]
pub(crate) struct Lock(Infallible);

impl Lock {
    pub(crate) async fn open(_: &str) -> Result<Lock, Cause> {
        let why = "locks off wasm need the feature `native` of clasp-guest";
        Err(Cause::new(ErrorKind::Unsupported, why))
    }

    pub(crate) async fn try_acquire(&self, _: Mode) -> Result<Option<Guard>, Cause> {
        match self.0 {}
    }

    pub(crate) async fn acquire(&self, _: Mode, _: Option<Duration>) -> Result<Guard, Cause> {
        match self.0 {}
    }

    pub(crate) async fn last_touched(&self) -> Result<Option<SystemTime>, Cause> {
        match self.0 {}
    }
}

#[derive(Debug)]
pub(crate) struct Guard(Infallible);

impl Guard {
    pub(crate) async fn check(&self) -> Result<(), Cause> {
        match self.0 {}
    }

    pub(crate) async fn lost(&self) -> Cause {
        match self.0 {}
    }

    pub(crate) async fn downgrade(&mut self) -> Result<(), Cause> {
        match self.0 {}
    }

    pub(crate) async fn try_upgrade(&mut self) -> Result<bool, Cause> {
        match self.0 {}
    }

    pub(crate) async fn fencing_token(&self) -> Result<u64, Cause> {
        match self.0 {}
    }

    pub(crate) async fn touch(&self) -> Result<(), Cause> {
        match self.0 {}
    }

    pub(crate) async fn release(self) -> Result<(), Cause> {
        match self.0 {}
    }
}
