//! `clasp`: runs WebAssembly components, and native programs, that share the machine's
//! file locks.

#[cfg(target_os = "linux")]
mod clean;
#[cfg(feature = "etcd")]
mod clusters;
mod demo;
mod durations;
mod grants;
#[cfg(target_os = "linux")]
mod holders;
#[cfg(not(target_os = "linux"))]
#[path = "no_holders.rs"]
mod holders;
mod lock;
mod manual;
mod options;
mod output;
mod run;
#[cfg(target_os = "linux")]
mod status;
mod waiting;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tracing_subscriber::{
    EnvFilter, Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt,
};

#[derive(Parser)]
#[command(
    name = "clasp",
    version,
    about = "Run WebAssembly components and native programs that share the machine's file locks",
    after_help = "\
Environment:
  CLASP_LOG       What is logged on the standard error, such as `debug` or
                  `clasp::wait=debug`; the default is `warn`
  XDG_CACHE_HOME  Compiled components are kept in `wasmtime` below it; the default is
                  `~/.cache`"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a component; the exit code is that of the component
    Run(Box<run::Run>),
    /// Run a native command while a lock is held, with the options of flock(1)
    Lock(lock::Lock),
    /// Show who holds locks, and who waits for them
    #[cfg(target_os = "linux")]
    Status(status::Status),
    /// Remove lock files that are free
    #[cfg(target_os = "linux")]
    Clean(clean::Clean),
    /// Show what locks are for: many processes move money in one file
    Demo(demo::Demo),
    /// Print a completion script for a shell
    Completions(manual::Completions),
    /// Write the manual pages into a directory
    Man(manual::Manual),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A filter of one level is made faster than one that is parsed, and `clasp lock` is to
    // start fast.
    let filter = std::env::var("CLASP_LOG").ok();
    let log = match filter.and_then(|filter| filter.parse::<EnvFilter>().ok()) {
        Some(filter) => log.with_filter(filter).boxed(),
        None => log.with_filter(LevelFilter::WARN).boxed(),
    };
    let waits = match &arguments.command {
        Command::Run(run) => Some(run.waits()),
        Command::Lock(lock) => Some(lock.waits()),
        _ => None,
    };
    let messages = waits.map(waiting::Settings::messages);
    tracing_subscriber::registry()
        .with(log)
        .with(messages)
        .init();
    let result = match arguments.command {
        Command::Run(run) => run.run(),
        Command::Lock(lock) => lock.run(),
        #[cfg(target_os = "linux")]
        Command::Status(status) => status.run(),
        #[cfg(target_os = "linux")]
        Command::Clean(clean) => clean.run(),
        Command::Demo(demo) => demo.run(),
        Command::Completions(completions) => completions.run::<Arguments>(),
        Command::Man(manual) => manual.run::<Arguments>(),
    };
    result.unwrap_or_else(|error| {
        output::say!("{error:#}");
        ExitCode::FAILURE
    })
}
