//! Several processes that want one lock, and what their logs say: who was
//! beside whom, and who was overtaken.
//!
//! Short here; for a long run set `CLASP_SOAK_SECONDS`, the length of each
//! comparison: `CLASP_SOAK_SECONDS=600 cargo xtask test --test order`.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use clasp_engine::backend::Tenure;
use clasp_tests::{LIVENESS_TIMEOUT, Process};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    path::Path,
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

/// How long a host in line may leave a free lock unused before others pass it.
const PATIENCE: u64 = 100_000_000;

fn length() -> Duration {
    let asked = std::env::var("CLASP_SOAK_SECONDS").ok();
    let seconds = asked.and_then(|text| text.parse().ok()).unwrap_or(1.0);
    Duration::from_secs_f64(seconds)
}

/// Nothing happens for a time, unless a message comes.
fn pass(time: Duration) {
    let (_keep, nothing) = mpsc::channel::<()>();
    let _ = nothing.recv_timeout(time);
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    who: usize,
    shared: bool,
    drawn: u64,
    got: u64,
    left: u64,
}

struct Contender {
    process: Option<Process>,
    log: std::path::PathBuf,
    shared: bool,
    command: Box<dyn Fn() -> Command>,
}

impl Contender {
    fn new(directory: &Path, name: &str, mode: &str, [family, order]: [&str; 2]) -> Contender {
        let log = directory.join(format!("{name}.log"));
        let words: Vec<_> = [mode, family, order, "50"].map(str::to_owned).into();
        let (directory, own) = (directory.to_owned(), log.clone());
        let command = move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_contender"));
            command.arg(&directory).arg(&own).args(&words);
            command
        };
        let mut contender = Contender {
            process: None,
            log,
            shared: mode == "shared",
            command: Box::new(command),
        };
        contender.start();
        contender
    }

    fn start(&mut self) {
        let mut process = Process::start(&mut (self.command)());
        assert_eq!(process.answer(), "ready");
        self.process = Some(process);
    }

    fn signal(&self, signal: Signal) {
        let id = self.process.as_ref().unwrap().id();
        kill_process(Pid::from_raw(id as i32).unwrap(), signal).unwrap();
    }

    fn turns(&self, who: usize) -> Vec<Turn> {
        let text = fs::read_to_string(&self.log).unwrap();
        let turns = text.lines().map(|line| {
            let times: Vec<u64> = line.split(' ').map(|t| t.parse().unwrap_or(0)).collect();
            Turn {
                who,
                shared: self.shared,
                drawn: times[1],
                got: times[2],
                // Cut short: it was there for a moment at least.
                left: times.get(3).copied().unwrap_or(times[2]),
            }
        });
        turns.collect()
    }
}

/// Ends them and gives all turns in order.
fn finish(contenders: &mut [Contender]) -> Vec<Turn> {
    for contender in contenders.iter_mut() {
        contender.process.as_mut().unwrap().end_input();
    }
    let mut all = Vec::new();
    for (who, contender) in contenders.iter_mut().enumerate() {
        assert_eq!(contender.process.as_mut().unwrap().answer(), "done");
        let turns = contender.turns(who);
        assert!(!turns.is_empty(), "contender {who} had no turn");
        all.extend(turns);
    }
    all.sort_by_key(|turn| turn.got);
    all
}

fn check_exclusion(turns: &[Turn]) {
    // Until when a holder is there, by mode.
    let (mut exclusive, mut shared) = (0, 0);
    for turn in turns {
        assert!(turn.got >= exclusive, "beside a writer: {turn:?}");
        if turn.shared {
            shared = shared.max(turn.left);
        } else {
            assert!(turn.got >= shared, "a writer beside a reader: {turn:?}");
            exclusive = turn.left;
        }
    }
}

/// Once a ticket is drawn, each other process has one tenure at most before it:
/// conflicting turns that are counted, and begin within some time after the first
/// of them. One more may begin later, for the system may run other programs
/// between the look at the clock and the lock. Processes that were passed because
/// they did not move have waited for it.
fn check_order(turns: &[Turn], processes: usize) {
    let length = Tenure::LENGTH.as_nanos() as u64;
    let (mut waits, mut passed) = (0, 0);
    for (at, turn) in turns.iter().enumerate().filter(|(_, t)| t.drawn > 0) {
        waits += 1;
        let mut before: Vec<Vec<u64>> = vec![Vec::new(); processes];
        for other in turns[..at].iter().rev() {
            if other.got < turn.drawn.saturating_sub(10 * PATIENCE) {
                break;
            }
            let conflicts = !(other.shared && turn.shared);
            if other.got > turn.drawn && other.who != turn.who && conflicts {
                before[other.who].push(other.got);
            }
        }
        let overtaken = before.iter().any(|began| {
            let first = began.last().copied().unwrap_or(0);
            let late = began.iter().filter(|got| **got > first + length);
            began.len() > Tenure::TURNS as usize + 1 || late.count() > 1
        });
        if overtaken {
            let counts: Vec<_> = before.iter().map(Vec::len).collect();
            assert!(
                turn.got - turn.drawn >= PATIENCE,
                "{turn:?} was overtaken: {counts:?} turns"
            );
            passed += 1;
        }
    }
    assert!(waits > 20, "hardly a wait: {} turns", turns.len());
    assert!(passed * 10 < waits, "{passed} of {waits} were passed");
}

