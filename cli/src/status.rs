//! `clasp status`: who holds locks, and who waits for them.

use crate::{
    holders::{self, FileId, Found, Hold, Use, Wait},
    output::{self, say},
};
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use std::{
    fmt::Write as _,
    io::{self, ErrorKind, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{self, Sender},
    thread,
    time::Duration,
};

#[derive(Args)]
#[command(after_help = "\
`clasp status` reads /proc and takes no lock, so it costs the processes that use the locks \
nothing. It needs root to inspect processes of other users. Without root it reports their locks \
but not their names, and it cannot see all of their waits.

Programs that wait in the kernel have no order. The hosts of clasp that wait are listed in the \
order in which they will get the lock. Each user has an order of its own; root sees those of all \
users, one after the other. For hosts that were started with --order-dir, pass the same \
directory.

Exit status: 0, and 1 if a path does not exist or the processes cannot be read.")]
pub(crate) struct Status {
    /// Print JSON, on one line for each look with --watch
    #[arg(long)]
    json: bool,

    /// Look again every second, until Ctrl-C, or q and Enter
    #[arg(long)]
    watch: bool,

    /// Directory in which the hosts keep their order; the default is that of this user
    #[arg(long, value_name = "DIR", env = "CLASP_ORDER_DIR")]
    order_dir: Option<PathBuf>,

    /// A lock file, or a directory whose files are looked at; directories in it are not
    /// entered
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
}

/// What is printed for one file.
#[derive(Serialize)]
struct Row {
    #[serde(serialize_with = "text")]
    path: PathBuf,
    #[serde(flatten)]
    used: Use,
}

/// A path may be other than UTF-8, which JSON cannot be.
fn text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// What is printed at one time.
#[derive(Serialize)]
struct Report {
    files: Vec<Row>,
    /// Paths that do not exist.
    #[serde(skip)]
    missing: Vec<PathBuf>,
    /// Processes that this user may not inspect.
    hidden_processes: usize,
    /// Whether a lock that is not listed is not held.
    complete: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(directory) = &self.order_dir {
            clasp_host::set_order_directory(directory)
                .with_context(|| format!("cannot open {}", directory.display()))?;
        }
        if !self.watch {
            let report = self.report()?;
            output::print(self.text(&report)?)?;
            for path in &report.missing {
                say!("{} does not exist", output::path(path));
            }
            return Ok(match report.missing.is_empty() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            });
        }
        let clears = io::stdout().is_terminal() && !self.json;
        let (quit, quits) = mpsc::channel();
        // In the background, reading from the terminal would stop the process.
        if clears && io::stdin().is_terminal() {
            wait_for_key(quit.clone());
        }
        loop {
            let text = self.text(&self.report()?)?;
            let screen = match clears {
                true => format!("\x1b[H\x1b[2J{text}\nq and Enter, or Ctrl-C, to quit\n"),
                false => text,
            };
            if !output::print(screen)? {
                return Ok(ExitCode::SUCCESS);
            }
            if quits.recv_timeout(Duration::from_secs(1)).is_ok() {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    fn report(&self) -> Result<Report> {
        let mut files: Vec<(PathBuf, FileId, bool)> = Vec::new();
        let mut missing = Vec::new();
        for path in &self.paths {
            let cannot = || format!("cannot look at {}", output::path(path));
            let id = match FileId::of(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    missing.push(path.clone());
                    continue;
                }
                id => id.with_context(cannot)?,
            };
            if path.is_dir() {
                let inside = holders::files_in(path).with_context(cannot)?;
                files.extend(inside.into_iter().map(|(path, id)| (path, id, false)));
            }
            files.push((path.clone(), id, !path.is_dir()));
        }
        let ids = files.iter().map(|(path, id, _)| (*id, path.as_path()));
        let found = holders::search(ids).context("cannot read /proc")?;
        let complete = found.is_complete();
        let Found {
            files: uses,
            hidden,
        } = found;
        let rows = files.into_iter().filter_map(|(path, id, named)| {
            let used = uses.get(&id)?.clone();
            // In a directory, only files that are locked are of interest.
            (named || !used.is_free()).then_some(Row { path, used })
        });
        Ok(Report {
            files: rows.collect(),
            missing,
            hidden_processes: hidden,
            complete,
        })
    }

    fn text(&self, report: &Report) -> Result<String> {
        if self.json {
            return Ok(match self.watch {
                true => serde_json::to_string(report)?,
                false => serde_json::to_string_pretty(report)?,
            } + "\n");
        }
        let mut text = String::new();
        let (none, free) = match report.complete {
            true => ("no file is locked here", "free"),
            false => ("no lock is seen", "no lock is seen"),
        };
        if report.files.is_empty() && report.missing.is_empty() {
            writeln!(text, "{none}")?;
        }
        for Row { path, used } in &report.files {
            writeln!(text, "{}", output::path(path))?;
            if used.is_free() {
                writeln!(text, "  {free}")?;
            }
            for line in held(&used.holders) {
                writeln!(text, "  held       {line}")?;
            }
            for (place, wait) in used.queue.iter().enumerate() {
                writeln!(text, "  queue {:<4} {}", place + 1, waits(wait))?;
            }
            for wait in &used.waiters {
                writeln!(text, "  waits      {}", waits(wait))?;
            }
            if used.is_mixed() {
                writeln!(
                    text,
                    "  warning    flock and fcntl locks do not exclude each other; hosts that \
                     are granted family=both take both"
                )?;
            }
        }
        if self.watch {
            for path in &report.missing {
                writeln!(text, "{}\n  missing", output::path(path))?;
            }
        }
        if let Some(hidden) = holders::about_hidden(report.hidden_processes) {
            writeln!(text, "{hidden}")?;
        }
        Ok(text)
    }
}

/// Reports when the user has pressed q and Enter.
fn wait_for_key(quit: Sender<()>) {
    thread::spawn(move || {
        let mut line = String::new();
        while io::stdin()
            .read_line(&mut line)
            .is_ok_and(|length| length > 0)
        {
            if line.trim().eq_ignore_ascii_case("q") {
                let _ = quit.send(());
                return;
            }
            line.clear();
        }
    });
}

/// A line for each process and mode: a lock of the family `both` is two native locks.
fn held(holds: &[Hold]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for hold in holds {
        let process = match &hold.process {
            Some(process) => process.to_string(),
            None => "a process that this user may not inspect".into(),
        };
        let holder = format!("{:<10} {process}", hold.mode.to_string());
        let how = match hold.end {
            _ if hold.is_whole_file() => hold.kind.to_string(),
            Some(end) => format!("{}, bytes {} to {end}", hold.kind, hold.start),
            None => format!("{}, bytes from {}", hold.kind, hold.start),
        };
        match lines.iter_mut().find(|(other, _)| *other == holder) {
            Some((_, all)) => all.push(how),
            None => lines.push((holder, vec![how])),
        }
    }
    let lines = lines.into_iter();
    lines
        .map(|(holder, how)| format!("{holder} ({})", how.join("; ")))
        .collect()
}

fn waits(wait: &Wait) -> String {
    let process = match &wait.process {
        Some(process) => process.to_string(),
        None => "a process that the kernel does not name".into(),
    };
    let mode = wait
        .mode
        .map_or_else(|| "?".into(), |mode| mode.to_string());
    format!("{mode:<10} {process}")
}
