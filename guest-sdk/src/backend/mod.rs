//! What takes the locks: the host of a component or, on targets other than wasm, the
//! engine in this process. Each module has the same types and functions; which module is
//! compiled depends on the target and on the feature `native`.

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
