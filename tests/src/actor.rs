//! Guests in hosts of this process.

use crate::built::target;
use clasp_host::{LockManager, LocksCtx, LocksCtxBuilder, LocksCtxView, LocksHandle, LocksView};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    pin::pin,
    sync::{LazyLock, Mutex},
    task::{Context, Waker},
};
use tokio::runtime::Runtime;
use wasmtime::{
    Cache, CacheConfig, Config, Engine, Store,
    component::{Accessor, Component, Linker, ResourceTable},
};
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    p2::{bindings::sync::Command, pipe::MemoryOutputPipe},
};

mod blocking {
    wasmtime::component::bindgen!({ path: "wit", world: "actor", require_store_data_send: true });
}

mod suspending {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "actor",
        exports: { default: async },
        require_store_data_send: true,
    });
}

mod concurrent {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "concurrent",
        exports: { default: async | store },
        require_store_data_send: true,
    });
}

/// The path of a guest program.
///
/// # Panics
/// If it is not built.
pub fn guest(name: &str) -> PathBuf {
    let path = where_guest_is(name);
    assert!(
        path.is_file(),
        "{name}.wasm is not built: run `cargo xtask guests`"
    );
    path
}

/// Where a guest is if it is built.
pub(crate) fn where_guest_is(name: &str) -> PathBuf {
    let guests = target().join("guests/wasm32-wasip2/release");
    guests.join(format!("{name}.wasm"))
}

/// Each test is a process of its own: what is compiled is kept for all.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut cache = CacheConfig::new();
    cache.with_directory(target().join("wasmtime-cache"));
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    config.cache(Some(
        Cache::new(cache).expect("a cache in the target directory"),
    ));
    Engine::new(&config).expect("an engine")
});

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

fn component(name: &str) -> Component {
    static COMPILED: Mutex<Option<HashMap<String, Component>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().expect("no panic while compiling");
    compiled
        .get_or_insert_default()
        .entry(name.into())
        .or_insert_with(|| Component::from_file(&ENGINE, guest(name)).expect("a component"))
        .clone()
}

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

/// Which kind of host a guest runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// `add_to_linker_sync`.
    Sync,
    /// `add_to_linker_async`.
    Async,
    /// `p3::add_to_linker`, for a guest of WASI 0.3.
    Concurrent,
}

/// How a guest is set up.
pub struct Setup {
    wasi: WasiCtxBuilder,
    locks: LocksCtxBuilder,
}

impl Setup {
    /// A guest with nothing, in a host.
    pub fn new(manager: &LockManager) -> Setup {
        let mut wasi = WasiCtx::builder();
        wasi.inherit_stderr().allow_blocking_current_thread(true);
        Setup {
            wasi,
            locks: LocksCtx::builder(manager),
        }
    }

    /// Grants a directory as `data`, for files and for locks.
    pub fn data(directory: &Path, manager: &LockManager) -> Setup {
        Setup::new(manager).files(directory, "data").locks(|locks| {
            let space = clasp_host::Lockspace::open_ambient(directory).expect("a directory");
            locks.lockspace("data", space);
        })
    }

    /// Grants a directory for files.
    pub fn files(mut self, directory: &Path, name: &str) -> Setup {
        self.wasi
            .preopened_dir(directory, name, FsPerms::ReadWrite)
            .expect("a directory");
        self
    }

    /// Configures the locks.
    pub fn locks(mut self, configure: impl FnOnce(&mut LocksCtxBuilder)) -> Setup {
        configure(&mut self.locks);
        self
    }

    fn store(mut self, configure: impl FnOnce(&mut WasiCtxBuilder)) -> Store<State> {
        configure(&mut self.wasi);
        let state = State {
            table: ResourceTable::new(),
            wasi: self.wasi.build(),
            locks: self.locks.build(),
        };
        Store::new(&ENGINE, state)
    }

    /// Starts the guest that does as it is told.
    pub fn actor(self, host: Host) -> Actor {
        let store = self.store(|_| {});
        Actor(match host {
            Host::Sync => Kind::blocking(store, &component("actor")),
            Host::Async => Kind::suspending(store, &component("actor")),
            Host::Concurrent => Kind::concurrent(store, &component("concurrent")),
        })
    }
}

