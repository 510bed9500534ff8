//! The guest of the demo, in processes of its own.

use anyhow::{Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The guest with its ledger and its locks.
pub(super) struct Guest {
    program: PathBuf,
    /// The directory of the ledger.
    pub(super) directory: PathBuf,
    /// The place of the locks, as `clasp run --locks` takes it.
    locks: String,
}

impl Guest {
    /// The guest in `program`, whose ledger is in `directory`. The locks are in `place`, or
    /// in the same directory.
    pub(super) fn new(program: &Path, directory: &Path, place: Option<String>) -> Guest {
        let place = place.unwrap_or_else(|| directory.display().to_string());
        Guest {
            program: program.into(),
            directory: directory.into(),
            locks: format!("{place}::data"),
        }
    }

    /// `clasp run` of it in a process of its own.
    pub(super) fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        let files = format!("{}::data", self.directory.display());
        command
            .args(["run", "--dir", &files, "--locks", &self.locks])
            .arg(&self.program)
            .args(arguments);
        Ok(command)
    }

    /// Has it create the ledger.
    pub(super) fn create(&self, accounts: u64, balance: u64) -> Result<()> {
        let numbers = [accounts, balance].map(|n| n.to_string());
        let words = ["create", "data/ledger", &numbers[0], &numbers[1]];
        let status = self.command(&words)?.stdin(Stdio::null()).status()?;
        ensure!(status.success(), "the ledger guest failed: {status}");
        Ok(())
    }
}
