//! A ledger file that many processes use: the guest of `clasp demo`.
//!
//! The file has a line of 20 digits for the number of transfers, then one for
//! each account. A transfer reads both accounts and writes them one after the
//! other, so that without a lock updates are lost and readers see a wrong total.

use clasp_guest::{InterProcessLock, InterProcessReaderWriterLock};
use std::{
    error::Error,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

const USAGE: &str = "usage:
  ledger create PATH ACCOUNTS BALANCE
  ledger move   PATH SECONDS SEED [locked]
  ledger audit  PATH SECONDS TOTAL [locked]
  ledger total  PATH";

/// Digits of a line, and its end.
const LINE: usize = 21;

/// How long each process waits between two operations.
const PAUSE: Duration = Duration::from_micros(300);

/// The time between two lines about the progress.
const REPORT: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match *arguments.as_slice() {
        ["create", path, accounts, balance] => create(path, accounts, balance),
        ["move", path, seconds, seed] => work(path, seconds, None, |l, _| l.transfer(), seed),
        ["move", path, seconds, seed, "locked"] => {
            work(path, seconds, Some(false), |l, _| l.transfer(), seed)
        }
        ["audit", path, seconds, total] => work(path, seconds, None, Ledger::audit, total),
        ["audit", path, seconds, total, "locked"] => {
            work(path, seconds, Some(true), Ledger::audit, total)
        }
        ["total", path] => total(path),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ledger: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create(path: &str, accounts: &str, balance: &str) -> Result<(), Box<dyn Error>> {
    let balance: u64 = balance.parse()?;
    let mut text = format!("{:020}\n", 0);
    for _ in 0..accounts.parse()? {
        text += &format!("{balance:020}\n");
    }
    Ok(fs::write(path, text)?)
}

/// Prints the number of transfers and the sum of all accounts.
fn total(path: &str) -> Result<(), Box<dyn Error>> {
    let lines = Ledger::open(path, 0)?.read()?;
    let (transfers, accounts) = lines.split_first().ok_or("the ledger is empty")?;
    let total: u64 = accounts.iter().sum();
    println!("{{\"transfers\":{transfers},\"total\":{total}}}");
    Ok(())
}

/// The lock beside a ledger, for writers or for readers.
enum Lock {
    None,
    Exclusive(InterProcessLock),
    Shared(InterProcessReaderWriterLock),
}

impl Lock {
    fn open(ledger: &str, shared: Option<bool>) -> Result<Lock, clasp_guest::Error> {
        let path: PathBuf = Path::new(ledger).with_extension("lock");
        Ok(match shared {
            None => Lock::None,
            Some(false) => Lock::Exclusive(InterProcessLock::new(path)?),
            Some(true) => Lock::Shared(InterProcessReaderWriterLock::new(path)?),
        })
    }

    /// Runs `f` under the lock; answers how long it waited for it as well.
    fn hold<R>(&self, f: impl FnOnce() -> R) -> Result<(R, Duration), clasp_guest::Error> {
        let begun = Instant::now();
        let _guards = match self {
            Lock::None => (None, None),
            Lock::Exclusive(lock) => (Some(lock.acquire()?), None),
            Lock::Shared(lock) => (None, Some(lock.read()?)),
        };
        let waited = begun.elapsed();
        Ok((f(), waited))
    }
}

/// Repeats an operation for some seconds. Prints the progress now and then, and at the end the
/// result, each as a line of JSON.
fn work(
    path: &str,
    seconds: &str,
    shared: Option<bool>,
    operation: impl Fn(&mut Ledger, u64) -> Result<bool, Box<dyn Error>>,
    argument: &str,
) -> Result<(), Box<dyn Error>> {
    let argument: u64 = argument.parse()?;
    let lock = Lock::open(path, shared)?;
    let mut ledger = Ledger::open(path, argument)?;
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let mut waits = Vec::new();
    let mut wrong = 0;
    let mut next_report = Instant::now();
    while Instant::now() < end {
        let (done, waited) = lock.hold(|| operation(&mut ledger, argument))?;
        wrong += u64::from(!done?);
        waits.push(waited);
        if Instant::now() >= next_report {
            println!("{{\"operations\":{},\"wrong\":{wrong}}}", waits.len());
            next_report = Instant::now() + REPORT;
        }
        sleep(PAUSE);
    }
    waits.sort_unstable();
    let median = waits.get(waits.len() / 2).copied().unwrap_or_default();
    let worst = waits.last().copied().unwrap_or_default();
    println!(
        "{{\"operations\":{},\"wrong\":{wrong},\"median_wait_us\":{},\"worst_wait_us\":{},\
         \"waits\":{:?}}}",
        waits.len(),
        median.as_micros(),
        worst.as_micros(),
        by_powers(&waits)
    );
    Ok(())
}

/// The number of waits by their length: at place n, those of less than 2^n microseconds that
/// are not in a place before.
fn by_powers(waits: &[Duration]) -> Vec<usize> {
    let mut counts = Vec::new();
    for wait in waits {
        let power = (u128::BITS - wait.as_micros().leading_zeros()) as usize;
        counts.resize(counts.len().max(power + 1), 0);
        counts[power] += 1;
    }
    counts
}

struct Ledger {
    file: File,
    random: u64,
}

impl Ledger {
    fn open(path: &str, seed: u64) -> Result<Ledger, Box<dyn Error>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let random = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ok(Ledger { file, random })
    }

    fn read(&mut self) -> Result<Vec<u64>, Box<dyn Error>> {
        let mut text = String::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_string(&mut text)?;
        Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
    }

    fn write(&mut self, line: usize, value: u64) -> Result<(), Box<dyn Error>> {
        self.file.seek(SeekFrom::Start((line * LINE) as u64))?;
        Ok(self.file.write_all(format!("{value:020}\n").as_bytes())?)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound as u64) as usize
    }

    /// Moves one coin from an account to another.
    fn transfer(&mut self) -> Result<bool, Box<dyn Error>> {
        let lines = self.read()?;
        let accounts = lines.len() - 1;
        let from = 1 + self.below(accounts);
        let to = 1 + (from + self.below(accounts - 1)) % accounts;
        if lines[from] > 0 {
            self.write(from, lines[from] - 1)?;
            self.write(to, lines[to] + 1)?;
        }
        self.write(0, lines[0] + 1)?;
        Ok(true)
    }

    /// Whether all the money is there.
    fn audit(&mut self, total: u64) -> Result<bool, Box<dyn Error>> {
        Ok(self.read()?.iter().skip(1).sum::<u64>() == total)
    }
}
