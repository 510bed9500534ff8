//! What is particular to Windows: names (S3, S12), the byte that is locked, and
//! programs that lock the whole file.
#![cfg(windows)]
#![allow(missing_docs, reason = "tests")]

use clasp_host::{Ceilings, LockManager, Lockspace};
use clasp_tests::{Actor, Host, Setup, start};
use std::{
    fs::{self, TryLockError},
    path::Path,
};

/// A guest with `directory` as its only lockspace and no files.
fn locks_only(directory: &Path) -> Actor {
    let manager = LockManager::new(Ceilings::default());
    Setup::new(&manager)
        .locks(|locks| {
            locks.lockspace("data", Lockspace::open_ambient(directory).unwrap());
        })
        .actor(Host::Sync)
}

#[test]
fn hostile_names_are_refused_and_create_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let directory = outer.path().join("granted");
    fs::create_dir_all(directory.join("dir")).unwrap();
    fs::write(outer.path().join("secret"), "").unwrap();
    let mut actor = locks_only(&directory);
    for (name, error) in [
        ("..", "invalid-name"),
        ("../secret", "invalid-name"),
        ("..\\secret", "invalid-name"),
        ("dir\\a", "invalid-name"),
        ("\\Windows\\win.ini", "invalid-name"),
        ("C:a", "invalid-name"),
        ("C:\\a", "invalid-name"),
        ("a:stream", "invalid-name"),
        ("a::$DATA", "invalid-name"),
        ("NUL", "invalid-name"),
        ("nul.lock", "invalid-name"),
        ("dir/CON", "invalid-name"),
        ("COM1.txt", "invalid-name"),
        ("lpt¹", "invalid-name"),
        ("a.", "invalid-name"),
        ("a ", "invalid-name"),
        ("a?", "invalid-name"),
        ("dir", "is-directory"),
        ("missing/a", "no-entry"),
    ] {
        let opened = actor.open(&format!("data/{name}"));
        assert_eq!(opened.unwrap_err(), error, "{name:?}");
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    assert_eq!(fs::read_dir(directory.join("dir")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2);
}

#[test]
fn spellings_and_links_of_a_file_are_one_lock() {
    let directory = tempfile::tempdir().unwrap();
    let mut actor = locks_only(directory.path());
    let lock = actor.open("data/a.lock").unwrap();
    fs::hard_link(
        directory.path().join("a.lock"),
        directory.path().join("link"),
    )
    .unwrap();
    let guard = actor.acquire(lock, true, None).unwrap();
    for name in ["./a.lock", "link", ".//a.lock"] {
        let other = actor.open(&format!("data/{name}")).unwrap();
        // Of the same host: a deadlock is seen only if it is known as the same.
        assert_eq!(actor.acquire(other, true, None).unwrap_err(), "deadlock");
    }
    actor.release(guard).unwrap();
}

/// Such as Rust's standard library does, and Go and Java.
#[test]
fn a_program_that_locks_the_whole_file_excludes_and_is_excluded() {
    let directory = tempfile::tempdir().unwrap();
    let mut actor = locks_only(directory.path());
    let lock = actor.open("data/a.lock").unwrap();
    // Closing unlocks: Wine refuses how the standard library does it, twice.
    let native = || {
        let path = directory.path().join("a.lock");
        fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    };
    let guard = actor.acquire(lock, false, None).unwrap();
    native().try_lock_shared().unwrap();
    assert!(matches!(native().try_lock(), Err(TryLockError::WouldBlock)));
    actor.release(guard).unwrap();

    let holder = native();
    holder.lock().unwrap();
    assert_eq!(actor.try_acquire(lock, false).unwrap_err(), "taken");
    assert_eq!(actor.acquire(lock, true, Some(20)).unwrap_err(), "timeout");
    let waiting = start(move || {
        let guard = actor.acquire(lock, true, None).unwrap();
        actor.release(guard)
    });
    waiting.must_block();
    drop(holder);
    waiting.finish().unwrap();
}

/// What is locked is one byte, and everybody may use the others.
#[test]
fn the_rest_of_a_locked_file_can_be_read_and_written() {
    use std::os::windows::fs::FileExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lock");
    fs::write(&path, "0123").unwrap();
    let mut actor = locks_only(directory.path());
    let lock = actor.open("data/a.lock").unwrap();
    let guard = actor.acquire(lock, true, None).unwrap();
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut byte = [0];
    file.seek_read(&mut byte, 1).unwrap();
    assert_eq!(byte, *b"1");
    file.seek_write(b"x", 2).unwrap();
    actor.release(guard).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "01x3");
}
