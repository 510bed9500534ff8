//! The ledger, as the demo itself sees it.

use super::guest::Guest;
use anyhow::{Context, Result, ensure};
use clasp_host::{
    Limits, LockManager, Mode,
    engine::{Grant, Lock, Owner},
};
use serde::Deserialize;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

/// What the ledger says at one moment.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Look {
    pub(super) transfers: u64,
    pub(super) total: u64,
}

/// The ledger in a directory.
pub(super) enum Ledger {
    File(Box<File>),
    Database(Database),
}

impl Ledger {
    pub(super) fn look(&mut self) -> Result<Look> {
        match self {
            Ledger::File(file) => file.look(),
            Ledger::Database(database) => database.look(),
        }
    }
}

/// A ledger in a file.
pub(super) struct File {
    file: PathBuf,
    /// The lock of the processes; `None` in the half without locks.
    lock: Option<Lock>,
    /// Of this lock alone.
    _owner: Owner,
}

impl File {
    /// With the place of its lock, if the processes lock.
    pub(super) fn open(directory: &Path, grant: Option<&Grant>) -> Result<File> {
        let owner = LockManager::global().labelled_owner("clasp demo", Limits::default());
        let lock = grant
            .map(|grant| owner.open(grant, "ledger.lock"))
            .transpose()?;
        Ok(File {
            file: directory.join("ledger"),
            lock,
            _owner: owner,
        })
    }

    /// Reads it, under a shared lock if the processes lock as well. Without locks a process
    /// may be about to write a line, so that it is not a number.
    fn look(&self) -> Result<Look> {
        let lock = self.lock.as_ref();
        let _guard = lock
            .map(|lock| lock.acquire_blocking(Mode::Shared, None))
            .transpose()?;
        let text = fs::read_to_string(&self.file).context("cannot read the ledger")?;
        let lines = text.lines().map(str::parse);
        let lines: Vec<u64> = lines
            .collect::<Result<_, _>>()
            .context("the ledger is damaged")?;
        let (transfers, accounts) = lines.split_first().context("the ledger is empty")?;
        Ok(Look {
            transfers: *transfers,
            total: accounts.iter().sum(),
        })
    }
}

/// A ledger in an SQLite database. A guest reads it; this program contains no SQLite.
pub(super) struct Database {
    guest: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Database {
    pub(super) fn open(guest: &Guest, locked: bool) -> Result<Database> {
        let mut command = guest.command(&["look", "data/ledger"])?;
        if locked {
            command.arg("locked");
        }
        let mut guest = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the guest that looks at the ledger")?;
        let questions = guest.stdin.take().context("the guest has no input")?;
        let answers = guest.stdout.take().context("the guest has no output")?;
        Ok(Database {
            guest,
            questions,
            answers: BufReader::new(answers),
        })
    }

    fn look(&mut self) -> Result<Look> {
        let mut answer = String::new();
        writeln!(self.questions).context("the guest that looks at the ledger has ended")?;
        self.answers.read_line(&mut answer)?;
        ensure!(
            !answer.is_empty(),
            "the guest that looks at the ledger has ended"
        );
        serde_json::from_str(&answer).context("the ledger is damaged")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // It ends with its input, unless it hangs.
        let _ = self.guest.kill();
        let _ = self.guest.wait();
    }
}
