//! The operating system: one module with one interface for each kind.
//!
//! This is the only place with unsafe code.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
pub(crate) use unsupported::*;

use crate::Error;

/// Chooses the signal that ends kernel waits, instead of `SIGRTMIN + 7`.
///
/// A thread that waits in the kernel for a lock can be called back by a signal
/// only. The engine needs one real-time signal of the process for that, which
/// nobody else handles. Call this before the first wait; it counts for the
/// whole process. `None` does without: a wait that is given up then stays in
/// the kernel, on its thread, until the lock is free, and may keep readers out
/// until then.
///
/// # Errors
/// [`Unavailable`](crate::ErrorKind::Unavailable) if the signal is handled by
/// somebody else, or a choice was made before;
/// [`Unsupported`](crate::ErrorKind::Unsupported) where no signal is needed.
pub fn set_wake_signal(signal: Option<i32>) -> Result<(), Error> {
    choose_wake_signal(signal)
}
