//! What the guest's handles stand for.

use clasp_engine::{Acquire, Error, Guard, Lock, Loss, RangeOwner};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};
use wasmtime_wasi_io::poll::Pollable;

/// The resource `lock`.
#[derive(Debug)]
pub struct LockResource(pub(super) Lock);

/// The resource `guard`.
#[derive(Debug)]
pub struct GuardResource(pub(super) Guard);

/// The resource `range-owner`.
#[derive(Debug)]
pub struct RangeOwnerResource(pub(super) RangeOwner);

/// The resource `future-guard`.
#[derive(Debug)]
pub struct FutureGuardResource(pub(super) Arc<Mutex<Request>>);

/// A request and, once it has ended, its outcome. A pollable that outlives its
/// `future-guard` shares it.
#[derive(Debug)]
pub(super) enum Request {
    Waiting(Acquire),
    Ended(Result<Guard, Error>),
    Taken,
}

impl Request {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Request::Waiting(acquire) = self {
            match Pin::new(acquire).poll(cx) {
                Poll::Ready(outcome) => *self = Request::Ended(outcome),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

pub(super) fn lock(request: &Mutex<Request>) -> MutexGuard<'_, Request> {
    request.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for FutureGuardResource {
    fn drop(&mut self) {
        // A pollable may live on, the request may not.
        let request = std::mem::replace(&mut *lock(&self.0), Request::Taken);
        drop(request);
    }
}

/// Ready when the request has ended or its `future-guard` is gone.
pub(super) struct Ended(pub(super) Arc<Mutex<Request>>);

#[wasmtime_wasi_io::async_trait]
impl Pollable for Ended {
    async fn ready(&mut self) {
        poll_fn(|cx| lock(&self.0).poll(cx)).await;
    }
}

/// Ready when a guard's lock is not held any more.
pub(super) struct Lost(pub(super) Loss);

#[wasmtime_wasi_io::async_trait]
impl Pollable for Lost {
    async fn ready(&mut self) {
        (&mut self.0).await;
    }
}
