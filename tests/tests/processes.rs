//! Hosts in several processes. Actors are called P and Q; they act in turn.
#![allow(missing_docs, reason = "tests")]

use clasp_tests::{Process, remove_name};
use std::{fs, path::Path};

const HOSTS: [&str; 2] = ["sync", "async"];

const FAMILIES: &[&str] = if cfg!(windows) {
    &["lockfileex"]
} else {
    &["posix", "flock", "both"]
};

fn host(directory: &Path, options: &[&str]) -> Process {
    let mut process = Process::host(env!("CARGO_BIN_EXE_host"), directory, options);
    assert_eq!(process.answer(), "ready");
    assert_eq!(process.ask("open a.lock"), "ok 0");
    process
}

/// Two hosts in each kind and family.
fn pairs(mut test: impl FnMut(Process, Process, &Path)) {
    alike(|start, directory| test(start(), start(), directory));
}

/// As many hosts as a test starts, in each kind and family.
fn alike(mut test: impl FnMut(&dyn Fn() -> Process, &Path)) {
    for kind in HOSTS {
        for family in FAMILIES {
            let directory = tempfile::tempdir().unwrap();
            test(
                &|| host(directory.path(), &[kind, family]),
                directory.path(),
            );
        }
    }
}

#[test]
fn exclusion_and_timeouts() {
    pairs(|mut p, mut q, _| {
        assert_eq!(p.ask("acquire 0 x"), "ok 0");
        assert_eq!(q.ask("try 0 s"), "taken");
        assert_eq!(q.ask("try 0 x"), "taken");
        assert_eq!(q.ask("acquire 0 x 0"), "timeout");
        assert_eq!(q.ask("acquire 0 s 5"), "timeout");
        assert_eq!(p.ask("release 0"), "ok");
        assert_eq!(q.ask("acquire 0 s 5"), "ok 0");
        assert_eq!(p.ask("acquire 0 s"), "ok 1");
        assert_eq!(p.ask("try 0 x"), "taken");
        assert_eq!(q.ask("drop 0"), "ok");
        assert_eq!(p.ask("drop 1"), "ok");
        assert_eq!(p.ask("try 0 x"), "ok 2");
    });
}

#[test]
fn a_release_wakes_a_waiter() {
    pairs(|mut p, mut q, _| {
        for (held, asked, guard) in [("x", "x", 0), ("x", "s", 1), ("s", "x", 2)] {
            assert_eq!(p.ask(&format!("acquire 0 {held}")), format!("ok {guard}"));
            q.tell(&format!("acquire 0 {asked}"));
            q.must_block();
            assert_eq!(p.ask(&format!("drop {guard}")), "ok");
            assert_eq!(q.answer(), format!("ok {guard}"));
            assert_eq!(q.ask(&format!("release {guard}")), "ok");
        }
    });
}

#[test]
fn a_killed_holder_lets_go() {
    pairs(|mut p, mut q, _| {
        assert_eq!(p.ask("acquire 0 x"), "ok 0");
        q.tell("acquire 0 x");
        q.must_block();
        p.kill();
        assert_eq!(q.answer(), "ok 0");
    });
}

#[test]
fn a_killed_waiter_is_gone() {
    alike(|start, _| {
        let (mut p, mut q, mut r) = (start(), start(), start());
        assert_eq!(p.ask("acquire 0 s"), "ok 0");
        q.tell("acquire 0 x");
        q.must_block();
        q.kill();
        assert_eq!(r.ask("acquire 0 s"), "ok 0");
        assert_eq!(p.ask("drop 0"), "ok");
        assert_eq!(r.ask("drop 0"), "ok");
        assert_eq!(r.ask("acquire 0 x"), "ok 1");
    });
}

#[test]
fn a_trap_a_close_and_a_dropped_store_let_go() {
    for end in ["close", "drop-store"] {
        pairs(|mut p, mut q, _| {
            assert_eq!(p.ask("acquire 0 x"), "ok 0");
            assert_eq!(p.ask("trap"), "ok");
            q.tell("acquire 0 x");
            q.must_block();
            assert_eq!(p.ask(end), "ok");
            assert_eq!(q.answer(), "ok 0");
        });
    }
}

#[test]
fn an_unlinked_lock_file_is_noticed_under_a_waiter() {
    pairs(|mut p, mut q, directory| {
        assert_eq!(p.ask("acquire 0 x"), "ok 0");
        q.tell("acquire 0 x");
        q.must_block();
        remove_name(&directory.join("a.lock"));
        assert_eq!(p.ask("release 0"), "replaced");
        assert_eq!(q.answer(), "ok 0");
        // Q has made the file anew, and P follows it.
        assert!(directory.join("a.lock").exists());
        assert_eq!(p.ask("try 0 x"), "taken");
        assert_eq!(q.ask("release 0"), "ok");
        assert_eq!(p.ask("try 0 x"), "ok 1");
    });
}

#[test]
fn a_lock_file_that_is_renamed_away_is_noticed_under_a_waiter() {
    pairs(|mut p, mut q, directory| {
        assert_eq!(p.ask("acquire 0 x"), "ok 0");
        q.tell("acquire 0 x");
        q.must_block();
        // Its link count stays one.
        fs::rename(directory.join("a.lock"), directory.join("old.lock")).unwrap();
        fs::write(directory.join("a.lock"), "").unwrap();
        assert_eq!(p.ask("release 0"), "replaced");
        assert_eq!(q.answer(), "ok 0");
        assert_eq!(p.ask("acquire 0 x 5"), "timeout");
        assert_eq!(q.ask("release 0"), "ok");
        assert_eq!(p.ask("acquire 0 x"), "ok 1");
    });
}

/// As after `fork`: another process has the description that holds the lock,
/// and lives on.
#[cfg(target_os = "linux")]
#[test]
fn releasing_is_an_unlock_and_not_a_close() {
    pairs(|mut p, mut q, directory| {
        let share = |process: &Process| share_descriptions(process, &directory.join("a.lock"));
        assert_eq!(p.ask("acquire 0 x"), "ok 0");
        let shared = share(&p);
        assert!(!shared.is_empty());
        assert_eq!(p.ask("drop 0"), "ok");
        assert_eq!(q.ask("try 0 x"), "ok 0");
        // A wait that timed out has left nothing on its description either.
        p.tell("acquire 0 x 300");
        p.must_block();
        let waiting = share(&p);
        assert!(waiting.len() > 1, "the wait has a descriptor of its own");
        assert_eq!(p.answer(), "timeout");
        assert_eq!(q.ask("release 0"), "ok");
        assert_eq!(q.ask("try 0 x"), "ok 1");
        // The end of the process would release its own; ours live on.
        assert_eq!(q.ask("release 1"), "ok");
        assert_eq!(p.ask("acquire 0 x"), "ok 1");
        assert_eq!(p.ask("drop-store"), "ok");
        assert_eq!(q.ask("try 0 x"), "ok 2");
        drop((shared, waiting));
    });
}

/// Takes part in the descriptions of a process for a file.
#[cfg(target_os = "linux")]
fn share_descriptions(process: &Process, file: &Path) -> Vec<rustix::fd::OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let id = Pid::from_raw(process.id() as i32).unwrap();
    let handle = pidfd_open(id, PidfdFlags::empty()).unwrap();
    fs::read_dir(format!("/proc/{}/fd", process.id()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|link| fs::read_link(link).is_ok_and(|target| target == file))
        .map(|link| {
            let number = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
            pidfd_getfd(&handle, number, PidfdGetfdFlags::empty()).unwrap()
        })
        .collect()
}
