//! What the processes of the demo report, and the table of it.

use super::ledger::Look;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A line that a process prints: its progress, or with waits its result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) operations: u64,
    #[serde(default)]
    pub(super) wrong: u64,
    median_wait_us: Option<u64>,
    worst_wait_us: Option<u64>,
    /// The number of waits by their length: at place n, those of less than 2^n microseconds
    /// that are not in a place before.
    #[serde(default)]
    pub(super) waits: Vec<u64>,
}

impl Report {
    pub(super) fn is_final(&self) -> bool {
        self.median_wait_us.is_some()
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) audits: bool,
    #[serde(flatten)]
    pub(super) report: Report,
}

/// The state at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Sample {
    /// Seconds since the start.
    pub(super) at: f64,
    pub(super) transfers: u64,
    pub(super) audits: u64,
    /// At least so many.
    pub(super) lost_updates: u64,
    pub(super) wrong_audits: u64,
    pub(super) money: u64,
}

impl Sample {
    /// From the last report of each process, and then a look at the ledger. Transfers that
    /// were made meanwhile are in the ledger only, so `lost_updates` is not too high.
    pub(super) fn new(at: f64, processes: &[Process], look: Look) -> Sample {
        let sum = |audits: bool, of: fn(&Report) -> u64| {
            let processes = processes.iter().filter(|p| p.audits == audits);
            processes.map(|p| of(&p.report)).sum::<u64>()
        };
        let transfers = sum(false, |r| r.operations);
        Sample {
            at,
            transfers,
            audits: sum(true, |r| r.operations),
            lost_updates: transfers.saturating_sub(look.transfers),
            wrong_audits: sum(true, |r| r.wrong),
            money: look.total,
        }
    }
}

/// The result of one half of the demo.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub(super) locked: bool,
    pub(super) seconds: f64,
    pub(super) operations_per_second: u64,
    pub(super) money_before: u64,
    /// What has happened to the servers with the locks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<&'static str>,
    /// When all processes had ended.
    pub(super) end: Sample,
    pub(super) samples: Vec<Sample>,
    pub(super) processes: Vec<Process>,
}

impl Phase {
    /// No update was lost, and no process saw a wrong value.
    pub(super) fn is_clean(&self) -> bool {
        let end = &self.end;
        end.lost_updates == 0 && end.wrong_audits == 0 && end.money == self.money_before
    }

    /// What is counted, with its name.
    pub(super) fn rows(&self) -> [(&'static str, String); 4] {
        let end = &self.end;
        let of = |value: u64, all: u64| format!("{value} of {all}");
        [
            (
                "operations per second",
                self.operations_per_second.to_string(),
            ),
            ("lost updates", of(end.lost_updates, end.transfers)),
            (
                "audits with a wrong total",
                of(end.wrong_audits, end.audits),
            ),
            ("money left", of(end.money, self.money_before)),
        ]
    }
}

impl Process {
    /// Median and longest wait.
    pub(super) fn waits(&self) -> [String; 2] {
        [self.report.median_wait_us, self.report.worst_wait_us]
            .map(|us| format!("{:.2} ms", us.unwrap_or(0) as f64 / 1e3))
    }
}

/// Both halves side by side.
pub(super) struct Table<'a>(pub(super) &'a [Phase; 2]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [without, with] = self.0;
        let seconds = format!("{} seconds each", with.seconds);
        writeln!(
            f,
            "{seconds:<28}{:>18}{:>18}",
            "without locks", "with locks"
        )?;
        for ((name, without), (_, with)) in without.rows().into_iter().zip(with.rows()) {
            writeln!(f, "{name:<28}{without:>18}{with:>18}")?;
        }
        if let Some(event) = with.event {
            writeln!(f, "\nIn the half with locks, {event}.")?;
        }
        writeln!(
            f,
            "\n{:<28}{:>12}{:>12}{:>12}",
            "process, with locks", "operations", "median wait", "worst wait"
        )?;
        for process in &with.processes {
            let [median, worst] = process.waits();
            let Process { name, report, .. } = process;
            writeln!(
                f,
                "{name:<28}{:>12}{median:>12}{worst:>12}",
                report.operations
            )?;
        }
        Ok(())
    }
}
