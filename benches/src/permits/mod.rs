//! Semaphores: clasp beside a pool of lock files, natively and by portalocker, which polls. A
//! report of its own, since what it compares has nothing in common with the other one.

mod pool;
mod report;

pub(crate) use pool::Pool;

use crate::{
    machine::Machine,
    processes::{Competitor, Who, compete},
    statistics::{hand_overs, median, quantile},
    turns::Turn,
};
use anyhow::Result;
use serde::Serialize;
use std::{fs, path::PathBuf};

/// How many permits the semaphores have.
const PERMITS: [u8; 4] = [1, 4, 16, 64];

/// How long a holder has its permit in a hand-over, in microseconds: long enough for the other
/// to wait in the kernel.
const HOLD: u64 = 400;

pub(crate) struct Settings {
    pub(crate) out: PathBuf,
    pub(crate) python: Option<PathBuf>,
    pub(crate) quick: bool,
}

/// All that was found in one run.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    quick: bool,
    pairs: Vec<Pair>,
    wakes: Vec<Wake>,
    turns: Vec<Turns>,
}

/// Acquire and release of a permit that nobody else wants.
#[derive(Debug, Serialize)]
struct Pair {
    way: String,
    permits: u8,
    nanoseconds: f64,
    /// Of the exclusive lock of the engine, in the same round.
    ratio: f64,
}

/// From the release of a permit to the turn of a waiting process. Times are microseconds.
#[derive(Debug, Serialize)]
struct Wake {
    way: String,
    permits: u8,
    samples: usize,
    p50: f64,
    p99: f64,
    /// Of the p50 of the exclusive lock of the engine, in the same rounds.
    ratio: f64,
}

/// Processes that request permits continuously. Waits are microseconds.
#[derive(Debug, Serialize)]
struct Turns {
    way: String,
    permits: u8,
    per_second: f64,
    wait_p50: f64,
    wait_p99: f64,
    fewest: usize,
    most: usize,
    /// How many had a permit at the same time, at most.
    at_once: usize,
}

pub(crate) fn run(settings: &Settings) -> Result<()> {
    fs::create_dir_all(&settings.out)?;
    let program = std::env::current_exe()?;
    // On a disk, as lock files are, rather than in memory.
    let directory = tempfile::tempdir_in(program.parent().unwrap_or(&settings.out))?;
    let run = Run {
        settings,
        directory,
    };
    let results = Results {
        machine: Machine::this(run.directory.path()),
        quick: settings.quick,
        pairs: run.pairs()?,
        wakes: run.wakes()?,
        turns: run.turns()?,
    };
    let mut json = serde_json::to_string_pretty(&results)?;
    json.push('\n');
    fs::write(settings.out.join("semaphores.json"), json)?;
    let text = report::text(&results)?;
    println!("{text}");
    fs::write(settings.out.join("semaphores.md"), text)?;
    Ok(())
}

struct Run<'a> {
    settings: &'a Settings,
    directory: tempfile::TempDir,
}

/// The exclusive lock with which permits are compared.
const LOCK: &str = "engine-posix-fair";

