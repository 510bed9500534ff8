//! The lock engine of clasp: locks on files that exclude other processes,
//! other owners in this process, and two handles of one owner alike.
//!
//! ```
//! use clasp_engine::{Grant, Limits, LockManager, Mode, file::FileSpace};
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! let dir = cap_std::fs::Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
//! let grant = Grant::new(FileSpace::new(dir).into_space());
//!
//! let owner = LockManager::global().owner(Limits::default());
//! let lock = owner.open(&grant, "report.lock")?;
//! let guard = lock.acquire_blocking(Mode::Exclusive, None)?;
//! // ... no other process is here ...
//! guard.release()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A request passes policy ([`Grant`]), quota ([`Limits`]), the queue of this
//! host, and the back end, which takes the native lock. [`backend`] is the
//! contract of a back end, [`file`](mod@file) the one over directories.
//!
//! # What this crate does not do
//!
//! - It does not prevent programs from using a file without its lock.
//! - It does not promise an order to programs that do not use it, or to hosts
//!   of different users; see [`file::Order`].
//! - It does not survive `fork`: the child has the descriptors of its parent,
//!   and if the child releases a lock, the parent loses it. Start other
//!   programs as `std::process::Command` does.
//! - It does not limit how long a lock is held.
//! - It knows nothing of WebAssembly; `clasp-host` does.
#![doc(test(attr(deny(warnings))))]

mod api;
pub mod backend;
mod core;
mod diagnose;
mod driver;
mod error;
pub mod file;
mod mode;
mod name;
mod naming;
mod permits;
mod policy;
mod pool;
mod range;
mod sync;
#[cfg(feature = "conformance")]
pub mod testing;

pub use api::{
    Acquire, AcquirePermit, Guard, Lock, LockManager, LockUse, Loss, Owner, OwnerHandle, Permit,
    RangeOwner, Semaphore,
};
pub use diagnose::Deadlock;
pub use error::{Error, ErrorKind};
pub use mode::Mode;
pub use name::LockName;
pub use permits::Permits;
pub use policy::{Ceilings, Grant, Limits};
pub use range::ByteRange;

/// The example of the crate's page compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
