//! `clasp demo`: many processes move money between the accounts of one ledger
//! file, first without locks, then with.

mod report;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use report::{Phase, Process, Report};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

/// How much longer than asked a process may take before it is given up:
/// compiling the guest and a slow machine are in it.
const GRACE: Duration = Duration::from_secs(60);

/// The ledger guest; empty if it was not there when this program was built.
const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ledger.wasm"));

const ACCOUNTS: u64 = 16;
const BALANCE: u64 = 1000;

#[derive(Args)]
pub(crate) struct Demo {
    /// Another guest instead of the one in this program, which is
    /// `examples/guests/src/bin/ledger.rs`
    #[arg(long, value_name = "LEDGER.wasm")]
    guest: Option<PathBuf>,

    /// A Python with fasteners, which joins in
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,

    /// Seconds with and seconds without locks
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
        let phases = [self.phase(&guest, false)?, self.phase(&guest, true)?];
        if self.json {
            println!("{}", serde_json::to_string_pretty(&phases)?);
        } else {
            for phase in &phases {
                print!("{phase}");
            }
        }
        let clean = phases[1].is_clean();
        if !clean {
            eprintln!("clasp: with locks an update or money was lost; this is a bug of clasp");
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
        ensure!(
            !GUEST.is_empty(),
            "this `clasp` was built without the guest of the demo; in a clone of the repository, \
             run `cargo xtask demo`, or pass the guest with --guest"
        );
        let guest = directory.join("ledger.wasm");
        fs::write(&guest, GUEST).context("cannot write the guest")?;
        Ok(guest)
    }

    fn phase(&self, guest: &Path, locked: bool) -> Result<Phase> {
        let directory = tempfile::tempdir().context("cannot make a directory for the ledger")?;
        let create = [ACCOUNTS, BALANCE].map(|n| n.to_string());
        let create = ["create", "data/ledger", &create[0], &create[1]];
        finish(&mut self.clasp(guest, directory.path(), &create)?)?;

        let title = if locked {
            "with locks"
        } else {
            "without locks"
        };
        let progress = ProgressBar::new_spinner();
        progress.set_style(ProgressStyle::with_template("{spinner} {prefix}: {msg}")?);
        progress.set_prefix(title);
        if progress.is_hidden() {
            eprintln!("{title}: {} seconds", self.seconds);
        }
        let processes = self.start(guest, directory.path(), locked)?;
        let processes = self.watch(processes, &progress)?;
        progress.finish_and_clear();

        let totals =
            finish(&mut self.clasp(guest, directory.path(), &["total", "data/ledger"])?)?;
        let totals = serde_json::from_str(&totals).context("the ledger is damaged")?;
        Ok(Phase::new(
            locked,
            self.seconds,
            processes,
            totals,
            ACCOUNTS * BALANCE,
        ))
    }

    /// `clasp run` of the guest in a process of its own.
    fn clasp(&self, guest: &Path, directory: &Path, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        let grant = format!("{}::data", directory.display());
        command
            .args(["run", "--dir", &grant, "--locks", &grant])
            .arg(guest)
            .args(arguments);
        Ok(command)
    }

    fn start(
        &self,
        guest: &Path,
        directory: &Path,
        locked: bool,
    ) -> Result<Vec<(String, Running)>> {
        let seconds = self.seconds.to_string();
        let total = (ACCOUNTS * BALANCE).to_string();
        let mut processes = Vec::new();
        let mut start = |name: String, command: &mut Command| -> Result<()> {
            let child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot start {name}"))?;
            processes.push((name, Running(child)));
            Ok(())
        };
        for role in ["move", "audit"] {
            let (count, name) = match role {
                "move" => (self.movers, "mover"),
                _ => (self.auditors, "auditor"),
            };
            for number in 1..=count {
                let seed = number.to_string();
                let last = if role == "move" { &seed } else { &total };
                let mut command =
                    self.clasp(guest, directory, &[role, "data/ledger", &seconds, last])?;
                if locked {
                    command.arg("locked");
                }
                start(format!("{name} {number}"), &mut command)?;
            }
        }
        if let Some(python) = &self.python {
            let script = directory.join("teller.py");
            fs::write(&script, include_str!("teller.py"))?;
            let mut command = Command::new(python);
            command.arg(script).arg(directory.join("ledger"));
            command.args([
                seconds.as_str(),
                "99",
                if locked { "locked" } else { "free" },
            ]);
            start("fasteners".into(), &mut command)?;
        }
        Ok(processes)
    }

    /// Collects the reports of all processes.
    fn watch(
        &self,
        mut running: Vec<(String, Running)>,
        progress: &ProgressBar,
    ) -> Result<Vec<Process>> {
        let (send, reports) = mpsc::channel();
        for (at, (_, process)) in running.iter_mut().enumerate() {
            let Some(output) = process.0.stdout.take() else {
                bail!("a process has no output");
            };
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if let Ok(report) = serde_json::from_str::<Report>(&line) {
                        // The demo listens no more if another process has failed.
                        let _ = send.send((at, report));
                    }
                }
            });
        }
        drop(send);
        let end = Instant::now() + Duration::from_secs_f64(self.seconds) + GRACE;
        let mut last = vec![Report::default(); running.len()];
        loop {
            match reports.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok((at, report)) => last[at] = report,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("a process does not come to an end"),
            }
            let operations: u64 = last.iter().map(|r| r.operations).sum();
            progress.set_message(format!("{operations} operations"));
            progress.tick();
        }
        let mut processes = Vec::new();
        for ((name, mut process), report) in running.into_iter().zip(last) {
            let status = process.0.wait()?;
            ensure!(status.success(), "{name} failed: {status}");
            ensure!(report.is_final(), "{name} ended without a result");
            processes.push(Process { name, report });
        }
        Ok(processes)
    }
}

/// A process that does not outlive the demo.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the demo failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a short process to its end; answers what it printed.
fn finish(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the ledger guest failed: {}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
