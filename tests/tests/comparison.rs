//! The table in `book/src/comparison.md`: what it says about other libraries is found out by
//! running them.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use clasp_tests::python;
use serde_json::Value;
use std::{
    fs::{File, TryLockError},
    process::Command,
    thread,
};

/// What a row of the probe has to be, by library: fasteners, filelock, portalocker.
const ROWS: [(&str, [&str; 3]); 14] = [
    ("version", ["0.20", "4.3.1", "4.4.2"]),
    ("between processes", ["yes", "yes", "yes"]),
    (
        "without fcntl, as on WASI",
        [
            "ModuleNotFoundError",
            "falls back to SoftFileLock",
            "ModuleNotFoundError",
        ],
    ),
    ("shared locks", ["yes", "yes", "yes"]),
    ("both classes exclude each other", ["yes", "no", "yes"]),
    ("timeout", ["yes", "yes", "yes"]),
    ("waits", ["polls", "polls", "polls"]),
    (
        "order of waiters",
        [
            "none: a later waiter overtakes",
            "none: a later waiter overtakes",
            "none: a later waiter overtakes",
        ],
    ),
    ("readers starve a writer", ["yes", "no", "yes"]),
    (
        "two handles, one thread",
        ["not excluded", "excluded", "excluded"],
    ),
    (
        "waits for itself",
        ["granted", "error: RuntimeError at once", "fails after 5 s"],
    ),
    (
        "the process opens and closes the file",
        ["the lock is lost", "still held", "still held"],
    ),
    ("a waiter notices a replaced file", ["no", "yes", "no"]),
    ("excludes, exclusive", ["fcntl", "flock", "flock"]),
];

#[test]
fn other_libraries_do_what_the_table_says() {
    let libraries = ["fasteners", "filelock", "portalocker"];
    let found = libraries.map(|library| thread::spawn(move || probe(library)));
    let found = found.map(|found| found.join().unwrap());
    for (row, expected) in ROWS {
        for ((library, found), expected) in libraries.iter().zip(&found).zip(expected) {
            assert_eq!(found[row], expected, "{library}: {row}; all: {found}");
        }
    }
}

/// What was found out about a library.
fn probe(library: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/comparison.py");
    let output = Command::new(python()).args([script, library]).output();
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{library}: {told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The lock of the standard library, which is that of fd-lock on Linux as well: `flock` on an
/// open file, without timeouts.
#[test]
fn the_standard_library_does_what_the_table_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lock");
    let open = || {
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap()
    };
    let (one, other) = (open(), open());
    one.lock().unwrap();
    // The same thread, which would wait for itself.
    assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let own = format!(" {} ", std::process::id());
    assert!(
        locks
            .lines()
            .any(|line| line.contains("FLOCK") && line.contains(&own))
    );
    one.unlock().unwrap();

    // A conversion is not atomic: an upgrade that fails has lost the shared lock.
    one.lock_shared().unwrap();
    other.lock_shared().unwrap();
    assert!(matches!(one.try_lock(), Err(TryLockError::WouldBlock)));
    other.try_lock().unwrap();
}
