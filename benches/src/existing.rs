//! Programs in C that call `fcntl`, as guests of `clasp run` and natively.

use crate::{results::Existing, statistics::median};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// What is compared: `benches/guest/c/existing.c`, twice.
pub(crate) struct Programs<'a> {
    pub(crate) clasp: &'a Path,
    pub(crate) guest: &'a Path,
    pub(crate) native: &'a Path,
}

/// A process of a comparison.
#[derive(Debug, Clone, Copy)]
enum Who {
    Native,
    /// A guest, with a VFS of SQLite.
    Guest(&'static str),
}

use Who::{Guest, Native};

/// Processes, and what they are called.
type Ways = [(&'static str, &'static [Who])];

const ALONE: &Ways = &[
    ("native", &[Native]),
    ("guest without locks (`unix-none`)", &[Guest("unix-none")]),
    ("guest", &[Guest("unix")]),
    ("guest, `unix-dotfile`", &[Guest("unix-dotfile")]),
];

const TOGETHER: &Ways = &[
    ("4 native", &[Native; 4]),
    (
        "2 native, 2 guests",
        &[Native, Guest("unix"), Native, Guest("unix")],
    ),
    ("4 guests", &[Guest("unix"); 4]),
    ("4 guests, `unix-dotfile`", &[Guest("unix-dotfile"); 4]),
];

pub(crate) fn measure(programs: &Programs<'_>, home: &Path, quick: bool) -> Result<Vec<Existing>> {
    let rounds = if quick { 1 } else { 5 };
    let count = |many: usize| if quick { many / 50 } else { many }.to_string();
    let pairs: &Ways = &[("native", &[Native]), ("guest", &[Guest("")])];
    let comparisons: [(&str, &Ways, Vec<String>); 4] = [
        ("a pair of a range", pairs, vec![count(200_000)]),
        (
            "SQLite, one process, `synchronous=OFF`",
            ALONE,
            vec![count(5_000), "OFF".into()],
        ),
        (
            "SQLite, one process, `synchronous=FULL`",
            ALONE,
            vec![count(1_000), "FULL".into()],
        ),
        (
            "SQLite, four processes, `synchronous=OFF`",
            TOGETHER,
            vec![count(2_000), "OFF".into()],
        ),
    ];
    let mut results = Vec::new();
    for (what, ways, options) in comparisons {
        let mut times = vec![Vec::new(); ways.len()];
        for _ in 0..rounds {
            for ((_, processes), times) in ways.iter().zip(&mut times) {
                times.push(run(programs, home, processes, &options)?);
            }
        }
        for ((who, _), of) in ways.iter().zip(&times) {
            let ratios = of.iter().zip(&times[0]).map(|(one, first)| one / first);
            let result = Existing {
                what: what.to_owned(),
                who: (*who).to_owned(),
                microseconds: median(of.clone()) / 1e3,
                ratio: median(ratios.collect()),
            };
            eprintln!("{result:?}");
            results.push(result);
        }
    }
    Ok(results)
}

/// Nanoseconds for one pair or transaction of these processes.
fn run(programs: &Programs<'_>, home: &Path, processes: &[Who], options: &[String]) -> Result<f64> {
    let directory = tempfile::tempdir_in(home)?;
    let directory = directory.path();
    fs::write(directory.join("file"), "")?;
    let mut children = Vec::new();
    for who in processes {
        let (mut command, file, vfs) = match who {
            Native => {
                let file = directory.join("file").display().to_string();
                (Command::new(programs.native), file, "unix")
            }
            Guest(vfs) => {
                let granted = format!("{}::/d", directory.display());
                let mut command = Command::new(programs.clasp);
                command.args(["run", "--dir", &granted, "--locks", &granted]);
                command.arg(programs.guest);
                (command, "/d/file".to_owned(), *vfs)
            }
        };
        match options {
            [count] => command.args(["pairs", &file, count]),
            [count, synchronous, ..] => command.args(["sqlite", &file, count, vfs, synchronous]),
            [] => &mut command,
        };
        children.push(command.stdout(Stdio::piped()).spawn()?);
    }
    let mut longest = 0.0_f64;
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "a process of the comparison failed"
        );
        let text = String::from_utf8(output.stdout)?;
        let each: f64 = text
            .trim()
            .parse()
            .context("the process reports no number")?;
        longest = longest.max(each);
    }
    // Each has made as many; they were done when the last was.
    Ok(longest / processes.len() as f64)
}
