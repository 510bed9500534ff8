//! The guest programs of tests, examples and benchmarks.

use crate::{
    assets,
    programs::PACKAGES,
    shell::{cargo, root, say, show, target},
    toolchain::{self, Target},
};
use anyhow::Result;

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
