//! How a host function fails.

use clasp_engine::{Error, ErrorKind};
use wasmtime::component::ResourceTableError;

/// Why a host function failed: with an error for the guest, or with a trap.
#[derive(Debug)]
pub enum CallError {
    /// The guest receives the kind of the error. The details stay in the host,
    /// because they may contain what a guest must not learn.
    Answer(Error),
    /// The guest has used a handle that the canonical ABI would not have let it use.
    Trap(wasmtime::Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> CallError {
        CallError::Answer(error)
    }
}

impl From<ResourceTableError> for CallError {
    /// A full table is a quota like any other.
    fn from(error: ResourceTableError) -> CallError {
        match error {
            ResourceTableError::Full => {
                CallError::Answer(Error::new(ErrorKind::Quota, error.to_string()))
            }
            error => CallError::Trap(error.into()),
        }
    }
}
