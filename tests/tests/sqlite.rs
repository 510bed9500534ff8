//! SQLite in guests and in native programs, with one database.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use clasp_tests::{Process, clasp_run, has_guest, python, target};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// The guest has the directory of the database as `/d`.
fn run(directory: &Path, name: &str) -> Command {
    clasp_run(directory, "/d", name)
}

fn native(directory: &Path, script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command
        .args(["-u", "-c", script])
        .arg(directory.join("x.db"));
    command.args(arguments);
    command
}

/// What a script prints.
fn printed(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn started(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Adds rows as the examples do, natively.
const NATIVE: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
database.execute('CREATE TABLE IF NOT EXISTS entry(who, n)')
for n in range(int(sys.argv[2])):
    database.execute('INSERT INTO entry VALUES(?, ?)', (sys.argv[3], n))
";

/// Tells how many rows there are, how many of them differ, and what the database says of itself.
const COUNT: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
print(*database.execute('SELECT count(*), count(DISTINCT who || n) FROM entry').fetchone(),
      *database.execute('PRAGMA integrity_check').fetchone())
";

/// Five processes, guests in C and Rust and native programs, 10,000 transactions in all; three
/// times, or as often as CLASP_SOAK_RUNS says.
#[test]
fn no_transaction_is_lost_among_guests_and_native_programs() {
    if !has_guest("sqlite-c") {
        return;
    }
    for _ in 0..number("CLASP_SOAK_RUNS", 3) {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let mut children = Vec::new();
        for (who, name) in [
            ("c1", "sqlite-c"),
            ("c2", "sqlite-c"),
            ("rust", "sqlite-rust"),
        ] {
            let mut command = run(directory, name);
            children.push(started(command.args(["/d/x.db", "2000", who])));
        }
        for who in ["n1", "n2"] {
            children.push(started(&mut native(directory, NATIVE, &["2000", who])));
        }
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(
            printed(&mut native(directory, COUNT, &[])),
            "10000 10000 ok"
        );
    }
}

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Holds a transaction of the kind that it is told, until it is told `COMMIT`.
const HOLDS: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    database.execute(line).fetchall()
    print('done')
";

#[test]
fn readers_read_at_the_same_time_and_writers_wait() {
    if !has_guest("sqlite-c") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let guest = |count: &str| {
        let mut command = run(directory, "sqlite-c");
        command.args(["/d/x.db", count, "guest"]);
        command
    };
    assert!(guest("5").status().unwrap().success());
    let mut holder = Process::start(&mut native(directory, HOLDS, &[]));
    holder.ask("BEGIN");
    holder.ask("SELECT count(*) FROM entry");
    // It reads the schema, and writes nothing.
    assert!(guest("0").status().unwrap().success());
    holder.ask("COMMIT");
    holder.ask("BEGIN EXCLUSIVE");
    let mut waits = guest("5").spawn().unwrap();
    holder.must_block();
    assert!(waits.try_wait().unwrap().is_none());
    holder.ask("COMMIT");
    assert!(waits.wait().unwrap().success());
    assert_eq!(printed(&mut native(directory, COUNT, &[])), "10 5 ok");
}

/// What the workers of `tests/guests/sqlite/worker.c` use.
const PREPARE: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.executescript('''
    CREATE TABLE account(id, money); CREATE TABLE filler(data); CREATE TABLE entry(who, n);
    INSERT INTO account VALUES(1, 1000000), (2, 0);
''')
database.executemany('INSERT INTO filler VALUES(zeroblob(?))', [(3000,)] * 10)
database.commit()
";

/// Tells what the database says of itself, the money, and for each worker how many transactions
/// are there.
const AUDIT: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
database.execute('BEGIN')
print(*database.execute('PRAGMA integrity_check').fetchone(),
      *database.execute('SELECT sum(money) FROM account').fetchone())
moved, = database.execute('SELECT money FROM account WHERE id = 2').fetchone()
entries, = database.execute('SELECT count(*) FROM entry').fetchone()
print('books', moved == entries)
for who, n, last in database.execute('SELECT who, count(*), max(n) FROM entry GROUP BY who'):
    print(who, n, last)
";

struct Worker {
    process: Process,
    who: String,
    /// The last transaction that it has reported.
    last: usize,
}

impl Worker {
    fn start(directory: &Path, serial: usize) -> Worker {
        let who = format!("w{serial}");
        let mut command = match serial % 2 {
            0 => {
                let mut command = run(directory, "sqlite-worker");
                command.arg("/d/x.db");
                command
            }
            _ => {
                let mut command = Command::new(target().join("guests/c/sqlite-worker"));
                command.arg(directory.join("x.db"));
                command
            }
        };
        let mut process = Process::start(command.arg(&who));
        // Work for all that is to come.
        for _ in 0..200 {
            process.tell("");
        }
        Worker {
            process,
            who,
            last: 0,
        }
    }

    /// Waits for its next commit.
    fn commit(&mut self) {
        self.last = number_of(&self.process.answer());
    }

    /// Kills it: its name, and how many transactions it has reported.
    fn kill(self) -> (String, usize) {
        let answers = self.process.kill();
        let last = answers.last().map_or(self.last, |answer| number_of(answer));
        (self.who, last)
    }
}

/// The number of a transaction; an error is none.
fn number_of(answer: &str) -> usize {
    answer.parse().unwrap_or_else(|_| panic!("{answer}"))
}

/// Processes are killed in their transactions, guests and native programs in turn. What was
/// reported as done is there, and nothing is there in part. 60 times, or as often as
/// CLASP_SOAK_KILLS says; the database is checked after each 20.
#[test]
fn a_killed_process_loses_nothing_that_was_done() {
    if !has_guest("sqlite-c") {
        return;
    }
    let mut serial = 0;
    // A sequence of numbers that jump about.
    let mut state = 12345_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..number("CLASP_SOAK_KILLS", 60).div_ceil(20) {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        printed(&mut native(directory, PREPARE, &[]));
        let mut start = || {
            serial += 1;
            Worker::start(directory, serial)
        };
        let mut workers: Vec<_> = (0..4).map(|_| start()).collect();
        let mut reported = Vec::new();
        for _ in 0..20 {
            let at = random(4) as usize;
            let mut worker = std::mem::replace(&mut workers[at], start());
            for _ in 0..=random(20) {
                worker.commit();
            }
            reported.push(worker.kill());
        }
        // The database is whole whatever process looks at it first.
        let audit = printed(&mut native(directory, AUDIT, &[]));
        assert!(audit.starts_with("ok 1000000\nbooks True"), "{audit}");
        reported.extend(workers.into_iter().map(|worker| worker.kill()));
        let audit = printed(&mut native(directory, AUDIT, &[]));
        assert!(audit.starts_with("ok 1000000\nbooks True"), "{audit}");
        for (who, last) in reported {
            let found = audit.lines().find_map(|line| {
                let mut words = line.split(' ');
                (words.next() == Some(&who)).then(|| words.map(str::to_owned).collect::<Vec<_>>())
            });
            let there = found.map_or(0, |found| {
                assert_eq!(found[0], found[1], "{who}: one is missing: {audit}");
                found[0].parse().unwrap()
            });
            // The last commit may not have been reported.
            assert!(
                there == last || there == last + 1,
                "{who}: {last} reported, {there} there"
            );
        }
    }
}

/// SQLite's own test of locks between processes: its supervisor and half of its clients are
/// native, the others guests.
#[test]
fn mptest_finds_no_error_among_guests_and_native_clients() {
    if !has_guest("sqlite-c") {
        return;
    }
    let home = env::var_os("HOME").expect("HOME is set");
    let scripts = Path::new(&home).join(".cache/clasp/mptest");
    if !scripts.is_dir() {
        let why = "SQLite's sources were not to be had from Debian: mptest was not run";
        assert!(env::var_os("CI").is_none(), "{why}");
        eprintln!("{why}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let of_guest = run(directory, "mptest");
    let words: Vec<_> = of_guest
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect();
    // The supervisor starts each client with its own name and the path of the database.
    let program = directory.join("mptest");
    let text = format!(
        "#!/bin/bash\ncase \"$*\" in\n*\"--client \"*[13579]\\ *) shift; exec '{}' {} /d/x.db \"$@\";;\n\
         *) exec -a \"$0\" '{}' \"$@\";;\nesac\n",
        of_guest.get_program().to_string_lossy(),
        words
            .iter()
            .map(|word| format!("'{word}'"))
            .collect::<Vec<_>>()
            .join(" "),
        target().join("guests/c/mptest").display(),
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for script in ["config01", "config02", "crash01", "multiwrite01"] {
        let mut command = Command::new(&program);
        command.arg(directory.join("x.db"));
        command.arg(scripts.join(format!("{script}.test")));
        // Its clients write to the same pipe, and are done when it is closed.
        let output = printed(command.args(["--timeout", "120000"]));
        let summary = output.lines().find(|line| line.starts_with("Summary:"));
        let summary = summary.unwrap_or_else(|| panic!("{script}: {output}"));
        assert!(
            summary.starts_with("Summary: 0 errors out of "),
            "{script}: {output}"
        );
        // A guest has no number of a process: its clients say 1.
        assert!(output.contains("00001.client01"), "{script}: {output}");
        let natively = output
            .lines()
            .any(|line| line.contains(".client02") && !line.starts_with("00001"));
        assert!(
            natively || !output.contains("client02"),
            "{script}: {output}"
        );
    }
}
