//! The guest programs of tests, examples and benchmarks.

use crate::{
    assets,
    shell::{capture, cargo, root, say, show, target},
    toolchain::{self, Target},
};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

/// Packages with guest programs, outside the workspace: they are built for
/// another target, perhaps by another compiler.
pub(crate) const PACKAGES: [&str; 3] = ["examples/guests", "tests/guests", "benches/guest"];

/// Builds all of them into `target/guests`.
pub(crate) fn build() -> Result<()> {
    build_packages(&PACKAGES)?;
    #[cfg(target_os = "linux")]
    {
        // Their compilers are packages of Debian, PyPI and npm, which not every machine has.
        for (what, built) in [
            ("in C, and in Rust with SQLite", crate::existing::build()),
            ("in Python", crate::python::build()),
            ("in JavaScript", crate::javascript::build()),
        ] {
            match built {
                Err(error) if std::env::var_os("CI").is_none() => {
                    say(format!("Going on without guests {what}: {error:#}"));
                }
                built => built?,
            }
        }
    }
    Ok(())
}

/// Builds the examples, with the guest of the demo.
pub(crate) fn build_examples() -> Result<()> {
    build_packages(&PACKAGES[..1])
}

/// Where a guest goes that cargo does not build: beside those that it builds.
///
/// # Errors
/// If a guest that cargo builds has the same name: the one would replace the other.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let program = target().join(format!("guests/wasm32-wasip2/release/{name}.wasm"));
    for package in PACKAGES {
        let manifest = root().join(package).join("Cargo.toml");
        let metadata = capture(
            cargo("metadata")
                .args(["--no-deps", "--format-version", "1", "--manifest-path"])
                .arg(manifest),
        )?;
        let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
        let packages = metadata["packages"].as_array().context("no packages")?;
        let mut targets = packages
            .iter()
            .flat_map(|package| package["targets"].as_array().into_iter().flatten());
        ensure!(
            !targets.any(|target| target["name"] == name),
            "{package} has a guest {name} already; give one of them another name"
        );
    }
    Ok(program)
}

/// Builds packages, and gives the command `clasp` a guest of its demo.
fn build_packages(packages: &[&str]) -> Result<()> {
    let toolchain = toolchain::ensure(Target::Guest)?;
    for package in packages {
        say(format!("Building {package}"));
        let mut build = cargo("build");
        build
            .args(["--quiet", "--locked", "--release", "--workspace"])
            .arg("--manifest-path")
            .arg(root().join(package).join("Cargo.toml"))
            .arg("--target-dir")
            .arg(target().join("guests"));
        toolchain.configure(&mut build);
        show(&mut build)?;
    }
    assets::give("ledger")
}
