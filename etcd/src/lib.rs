//! Locks of [clasp](https://crates.io/crates/clasp-host) on etcd: hosts on several machines
//! exclude each other as processes on one machine do.
//!
//! A [`Cluster`] gives a [`Space`](clasp_engine::backend::Space) whose locks an engine
//! opens by name. Guests do not see the difference, except that a lock can be lost:
//!
//! ```no_run
//! use clasp_engine::{Ceilings, Grant, Limits, LockManager, Mode};
//! use clasp_etcd::{Cluster, Options};
//!
//! let address = "etcd://a.example:2379,b.example:2379,c.example:2379/locks";
//! let cluster = Cluster::connect(&address.parse()?, &Options::default())?;
//! let manager = LockManager::new(Ceilings::default());
//! let owner = manager.owner(Limits::default());
//! let lock = owner.open(&Grant::new(cluster.space()), "reports.lock")?;
//! let guard = lock.acquire_blocking(Mode::Exclusive, None)?;
//! let token = guard.token()?;
//! // Write with the token; the resource refuses a smaller one.
//! guard.release()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The recipe is in [`txn`], and in [`line`](mod@line) and [`permits`] for locks and
//! semaphores: what is sent, and when a request is granted. The rest carries it out.

mod clock;
mod cluster;
mod connection;
pub mod line;
mod lock;
mod look;
mod names;
mod operation;
mod options;
pub mod permits;
mod semaphore;
mod session;
mod shared;
mod space;
#[cfg(feature = "testing")]
pub mod testing;
pub mod txn;
mod url;
mod watch;

pub use cluster::Cluster;
pub use look::{LockUse, Request, look};
pub use options::Options;
pub use url::Address;
