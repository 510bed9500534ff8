//! What names lead to (S3, S12), and paths through the SDK and `std::fs` (S19).
#![cfg(unix)]
#![allow(missing_docs, reason = "tests")]

use clasp_host::{Ceilings, Limits, LockManager, Lockspace};
use clasp_tests::{Actor, Host, Setup};
use std::{fs, os::unix::fs::symlink, os::unix::net::UnixListener, path::Path, process::Command};

/// A guest with `directory` as its only lockspace and no files.
fn locks_only(directory: &Path) -> Actor {
    let manager = LockManager::new(Ceilings::default());
    Setup::new(&manager)
        .locks(|locks| {
            locks.lockspace("data", Lockspace::open_ambient(directory).unwrap());
        })
        .actor(Host::Sync)
}

fn list(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn hostile_names_are_refused_and_create_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let directory = outer.path().join("granted");
    fs::create_dir(&directory).unwrap();
    fs::create_dir(directory.join("dir")).unwrap();
    fs::write(outer.path().join("secret"), "").unwrap();
    symlink("../secret", directory.join("escape")).unwrap();
    symlink("/etc/hostname", directory.join("absolute")).unwrap();
    symlink("../created", directory.join("dangling-out")).unwrap();
    symlink("loop", directory.join("loop")).unwrap();
    let fifo = directory.join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let _socket = UnixListener::bind(directory.join("socket")).unwrap();
    symlink("/dev/null", directory.join("device")).unwrap();
    let before = (list(outer.path()), list(&directory));

    let mut actor = locks_only(&directory);
    let long = "x".repeat(1025);
    let component = "x".repeat(256);
    for (name, error) in [
        ("", "invalid-name"),
        (".", "invalid-name"),
        ("..", "invalid-name"),
        ("../secret", "invalid-name"),
        ("dir/../a", "invalid-name"),
        ("/etc/passwd", "invalid-name"),
        ("a\0b", "invalid-name"),
        ("a/", "invalid-name"),
        (&long, "invalid-name"),
        (&component, "invalid-name"),
        ("escape", "not-permitted"),
        ("absolute", "not-permitted"),
        ("device", "not-permitted"),
        ("dangling-out", "not-permitted"),
        ("dir", "is-directory"),
        ("fifo", "not-a-file"),
        ("socket", "not-a-file"),
        ("missing/a", "no-entry"),
        ("loop", "no-entry"),
        ("fifo/a", "no-entry"),
    ] {
        assert_eq!(actor.open_raw(0, name), Err(error.into()), "{name:?}");
    }
    assert_eq!((list(outer.path()), list(&directory)), before);

    // Inside, symlinks are names like any other.
    fs::write(directory.join("dir/target"), "precious").unwrap();
    symlink("dir/target", directory.join("inside")).unwrap();
    let lock = actor.open_raw(0, "inside").unwrap();
    let guard = actor.acquire(lock, true, None).unwrap();
    actor.release(guard).unwrap();
    let kept = fs::read_to_string(directory.join("dir/target")).unwrap();
    assert_eq!(kept, "precious");
}

#[test]
fn a_device_in_the_directory_is_not_a_file() {
    let mut actor = locks_only(Path::new("/dev"));
    let before = list(Path::new("/dev"));
    assert_eq!(actor.open_raw(0, "null"), Err("not-a-file".into()));
    assert_eq!(list(Path::new("/dev")), before);
}

#[test]
fn spellings_links_and_symlinks_of_a_file_are_one_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("a.lock"), "").unwrap();
    fs::hard_link(path.join("a.lock"), path.join("hard.lock")).unwrap();
    symlink("a.lock", path.join("soft.lock")).unwrap();
    fs::create_dir(path.join("sub")).unwrap();
    symlink("../a.lock", path.join("sub/up.lock")).unwrap();
    let mut actor = locks_only(path);
    let lock = actor.open_raw(0, "a.lock").unwrap();
    let guard = actor.acquire(lock, true, None).unwrap();
    for name in [
        "./a.lock",
        ".//./a.lock",
        "hard.lock",
        "soft.lock",
        "sub/up.lock",
    ] {
        let other = actor.open_raw(0, name).unwrap();
        let refused = actor.acquire(other, true, None);
        assert_eq!(refused, Err("deadlock".into()), "{name}");
    }
    actor.release(guard).unwrap();
}

