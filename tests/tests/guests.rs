//! Every guest program has its test here, under its own name.
#![allow(missing_docs, reason = "tests")]

use clasp_host::LockManager;
use clasp_tests::{Host, Setup, each_guest_has_a_test_in, guest, run_command, start};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};
use wasmtime_wasi::I32Exit;

/// The tests, by the names of their guests.
mod programs {
    pub(super) use super::{
        actor, attributes, counter, exits, fencing, hello, ledger, periodic, plugin, tasks,
    };
}

each_guest_has_a_test_in!(programs);

fn data(directory: &Path) -> Setup {
    Setup::data(directory, LockManager::global())
}

#[test]
fn actor() {
    let directory = tempfile::tempdir().unwrap();
    for host in [Host::Sync, Host::Async] {
        let mut actor = data(directory.path()).actor(host);
        assert_eq!(actor.spaces(), ["data"]);
        let lock = actor.open("data/a.lock").unwrap();
        for exclusive in [true, false, true] {
            let guard = actor.acquire(lock, exclusive, None).unwrap();
            actor.release(guard).unwrap();
            let guard = actor.try_acquire(lock, exclusive).unwrap();
            actor.drop_guard(guard);
        }
        actor.close(lock);
    }
}

#[test]
fn attributes() {
    let directory = tempfile::tempdir().unwrap();
    run_command(data(directory.path()), "attributes", &[]).unwrap();
}

#[test]
fn counter() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("count"), "0").unwrap();
    // On Wine a guest reads and writes a file in some 30 ms.
    let each = if cfg!(windows) { 50 } else { 500 };
    let guests: Vec<_> = (0..3)
        .map(|_| {
            let setup = data(directory.path());
            let each = each.to_string();
            start(move || {
                run_command(setup, "counter", &["data/count", "data/lock", &each]).unwrap()
            })
        })
        .collect();
    for guest in guests {
        guest.finish();
    }
    let count = fs::read_to_string(directory.path().join("count")).unwrap();
    assert_eq!(count, (3 * each).to_string());
}

/// A guest that exits has dropped nothing, and holds nothing.
#[test]
fn exits() {
    let directory = tempfile::tempdir().unwrap();
    let exit = run_command(data(directory.path()), "exits", &["7"]).unwrap_err();
    // Before 0.2.12 WASI tells success and failure only, and a guest's standard
    // library may know no newer one.
    let code = exit.downcast_ref::<I32Exit>().unwrap().0;
    assert!([1, 7].contains(&code), "{code}");
    let mut other = data(directory.path()).actor(Host::Sync);
    let lock = other.open("data/a.lock").unwrap();
    let guard = other.try_acquire(lock, true).unwrap();
    other.release(guard).unwrap();

    // On the command line the code is the guest's.
    let grant = format!("{}::data", directory.path().display());
    let mut run = clasp_tests::clasp();
    run.args(["run", "--locks", &grant])
        .arg(guest("exits"))
        .arg("7");
    assert_eq!(run.status().unwrap().code(), Some(code));
    assert!(other.try_acquire(lock, true).is_ok());
}

#[test]
fn fencing() {
    let directory = tempfile::tempdir().unwrap();
    match run_command(data(directory.path()), "fencing", &[]) {
        Ok(printed) => assert_eq!(
            printed,
            "refused \"first\": a later holder has written; the value is \"second\"\n"
        ),
        // Not every system has what keeps tokens.
        Err(error) => {
            let mut actor = data(directory.path()).actor(Host::Sync);
            let lock = actor.open("data/a.lock").unwrap();
            let guard = actor.acquire(lock, true, None).unwrap();
            let refused = actor.fencing_token(guard);
            assert_eq!(refused, Err("unsupported".into()), "{error}");
        }
    }
}

#[test]
fn periodic() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().join("old.tmp");
    // A new file counts as touched where the system does not keep times of creation.
    let lock = fs::File::create(directory.path().join("cleanup.lock")).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    lock.set_modified(long_ago).unwrap();
    for (seconds, told) in [
        ("3600", "removed 1 temporary files\n"),
        ("3600", "not due\n"),
        ("0", "removed 1 temporary files\n"),
    ] {
        fs::write(&temporary, "").unwrap();
        let printed = run_command(data(directory.path()), "periodic", &[seconds]).unwrap();
        assert_eq!(printed, told);
        assert_eq!(temporary.exists(), told == "not due\n");
    }
}

#[test]
fn hello() {
    let directory = tempfile::tempdir().unwrap();
    for number in 1..=2 {
        let printed = run_command(data(directory.path()), "hello", &[]).unwrap();
        assert_eq!(printed, format!("hello, number {number}\n"));
    }
}

#[test]
fn ledger() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = |arguments: &[&str]| run_command(data(directory.path()), "ledger", arguments);
    ledger(&["create", "data/ledger", "4", "10"]).unwrap();
    let moved = ledger(&["move", "data/ledger", "0.05", "1", "locked"]).unwrap();
    assert!(moved.contains("median_wait_us"), "{moved}");
    let audit = ledger(&["audit", "data/ledger", "0.05", "40", "locked"]).unwrap();
    assert!(audit.contains("\"wrong\":0"), "{audit}");
    let total = ledger(&["total", "data/ledger"]).unwrap();
    assert!(total.contains("\"total\":40}"), "{total}");
    assert!(ledger(&["move", "data/ledger"]).is_err());
}

/// Tasks of a guest wait for a lock that another guest holds, and go on.
#[test]
fn tasks() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = data(directory.path()).actor(Host::Sync);
    let lock = holder.open("data/a.lock").unwrap();
    let guard = holder.acquire(lock, true, None).unwrap();
    let grant = format!("{}::data", directory.path().display());
    let mut run = clasp_tests::clasp();
    run.args(["run", "--locks", &grant])
        .arg(guest("tasks"))
        .arg("data/a.lock")
        .stdout(Stdio::piped());
    let mut running = run.spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "waiting");
    holder.release(guard).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "done");
    assert!(running.wait().unwrap().success());
    assert!(holder.try_acquire(lock, true).is_ok());
}

/// The plugin's own embedding is run, as a user would.
#[test]
fn plugin() {
    let program = clasp_tests::clasp();
    let example = Path::new(program.get_program()).with_file_name("clasp-example-plugins");
    let output = std::process::Command::new(example)
        .arg(guest("plugin"))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(printed.contains("300 entries, none lost"), "{printed}");
}
