//! Guests lock ranges of bytes, in all kinds of host.
#![cfg(any(target_os = "linux", target_os = "macos"))]
#![allow(missing_docs, reason = "tests")]

use clasp_engine::testing::conformance::LIVENESS_TIMEOUT;
use clasp_host::{Ceilings, Family, Limits, LockManager, Lockspace};
use clasp_tests::{Actor, Host, Setup, start};
use std::{path::Path, thread, time::Instant};

const HOSTS: [Host; 3] = [Host::Sync, Host::Async, Host::Concurrent];

fn guest(directory: &Path, host: Host) -> Actor {
    Setup::data(directory, LockManager::global()).actor(host)
}

#[test]
fn guests_exclude_each_other_byte_by_byte() {
    for host in HOSTS {
        let directory = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (guest(directory.path(), host), guest(directory.path(), host));
        let a = one.open_ranges(0, "f").unwrap();
        let b = two.open_ranges(0, "./f").unwrap();
        one.set_range(a, true, 0, 10, None).unwrap();
        assert_eq!(two.try_range(b, false, 9, 1), Ok(false));
        assert_eq!(two.test_range(b, false, 9, 1), Ok(Some((true, 0, 10))));
        two.set_range(b, true, 10, 0, None).unwrap();
        assert_eq!(
            two.set_range(b, false, 0, 1, Some(0)),
            Err("timeout".into())
        );
        assert_eq!(
            two.set_range(b, false, 0, 1, Some(10)),
            Err("timeout".into())
        );
        one.unlock_range(a, 2, 2).unwrap();
        assert_eq!(two.test_range(b, true, 2, 2), Ok(None));
        assert_eq!(two.test_range(b, true, 2, 3), Ok(Some((true, 4, 6))));
        // A wait ends with a release.
        let waits = start(move || {
            two.set_range(b, true, 0, 0, None).unwrap();
            two
        });
        waits.must_block();
        one.drop_ranges(a);
        let mut two = waits.finish();
        let a = one.open_ranges(0, "f").unwrap();
        let c = one.open_ranges(0, "f").unwrap();
        assert!(one.same_ranges(a, c));
        assert_eq!(one.try_range(a, false, 5, 1), Ok(false));
        // The host closes the locks of a guest, also while it waits.
        let handle = one.locks_handle();
        let waits = start(move || one.set_range(a, false, 5, 1, None));
        waits.must_block();
        let seen = handle.snapshot();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].range.unwrap().to_string(), "5..6");
        handle.close();
        assert_eq!(waits.finish(), Err("closed".into()));
        two.close_locks();
        assert_eq!(two.try_range(b, false, 0, 1), Err("closed".into()));
        let mut three = guest(directory.path(), host);
        let c = three.open_ranges(0, "f").unwrap();
        assert_eq!(three.try_range(c, true, 0, 0), Ok(true));
    }
}

#[test]
fn a_guest_does_not_wait_for_itself() {
    for host in [Host::Sync, Host::Async] {
        let directory = tempfile::tempdir().unwrap();
        let mut guest = guest(directory.path(), host);
        let a = guest.open_ranges(0, "f").unwrap();
        let b = guest.open_ranges(0, "f").unwrap();
        let lock = guest.open("data/f").unwrap();
        guest.set_range(a, false, 0, 1, None).unwrap();
        assert_eq!(guest.set_range(b, true, 0, 0, None), Err("deadlock".into()));
        assert_eq!(guest.acquire(lock, true, None), Err("deadlock".into()));
        let guard = guest.acquire(lock, false, None).unwrap();
        assert_eq!(guest.set_range(b, true, 5, 1, None), Err("deadlock".into()));
        guest.release(guard).unwrap();
        guest.set_range(b, true, 5, 1, None).unwrap();
    }
}

