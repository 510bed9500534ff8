//! Guests in Python, built with `componentize-py` from the distribution in `python/`.

use crate::shell::{cache, capture, root, say, target};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, process::Command};

/// The libraries that the guests run, with the versions that the tests are written for.
const LIBRARIES: [&str; 3] = ["fasteners==0.20", "filelock==4.3.1", "portalocker==4.4.2"];

/// What the guests are built with, and what the libraries' own tests need.
const TOOLS: [&str; 6] = [
    "componentize-py==0.25.1",
    "more-itertools==11.2.1",
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-mock==3.17.0",
    "typing-extensions==4.16.0",
];

/// The guests, with their worlds: one of its own, and that of a program that `clasp run` runs.
const GUESTS: [(&str, &str); 2] = [
    ("python", "clasp:test-python/guest"),
    ("suites", "clasp:python/command"),
];

/// Builds `tests/guests/{python,suites}` into `target/guests`, beside the other guests, and
/// provides the sources that the second needs.
pub(crate) fn build() -> Result<()> {
    let environment = environment()?;
    for (name, world) in GUESTS {
        say(format!("Building tests/guests/{name}"));
        let source = root().join("tests/guests").join(name);
        let program = target().join(format!("guests/wasm32-wasip2/release/{name}.wasm"));
        let mut build = Command::new(environment.join("bin/componentize-py"));
        build.env("VIRTUAL_ENV", &environment);
        let wit = source.join("wit");
        if wit.is_dir() {
            build.arg("--wit-path").arg(wit);
        }
        capture(
            build
                .args(["--quiet", "--world", world, "componentize", "--python-path"])
                .arg(source)
                .args(["app", "--output"])
                .arg(program)
                .current_dir(target()),
        )?;
    }
    let suites = target().join("python-suites");
    let _ = fs::remove_dir_all(&suites);
    capture(
        Command::new("cp")
            .arg("-R")
            .arg(environment.join("sources"))
            .arg(suites),
    )?;
    Ok(())
}

/// A virtual environment with the packages, and with this project's own as it is now.
fn environment() -> Result<PathBuf> {
    let environment = cache()?.join("python-guests");
    let note = environment.join("packages");
    let packages = [LIBRARIES.as_slice(), &TOOLS].concat();
    let wanted = packages.join(" ");
    let pip = |arguments: &[&str]| {
        let mut pip = Command::new(environment.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
        ]);
        capture(pip.args(arguments)).map(drop)
    };
    if fs::read_to_string(&note).ok().as_ref() != Some(&wanted) {
        say(format!(
            "Installing {} for guests in Python",
            packages.join(", ")
        ));
        let _ = fs::remove_dir_all(&environment);
        capture(
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(&environment),
        )
        .context("guests in Python need python3 with venv")?;
        pip(&packages)?;
        // The first that packs wheels itself.
        pip(&["setuptools>=70.1"])?;
        let sources = environment.join("sources");
        fs::create_dir_all(&sources)?;
        capture(
            Command::new(environment.join("bin/python"))
                .args(["-c", include_str!("sources.py")])
                .args(LIBRARIES)
                .current_dir(sources),
        )?;
        fs::write(&note, wanted)?;
    }
    // Built in a copy of the sources, since building leaves files beside them.
    let copy = target().join("python");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy)?;
    let sources = root().join("python");
    capture(
        Command::new("cp")
            .args(["-R", "pyproject.toml", "README.md", "src"])
            .arg(&copy)
            .current_dir(sources),
    )?;
    let _ = fs::remove_dir_all(copy.join("src/clasp.egg-info"));
    let own = copy.display().to_string();
    pip(&[
        "--no-deps",
        "--no-build-isolation",
        "--force-reinstall",
        &own,
    ])?;
    Ok(environment)
}
