//! The ledger file, as the demo itself sees it.

use anyhow::{Context, Result};
use clasp_host::{
    Limits, LockManager, Lockspace, Mode,
    engine::{Lock, Owner},
};
use std::{fs, path::Path, path::PathBuf};

/// What the ledger says at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) transfers: u64,
    pub(super) total: u64,
}

/// The ledger in a directory.
pub(super) struct Ledger {
    file: PathBuf,
    /// The lock of the processes; `None` in the half without locks.
    lock: Option<Lock>,
    /// Of this lock alone.
    _owner: Owner,
}

impl Ledger {
    pub(super) fn open(directory: &Path, locked: bool) -> Result<Ledger> {
        let owner = LockManager::global().labelled_owner("clasp demo", Limits::default());
        let lock = match locked {
            true => {
                let space = Lockspace::open_ambient(directory)
                    .context("cannot open the directory of the ledger")?;
                Some(owner.open(&space.grant(), "ledger.lock")?)
            }
            false => None,
        };
        Ok(Ledger {
            file: directory.join("ledger"),
            lock,
            _owner: owner,
        })
    }

    /// Reads it, under a shared lock if the processes lock as well. Without locks a process
    /// may be about to write a line, so that it is not a number.
    pub(super) fn look(&self) -> Result<Look> {
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
