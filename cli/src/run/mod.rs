//! `clasp run`: one component, one store, on the thread that it is started on.

mod call;
mod invoke;
mod limits;
mod version;

use version::Version;

#[cfg(feature = "etcd")]
use crate::clusters;
use crate::{
    durations,
    grants::{self, Directory, Files, Locks},
    output::{self, say},
    waiting,
};
use anyhow::{Context, Result, bail};
use cap_std::{ambient_authority, fs::Dir};
use clap::Args;
#[cfg(feature = "etcd")]
use clasp_host::Grant;
use clasp_host::{Limits, LockManager, LocksCtx, LocksCtxView, LocksView, Lockspace};
use std::{
    collections::HashSet,
    env::VarError,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use wasmtime::{
    Cache, CacheConfig, Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView, WasiView};

/// The exit code after a trap, as a shell reports an aborted program.
const TRAPPED: u8 = 134;

#[derive(Args)]
#[command(after_help = "\
A comma in the name of a directory is written `,,`.

Exit status: that of the component (WASI before 0.2.12 reports 0 and 1 only), 134 after a trap, \
124 after --timeout, and 1 if the component could not be started.

Environment: CLASP_LOG sets what is logged, such as `debug` or `clasp::wait=debug`.")]
pub(crate) struct Run {
    /// Directory whose files the guest may use
    #[arg(long = "dir", value_name = "HOST[::GUEST][,read-only]")]
    dirs: Vec<Files>,

    /// Directory whose files the guest may lock; options follow after commas:
    /// family=posix|flock|both (on Windows lockfileex), order=fair|kernel,
    /// shared-only, no-create, network. Or a cluster of etcd,
    /// etcd://HOST:PORT,HOST:PORT/PREFIX::GUEST, with the options ttl=TIME,
    /// on-lost=stop|report, ca=FILE, cert=FILE, key=FILE, shared-only
    #[arg(long, value_name = "PLACE[::GUEST][,OPTIONS]")]
    locks: Vec<Locks>,

    /// Environment variable of the guest; without a value, that of this process
    #[arg(long = "env", value_name = "NAME[=VALUE]", value_parser = variable)]
    variables: Vec<(String, String)>,

    /// Name of the program as the guest sees it; the default is the name of the file
    #[arg(long, value_name = "NAME")]
    argv0: Option<String>,

    /// Longest wait for a lock, such as 30 or 2m; a number is in seconds. The default is
    /// no bound
    #[arg(long, value_name = "TIME", value_parser = durations::parse)]
    max_wait: Option<Duration>,

    /// Stop the guest after this time
    #[arg(long, value_name = "TIME", value_parser = durations::parse)]
    timeout: Option<Duration>,

    /// Most memory of the guest, such as 64M
    #[arg(long, value_name = "SIZE", value_parser = limits::size)]
    max_memory: Option<usize>,

    /// Most locks that the guest may have open
    #[arg(long, value_name = "N")]
    max_locks: Option<usize>,

    /// Let the guest use the network: TCP, UDP and name look-ups
    #[arg(long)]
    network: bool,

    /// Let the guest send HTTP requests
    #[arg(long)]
    http: bool,

    /// Directory in which hosts keep their order, for hosts of several users or
    /// containers; the default is one of the user's own
    #[arg(long, value_name = "DIR", env = "CLASP_ORDER_DIR")]
    order_dir: Option<PathBuf>,

    /// Call this exported function instead, such as `add(1, 2)`, and print what it
    /// returns
    #[arg(long, value_name = "CALL")]
    invoke: Option<String>,

    /// The component, then its arguments: what follows the component is not an option of
    /// `clasp run`
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_names = ["APP.wasm", "ARGUMENTS"]
    )]
    words: Vec<OsString>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = std::env::var(text).map_err(|error| match error {
                VarError::NotPresent => format!("{text:?} is not set here: write NAME=VALUE"),
                VarError::NotUnicode(_) => format!("the value of {text:?} is not UTF-8"),
            });
            (text, value?)
        }
    };
    if name.is_empty() {
        return Err(format!("{text:?}: write NAME=VALUE or NAME"));
    }
    Ok((name.into(), value))
}

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    locks: LocksCtx,
    memory: limits::Memory,
    #[cfg(feature = "http")]
    http: wasmtime_wasi_http::WasiHttpCtx,
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

