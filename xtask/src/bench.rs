//! The benchmarks, with all that they need.

use crate::{
    demo, guests, programs,
    shell::{cargo, root, say, show, target, workspace},
};
use anyhow::Result;
use std::process::Command;

/// Clients of the servers with which locks on etcd are compared.
const CLIENTS: [&str; 3] = ["redis==8.1.0", "psycopg==3.3.9", "psycopg-binary==3.3.9"];

/// Builds all and writes `benches/results`.
pub(crate) fn run(options: &[String]) -> Result<()> {
    guests::build()?;
    let python = demo::python_with(&demo::PEERS);
    say("Building with optimization; wasmtime takes some minutes");
    show(workspace("build").args(["--release", "--locked"]))?;
    // Programs whose start is measured are built as they are published.
    let mut started = cargo("build");
    started.args(["--profile", "dist", "--locked"]);
    started.args(["--package", "clasp-cli", "--bin", "clasp"]);
    started.args(["--package", "clasp-benches", "--bin", "clasp-bench-bare"]);
    show(&mut started)?;
    let release = target().join("release");
    let guest = programs::path("ledger");
    let mut bench = Command::new(release.join("clasp-bench"));
    bench
        .args(["run", "--out"])
        .arg(root().join("benches/results"));
    bench
        .arg("--start")
        .arg(target().join("dist/clasp"))
        .arg(guest);
    bench
        .arg("--existing")
        .arg(programs::path("existing"))
        .arg(target().join("guests/c/existing"));
    if let Some(python) = python {
        bench.arg("--python").arg(python);
    }
    say("Comparing; this takes ten minutes or more");
    show(bench.args(options))
}

/// Builds what compares locks on servers, and writes its part of `benches/results`.
pub(crate) fn on_etcd(options: &[String]) -> Result<()> {
    let server = crate::etcd()?;
    let python = demo::python_with(&CLIENTS);
    say("Building with optimization; wasmtime takes some minutes");
    show(cargo("build").args(["--release", "--locked", "--package", "clasp-benches"]))?;
    let mut started = cargo("build");
    started.args(["--profile", "dist", "--locked", "--features", "etcd"]);
    show(started.args(["--package", "clasp-cli", "--bin", "clasp"]))?;
    let mut bench = Command::new(target().join("release/clasp-bench"));
    bench.env("CLASP_ETCD", server);
    bench
        .args(["etcd", "--out"])
        .arg(root().join("benches/results"));
    bench.arg("--clasp").arg(target().join("dist/clasp"));
    if let Some(python) = python {
        bench.arg("--python").arg(python);
    }
    say("Comparing; this takes some minutes");
    show(bench.args(options))
}

/// Builds what compares semaphores, and writes its part of `benches/results`.
pub(crate) fn of_semaphores(options: &[String]) -> Result<()> {
    let python = demo::python_with(&demo::PEERS);
    say("Building with optimization; wasmtime takes some minutes");
    show(cargo("build").args(["--release", "--locked", "--package", "clasp-benches"]))?;
    let mut bench = Command::new(target().join("release/clasp-bench"));
    bench
        .args(["permits", "--out"])
        .arg(root().join("benches/results"));
    if let Some(python) = python {
        bench.arg("--python").arg(python);
    }
    say("Comparing; this takes some minutes");
    show(bench.args(options))
}
