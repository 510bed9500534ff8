//! Permits of a semaphore by path, and requests for them.

use crate::{Error, backend, error::Cause};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct RawPermit {
    pub(crate) path: Arc<str>,
    pub(crate) permit: backend::Permit,
}

impl RawPermit {
    pub(crate) fn told<T>(&self, result: Result<T, Cause>) -> Result<T, Error> {
        result.map_err(|cause| Error::new(&self.path, cause))
    }

    pub(crate) fn release(self) -> Result<(), Error> {
        let RawPermit { path, permit } = self;
        permit.release().map_err(|cause| Error::new(&path, cause))
    }
}

/// A request that was started.
#[cfg(feature = "async")]
#[derive(Debug)]
pub(crate) struct RawPermitRequest {
    pub(crate) path: Arc<str>,
    pub(crate) request: backend::PermitRequest,
}

#[cfg(feature = "async")]
impl RawPermitRequest {
    fn told(&self, outcome: Result<backend::Permit, Cause>) -> Result<RawPermit, Error> {
        match outcome {
            Ok(permit) => Ok(RawPermit {
                path: Arc::clone(&self.path),
                permit,
            }),
            Err(cause) => Err(Error::new(&self.path, cause)),
        }
    }

    pub(crate) fn get(&mut self) -> Option<Result<RawPermit, Error>> {
        let outcome = self.request.get()?;
        Some(self.told(outcome))
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn pollable(&self) -> Result<wasip2::io::poll::Pollable, Error> {
        let pollable = self.request.pollable();
        pollable.map_err(|cause| Error::new(&self.path, cause))
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn wait(&mut self) -> Result<RawPermit, Error> {
        let outcome = self.request.wait().await;
        self.told(outcome)
    }
}
