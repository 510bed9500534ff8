//! `clasp`: runs WebAssembly components that share the machine's file locks.

mod demo;
mod grants;
mod run;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(
    name = "clasp",
    version,
    about = "Run WebAssembly components that share the machine's file locks"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a component; the exit code is the component's
    Run(run::Run),
    /// Show what locks are for: many processes move money in one file
    Demo(demo::Demo),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_env("CLASP_LOG").unwrap_or_else(|_| "warn".into()))
        .init();
    let result = match arguments.command {
        Command::Run(run) => run.run(),
        Command::Demo(demo) => demo.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("clasp: {error:#}");
        ExitCode::FAILURE
    })
}