#[cfg(feature = "http")]
impl wasmtime_wasi_http::WasiHttpView for State {
    fn http(&mut self) -> wasmtime_wasi_http::WasiHttpCtxView<'_> {
        wasmtime_wasi_http::WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: Default::default(),
        }
    }
}

/// Why the guest gave no answer.
enum End {
    /// It was not called.
    NotRun(anyhow::Error),
    /// It is not a command.
    NoCommand(anyhow::Error),
    /// It trapped, or it has ended itself with an exit code.
    Trapped(wasmtime::Error),
}

impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> End {
        End::NotRun(error)
    }
}

impl Run {
    /// How the waits of the guest are told.
    pub(crate) fn waits(&self) -> waiting::Settings {
        let directories = self.locks.iter().filter_map(Locks::directory);
        let directories = directories.map(|directory| directory.host.clone());
        let mut settings = waiting::Settings::of_directories(directories.collect());
        if self.max_wait.is_none() {
            settings.unused_bound = Some("--max-wait");
        }
        settings
    }

    pub(crate) fn run(self) -> Result<ExitCode> {
        let state = State {
            table: ResourceTable::new(),
            wasi: self.wasi()?,
            locks: self.locks()?,
            memory: limits::Memory::new(self.max_memory),
            #[cfg(feature = "http")]
            http: wasmtime_wasi_http::WasiHttpCtx::new(),
        };
        let bytes = read(self.app())?;
        let version = Version::of(&bytes);
        let engine = engine(self.timeout.is_some(), version)?;
        let component = Component::new(&engine, bytes)
            .map_err(boxed)
            .with_context(|| format!("{} is not a component", self.app().display()))?;
        let linker = self.linker(&engine, version)?;

        let mut store = Store::new(&engine, state);
        store.limiter(|state| &mut state.memory);
        let deadline = self.timeout.map(|timeout| {
            store.set_epoch_deadline(1);
            limits::Deadline::new(timeout, &engine, store.data().locks.handle())
        });
        let result = self.call(&mut store, &component, &linker, version);
        // A guest that trapped has dropped nothing.
        store.data().locks.close();
        let timed_out = deadline.is_some_and(limits::Deadline::end);
        let app = output::path(self.app());
        match result {
            _ if timed_out => {
                let timeout = self.timeout.unwrap_or_default();
                say!(
                    "{app} was stopped by --timeout {}",
                    humantime::format_duration(timeout)
                );
                Ok(ExitCode::from(limits::TIMED_OUT))
            }
            Ok(succeeded) => Ok(match succeeded {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }),
            Err(End::NotRun(error)) => Err(error),
            Err(End::NoCommand(error)) => Err(error.context(self.cannot_link())),
            Err(End::Trapped(error)) => match error.downcast_ref::<I32Exit>() {
                // Beyond a byte only this much of it reaches a shell anyway.
                Some(exit) => Ok(ExitCode::from(exit.0 as u8)),
                None => {
                    say!("{app} trapped: {error:?}");
                    Ok(ExitCode::from(TRAPPED))
                }
            },
        }
    }

    /// The component's file.
    fn app(&self) -> &Path {
        self.words.first().map_or(Path::new(""), Path::new)
    }

