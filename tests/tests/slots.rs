//! The examples `slots` and `heavy` in many processes, some of which are killed or suspended while
//! they hold a permit: on files, and on three servers of etcd. The log of the workers tells who
//! had which slot.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use clasp_etcd::testing::LocalCluster;
use clasp_tests::{Process, clasp, guest};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const LIVENESS: Duration = Duration::from_secs(120);

const SLOTS: [&str; 4] = ["north", "east", "south", "west"];

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is() {
        assert!(since.elapsed() < LIVENESS, "{what} does not happen");
        std::thread::yield_now();
    }
}

/// What a worker has logged.
struct Line {
    micros: u64,
    worker: usize,
    /// The slot that it begins or ends to use; none if it waits.
    slot: Option<(bool, usize)>,
}

fn read(log: &Path) -> Vec<Line> {
    let text = fs::read_to_string(log).unwrap_or_default();
    // The last line may be under way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let slot = words.get(3).map(|name| {
            let number = SLOTS.iter().position(|slot| slot == name);
            (words[2] == "begins", number.expect("a slot of the pool"))
        });
        Line {
            micros: words[0].parse().unwrap(),
            worker: words[1].parse().unwrap(),
            slot,
        }
    });
    lines.collect()
}

/// Who has which slot, as far as the log tells; and who waits.
#[derive(Default)]
struct Pool {
    users: HashMap<usize, usize>,
    waiting: HashSet<usize>,
}

impl Pool {
    /// Goes on to the next line. Only one who was killed leaves a slot without a line.
    fn follow(&mut self, line: &Line, killed: &HashSet<usize>) {
        match line.slot {
            None => {
                self.waiting.insert(line.worker);
            }
            Some((true, slot)) => {
                self.waiting.remove(&line.worker);
                if let Some(other) = self.users.insert(slot, line.worker) {
                    let (name, worker) = (SLOTS[slot], line.worker);
                    assert!(killed.contains(&other), "{other} and {worker} use {name}");
                }
            }
            Some((false, slot)) => {
                assert_eq!(self.users.remove(&slot), Some(line.worker));
            }
        }
    }
}

/// Workers that are processes of their own.
struct Workers {
    running: Vec<(usize, Child)>,
    killed: HashSet<usize>,
    start: Box<dyn Fn(usize) -> Command>,
}

impl Workers {
    fn start(&mut self, worker: usize) {
        let child = (self.start)(worker).stdin(Stdio::null()).spawn().unwrap();
        self.running.push((worker, child));
    }

    fn id(&self, worker: usize) -> u32 {
        let (_, child) = self.running.iter().find(|(is, _)| *is == worker).unwrap();
        child.id()
    }

    fn signal(&self, worker: usize, signal: Signal) {
        let id = Pid::from_raw(self.id(worker) as i32).unwrap();
        kill_process(id, signal).unwrap();
    }

    fn kill(&mut self, worker: usize) {
        // Before it ends: its slot may have another user at once.
        self.killed.insert(worker);
        self.signal(worker, Signal::KILL);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Workers {
    /// Waits until the log has so many lines in which a use begins, and suspends one who has a slot
    /// then.
    fn suspend_user(&self, directory: &Path, begun: usize) -> usize {
        let (log, semaphore) = (&directory.join("log"), &directory.join("slots.sem"));
        let since = Instant::now();
        loop {
            assert!(since.elapsed() < LIVENESS, "no worker goes on");
            let (begins, users) = self.users(log);
            if begins < begun {
                continue;
            }
            for user in users {
                self.signal(user, Signal::STOP);
                eventually("the suspension", || self.is_still(user));
                // It may have gone on since the log was read. And it may have been suspended in
                // the moment in which it has been granted more bytes than it keeps.
                if self.users(log).1.contains(&user) && self.bytes_of(user, semaphore) <= 1 {
                    return user;
                }
                self.signal(user, Signal::CONT);
            }
        }
    }

    /// How many uses have begun, and who has a slot and was not killed.
    fn users(&self, log: &Path) -> (usize, Vec<usize>) {
        let lines = read(log);
        let mut pool = Pool::default();
        lines
            .iter()
            .for_each(|line| pool.follow(line, &self.killed));
        let begins = lines
            .iter()
            .filter(|line| matches!(line.slot, Some((true, _))));
        let users = pool.users.into_values();
        let users = users.filter(|user| !self.killed.contains(user)).collect();
        (begins.count(), users)
    }

    /// How many bytes of a file it has locked.
    fn bytes_of(&self, worker: usize, file: &Path) -> u64 {
        // There is no file if the locks are on a cluster.
        let Ok(file) = fs::metadata(file) else {
            return 0;
        };
        let ends_with_file = format!(":{}", file.ino());
        let open = fs::read_dir(format!("/proc/{}/fdinfo", self.id(worker))).unwrap();
        let open = open.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
        let locks: Vec<String> = open
            .flat_map(|info| info.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| line.starts_with("lock:"))
            .collect();
        // Such as `lock: 1: OFDLCK  ADVISORY  WRITE -1 00:2b:131 0 0`.
        let spans = locks.iter().filter_map(|lock| {
            let words: Vec<&str> = lock.split_whitespace().rev().take(3).collect();
            let [end, start, file] = words[..] else {
                return None;
            };
            let numbers = Some((end.parse::<u64>().ok()?, start.parse::<u64>().ok()?));
            numbers.filter(|_| file.ends_with(&ends_with_file))
        });
        spans.map(|(end, start)| end - start + 1).sum()
    }

    /// Whether all its threads are stopped, or have ended.
    fn is_still(&self, worker: usize) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id(worker))).unwrap();
        threads.flatten().all(|thread| {
            let state = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // Such as `17 (name) T 1`; a thread that has ended since has none.
            state
                .rsplit_once(") ")
                .is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
        })
    }
}

