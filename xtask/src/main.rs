//! The project's own commands. `cargo xtask --help` lists them.

mod bench;
mod demo;
mod guests;
mod reference;
mod shell;
mod tidy;
mod toolchain;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Provide a toolchain that builds guests for wasm32-wasip2
    Setup,
    /// Build everything and run the demo: money moved by many processes
    Demo {
        /// Options of `clasp demo`, such as `--json`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Build everything and run every test
    Test {
        /// Options of `cargo test`, such as a filter
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Compare with bare system calls and other libraries; writes
    /// benches/results
    Bench {
        /// Options of `clasp-bench run`, such as `--quick` or `--only in-host`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Build the guest programs of tests, examples and benchmarks
    Guests,
    /// Check what no compiler checks: layout, copies, generated documents
    Tidy {
        /// Write what can be written instead of complaining
        #[arg(long)]
        fix: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup => toolchain::ensure().map(|_| ()),
        Command::Demo { options } => demo::run(&options),
        Command::Test { options } => test(&options),
        Command::Bench { options } => bench::run(&options),
        Command::Guests => guests::build(),
        Command::Tidy { fix } => tidy::run(fix),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test(options: &[String]) -> Result<()> {
    guests::build()?;
    demo::python();
    // Tests start the programs of the workspace.
    shell::say("Building the host");
    shell::show(shell::cargo("build").args(["--workspace", "--all-features"]))?;
    shell::say("Running the tests");
    let mut cargo = shell::cargo("test");
    cargo.args(["--workspace", "--all-features"]).args(options);
    shell::show(&mut cargo)?;
    if !options.is_empty() {
        return Ok(());
    }
    shell::say("Running the models");
    let mut models = shell::cargo("test");
    models
        .args(["--package", "clasp-engine", "--features", "conformance"])
        .args(["--locked", "--test", "models"])
        // A build of its own: the threads of all its crates are others.
        .env("RUSTFLAGS", "--cfg shuttle")
        .env("CARGO_TARGET_DIR", shell::target().join("model"));
    shell::show(&mut models)
}
