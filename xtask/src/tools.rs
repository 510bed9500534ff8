//! Programs that are installed from crates.io when they are needed.

use crate::shell::{cache, capture, cargo, say, show, target};
use anyhow::Result;
use std::{env::consts::EXE_SUFFIX, process::Command};

/// A program, which is kept where CI and users keep what was downloaded.
pub(crate) struct Tool {
    package: &'static str,
    version: &'static str,
    options: &'static [&'static str],
}

/// Renders the book.
pub(crate) const MDBOOK: Tool = Tool {
    package: "mdbook",
    version: "0.4.52",
    options: &["--no-default-features"],
};

/// Checks the licences and the sources of dependencies.
pub(crate) const DENY: Tool = Tool {
    package: "cargo-deny",
    version: "0.20.2",
    options: &[],
};

/// Lists the public items of a crate. It reads the format of the compiler in
/// `rust-toolchain.toml`.
pub(crate) const PUBLIC_API: Tool = Tool {
    package: "cargo-public-api",
    version: "0.52.0",
    options: &[],
};

/// Encodes the interface as a package for registries.
pub(crate) const WKG: Tool = Tool {
    package: "wkg",
    version: "0.16.1",
    options: &[],
};

/// Lists the parts of a program.
pub(crate) const CYCLONEDX: Tool = Tool {
    package: "cargo-cyclonedx",
    version: "0.5.9",
    options: &[],
};

impl Tool {
    /// The program, installed.
    pub(crate) fn command(&self) -> Result<Command> {
        let Tool {
            package,
            version,
            options,
        } = self;
        let tools = cache()?.join("tools");
        let program = tools.join(format!("bin/{package}{EXE_SUFFIX}"));
        // Cargo passes the name of a subcommand on.
        let subcommand = package.strip_prefix("cargo-");
        let mut asked = Command::new(&program);
        asked.args(subcommand).arg("--version");
        if !capture(&mut asked).is_ok_and(|text| text.contains(version)) {
            say(format!("Installing {package} {version}"));
            let mut install = cargo("install");
            install
                .args(["--quiet", "--locked", "--force", package])
                .args(["--version", version, "--root"])
                .arg(&tools)
                .args(*options)
                .arg("--target-dir")
                .arg(target().join("tools"));
            show(&mut install)?;
        }
        let mut command = Command::new(program);
        command.args(subcommand);
        Ok(command)
    }
}
