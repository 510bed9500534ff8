//! Runs many guests of WASI 0.3 at the same time, each in a store of its own, on one thread. All
//! add to one number under one lock. A guest that waits costs its store and a place in the
//! queue, and no thread.
//!
//! `cargo run --release -p clasp-example-crowd -- JOBS.wasm [GUESTS]`

use anyhow::{Context, Result, ensure};
use clasp_host::{LockManager, LocksCtx, LocksCtxView, LocksView, Lockspace};
use futures::future::try_join_all;
use std::{path::Path, time::Instant};
use tokio::runtime::Builder;
use wasmtime::{
    Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView, p3::bindings::Command};

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    locks: LocksCtx,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl LocksView for State {
    fn locks(&mut self) -> LocksCtxView<'_> {
        LocksCtxView {
            ctx: &mut self.locks,
            table: &mut self.table,
        }
    }
}

fn state(directory: &Path, number: usize) -> wasmtime::Result<State> {
    Ok(State {
        table: ResourceTable::new(),
        wasi: WasiCtx::builder()
            .inherit_stderr()
            // What the guest does with files is done at once, and no other guest is held up long.
            .allow_blocking_current_thread(true)
            .preopened_dir(directory, "data", FsPerms::ReadWrite)?
            .args(&["jobs", "visitors"])
            .build(),
        locks: LocksCtx::builder(LockManager::global())
            .label(format!("guest {number}"))
            .lockspace("data", Lockspace::open_ambient(directory)?)
            .build(),
    })
}

async fn visit(
    component: &Component,
    linker: &Linker<State>,
    directory: &Path,
    number: usize,
) -> wasmtime::Result<()> {
    let mut store = Store::new(linker.engine(), state(directory, number)?);
    let command = Command::instantiate_async(&mut store, component, linker).await?;
    let run = store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await);
    match run.await?? {
        Ok(()) => Ok(()),
        Err(()) => Err(wasmtime::format_err!("guest {number} has failed")),
    }
}

fn run(guest: &Path, guests: usize, directory: &Path) -> wasmtime::Result<()> {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config)?;
    let mut linker = Linker::new(&engine);
    // Rust's standard library uses WASI 0.2.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    clasp_host::p3::add_to_linker(&mut linker)?;
    let component = Component::from_file(&engine, guest)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let visits = (0..guests).map(|number| visit(&component, &linker, directory, number));
    runtime.block_on(try_join_all(visits))?;
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let guest = arguments
        .next()
        .context("usage: clasp-example-crowd JOBS.wasm [GUESTS]")?;
    let guests = match arguments.next() {
        Some(number) => number
            .to_string_lossy()
            .parse()
            .context("how many guests?")?,
        None => 1000,
    };
    let directory = tempfile::tempdir()?;
    let begin = Instant::now();
    run(guest.as_ref(), guests, directory.path())
        .map_err(|error| anyhow::Error::from_boxed(error.into_boxed_dyn_error()))?;
    let visitors = std::fs::read_to_string(directory.path().join("visitors"))?;
    ensure!(
        visitors.trim() == guests.to_string(),
        "{guests} guests have counted {}",
        visitors.trim()
    );
    println!("{guests} guests, all counted, in {:.1?}", begin.elapsed());
    Ok(())
}
