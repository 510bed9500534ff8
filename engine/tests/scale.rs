//! Many requests, many locks, few threads.
#![cfg(all(feature = "conformance", target_os = "linux"))]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Acquire, Ceilings, ErrorKind, Grant, Limits, LockManager, Mode,
    file::{FileSpace, Order},
    testing::conformance::{LIVENESS_TIMEOUT, block_on},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    future::Future,
    path::Path,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

fn grant(directory: &Path, order: Order) -> Grant {
    let dir = Dir::open_ambient_dir(directory, ambient_authority()).unwrap();
    Grant::new(FileSpace::new(dir).order(order).into_space())
}

fn poll(request: &mut Acquire) -> Poll<()> {
    let polled = Pin::new(request).poll(&mut Context::from_waker(Waker::noop()));
    polled.map(|guard| drop(guard.unwrap()))
}

/// More than the usual soft limit.
fn raise_descriptors() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn ten_thousand_requests_wait_for_one_lock_on_no_thread() {
    const WAITERS: usize = 10_000;
    let directory = tempfile::tempdir().unwrap();
    let grant = grant(directory.path(), Order::Fair);
    let manager = LockManager::new(Ceilings::default());
    let holder = manager.owner(Limits::default());
    let lock = holder.open(&grant, "a.lock").unwrap();
    let guard = lock.try_acquire(Mode::Exclusive).unwrap();
    let mut waiting: Vec<_> = (0..WAITERS)
        .map(|at| {
            let owner = manager.owner(Limits::default());
            let lock = owner.open(&grant, "a.lock").unwrap();
            let mode = if at % 10 == 0 {
                Mode::Exclusive
            } else {
                Mode::Shared
            };
            // A deadline costs no thread either, one timer apart.
            let request = lock
                .start_acquire(mode, Some(LIVENESS_TIMEOUT * 10))
                .unwrap();
            (request, owner)
        })
        .collect();
    assert_eq!((manager.waiter_threads(), manager.open_files()), (0, 1));
    // A third of them gives up, from all over the queue.
    let mut at = 0;
    waiting.retain(|_| {
        at += 1;
        at % 3 != 0
    });
    drop(guard);
    for (mut request, _owner) in waiting {
        // First come, first served: it is always the turn of the next, if its
        // predecessors have been polled.
        if poll(&mut request).is_pending() {
            drop(block_on(request).unwrap());
        }
    }
    lock.try_acquire(Mode::Exclusive).unwrap();
}

#[test]
fn a_thousand_contended_locks_wait_on_as_many_threads_and_no_more() {
    const LOCKS: usize = 1_000;
    raise_descriptors();
    let directory = tempfile::tempdir().unwrap();
    // Without an order there is one step to each wait, so the count is exact
    // at any time.
    let grant = grant(directory.path(), Order::Kernel);
    let mut limits = Limits::default();
    (limits.open_locks, limits.waiting_requests) = (LOCKS + 1, 10 * LOCKS);
    (limits.held_locks, limits.waiter_threads) = (10 * LOCKS, LOCKS + 1);
    let mut ceilings = Ceilings::default();
    ceilings.waiter_threads = LOCKS;
    let (here, there) = (
        LockManager::new(ceilings),
        LockManager::new(Ceilings::default()),
    );
    let (owner, foreign) = (here.owner(limits.clone()), there.owner(limits));
    let names: Vec<_> = (0..=LOCKS).map(|at| format!("{at}.lock")).collect();
    let held: Vec<_> = names
        .iter()
        .map(|name| {
            let lock = foreign.open(&grant, name).unwrap();
            lock.try_acquire(Mode::Exclusive).unwrap()
        })
        .collect();
    let locks: Vec<_> = names
        .iter()
        .map(|name| owner.open(&grant, name).unwrap())
        .collect();
    let mut waiting = Vec::new();
    for lock in &locks[..LOCKS] {
        // Several for each; one of them waits outside.
        for _ in 0..3 {
            waiting.push(lock.start_acquire(Mode::Exclusive, None).unwrap());
        }
    }
    assert_eq!(here.waiter_threads(), LOCKS);
    // Beyond the ceiling there is an error, and the others are as they were.
    let mut beyond = locks[LOCKS].start_acquire(Mode::Exclusive, None).unwrap();
    let Poll::Ready(result) = Pin::new(&mut beyond).poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("it waits without a thread");
    };
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
    let begun = Instant::now();
    drop(held);
    for request in waiting {
        drop(block_on(request).unwrap());
    }
    assert!(begun.elapsed() < LIVENESS_TIMEOUT);
    assert_eq!(owner.in_use(), 0);
}

#[test]
fn a_guest_has_a_share_of_the_threads() {
    let directory = tempfile::tempdir().unwrap();
    let grant = grant(directory.path(), Order::Fair);
    let there = LockManager::new(Ceilings::default()).owner(Limits::default());
    let here = LockManager::new(Ceilings::default());
    let mut limits = Limits::default();
    limits.waiter_threads = 1;
    let (greedy, modest) = (here.owner(limits.clone()), here.owner(limits));
    let names = ["a.lock", "b.lock", "c.lock"];
    let held = names.map(|name| {
        let lock = there.open(&grant, name).unwrap();
        lock.try_acquire(Mode::Exclusive).unwrap()
    });
    let start = |owner: &clasp_engine::Owner, name| {
        let lock = owner.open(&grant, name).unwrap();
        lock.start_acquire(Mode::Exclusive, None).unwrap()
    };
    let first = start(&greedy, names[0]);
    let refused = block_on(start(&greedy, names[1])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Quota);
    let other = start(&modest, names[2]);
    drop(held);
    drop(block_on(first).unwrap());
    drop(block_on(other).unwrap());
}
