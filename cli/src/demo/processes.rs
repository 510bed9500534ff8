//! The processes of the demo: starting them, and collecting what they report.

use super::{
    Demo, With,
    guest::Guest,
    ledger::{Ledger, Look},
    live::Live,
    result::{Process, Report, Sample},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

/// How long after its end a process may still run. Compiling the guest takes a part of it.
const GRACE: Duration = Duration::from_secs(60);

/// The time between two samples.
const STEP: Duration = Duration::from_millis(100);

/// Processes at work on one ledger.
pub(super) struct Processes {
    known: Vec<Process>,
    running: Vec<Running>,
}

/// A process that ends with the demo.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the demo failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Processes {
    pub(super) fn start(demo: &Demo, guest: &Guest, locked: bool, money: u64) -> Result<Processes> {
        let mut processes = Processes {
            known: Vec::new(),
            running: Vec::new(),
        };
        let seconds = demo.seconds().to_string();
        for (role, name, count) in [
            ("move", "mover", demo.movers),
            ("audit", "auditor", demo.auditors),
        ] {
            let audits = role == "audit";
            for number in 1..=count {
                // A mover has a seed for its choice of accounts.
                let last = if audits { money } else { number.into() };
                let last = last.to_string();
                let mut command = guest.command(&[role, "data/ledger", &seconds, &last])?;
                if locked {
                    command.arg("locked");
                }
                processes.add(format!("{name} {number}"), audits, &mut command)?;
            }
        }
        if let Some(python) = &demo.python {
            let (name, text) = match demo.with {
                With::File => ("fasteners (Python)", include_str!("teller.py")),
                With::Sqlite => ("sqlite3 (Python)", include_str!("teller_sqlite.py")),
            };
            let directory = &guest.directory;
            let script = directory.join("teller.py");
            fs::write(&script, text)?;
            let mut command = Command::new(python);
            command.arg(script).arg(directory.join("ledger"));
            command.args([
                seconds.as_str(),
                "99",
                if locked { "locked" } else { "free" },
            ]);
            processes.add(name.into(), false, &mut command)?;
        }
        Ok(processes)
    }

    fn add(&mut self, name: String, audits: bool, command: &mut Command) -> Result<()> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.running.push(Running(child));
        let report = Report::default();
        self.known.push(Process {
            name,
            audits,
            report,
        });
        Ok(())
    }

    /// Shows their progress until they have ended; answers their results and the samples.
    /// Calls `midway` when half of the time is over.
    pub(super) fn watch(
        mut self,
        ledger: &mut Ledger,
        mut last: Look,
        seconds: f64,
        live: &Live,
        mut midway: impl FnMut() -> Result<()>,
    ) -> Result<(Vec<Process>, Vec<Sample>)> {
        let (send, reports) = mpsc::channel();
        for (at, process) in self.running.iter_mut().enumerate() {
            let output = process.0.stdout.take().context("a process has no output")?;
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if let Ok(report) = serde_json::from_str::<Report>(&line) {
                        // The demo does not listen any more if another process has failed.
                        let _ = send.send((at, report));
                    }
                }
            });
        }
        drop(send);
        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(seconds) + GRACE;
        let mut samples = Vec::new();
        let mut next = begun;
        let mut first_half = true;
        loop {
            match reports.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok((at, report)) => self.known[at].report = report,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= end => {
                    bail!("a process does not end")
                }
                Err(RecvTimeoutError::Timeout) => {
                    // A line that is no number is seen for a moment only, without locks.
                    last = ledger.look().unwrap_or(last);
                    let at = begun.elapsed().as_secs_f64();
                    if first_half && at >= seconds / 2.0 {
                        first_half = false;
                        midway()?;
                    }
                    let sample = Sample::new(at, &self.known, last);
                    live.show(&sample);
                    samples.push(sample);
                    next += STEP;
                }
            }
        }
        for (process, running) in self.known.iter().zip(&mut self.running) {
            let Process { name, report, .. } = process;
            let status = running.0.wait()?;
            ensure!(status.success(), "{name} failed: {status}");
            ensure!(report.is_final(), "{name} ended without a result");
        }
        Ok((self.known, samples))
    }
}
