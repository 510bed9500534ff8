//! Guests in JavaScript, built with `componentize-qjs` from the package in `javascript/`.

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

const TOOLS: [&str; 2] = ["componentize-qjs@0.4.5", "typescript@5.9.3"];

/// A guest: its name, the directory, the file, and the world.
type Guest = (&'static str, &'static str, &'static str, &'static str);

const GUESTS: [Guest; 2] = [
    ("count_js", "examples/count", "count.js", COMMAND),
    (
        "javascript",
        "tests/guests/javascript",
        "app.js",
        "async-command",
    ),
];

/// The world of a program of WASI 0.2. `componentize-qjs` needs to be told so.
const COMMAND: &str = "command";

/// Builds them into `target/guests`, beside the other guests.
pub(crate) fn build() -> Result<()> {
    let tools = tools()?;
    // What users have: the guest, and the package in `node_modules`.
    let project = target().join("javascript");
    let _ = fs::remove_dir_all(&project);
    let modules = project.join("node_modules/clasp-locks");
    fs::create_dir_all(&modules)?;
    let package = pack(&project)?;
    capture(
        Command::new("tar")
            .args(["-xzmf"])
            .arg(package)
            .args(["--strip-components=1", "-C"])
            .arg(&modules),
    )?;
    for (name, directory, file, world) in GUESTS {
        say(format!("Building {directory}/{file}"));
        fs::copy(root().join(directory).join(file), project.join(file))?;
        capture(
            Command::new(tools.join("componentize-qjs"))
                .arg("--wit")
                .arg(modules.join("wit"))
                .args(["--world", world, "--js", file, "--output"])
                .arg(programs::beside_cargo(name)?)
                .args((world == COMMAND).then_some("--sync"))
                .current_dir(&project),
        )?;
    }
    say("Checking the types of javascript");
    let uses = "types.ts";
    let source = root().join("tests/guests/javascript").join(uses);
    fs::copy(source, project.join(uses))?;
    capture(
        Command::new(tools.join("tsc"))
            .args(["--noEmit", "--strict", "--target", "esnext"])
            .args(["--module", "nodenext", uses])
            .current_dir(&project),
    )?;
    Ok(())
}

/// Packs `javascript/` as for the registry of npm.
pub(crate) fn pack(to: &Path) -> Result<PathBuf> {
    fs::create_dir_all(to)?;
    let name = capture(
        Command::new("npm")
            .args(["pack", "--silent", "--pack-destination"])
            .arg(to)
            .current_dir(root().join("javascript")),
    )?;
    Ok(to.join(name.trim()))
}

/// The directory with the programs of `TOOLS`.
fn tools() -> Result<PathBuf> {
    let directory = cache()?.join("javascript-guests");
    let note = directory.join("packages");
    let wanted = TOOLS.join(" ");
    if fs::read_to_string(&note).ok().as_ref() != Some(&wanted) {
        say(format!("Installing {wanted} for guests in JavaScript"));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("package.json"), "{ \"private\": true }\n")?;
        capture(
            Command::new("npm")
                .args(["install", "--silent", "--no-fund", "--no-audit"])
                .args(TOOLS)
                .current_dir(&directory),
        )
        .context("guests in JavaScript need npm and Node.js 18 or newer")?;
        fs::write(&note, wanted)?;
    }
    Ok(directory.join("node_modules/.bin"))
}
