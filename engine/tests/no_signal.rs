//! Timeouts are told also in a process that lets the engine have no signal, where
//! no thread comes back from the kernel before it has the lock.
#![cfg(all(feature = "conformance", target_os = "linux"))]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Ceilings, ErrorKind, Grant, Limits, Lock, LockManager, Mode, Owner,
    file::{FileSpace, set_wake_signal},
    testing::conformance::{LIVENESS_TIMEOUT, block_on},
};
use std::{path::Path, sync::mpsc, thread, time::Duration};

/// Of a host of its own.
fn lock(directory: &Path) -> (Owner, Lock) {
    let dir = Dir::open_ambient_dir(directory, ambient_authority()).unwrap();
    let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
    let grant = Grant::new(FileSpace::new(dir).into_space());
    let lock = owner.open(&grant, "a.lock").unwrap();
    (owner, lock)
}

#[test]
fn timeouts_are_told_without_a_signal() {
    set_wake_signal(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (_a, holder) = lock(directory.path());
    let (_b, waiter) = lock(directory.path());
    let guard = holder.try_acquire(Mode::Exclusive).unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let timeout = Some(Duration::from_millis(20));
        let kind = |result: Result<_, clasp_engine::Error>| result.map(drop).unwrap_err().kind();
        tell.send(kind(waiter.acquire_blocking(Mode::Exclusive, timeout)))
            .unwrap();
        tell.send(kind(block_on(waiter.acquire(Mode::Shared, timeout))))
            .unwrap();
        tell.send(kind(waiter.try_acquire(Mode::Shared))).unwrap();
    });
    for expected in [
        ErrorKind::Timeout,
        ErrorKind::Timeout,
        ErrorKind::WouldBlock,
    ] {
        assert_eq!(told.recv_timeout(LIVENESS_TIMEOUT), Ok(expected));
    }
    // The waits that linger get the lock, and give it back at once.
    drop(guard);
    let (_c, next) = lock(directory.path());
    drop(next.acquire_blocking(Mode::Exclusive, None).unwrap());
    // A wait for permits would leave several threads behind, so there is none.
    let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
    let grant = Grant::new(FileSpace::new(dir).into_space());
    let open = || {
        let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
        let semaphore = owner.open_semaphore(&grant, "a.sem", 2).unwrap();
        (owner, semaphore)
    };
    let ((_d, semaphore), (_e, other)) = (open(), open());
    let permit = semaphore.acquire_blocking(1, None).unwrap();
    let refused = |wait: Result<_, clasp_engine::Error>| {
        assert_eq!(wait.map(drop).unwrap_err().kind(), ErrorKind::Unsupported);
    };
    refused(other.acquire_blocking(2, None));
    refused(block_on(other.acquire(2, None)));
    drop(permit);
    drop(other.acquire_blocking(2, None).unwrap());
}
