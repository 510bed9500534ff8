//! The guest of the demo, in processes of its own.

use anyhow::{Result, ensure};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// `clasp run` of the guest in a process of its own.
pub(super) fn clasp(guest: &Path, directory: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let grant = format!("{}::data", directory.display());
    command
        .args(["run", "--dir", &grant, "--locks", &grant])
        .arg(guest)
        .args(arguments);
    Ok(command)
}

/// Has the guest create the ledger.
pub(super) fn create(guest: &Path, directory: &Path, accounts: u64, balance: u64) -> Result<()> {
    let numbers = [accounts, balance].map(|n| n.to_string());
    let words = ["create", "data/ledger", &numbers[0], &numbers[1]];
    let status = clasp(guest, directory, &words)?
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "the ledger guest failed: {status}");
    Ok(())
}
