//! The comparisons.

use crate::{
    existing, hung,
    machine::Machine,
    processes::{Competitor, Who, compete, output},
    report,
    results::{
        Contended, Existing, Foreign, HandOver, Hung, InHost, Instructions, Memory, Pair,
        ReadersAndWriter, Results, Start, Step, Waits,
    },
    statistics::{contention, hand_overs, median, quantile},
    wakeup,
};
use anyhow::Result;
use clasp_engine::{Mode, file::Family, testing::native};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

pub(crate) struct Settings {
    pub(crate) out: PathBuf,
    pub(crate) python: Option<PathBuf>,
    pub(crate) start: Option<Vec<PathBuf>>,
    pub(crate) existing: Option<Vec<PathBuf>>,
    pub(crate) quick: bool,
    pub(crate) against: Option<PathBuf>,
    pub(crate) only: Option<String>,
}

/// What `run` goes by.
struct Run<'a> {
    settings: &'a Settings,
    directory: tempfile::TempDir,
}

pub(crate) fn run(settings: &Settings) -> Result<()> {
    fs::create_dir_all(&settings.out)?;
    // On a disk, as lock files are, rather than in memory.
    let program = std::env::current_exe()?;
    let directory = tempfile::tempdir_in(program.parent().unwrap_or(&settings.out))?;
    let run = Run {
        settings,
        directory,
    };
    let results = Results {
        machine: Machine::this(run.directory.path()),
        quick: settings.quick,
        uncontended: run.part("uncontended", Run::uncontended)?,
        spaced: run.part("spaced", Run::spaced)?,
        steps: run.part("steps", Run::steps)?,
        instructions: run.part("instructions", Run::instructions)?,
        hand_over: run.part("hand-over", Run::hand_over)?,
        contention: run.part("contention", Run::contention)?,
        foreign: run.part("foreign", Run::foreign)?,
        readers_and_writer: run.part("readers-and-writer", Run::readers_and_writer)?,
        in_host: run.part("in-host", Run::in_host)?,
        waits: run.part("waits", Run::waits)?,
        hung: run.part("hung", Run::hung)?,
        memory: run.part("memory", Run::memory)?,
        start: run.part("start", Run::start)?.pop(),
        existing: run.part("existing", Run::existing)?,
    };
    report::write(&results, &settings.out)
}