/// Sixteen workers share four slots; some are killed while they use one, and some suspended. Each
/// that is left has all its turns.
fn share_slots(directory: &Path, locks: &str, [turns, millis]: [usize; 2], deaths: usize) {
    const WORKERS: usize = 16;
    fs::write(directory.join("slots"), SLOTS.join("\n")).unwrap();
    let (files, locks) = (format!("{}::data", directory.display()), locks.to_owned());
    let start = move |worker: usize| {
        let mut command = clasp();
        command.args(["run", "--dir", &files, "--locks", &locks]);
        command.arg(guest("slots"));
        command.args([worker, turns, millis].map(|word| word.to_string()));
        command
    };
    let mut workers = Workers {
        running: Vec::new(),
        killed: HashSet::new(),
        start: Box::new(start),
    };
    (0..WORKERS).for_each(|worker| workers.start(worker));
    let log = directory.join("log");
    // In the first half of what they do.
    let step = WORKERS * turns / (4 * deaths);
    for death in 0..deaths {
        let begun = (2 * death + 1) * step;
        let suspended = workers.suspend_user(directory, begun);
        // The others go on without its slot.
        let victim = workers.suspend_user(directory, begun + step);
        workers.kill(victim);
        if suspended != victim {
            workers.signal(suspended, Signal::CONT);
        }
        workers.start(WORKERS + death);
    }
    let mut done = HashSet::new();
    for (worker, child) in &mut workers.running {
        let ended = child.wait().unwrap();
        assert_eq!(
            ended.success(),
            !workers.killed.contains(worker),
            "{worker}"
        );
        if ended.success() {
            done.insert(*worker);
        }
    }

    let lines = read(&log);
    let mut pool = Pool::default();
    let (mut most, mut had) = (0, HashMap::new());
    // The slots that are free while others wait: since when, and how many turns have begun since.
    let mut free: HashMap<usize, (u64, usize)> = HashMap::new();
    let (mut times, mut passed) = (Vec::new(), 0);
    for line in &lines {
        pool.follow(line, &workers.killed);
        most = most.max(pool.users.len());
        match line.slot {
            None => {}
            Some((true, slot)) => {
                *had.entry(line.worker).or_insert(0) += 1;
                free.values_mut().for_each(|(_, turns)| *turns += 1);
                if let Some((since, turns)) = free.remove(&slot) {
                    times.push(line.micros.saturating_sub(since));
                    passed = passed.max(turns - 1);
                }
            }
            Some((false, slot)) => {
                free.insert(slot, (line.micros, 0));
            }
        }
        // With fewer requests than slots, some slots are not asked for.
        if pool.waiting.intersection(&done).count() < SLOTS.len() {
            free.clear();
        }
    }
    assert_eq!(most, SLOTS.len(), "all slots were in use");
    for worker in &done {
        assert_eq!(had[worker], turns, "worker {worker}");
    }
    // A slot that lies idle would see turns of the others go by without end.
    assert!(passed < turns, "{passed} turns began beside a free slot");
    times.sort_unstable();
    println!(
        "{} turns in {} ms; a free slot was taken after {} us (half of the times) and {} us (all), \
         when at most {passed} other turns had begun",
        had.values().sum::<usize>(),
        (lines[lines.len() - 1].micros - lines[0].micros) / 1000,
        times[times.len() / 2],
        times[times.len() - 1],
    );
}

/// A number from the environment, for longer runs.
fn given(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |given| given.parse().expect("a number"))
}

#[test]
fn a_slot_has_one_user_on_files() {
    let directory = tempfile::tempdir().unwrap();
    let locks = format!("{}::data", directory.path().display());
    let turns = given("CLASP_TEST_TURNS", 40);
    share_slots(directory.path(), &locks, [turns, 2], 4);
}

#[test]
fn a_slot_has_one_user_on_a_cluster() {
    if std::env::var_os("CLASP_ETCD").is_none() {
        let why = "CLASP_ETCD is not set: what needs etcd is not run; use `cargo xtask test`";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("{why}");
        return;
    }
    let cluster = LocalCluster::start(3).expect("a cluster");
    let directory = tempfile::tempdir().unwrap();
    let locks = format!("{}::data,ttl=5", cluster.address("/slots"));
    let turns = given("CLASP_TEST_TURNS", 40);
    // A hand-over between hosts takes about 3 ms.
    share_slots(directory.path(), &locks, [turns, 20], 2);
}

/// Whoever has all permits keeps the jobs from beginning, and they all have their turn then.
#[test]
fn heavy_jobs_are_limited() {
    let directory = tempfile::tempdir().unwrap();
    let granted = format!("{}::data", directory.path().display());
    let mut holder = clasp();
    holder.args(["lock", "--permits", "3", "--count", "3"]);
    holder.arg(directory.path().join("heavy.sem"));
    let mut holder = Process::start(holder.args(["sh", "-c", "echo $CLASP_PERMIT; read line"]));
    assert_eq!(holder.answer(), "0 1 2");
    let start = || {
        let mut command = clasp();
        command.args(["run", "--dir", &granted, "--locks", &granted]);
        Process::start(command.arg(guest("heavy")).arg("16"))
    };
    let mut jobs: Vec<Process> = (0..8).map(|_| start()).collect();
    jobs.iter_mut().for_each(Process::must_block);
    holder.tell("end");
    for job in &mut jobs {
        assert_eq!(job.answer(), "4096 pages were used");
    }
}
