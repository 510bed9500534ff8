//! Guests in Python, built with `componentize-py` from the distribution in `python/`.

use crate::{
    programs,
    shell::{cache, capture, root, say, target},
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The libraries that the guests run, with the versions that the tests are written for.
const LIBRARIES: [&str; 3] = ["fasteners==0.20", "filelock==4.3.1", "portalocker==4.4.2"];

/// What the guests are built and checked with, and what the libraries' own tests need.
const TOOLS: [&str; 7] = [
    "componentize-py==0.25.1",
    "more-itertools==11.2.1",
    "mypy==1.18.2",
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-mock==3.17.0",
    "typing-extensions==4.16.0",
];

/// A guest: its name, the directory, the module there, and the world.
type Guest = (&'static str, &'static str, &'static str, &'static str);

const GUESTS: [Guest; 5] = [
    ("count", "examples/count", "count", "clasp:python/command"),
    (
        "count_tasks",
        "examples/count",
        "count_tasks",
        "clasp:python/async-command",
    ),
    (
        "python",
        "tests/guests/python",
        "app",
        "clasp:test-python/guest",
    ),
    (
        "python_tasks",
        "tests/guests/python",
        "tasks",
        "clasp:python/async-command",
    ),
    (
        "suites",
        "tests/guests/suites",
        "app",
        "clasp:python/command",
    ),
];

/// Builds them into `target/guests`, beside the other guests, and provides the sources that
/// `suites` needs.
pub(crate) fn build() -> Result<()> {
    let environment = environment()?;
    for (name, directory, module, world) in GUESTS {
        say(format!("Building {directory}/{module}.py"));
        let source = root().join(directory);
        let program = programs::beside_cargo(name)?;
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
                .args([module, "--output"])
                .arg(program)
                .current_dir(target()),
        )?;
    }
    check_annotations(&environment)?;
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

/// Checks the annotations of this project's own package, and what they promise.
fn check_annotations(environment: &Path) -> Result<()> {
    say("Checking the annotations of python");
    capture(
        Command::new(environment.join("bin/mypy"))
            .args(["--strict", "--ignore-missing-imports"])
            .args(["src/clasp/__init__.py", "src/clasp/aio.py"])
            .arg(root().join("tests/guests/python/annotations.py"))
            .env("MYPYPATH", "src")
            .current_dir(copy()),
    )?;
    Ok(())
}

/// Builds the wheel.
pub(crate) fn wheel(to: &Path) -> Result<()> {
    let environment = environment()?;
    capture(
        Command::new(environment.join("bin/python"))
            .args([
                "-m",
                "pip",
                "--disable-pip-version-check",
                "wheel",
                "--quiet",
            ])
            .args(["--no-deps", "--no-build-isolation", "--wheel-dir"])
            .args([to, &copy()]),
    )?;
    Ok(())
}

/// A copy of this project's own sources, since building leaves files beside them.
fn copy() -> PathBuf {
    target().join("python")
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
    let copy = copy();
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
