//! The locks for asynchronous guests of WASI 0.3: while one task waits for a lock, the others of
//! the component go on. **Experimental**, as WASI 0.3 is.
//!
//! The types have the names and the methods of those at the root of the crate. A method that may
//! wait, for the lock or for the disk, is `async`. Dropping its future withdraws the request, so
//! that a wait can be raced against a timer or against other work:
//!
//! ```no_run
//! # async fn sleep(_: std::time::Duration) {}
//! use clasp_guest::aio::InterProcessLock;
//! use futures::future::{Either, select};
//! use std::{pin::pin, time::Duration};
//!
//! # async fn run() -> Result<(), clasp_guest::Error> {
//! let lock = InterProcessLock::new("data/report.lock").await?;
//! // `sleep` is that of your executor; in wasm, `wasip3::clocks::monotonic_clock::wait_for`.
//! let deadline = pin!(sleep(Duration::from_secs(10)));
//! match select(pin!(lock.acquire()), deadline).await {
//!     Either::Left((guard, _)) => {
//!         let _guard = guard?;
//!         // ... no other process is here ...
//!     }
//!     Either::Right(((), _)) => println!("not today"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! For a timeout alone, [`acquire_timeout`](InterProcessLock::acquire_timeout) is shorter. The
//! attributes such as [`interprocess_locked`](macro@crate::interprocess_locked) work on an
//! `async fn`.
//!
//! A request is never refused with [`Deadlock`](crate::ErrorKind::Deadlock): another task may
//! release what it waits for. A component that waits for itself therefore waits until the
//! timeout, if there is one.
//!
//! In wasm the component needs an executor of WASI 0.3, which `wit-bindgen` has, and a host with
//! `clasp:locks@0.3.0`, such as `clasp run`. On other targets, with the feature `native`, the
//! futures run on any executor.

mod backend;
mod guard;
mod process_lock;
mod process_rw_lock;
mod process_semaphore;
mod raw;

pub use process_lock::{InterProcessGuard, InterProcessLock};
pub use process_rw_lock::{
    InterProcessReadGuard, InterProcessReaderWriterLock, InterProcessWriteGuard,
};
pub use process_semaphore::{InterProcessPermit, InterProcessSemaphore};
