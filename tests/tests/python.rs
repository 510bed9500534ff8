//! Libraries for Python, unmodified, run in a guest and exclude the same libraries in a native
//! Python, and are excluded.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use clasp_tests::{Process, clasp, clasp_run, guest, has_guest, python, target};
use std::{path::Path, process::Command};

fn native(directory: &Path) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/python/peers.py");
    let mut command = Command::new(python());
    Process::start(command.arg("-u").arg(script).arg(directory))
}

fn in_guest(directory: &Path) -> Process {
    Process::start(&mut clasp_run(directory, "data", "python"))
}

/// Both take a lock with a library, each while the other has it and after that.
fn exclude(one: &mut Process, first: &str, other: &mut Process, second: &str) {
    excludes(one, first, other, second);
    excludes(other, second, one, first);
}

/// One program has a lock while another asks for it.
fn excludes(holder: &mut Process, holds: &str, asker: &mut Process, asks: &str) {
    let step = |who: &mut Process, library: &str, action: &str, expected: &str| {
        let answer = who.ask(&format!("{library} {action}"));
        assert_eq!(
            answer, expected,
            "{library} {action}, of {holds} and {asks}"
        );
    };
    step(holder, holds, "acquire", "yes");
    step(asker, asks, "try", "no");
    step(asker, asks, "limit", "no");
    asker.tell(&format!("{asks} acquire"));
    asker.must_block();
    step(holder, holds, "release", "yes");
    assert_eq!(asker.answer(), "yes");
    step(holder, holds, "try", "no");
    step(asker, asks, "release", "yes");
    step(holder, holds, "try", "yes");
    step(holder, holds, "release", "yes");
}

