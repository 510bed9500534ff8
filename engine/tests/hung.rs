//! A back end that hangs keeps its own requests waiting for as long as their
//! timeouts say, and no other lock.
#![cfg(feature = "conformance")]
#![allow(missing_docs, reason = "tests")]

use clasp_engine::{
    Ceilings, ErrorKind, Grant, Limits, Lock, LockManager, Mode, Owner,
    testing::{
        conformance::{LIVENESS_TIMEOUT, block_on},
        delayed::Delayed,
        memory::Memory,
    },
};
use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

const SHORT: Option<Duration> = Some(Duration::from_millis(20));

fn lock(manager: &LockManager, grant: &Grant, name: &str) -> (Owner, Lock) {
    let owner = manager.owner(Limits::default());
    let lock = owner.open(grant, name).unwrap();
    (owner, lock)
}

/// Runs `f` on a thread of its own, and does not wait for ever.
fn finishes<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(f()));
    receive.recv_timeout(LIVENESS_TIMEOUT).expect("it hangs")
}

fn kind<T>(result: Result<T, clasp_engine::Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

struct World {
    slow: Delayed,
    manager: LockManager,
    hung: Grant,
    healthy: Grant,
}

impl World {
    fn new() -> World {
        let slow = Delayed::new(Memory::new(), Duration::from_micros(50), 1);
        World {
            hung: Grant::new(Arc::new(slow.clone())),
            healthy: Grant::new(Memory::new().space()),
            manager: LockManager::new(Ceilings::default()),
            slow,
        }
    }

    /// Another lock of the same host: it is taken and handed over, and timeouts
    /// are told, in every form.
    fn check_others(&self) {
        let (_a, first) = lock(&self.manager, &self.healthy, "other");
        let (_b, second) = lock(&self.manager, &self.healthy, "other");
        finishes(move || {
            for _ in 0..50 {
                let guard = first.acquire_blocking(Mode::Exclusive, None).unwrap();
                let request = second.start_acquire(Mode::Exclusive, None).unwrap();
                drop(guard);
                drop(block_on(request).unwrap());
            }
            let guard = first.try_acquire(Mode::Exclusive).unwrap();
            let timed_out = Some(ErrorKind::Timeout);
            let blocking = second.acquire_blocking(Mode::Shared, SHORT);
            assert_eq!(kind(blocking), timed_out);
            let task = block_on(second.acquire(Mode::Shared, SHORT));
            assert_eq!(kind(task), timed_out);
            drop(guard);
        });
    }
}

#[test]
fn timeouts_are_told_and_other_locks_go_on() {
    let world = World::new();
    let (_a, blocking) = lock(&world.manager, &world.hung, "a");
    let (_b, task) = lock(&world.manager, &world.hung, "a");
    let (_c, trying) = lock(&world.manager, &world.hung, "a");
    world.slow.hang(true);
    let waits = thread::spawn(move || {
        let blocking = kind(blocking.acquire_blocking(Mode::Exclusive, SHORT));
        (blocking, kind(block_on(task.acquire(Mode::Shared, SHORT))))
    });
    world.check_others();
    let (blocking, task) = finishes(move || waits.join().unwrap());
    assert_eq!(blocking, Some(ErrorKind::Timeout));
    assert_eq!(task, Some(ErrorKind::Timeout));
    let (tried, trying) = finishes(move || (kind(trying.try_acquire(Mode::Shared)), trying));
    assert_eq!(tried, Some(ErrorKind::Unavailable));
    world.check_others();
    // It is of use again when it answers again.
    world.slow.hang(false);
    finishes(move || drop(trying.acquire_blocking(Mode::Exclusive, None).unwrap()));
}

#[test]
fn a_release_does_not_wait_for_a_back_end_that_hangs() {
    let world = World::new();
    let (owner, holder) = lock(&world.manager, &world.hung, "a");
    let (_b, next) = lock(&world.manager, &world.hung, "a");
    let guard = holder.acquire_blocking(Mode::Exclusive, None).unwrap();
    world.slow.hang(true);
    finishes(move || drop(guard));
    assert_eq!(owner.in_use(), 0);
    world.check_others();
    let timed_out = kind(finishes(move || next.acquire_blocking(Mode::Shared, SHORT)));
    assert_eq!(timed_out, Some(ErrorKind::Timeout));
    world.slow.hang(false);
    finishes(move || drop(holder.acquire_blocking(Mode::Exclusive, None).unwrap()));
}

#[test]
fn an_operation_that_fails_ends_its_request_alone() {
    let world = World::new();
    let (_a, lock_a) = lock(&world.manager, &world.hung, "a");
    world.slow.fail(1);
    let failed = lock_a.acquire_blocking(Mode::Exclusive, None);
    assert_eq!(kind(failed), Some(ErrorKind::Unavailable));
    drop(lock_a.acquire_blocking(Mode::Exclusive, None).unwrap());
}

/// A lock that a back end loses is held no more, and may be taken again.
#[test]
fn holds_end_with_the_loss_of_their_lock() {
    for delayed in [false, true] {
        let memory = Memory::new();
        let slow = Delayed::new(memory.clone(), Duration::from_micros(50), 2);
        let grant = match delayed {
            true => Grant::new(Arc::new(slow)),
            false => Grant::new(memory.space()),
        };
        let manager = LockManager::new(Ceilings::default());
        let (_a, holder) = lock(&manager, &grant, "a");
        let (_b, waiting) = lock(&manager, &grant, "a");
        for mode in [Mode::Exclusive, Mode::Shared] {
            let guard = holder.acquire_blocking(mode, None).unwrap();
            let request = waiting.start_acquire(Mode::Exclusive, None).unwrap();
            assert!(guard.is_held());
            memory.lose("a");
            assert!(!guard.is_held());
            // The next request gets the lock, though the guard is still there.
            let next = block_on(request).unwrap();
            assert_eq!(kind(guard.release()), Some(ErrorKind::Lost));
            next.release().unwrap();
        }
    }
}

/// Owners of a storm lose their locks, see failures, and go on.
#[test]
fn a_storm_of_losses_and_failures_leaves_nothing_behind() {
    let memory = Memory::fair();
    let slow = Delayed::new(memory.clone(), Duration::from_micros(30), 3);
    let grant = Grant::new(Arc::new(slow.clone()));
    let manager = LockManager::new(Ceilings::default());
    let mut threads = Vec::new();
    for owner in 0..4_u64 {
        let (_owner, lock) = lock(&manager, &grant, "a");
        let (memory, slow) = (memory.clone(), slow.clone());
        threads.push(thread::spawn(move || {
            let _owner = _owner;
            let (mut granted, mut lost) = (0, 0);
            for round in 0..150_u64 {
                let random = (owner * 151 + round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                let mode = match random & 1 {
                    0 => Mode::Shared,
                    _ => Mode::Exclusive,
                };
                if random % 13 == 0 {
                    slow.fail(1);
                }
                let timeout = (random % 5 == 0).then_some(Duration::from_micros(300));
                match lock.acquire_blocking(mode, timeout) {
                    Ok(guard) => {
                        granted += 1;
                        if random % 11 == 0 {
                            memory.lose("a");
                        }
                        lost += u32::from(guard.release().is_err());
                    }
                    Err(error) => assert!(
                        matches!(
                            error.kind(),
                            ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Lost
                        ),
                        "{error}"
                    ),
                }
            }
            (granted, lost)
        }));
    }
    let (mut granted, mut lost) = (0, 0);
    for thread in threads {
        let found = finishes(move || thread.join().unwrap());
        granted += found.0;
        lost += found.1;
    }
    // What is tested has happened.
    assert!(granted > 100 && lost > 0, "{granted} granted, {lost} lost");
    slow.fail(0);
    let (_owner, lock) = lock(&manager, &grant, "a");
    finishes(move || drop(lock.acquire_blocking(Mode::Exclusive, None).unwrap()));
}

/// A call on a hold of an owner that is closed does not wait for its back end.
#[test]
fn a_conversion_ends_when_its_owner_is_closed() {
    let world = World::new();
    let (owner, lock_a) = lock(&world.manager, &world.hung, "a");
    let mut guard = lock_a.acquire_blocking(Mode::Exclusive, None).unwrap();
    world.slow.hang(true);
    let closer = owner.handle();
    let converts = thread::spawn(move || kind(guard.downgrade()));
    world.slow.wait_for_an_operation();
    closer.close();
    let ended = finishes(move || converts.join().unwrap());
    assert_eq!(ended, Some(ErrorKind::Closed));
    world.slow.hang(false);
}
