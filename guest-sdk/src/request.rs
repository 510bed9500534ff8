//! Requests that do not block.

use crate::{
    Error,
    raw::{RawGuard, RawRequest},
    raw_permit::{RawPermit, RawPermitRequest},
};
use std::fmt;

/// A request for a lock, or for permits of a semaphore, that was started; `G` is its guard.
///
/// Dropping it withdraws the request. If the lock was granted meanwhile, it is
/// released.
///
/// If a request had to wait and is then not polled for 100 to 200 ms after its grant, the
/// next request gets the lock. The first keeps its place in the queue, and is served again
/// once it is polled.
#[must_use = "dropping the request withdraws it"]
pub struct Request<G>(Started<G>);

enum Started<G> {
    Lock(RawRequest, fn(RawGuard) -> G),
    Permits(RawPermitRequest, fn(RawPermit) -> G),
}

impl<G> Request<G> {
    pub(crate) fn new(request: RawRequest, guard: fn(RawGuard) -> G) -> Request<G> {
        Request(Started::Lock(request, guard))
    }

    pub(crate) fn of_permits(request: RawPermitRequest, permit: fn(RawPermit) -> G) -> Request<G> {
        Request(Started::Permits(request, permit))
    }

    /// `None` while the request waits. Then its outcome, once; each later call fails with
    /// [`Other`](crate::ErrorKind::Other).
    pub fn get(&mut self) -> Option<Result<G, Error>> {
        Some(match &mut self.0 {
            Started::Lock(request, guard) => request.get()?.map(*guard),
            Started::Permits(request, guard) => request.get()?.map(*guard),
        })
    }

    /// A pollable that is ready once [`get`](Self::get) has an answer. It may outlive
    /// the request.
    ///
    /// # Errors
    /// [`Quota`](crate::ErrorKind::Quota) if the host has no room for it.
    #[cfg(target_family = "wasm")]
    pub fn pollable(&self) -> Result<wasip2::io::poll::Pollable, Error> {
        match &self.0 {
            Started::Lock(request, _) => request.pollable(),
            Started::Permits(request, _) => request.pollable(),
        }
    }

    /// Waits for the outcome while other tasks go on.
    ///
    /// # Errors
    /// As the call that started the request.
    #[cfg(feature = "wstd")]
    pub async fn wait(self) -> Result<G, Error> {
        match self.0 {
            Started::Lock(mut request, guard) => request.wait().await.map(guard),
            Started::Permits(mut request, guard) => request.wait().await.map(guard),
        }
    }
}

impl<G> fmt::Debug for Request<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}