#[test]
fn a_file_that_may_only_be_read_can_be_locked_shared() {
    // Root may write to any file, and then may lock this one exclusively too.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.lock");
    fs::write(&file, "").unwrap();
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&file, permissions).unwrap();
    let denied = fs::OpenOptions::new().write(true).open(&file).is_err();
    let mut actor = locks_only(directory.path());
    let lock = actor.open_raw(0, "a.lock").unwrap();
    let guard = actor.acquire(lock, false, None).unwrap();
    actor.release(guard).unwrap();
    let exclusive = actor.acquire(lock, true, None).map(|_| ());
    let expected = if denied { Err("access".into()) } else { Ok(()) };
    assert_eq!(exclusive, expected);
}

#[test]
fn a_file_that_cannot_be_created_is_an_error_of_its_own() {
    // /sys is mounted everywhere, and not even root creates anything in it.
    let mut actor = locks_only(Path::new("/sys"));
    assert_eq!(actor.open_raw(0, "clasp.lock").unwrap_err(), "access");
    assert_eq!(
        actor.open_raw(0, "kernel/none/clasp.lock"),
        Err("no-entry".into())
    );
}

#[test]
fn the_sdk_and_std_agree_on_paths() {
    let outer = tempfile::tempdir().unwrap();
    let directories = ["plain", "deep", "root"].map(|name| {
        let directory = outer.path().join(name);
        fs::create_dir_all(directory.join("sub")).unwrap();
        directory
    });
    let [plain, deep, root] = &directories;
    let manager = LockManager::new(Ceilings::default());
    let grants = [(plain, "data"), (deep, "/data/deep"), (root, ".")];
    let mut setup = Setup::new(&manager);
    for (directory, name) in grants {
        setup = setup.files(directory, name).locks(|locks| {
            locks.lockspace(name, Lockspace::open_ambient(directory).unwrap());
        });
    }
    let mut limits = Limits::default();
    limits.open_locks = 4096;
    let mut actor = setup
        .locks(|locks| {
            locks.limits(limits);
        })
        .actor(Host::Sync);

    let everything = || -> Vec<Vec<String>> {
        directories
            .iter()
            .flat_map(|directory| [list(directory), list(&directory.join("sub"))])
            .collect()
    };
    for directory in ["/", "/data", "/data/deep", "/sub"] {
        // A current directory need not be one that std could list.
        if actor.change_dir(directory).is_err() {
            continue;
        }
        for (at, path) in [
            "a",
            "./a",
            "/a",
            "//a",
            "sub/a",
            "./sub//a",
            "data/a",
            "/data/a",
            "./data/./a",
            "data/sub/a",
            "data/deep/a",
            "/data/deep/sub/a",
            "data//deep/a",
            "database",
            "/sub/a",
        ]
        .into_iter()
        .enumerate()
        {
            let name = |kind: &str| format!("{path}-{kind}{at}");
            let before = everything();
            let written = actor.write_file(&name("x"), "").is_ok();
            let by_std = everything();
            let opened = actor.open(&name("y")).is_ok();
            let by_sdk = everything();
            assert_eq!(written, opened, "{directory} {path}");
            // One file more in each step, in the same directory.
            for ((before, std), sdk) in before.iter().zip(&by_std).zip(&by_sdk) {
                let (first, second) = (std.len() - before.len(), sdk.len() - std.len());
                assert_eq!(first, second, "{directory} {path}");
            }
        }
    }
    // `..` is never resolved, whatever std makes of it.
    for path in ["data/../a", "../a", "data/deep/../a"] {
        assert_eq!(actor.open(path), Err("invalid-name".into()), "{path}");
    }
    assert_eq!(actor.open(""), Err("invalid-name".into()));
    assert_eq!(actor.open("/data"), Err("invalid-name".into()));
}
