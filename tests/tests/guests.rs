//! Every guest program has its test here, under its own name.
#![allow(missing_docs, reason = "tests")]

use clasp_host::LockManager;
use clasp_tests::{
    Host, Process, Setup, clasp_run, each_guest_has_a_test_in, guest, run_command, start,
};
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
        actor, attributes, concurrent, counter, descriptors, exits, fencing, heavy, hello, jobs,
        ledger, options, periodic, plugin, slots, tasks,
    };
}

each_guest_has_a_test_in!(programs);

fn data(directory: &Path) -> Setup {
    Setup::data(directory, LockManager::global())
}

#[test]
fn actor() {
    for host in [Host::Sync, Host::Async] {
        acts(host);
    }
}

#[test]
fn concurrent() {
    acts(Host::Concurrent);
}

fn acts(host: Host) {
    let directory = tempfile::tempdir().unwrap();
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

/// More of it is in `descriptors.rs`.
#[test]
fn descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let mut guest = Process::start(&mut clasp_run(directory.path(), "data", "descriptors"));
    assert_eq!(guest.ask("open file"), "ok");
    match cfg!(any(target_os = "linux", target_os = "macos")) {
        true => assert_eq!(guest.ask("ranges"), "ok"),
        false => assert_eq!(guest.ask("ranges"), "ErrorCode::Unsupported"),
    }
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

/// Jobs that wait for locks do not hold up the others, and end by the deadline.
#[test]
fn jobs() {
    let directory = tempfile::tempdir().unwrap();
    let grant = format!("{}::data", directory.path().display());
    let run = |names: &[&str]| {
        let mut command = clasp_tests::clasp();
        command.args(["run", "--dir", &grant, "--locks", &grant]);
        let output = command.arg(guest("jobs")).args(names).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, told) = (text(output.stdout), text(output.stderr));
        (output.status.code().unwrap(), out, told)
    };
    let all = run(&["apples", "pears", "plums"]);
    assert_eq!((all.0, all.1.lines().count()), (0, 3), "{all:?}");
    let mut holder = data(directory.path()).actor(Host::Sync);
    let lock = holder.open("data/pears.lock").unwrap();
    let guard = holder.acquire(lock, true, None).unwrap();
    let (code, out, told) = run(&["apples", "pears", "plums"]);
    assert_eq!((code, out.lines().count()), (1, 2), "{told}");
    assert!(
        told.contains("pears: another program holds the lock"),
        "{told}"
    );
    holder.release(guard).unwrap();
    assert_eq!(run(&["pears"]), (0, "pears: 2\n".into(), String::new()));
    // The guest's path is not granted.
    let (code, _, told) = run(&["../elsewhere"]);
    assert!(code == 1 && told.contains("elsewhere"), "{told}");

    // The example that embeds many of it.
    let program = clasp_tests::clasp();
    let example = Path::new(program.get_program()).with_file_name("clasp-example-crowd");
    let output = std::process::Command::new(example)
        .arg(guest("jobs"))
        .arg("100")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("100 guests, all counted"), "{output:?}");
}

/// Where there are semaphores.
const SEMAPHORES: bool = cfg!(any(target_os = "linux", target_os = "macos"));

#[test]
fn heavy() {
    let directory = tempfile::tempdir().unwrap();
    let printed = run_command(data(directory.path()), "heavy", &["1"]);
    let expected = SEMAPHORES.then(|| "256 pages were used\n".to_owned());
    assert_eq!(printed.ok(), expected);
}

/// `slots.rs` has many of them at the same time.
#[test]
fn slots() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("slots"), "left\nright\n").unwrap();
    let ended = run_command(data(directory.path()), "slots", &["me", "2", "0"]);
    assert_eq!(ended.is_ok(), SEMAPHORES);
    if SEMAPHORES {
        let log = fs::read_to_string(directory.path().join("log")).unwrap();
        let events: Vec<_> = log.lines().filter_map(|l| l.split_once(' ')).collect();
        let turn = ["me waits", "me begins left", "me ends left"];
        let events: Vec<_> = events.into_iter().map(|(_, event)| event).collect();
        assert_eq!(events, [turn, turn].concat());
    }
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

