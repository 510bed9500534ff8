//! The tests on Windows, without one: cross-built, and run on Wine.

use crate::{
    guests,
    shell::{capture, cargo, has, say, show, target},
    toolchain::{self, Target},
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// How long one test program may run. Wine sometimes does not let go of one
/// that has failed.
const BOUND: &str = "900";

/// A library of Windows that Wine 8.0 lacks, and Rust's standard library wants
/// for its random numbers.
const PRNG: &str = r#"
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length) {
    return SystemFunction036(buffer, (ULONG)length);
}
"#;

/// Builds all for Windows and runs every test that can run there.
pub(crate) fn test(options: &[String]) -> Result<()> {
    let wine = wine()?;
    guests::build()?;
    let toolchain = toolchain::ensure(Target::Windows)?;
    let directory = target().join("windows");
    let libraries = libraries(&directory.join("libraries"))?;
    let prefix = directory.join("prefix");
    fs::create_dir_all(&prefix)?;

    let workspace = |subcommand| {
        let mut cargo = cargo(subcommand);
        cargo
            .args(["--workspace", "--all-features", "--locked"])
            // The one is for this machine, and the others compare with Linux.
            .args(["--exclude", "xtask", "--exclude", "clasp-benches"])
            // Its tests need servers; as a part of `clasp` it is built all the same.
            .args(["--exclude", "clasp-etcd"])
            // Programs and tests at once, with the dependencies of both:
            // with fewer, wasmtime would be another, and be built twice.
            .args(["--lib", "--bins", "--tests"])
            .arg("--target-dir")
            .arg(&directory);
        toolchain.configure(&mut cargo);
        cargo
    };
    say("Building for Windows; wasmtime takes some minutes");
    show(&mut workspace("build"))?;
    say("Running the tests on Wine");
    let mut tests = workspace("test");
    tests.args(options);
    tests
        .env(
            "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER",
            format!("timeout --signal=KILL {BOUND} {}", wine.display()),
        )
        .env("WINEPREFIX", &prefix)
        .env("WINEPATH", format!("Z:{}", libraries.display()))
        // No installers of what no test needs, and no window.
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .env("WINEDEBUG", "-all")
        .env_remove("DISPLAY");
    show(&mut tests)
}

/// The 64-bit Wine, which Debian does not put on the path.
fn wine() -> Result<PathBuf> {
    let found = ["/usr/lib/wine/wine64", "/usr/bin/wine64", "/usr/bin/wine"]
        .into_iter()
        .map(Path::new)
        .find(|wine| wine.is_file());
    let compiler = has("x86_64-w64-mingw32-gcc");
    ensure!(
        compiler && has("timeout"),
        "no compiler for Windows: install `gcc-mingw-w64-x86-64`, \
         for example with `apt-get install gcc-mingw-w64-x86-64 wine64`"
    );
    let wine =
        found.context("no Wine: install `wine64`, for example with `apt-get install wine64`")?;
    Ok(wine.to_owned())
}

/// The directory with what Wine lacks.
fn libraries(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let source = directory.join("prng.c");
    fs::write(&source, PRNG)?;
    capture(
        Command::new("x86_64-w64-mingw32-gcc")
            .args(["-shared", "-o"])
            .args([&directory.join("bcryptprimitives.dll"), &source])
            .arg("-ladvapi32"),
    )?;
    Ok(directory.canonicalize()?)
}
