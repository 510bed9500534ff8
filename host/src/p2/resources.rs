//! What the guest's handles stand for.

use clasp_engine::{
    Acquire, AcquirePermit, Error, Guard, Lock, Loss, Permit, RangeOwner, Semaphore,
};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
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

/// The resource `semaphore`.
#[derive(Debug)]
pub struct SemaphoreResource(pub(super) Semaphore);

/// The resource `permit`.
#[derive(Debug)]
pub struct PermitResource(pub(super) Permit);

/// The resource `future-guard`.
#[derive(Debug)]
pub struct FutureGuardResource(pub(super) Shared<Acquire>);

/// The resource `future-permit`.
#[derive(Debug)]
pub struct FuturePermitResource(pub(super) Shared<AcquirePermit>);

/// A request that goes on while the guest does.
pub(super) trait Starts: Future<Output = Result<Self::Held, Error>> + Unpin {
    /// What it is granted.
    type Held: std::fmt::Debug + Send;

    /// Whether it is worth polling.
    fn is_ready(&self) -> bool;
}

impl Starts for Acquire {
    type Held = Guard;

    fn is_ready(&self) -> bool {
        Acquire::is_ready(self)
    }
}

impl Starts for AcquirePermit {
    type Held = Permit;

    fn is_ready(&self) -> bool {
        AcquirePermit::is_ready(self)
    }
}

/// A request of a resource, which dropping the resource withdraws. A pollable that outlives
/// the resource shares it.
#[derive(Debug)]
pub(super) struct Shared<F: Starts>(Arc<Mutex<Request<F>>>);

/// A request and, once it has ended, its outcome.
#[derive(Debug)]
enum Request<F: Starts> {
    Waiting(F),
    Ended(Result<F::Held, Error>),
    Taken,
}

impl<F: Starts> Request<F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Request::Waiting(acquire) = self {
            match Pin::new(acquire).poll(cx) {
                Poll::Ready(outcome) => *self = Request::Ended(outcome),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

fn lock<F: Starts>(request: &Mutex<Request<F>>) -> MutexGuard<'_, Request<F>> {
    request.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: Starts> Shared<F> {
    pub(super) fn new(acquire: F) -> Shared<F> {
        Shared(Arc::new(Mutex::new(Request::Waiting(acquire))))
    }

    /// A pollable that is ready when the request has ended, or its resource is gone.
    pub(super) fn ended(&self) -> Ended<F> {
        Ended(Arc::clone(&self.0))
    }

    /// The outcome, once; `None` while the request waits.
    pub(super) fn take(&self) -> Option<Result<Result<F::Held, Error>, ()>> {
        let mut request = lock(&self.0);
        // A poll would take the waker from a pollable that waits.
        if let Request::Waiting(acquire) = &*request
            && !acquire.is_ready()
        {
            return None;
        }
        let polled = request.poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() {
            return None;
        }
        match std::mem::replace(&mut *request, Request::Taken) {
            Request::Ended(outcome) => Some(Ok(outcome)),
            _ => Some(Err(())),
        }
    }
}

impl<F: Starts> Drop for Shared<F> {
    fn drop(&mut self) {
        // A pollable may live on, the request may not.
        let request = std::mem::replace(&mut *lock(&self.0), Request::Taken);
        drop(request);
    }
}

/// Ready when the request has ended or its resource is gone.
pub(super) struct Ended<F: Starts>(Arc<Mutex<Request<F>>>);

#[wasmtime_wasi_io::async_trait]
impl<F: Starts + Send + 'static> Pollable for Ended<F> {
    async fn ready(&mut self) {
        poll_fn(|cx| lock(&self.0).poll(cx)).await;
    }
}

/// Ready when what a guard or a permit stands for is not held any more.
pub(super) struct Lost(pub(super) Loss);

#[wasmtime_wasi_io::async_trait]
impl Pollable for Lost {
    async fn ready(&mut self) {
        (&mut self.0).await;
    }
}
