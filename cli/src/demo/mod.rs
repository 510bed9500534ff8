//! `clasp demo`: many processes move money between the accounts of one ledger
//! file, first without locks, then with.

mod guest;
mod ledger;
mod live;
mod page;
mod processes;
mod result;

use crate::output::{self, say};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use ledger::{Database, Ledger, Look};
use live::Live;
use processes::Processes;
use result::{Phase, Sample, Table};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The guest with a ledger in a file; empty if it was not there when this program was built.
const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ledger.wasm"));

/// The one with a ledger in an SQLite database.
const SQLITE_GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ledger-sqlite.wasm"));

const ACCOUNTS: u64 = 16;
const BALANCE: u64 = 1000;

/// What the ledger is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum With {
    /// A file, with the locks of the SDK; the Python process uses fasteners
    File,
    /// An SQLite database; without locks means with SQLite's default in a guest, which native
    /// programs do not respect
    Sqlite,
}

#[derive(Args)]
pub(crate) struct Demo {
    /// What the ledger is kept in
    #[arg(long, value_enum, default_value_t = With::File)]
    with: With,

    /// Another guest instead of the one in this program, which is
    /// `examples/guests/src/bin/ledger.rs`, or with SQLite
    /// `examples/existing/src/bin/ledger-sqlite.rs`
    #[arg(long, value_name = "LEDGER.wasm")]
    guest: Option<PathBuf>,

    /// A Python, which takes part; with fasteners, unless the ledger is in a database
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,

    /// Duration of each half, without and with locks, in seconds
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,

    /// Processes that move money
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    movers: u16,

    /// Processes that audit
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=64))]
    auditors: u16,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    /// Write the result, with plots, as a page for a browser
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds between 0.1 and 3600".into()),
    }
}

impl Demo {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let directory = tempfile::tempdir().context("cannot make a directory for the guest")?;
        let guest = self.guest(directory.path())?;
        if self.with == With::Sqlite && self.python.is_none() {
            say!(
                "without a native program (--python) nothing is lost: SQLite's default in a guest \
                 excludes other guests"
            );
        }
        let phases = [self.phase(&guest, false)?, self.phase(&guest, true)?];
        if self.json {
            output::print(serde_json::to_string_pretty(&phases)? + "\n")?;
        } else {
            output::print(Table(&phases))?;
        }
        if let Some(file) = &self.report {
            let page = page::render(&phases)?;
            fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
            say!("the report is {}", output::path(file));
        }
        let clean = phases[1].is_clean();
        if !clean {
            say!("with locks an update or money was lost; this is a bug of clasp");
        }
        Ok(if clean {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The file with the guest.
    fn guest(&self, directory: &Path) -> Result<PathBuf> {
        if let Some(guest) = &self.guest {
            ensure!(guest.is_file(), "{} is missing", guest.display());
            return Ok(guest.clone());
        }
        let (bytes, command) = match self.with {
            With::File => (GUEST, "cargo xtask demo"),
            With::Sqlite => (SQLITE_GUEST, "cargo xtask demo --with sqlite"),
        };
        ensure!(
            !bytes.is_empty(),
            "this `clasp` was built without the guest of the demo; in a clone of the repository, \
             run `{command}`, or pass the guest with --guest"
        );
        let guest = directory.join("ledger.wasm");
        fs::write(&guest, bytes).context("cannot write the guest")?;
        Ok(guest)
    }

    fn phase(&self, guest: &Path, locked: bool) -> Result<Phase> {
        let directory = tempfile::tempdir().context("cannot make a directory for the ledger")?;
        let directory = directory.path();
        let title = match locked {
            true => "with locks",
            false => "without locks",
        };
        let money = ACCOUNTS * BALANCE;
        let live = Live::start(title, self.seconds, money);
        guest::create(guest, directory, ACCOUNTS, BALANCE)?;
        let mut ledger = match self.with {
            With::File => Ledger::File(Box::new(ledger::File::open(directory, locked)?)),
            With::Sqlite => Ledger::Database(Database::open(guest, directory, locked)?),
        };
        let look = ledger.look()?;
        let processes = Processes::start(self, guest, directory, locked, money)?;
        let (processes, samples) = processes.watch(&mut ledger, look, self.seconds, &live)?;
        let end = match ledger.look() {
            Ok(look) => look,
            Err(error) if locked => return Err(error),
            // Without locks it may be damaged for good.
            Err(_) => Look {
                transfers: 0,
                total: 0,
            },
        };
        let end = Sample::new(self.seconds, &processes, end);
        Ok(Phase {
            locked,
            seconds: self.seconds,
            operations_per_second: ((end.transfers + end.audits) as f64 / self.seconds) as u64,
            money_before: money,
            end,
            samples,
            processes,
        })
    }
}