impl Run<'_> {
    fn part<T>(&self, name: &str, part: fn(&Self) -> Result<Vec<T>>) -> Result<Vec<T>> {
        if self
            .settings
            .only
            .as_ref()
            .is_some_and(|only| !name.contains(only.as_str()))
        {
            return Ok(Vec::new());
        }
        eprintln!("==> {name}");
        part(self)
    }

    /// A lock file that no comparison before has used.
    fn lock(&self) -> Result<PathBuf> {
        let lock = tempfile::Builder::new()
            .prefix("lock-")
            .tempfile_in(&self.directory)?;
        let (_, path) = lock.keep()?;
        Ok(path)
    }

    fn peers(&self, libraries: &[&str]) -> Vec<Who> {
        let python = self.settings.python.iter();
        python
            .flat_map(|python| libraries.iter().map(|name| Who::python(name, python)))
            .collect()
    }

    fn seconds(&self, seconds: f64) -> f64 {
        if self.settings.quick { 0.2 } else { seconds }
    }

    fn uncontended(&self) -> Result<Vec<Pair>> {
        let families: [(&str, &[&str], &[&str]); 3] = [
            ("posix", &[], &["fasteners"]),
            ("flock", &["std", "fdlock"], &["filelock", "portalocker"]),
            ("both", &[], &[]),
        ];
        let (rounds, count) = if self.settings.quick {
            (1, 2_000)
        } else {
            (7, 100_000)
        };
        let mut found = Vec::new();
        for (family, rust, python) in families {
            let mut who = vec![Who::way(&format!("native-{family}"))];
            who.extend(rust.iter().map(|way| Who::way(way)));
            for order in ["kernel", "fair"] {
                for way in ["engine", "sync", "async", "tasks"] {
                    who.push(Who::way(&format!("{way}-{family}-{order}")));
                }
            }
            if family == "posix" {
                for way in ["sync", "async"] {
                    who.push(Who::way(&format!("{way}-posix-kernel-plain")));
                }
            }
            who.extend(self.peers(python));
            let lock = self.lock()?;
            let mut times = vec![Vec::new(); who.len()];
            let mut others = vec![Vec::new(); who.len()];
            for _ in 0..rounds {
                for (at, who) in who.iter().enumerate() {
                    let count = if who.is_python() { count / 50 } else { count };
                    times[at].push(who.pair(&lock, true, count)?);
                    if let Some(other) = &self.settings.against
                        && at > 0
                        && !who.is_python()
                    {
                        others[at].push(who.of(other).pair(&lock, true, count)?);
                    }
                }
            }
            let native = median(times[0].clone());
            for (at, who) in who.iter().enumerate() {
                let own = &times[at];
                let ratios = own.iter().zip(&times[0]).map(|(own, native)| own / native);
                let other = (!others[at].is_empty()).then(|| median(others[at].clone()));
                let over = median(own.clone()) - native;
                found.push(Pair {
                    family: family.into(),
                    way: who.way.clone(),
                    nanoseconds: median(own.clone()),
                    ratio: median(ratios.collect()),
                    of_other: other.map(|other| over / (other - native)),
                });
                eprintln!("{:?}", found.last());
            }
        }
        Ok(found)
    }

    /// One process that takes a lock now and then: less often than a tenure lasts.
    fn spaced(&self) -> Result<Vec<Pair>> {
        const PAUSE_US: u64 = 300;
        let ways = [
            "native-posix",
            "sync-posix-kernel",
            "sync-posix-fair",
            "async-posix-kernel",
            "async-posix-fair",
        ];
        let rounds = if self.settings.quick { 1 } else { 5 };
        let mut times = vec![Vec::new(); ways.len()];
        for _ in 0..rounds {
            for (way, times) in ways.iter().zip(&mut times) {
                let competitor = Competitor {
                    who: Who::way(way),
                    exclusive: true,
                    hold: 0,
                    pause: PAUSE_US,
                };
                let logs = compete(&[competitor], &self.lock()?, self.seconds(1.0))?;
                let asked = logs[0].windows(2).map(|two| two[1].asked - two[0].asked);
                let pairs = asked.map(|between| between as f64 - PAUSE_US as f64 * 1e3);
                times.push(median(pairs.collect()));
            }
        }
        let native = times[0].clone();
        Ok(ways
            .iter()
            .zip(times)
            .map(|(way, own)| {
                let ratios = own.iter().zip(&native).map(|(own, native)| own / native);
                let pair = Pair {
                    family: "posix".into(),
                    way: (*way).into(),
                    ratio: median(ratios.collect()),
                    nanoseconds: median(own),
                    of_other: None,
                };
                eprintln!("{pair:?}");
                pair
            })
            .collect())
    }

    fn steps(&self) -> Result<Vec<Step>> {
        let ways = [
            "native-posix",
            "engine-posix-fair",
            "sync-posix-fair",
            "async-posix-fair",
        ];
        let (rounds, count) = if self.settings.quick {
            (1, 2_000)
        } else {
            (9, 50_000)
        };
        let lock = self.lock()?;
        let other = fs::File::open(&lock)?;
        let mut found = Vec::new();
        for (step, exclusive) in [
            ("downgrade", true),
            ("failed-upgrade", false),
            ("token", true),
        ] {
            if step == "failed-upgrade" {
                native::lock(&other, Family::Posix, Mode::Shared)?;
            }
            let mut times = vec![Vec::new(); ways.len()];
            for _ in 0..rounds {
                for (way, times) in ways.iter().zip(&mut times) {
                    times.push(Who::way(way).step(&lock, exclusive, step, count)?);
                }
            }
            native::unlock(&other, Family::Posix)?;
            for (way, own) in ways.iter().zip(&times) {
                let ratios = own.iter().zip(&times[0]).map(|(own, native)| own / native);
                found.push(Step {
                    step: step.into(),
                    way: (*way).into(),
                    nanoseconds: median(own.clone()),
                    ratio: median(ratios.collect()),
                });
                eprintln!("{:?}", found.last());
            }
        }
        Ok(found)
    }

    /// Of the family `flock`: valgrind knows no others that lock what clasp does.
    fn instructions(&self) -> Result<Vec<Instructions>> {
        let mut found = Vec::new();
        for way in [
            "native-flock",
            "engine-flock-kernel",
            "engine-flock-fair",
            "sync-flock-kernel",
            "async-flock-kernel",
        ] {
            let lock = self.lock()?;
            let Some(each) = Who::way(way).instructions(&lock)? else {
                eprintln!("valgrind is not installed: instructions are not counted");
                break;
            };
            let way = way.into();
            found.push(Instructions { way, each });
            eprintln!("{:?}", found.last());
        }
        Ok(found)
    }

    fn hung(&self) -> Result<Vec<Hung>> {
        let rounds = if self.settings.quick { 1 } else { 7 };
        let mut found = Vec::new();
        for kind in ["sync", "async"] {
            let mut both = [Vec::new(), Vec::new()];
            for _ in 0..rounds {
                for (hangs, found) in both.iter_mut().enumerate() {
                    let directory = tempfile::tempdir_in(&self.directory)?;
                    let mut command = Command::new(std::env::current_exe()?);
                    command.args(["hung", kind]).arg(directory.path());
                    command.arg(format!("{}", (self.seconds(1.0) * 1e3) as u64));
                    if hangs == 1 {
                        command.arg("--hangs");
                    }
                    let one: hung::Found = serde_json::from_str(&output(&mut command)?)?;
                    found.push(one);
                }
            }
            let middle = |found: &[hung::Found]| hung::Found {
                per_second: median(found.iter().map(|f| f.per_second).collect()),
                late_p90: median(found.iter().map(|f| f.late_p90).collect()),
            };
            found.push(Hung {
                kind: kind.into(),
                without: middle(&both[0]),
                beside: middle(&both[1]),
            });
            eprintln!("{:?}", found.last());
        }
        Ok(found)
    }

    fn hand_over(&self) -> Result<Vec<HandOver>> {
        let mut who: Vec<_> = [
            "native-posix",
            "native-posix-wake",
            "sync-posix-fair",
            "async-posix-fair",
            "sync-posix-kernel",
            "async-posix-kernel",
        ]
        .map(Who::way)
        .into();
        who.extend(self.peers(&["fasteners", "filelock", "portalocker"]));
        let mut found = Vec::new();
        for (holder, pause) in [("asks again at once", 0), ("pauses", 400)] {
            let rounds = if self.settings.quick { 1 } else { 3 };
            let mut samples = vec![Vec::new(); who.len()];
            for _ in 0..rounds {
                for (who, samples) in who.iter().zip(&mut samples) {
                    let seconds = self.seconds(if who.is_python() { 5.0 } else { 2.0 });
                    let competitor = |hold, pause| Competitor {
                        who: who.clone(),
                        exclusive: true,
                        hold,
                        pause,
                    };
                    // The pauses have no common measure, so the waiter asks at
                    // any time of the holder's turn.
                    let both = [competitor(300, pause), competitor(0, 517)];
                    let logs = compete(&both, &self.lock()?, seconds)?;
                    samples.extend(hand_overs(&logs[0], &logs[1]));
                }
            }
            for (who, mut samples) in who.iter().zip(samples) {
                samples.sort_unstable();
                found.push(HandOver {
                    way: who.way.clone(),
                    holder: holder.into(),
                    samples: samples.len(),
                    p50: quantile(&samples, 0.5) as f64 / 1e3,
                    p99: quantile(&samples, 0.99) as f64 / 1e3,
                });
                eprintln!("{:?}", found.last());
            }
        }
        let rounds = if self.settings.quick { 100 } else { 5_000 };
        let mut samples = wakeup::measure(rounds)?;
        samples.sort_unstable();
        found.push(HandOver {
            way: "wake-up alone (pipe)".into(),
            holder: "pauses".into(),
            samples: samples.len(),
            p50: quantile(&samples, 0.5) as f64 / 1e3,
            p99: quantile(&samples, 0.99) as f64 / 1e3,
        });
        eprintln!("{:?}", found.last());
        Ok(found)
    }

    fn contention(&self) -> Result<Vec<Contended>> {
        let mut found = Vec::new();
        let mut measure = |who: &Who, processes, hold_us, seconds| -> Result<()> {
            let competitor = Competitor {
                who: who.clone(),
                exclusive: true,
                hold: hold_us,
                pause: 0,
            };
            let competitors = vec![competitor; processes];
            let logs = compete(&competitors, &self.lock()?, self.seconds(seconds))?;
            found.push(Contended {
                way: who.way.clone(),
                processes,
                hold_us,
                found: contention(&logs),
            });
            eprintln!("{:?}", found.last());
            Ok(())
        };
        let rust = [
            "native-posix",
            "sync-posix-fair",
            "async-posix-fair",
            "sync-posix-kernel",
            "async-posix-kernel",
        ];
        let processes: &[usize] = if self.settings.quick {
            &[2]
        } else {
            &[2, 4, 8, 16]
        };
        for &processes in processes {
            for hold in [0, 20, 100] {
                for way in rust {
                    measure(&Who::way(way), processes, hold, 2.0)?;
                }
            }
        }
        for who in self.peers(&["fasteners", "filelock", "portalocker"]) {
            measure(&who, 4, 100, 6.0)?;
        }
        Ok(found)
    }

    fn foreign(&self) -> Result<Vec<Foreign>> {
        let mut found = Vec::new();
        let mut others = vec![Who::way("native-posix")];
        others.extend(self.peers(&["fasteners"]));
        for foreign in others {
            for beside in ["sync-posix-fair", "sync-posix-kernel", "native-posix"] {
                let competitor = |who: &Who| Competitor {
                    who: who.clone(),
                    exclusive: true,
                    hold: 100,
                    pause: 0,
                };
                let beside = Who::way(beside);
                let mut all = vec![competitor(&beside); 3];
                all.push(competitor(&foreign));
                let mut logs = compete(&all, &self.lock()?, self.seconds(3.0))?;
                let violations = contention(&logs).violations;
                let turns = logs.pop().unwrap_or_default();
                let worst = turns.iter().map(|t| t.got - t.asked).max().unwrap_or(0);
                found.push(Foreign {
                    foreign: foreign.way.clone(),
                    beside: beside.way.clone(),
                    foreign_turns: turns.len(),
                    other_turns: logs.iter().map(Vec::len).collect(),
                    foreign_worst_ms: worst as f64 / 1e6,
                    violations,
                });
                eprintln!("{:?}", found.last());
            }
        }
        Ok(found)
    }

    fn readers_and_writer(&self) -> Result<Vec<ReadersAndWriter>> {
        let mut who: Vec<_> = [
            "native-posix",
            "sync-posix-fair",
            "sync-posix-strict",
            "async-posix-fair",
            "async-posix-strict",
        ]
        .map(Who::way)
        .into();
        who.extend(self.peers(&["fasteners"]));
        let mut found = Vec::new();
        for who in who {
            let competitor = |exclusive, hold, pause| Competitor {
                who: who.clone(),
                exclusive,
                hold,
                pause,
            };
            // Readers that overlap: one comes before the others have gone.
            let all = [
                competitor(false, 2_000, 0),
                competitor(false, 2_600, 0),
                competitor(false, 3_100, 0),
                competitor(true, 100, 1_000),
            ];
            let mut logs = compete(&all, &self.lock()?, self.seconds(4.0))?;
            let writer = logs.pop().unwrap_or_default();
            let worst = writer.iter().map(|t| t.got - t.asked).max().unwrap_or(0);
            found.push(ReadersAndWriter {
                way: who.way.clone(),
                reader_turns: logs.iter().map(Vec::len).sum(),
                writer_turns: writer.len(),
                writer_worst_ms: worst as f64 / 1e6,
            });
            eprintln!("{:?}", found.last());
        }
        Ok(found)
    }

    fn in_host(&self) -> Result<Vec<InHost>> {
        let counts: &[usize] = if self.settings.quick {
            &[1, 100]
        } else {
            &[1, 10, 100, 1_000, 10_000]
        };
        let mut runs = Vec::new();
        for count in counts {
            runs.push(("exclusive", *count));
        }
        for count in [1, 2, 4, 8] {
            runs.push(("shared", count));
        }
        let mut found = Vec::new();
        for (mode, count) in runs {
            for who in ["tokio", "by-hand", "engine", "guests"] {
                let milliseconds = (self.seconds(2.0) * 1e3) as u64;
                let directory = tempfile::tempdir_in(&self.directory)?;
                let mut command = Command::new(std::env::current_exe()?);
                command
                    .args(["inhost", who])
                    .arg(directory.path())
                    .arg(mode)
                    .args([count.to_string(), milliseconds.to_string()]);
                let printed = output(&mut command)?;
                found.push(InHost {
                    who: who.into(),
                    mode: mode.into(),
                    count,
                    found: serde_json::from_str(&printed)?,
                });
                eprintln!("{:?}", found.last());
            }
        }
        Ok(found)
    }

    fn waits(&self) -> Result<Vec<Waits>> {
        let (counts, cancelled): (&[u32], _) = match self.settings.quick {
            true => (&[100], 10),
            false => (&[100, 1_000, 10_000], 1_000),
        };
        let mut found = Vec::new();
        for &count in counts {
            let directory = tempfile::tempdir_in(&self.directory)?;
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("waits").arg(directory.path());
            command.args([count, cancelled].map(|number: u32| number.to_string()));
            let printed = output(&mut command)?;
            found.push(Waits {
                count,
                found: serde_json::from_str(&printed)?,
            });
            eprintln!("{:?}", found.last());
        }
        Ok(found)
    }

    fn memory(&self) -> Result<Vec<Memory>> {
        let program = std::env::current_exe()?.with_file_name("clasp-bench-memory");
        let printed = output(Command::new(program).arg(self.directory.path()))?;
        let found: Vec<Memory> = serde_json::from_str(&printed)?;
        eprintln!("{found:?}");
        Ok(found)
    }

    fn existing(&self) -> Result<Vec<Existing>> {
        let start = self.settings.start.as_deref();
        let existing = self.settings.existing.as_deref();
        let (Some([clasp, _]), Some([guest, native])) = (start, existing) else {
            return Ok(Vec::new());
        };
        let programs = existing::Programs {
            clasp,
            guest,
            native,
        };
        existing::measure(&programs, self.directory.path(), self.settings.quick)
    }

    fn start(&self) -> Result<Vec<Start>> {
        let Some([clasp, guest]) = self.settings.start.as_deref() else {
            return Ok(Vec::new());
        };
        let home = tempfile::tempdir_in(&self.directory)?;
        let rounds = if self.settings.quick { 1 } else { 5 };
        let mut cold = Vec::new();
        for _ in 0..rounds {
            let cache = home.path().join(".cache");
            if cache.exists() {
                fs::remove_dir_all(&cache)?;
            }
            cold.push(milliseconds(&mut by_clasp(clasp, guest, home.path()))?);
        }
        let rounds = if self.settings.quick { 3 } else { 200 };
        let bare = clasp.with_file_name("clasp-bench-bare");
        let (mut warm, mut alone) = (Vec::new(), Vec::new());
        // Its settings may differ, so it compiles the guest for itself.
        milliseconds(&mut by_wasmtime(&bare, guest, home.path()))?;
        for _ in 0..rounds {
            warm.push(milliseconds(&mut by_clasp(clasp, guest, home.path()))?);
            alone.push(milliseconds(&mut by_wasmtime(&bare, guest, home.path()))?);
        }
        let file = self.lock()?;
        let (mut lock, mut flock) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            lock.push(milliseconds(
                Command::new(clasp).arg("lock").arg(&file).arg("true"),
            )?);
            flock.push(milliseconds(Command::new("flock").arg(&file).arg("true"))?);
        }
        let start = Start {
            cold_ms: median(cold),
            warm_ms: median(warm),
            bare_ms: median(alone),
            lock_ms: median(lock),
            flock_ms: median(flock),
        };
        eprintln!("{start:?}");
        Ok(vec![start])
    }
}

/// What the guest is asked to do: create a small file, without locks.
const CREATE: [&str; 4] = ["create", "data/ledger", "4", "10"];

/// `clasp run` of the guest.
fn by_clasp(clasp: &Path, guest: &Path, home: &Path) -> Command {
    let grant = format!("{}::data", home.display());
    let mut command = Command::new(clasp);
    command.args(["run", "--dir", &grant, "--locks", &grant]);
    at_home(command.arg(guest).args(CREATE), home);
    command
}

/// The guest by the least that starts it.
fn by_wasmtime(bare: &Path, guest: &Path, home: &Path) -> Command {
    let mut command = Command::new(bare);
    at_home(command.arg(home).arg(guest).args(CREATE), home);
    command
}

/// What is compiled is kept in this directory.
fn at_home(command: &mut Command, home: &Path) {
    command
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .current_dir(home);
}

/// Until a program has ended.
fn milliseconds(command: &mut Command) -> Result<f64> {
    let begun = Instant::now();
    output(command)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
