//! The guest programs of tests, examples and benchmarks.

use crate::{
    shell::{cargo, root, say, show, target},
    toolchain::{self, Target},
};
use anyhow::Result;

/// Packages with guest programs, outside the workspace: they are built for
/// another target, perhaps by another compiler.
pub(crate) const PACKAGES: [&str; 3] = ["examples/guests", "tests/guests", "benches/guest"];

/// Builds all of them into `target/guests`.
pub(crate) fn build() -> Result<()> {
    let toolchain = toolchain::ensure(Target::Guest)?;
    for package in PACKAGES {
        say(format!("Building {package}"));
        let mut build = cargo("build");
        build
            .args(["--quiet", "--locked", "--release"])
            .arg("--manifest-path")
            .arg(root().join(package).join("Cargo.toml"))
            .arg("--target-dir")
            .arg(target().join("guests"));
        toolchain.configure(&mut build);
        show(&mut build)?;
    }
    Ok(())
}
