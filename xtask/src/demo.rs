//! The demo, with all that it needs.

use crate::{
    guests,
    shell::{cache, capture, cargo, has, say, show, target},
};
use anyhow::Result;
use std::{env::consts::EXE_SUFFIX, path::PathBuf, process::Command};

/// What the tests and the demo compare with.
const FASTENERS: &str = "fasteners==0.20";

/// Python libraries that the tests and the benchmarks compare with, of the versions in
/// `book/src/comparison.md`.
pub(crate) const PEERS: [&str; 3] = [FASTENERS, "filelock==4.3.1", "portalocker==4.4.2"];

/// Builds all and runs `clasp demo`.
pub(crate) fn run(options: &[String]) -> Result<()> {
    guests::build_examples()?;
    #[cfg(target_os = "linux")]
    if options.iter().any(|option| option.ends_with("sqlite")) {
        crate::existing::build_examples()?;
    }
    let on_etcd = options.iter().any(|option| option.ends_with("etcd"));
    // Its locks are on files.
    let python = if on_etcd { None } else { python() };
    say("Building `clasp`; wasmtime takes some minutes");
    let mut build = cargo("build");
    build.args(["--package", "clasp-cli", "--locked"]);
    if on_etcd {
        build.args(["--features", "etcd"]);
    }
    show(&mut build)?;
    let mut demo = Command::new(target().join(format!("debug/clasp{EXE_SUFFIX}")));
    demo.arg("demo");
    if on_etcd {
        demo.env("CLASP_ETCD", crate::etcd()?);
    }
    if let Some(python) = python {
        demo.arg("--python").arg(python);
    }
    show(demo.args(options))
}

/// A Python with fasteners, in a virtual environment of its own; `None`, with a
/// message, if it cannot be provided. Tests find it by the same path.
pub(crate) fn python() -> Option<PathBuf> {
    python_with(&[FASTENERS])
}

/// As [`python`], with other packages as well.
pub(crate) fn python_with(packages: &[&str]) -> Option<PathBuf> {
    let environment = cache().ok()?.join("python");
    let python = environment.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    let checks: Vec<_> = packages
        .iter()
        .filter_map(|package| package.split_once("=="))
        .map(|(name, version)| format!("assert version('{name}') == '{version}'"))
        .collect();
    let imports = format!(
        "from importlib.metadata import version; {}",
        checks.join("; ")
    );
    let works = |python: &PathBuf| capture(Command::new(python).args(["-c", &imports])).is_ok();
    if works(&python) {
        return Some(python);
    }
    let names = packages.join(", ");
    let Some(system) = ["python3", "python"].into_iter().find(|name| has(name)) else {
        say(format!("No python3: going on without {names}"));
        return None;
    };
    say(format!("Installing {names} for Python"));
    let made =
        capture(Command::new(system).args(["-m", "venv"]).arg(&environment)).and_then(|_| {
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet"]);
            capture(pip.args(packages))
        });
    match made {
        Ok(_) => Some(python),
        Err(error) => {
            say(format!("Going on without {names}: {error}"));
            None
        }
    }
}
