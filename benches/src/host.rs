//! Hosts of the benchmark's guest, as an embedder would write them.

use crate::{
    steps::Step,
    turns::{Turn, now},
    written_by_hand::{self, HasLock, View},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use clasp_host::{Grant, Limits, LockManager, LocksCtx, LocksCtxView, LocksView};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::RwLock;
use wasmtime::{
    Cache, CacheConfig, Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

mod blocking {
    wasmtime::component::bindgen!({ path: "wit", world: "contender", require_store_data_send: true });
}

mod suspending {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "contender",
        exports: { default: async },
        require_store_data_send: true,
    });
}

mod tasks {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "tasks",
        exports: { default: async | store },
        require_store_data_send: true,
    });
}

/// wasmtime's error as one of this program.
fn boxed(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into_boxed_dyn_error())
}

/// How wasmtime is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Configuration {
    /// As it comes.
    Default,
    /// Without support for concurrency in components.
    NoConcurrency,
    /// For thousands of guests: small stacks and address spaces.
    Many,
}

/// A guest that is compiled, and what it is linked with.
pub(crate) struct Host {
    engine: Engine,
    component: Component,
    linker: Linker<State>,
    functions: Functions,
    /// Of all guests whose host functions are written by hand.
    by_hand: Arc<RwLock<()>>,
}

pub(crate) struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    locks: LocksCtx,
    by_hand: Arc<RwLock<()>>,
    /// When all requests of `crowd` waited.
    crowded: Option<Crowded>,
}

/// What a process needs while requests wait in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowded {
    pub(crate) bytes: u64,
    pub(crate) threads: usize,
}

impl Crowded {
    pub(crate) fn now() -> Result<Crowded> {
        let pages = std::fs::read_to_string("/proc/self/statm")?;
        let resident = pages.split(' ').nth(1).unwrap_or_default();
        Ok(Crowded {
            bytes: resident.parse::<u64>()? * rustix::param::page_size() as u64,
            threads: std::fs::read_dir("/proc/self/task")?.count(),
        })
    }
}

impl HasLock for State {
    fn lock(&mut self) -> View<'_> {
        View {
            lock: &self.by_hand,
            table: &mut self.table,
        }
    }
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

/// A guest, where `cargo xtask guests` leaves it.
fn guest(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let guest = Path::new("guests/wasm32-wasip2/release").join(name);
    program
        .ancestors()
        .map(|directory| directory.join(&guest))
        .find(|path| path.is_file())
        .ok_or_else(|| anyhow!("{name} is not built: run `cargo xtask bench`"))
}

/// Which host functions a guest is linked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Functions {
    Blocking,
    Suspending,
    /// Those of WASI 0.3.
    Concurrent,
    /// One lock of tokio's for all guests of the host.
    ByHand,
}

impl Host {
    pub(crate) fn new(functions: Functions, configuration: Configuration) -> Result<Host> {
        let guest = guest(match functions {
            Functions::Concurrent => "tasks_contender.wasm",
            _ => "contender.wasm",
        })?;
        let mut config = Config::new();
        if functions == Functions::Concurrent {
            config.wasm_component_model_async(true);
        }
        match configuration {
            Configuration::Default => {}
            Configuration::NoConcurrency => {
                config.concurrency_support(false);
            }
            Configuration::Many => {
                config
                    .memory_reservation(0)
                    .memory_guard_size(0)
                    .memory_reservation_for_growth(0)
                    .async_stack_size(128 << 10)
                    .max_wasm_stack(64 << 10);
            }
        }
        let mut cache = CacheConfig::new();
        cache.with_directory(guest.with_file_name("cache"));
        config.cache(Some(Cache::new(cache).map_err(boxed)?));
        let engine = Engine::new(&config).map_err(boxed)?;
        let component = Component::from_file(&engine, &guest).map_err(boxed)?;
        let mut linker = Linker::<State>::new(&engine);
        let link = |linker: &mut Linker<State>| -> wasmtime::Result<()> {
            match functions {
                Functions::Blocking => {
                    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
                    clasp_host::p2::add_to_linker_sync(linker)?;
                }
                Functions::Suspending => {
                    wasmtime_wasi::p2::add_to_linker_async(linker)?;
                    clasp_host::p2::add_to_linker_async(linker)?;
                }
                Functions::Concurrent => {
                    wasmtime_wasi::p2::add_to_linker_async(linker)?;
                    clasp_host::p3::add_to_linker(linker)?;
                    linker.root().func_wrap(
                        "all-wait",
                        |mut store: wasmtime::StoreContextMut<'_, State>, (): ()| {
                            store.data_mut().crowded = Crowded::now().ok();
                            Ok(())
                        },
                    )?;
                    linker.root().func_wrap(
                        "waiting",
                        |store: wasmtime::StoreContextMut<'_, State>, (): ()| {
                            let seen = store.data().locks.handle().snapshot();
                            Ok((seen.iter().filter(|lock| !lock.held).count() as u32,))
                        },
                    )?;
                }
                Functions::ByHand => {
                    wasmtime_wasi::p2::add_to_linker_async(linker)?;
                    written_by_hand::add_to_linker(linker)?;
                }
            }
            linker
                .root()
                .func_wrap("now", |_: wasmtime::StoreContextMut<'_, State>, (): ()| {
                    Ok((now(),))
                })
        };
        link(&mut linker).map_err(boxed)?;
        Ok(Host {
            engine,
            component,
            linker,
            functions,
            by_hand: Arc::default(),
        })
    }

    fn store(&self, manager: &LockManager, grant: Grant) -> Store<State> {
        let mut limits = Limits::default();
        limits.waiter_threads = 1024;
        limits.waiting_requests = 100_000;
        limits.held_locks = 100_000;
        let state = State {
            table: ResourceTable::new(),
            wasi: WasiCtx::builder().build(),
            locks: LocksCtx::builder(manager)
                .limits(limits)
                .grant("data", grant)
                .build(),
            by_hand: Arc::clone(&self.by_hand),
            crowded: None,
        };
        Store::new(&self.engine, state)
    }

    /// A guest that may lock below `data`.
    pub(crate) async fn guest(&self, manager: &LockManager, grant: Grant) -> Result<Guest> {
        let mut store = self.store(manager, grant);
        let (component, linker) = (&self.component, &self.linker);
        Ok(match self.functions {
            Functions::Blocking => {
                let guest = blocking::Contender::instantiate(&mut store, component, linker);
                Guest::Blocking(store, guest.map_err(boxed)?)
            }
            Functions::Suspending | Functions::ByHand => {
                let guest =
                    suspending::Contender::instantiate_async(&mut store, component, linker).await;
                Guest::Suspending(store, guest.map_err(boxed)?)
            }
            Functions::Concurrent => {
                let guest = tasks::Tasks::instantiate_async(&mut store, component, linker).await;
                Guest::Concurrent(store, guest.map_err(boxed)?)
            }
        })
    }
}

