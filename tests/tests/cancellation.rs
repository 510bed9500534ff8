//! Calls of guests of WASI 0.3 that are given up, at each point of a request's life.
#![allow(missing_docs, reason = "tests")]

use clasp_host::{Ceilings, LockManager};
use clasp_tests::{Actor, Host, LIVENESS_TIMEOUT, Setup, start};
use std::{thread, time::Instant};
use tempfile::TempDir;

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Behind another guest of the same host.
    Queued,
    /// Behind another host, so that it waits in the kernel.
    InKernel,
    /// It has the lock, and the guest has not gone on since.
    Granted,
    /// The call has returned, and no task of the guest has looked at the outcome.
    Uncollected,
}

const STAGES: [Stage; 4] = [
    Stage::Queued,
    Stage::InKernel,
    Stage::Granted,
    Stage::Uncollected,
];

/// A guest with a request.
struct Life {
    directory: TempDir,
    manager: LockManager,
    guest: Actor,
    request: u32,
    /// Who holds the lock, if the guest does not.
    holder: Option<Actor>,
}

impl Life {
    fn at(stage: Stage) -> Life {
        let directory = tempfile::tempdir().unwrap();
        let manager = LockManager::new(Ceilings::default());
        let other = LockManager::new(Ceilings::default());
        let manager_of_holder = match stage {
            Stage::InKernel => &other,
            _ => &manager,
        };
        let mut holder = Setup::data(directory.path(), manager_of_holder).actor(Host::Sync);
        let lock = holder.open_raw(0, "a.lock").unwrap();
        let guard = holder.acquire(lock, true, None).unwrap();
        let mut guest = Setup::data(directory.path(), &manager).actor(Host::Concurrent);
        let raw = guest.open_raw(0, "a.lock").unwrap();
        let request = guest.start(raw, true, None).unwrap();
        assert_eq!(guest.get(request), None);
        if stage == Stage::Granted || stage == Stage::Uncollected {
            holder.release(guard).unwrap();
        }
        if stage == Stage::Uncollected {
            guest.settle(request);
        }
        let holds = matches!(stage, Stage::Queued | Stage::InKernel);
        Life {
            directory,
            manager,
            guest,
            request,
            holder: holds.then_some(holder),
        }
    }
}

/// The lock is free, and nothing is left of the request.
fn nothing_is_left(directory: &TempDir, manager: &LockManager, holder: Option<Actor>) {
    drop(holder);
    assert_eq!(manager.snapshot().len(), 0);
    let mut next = Setup::data(directory.path(), manager).actor(Host::Sync);
    let lock = next.open("data/a.lock").unwrap();
    start(move || next.acquire(lock, true, None).map(drop))
        .finish()
        .unwrap();
    eventually(|| (manager.open_files(), manager.waiter_threads()) == (0, 0));
}

fn eventually(done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < LIVENESS_TIMEOUT, "never");
        thread::yield_now();
    }
}

#[test]
fn a_dropped_future_withdraws_its_request() {
    for stage in STAGES {
        let mut life = Life::at(stage);
        let handle = life.guest.locks_handle();
        life.guest.drop_request(life.request);
        assert_eq!(
            (handle.snapshot().len(), handle.in_use()),
            (0, 0),
            "{stage:?}"
        );
        // The guest goes on as if it had never asked.
        drop(life.holder);
        let raw = life.guest.open_raw(0, "a.lock").unwrap();
        let guard = life.guest.acquire(raw, true, None).unwrap();
        life.guest.release(guard).unwrap();
        drop(life.guest);
        nothing_is_left(&life.directory, &life.manager, None);
    }
}

#[test]
fn a_dropped_store_withdraws_its_requests() {
    for stage in STAGES {
        let life = Life::at(stage);
        drop(life.guest);
        nothing_is_left(&life.directory, &life.manager, life.holder);
    }
}

#[test]
fn a_closed_guest_has_no_requests_left_after_a_trap() {
    for stage in STAGES {
        let mut life = Life::at(stage);
        let handle = life.guest.locks_handle();
        life.guest.trap();
        handle.close();
        assert_eq!(handle.snapshot().len(), 0);
        // The store lives on, and holds nothing.
        drop(life.holder);
        let manager = &life.manager;
        let mut next = Setup::data(life.directory.path(), manager).actor(Host::Sync);
        let lock = next.open("data/a.lock").unwrap();
        start(move || next.acquire(lock, true, None).map(drop))
            .finish()
            .unwrap();
        drop(life.guest);
        nothing_is_left(&life.directory, manager, None);
    }
}