/// Runs a guest program with `main`; answers what it printed.
///
/// # Errors
/// If it trapped or answered with an error.
pub fn run_command(setup: Setup, name: &str, arguments: &[&str]) -> wasmtime::Result<String> {
    let output = MemoryOutputPipe::new(1 << 20);
    let mut store = setup.store(|wasi| {
        wasi.stdout(output.clone()).arg(name).args(arguments);
    });
    let mut linker = Linker::new(&ENGINE);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    clasp_host::p2::add_to_linker_sync(&mut linker)?;
    let command = Command::instantiate(&mut store, &component(name), &linker)?;
    let result = command.wasi_cli_run().call_run(&mut store)?;
    drop(store);
    let printed = String::from_utf8_lossy(&output.contents()).into_owned();
    match result {
        Ok(()) => Ok(printed),
        Err(()) => Err(wasmtime::format_err!("{name} failed")),
    }
}

enum Kind {
    Sync(Store<State>, blocking::Actor),
    Async(Store<State>, suspending::Actor),
    Concurrent(Store<State>, concurrent::Concurrent),
}

/// What a host that does not block gives to guests of both versions.
fn add_to_linker(linker: &mut Linker<State>) {
    wasmtime_wasi::p2::add_to_linker_async(linker).expect("WASI 0.2");
    clasp_host::p2::add_to_linker_async(linker).expect("locks for WASI 0.2");
    clasp_host::p3::add_to_linker(linker).expect("locks for WASI 0.3");
}

impl Kind {
    fn blocking(mut store: Store<State>, component: &Component) -> Kind {
        let mut linker = Linker::new(&ENGINE);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("WASI");
        clasp_host::p2::add_to_linker_sync(&mut linker).expect("locks");
        let actor = blocking::Actor::instantiate(&mut store, component, &linker);
        Kind::Sync(store, actor.expect("an instance"))
    }

    fn suspending(mut store: Store<State>, component: &Component) -> Kind {
        let mut linker = Linker::new(&ENGINE);
        add_to_linker(&mut linker);
        let actor = RUNTIME.block_on(suspending::Actor::instantiate_async(
            &mut store, component, &linker,
        ));
        Kind::Async(store, actor.expect("an instance"))
    }

    fn concurrent(mut store: Store<State>, component: &Component) -> Kind {
        let mut linker = Linker::new(&ENGINE);
        add_to_linker(&mut linker);
        let actor = RUNTIME.block_on(concurrent::Concurrent::instantiate_async(
            &mut store, component, &linker,
        ));
        Kind::Concurrent(store, actor.expect("an instance"))
    }
}

/// A guest that does as it is told; its calls are those of `wit/actor.wit`.
pub struct Actor(Kind);

/// A call of a guest of WASI 0.2.
macro_rules! call {
    ($kind:expr, $call:ident, $($argument:ident),*) => {
        match $kind {
            Kind::Sync(store, actor) => actor.clasp_tests_commands().$call(store, $($argument),*),
            Kind::Async(store, actor) => {
                RUNTIME.block_on(actor.clasp_tests_commands().$call(store, $($argument),*))
            }
            Kind::Concurrent(..) => panic!("only guests of WASI 0.2 do this"),
        }
    };
}