impl Run<'_> {
    /// A path that no measurement before has used.
    fn path(&self) -> Result<PathBuf> {
        let file = tempfile::Builder::new()
            .prefix("permits-")
            .tempfile_in(&self.directory)?;
        Ok(file.keep()?.1)
    }

    fn seconds(&self, seconds: f64) -> f64 {
        if self.settings.quick { 0.2 } else { seconds }
    }

    fn rounds(&self) -> usize {
        if self.settings.quick { 1 } else { 5 }
    }

    /// Those that take `count` of `permits`.
    fn ways(&self, permits: u8, count: u8) -> Vec<Who> {
        let of = |way: &str| format!("{way}-{permits}-{count}");
        let mut ways = vec![Who::way(&of("permits")), Who::way(&of("pool"))];
        if let Some(python) = &self.settings.python {
            ways.push(Who::python(&of("portalocker"), python));
        }
        ways
    }

    fn pairs(&self) -> Result<Vec<Pair>> {
        let count = if self.settings.quick { 2_000 } else { 50_000 };
        let mut found = Vec::new();
        for permits in PERMITS {
            let mut ways = vec![Who::way(LOCK)];
            ways.extend(self.ways(permits, 1));
            let mut times = vec![Vec::new(); ways.len()];
            let path = self.path()?;
            let lock = self.path()?;
            for _ in 0..self.rounds() {
                for (at, (who, times)) in ways.iter().zip(&mut times).enumerate() {
                    let count = if who.is_python() { count / 50 } else { count };
                    let path = if at == 0 { &lock } else { &path };
                    times.push(who.pair(path, true, count)?);
                }
            }
            for (who, own) in ways.iter().zip(&times) {
                let ratios = own.iter().zip(&times[0]).map(|(own, lock)| own / lock);
                found.push(Pair {
                    way: way(who),
                    permits,
                    ratio: median(ratios.collect()),
                    nanoseconds: median(own.clone()),
                });
                eprintln!("{:?}", found.last());
            }
        }
        Ok(found)
    }

    /// One process has all permits but one for the whole time, one releases the last again and
    /// again, and one waits for it.
    fn wakes(&self) -> Result<Vec<Wake>> {
        let mut found = Vec::new();
        for permits in PERMITS {
            let rest = permits - 1;
            let mut ways = vec![(Who::way(LOCK), None)];
            let holders = self.ways(permits, rest).into_iter();
            for (who, holds) in self.ways(permits, 1).into_iter().zip(holders) {
                ways.push((who, (rest > 0).then_some(holds)));
            }
            let mut samples = vec![Vec::new(); ways.len()];
            for _ in 0..self.rounds() {
                for ((who, holds), samples) in ways.iter().zip(&mut samples) {
                    let seconds = self.seconds(if who.is_python() { 5.0 } else { 2.0 });
                    let competitor = |who: &Who, hold, pause| Competitor {
                        who: who.clone(),
                        exclusive: true,
                        hold,
                        pause,
                    };
                    // The waiter asks at any time of the holder's turn.
                    let mut all = vec![competitor(who, HOLD, 0), competitor(who, 0, 170)];
                    if let Some(holds) = holds {
                        // It begins first, and holds until all have ended.
                        let whole = (seconds * 1e6) as u64 + 1_000_000;
                        all.insert(0, competitor(holds, whole, 0));
                    }
                    let logs = compete(&all, &self.path()?, seconds)?;
                    let (rest, [holder, waiter]) = logs.split_at(logs.len() - 2) else {
                        anyhow::bail!("two have competed");
                    };
                    // Before that, there was another permit to be had.
                    let full = rest.iter().flatten().map(|turn| turn.got).next();
                    let since = waiter.partition_point(|t| full.is_some_and(|at| t.asked < at));
                    samples.extend(hand_overs(holder, &waiter[since..]));
                }
            }
            let sorted = samples.iter_mut().map(|samples| {
                samples.sort_unstable();
                &*samples
            });
            let sorted: Vec<_> = sorted.collect();
            let lock = quantile(sorted[0], 0.5) as f64;
            for ((who, _), samples) in ways.iter().zip(sorted) {
                let p50 = quantile(samples, 0.5) as f64;
                found.push(Wake {
                    way: way(who),
                    permits,
                    samples: samples.len(),
                    p50: p50 / 1e3,
                    p99: quantile(samples, 0.99) as f64 / 1e3,
                    ratio: p50 / lock,
                });
                eprintln!("{:?}", found.last());
            }
        }
        Ok(found)
    }

    /// More processes than permits, each of which has one for a while.
    fn turns(&self) -> Result<Vec<Turns>> {
        const PROCESSES: usize = 16;
        let mut found = Vec::new();
        for permits in [1, 4] {
            let mut ways = self.ways(permits, 1);
            if permits == 1 {
                ways.insert(0, Who::way(LOCK));
            }
            for who in ways {
                let competitor = Competitor {
                    who: who.clone(),
                    exclusive: true,
                    hold: 2_000,
                    pause: 0,
                };
                let all = vec![competitor; PROCESSES];
                let logs = compete(&all, &self.path()?, self.seconds(8.0))?;
                found.push(turns(way(&who), permits, &logs));
                eprintln!("{:?}", found.last());
            }
        }
        Ok(found)
    }
}

/// The name without the numbers.
fn way(who: &Who) -> String {
    match who.way.split_once('-') {
        Some((name @ ("permits" | "pool" | "portalocker"), _)) => name.into(),
        _ => who.way.clone(),
    }
}

fn turns(way: String, permits: u8, logs: &[Vec<Turn>]) -> Turns {
    let all = || logs.iter().flatten();
    let begin = all().map(|turn| turn.asked).min().unwrap_or(0);
    let end = all().map(|turn| turn.left).max().unwrap_or(0);
    let mut waits: Vec<u64> = all().map(|turn| turn.got - turn.asked).collect();
    waits.sort_unstable();
    let of_each = || logs.iter().map(Vec::len);
    Turns {
        way,
        permits,
        per_second: waits.len() as f64 * 1e9 / (end - begin).max(1) as f64,
        wait_p50: quantile(&waits, 0.5) as f64 / 1e3,
        wait_p99: quantile(&waits, 0.99) as f64 / 1e3,
        fewest: of_each().min().unwrap_or(0),
        most: of_each().max().unwrap_or(0),
        at_once: at_once(logs),
    }
}

/// How many turns there were at the same time, at most.
fn at_once(logs: &[Vec<Turn>]) -> usize {
    let turns = logs.iter().flatten();
    let mut steps: Vec<(u64, i32)> = turns
        .flat_map(|turn| [(turn.got, 1), (turn.left, -1)])
        .collect();
    // Of the same time, ends come first.
    steps.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, step) in steps {
        now += step;
        most = most.max(now);
    }
    most.unsigned_abs() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_at_the_same_time_are_counted() {
        let turn = |got, left| Turn {
            asked: 0,
            got,
            left,
        };
        assert_eq!(at_once(&[vec![turn(1, 5), turn(5, 9)]]), 1);
        assert_eq!(
            at_once(&[vec![turn(1, 5)], vec![turn(2, 3), turn(4, 9)]]),
            2
        );
    }
}
