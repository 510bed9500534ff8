//! Loads one plugin three times, each in a store and a thread of its own. The
//! plugins share a directory, and a lock in it keeps their journal whole.
//!
//! `cargo run -p clasp-example-plugins -- PLUGIN.wasm`

use anyhow::{Context, Result, ensure};
use clasp_host::{Limits, LockManager, LocksCtx, LocksCtxView, LocksView, Lockspace};
use std::{path::Path, thread, time::Duration};
use wasmtime::{
    Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

mod bindings {
    #![allow(missing_docs, unreachable_pub, reason = "generated code")]
    wasmtime::component::bindgen!({
        path: "wit",
        world: "plugin",
        require_store_data_send: true,
    });
}

use bindings::Plugin;

const EVENTS: u32 = 100;

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

/// What a plugin gets: one directory, for files and for locks, and a bound on how
/// long it may wait.
fn state(shared: &Path) -> wasmtime::Result<State> {
    let limits = Limits::default().longest_wait(Duration::from_secs(30));
    Ok(State {
        table: ResourceTable::new(),
        wasi: WasiCtx::builder()
            .inherit_stderr()
            .preopened_dir(shared, "shared", FsPerms::ReadWrite)?
            .build(),
        locks: LocksCtx::builder(LockManager::global())
            .limits(limits)
            .lockspace("shared", Lockspace::open_ambient(shared)?)
            .build(),
    })
}

fn serve(
    engine: &Engine,
    component: &Component,
    shared: &Path,
    name: &str,
) -> wasmtime::Result<()> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    clasp_host::p2::add_to_linker_sync(&mut linker)?;
    let mut store = Store::new(engine, state(shared)?);
    let plugin = Plugin::instantiate(&mut store, component, &linker)?;
    for event in 1..=EVENTS {
        let handled = plugin.call_handle(&mut store, name, &format!("event {event}"));
        // A plugin that trapped has let go of nothing, and this host lives on.
        if handled.is_err() {
            store.data().locks.close();
        }
        handled?.map_err(|error| wasmtime::format_err!("{name}: {error}"))?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .context("usage: clasp-example-plugins PLUGIN.wasm")?;
    let engine = Engine::default();
    let boxed = |error: wasmtime::Error| anyhow::Error::from_boxed(error.into_boxed_dyn_error());
    let component = Component::from_file(&engine, &path).map_err(boxed)?;
    let shared = tempfile::tempdir()?;

    let names = ["mail", "search", "backup"];
    thread::scope(|scope| {
        let plugins = names.map(|name| {
            let (engine, component, shared) = (&engine, &component, shared.path());
            scope.spawn(move || serve(engine, component, shared, name))
        });
        plugins
            .into_iter()
            .try_for_each(|plugin| plugin.join().expect("no panic").map_err(boxed))
    })?;

    let journal = std::fs::read_to_string(shared.path().join("journal"))?;
    let entries = journal.lines().count() - 1;
    let expected = EVENTS as usize * names.len();
    ensure!(entries == expected, "{entries} entries of {expected}");
    println!("{entries} entries, none lost");
    Ok(())
}
