//! `clasp:locks@0.3.0`, for components of WASI 0.3. **Experimental**, as WASI 0.3 is in wasmtime.
//!
//! A guest awaits a lock beside other work: while it waits, its other tasks go on, and so does
//! the host. A call that need not wait ends at once.
//!
//! The engine of wasmtime has to be configured with `wasm_component_model_async(true)`. One
//! linker can have the functions of this module and those of [`p2`](crate::p2) for asynchronous
//! hosts. Locks of both exclude each other, also within one store.
//!
//! ```no_run
//! # #![allow(dead_code)]
//! # use clasp_host::{LocksCtx, LocksCtxView, LocksView};
//! # use wasmtime::component::{Component, Linker, ResourceTable};
//! # use wasmtime::{Config, Engine, Result, Store};
//! # use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
//! # use wasmtime_wasi::p3::bindings::Command;
//! # struct State { table: ResourceTable, wasi: WasiCtx, locks: LocksCtx }
//! # impl WasiView for State {
//! #     fn ctx(&mut self) -> WasiCtxView<'_> {
//! #         WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
//! #     }
//! # }
//! # impl LocksView for State {
//! #     fn locks(&mut self) -> LocksCtxView<'_> {
//! #         LocksCtxView { ctx: &mut self.locks, table: &mut self.table }
//! #     }
//! # }
//! # async fn run(state: State) -> Result<Result<(), ()>> {
//! let mut config = Config::new();
//! config.wasm_component_model_async(true);
//! let engine = Engine::new(&config)?;
//! let mut linker = Linker::<State>::new(&engine);
//! wasmtime_wasi::p3::add_to_linker(&mut linker)?;
//! clasp_host::p3::add_to_linker(&mut linker)?;
//! // The standard library of Rust uses WASI 0.2.
//! wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
//!
//! let mut store = Store::new(&engine, state);
//! let component = Component::from_file(&engine, "guest.wasm")?;
//! let command = Command::instantiate_async(&mut store, &component, &linker).await?;
//! let ran = store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await);
//! let result = ran.await.and_then(|result| result);
//! // After a trap, or if the call was given up, the guest's requests and guards live on.
//! store.data().locks.close();
//! # result
//! # }
//! ```
//!
//! # Giving a call up
//!
//! Dropping the future of `run_concurrent` cancels nothing: the requests of the guest stay in
//! line, and a lock that is granted to one of them is held, or goes to the next request after 100
//! to 200 ms. Close the locks then, or drop the store.

pub mod bindings;
mod host;
pub(crate) mod resources;

pub use crate::error::CallError;
pub use crate::lockspaces::LockspaceResource;
pub use resources::{
    GuardResource, LockResource, PermitResource, RangeOwnerResource, SemaphoreResource,
};

use crate::{Locks, LocksView};
use wasmtime::component::Linker;

/// Adds the interfaces to a linker.
///
/// # Errors
/// If the linker has one of them already.
pub fn add_to_linker<T: LocksView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings::types::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::ranges::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::flock::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::semaphores::add_to_linker::<T, Locks>(linker, T::locks)?;
    bindings::preopens::add_to_linker::<T, Locks>(linker, T::locks)
}
