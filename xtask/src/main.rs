//! The project's own commands. `cargo xtask --help` lists them.

mod assets;
mod bench;
mod book;
#[cfg(target_os = "linux")]
mod c;
mod demo;
#[cfg(target_os = "linux")]
mod existing;
mod faults;
mod frozen;
mod guests;
#[cfg(target_os = "linux")]
mod javascript;
mod modules;
mod packages;
mod programs;
#[cfg(target_os = "linux")]
mod python;
mod reference;
mod shell;
mod tidy;
mod toolchain;
mod tools;
mod windows;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use toolchain::Target;

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
        /// Cross-build for Windows and run the tests on Wine instead
        #[arg(long)]
        windows: bool,
        /// Options of `cargo test`, such as a filter
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Plant faults in copies of the engine, and see that the tests find them
    Faults,
    /// Check that the engine and the SDK compile for systems that no test runs on
    Platforms,
    /// Compare with bare system calls and other libraries; writes
    /// benches/results
    Bench {
        /// Compare locks on servers instead
        #[arg(long, value_parser = ["etcd"])]
        on: Option<String>,
        /// Compare semaphores instead
        #[arg(long, value_parser = ["semaphores"], conflicts_with = "on")]
        of: Option<String>,
        /// Options of `clasp-bench`, such as `--quick` or `--only in-host`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Build the guest programs of tests, examples and benchmarks
    Guests,
    /// Provide a C compiler for guests, whose programs take the locks with fcntl and flock, or
    /// with clasp.h
    #[cfg(target_os = "linux")]
    Posix,
    /// Provide a server of etcd for the tests, and print its path
    Etcd,
    /// Check formats, run clippy, and build the documentation; all without warnings
    Lint,
    /// Render the guides and the reference as a book, into target/book
    Book,
    /// Check what is published: licences, public items, packages
    Packages {
        /// Write the lists of public items
        #[arg(long)]
        fix: bool,
    },
    /// Build what a release consists of, for this system, into target/release-assets
    Release,
    /// Check what no compiler checks: layout, copies, generated documents
    Tidy {
        /// Write what can be written instead of complaining
        #[arg(long)]
        fix: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup => toolchain::ensure(Target::Guest).map(|_| ()),
        Command::Demo { options } => demo::run(&options),
        Command::Test {
            windows: true,
            options,
        } => windows::test(&options),
        Command::Test { options, .. } => test(&options),
        Command::Faults => faults::check(),
        Command::Platforms => platforms(),
        Command::Bench {
            on: Some(_),
            options,
            ..
        } => bench::on_etcd(&options),
        Command::Bench {
            of: Some(_),
            options,
            ..
        } => bench::of_semaphores(&options),
        Command::Bench { options, .. } => bench::run(&options),
        Command::Guests => guests::build(),
        #[cfg(target_os = "linux")]
        Command::Posix => existing::posix(),
        Command::Etcd => etcd().map(|server| println!("{}", server.display())),
        Command::Lint => lint(),
        Command::Book => book::build(),
        Command::Packages { fix } => packages::check(fix),
        Command::Release => packages::release(),
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
    demo::python_with(&demo::PEERS);
    // Tests start the programs of the workspace.
    shell::say("Building the host");
    shell::show(&mut shell::workspace("build"))?;
    shell::say("Running the tests");
    let mut tests = shell::workspace("test");
    match etcd() {
        Ok(server) => tests.env("CLASP_ETCD", server),
        Err(error) if std::env::var_os("CI").is_some() => return Err(error),
        Err(error) => {
            shell::say(format!("Going on without the tests on etcd: {error:#}"));
            tests.args(["--exclude", "clasp-etcd"])
        }
    };
    shell::show(tests.args(options))?;
    if !options.is_empty() {
        return Ok(());
    }
    shell::say("Running the models");
    configured("shuttle", "models")?;
    shell::say("Running the test of a system without locks");
    configured("clasp_unsupported", "unsupported")?;
    if cfg!(target_os = "linux") {
        shell::say("Planting faults, which the tests are to find");
        faults::check()?;
    }
    Ok(())
}

/// The server of etcd for tests and the demo.
fn etcd() -> Result<std::path::PathBuf> {
    #[cfg(target_os = "linux")]
    return Ok(toolchain::etcd::ensure()?.join("etcd"));
    #[cfg(not(target_os = "linux"))]
    match std::env::var_os("CLASP_ETCD") {
        Some(server) => Ok(server.into()),
        None => anyhow::bail!("set CLASP_ETCD to a server of etcd, 3.5.13 or later"),
    }
}

/// Checks what the compiler and its tools say of all sources.
fn lint() -> Result<()> {
    shell::show(shell::cargo("fmt").args(["--all", "--check"]))?;
    for guests in [
        "examples/guests",
        "examples/existing",
        "tests/guests",
        "benches/guest",
    ] {
        let manifest = format!("{guests}/Cargo.toml");
        let mut fmt = shell::cargo("fmt");
        shell::show(fmt.args(["--all", "--manifest-path", &manifest, "--check"]))?;
    }
    let mut clippy = shell::workspace("clippy");
    shell::show(clippy.args(["--all-targets", "--locked", "--", "-D", "warnings"]))?;
    let mut doc = shell::workspace("doc");
    doc.args(["--no-deps", "--locked"]);
    shell::show(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Runs a test of the engine that is another engine: with other threads, or on
/// another system.
fn configured(cfg: &str, test: &str) -> Result<()> {
    let mut cargo = shell::cargo("test");
    cargo
        .args(["--package", "clasp-engine", "--features", "conformance"])
        .args(["--locked", "--test", test])
        .env("RUSTFLAGS", format!("--cfg {cfg}"))
        .env("CARGO_TARGET_DIR", shell::target().join("model"));
    shell::show(&mut cargo)
}

/// Checks the sources for systems that cannot be had here.
fn platforms() -> Result<()> {
    for target in [Target::MacOs, Target::FreeBsd] {
        let toolchain = toolchain::ensure(target)?;
        shell::say(format!("Checking for {}", target.triple()));
        let mut check = shell::cargo("check");
        check
            .args(["--package", "clasp-engine", "--package", "clasp-guest"])
            .args(["--features", "clasp-engine/conformance", "--locked"])
            .env("RUSTFLAGS", "-D warnings")
            .arg("--target-dir")
            .arg(shell::target().join("platforms"));
        toolchain.configure(&mut check);
        shell::show(&mut check)?;
    }
    Ok(())
}
