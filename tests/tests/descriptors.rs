//! Guests lock files by their descriptors.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use clasp_engine::{Mode, testing::native};
use clasp_host::Family;
use clasp_tests::{Process, clasp, clasp_run, guest};
use std::{
    fs::{self, File},
    path::Path,
};

fn start(directory: &Path) -> Process {
    Process::start(&mut clasp_run(directory, "data", "descriptors"))
}

/// Whether a native program has the file free for itself.
fn is_free(path: &Path, family: Family) -> bool {
    let file = File::options().read(true).write(true).open(path).unwrap();
    native::try_lock(&file, family, Mode::Exclusive).unwrap()
}

#[test]
fn a_lock_is_on_the_file_that_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("below")).unwrap();
    let mut guest = start(directory.path());
    assert_eq!(guest.ask("open below/file"), "ok");
    // Whatever it is called.
    fs::rename(path("below/file"), path("renamed")).unwrap();
    assert_eq!(guest.ask("ranges"), "ok");
    assert_eq!(guest.ask("flock"), "ok");
    assert!(!path("below/file").exists());

    assert!(is_free(&path("renamed"), Family::Posix));
    assert_eq!(guest.ask("lock-range"), "yes");
    assert!(!is_free(&path("renamed"), Family::Posix));
    assert!(is_free(&path("renamed"), Family::Flock));
    assert_eq!(guest.ask("lock"), "yes");
    assert!(!is_free(&path("renamed"), Family::Flock));
    // The lock has a description of its own.
    assert_eq!(guest.ask("close"), "ok");
    assert!(!is_free(&path("renamed"), Family::Posix));
    assert_eq!(guest.ask("release"), "ok");
    assert!(is_free(&path("renamed"), Family::Both));
}

#[test]
fn no_more_is_permitted_than_the_grant_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut guest_of_all = start(directory.path());
    assert_eq!(guest_of_all.ask("open gone"), "ok");
    fs::remove_file(path("gone")).unwrap();
    assert_eq!(guest_of_all.ask("ranges"), "ErrorCode::NoEntry");
    fs::create_dir(path("shared")).unwrap();
    assert_eq!(guest_of_all.ask("open shared/"), "ok");
    assert_eq!(guest_of_all.ask("flock"), "ErrorCode::IsDirectory");

    // The grant that is closest to the file counts, whatever its guest path.
    let all = format!("{}::data", directory.path().display());
    let shared = format!("{}::elsewhere,shared-only", path("shared").display());
    let run = |locks: &[&str]| {
        let mut command = clasp();
        command.args(["run", "--dir", &all]);
        for locks in locks {
            command.args(["--locks", locks]);
        }
        Process::start(command.arg(guest("descriptors")))
    };
    let mut program = run(&[&shared, &all]);
    assert_eq!(program.ask("open shared/file"), "ok");
    assert_eq!(program.ask("ranges"), "ok");
    assert_eq!(program.ask("lock-range"), "ErrorCode::ReadOnly");
    // A granted directory that is gone is in nobody's way.
    fs::create_dir(path("old")).unwrap();
    let old = format!("{}::old", path("old").display());
    let mut program = run(&[&old, &all]);
    assert_eq!(program.ask("open file"), "ok");
    fs::remove_dir(path("old")).unwrap();
    assert_eq!(program.ask("flock"), "ok");
    let mut program = run(&[&shared]);
    assert_eq!(program.ask("open file"), "ok");
    assert_eq!(program.ask("ranges"), "ErrorCode::NotPermitted");
    assert_eq!(program.ask("flock"), "ErrorCode::NotPermitted");
}
