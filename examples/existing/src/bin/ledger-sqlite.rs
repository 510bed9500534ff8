//! A ledger in an SQLite database that many processes use: the guest of
//! `clasp demo --with sqlite`. It reports as `examples/guests/src/bin/ledger.rs` does.
//!
//! Without locks it uses the VFS `unix-dotfile`, SQLite's default in a guest. Guests exclude each
//! other with it, but not native programs: both overwrite each other's transactions, and may find
//! the database damaged for a moment.

use clasp_posix as _;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use std::{
    error::Error,
    io::{self, BufRead},
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

const USAGE: &str = "usage:
  ledger-sqlite create PATH ACCOUNTS BALANCE
  ledger-sqlite move   PATH SECONDS SEED [locked]
  ledger-sqlite audit  PATH SECONDS TOTAL [locked]
  ledger-sqlite look   PATH [locked]   # prints the ledger for each line of its input";

/// How long each process waits between two operations.
const PAUSE: Duration = Duration::from_micros(300);

/// The time between two lines about the progress.
const REPORT: Duration = Duration::from_millis(20);

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match *arguments.as_slice() {
        ["create", path, accounts, balance] => create(path, accounts, balance),
        ["move", path, seconds, seed] => work(path, false, seconds, Ledger::transfer, seed),
        ["move", path, seconds, seed, "locked"] => {
            work(path, true, seconds, Ledger::transfer, seed)
        }
        ["audit", path, seconds, total] => work(path, false, seconds, Ledger::audit, total),
        ["audit", path, seconds, total, "locked"] => {
            work(path, true, seconds, Ledger::audit, total)
        }
        ["look", path] => look(path, false),
        ["look", path, "locked"] => look(path, true),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ledger-sqlite: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create(path: &str, accounts: &str, balance: &str) -> Outcome {
    let ledger = Ledger::open(path, true, 0)?;
    ledger.database.execute_batch(
        "CREATE TABLE account(id INTEGER PRIMARY KEY, balance);
         CREATE TABLE ledger(transfers); INSERT INTO ledger VALUES(0)",
    )?;
    for id in 0..accounts.parse::<i64>()? {
        let balance: i64 = balance.parse()?;
        let sql = "INSERT INTO account VALUES(?1, ?2)";
        ledger.database.execute(sql, params![id, balance])?;
    }
    Ok(())
}

/// Prints the number of transfers and the sum of all accounts for each line of the input;
/// without locks perhaps that there is none.
fn look(path: &str, locked: bool) -> Outcome {
    let mut ledger = Ledger::open(path, locked, 0)?;
    for line in io::stdin().lock().lines() {
        line?;
        match ledger.read() {
            Ok((transfers, total)) => {
                println!("{{\"transfers\":{transfers},\"total\":{total}}}");
            }
            Err(error) if locked => return Err(error.into()),
            Err(_) => println!("{{}}"),
        }
    }
    Ok(())
}

/// Repeats an operation for some seconds. Prints the progress now and then, and at the end the
/// result, each as a line of JSON.
fn work(
    path: &str,
    locked: bool,
    seconds: &str,
    operation: impl Fn(&mut Ledger, u64) -> rusqlite::Result<(bool, Duration)>,
    argument: &str,
) -> Outcome {
    let argument: u64 = argument.parse()?;
    let mut ledger = Ledger::open(path, locked, argument)?;
    let seconds: f64 = seconds.parse()?;
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut waits = Vec::new();
    let mut wrong = 0;
    let mut next_report = Instant::now();
    while Instant::now() < end {
        match operation(&mut ledger, argument) {
            Ok((right, waited)) => {
                wrong += u64::from(!right);
                waits.push(waited);
            }
            Err(error) if locked => return Err(error.into()),
            // What other processes write at the same time makes no sense for a moment.
            Err(_) => {}
        }
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
    database: Connection,
    locked: bool,
    random: u64,
}

impl Ledger {
    fn open(path: &str, locked: bool, seed: u64) -> rusqlite::Result<Ledger> {
        let vfs = if locked { c"unix" } else { c"unix-dotfile" };
        let database = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs)?;
        database.busy_timeout(Duration::from_secs(60))?;
        let set = database.pragma_update(None, "synchronous", "OFF");
        if locked {
            // The disk is not what is shown.
            set?;
        }
        let random = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ok(Ledger {
            database,
            locked,
            random,
        })
    }

    /// The number of transfers and the sum of all accounts.
    fn read(&mut self) -> rusqlite::Result<(i64, i64)> {
        let sql = "SELECT (SELECT transfers FROM ledger), (SELECT sum(balance) FROM account)";
        let both = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.database.query_row(sql, [], both)
    }

    fn below(&mut self, bound: u64) -> i64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound) as i64
    }

    /// Moves one coin from an account to another, in a transaction.
    fn transfer(&mut self, _: u64) -> rusqlite::Result<(bool, Duration)> {
        let (from, to) = (self.below(16), self.below(16));
        let begun = Instant::now();
        let transaction = self
            .database
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let waited = begun.elapsed();
        for (account, change) in [(from, -1), (to, 1)] {
            let sql = "UPDATE account SET balance = balance + ?2 WHERE id = ?1";
            transaction.execute(sql, params![account, change])?;
        }
        transaction.execute("UPDATE ledger SET transfers = transfers + 1", [])?;
        transaction.commit()?;
        Ok((true, waited))
    }

    /// Whether all the money is there.
    fn audit(&mut self, total: u64) -> rusqlite::Result<(bool, Duration)> {
        let begun = Instant::now();
        let right = match self.read() {
            Ok((_, found)) => found == total as i64,
            Err(error) if self.locked => return Err(error),
            Err(_) => false,
        };
        Ok((right, begun.elapsed()))
    }
}