    /// Calls the component; answers whether it reports success.
    fn call(
        &self,
        store: &mut Store<State>,
        component: &Component,
        linker: &Linker<State>,
        version: Version,
    ) -> Result<bool, End> {
        let call = match &self.invoke {
            Some(call) => Some(invoke::Call::parse(call, store, component)?),
            None => None,
        };
        // What is missing is told here; what happens later is the guest's.
        let instance = linker.instantiate_pre(component).map_err(|error| {
            End::NotRun(match call {
                Some(_) => boxed(error),
                None => boxed(error).context(self.cannot_link()),
            })
        })?;
        version.run(store, instance, call)
    }

    fn cannot_link(&self) -> String {
        let advice = match self.http {
            true => "",
            false => " (for HTTP, add --http)",
        };
        format!(
            "{} is not a command of WASI 0.2 or 0.3.0, or it imports something that `clasp run` \
             does not provide{advice}; if it is not a command, use --invoke to call one of its \
             functions",
            output::path(self.app())
        )
    }

    fn linker(&self, engine: &Engine, version: Version) -> Result<Linker<State>> {
        let mut linker = Linker::new(engine);
        self.fill(&mut linker, version).map_err(boxed)?;
        if self.http && cfg!(not(feature = "http")) {
            bail!("this `clasp` was built without HTTP; build it with `--features http`");
        }
        Ok(linker)
    }

    fn fill(&self, linker: &mut Linker<State>, version: Version) -> wasmtime::Result<()> {
        clasp_host::p2::descriptors::add_to_linker(linker)?;
        match version {
            Version::Two => {
                wasmtime_wasi::p2::add_to_linker_sync(linker)?;
                clasp_host::p2::add_to_linker_sync(linker)?;
                #[cfg(feature = "http")]
                if self.http {
                    wasmtime_wasi_http::p2::add_only_http_to_linker_sync(linker)?;
                }
            }
            Version::Three => {
                wasmtime_wasi::p2::add_to_linker_async(linker)?;
                wasmtime_wasi::p3::add_to_linker(linker)?;
                clasp_host::p2::add_to_linker_async(linker)?;
                clasp_host::p3::add_to_linker(linker)?;
                #[cfg(feature = "http")]
                if self.http {
                    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
                    wasmtime_wasi_http::p3::add_to_linker(linker)?;
                }
            }
        }
        Ok(())
    }

    fn wasi(&self) -> Result<WasiCtx> {
        let mut wasi = WasiCtx::builder();
        // No other task runs here that a blocking file would hold up.
        wasi.inherit_stdio().allow_blocking_current_thread(true);
        let name = self.app().file_name().unwrap_or_default();
        wasi.arg(match &self.argv0 {
            Some(name) => name.clone(),
            None => name.to_string_lossy().into_owned(),
        });
        for argument in self.words.iter().skip(1) {
            // WASI has UTF-8 only.
            let argument = argument.to_str();
            wasi.arg(argument.context("an argument of the guest is not UTF-8")?);
        }
        wasi.envs(&self.variables);
        if self.network {
            wasi.inherit_network().allow_ip_name_lookup(true);
        }
        for Files {
            directory: Directory { host, guest },
            read_only,
        } in &self.dirs
        {
            let permissions = match read_only {
                true => FsPerms::ReadOnly,
                false => FsPerms::ReadWrite,
            };
            wasi.preopened_dir(host, guest, permissions)
                .map_err(boxed)
                .with_context(|| cannot_open("--dir", host))?;
        }
        Ok(wasi.build())
    }

