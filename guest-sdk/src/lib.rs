//! Locks between processes for WebAssembly guests, in the spirit of Python's
//! [`fasteners`](https://pypi.org/project/fasteners/).
//!
//! WASI has no file locks. A host with the `clasp:locks` interface, such as
//! `clasp run` or a `wasmtime` embedding with `clasp-host`, gives guests access to the
//! file locks of the operating system.
//!
//! ```no_run
//! use clasp_guest::{InterProcessLock, interprocess_locked};
//! use std::{fs, io, time::Duration};
//!
//! fn main() -> io::Result<()> {
//!     let lock = InterProcessLock::new("data/counter.lock")?;
//!     let _guard = lock.acquire_timeout(Duration::from_secs(10))?;
//!     let count: u64 = fs::read_to_string("data/counter").map_or(0, |s| s.parse().unwrap_or(0));
//!     fs::write("data/counter", (count + 1).to_string())?;
//!     Ok(())
//! }
//!
//! #[interprocess_locked("data/report.lock", timeout = "10s")]
//! fn write_report(text: &str) -> io::Result<()> {
//!     fs::write("data/report", text)
//! }
//! ```
//!
//! Build it with `cargo build --target wasm32-wasip2` and run it with
//! `clasp run --dir ./data::data --locks ./data::data app.wasm`.
//!
//! # On the developer's machine
//!
//! On targets other than wasm, the same API takes locks of the operating system
//! directly, with the code that hosts use (`clasp-engine`). `cargo test` of a guest
//! crate therefore runs natively, and native programs can use this crate. The
//! differences:
//!
//! - No grants are needed. The locks are those of the family `posix`: `fcntl` locks of
//!   open file descriptions (on Windows, `LockFileEx`), in the order `fair` where the
//!   system has it.
//! - A wait blocks a thread, where it blocks a component as a whole. Acquiring a lock
//!   that the same thread already holds fails with [`Deadlock`](ErrorKind::Deadlock);
//!   another thread waits for it. A guard that is sent to another thread still counts as
//!   held by the thread that acquired it.
//! - If the last part of a path is a symbolic link, its target must be in the same
//!   directory or below it.
//!
//! This is the feature `native`, which is on by default. Without it, opening a lock
//! fails with [`Unsupported`](ErrorKind::Unsupported) on these targets.
//!
//! To run the tests of a guest crate in a sandbox, with locks that the host grants, let
//! cargo start them with `clasp run`:
//!
//! ```sh
//! export CARGO_TARGET_WASM32_WASIP2_RUNNER="clasp run --dir ./data::data --locks ./data::data"
//! cargo test --target wasm32-wasip2
//! ```
//!
//! # Asynchronous guests
//!
//! With the feature `async`, a request can be started without waiting for it:
//! `start_acquire`, `start_read` and `start_write` return a `Request`. Its `pollable` has
//! the type of the crate `wasip2`, for any executor. With the feature `wstd`, the locks
//! have `acquire_async`, `read_async` and `write_async` for the executor of the crate
//! `wstd`; natively they run on any executor. For a timeout, start a request with one and
//! call its `wait`.
//!
//! With the feature `p3`, the module `aio` has the same locks for components of WASI 0.3,
//! whose host functions are asynchronous themselves.
//!
//! # Versions
//!
//! For wasm this crate needs Rust 1.85, as wit-bindgen does. The feature `async` needs
//! 1.87 (`wasip2`), `wstd` needs 1.91 (the crate `wstd`), and `native` needs 1.95
//! (`clasp-engine`). The tests run with 1.95; for 1.85, clippy checks which items of
//! `std` are used.
//!
//! The target is `wasm32-wasip2`. A module for `wasm32-wasip1` works if it is made a
//! component with the adapter for WASI 0.1 (`wasm-tools component new --adapt`); as a
//! core module it cannot import `clasp:locks`.
//!
//! # Which lock a path names
//!
//! The one whose file `File::open` would open with the same path: relative to
//! the current directory, in the granted directory with the longest guest path
//! that matches. The host must have granted locks there; granting files is not
//! enough. `..` is refused.
//!
//! # Coming from `fasteners` 0.20
//!
//! | `fasteners` | here |
//! |---|---|
//! | `InterProcessLock(path)` | [`InterProcessLock::new`], which opens and reports errors at once; [`InterProcessLock::create_dirs`], which also creates missing directories |
//! | `InterProcessLock(..., sleep_func, logger)` | none: there is no polling, and the host logs |
//! | `.acquire()` → `True` | [`.acquire()`](InterProcessLock::acquire) → guard |
//! | `.acquire(blocking=False)` | [`.try_acquire()`](InterProcessLock::try_acquire) |
//! | `.acquire(timeout=t)` → `False` | [`.acquire_timeout(t)`](InterProcessLock::acquire_timeout) → error of the [kind](Error::kind) [`Timeout`](ErrorKind::Timeout) |
//! | `.acquire(delay, max_delay)` | none: a waiter is woken by the release |
//! | `.release()`, `with lock:` | dropping the guard, or its [`release`](InterProcessGuard::release) for errors; [`with`](InterProcessLock::with) for a closure |
//! | `.acquired` | having a guard |
//! | `.exists()` | `std::fs::exists(lock.path())`; opening has created it |
//! | `.path` | [`.path()`](InterProcessLock::path) |
//! | `.lockfile`, `.trylock()`, `.unlock()` | none: the file belongs to the host |
//! | `InterProcessReaderWriterLock(path)` | [`InterProcessReaderWriterLock::new`] |
//! | `.acquire_read_lock()`, `.read_lock()`, `.release_read_lock()` | [`.read()`](InterProcessReaderWriterLock::read), [`read_timeout`](InterProcessReaderWriterLock::read_timeout), [`try_read`](InterProcessReaderWriterLock::try_read) and the guard |
//! | `.acquire_write_lock()`, `.write_lock()`, `.release_write_lock()` | [`.write()`](InterProcessReaderWriterLock::write), [`write_timeout`](InterProcessReaderWriterLock::write_timeout), [`try_write`](InterProcessReaderWriterLock::try_write) and the guard |
//! | `@interprocess_locked(path)` | [`#[interprocess_locked(path)]`](macro@interprocess_locked) |
//! | `@interprocess_read_locked(path)` | [`#[interprocess_read_locked(path)]`](macro@interprocess_read_locked) |
//! | `@interprocess_write_locked(path)` | [`#[interprocess_write_locked(path)]`](macro@interprocess_write_locked) |
//! | `ReaderWriterLock()` | [`ReaderWriterLock::new`], between tasks: a component has one thread |
//! | `.read_lock()`, `.write_lock()`, `.acquire_read_lock()` and so on | [`.read().await`](ReaderWriterLock::read), [`.write().await`](ReaderWriterLock::write) and the guard |
//! | `.owner`, `.is_reader()`, `.is_writer()`, `.has_pending_writers` | none: tasks have no identity to ask for, and guards say who holds |
//! | reentrant `ReaderWriterLock` | none, for the same reason |
//! | `@read_locked`, `@write_locked` | [`#[read_locked]`](macro@read_locked), [`#[write_locked]`](macro@write_locked) |
//! | `@locked` | none: put a [`ReaderWriterLock`] or `async_lock::Mutex` into the type and lock it |
//! | `try_lock(lock)` | the `try_` methods, which return an `Option` |
//!
//! `fasteners` has no semaphore between processes; here it is [`InterProcessSemaphore`], with the
//! attribute [`#[interprocess_limited(path, permits = 4)]`](macro@interprocess_limited).
//!
//! What differs from `fasteners`, on purpose: two handles, threads or tasks of one
//! process exclude each other; acquiring a lock that is already held returns an error
//! instead of hanging; all paths to one file are one lock; waiters are woken, in the
//! order in which they came.
//!
//! # What this crate does not do
//!
//! - `acquire`, `read` and `write` block the whole component, its tasks included.
//! - There is no upgrade that waits: see [`InterProcessReadGuard::try_upgrade`].
#![doc(test(attr(deny(warnings))))]
#![doc(test(attr(allow(dead_code))))]

#[cfg(feature = "p3")]
pub mod aio;
mod backend;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
mod error;
mod guard;
mod locked_file;
#[cfg(any(target_family = "wasm", test))]
mod path;
mod periodic;
mod process_lock;
mod process_rw_lock;
mod process_semaphore;
mod raw;
mod raw_permit;
#[cfg(feature = "async")]
mod request;
mod task_rw_lock;

pub use clasp_guest_macros::{
    interprocess_limited, interprocess_locked, interprocess_read_locked, interprocess_write_locked,
    read_locked, write_locked,
};
pub use error::{Error, ErrorKind, NotConverted};
pub use locked_file::LockedFile;
pub use periodic::Periodic;
pub use process_lock::{InterProcessGuard, InterProcessLock};
pub use process_rw_lock::{
    InterProcessReadGuard, InterProcessReaderWriterLock, InterProcessWriteGuard,
};
pub use process_semaphore::{InterProcessPermit, InterProcessSemaphore};
#[cfg(feature = "async")]
pub use request::Request;
pub use task_rw_lock::{ReadGuard, ReaderWriterLock, WriteGuard};

/// The example of the crate's page compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