macro_rules! calls {
    ($($name:ident / $call:ident ($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        impl Actor {
            $(
                /// See `wit/actor.wit`.
                ///
                /// # Panics
                /// If the guest traps.
                pub fn $name(&mut self, $($argument: $kind),*) -> $result {
                    self.$call($($argument),*).expect("no trap")
                }

                #[allow(clippy::type_complexity, reason = "the shape is that of the interface")]
                fn $call(&mut self, $($argument: $kind),*) -> wasmtime::Result<$result> {
                    if let Kind::Concurrent(store, actor) = &mut self.0 {
                        $(let $argument = $argument.to_owned();)*
                        let call = store.run_concurrent(async |accessor| {
                            let commands = actor.clasp_tests_concurrent_commands();
                            commands.$call(accessor, $($argument),*).await
                        });
                        return RUNTIME.block_on(call)?;
                    }
                    call!(&mut self.0, $call, $($argument),*)
                }
            )*
        }
    };
}

calls! {
    open / call_open(path: &str) -> Result<u32, String>;
    open_raw / call_open_raw(space: u32, name: &str) -> Result<u32, String>;
    close / call_close(lock: u32) -> ();
    acquire / call_acquire(lock: u32, exclusive: bool, timeout_ms: Option<u32>) -> Result<u32, String>;
    try_acquire / call_try_acquire(lock: u32, exclusive: bool) -> Result<u32, String>;
    release / call_release(guard: u32) -> Result<(), String>;
    drop_guard / call_drop_guard(guard: u32) -> ();
    check / call_check(guard: u32) -> Result<(), String>;
    is_exclusive / call_is_exclusive(guard: u32) -> bool;
    downgrade / call_downgrade(guard: u32) -> Result<(), String>;
    try_upgrade / call_try_upgrade(guard: u32) -> Result<bool, String>;
    fencing_token / call_fencing_token(guard: u32) -> Result<u64, String>;
    touch / call_touch(guard: u32) -> Result<(), String>;
    last_touched / call_last_touched(lock: u32) -> Result<Option<u64>, String>;
    is_lost / call_is_lost(guard: u32) -> Result<bool, String>;
    wait_for_loss / call_wait_for_loss(guard: u32) -> String;
    start / call_start(lock: u32, exclusive: bool, timeout_ms: Option<u32>) -> Result<u32, String>;
    get / call_get(request: u32) -> Option<Result<u32, String>>;
    wait / call_wait(request: u32) -> Result<u32, String>;
    drop_request / call_drop_request(request: u32) -> ();
    open_flock / call_open_flock(space: u32, name: &str) -> Result<u32, String>;
    open_ranges / call_open_ranges(space: u32, name: &str) -> Result<u32, String>;
    same_ranges / call_same_ranges(ranges: u32, other: u32) -> bool;
    try_range / call_try_range(ranges: u32, exclusive: bool, start: u64, len: u64) -> Result<bool, String>;
    set_range / call_set_range(ranges: u32, exclusive: bool, start: u64, len: u64, timeout_ms: Option<u32>) -> Result<(), String>;
    unlock_range / call_unlock_range(ranges: u32, start: u64, len: u64) -> Result<(), String>;
    test_range / call_test_range(ranges: u32, exclusive: bool, start: u64, len: u64) -> Result<Option<(bool, u64, u64)>, String>;
    drop_ranges / call_drop_ranges(ranges: u32) -> ();
    open_semaphore / call_open_semaphore(path: &str, permits: u32) -> Result<u32, String>;
    try_permits / call_try_permits(semaphore: u32, count: u32) -> Result<u32, String>;
    acquire_permits / call_acquire_permits(semaphore: u32, count: u32, timeout_ms: Option<u32>) -> Result<u32, String>;
    numbers / call_numbers(permit: u32) -> Vec<u32>;
    check_permit / call_check_permit(permit: u32) -> Result<(), String>;
    permit_token / call_permit_token(permit: u32) -> Result<u64, String>;
    wait_for_permit_loss / call_wait_for_permit_loss(permit: u32) -> String;
    release_permit / call_release_permit(permit: u32) -> Result<(), String>;
    drop_permit / call_drop_permit(permit: u32) -> ();
    spaces / call_spaces() -> Vec<String>;
    increment / call_increment(path: &str) -> Result<u64, String>;
    write_file / call_write_file(path: &str, text: &str) -> Result<(), String>;
    change_dir / call_change_dir(path: &str) -> Result<(), String>;
    run_into_trap / call_trap() -> ();
}

/// Calls that only a guest of WASI 0.2 has.
macro_rules! older_calls {
    ($($name:ident / $call:ident ($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        impl Actor {
            $(
                /// See `wit/actor.wit`.
                ///
                /// # Panics
                /// If the guest traps, or is one of WASI 0.3.
                pub fn $name(&mut self, $($argument: $kind),*) -> $result {
                    call!(&mut self.0, $call, $($argument),*).expect("no trap")
                }
            )*
        }
    };
}

older_calls! {
    start_permits / call_start_permits(semaphore: u32, count: u32, timeout_ms: Option<u32>) -> Result<u32, String>;
    get_permits / call_get_permits(request: u32) -> Option<Result<u32, String>>;
    wait_for_permits / call_wait_for_permits(request: u32) -> Result<u32, String>;
    drop_permit_request / call_drop_permit_request(request: u32) -> ();
}

impl Actor {
    /// See `wit/actor.wit`.
    ///
    /// # Panics
    /// If the guest traps.
    pub fn drop_guard_before_pollable(&mut self, guard: u32) {
        if let Kind::Concurrent(..) = self.0 {
            return self.drop_guard(guard);
        }
        call!(&mut self.0, call_drop_guard_before_pollable, guard).expect("no trap");
    }

    /// See `wit/actor.wit`.
    ///
    /// # Panics
    /// If the guest traps.
    pub fn drop_request_before_pollable(&mut self, request: u32) {
        if let Kind::Concurrent(..) = self.0 {
            return self.drop_request(request);
        }
        call!(&mut self.0, call_drop_request_before_pollable, request).expect("no trap");
    }

    /// See `wit/actor.wit`.
    ///
    /// # Panics
    /// If the guest traps, or is not one of WASI 0.3.
    pub fn settle(&mut self, request: u32) {
        self.concurrently(async |actor, store| {
            let commands = actor.clasp_tests_concurrent_commands();
            commands.call_settle(store, request).await
        });
    }

    /// See `wit/actor.wit`.
    ///
    /// # Panics
    /// If the guest traps, or is not one of WASI 0.3.
    pub fn start_range(
        &mut self,
        ranges: u32,
        exclusive: bool,
        start: u64,
        len: u64,
    ) -> Result<u32, String> {
        self.concurrently(async |actor, store| {
            let commands = actor.clasp_tests_concurrent_commands();
            let start = commands.call_start_range(store, ranges, exclusive, start, len);
            start.await
        })
    }

    /// See `wit/actor.wit`.
    ///
    /// # Panics
    /// If the guest traps, or is not one of WASI 0.3.
    pub fn received(&mut self) -> u32 {
        self.concurrently(async |actor, store| {
            let commands = actor.clasp_tests_concurrent_commands();
            commands.call_received(store).await
        })
    }

    fn concurrently<R>(
        &mut self,
        call: impl AsyncFnOnce(&concurrent::Concurrent, &Accessor<State>) -> wasmtime::Result<R>,
    ) -> R {
        let Kind::Concurrent(store, actor) = &mut self.0 else {
            panic!("only guests of WASI 0.3 do this");
        };
        let call = store.run_concurrent(async |store| call(actor, store).await);
        RUNTIME.block_on(call).expect("no trap").expect("no trap")
    }

    /// Has the guest take a lock, and gives the call up when it has been polled a number of
    /// times. Returns whether it had ended by then.
    ///
    /// # Panics
    /// If the guest is not one of WASI 0.3.
    pub fn abandon_acquire(&mut self, lock: u32, polls: usize) -> bool {
        let Kind::Concurrent(store, actor) = &mut self.0 else {
            panic!("only guests of WASI 0.3 do this");
        };
        let _runtime = RUNTIME.enter();
        let mut call = pin!(store.run_concurrent(async |store| {
            let commands = actor.clasp_tests_concurrent_commands();
            commands.call_acquire(store, lock, true, None).await
        }));
        let mut context = Context::from_waker(Waker::noop());
        (0..polls).any(|_| call.as_mut().poll(&mut context).is_ready())
    }

    /// Makes the guest trap. Its store lives on.
    ///
    /// # Panics
    /// If it does not.
    pub fn trap(&mut self) {
        self.call_trap().expect_err("a trap");
    }

    /// `LocksCtx::close` of its store.
    pub fn close_locks(&self) {
        self.data().locks.close();
    }

    /// `LocksCtx::handle` of its store.
    pub fn locks_handle(&self) -> LocksHandle {
        self.data().locks.handle()
    }

    fn data(&self) -> &State {
        let (Kind::Sync(store, _) | Kind::Async(store, _) | Kind::Concurrent(store, _)) = &self.0;
        store.data()
    }

    /// Leaves no room for a resource in the table of its store.
    pub fn fill_table(&mut self) {
        let (Kind::Sync(store, _) | Kind::Async(store, _) | Kind::Concurrent(store, _)) =
            &mut self.0;
        let table = &mut store.data_mut().table;
        table.set_max_capacity(256);
        while table.push(()).is_ok() {}
    }
}
