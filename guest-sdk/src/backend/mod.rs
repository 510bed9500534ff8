//! What lends the locks: the host of a component or, on other targets, the engine in
//! this process. Each has the same types, which know nothing of the crate's own.

#[cfg(all(not(target_family = "wasm"), feature = "native"))]
mod native;
#[cfg(all(not(target_family = "wasm"), feature = "native"))]
pub(crate) use native::*;

#[cfg(all(not(target_family = "wasm"), not(feature = "native")))]
mod none;
#[cfg(all(not(target_family = "wasm"), not(feature = "native")))]
pub(crate) use none::*;

#[cfg(target_family = "wasm")]
mod wasm;
#[cfg(target_family = "wasm")]
pub(crate) use wasm::*;

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}
