//! A wasmtime host plugin that implements the interface `clasp:locks`:
//! operating-system file locks for WebAssembly components.
//!
//! A guest opens locks by name in directories that you grant, within quotas
//! that you set. A lock that it holds excludes every program on the machine that
//! locks the same file with the same family of locks, all other guests, and its
//! own other handles. `wit/semantics.md` in the repository is the specification.
//!
//! # A complete embedding
//!
//! It runs `guest.wasm` with the directory `data`, which must exist. The guide for embedders in
//! the repository (`book/src/embedders.md`) has an asynchronous one.
//!
//! ```no_run
//! use clasp_host::{LockManager, LocksCtx, LocksCtxView, LocksView, Lockspace};
//! use wasmtime::{Engine, Result, Store, component::{Component, Linker, ResourceTable}};
//! use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
//! use wasmtime_wasi::p2::bindings::sync::Command;
//!
//! struct State {
//!     table: ResourceTable,
//!     wasi: WasiCtx,
//!     locks: LocksCtx,
//! }
//!
//! impl WasiView for State {
//!     fn ctx(&mut self) -> WasiCtxView<'_> {
//!         WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
//!     }
//! }
//!
//! impl LocksView for State {
//!     fn locks(&mut self) -> LocksCtxView<'_> {
//!         LocksCtxView { ctx: &mut self.locks, table: &mut self.table }
//!     }
//! }
//!
//! fn main() -> Result<()> {
//!     let engine = Engine::default();
//!     let mut linker = Linker::<State>::new(&engine);
//!     wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
//!     clasp_host::p2::add_to_linker_sync(&mut linker)?;
//!
//!     // The guest may use the files in ./data and lock any of them.
//!     let wasi = WasiCtx::builder()
//!         .inherit_stdio()
//!         .preopened_dir("./data", "data", FsPerms::ReadWrite)?
//!         .build();
//!     let locks = LocksCtx::builder(LockManager::global())
//!         .lockspace("data", Lockspace::open_ambient("./data")?)
//!         .build();
//!
//!     let mut store = Store::new(&engine, State { table: ResourceTable::new(), wasi, locks });
//!     let component = Component::from_file(&engine, "guest.wasm")?;
//!     let command = Command::instantiate(&mut store, &component, &linker)?;
//!     let result = command.wasi_cli_run().call_run(&mut store);
//!     // After a trap the guest's handles live on in the store; its locks
//!     // should not. Dropping the store ends them as well.
//!     store.data().locks.close();
//!     std::process::exit(if result? == Ok(()) { 0 } else { 1 })
//! }
//! ```
//!
//! # Blocking and asynchronous hosts
//!
//! With [`p2::add_to_linker_sync`] a guest that waits for a lock blocks the
//! thread it runs on, which waits in the kernel itself. With
//! [`p2::add_to_linker_async`] it suspends the guest's fiber; a helper thread
//! waits in the kernel. The futures are bound to no executor.
//!
//! One linker has the functions of one of the two; they cannot be mixed.
//!
//! For components of WASI 0.3, the feature `p3` adds [`p3::add_to_linker`](p3), whose functions
//! are asynchronous for the guest as well: while one of its tasks waits, the others go on. A
//! linker may have them beside those of [`p2::add_to_linker_async`].
//!
//! # Bindings of your own
//!
//! A world of yours that imports `clasp:locks` uses the bindings of this crate. Copy the
//! directory `wit/p2` of this crate into yours, with the packages in its `deps`:
//!
//! ```
//! wasmtime::component::bindgen!({
//!     inline: "
//!         package my:plugins;
//!         world plugin {
//!             import clasp:locks/types@0.2.0;
//!             import clasp:locks/preopens@0.2.0;
//!             export run: func();
//!         }
//!     ",
//!     path: "wit/p2",
//!     with: {
//!         "clasp:locks": clasp_host::p2::bindings::sync,
//!         "clasp:locks/preopens": clasp_host::p2::bindings::preopens,
//!     },
//!     require_store_data_send: true,
//! });
//! # fn main() {}
//! ```
//!
//! The functions that the world imports still come from [`p2::add_to_linker_sync`]. In an
//! asynchronous host, one line, `"clasp:locks": clasp_host::p2::bindings`, replaces the two of
//! `with`, and the functions come from [`p2::add_to_linker_async`].
//!
//! # What this crate does to your process
//!
//! - On Linux it handles one real-time signal, `SIGRTMIN + 7` unless
//!   [`set_wake_signal`] chooses another, and sends it to its own waiting threads.
//! - It keeps a directory of up to 256 empty files, `/dev/shm/clasp-UID` unless
//!   [`set_order_directory`] chooses another, where the order is
//!   [`Fair`](Order::Fair).
//! - It starts one thread for timeouts when the first timeout is set, and a helper thread
//!   for each contended lock file: in asynchronous hosts always, in blocking hosts for
//!   `start-acquire` and for FUSE and network file systems. There are up to
//!   [`Limits::waiter_threads`](field@Limits::waiter_threads) for each guest and
//!   [`Ceilings::waiter_threads`](field@Ceilings::waiter_threads) in all.
//! - It opens one descriptor for each open lock, and up to three more for each lock
//!   that is waited for; a wait for permits of a semaphore uses up to one more for each permit.
//! - On Windows it starts one thread for a completion port instead of helper threads.
//! - It does not write the contents of any file. It sets the modification time of a lock
//!   file when a guest touches it, and an extended attribute when a guest requests a
//!   token.
//!
//! # Versions
//!
//! | this crate | wasmtime | WASI |
//! |---|---|---|
//! | 0.2 | 48 | 0.2; 0.3.0, experimental |
//!
//! # Features
//!
//! - `p2` (default): `clasp:locks@0.2.0`, for components of WASI 0.2.
//! - `p3`: `clasp:locks@0.3.0`, for components of WASI 0.3. It is experimental, as WASI 0.3 is in
//!   wasmtime.
//! - `descriptors`: `clasp:descriptors@0.2.0`, by which a component locks files that it has open
//!   through `wasmtime-wasi`.
//!
//! This crate depends on the runtime of wasmtime only. Choose a compiler, or none, in
//! your own `Cargo.toml`.
//!
//! # What this crate does not do
//!
//! - It does not keep a guest from using a file without its lock, nor limit
//!   how long a lock is held: only [`LocksCtx::close`] or dropping the store
//!   takes a lock away.
//! - Looking up a name, `touch`, `last-touched` and `fencing-token` use the file system on
//!   the thread of the call, also in an asynchronous host. If the file system hangs,
//!   that thread hangs; other locks go on.
//! - Epochs and fuel do not interrupt a host call: bound the wait with
//!   [`Limits::longest_wait`](field@Limits::longest_wait).
//! - Opening and closing a file drops the traditional POSIX locks that the
//!   same process holds on it. So do not grant the lock files of something
//!   that uses such locks inside the host process, such as an SQLite database
//!   that the host itself has open.
#![doc(test(attr(deny(warnings))))]

mod ctx;
mod error;
mod lockspaces;
#[cfg(feature = "p2")]
pub mod p2;
#[cfg(feature = "p3")]
pub mod p3;
mod view;

pub use cap_std;
/// The engine, with all that a back end of your own needs: see its module `backend`.
pub use clasp_engine as engine;
/// Inspects and closes the locks of a guest from any thread, also while the guest waits;
/// made by [`LocksCtx::handle`]. It keeps nothing alive: once the context is gone, it does
/// nothing.
pub use clasp_engine::OwnerHandle as LocksHandle;
pub use clasp_engine::{
    Ceilings, Deadlock, Error, ErrorKind, Grant, Limits, LockManager, LockUse, Mode,
    backend::Space,
    file::{Family, FileSpace, Order, set_order_directory, set_wake_signal},
};
pub use ctx::{LocksCtx, LocksCtxBuilder, Lockspace};
pub use error::CallError;
pub use view::{Locks, LocksCtxView, LocksView};
