//! Starting the processes of a comparison.

use crate::turns::{self, Turn, now};
use anyhow::{Context, Result, ensure};
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
};

/// Who competes: a way of `contend.rs`, or a Python library.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) way: String,
    python: Option<PathBuf>,
}

impl Who {
    pub(crate) fn way(way: &str) -> Who {
        Who {
            way: way.into(),
            python: None,
        }
    }

    pub(crate) fn python(library: &str, python: &Path) -> Who {
        Who {
            way: library.into(),
            python: Some(python.into()),
        }
    }

    pub(crate) fn is_python(&self) -> bool {
        self.python.is_some()
    }

    fn command(&self, task: &str, lock: &Path, exclusive: bool) -> Result<Command> {
        let mode = if exclusive { "exclusive" } else { "shared" };
        let mut command = match &self.python {
            Some(python) => {
                let mut command = Command::new(python);
                command.args(["-c", include_str!("peers.py"), &self.way]);
                command
            }
            None => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["contend", &self.way]);
                command
            }
        };
        command.arg(task).arg(lock).arg(mode);
        Ok(command)
    }

    /// Nanoseconds that a pair of acquire and release takes.
    pub(crate) fn pair(&self, lock: &Path, exclusive: bool, count: u32) -> Result<f64> {
        let mut command = self.command("pairs", lock, exclusive)?;
        let printed = output(command.arg(count.to_string()))?;
        Ok(printed.trim().parse::<f64>()? / f64::from(count))
    }
}

/// What a program prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// One competitor, and how it behaves. Times are microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Competitor {
    pub(crate) who: Who,
    pub(crate) exclusive: bool,
    pub(crate) hold: u64,
    pub(crate) pause: u64,
}

/// A process that ends with this.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has them compete for so many seconds; answers the turns of each.
pub(crate) fn compete(
    competitors: &[Competitor],
    lock: &Path,
    seconds: f64,
) -> Result<Vec<Vec<Turn>>> {
    let mut running = Vec::new();
    for competitor in competitors {
        let mut command = competitor
            .who
            .command("compete", lock, competitor.exclusive)?;
        for time in [competitor.hold, competitor.pause] {
            command.arg((time * 1000).to_string());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().context("piped")?);
        running.push(Running { child, output });
    }
    for process in &mut running {
        let mut line = String::new();
        process.output.read_line(&mut line)?;
        ensure!(line == "ready\n", "a process did not start: {line:?}");
    }
    let until = now() + (seconds * 1e9) as u64;
    for process in &mut running {
        let mut input = process.child.stdin.take().context("piped")?;
        writeln!(input, "{until}")?;
    }
    // All at once: a full pipe would keep a process from ending.
    let readers: Vec<_> = running
        .into_iter()
        .map(|mut process| thread::spawn(move || turns::read(&mut process.output)))
        .collect();
    readers
        .into_iter()
        .map(|reader| reader.join().map_err(|_| anyhow::anyhow!("a reader"))?)
        .collect()
}