    fn locks(&self) -> Result<LocksCtx> {
        if let Some(directory) = &self.order_dir {
            clasp_host::set_order_directory(directory)
                .with_context(|| grants::cannot_open_order(directory))?;
        }
        let mut limits = Limits::default().longest_wait(self.max_wait);
        if let Some(locks) = self.max_locks {
            limits = limits.open_locks(locks);
        }
        let mut ctx = LocksCtx::builder(LockManager::global());
        ctx.limits(limits);
        let mut names = HashSet::new();
        for locks in &self.locks {
            let guest = locks.guest();
            if !names.insert(stripped(guest)) {
                bail!(
                    "--locks grants {guest:?} twice; give each place a name of its own, \
                     such as `{guest}::NAME`"
                );
            }
            let locks = match locks {
                Locks::Files(locks) => locks,
                #[cfg(feature = "etcd")]
                Locks::Cluster(locks) => {
                    let app = output::path(self.app());
                    let cluster = locks.connect(move || {
                        say!("{app} was stopped: it has lost locks");
                        std::process::exit(clusters::LOST.into());
                    })?;
                    let grant = Grant::new(cluster.space()).shared_only(locks.shared_only);
                    ctx.grant(guest, grant);
                    continue;
                }
            };
            let host = &locks.directory.host;
            let dir = Dir::open_ambient_dir(host, ambient_authority())
                .with_context(|| cannot_open("--locks", host))?;
            self.warn_of_other_files(&locks.directory);
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

    /// Code that locks a file which it has open asks for the lock by the path of the file.
    fn warn_of_other_files(&self, locks: &Directory) {
        // The files in the place of the locks, and those that lie in it.
        let around = self.dirs.iter().filter_map(|files| {
            let Directory { host, guest } = &files.directory;
            let rest = below(&locks.guest, guest)?;
            Some((guest, host.join(rest), locks.host.clone()))
        });
        let around = around.max_by_key(|(guest, ..)| stripped(guest).len());
        let inside = self.dirs.iter().filter_map(|files| {
            let Directory { host, guest } = &files.directory;
            let rest = below(guest, &locks.guest).filter(|rest| *rest != Path::new(""))?;
            let closer = self.locks.iter().any(|other| {
                let other = other.guest();
                stripped(other).len() > stripped(&locks.guest).len()
                    && below(guest, other).is_some()
            });
            (!closer).then(|| (guest, host.clone(), locks.host.join(rest)))
        });
        for (guest, files, locked) in around.into_iter().chain(inside) {
            self.warn_unless_same(locks, guest, &files, &locked);
        }
    }

    fn warn_unless_same(&self, locks: &Directory, guest: &str, files: &Path, locked: &Path) {
        let locked = locked.canonicalize();
        if let Ok(files) = files.canonicalize()
            && locked.as_ref().ok() != Some(&files)
        {
            let locked = locked.unwrap_or_else(|_| locks.host.clone());
            tracing::warn!(
                files = %files.display(),
                locks = %locked.display(),
                "the guest has files under {guest:?} from one directory and locks under {:?} from \
                 another; calls of flock and fcntl lock other files than those that are open",
                locks.guest,
            );
        }
    }
}

/// wasmtime's error as one of this program.
fn boxed(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into_boxed_dyn_error())
}

/// What leads from one guest path to another, if that lies in it.
fn below<'a>(guest: &'a str, directory: &str) -> Option<&'a Path> {
    let guest = Path::new(stripped(guest));
    guest.strip_prefix(stripped(directory)).ok()
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
fn engine(interrupts: bool, version: Version) -> Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(interrupts);
    // Calls of host functions cost more with it.
    let concurrent = version == Version::Three;
    config.concurrency_support(concurrent);
    config.wasm_component_model_async(concurrent);
    match Cache::new(CacheConfig::new()) {
        Ok(cache) => {
            config.cache(Some(cache));
        }
        Err(error) => tracing::warn!(%error, "compiled components are not kept"),
    }
    Engine::new(&config).map_err(boxed)
}

/// The bytes of a component.
fn read(app: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(app).with_context(|| format!("cannot read {}", app.display()))?;
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        bail!(
            "{} is a core module, not a component; build it for wasm32-wasip2: \
             `cargo build --target wasm32-wasip2`",
            app.display()
        );
    }
    if Engine::detect_precompiled(&bytes).is_some() {
        bail!(
            "{} is precompiled, and `clasp run` runs only machine code that it has compiled \
             itself; run the component instead: its code is cached after the first run",
            app.display()
        );
    }
    Ok(bytes)
}
