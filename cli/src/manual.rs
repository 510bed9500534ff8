//! Completions for shells, and manual pages, both made from the options.

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::{fs, io, path::PathBuf, process::ExitCode};

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell; for bash, put the output into
    /// ~/.local/share/bash-completion/completions/clasp
    shell: Shell,
}

#[derive(Args)]
pub(crate) struct Manual {
    /// The directory for the pages, such as ~/.local/share/man/man1
    directory: PathBuf,
}

impl Completions {
    pub(crate) fn run<C: CommandFactory>(self) -> Result<ExitCode> {
        clap_complete::generate(self.shell, &mut C::command(), "clasp", &mut io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}

impl Manual {
    pub(crate) fn run<C: CommandFactory>(self) -> Result<ExitCode> {
        let cannot = || format!("cannot write to {}", self.directory.display());
        fs::create_dir_all(&self.directory).with_context(cannot)?;
        clap_mangen::generate_to(C::command(), &self.directory).with_context(cannot)?;
        Ok(ExitCode::SUCCESS)
    }
}