/// However far a call has come when the host stops polling it.
#[test]
fn an_abandoned_call_leaves_nothing_once_the_guest_is_closed() {
    for taken in [false, true] {
        for polls in 0..6 {
            for close in [false, true] {
                let directory = tempfile::tempdir().unwrap();
                let manager = LockManager::new(Ceilings::default());
                let mut holder = Setup::data(directory.path(), &manager).actor(Host::Sync);
                let lock = holder.open_raw(0, "a.lock").unwrap();
                let guard = taken.then(|| holder.acquire(lock, true, None).unwrap());
                let mut guest = Setup::data(directory.path(), &manager).actor(Host::Concurrent);
                let raw = guest.open_raw(0, "a.lock").unwrap();
                let ended = guest.abandon_acquire(raw, polls);
                assert!(!(ended && taken), "it took a lock that was held");
                let handle = guest.locks_handle();
                if let Some(guard) = guard {
                    holder.release(guard).unwrap();
                }
                if close {
                    handle.close();
                    assert_eq!(handle.snapshot().len(), 0);
                    // The call ends now, with an error, or has ended before.
                    assert_eq!(guest.open_raw(0, "a.lock"), Err("closed".into()));
                }
                drop(guest);
                nothing_is_left(&directory, &manager, Some(holder));
            }
        }
    }
}

/// The guest may call on after the host has given up a call: the call was not withdrawn.
#[test]
fn an_abandoned_call_goes_on_with_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let manager = LockManager::new(Ceilings::default());
    let mut holder = Setup::data(directory.path(), &manager).actor(Host::Sync);
    let lock = holder.open_raw(0, "a.lock").unwrap();
    let guard = holder.acquire(lock, true, None).unwrap();
    let mut guest = Setup::data(directory.path(), &manager).actor(Host::Concurrent);
    let raw = guest.open_raw(0, "a.lock").unwrap();
    // It waits by then. Given up earlier, wasmtime 48 may lose a task that has yielded.
    assert!(!guest.abandon_acquire(raw, 4));
    let waiting = guest.start(raw, true, None).unwrap();
    holder.release(guard).unwrap();
    // The first guard that the guest got is that of the abandoned call.
    let done = start(move || {
        while guest.received() == 0 {}
        assert_eq!(guest.get(waiting), None);
        guest.release(0).unwrap();
        guest.wait(waiting).unwrap();
    });
    done.finish();
    nothing_is_left(&directory, &manager, Some(holder));
}

/// Nothing is a deadlock, since another task may end the wait.
#[test]
fn a_task_waits_for_what_another_task_of_its_guest_holds() {
    let directory = tempfile::tempdir().unwrap();
    let manager = LockManager::new(Ceilings::default());
    let mut guest = Setup::data(directory.path(), &manager).actor(Host::Concurrent);
    let raw = guest.open_raw(0, "a.lock").unwrap();
    let guard = guest.acquire(raw, true, None).unwrap();
    let request = guest.start(raw, true, None).unwrap();
    assert_eq!(guest.get(request), None);
    guest.release(guard).unwrap();
    let guard = guest.wait(request).unwrap();
    guest.release(guard).unwrap();
}

#[test]
fn a_guest_waits_for_many_locks_at_once_without_threads() {
    const LOCKS: u32 = 100;
    let directory = tempfile::tempdir().unwrap();
    let manager = LockManager::new(Ceilings::default());
    let actor = |host| {
        let mut actor = Setup::data(directory.path(), &manager).actor(host);
        let locks: Vec<_> = (0..LOCKS)
            .map(|at| actor.open_raw(0, &format!("{at}.lock")).unwrap())
            .collect();
        (actor, locks)
    };
    let (mut holder, held) = actor(Host::Sync);
    let (mut guest, awaited) = actor(Host::Concurrent);
    let guards: Vec<_> = held
        .iter()
        .map(|&lock| holder.acquire(lock, true, None).unwrap())
        .collect();
    let requests: Vec<_> = awaited
        .iter()
        .map(|&lock| guest.start(lock, true, None).unwrap())
        .collect();
    assert_eq!(manager.waiter_threads(), 0);
    for guard in guards {
        holder.release(guard).unwrap();
    }
    for request in requests {
        guest.wait(request).unwrap();
    }
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
#[test]
fn a_dropped_future_withdraws_a_request_for_bytes() {
    for granted in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let manager = LockManager::new(Ceilings::default());
        let setup = || Setup::data(directory.path(), &manager);
        let (mut holder, mut guest) = (setup().actor(Host::Sync), setup().actor(Host::Concurrent));
        let held = holder.open_ranges(0, "f").unwrap();
        holder.set_range(held, true, 0, 10, None).unwrap();
        let awaited = guest.open_ranges(0, "f").unwrap();
        let request = guest.start_range(awaited, true, 5, 10).unwrap();
        assert_eq!(guest.get(request), None);
        let handle = guest.locks_handle();
        assert_eq!(handle.snapshot().len(), 1);
        if granted {
            holder.unlock_range(held, 0, 0).unwrap();
            eventually(|| handle.snapshot().iter().all(|range| range.held));
        }
        guest.drop_request(request);
        if granted {
            // The call had ended, and the guest has the bytes, or had not, and it has none.
            guest.unlock_range(awaited, 0, 0).unwrap();
        }
        assert_eq!(handle.snapshot().len(), 0);
        holder.unlock_range(held, 0, 0).unwrap();
        assert_eq!(holder.try_range(held, true, 0, 0), Ok(true));
        drop(guest);
        eventually(|| manager.waiter_threads() == 0);
    }
}