#[test]
fn fasteners_in_a_guest_excludes_native_fasteners() {
    if !has_guest("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut native, mut guest) = (native(directory.path()), in_guest(directory.path()));
    exclude(&mut guest, "fasteners", &mut native, "fasteners");
    exclude(&mut guest, "clasp", &mut native, "fasteners");
}

#[test]
fn filelock_and_portalocker_in_a_guest_exclude_native_ones() {
    if !has_guest("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut native, mut guest) = (native(directory.path()), in_guest(directory.path()));
    exclude(&mut guest, "filelock", &mut native, "filelock");
    exclude(&mut guest, "portalocker", &mut native, "portalocker");
    exclude(&mut guest, "filelock", &mut native, "portalocker");
    assert_eq!(native.ask("portalocker write"), "yes");
    assert_eq!(guest.ask("portalocker write"), "yes");
}

#[test]
fn two_guests_exclude_each_other() {
    if !has_guest("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (in_guest(directory.path()), in_guest(directory.path()));
    exclude(&mut one, "fasteners", &mut two, "clasp");
    exclude(&mut one, "filelock", &mut two, "portalocker");
}

#[test]
fn readers_share_and_writers_do_not() {
    if !has_guest("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut native, mut guest) = (native(directory.path()), in_guest(directory.path()));
    for library in ["fasteners-rw", "clasp-rw"] {
        let mut in_guest = |action: &str| guest.ask(&format!("{library} {action}"));
        let mut natively = |action: &str| native.ask(&format!("fasteners-rw {action}"));
        assert_eq!(in_guest("acquire-read"), "yes");
        assert_eq!(natively("acquire-read"), "yes");
        assert_eq!(natively("release-read"), "yes");
        assert_eq!(natively("try-write"), "no");
        assert_eq!(natively("decorated-read"), "yes");
        assert_eq!(in_guest("release-read"), "yes");
        assert_eq!(natively("acquire-write"), "yes");
        assert_eq!(in_guest("try-read"), "no");
        assert_eq!(in_guest("limit-read"), "no");
        assert_eq!(in_guest("limit-write"), "no");
        assert_eq!(natively("release-write"), "yes");
        assert_eq!(in_guest("decorated-write"), "yes");
        assert_eq!(in_guest("acquire-write"), "yes");
        assert_eq!(natively("try-read"), "no");
        assert_eq!(in_guest("release-write"), "yes");
    }
}

#[test]
fn permits_are_counted_among_guests() {
    if !has_guest("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (in_guest(directory.path()), in_guest(directory.path()));
    let says = |who: &mut Process, action: &str, answer: &str| {
        let said = who.ask(&format!("clasp-semaphore {action}"));
        assert_eq!(said, answer, "{action}");
    };
    says(&mut one, "acquire", "yes");
    says(&mut one, "first", "yes");
    says(&mut two, "with", "yes");
    says(&mut two, "try", "yes");
    says(&mut two, "first", "no");
    says(&mut two, "release", "yes");
    two.tell("clasp-semaphore both");
    two.must_block();
    says(&mut one, "release", "yes");
    assert_eq!(two.answer(), "yes");
    for action in ["try", "limit"] {
        says(&mut one, action, "no");
    }
    one.tell("clasp-semaphore decorated");
    one.must_block();
    says(&mut two, "release", "yes");
    assert_eq!(one.answer(), "yes");
}

/// Context managers and decorators release what they take.
#[test]
fn a_lock_is_free_after_the_block() {
    if !has_guest("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut native, mut guest) = (native(directory.path()), in_guest(directory.path()));
    for library in ["fasteners", "clasp"] {
        for action in ["with", "decorated"] {
            assert_eq!(guest.ask(&format!("{library} {action}")), "yes");
            assert_eq!(native.ask("fasteners try"), "yes");
            guest.tell(&format!("{library} {action}"));
            guest.must_block();
            assert_eq!(native.ask("fasteners release"), "yes");
            assert_eq!(guest.answer(), "yes");
        }
    }
}

/// Python ends the handles of an object that nothing refers to, in an order of its own.
#[test]
fn a_lock_that_is_garbage_is_released() {
    if !has_guest("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut native, mut guest) = (native(directory.path()), in_guest(directory.path()));
    for library in ["fasteners", "clasp"] {
        assert_eq!(guest.ask(&format!("{library} acquire")), "yes");
        assert_eq!(native.ask("fasteners try"), "no");
        assert_eq!(guest.ask(&format!("{library} forget")), "yes");
        assert_eq!(native.ask("fasteners try"), "yes");
        assert_eq!(native.ask("fasteners release"), "yes");
    }
}

/// The name of a lock is given to another file while the lock is held: the holder is told, and the
/// end of a block tells nothing.
#[test]
fn a_holder_learns_that_its_file_was_replaced() {
    if !has_guest("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut guest = in_guest(directory.path());
    assert_eq!(guest.ask("clasp acquire"), "yes");
    assert_eq!(guest.ask("clasp replaced"), "yes");
}

/// A lock stays with its file, whatever the file is called and by which name it was opened.
#[test]
fn a_lock_stays_with_its_file() {
    if !has_guest("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut native, mut guest) = (native(directory.path()), in_guest(directory.path()));
    assert_eq!(guest.ask("files rename-a"), "yes");
    assert_eq!(native.ask("files busy-a2"), "yes");
    assert_eq!(guest.ask("files link-b"), "yes");
    assert_eq!(native.ask("files busy-b"), "yes");
    assert_eq!(guest.ask("files close-"), "yes");
    assert_eq!(native.ask("files busy-a2"), "no");
    assert_eq!(native.ask("files busy-b"), "no");
}

/// The host ends the wait: the block is not entered.
#[test]
fn no_block_is_entered_without_its_lock() {
    if !has_guest("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut native = native(directory.path());
    assert_eq!(native.ask("fasteners acquire"), "yes");
    let granted = format!("{}::data", directory.path().display());
    let mut command = clasp();
    command.args([
        "run",
        "--dir",
        &granted,
        "--locks",
        &granted,
        "--max-wait",
        "0.05",
    ]);
    let mut guest = Process::start(command.arg(guest("python")));
    for action in ["with", "decorated", "acquire"] {
        let answer = guest.ask(&format!("clasp {action}"));
        assert!(answer.starts_with("BlockingIOError"), "{action}: {answer}");
    }
    assert_eq!(guest.ask("clasp limit"), "no");
    assert_eq!(native.ask("fasteners release"), "yes");
    assert_eq!(guest.ask("clasp with"), "yes");
}

/// The tests of a library itself, in a guest. Prints which are left out, with the reason.
fn its_own_tests_pass(library: &str, passed: usize) {
    if !has_guest("suites") {
        return;
    }
    // Some write beside themselves, and some expect these files.
    let root = tempfile::tempdir().unwrap();
    for directory in ["dev", "tmp"] {
        std::fs::create_dir(root.path().join(directory)).unwrap();
    }
    std::fs::write(root.path().join("dev/null"), "").unwrap();
    std::fs::write(root.path().join("pytest.ini"), "[pytest]\n").unwrap();
    let copied = Command::new("cp")
        .arg("-R")
        .arg(target().join("python-suites").join(library))
        .arg(root.path())
        .status();
    assert!(copied.unwrap().success());

    let mut command = clasp_run(root.path(), "/", "suites");
    let output = command.arg(library).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{text}{errors}");
    assert!(output.status.success(), "{library}");
    assert!(!text.lines().any(|line| line.starts_with("failed")));
    assert_eq!(text.lines().last(), Some(&*format!("passed {passed}")));
}

#[test]
fn the_tests_of_fasteners_pass_in_a_guest() {
    its_own_tests_pass("fasteners", 28);
}

#[test]
fn the_tests_of_filelock_pass_in_a_guest() {
    its_own_tests_pass("filelock", 650);
}

#[test]
fn the_tests_of_portalocker_pass_in_a_guest() {
    its_own_tests_pass("portalocker", 298);
}
