//! `clasp:locks@0.2.0`, for components of WASI 0.2.

pub mod bindings;
#[cfg(feature = "descriptors")]
pub mod descriptors;
mod host;
mod resources;

pub use crate::error::CallError;
pub use crate::lockspaces::LockspaceResource;
pub use resources::{
    FutureGuardResource, FuturePermitResource, GuardResource, LockResource, PermitResource,
    RangeOwnerResource, SemaphoreResource,
};

use crate::{Locks, LocksView};
use wasmtime::component::Linker;

/// Adds the interfaces to the linker of an asynchronous host: a guest that
/// waits for a lock is suspended.
///
/// A store that uses this linker is called by asynchronous functions only.
///
/// # Errors
/// If the linker has one of them already.
pub fn add_to_linker_async<T: LocksView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings::types::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::ranges::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::flock::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::semaphores::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::preopens::add_to_linker::<T, Locks>(linker, T::locks)
}

/// Adds the interfaces to the linker of a blocking host: a guest that waits
/// for a lock blocks the thread that it runs on.
///
/// # Errors
/// If the linker has one of them already.
pub fn add_to_linker_sync<T: LocksView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings::sync::types::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::sync::ranges::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::sync::flock::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::sync::semaphores::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::preopens::add_to_linker::<T, Locks>(linker, T::locks)
}
