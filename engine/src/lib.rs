//! The lock engine of clasp: locks on files that exclude other processes,
//! other owners in this process, and two handles of one owner alike.
//!
//! ```
//! use clasp_engine::{Grant, Limits, LockManager, Mode, file::FileSpace};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path();
//! let dir = cap_std::fs::Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
//! let grant = Grant::new(FileSpace::new(dir).into_space());
//!
//! let owner = LockManager::global().owner(Limits::default());
//! let lock = owner.open(&grant, "report.lock")?;
//! let guard = lock.acquire_blocking(Mode::Exclusive, None)?;
//! // ... nobody else is here ...
//! guard.release()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Requests pass four stages, in this order: policy ([`Grant`]), quota
//! ([`Limits`]), the queue of this host, and the back end, which takes the
//! operating system's own lock. See [`backend`] for the contract of a back
//! end, [`file`](mod@file) for the one over directories, [`memory`] for the reference.
//!
//! # What this crate does not do
//!
//! - It does not keep anyone from using a file without its lock.
//! - It does not promise an order to programs that do not use it, or to hosts
//!   of different users; see [`file::Order`].
//! - It does not survive `fork`: the child has the descriptors of its parent,
//!   and what it releases, it releases for both. Start other programs as
//!   `std::process::Command` does.
//! - It does not limit how long a lock is held.
//! - It knows nothing of WebAssembly; `clasp-host` does.
#![doc(test(attr(deny(warnings))))]

pub mod backend;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod deadlock;
mod entry;
mod error;
pub mod file;
mod limits;
mod lock;
mod manager;
pub mod memory;
mod mode;
mod name;
mod owner;
mod policy;
mod queue;
mod request;
mod sync;
mod threads;
mod timer;

pub use deadlock::Deadlock;
pub use error::{Error, ErrorKind};
pub use limits::{Ceilings, Limits};
pub use lock::{Acquire, Guard, Lock};
pub use manager::LockManager;
pub use mode::Mode;
pub use name::LockName;
pub use owner::Owner;
pub use policy::Grant;
