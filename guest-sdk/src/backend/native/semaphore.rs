//! Semaphores of the engine, in this process.

use super::{PerThread, locate};
use crate::error::Cause;
use clasp_engine::{self as engine, Grant, Owner};
use std::{fmt, sync::Arc, time::Duration};

/// A count for the engine, which refuses it if it is too great.
pub(crate) fn amount(count: u32) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

pub(crate) struct Semaphore {
    grant: Grant,
    name: String,
    permits: u8,
    by_thread: PerThread<engine::Semaphore>,
}

impl Semaphore {
    pub(crate) fn open(path: &str, permits: u32) -> Result<Semaphore, Cause> {
        let (grant, name) = locate(path)?;
        let semaphore = Semaphore {
            grant,
            name,
            permits: amount(permits),
            by_thread: PerThread::default(),
        };
        semaphore.opened()?;
        Ok(semaphore)
    }

    /// The semaphore for this thread.
    fn opened(&self) -> Result<(Arc<engine::Semaphore>, Arc<Owner>), Cause> {
        let open = |owner: &Owner| owner.open_semaphore(&self.grant, &self.name, self.permits);
        self.by_thread.get(open)
    }

    pub(crate) fn try_acquire(&self, count: u32) -> Result<Option<Permit>, Cause> {
        let (semaphore, owner) = self.opened()?;
        match semaphore.try_acquire(amount(count)) {
            Ok(permit) => Ok(Some(Permit::new(permit, owner))),
            Err(error) if error.kind() == engine::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn acquire(&self, count: u32, timeout: Option<Duration>) -> Result<Permit, Cause> {
        let (semaphore, owner) = self.opened()?;
        let permit = semaphore.acquire_blocking(amount(count), timeout)?;
        Ok(Permit::new(permit, owner))
    }

    #[cfg(feature = "async")]
    pub(crate) fn start_acquire(
        &self,
        count: u32,
        timeout: Option<Duration>,
    ) -> Result<PermitRequest, Cause> {
        let (semaphore, owner) = self.opened()?;
        let acquire = semaphore.start_acquire(amount(count), timeout)?;
        Ok(PermitRequest {
            acquire,
            taken: false,
            owner,
        })
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("name", &self.name)
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Permit {
    permit: engine::Permit,
    /// It holds for as long as its owner lives.
    _owner: Arc<Owner>,
}

impl Permit {
    fn new(permit: engine::Permit, owner: Arc<Owner>) -> Permit {
        Permit {
            permit,
            _owner: owner,
        }
    }

    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.permit.numbers().iter().map(u32::from).collect()
    }

    pub(crate) fn check(&self) -> Result<(), Cause> {
        Ok(self.permit.check()?)
    }

    pub(crate) fn fencing_token(&self) -> Result<u64, Cause> {
        Ok(self.permit.token()?)
    }

    pub(crate) fn release(self) -> Result<(), Cause> {
        Ok(self.permit.release()?)
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn lost(&self) -> Result<(), Cause> {
        self.permit.loss().await;
        Ok(())
    }
}

/// A request that was started.
#[cfg(feature = "async")]
#[derive(Debug)]
pub(crate) struct PermitRequest {
    acquire: engine::AcquirePermit,
    /// Whether the outcome was given out, which happens once.
    taken: bool,
    owner: Arc<Owner>,
}

#[cfg(feature = "async")]
impl PermitRequest {
    pub(crate) fn get(&mut self) -> Option<Result<Permit, Cause>> {
        use std::{
            future::Future,
            pin::Pin,
            task::{Context, Poll, Waker},
        };

        if self.taken {
            return Some(Err(super::taken_before()));
        }
        if !self.acquire.is_ready() {
            return None;
        }
        match Pin::new(&mut self.acquire).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(self.ended(outcome)),
            Poll::Pending => None,
        }
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn wait(&mut self) -> Result<Permit, Cause> {
        if self.taken {
            return Err(super::taken_before());
        }
        let outcome = (&mut self.acquire).await;
        self.ended(outcome)
    }

    fn ended(&mut self, outcome: Result<engine::Permit, engine::Error>) -> Result<Permit, Cause> {
        self.taken = true;
        Ok(Permit::new(outcome?, Arc::clone(&self.owner)))
    }
}
