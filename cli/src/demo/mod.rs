//! `clasp demo`: many processes move money between the accounts of one ledger
//! file, first without locks, then with.

#[cfg(feature = "etcd")]
mod cluster;
#[cfg(not(feature = "etcd"))]
#[path = "no_cluster.rs"]
mod cluster;
mod guest;
mod ledger;
mod live;
mod page;
mod processes;
mod result;

use crate::output::{self, say};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use clasp_host::{Lockspace, engine::Grant};
use cluster::Members;
use guest::Guest;
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

/// Where the locks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// On a file beside the ledger
    Files,
    /// On three servers of etcd on this machine. The one that leads the others is killed when
    /// half of the time is over. CLASP_ETCD is the program of the server, unless it is `etcd` on
    /// the path
    Etcd,
}

#[derive(Args)]
pub(crate) struct Demo {
    /// What the ledger is kept in
    #[arg(long, value_enum, default_value_t = With::File)]
    with: With,

    /// Where the locks are
    #[arg(long, value_enum, default_value_t = On::Files)]
    on: On,

    /// Another guest instead of the one in this program, which is
    /// `examples/guests/src/bin/ledger.rs`, or with SQLite
    /// `examples/existing/src/bin/ledger-sqlite.rs`
    #[arg(long, value_name = "LEDGER.wasm")]
    guest: Option<PathBuf>,

    /// A Python, which takes part; with fasteners, unless the ledger is in a database
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,

    /// Duration of each half, without and with locks, in seconds; 3 by default, and 10 on etcd
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,

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
        let mut members = self.members()?;
        if self.with == With::Sqlite && self.python.is_none() {
            say!(
                "without a native program (--python) nothing is lost: SQLite's default in a guest \
                 excludes other guests"
            );
        }
        let phases = [
            self.phase(&guest, false, None)?,
            self.phase(&guest, true, members.as_mut())?,
        ];
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

    /// The duration of a half.
    fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(match self.on {
            On::Files => 3.0,
            On::Etcd => 10.0,
        })
    }

    /// The servers with the locks, if they are on servers.
    fn members(&self) -> Result<Option<Members>> {
        if self.on == On::Files {
            return Ok(None);
        }
        ensure!(
            self.with == With::File,
            "SQLite locks ranges of bytes of its database, which only files have; leave out \
             `--on etcd` or `--with sqlite`"
        );
        ensure!(
            self.python.is_none(),
            "fasteners in Python locks files; leave out `--on etcd` or `--python`"
        );
        Members::start().map(Some)
    }

    fn phase(
        &self,
        guest: &Path,
        locked: bool,
        mut members: Option<&mut Members>,
    ) -> Result<Phase> {
        let directory = tempfile::tempdir().context("cannot make a directory for the ledger")?;
        let directory = directory.path();
        let title = match locked {
            true => "with locks",
            false => "without locks",
        };
        let money = ACCOUNTS * BALANCE;
        let seconds = self.seconds();
        let place = members.as_ref().map(|members| members.place());
        let guest = Guest::new(guest, directory, place);
        let live = Live::start(title, seconds, money);
        guest.create(ACCOUNTS, BALANCE)?;
        let mut ledger = match self.with {
            With::File => {
                let grant = match &members {
                    _ if !locked => None,
                    Some(members) => Some(members.grant()?),
                    None => Some(beside_the_ledger(directory)?),
                };
                Ledger::File(Box::new(ledger::File::open(directory, grant.as_ref())?))
            }
            With::Sqlite => Ledger::Database(Database::open(&guest, locked)?),
        };
        let look = ledger.look()?;
        let mut event = None;
        let midway = || {
            if let Some(members) = &mut members {
                members.kill_the_leader()?;
                let told = *event.insert("the leader of the three servers was killed");
                live.tell(told);
            }
            Ok(())
        };
        let processes = Processes::start(self, &guest, locked, money)?;
        let (processes, samples) = processes.watch(&mut ledger, look, seconds, &live, midway)?;
        let end = match ledger.look() {
            Ok(look) => look,
            Err(error) if locked => return Err(error),
            // Without locks it may be damaged for good.
            Err(_) => Look {
                transfers: 0,
                total: 0,
            },
        };
        let end = Sample::new(seconds, &processes, end);
        Ok(Phase {
            locked,
            seconds,
            operations_per_second: ((end.transfers + end.audits) as f64 / seconds) as u64,
            money_before: money,
            event,
            end,
            samples,
            processes,
        })
    }
}

/// The place of locks on files beside the ledger.
fn beside_the_ledger(directory: &Path) -> Result<Grant> {
    let space =
        Lockspace::open_ambient(directory).context("cannot open the directory of the ledger")?;
    Ok(space.grant())
}