/// What `clasp run` gives a guest by its options, and what it bounds.
#[test]
fn options() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let grant = format!("{}::data", directory.path().display());
    let read_only = format!("{grant},read-only");
    let run = |options: &[&str], words: &[&str]| {
        let mut command = clasp_tests::clasp();
        command.arg("run").args(options).arg(guest("options"));
        command.args(words).env("CLASP_TEST_GIVEN", "given");
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, told) = (text(output.stdout), text(output.stderr));
        (output.status.code().unwrap(), out, told)
    };
    let shows = |options: &[&str]| run(options, &["show", "CLASP_TEST_GIVEN"]).1;
    assert_eq!(shows(&[]), "options.wasm \n");
    assert_eq!(
        shows(&["--env", "CLASP_TEST_GIVEN"]),
        "options.wasm given\n"
    );
    let other = ["--argv0", "me", "--env", "CLASP_TEST_GIVEN=other"];
    assert_eq!(shows(&other), "me other\n");
    let missing = run(&["--env", "CLASP_TEST_MISSING"], &["show", "X"]);
    assert!(missing.2.contains("write NAME=VALUE"), "{}", missing.2);

    // What follows the component is the guest's: it grants nothing.
    for word in ["--dir=/::/", "--help", "--env"] {
        let (code, _, told) = run(&[], &[word, "show", "CLASP_TEST_GIVEN"]);
        assert_eq!(code, 1, "{told}");
        assert!(told.contains("usage: options"), "{told}");
    }

    assert_eq!(run(&["--dir", &grant], &["write", "data/file"]).0, 0);
    assert_eq!(
        run(&["--dir", &read_only], &["read", "data/file"]).1,
        "written"
    );
    assert_ne!(run(&["--dir", &read_only], &["write", "data/other"]).0, 0);
    assert!(!at("other").exists());

    let allocates = |most: &str| run(&["--max-memory", most], &["allocate", "32"]).0;
    assert_eq!(allocates("64M"), 0);
    assert_eq!(allocates("16M"), 134);

    let (code, _, told) = run(&["--timeout", "0.2"], &["spin"]);
    assert_eq!(code, 124, "{told}");
    assert!(told.contains("--timeout"), "{told}");
    assert_eq!(run(&["--timeout", "0"], &["spin"]).0, 124);
    let mut holder = data(directory.path()).actor(Host::Sync);
    let lock = holder.open("data/a.lock").unwrap();
    let guard = holder.acquire(lock, true, None).unwrap();
    let locks = ["--locks", &grant];
    let (code, _, told) = run(
        &[&locks[..], &["--timeout", "0.2"]].concat(),
        &["lock", "data/a.lock"],
    );
    assert_eq!(code, 124, "{told}");
    // A wait of more than a second is told with what bounds it, and with the file, though
    // another directory has a file of this name.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("a.lock"), "").unwrap();
    let others = format!("{}::other", other.path().display());
    let options = ["--locks", &others, "--locks", &grant, "--timeout", "3"];
    let (code, _, told) = run(&options, &["lock", "data/a.lock"]);
    assert_eq!(code, 124, "{told}");
    let message = format!(
        "waiting for the exclusive lock on {}",
        at("a.lock").display()
    );
    if cfg!(target_os = "linux") {
        assert!(told.contains(&message), "{told}");
    }
    assert!(told.contains("--max-wait bounds the wait"), "{told}");
    let bounded = [&locks[..], &["--max-wait", "0.05"]].concat();
    let (code, _, told) = run(&bounded, &["lock", "data/a.lock"]);
    assert_eq!(code, 1);
    assert!(told.contains("not granted in time"), "{told}");
    holder.release(guard).unwrap();
    assert_eq!(run(&bounded, &["lock", "data/a.lock"]).0, 0);
}

/// A function of a component that is no command.
#[test]
fn a_function_is_invoked() {
    let directory = tempfile::tempdir().unwrap();
    let grant = format!("{}::data", directory.path().display());
    let invoke = |call: &str| {
        let mut command = clasp_tests::clasp();
        command.args(["run", "--locks", &grant, "--invoke", call]);
        let output = command.arg(guest("actor")).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    assert_eq!(
        invoke("spaces()"),
        (0, "[\"data\"]\n".into(), String::new())
    );
    assert_eq!(invoke("open(\"data/a.lock\")").1, "ok(0)\n");
    assert!(directory.path().join("a.lock").exists());
    for (call, advice) in [
        ("spaces", "add(1, 2)"),
        ("nothing()", "exports no such function"),
        ("open(1)", "--invoke"),
    ] {
        let (code, _, told) = invoke(call);
        assert_eq!(code, 1, "{call}: {told}");
        assert!(told.contains(advice), "{call}: {told}");
    }
}
