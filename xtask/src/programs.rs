//! Where the guest programs go, whatever builds them.

use crate::shell::{capture, cargo, root, target};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

/// Packages with guest programs, outside the workspace: they are built for
/// another target, perhaps by another compiler.
pub(crate) const PACKAGES: [&str; 3] = ["examples/guests", "tests/guests", "benches/guest"];

/// Where a guest program lies.
pub(crate) fn path(name: &str) -> PathBuf {
    target().join(format!("guests/wasm32-wasip2/release/{name}.wasm"))
}

/// Where a guest goes that cargo does not build: beside those that it builds.
///
/// # Errors
/// If a guest that cargo builds has the same name: the one would replace the other.
pub(crate) fn beside_cargo(name: &str) -> Result<PathBuf> {
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
    Ok(path(name))
}
