//! What takes the locks, as in `backend` of the crate.

#[cfg(all(not(target_family = "wasm"), feature = "native"))]
mod native;
#[cfg(all(not(target_family = "wasm"), feature = "native"))]
pub(super) use native::*;

#[cfg(all(not(target_family = "wasm"), not(feature = "native")))]
mod none;
#[cfg(all(not(target_family = "wasm"), not(feature = "native")))]
pub(super) use none::*;

#[cfg(target_family = "wasm")]
mod wasm;
#[cfg(target_family = "wasm")]
pub(super) use wasm::*;