#[test]
fn processes_take_turns() {
    for family in ["posix", "flock", "both"] {
        let directory = tempfile::tempdir().unwrap();
        let kind = [family, "fair"];
        let new = |(at, mode)| Contender::new(directory.path(), &format!("{at}"), mode, kind);
        let modes = ["exclusive", "exclusive", "shared", "exclusive", "shared"];
        let mut contenders: Vec<_> = modes.into_iter().enumerate().map(new).collect();
        pass(length());
        let turns = finish(&mut contenders);
        check_exclusion(&turns);
        check_order(&turns, contenders.len());
    }
}

#[test]
fn processes_exclude_each_other_in_any_order() {
    for family in ["posix", "flock", "both"] {
        let directory = tempfile::tempdir().unwrap();
        // One that goes by tickets beside others that do not.
        let orders = ["kernel", "kernel", "fair"];
        let mut contenders: Vec<_> = ["exclusive", "shared", "exclusive"]
            .into_iter()
            .zip(orders)
            .enumerate()
            .map(|(at, (mode, order))| {
                Contender::new(directory.path(), &format!("{at}"), mode, [family, order])
            })
            .collect();
        pass(length() / 2);
        check_exclusion(&finish(&mut contenders));
    }
}

/// Processes are stopped and killed in the midst of whatever they do, and the
/// others go on.
#[test]
fn stopped_and_killed_processes_keep_nobody_waiting_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let new =
        |(at, mode)| Contender::new(directory.path(), &format!("{at}"), mode, ["posix", "fair"]);
    let modes = ["exclusive", "shared", "exclusive", "exclusive"];
    let mut contenders: Vec<_> = modes.into_iter().enumerate().map(new).collect();
    let until = Instant::now() + length() * 2;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = Vec::new();
    while Instant::now() < until {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        pass(Duration::from_micros(random % 7_919));
        let victim = 2 + (random >> 32) as usize % 2;
        if random >> 40 & 1 == 0 {
            contenders[victim].signal(Signal::STOP);
            pass(Duration::from_micros(random % 60_013));
            contenders[victim].signal(Signal::CONT);
        } else {
            contenders[victim].process.take().unwrap().kill();
            all.extend(contenders[victim].turns(victim));
            contenders[victim].start();
        }
    }
    all.extend(finish(&mut contenders));
    all.sort_by_key(|turn| turn.got);
    check_exclusion(&all);
}

/// P holds, Q is first in line and stopped, R is behind it.
#[test]
fn a_stopped_waiter_is_passed() {
    for kind in ["sync", "async"] {
        for family in ["posix", "flock", "both"] {
            let directory = tempfile::tempdir().unwrap();
            let host = || {
                let program = env!("CARGO_BIN_EXE_host");
                let mut process = Process::host(program, directory.path(), &[kind, family]);
                assert_eq!(process.answer(), "ready");
                assert_eq!(process.ask("open a.lock"), "ok 0");
                process
            };
            let (mut p, mut q, mut r) = (host(), host(), host());
            assert_eq!(p.ask("acquire 0 x"), "ok 0");
            q.tell("acquire 0 x");
            q.must_block();
            let id = Pid::from_raw(q.id() as i32).unwrap();
            kill_process(id, Signal::STOP).unwrap();
            r.tell("acquire 0 x");
            r.must_block();
            let begun = Instant::now();
            assert_eq!(p.ask("release 0"), "ok");
            assert_eq!(r.answer(), "ok 0");
            assert!(begun.elapsed() < LIVENESS_TIMEOUT);
            // It is still there, and has its turn when it goes on.
            kill_process(id, Signal::CONT).unwrap();
            q.must_block();
            assert_eq!(r.ask("release 0"), "ok");
            assert_eq!(q.answer(), "ok 0");
        }
    }
}
