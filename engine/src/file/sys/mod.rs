//! The operating system: one module with one interface for each kind.
//!
//! This is the only place with unsafe code.
#![allow(unsafe_code)]

#[cfg(all(target_os = "linux", not(clasp_unsupported)))]
mod linux;
#[cfg(all(target_os = "linux", not(clasp_unsupported)))]
pub(crate) use linux::*;

#[cfg(all(target_os = "macos", not(clasp_unsupported)))]
mod macos;
#[cfg(all(target_os = "macos", not(clasp_unsupported)))]
pub(crate) use macos::*;

#[cfg(all(any(target_os = "linux", target_os = "macos"), not(clasp_unsupported)))]
mod token;
#[cfg(all(any(target_os = "linux", target_os = "macos"), not(clasp_unsupported)))]
mod unix;

#[cfg(all(windows, not(clasp_unsupported)))]
mod windows;
#[cfg(all(windows, not(clasp_unsupported)))]
pub(crate) use windows::*;

// `--cfg clasp_unsupported` makes any system one of these, for the tests.
#[cfg(any(
    clasp_unsupported,
    not(any(target_os = "linux", target_os = "macos", windows))
))]
mod unsupported;
#[cfg(any(
    clasp_unsupported,
    not(any(target_os = "linux", target_os = "macos", windows))
))]
pub(crate) use unsupported::*;

#[cfg(not(all(target_os = "linux", not(clasp_unsupported))))]
mod no_order;
#[cfg(any(clasp_unsupported, not(any(target_os = "linux", target_os = "macos"))))]
mod no_ranges;
#[cfg(not(all(target_os = "linux", not(clasp_unsupported))))]
mod no_signal;

use crate::Error;
use std::path::Path;

/// What tells a file from others: its device and its inode.
pub(crate) type Numbers = (u64, u128);

/// Chooses the signal that ends kernel waits, instead of `SIGRTMIN + 7`.
///
/// A thread that waits in the kernel for a lock can be called back by a signal
/// only. The engine needs one real-time signal of the process for that, which no
/// other code handles. Call this before the first lock is opened: opening one
/// with the order `fair` chooses the default, and so does the first wait. The
/// choice counts for the whole process. `None` does without: a wait that is given
/// up then stays in the kernel, on its thread, until the lock is free, and may
/// keep readers out until then; hosts have no order, and nothing can wait for ranges of
/// bytes.
///
/// # Errors
/// [`Unavailable`](crate::ErrorKind::Unavailable) if other code handles the
/// signal, or a choice was made before;
/// [`Unsupported`](crate::ErrorKind::Unsupported) where no signal is needed.
pub fn set_wake_signal(signal: Option<i32>) -> Result<(), Error> {
    choose_wake_signal(signal)
}

/// Chooses the directory in which the hosts that are to have an order among each
/// other keep it, instead of one that is the user's own: `/dev/shm/clasp-UID`
/// or, where there is no `/dev/shm`, `/tmp/clasp-UID`.
///
/// Hosts have an order if they use the same directory. One that several users, or
/// several containers, can write to gives them one; a process that can open its
/// files can keep others from their turn, though not from the locks. Up to 256
/// empty files are created in it, which those may read and write who may do so
/// with the directory. A directory that is removed is opened again by its path when a
/// host looks for it next. Call this before the first lock is opened; it counts
/// for the whole process.
///
/// # Errors
/// If it is no directory that can be opened;
/// [`Unsupported`](crate::ErrorKind::Unsupported) if it is not on a local file
/// system, such as tmpfs;
/// [`Unavailable`](crate::ErrorKind::Unavailable) if a choice was made before;
/// [`Unsupported`](crate::ErrorKind::Unsupported) where there is no such order.
pub fn set_order_directory(path: impl AsRef<Path>) -> Result<(), Error> {
    choose_order_directory(path.as_ref())
}