#[test]
fn grants_and_quotas_hold_for_ranges() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("f"), "").unwrap();
    std::fs::create_dir(directory.path().join("d")).unwrap();
    let manager = LockManager::new(Ceilings::default());
    let space = || Lockspace::open_ambient(directory.path()).unwrap();
    let setup = Setup::new(&manager).locks(|locks| {
        locks.limits(Limits::default().held_locks(2).open_locks(3));
        locks.lockspace("read", space().shared_only(true));
        locks.lockspace("all", space());
        locks.lockspace("flock", space().family(Family::Flock));
    });
    let mut guest = setup.actor(Host::Sync);
    let read = guest.open_ranges(0, "f").unwrap();
    assert_eq!(guest.try_range(read, false, 0, 1), Ok(true));
    assert_eq!(guest.try_range(read, true, 0, 1), Err("read-only".into()));
    assert_eq!(guest.open_ranges(0, "missing"), Err("no-entry".into()));
    assert_eq!(guest.open_ranges(1, "d"), Err("is-directory".into()));
    assert_eq!(guest.open_ranges(1, "../f"), Err("invalid-name".into()));
    let ranges = guest.open_ranges(1, "g").unwrap();
    assert_eq!(
        guest.try_range(ranges, true, 1 << 63, 1),
        Err("unsupported".into())
    );
    assert_eq!(
        guest.try_range(ranges, true, u64::MAX >> 1, u64::MAX),
        Ok(true)
    );
    assert_eq!(guest.try_range(ranges, true, 0, 1), Err("quota".into()));
    guest.drop_ranges(read);
    assert_eq!(guest.try_range(ranges, true, 0, 1), Ok(true));
    // The families that a lockspace has do not count for ranges.
    let elsewhere = guest.open_ranges(2, "g").unwrap();
    assert!(guest.same_ranges(ranges, elsewhere));
    let third = guest.open_ranges(1, "h").unwrap();
    assert_eq!(guest.open_ranges(1, "h"), Err("quota".into()));
    guest.drop_ranges(third);
    if cfg!(target_os = "linux") {
        assert_eq!(guest.open_raw(2, "g"), Err("family-mismatch".into()));
    }
    drop(guest);
    assert_eq!((manager.open_files(), manager.waiter_threads()), (0, 0));
}

#[test]
fn a_lock_of_flock_excludes_its_programs_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut guest = guest(directory.path(), Host::Async);
    let lock = guest.open_flock(0, "f").unwrap();
    guest.acquire(lock, true, None).unwrap();
    let file = std::fs::File::open(directory.path().join("f")).unwrap();
    assert!(matches!(
        file.try_lock(),
        Err(std::fs::TryLockError::WouldBlock)
    ));
    let ranges = guest.open_ranges(0, "f").unwrap();
    assert_eq!(
        guest.try_range(ranges, true, 0, 0),
        Ok(cfg!(target_os = "linux"))
    );
    if cfg!(target_os = "linux") {
        assert_eq!(guest.open("data/f"), Err("family-mismatch".into()));
    }
    guest.close_locks();
    file.try_lock().unwrap();
}

/// No thread and no file is left when the guests are gone.
#[test]
fn waits_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let manager = LockManager::new(Ceilings::default());
    let setup = || Setup::data(directory.path(), &manager).actor(Host::Async);
    let mut holder = setup();
    let held = holder.open_ranges(0, "f").unwrap();
    holder.set_range(held, true, 0, 0, None).unwrap();
    let waits: Vec<_> = (0..8)
        .map(|n| {
            let mut guest = setup();
            start(move || {
                let ranges = guest.open_ranges(0, "f").unwrap();
                guest.set_range(ranges, true, n, 1, Some(10))
            })
        })
        .collect();
    for wait in waits {
        assert_eq!(wait.finish(), Err("timeout".into()));
    }
    let begun = Instant::now();
    while manager.open_files() > 1 {
        assert!(begun.elapsed() < LIVENESS_TIMEOUT);
        thread::yield_now();
    }
    drop(holder);
    assert_eq!(manager.open_files(), 0);
}
