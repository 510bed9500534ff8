//! What the processes of the demo tell, and the table made of it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A line of a process: progress, or with waits its result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) operations: u64,
    #[serde(default)]
    wrong: u64,
    median_wait_us: Option<u64>,
    worst_wait_us: Option<u64>,
}

impl Report {
    pub(super) fn is_final(&self) -> bool {
        self.median_wait_us.is_some()
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) report: Report,
}

impl Process {
    fn is_auditor(&self) -> bool {
        self.name.starts_with("auditor")
    }
}

/// What the ledger says in the end.
#[derive(Debug, Deserialize)]
pub(super) struct Totals {
    transfers: u64,
    total: u64,
}

/// The result of one half of the demo.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    locked: bool,
    seconds: f64,
    operations: u64,
    transfers: u64,
    lost_updates: u64,
    audits: u64,
    wrong_audits: u64,
    money_before: u64,
    money_after: u64,
    operations_per_second: u64,
    processes: Vec<Process>,
}

impl Phase {
    pub(super) fn new(
        locked: bool,
        seconds: f64,
        processes: Vec<Process>,
        totals: Totals,
        money: u64,
    ) -> Phase {
        let sum = |of: &dyn Fn(&Process) -> u64| processes.iter().map(of).sum::<u64>();
        let operations = sum(&|p| p.report.operations);
        let audits = sum(&|p| {
            if p.is_auditor() {
                p.report.operations
            } else {
                0
            }
        });
        let transfers = operations - audits;
        Phase {
            locked,
            seconds,
            operations,
            transfers,
            lost_updates: transfers.saturating_sub(totals.transfers),
            audits,
            wrong_audits: sum(&|p| p.report.wrong),
            money_before: money,
            money_after: totals.total,
            operations_per_second: (operations as f64 / seconds) as u64,
            processes,
        }
    }

    /// No update was lost, and no process saw a wrong value.
    pub(super) fn is_clean(&self) -> bool {
        self.lost_updates == 0 && self.wrong_audits == 0 && self.money_before == self.money_after
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, unit) = if self.locked {
            ("With locks", "locks")
        } else {
            ("Without locks", "operations")
        };
        writeln!(f, "\n{title}, {} seconds", self.seconds)?;
        writeln!(
            f,
            "  {:<28}{:>9}",
            format!("{unit} per second"),
            self.operations_per_second
        )?;
        for (name, value, of) in [
            ("lost updates", self.lost_updates, self.transfers),
            ("audits with a wrong total", self.wrong_audits, self.audits),
        ] {
            writeln!(f, "  {name:<28}{value:>9} of {of}")?;
        }
        writeln!(
            f,
            "  {:<28}{:>9} of {}",
            "money left", self.money_after, self.money_before
        )?;
        writeln!(
            f,
            "  {:<12}{:>12}{:>16}{:>16}",
            "process", "operations", "median wait", "worst wait"
        )?;
        for Process { name, report } in &self.processes {
            let millis = |us: Option<u64>| format!("{:.2} ms", us.unwrap_or(0) as f64 / 1e3);
            writeln!(
                f,
                "  {name:<12}{:>12}{:>16}{:>16}",
                report.operations,
                millis(report.median_wait_us),
                millis(report.worst_wait_us)
            )?;
        }
        Ok(())
    }
}
