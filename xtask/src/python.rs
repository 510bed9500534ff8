//! Guests in Python, built with `componentize-py` from the distribution in `python/`.

use crate::shell::{cache, capture, root, say, target};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, process::Command};

/// What the guests are built with and run, with the versions that the tests are written for.
const PACKAGES: [&str; 4] = [
    "componentize-py==0.25.1",
    "fasteners==0.20",
    "filelock==4.3.1",
    "portalocker==4.4.2",
];

/// The world of a program that `clasp run` runs.
const WORLD: &str = "clasp:python/command";

/// Builds `tests/guests/python` into `target/guests`, beside the other guests.
pub(crate) fn build() -> Result<()> {
    let environment = environment()?;
    say("Building tests/guests/python");
    let program = target().join("guests/wasm32-wasip2/release/python.wasm");
    capture(
        Command::new(environment.join("bin/componentize-py"))
            .env("VIRTUAL_ENV", &environment)
            .args(["--quiet", "--world", WORLD, "componentize", "--python-path"])
            .arg(root().join("tests/guests/python"))
            .args(["app", "--output"])
            .arg(program)
            .current_dir(target()),
    )?;
    Ok(())
}

/// A virtual environment with the packages, and with this project's own as it is now.
fn environment() -> Result<PathBuf> {
    let environment = cache()?.join("python-guests");
    let note = environment.join("packages");
    let wanted = PACKAGES.join(" ");
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
            PACKAGES.join(", ")
        ));
        let _ = fs::remove_dir_all(&environment);
        capture(
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(&environment),
        )
        .context("guests in Python need python3 with venv")?;
        pip(&PACKAGES)?;
        // The first that packs wheels itself.
        pip(&["setuptools>=70.1"])?;
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
