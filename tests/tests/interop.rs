//! Native programs as opponents: Python's fasteners, flock(1), and another
//! host through the command line.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use clasp_tests::{Opponent, Process, clasp, guest, python, start};
use std::{fs, path::Path, process::Command};

fn host(directory: &Path, family: &str) -> Process {
    let mut process = Process::host(env!("CARGO_BIN_EXE_host"), directory, &["sync", family]);
    assert_eq!(process.answer(), "ready");
    assert_eq!(process.ask("open a.lock"), "ok 0");
    process
}

#[test]
fn fasteners_excludes_and_is_excluded() {
    let directory = tempfile::tempdir().unwrap();
    let mut guest = host(directory.path(), "posix");
    let mut fasteners = Process::fasteners(&directory.path().join("a.lock"));

    // Both classes of theirs hold, in each mode; each kind of request of ours.
    for (acquire, release, readers_too) in [
        ("acquire", "release", false),
        ("write", "release-write", false),
        ("read", "release-read", true),
    ] {
        assert_eq!(fasteners.ask(acquire), "yes");
        assert_eq!(guest.ask("try 0 x"), "taken", "{acquire}");
        if !readers_too {
            assert_eq!(guest.ask("try 0 s"), "taken", "{acquire}");
        }
        guest.tell("acquire 0 x");
        guest.must_block();
        assert_eq!(fasteners.ask(release), "yes");
        let granted = guest.answer();
        let guard = granted.strip_prefix("ok ").expect("granted").to_owned();

        // Now ours holds exclusively.
        for attempt in ["try", "try-read", "try-write"] {
            assert_eq!(fasteners.ask(attempt), "no", "{attempt}");
        }
        fasteners.tell(acquire);
        fasteners.must_block();
        assert_eq!(guest.ask(&format!("release {guard}")), "ok");
        assert_eq!(fasteners.answer(), "yes");
        assert_eq!(fasteners.ask(release), "yes");
    }

    // Shared locks are shared.
    let shared = guest.ask("acquire 0 s");
    let guard = shared.strip_prefix("ok ").expect("granted");
    assert_eq!(fasteners.ask("try-read"), "yes");
    assert_eq!(fasteners.ask("release-read"), "yes");
    assert_eq!(fasteners.ask("try-write"), "no");
    assert_eq!(fasteners.ask("try"), "no");
    assert_eq!(guest.ask(&format!("release {guard}")), "ok");
    assert_eq!(fasteners.ask("try-write"), "yes");
}

#[test]
fn flock_excludes_and_is_excluded() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.lock");
    let mut guest = host(directory.path(), "flock");

    let theirs = Opponent::flock(&["-x"], &file);
    assert_eq!(guest.ask("try 0 s"), "taken");
    guest.tell("acquire 0 x");
    guest.must_block();
    theirs.release();
    assert_eq!(guest.answer(), "ok 0");
    let try_flock = |mode: &str| {
        let mut flock = Command::new("flock");
        flock.args(["-n", mode]).arg(&file).arg("true");
        flock.status().unwrap().success()
    };
    assert!(!try_flock("-s"));
    assert_eq!(guest.ask("release 0"), "ok");
    assert_eq!(guest.ask("acquire 0 s"), "ok 1");
    assert!(try_flock("-s"));
    assert!(!try_flock("-x"));

    // The other family is another lock, which is why it is chosen by grant.
    let mut posix = host(directory.path(), "posix");
    assert_eq!(posix.ask("try 0 x"), "ok 0");
}

/// Guests of the family `both` exclude programs of either family, and wait for
/// the two that hold one half each.
#[test]
fn both_families_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.lock");
    let (mut guest, mut other) = (
        host(directory.path(), "both"),
        host(directory.path(), "both"),
    );
    let mut fasteners = Process::fasteners(&file);
    let try_flock = || {
        let mut flock = Command::new("flock");
        flock.args(["-n", "-x"]).arg(&file).arg("true");
        flock.status().unwrap().success()
    };

    assert_eq!(guest.ask("acquire 0 x"), "ok 0");
    assert_eq!(fasteners.ask("try"), "no");
    assert!(!try_flock());
    assert_eq!(other.ask("try 0 s"), "taken");
    assert_eq!(guest.ask("release 0"), "ok");

    // Nothing is held of one half while the other is waited for.
    let theirs = Opponent::flock(&["-x"], &file);
    guest.tell("acquire 0 x");
    guest.must_block();
    assert_eq!(fasteners.ask("try"), "yes");
    theirs.release();
    guest.must_block();
    assert!(try_flock());
    other.tell("acquire 0 x 100");
    assert_eq!(other.answer(), "timeout");
    assert_eq!(fasteners.ask("release"), "yes");
    assert_eq!(guest.answer(), "ok 1");
    assert_eq!(guest.ask("release 1"), "ok");
    assert!(try_flock());
    assert_eq!(fasteners.ask("try"), "yes");
}

/// The guest of the README beside a Python process, on one lock file.
#[test]
fn a_guest_and_a_python_process_count_together() {
    const EACH: &str = "1000";
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_owned();
    fs::write(data.join("count"), "0").unwrap();
    let grant = format!("{}::data", data.display());
    let mut run = clasp();
    run.args(["run", "--dir", &grant, "--locks", &grant])
        .arg(guest("counter"))
        .args(["data/count", "data/count.lock", EACH]);
    let script = "import fasteners, sys
lock = fasteners.InterProcessLock(sys.argv[1] + '/count.lock')
for _ in range(int(sys.argv[2])):
    with lock:
        with open(sys.argv[1] + '/count') as f: n = int(f.read())
        with open(sys.argv[1] + '/count', 'w') as f: f.write(str(n + 1))
";
    let mut native = Command::new(python());
    native.args(["-c", script]).arg(&data).arg(EACH);
    let both = [run, native].map(|mut command| start(move || command.status().unwrap()));
    for one in both {
        assert!(one.finish().success());
    }
    assert_eq!(fs::read_to_string(data.join("count")).unwrap(), "2000");
}