/// One guest in its store.
pub(crate) enum Guest {
    Blocking(Store<State>, blocking::Contender),
    Suspending(Store<State>, suspending::Contender),
    Concurrent(Store<State>, tasks::Tasks),
}

fn path(name: &str) -> String {
    format!("data/{name}")
}

/// A call of a guest of WASI 0.3.
macro_rules! concurrently {
    ($store:expr, $guest:expr, $call:ident($($argument:expr),*)) => {
        $store
            .run_concurrent(async |store| $guest.$call(store, $($argument.to_owned()),*).await)
            .await
            .map_err(boxed)?
            .map_err(boxed)?
    };
}

macro_rules! call {
    ($guest:expr, $call:ident($($argument:expr),*)) => {
        call!($guest, $call($($argument),*), |value| value)
    };
    // The worlds have types of their own for the same thing, so the conversion
    // is compiled for each.
    ($guest:expr, $call:ident($($argument:expr),*), $convert:expr) => {
        match $guest {
            Guest::Blocking(store, guest) => {
                guest.$call(store, $($argument),*).map_err(boxed)?.map($convert)
            }
            Guest::Suspending(store, guest) => {
                guest.$call(store, $($argument),*).await.map_err(boxed)?.map($convert)
            }
            Guest::Concurrent(store, guest) => {
                concurrently!(store, guest, $call($($argument),*)).map($convert)
            }
        }
        .map_err(|error| anyhow!(error))
    };
}

impl Guest {
    pub(crate) async fn pairs(
        &mut self,
        name: &str,
        exclusive: bool,
        step: Step,
        count: u32,
    ) -> Result<u64> {
        macro_rules! step {
            ($bindings:ident) => {
                match step {
                    Step::Nothing => $bindings::Step::Nothing,
                    Step::Downgrade => $bindings::Step::Downgrade,
                    Step::FailedUpgrade => $bindings::Step::FailedUpgrade,
                    Step::Token => $bindings::Step::Token,
                }
            };
        }
        let name = path(name);
        match self {
            Guest::Blocking(store, guest) => {
                guest.call_pairs(store, &name, exclusive, step!(blocking), count)
            }
            Guest::Suspending(store, guest) => {
                let step = step!(suspending);
                guest.call_pairs(store, &name, exclusive, step, count).await
            }
            Guest::Concurrent(store, guest) => {
                ensure!(step == Step::Nothing, "this way has no steps");
                Ok(concurrently!(
                    store,
                    guest,
                    call_pairs(name, exclusive, count)
                ))
            }
        }
        .map_err(boxed)?
        .map_err(|error| anyhow!(error))
    }

    /// How long it takes so many tasks of the guest to have a lock in turn, and what the process
    /// needed while all waited.
    pub(crate) async fn crowd(&mut self, name: &str, count: u32) -> Result<(u64, Crowded)> {
        let Guest::Concurrent(store, guest) = self else {
            bail!("only a guest of WASI 0.3 has tasks");
        };
        let taken = concurrently!(store, guest, call_crowd(path(name), count));
        let taken = taken.map_err(|error| anyhow!(error))?;
        let crowded = store.data().crowded.context("they did not wait")?;
        Ok((taken, crowded))
    }

    /// How long requests were there after they were cancelled, in nanoseconds.
    pub(crate) async fn cancel(&mut self, name: &str, count: u32) -> Result<Vec<u64>> {
        let Guest::Concurrent(store, guest) = self else {
            bail!("only a guest of WASI 0.3 cancels");
        };
        concurrently!(store, guest, call_cancel(path(name), count)).map_err(|error| anyhow!(error))
    }

    pub(crate) async fn count(&mut self, name: &str, exclusive: bool, until: u64) -> Result<u64> {
        call!(self, call_count(&path(name), exclusive, until))
    }

    pub(crate) async fn compete(
        &mut self,
        name: &str,
        exclusive: bool,
        (hold, pause): (u64, u64),
        until: u64,
    ) -> Result<Vec<Turn>> {
        let name = path(name);
        call!(
            self,
            call_compete(&name, exclusive, hold, pause, until),
            |turns| {
                turns
                    .iter()
                    .map(|turn| Turn {
                        asked: turn.asked,
                        got: turn.got,
                        left: turn.left,
                    })
                    .collect()
            }
        )
    }
}
