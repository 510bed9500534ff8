//! Semaphores on files: at most so many holders among all hosts, none of the permits idle.
#![cfg(all(feature = "conformance", target_os = "linux", not(shuttle)))]
#![allow(missing_docs, reason = "tests")]

use clasp_engine::{
    ErrorKind, Grant, Limits, LockManager, Mode, Owner,
    file::{FileSpace, Order},
    testing::conformance::block_on,
};
use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// One process, more or less.
struct Host {
    grant: Grant,
    manager: LockManager,
}

impl Host {
    fn new(directory: &Path) -> Host {
        Host::ordered(directory, Order::default())
    }

    fn ordered(directory: &Path, order: Order) -> Host {
        let authority = cap_std::ambient_authority();
        let dir = cap_std::fs::Dir::open_ambient_dir(directory, authority).unwrap();
        Host {
            grant: Grant::new(FileSpace::new(dir).order(order).into_space()),
            manager: LockManager::new(clasp_engine::Ceilings::default()),
        }
    }

    fn owner(&self) -> Owner {
        self.manager.owner(Limits::default().waiter_threads(1024))
    }
}

/// Hosts with different orders, as those of two users have them: neither has some of the permits
/// while it waits for those of the other.
#[test]
fn hosts_with_different_orders_do_not_wait_for_each_other() {
    let directory = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for order in [Order::Fair, Order::Kernel] {
            let host = Host::ordered(directory.path(), order);
            scope.spawn(move || {
                let owner = host.owner();
                let semaphore = owner.open_semaphore(&host.grant, "a", 3).unwrap();
                for count in (1..=3).cycle().take(600) {
                    semaphore.acquire_blocking(count, None).unwrap();
                }
            });
        }
    });
}

#[test]
fn permits_are_counted_among_hosts() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (Host::new(directory.path()), Host::new(directory.path()));
    let (ours, theirs) = (here.owner(), there.owner());
    let semaphore = ours.open_semaphore(&here.grant, "a", 3).unwrap();
    let other = theirs.open_semaphore(&there.grant, "a", 3).unwrap();
    let two = semaphore.try_acquire(2).unwrap();
    let one = other.try_acquire(1).unwrap();
    let mut all: Vec<_> = two.numbers().iter().chain(one.numbers().iter()).collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);
    let would_block = |result: Result<_, clasp_engine::Error>| {
        assert_eq!(result.map(drop).unwrap_err().kind(), ErrorKind::WouldBlock);
    };
    would_block(semaphore.try_acquire(1));
    would_block(other.try_acquire(1));
    // One that waits gets what another host gives back.
    let waits = semaphore.start_acquire(1, None).unwrap();
    one.release().unwrap();
    let third = block_on(waits).unwrap();
    assert_eq!(third.numbers().iter().collect::<Vec<_>>(), [2]);
    // It has all of them and asks for one more.
    let error = semaphore.acquire_blocking(1, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadlock);
    let soon = Some(Duration::from_millis(20));
    let error = other.acquire_blocking(3, soon).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    drop((two, third));
    assert_eq!(other.try_acquire(3).unwrap().numbers().len(), 3);
}

#[test]
fn what_cannot_be_a_semaphore_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::new(directory.path());
    let owner = host.owner();
    let open = |name, permits| {
        let opened = owner.open_semaphore(&host.grant, name, permits);
        opened.map_err(|error| error.kind())
    };
    assert_eq!(open("a", 0).unwrap_err(), ErrorKind::Unsupported);
    assert_eq!(open("a", 65).unwrap_err(), ErrorKind::Unsupported);
    let semaphore = open("a", 2).unwrap();
    assert_eq!(open("a", 3).unwrap_err(), ErrorKind::FamilyMismatch);
    let lock = owner.open(&host.grant, "a").unwrap_err();
    assert_eq!(lock.kind(), ErrorKind::FamilyMismatch);
    for count in [0, 3] {
        let error = semaphore.try_acquire(count).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    let shared = host.grant.clone().shared_only(true);
    let error = owner.open_semaphore(&shared, "b", 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
}

/// Threads of several hosts take permits, some of them several at once.
#[test]
fn never_more_holders_than_permits() {
    const PERMITS: u8 = 3;
    let directory = tempfile::tempdir().unwrap();
    let inside = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    let slots = Mutex::new(std::collections::HashSet::new());
    thread::scope(|scope| {
        for _ in 0..3 {
            let host = std::sync::Arc::new(Host::new(directory.path()));
            for thread in 0..3_u8 {
                let host = std::sync::Arc::clone(&host);
                let (inside, most, slots) = (&inside, &most, &slots);
                scope.spawn(move || {
                    let owner = host.owner();
                    let semaphore = owner.open_semaphore(&host.grant, "a", PERMITS).unwrap();
                    for turn in 0..200_u8 {
                        let count = if turn % 7 == thread { 2 } else { 1 };
                        let permit = semaphore.acquire_blocking(count, None).unwrap();
                        let now = inside.fetch_add(count.into(), Ordering::SeqCst);
                        assert!(now + usize::from(count) <= PERMITS.into());
                        most.fetch_max(now + usize::from(count), Ordering::SeqCst);
                        for slot in permit.numbers().iter() {
                            assert!(slots.lock().unwrap().insert(slot), "{slot} twice");
                        }
                        thread::yield_now();
                        for slot in permit.numbers().iter() {
                            assert!(slots.lock().unwrap().remove(&slot));
                        }
                        inside.fetch_sub(count.into(), Ordering::SeqCst);
                        permit.release().unwrap();
                    }
                });
            }
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), PERMITS.into());
}

/// A lock on the whole file, as a native program takes it, excludes all permits.
#[test]
fn a_lock_on_the_file_keeps_all_permits() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (Host::new(directory.path()), Host::new(directory.path()));
    let (ours, theirs) = (here.owner(), there.owner());
    let lock = theirs.open(&there.grant, "a").unwrap();
    let guard = lock.acquire_blocking(Mode::Exclusive, None).unwrap();
    let semaphore = ours.open_semaphore(&here.grant, "a", 2).unwrap();
    let error = semaphore.try_acquire(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let waits = semaphore.start_acquire(2, None).unwrap();
    drop(guard);
    assert_eq!(block_on(waits).unwrap().numbers().len(), 2);
}
