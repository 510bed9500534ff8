//! Guests in several languages, of both versions of WASI, count together with native programs.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use clasp_tests::{Process, clasp, clasp_run, guest, has_guest, python};
use std::{fs, process::Command};

const EACH: u32 = 100;

/// The same as `examples/count`, natively.
const NATIVE: &str = r#"
import fasteners, sys
lock = fasteners.InterProcessLock("count.lock")
for _ in range(int(sys.argv[1])):
    with lock, open("count", "r+") as file:
        number = int(file.read())
        file.seek(0)
        file.write(str(number + 1))
"#;

#[test]
fn all_languages_count_together() {
    if !["count", "count_c", "count_js"].into_iter().all(has_guest) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let count = directory.path().join("count");
    fs::write(&count, "0").unwrap();
    let grant = format!("{}::data", directory.path().display());
    let run = |name: &str, words: &[&str]| {
        let mut run = clasp();
        run.args(["run", "--dir", &grant, "--locks", &grant]);
        run.arg(guest(name)).args(words).arg(EACH.to_string());
        run
    };
    let mut native = Command::new(python());
    native
        .args(["-c", NATIVE, &EACH.to_string()])
        .current_dir(directory.path());
    let programs = [
        ("Python", run("count", &[])),
        ("Python on WASI 0.3", run("count_tasks", &[])),
        ("C", run("count_c", &[])),
        ("JavaScript", run("count_js", &[])),
        ("Rust", run("counter", &["data/count", "data/count.lock"])),
        ("native Python", native),
    ];
    let running = programs.map(|(name, mut program)| (name, program.spawn().unwrap()));
    let count_of = running.len() as u32 * EACH;
    for (name, mut program) in running {
        assert!(program.wait().unwrap().success(), "{name}");
    }
    assert_eq!(fs::read_to_string(count).unwrap(), count_of.to_string());
}

/// Runs a guest that prints a line for each case, and gives how many there were.
fn passes(name: &str, word: &str, of_locks: &str, options: &[&str]) -> usize {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("lock"), "").unwrap();
    let grant = format!("{}::data", directory.path().display());
    let mut run = clasp();
    run.args(["run", "--dir", &grant, "--locks"]);
    run.arg(grant + of_locks).args(options);
    let output = run.arg(guest(name)).arg(word).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {text}{output:?}");
    assert_eq!(text.matches("ok: ").count(), text.lines().count(), "{text}");
    text.lines().count()
}

/// A guest finds that another process has the lock `data/taken`, waits for it, and gets it. If it
/// has tasks, one of them goes on meanwhile.
fn waits_for_another_process(name: &str, meanwhile: bool) {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Process::fasteners(&directory.path().join("taken"));
    assert_eq!(holder.ask("acquire"), "yes");
    let mut waiter = Process::start(clasp_run(directory.path(), "data", name).arg("taken"));
    assert_eq!(waiter.answer(), "waiting", "{name}");
    if meanwhile {
        assert_eq!(waiter.answer(), "meanwhile", "{name}");
    }
    waiter.must_block();
    assert_eq!(holder.ask("release"), "yes");
    assert_eq!(waiter.answer(), "granted", "{name}");
    assert_eq!(waiter.finish(), ["ok: taken"], "{name}");
}

/// The cases of the specification of Web Locks that apply outside of browsers.
#[test]
fn javascript_has_locks_as_browsers_have_them() {
    if has_guest("javascript") {
        assert_eq!(passes("javascript", "alone", "", &[]), 23);
        waits_for_another_process("javascript", true);
    }
}

#[test]
fn coroutines_of_python_have_the_locks() {
    if has_guest("python_tasks") {
        assert_eq!(passes("python_tasks", "alone", "", &[]), 13);
        waits_for_another_process("python_tasks", true);
    }
}

#[test]
fn the_header_for_c_gives_locks_and_errors() {
    if has_guest("header") {
        assert_eq!(passes("header", "alone", "", &[]), 6);
        assert_eq!(passes("header", "shared-only", ",shared-only", &[]), 1);
        assert_eq!(passes("header", "quota", "", &["--max-locks=1"]), 1);
        waits_for_another_process("header", false);
    }
}
