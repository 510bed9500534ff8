//! The benchmarks, with all that they need.

use crate::{
    demo, guests,
    shell::{root, say, show, target, workspace},
};
use anyhow::Result;
use std::process::Command;

/// The Python libraries to compare with.
const PEERS: [&str; 3] = ["fasteners==0.20", "filelock", "portalocker"];

/// Builds all and writes `benches/results`.
pub(crate) fn run(options: &[String]) -> Result<()> {
    guests::build()?;
    let python = demo::python_with(&PEERS);
    say("Building with optimization; wasmtime takes some minutes");
    show(workspace("build").args(["--release", "--locked"]))?;
    let release = target().join("release");
    let guest = target().join("guests/wasm32-wasip2/release/hello.wasm");
    let mut bench = Command::new(release.join("clasp-bench"));
    bench
        .args(["run", "--out"])
        .arg(root().join("benches/results"));
    bench.arg("--start").arg(release.join("clasp")).arg(guest);
    if let Some(python) = python {
        bench.arg("--python").arg(python);
    }
    say("Comparing; this takes ten minutes or more");
    show(bench.args(options))
}
