//! The least that starts a component with wasmtime: what `clasp run` is compared with.

use std::path::Path;
use wasmtime::{
    Cache, CacheConfig, Config, Engine, Result, Store,
    component::{Component, Linker, ResourceTable, ResourceType, types::ComponentItem},
};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView, p2::bindings::sync::Command};

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// `clasp-bench-bare DIRECTORY COMPONENT [ARGUMENTS]`: the guest has the directory as `data`.
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, component, rest @ ..] = arguments.as_slice() else {
        return Err(wasmtime::Error::msg(
            "usage: DIRECTORY COMPONENT [ARGUMENTS]",
        ));
    };
    let mut config = Config::new();
    config.cache(Some(Cache::new(CacheConfig::new())?));
    let engine = Engine::new(&config)?;
    let component = Component::from_file(&engine, Path::new(component))?;
    let mut linker = Linker::<State>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    refuse_locks(&mut linker, &engine, &component)?;
    let mut wasi = WasiCtx::builder();
    wasi.inherit_stdio().arg("guest").args(rest);
    wasi.preopened_dir(directory, "data", FsPerms::ReadWrite)?;
    let state = State {
        table: ResourceTable::new(),
        wasi: wasi.build(),
    };
    let mut store = Store::new(&engine, state);
    let command = Command::instantiate(&mut store, &component, &linker)?;
    let ran = command.wasi_cli_run().call_run(&mut store)?;
    ran.map_err(|()| wasmtime::Error::msg("the guest failed"))
}

/// The guest imports locks, and does not use them when it is run here.
fn refuse_locks(linker: &mut Linker<State>, engine: &Engine, component: &Component) -> Result<()> {
    for (interface, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            continue;
        };
        if !interface.starts_with("clasp:locks/") {
            continue;
        }
        let mut linked = linker.instance(interface)?;
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::Resource(_) => {
                    linked.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?;
                }
                ComponentItem::ComponentFunc(_) => {
                    let refuse = || wasmtime::Error::msg("there are no locks here");
                    linked.func_new(name, move |_, _, _, _| Err(refuse()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
