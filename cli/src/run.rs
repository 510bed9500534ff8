//! `clasp run`: one component, one store, on the thread that it is started on.

use crate::grants::{Directory, Locks};
use anyhow::{Context, Result, bail};
use cap_std::{ambient_authority, fs::Dir};
use clap::Args;
use clasp_host::{Limits, LockManager, LocksCtx, LocksCtxView, LocksView, Lockspace};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use wasmtime::{
    Cache, CacheConfig, Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{
    FsPerms, I32Exit, WasiCtx, WasiCtxView, WasiView, p2::bindings::sync::Command,
};

/// The exit code after a trap, as a shell reports an aborted program.
const TRAPPED: u8 = 134;

#[derive(Args)]
pub(crate) struct Run {
    /// Directory whose files the guest may use
    #[arg(long = "dir", value_name = "HOST[::GUEST]")]
    dirs: Vec<Directory>,

    /// Directory whose files the guest may lock; options follow after commas:
    /// family=posix|flock|both (on Windows lockfileex), order=fair|kernel,
    /// shared-only, no-create, network
    #[arg(long, value_name = "HOST[::GUEST][,OPTIONS]")]
    locks: Vec<Locks>,

    /// Environment variable of the guest
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,

    /// Longest wait for a lock, such as 30s; the default is no bound
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_wait: Option<Duration>,

    /// Directory in which hosts keep their order, for hosts of several users or
    /// containers; the default is one of the user's own
    #[arg(long, value_name = "DIR")]
    order_directory: Option<PathBuf>,

    /// Most locks that the guest may have open
    #[arg(long, value_name = "N")]
    max_locks: Option<usize>,

    /// The component
    #[arg(value_name = "APP.wasm")]
    app: PathBuf,

    /// Arguments of the guest
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!("{text:?}: write NAME=VALUE")),
    }
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

impl Run {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let state = State {
            table: ResourceTable::new(),
            wasi: self.wasi()?,
            locks: self.locks()?,
        };
        let engine = engine()?;
        let component = component(&engine, &self.app)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).map_err(boxed)?;
        clasp_host::p2::add_to_linker_sync(&mut linker).map_err(boxed)?;

        let mut store = Store::new(&engine, state);
        let command = Command::instantiate(&mut store, &component, &linker)
            .map_err(boxed)
            .with_context(|| {
                format!(
                    "{} is not a command of WASI 0.2, or imports what `clasp run` does not have",
                    self.app.display()
                )
            })?;
        let result = command.wasi_cli_run().call_run(&mut store);
        // A guest that trapped has dropped nothing.
        store.data().locks.close();
        match result {
            Ok(Ok(())) => Ok(ExitCode::SUCCESS),
            Ok(Err(())) => Ok(ExitCode::FAILURE),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                // Beyond a byte only this much of it reaches a shell anyway.
                Some(exit) => Ok(ExitCode::from(exit.0 as u8)),
                None => {
                    eprintln!("clasp: {} trapped: {error:?}", self.app.display());
                    Ok(ExitCode::from(TRAPPED))
                }
            },
        }
    }

    fn wasi(&self) -> Result<WasiCtx> {
        let mut wasi = WasiCtx::builder();
        // No other task runs here that a blocking file would hold up.
        wasi.inherit_stdio().allow_blocking_current_thread(true);
        wasi.arg(self.app.display().to_string());
        wasi.args(&self.arguments);
        wasi.envs(&self.variables);
        for Directory { host, guest } in &self.dirs {
            wasi.preopened_dir(host, guest, FsPerms::ReadWrite)
                .map_err(boxed)
                .with_context(|| cannot_open("--dir", host))?;
        }
        Ok(wasi.build())
    }

    fn locks(&self) -> Result<LocksCtx> {
        if let Some(directory) = &self.order_directory {
            clasp_host::set_order_directory(directory)
                .with_context(|| cannot_open("--order-dir", directory))?;
        }
        let mut limits = Limits::default().longest_wait(self.max_wait);
        if let Some(locks) = self.max_locks {
            limits = limits.open_locks(locks);
        }
        let mut ctx = LocksCtx::builder(LockManager::global());
        ctx.limits(limits);
        let mut names = HashSet::new();
        for locks in &self.locks {
            let Directory { host, guest } = &locks.directory;
            if !names.insert(stripped(guest)) {
                bail!(
                    "--locks grants {guest:?} twice; give each directory a name of its own, \
                     such as `{}::NAME`",
                    host.display()
                );
            }
            let dir = Dir::open_ambient_dir(host, ambient_authority())
                .with_context(|| cannot_open("--locks", host))?;
            let space = Lockspace::new(dir)
                .family(locks.family)
                .order(locks.order)
                .shared_only(locks.shared_only)
                .create(locks.create)
                .network(locks.network);
            ctx.lockspace(guest, space);
        }
        Ok(ctx.build())
    }
}

/// wasmtime's error as one of this program.
fn boxed(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into_boxed_dyn_error())
}

/// A guest path without what counts for nothing in it (S19).
fn stripped(guest: &str) -> &str {
    let mut path = guest.trim_end_matches('/');
    while let Some(rest) = path.strip_prefix('/').or_else(|| path.strip_prefix("./")) {
        path = rest;
    }
    if path == "." { "" } else { path }
}

fn cannot_open(option: &str, host: &Path) -> String {
    let host = host.display();
    format!("cannot open {host} for {option}; if it is missing, `mkdir -p {host}`")
}

/// An engine that keeps what it compiles, so that a second start is fast.
fn engine() -> Result<Engine> {
    let mut config = Config::new();
    match Cache::new(CacheConfig::new()) {
        Ok(cache) => {
            config.cache(Some(cache));
        }
        Err(error) => tracing::warn!(%error, "compiled components are not kept"),
    }
    Engine::new(&config).map_err(boxed)
}

fn component(engine: &Engine, app: &Path) -> Result<Component> {
    let bytes = std::fs::read(app).with_context(|| format!("cannot read {}", app.display()))?;
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        bail!(
            "{} is a core module, not a component; build it for wasm32-wasip2: \
             `cargo build --target wasm32-wasip2`",
            app.display()
        );
    }
    Component::new(engine, bytes)
        .map_err(boxed)
        .with_context(|| format!("{} is not a component", app.display()))
}
