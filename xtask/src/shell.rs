//! Running other programs.

use anyhow::{Context, Result, bail};
use std::{
    env::consts::EXE_SUFFIX,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where build products go.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where things are kept that survive the target directory.
pub(crate) fn cache() -> Result<PathBuf> {
    let home = std::env::home_dir().context("no home directory is known; set HOME to yours")?;
    Ok(home.join(".cache/clasp"))
}

/// Tells the user what happens next.
pub(crate) fn say(text: impl AsRef<str>) {
    eprintln!("==> {}", text.as_ref());
}

/// This cargo, run in the root of the repository.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(root());
    // The client of etcd is generated when it is built.
    if std::env::var_os("PROTOC").is_none()
        && let (Ok(protoc), Ok(include)) = (
            protoc_bin_vendored::protoc_bin_path(),
            protoc_bin_vendored::include_path(),
        )
    {
        command.env("PROTOC", protoc).env("PROTOC_INCLUDE", include);
    }
    command
}

/// This cargo for all packages that are for this system. The benchmarks need
/// programs and calls of Linux. Windows cannot replace a running program, and
/// xtask itself is running.
pub(crate) fn workspace(subcommand: &str) -> Command {
    let mut command = cargo(subcommand);
    command.args(["--workspace", "--all-features"]);
    if !cfg!(target_os = "linux") {
        command.args(["--exclude", "clasp-benches"]);
    }
    if cfg!(windows) {
        command.args(["--exclude", "xtask"]);
    }
    command
}

/// Runs a program whose output the user should see.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a program and gives what it printed; all of it is shown if it fails.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}\n{}{}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a program is on the path.
pub(crate) fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        let program = format!("{program}{EXE_SUFFIX}");
        std::env::split_paths(&path).any(|directory| directory.join(&program).is_file())
    })
}

fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    format!("`{}`", words.join(" "))
}
