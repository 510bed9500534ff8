//! The directory in which hosts keep their order. It is chosen once in a process,
//! so this is the one test of this program.
#![cfg(all(feature = "conformance", target_os = "linux"))]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Ceilings, ErrorKind, Grant, Limits, Lock, LockManager, Mode, Owner,
    file::{FileSpace, set_order_directory},
};
use std::{fs, path::Path, time::Duration};

fn lock(directory: &Path, name: &str) -> (Owner, Lock) {
    let dir = Dir::open_ambient_dir(directory, ambient_authority()).unwrap();
    let grant = Grant::new(FileSpace::new(dir).into_space());
    let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
    let lock = owner.open(&grant, name).unwrap();
    (owner, lock)
}

#[test]
fn an_order_that_vanishes_costs_order_and_nothing_else() {
    let order = tempfile::tempdir().unwrap();
    assert!(set_order_directory(order.path().join("missing")).is_err());
    set_order_directory(order.path()).unwrap();
    let again = set_order_directory(order.path()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Unavailable);

    let directory = tempfile::tempdir().unwrap();
    let ((_a, holder), (_b, waiter)) = (lock(directory.path(), "a"), lock(directory.path(), "a"));
    let files = || fs::read_dir(order.path()).unwrap().count();
    assert_eq!(files(), 1);
    // As cleaners of temporary files do.
    fs::remove_dir_all(order.path()).unwrap();
    let guard = holder.try_acquire(Mode::Exclusive).unwrap();
    let short = Some(Duration::from_millis(5));
    let error = waiter.acquire_blocking(Mode::Shared, short).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    drop(guard);
    waiter.acquire_blocking(Mode::Exclusive, None).unwrap();
    // And a lock that is opened only now.
    let (_c, late) = lock(directory.path(), "b");
    late.acquire_blocking(Mode::Exclusive, None).unwrap();
    drop(late.try_acquire(Mode::Exclusive).unwrap());
}
