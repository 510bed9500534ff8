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
    /// Another version of this program.
    program: Option<PathBuf>,
}

impl Who {
    pub(crate) fn way(way: &str) -> Who {
        Who {
            way: way.into(),
            python: None,
            program: None,
        }
    }

    /// The same way, of another version of this program.
    pub(crate) fn of(&self, program: &Path) -> Who {
        Who {
            program: Some(program.into()),
            ..self.clone()
        }
    }

    pub(crate) fn python(library: &str, python: &Path) -> Who {
        Who {
            way: library.into(),
            python: Some(python.into()),
            program: None,
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
                let mut command = Command::new(self.program()?);
                command.args(["contend", &self.way]);
                command
            }
        };
        command.arg(task).arg(lock).arg(mode);
        Ok(command)
    }

    fn program(&self) -> Result<PathBuf> {
        Ok(match &self.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        })
    }

    /// Instructions that a pair takes in user space; `None` without `valgrind`.
    pub(crate) fn instructions(&self, lock: &Path) -> Result<Option<f64>> {
        let run = |count: u32| -> Result<Option<f64>> {
            let mut command = Command::new("valgrind");
            command
                .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
                .arg(self.program()?)
                .args(["contend", &self.way, "pairs"])
                .arg(lock)
                .args(["exclusive", &count.to_string()]);
            let Ok(output) = command.output() else {
                return Ok(None);
            };
            ensure!(output.status.success(), "{command:?}: {}", output.status);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            let collected = told
                .lines()
                .find_map(|line| line.split("Collected : ").nth(1));
            let collected = collected.context("valgrind tells no count")?;
            Ok(Some(collected.trim().parse()?))
        };
        // The first run compiles the guest, which the others find in a cache. What
        // starting takes besides is in both.
        run(1)?;
        let (few, many) = (1_000, 5_000);
        let (Some(less), Some(more)) = (run(few)?, run(many)?) else {
            return Ok(None);
        };
        Ok(Some((more - less) / f64::from(many - few)))
    }

    /// Nanoseconds that a pair of acquire and release takes.
    pub(crate) fn pair(&self, lock: &Path, exclusive: bool, count: u32) -> Result<f64> {
        let mut command = self.command("pairs", lock, exclusive)?;
        let printed = output(command.arg(count.to_string()))?;
        Ok(printed.trim().parse::<f64>()? / f64::from(count))
    }

    /// Nanoseconds that a step adds to such a pair.
    pub(crate) fn step(&self, lock: &Path, exclusive: bool, step: &str, count: u32) -> Result<f64> {
        let pair = self.pair(lock, exclusive, count)?;
        let mut command = self.command("pairs", lock, exclusive)?;
        command.arg(count.to_string()).args(["--step", step]);
        Ok(output(&mut command)?.trim().parse::<f64>()? / f64::from(count) - pair)
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
