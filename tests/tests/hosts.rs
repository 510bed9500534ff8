//! Guests of one host: those of WASI 0.2 in blocking and in asynchronous hosts, and those of
//! WASI 0.3.
#![allow(missing_docs, reason = "tests")]

use clasp_host::{Ceilings, Family, Limits, LockManager, LocksCtx, Lockspace, Mode};
use clasp_tests::{
    Actor, Host, STILL_BLOCKED, Setup, keeps_creation_times, remove_name, start, waits_need_threads,
};
use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

const HOSTS: [Host; 3] = [Host::Sync, Host::Async, Host::Concurrent];

/// Where a guest that waits does nothing else, so that it may wait for itself.
const BLOCKED: [Host; 2] = [Host::Sync, Host::Async];

struct World {
    directory: TempDir,
    manager: LockManager,
}

impl World {
    fn new() -> World {
        World {
            directory: tempfile::tempdir().unwrap(),
            manager: LockManager::new(Ceilings::default()),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A guest with `data`, and a lock in it.
    fn actor(&self, host: Host) -> (Actor, u32) {
        let mut actor = Setup::data(self.path(), &self.manager).actor(host);
        let lock = actor.open("data/a.lock").unwrap();
        (actor, lock)
    }

    fn limited(&self, host: Host, change: impl FnOnce(&mut Limits)) -> Actor {
        let mut limits = Limits::default();
        change(&mut limits);
        Setup::data(self.path(), &self.manager)
            .locks(|locks| {
                locks.limits(limits);
            })
            .actor(host)
    }
}

fn error<T>(result: Result<T, String>) -> String {
    result.err().unwrap_or_else(|| "no error".into())
}

#[test]
fn two_guests_exclude_each_other() {
    for (one, two) in [
        (Host::Sync, Host::Sync),
        (Host::Async, Host::Async),
        (Host::Concurrent, Host::Concurrent),
        (Host::Sync, Host::Async),
        (Host::Sync, Host::Concurrent),
        (Host::Concurrent, Host::Async),
    ] {
        let world = World::new();
        let (mut a, lock) = world.actor(one);
        let (mut b, other) = world.actor(two);
        let guard = a.acquire(lock, true, None).unwrap();
        assert_eq!(error(b.try_acquire(other, false)), "taken");
        assert_eq!(error(b.acquire(other, true, Some(0))), "timeout");
        assert_eq!(error(b.acquire(other, true, Some(5))), "timeout");
        let waiting = start(move || {
            let guard = b.acquire(other, true, None).unwrap();
            b.release(guard)
        });
        waiting.must_block();
        a.drop_guard(guard);
        waiting.finish().unwrap();
        assert!(a.try_acquire(lock, true).is_ok());
    }
}

#[test]
fn readers_share_among_guests() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, lock) = world.actor(host);
        let (mut b, other) = world.actor(host);
        let first = a.acquire(lock, false, None).unwrap();
        let second = b.acquire(other, false, None).unwrap();
        assert_eq!(error(b.try_acquire(other, true)), "taken");
        a.release(first).unwrap();
        // Its own shared lock is in the way, and it would wait for itself.
        let (timeout, refused) = match host {
            Host::Concurrent => (Some(5), "timeout"),
            Host::Sync | Host::Async => (None, "deadlock"),
        };
        assert_eq!(error(b.acquire(other, true, timeout)), refused);
        b.release(second).unwrap();
        assert!(b.try_acquire(other, true).is_ok());
    }
}

#[test]
fn two_handles_of_one_guest_are_a_deadlock_and_no_hang() {
    for host in BLOCKED {
        let (world, second) = (World::new(), "./data//a.lock");
        let (mut actor, lock) = world.actor(host);
        let second = actor.open(second).unwrap();
        let guard = actor.acquire(lock, true, None).unwrap();
        for handle in [lock, second] {
            assert_eq!(error(actor.try_acquire(handle, false)), "taken");
            assert_eq!(error(actor.acquire(handle, true, None)), "deadlock");
        }
        actor.release(guard).unwrap();
        assert!(actor.acquire(second, true, None).is_ok());
    }
}

#[test]
fn a_cycle_of_two_guests_is_a_deadlock_for_the_second() {
    for host in BLOCKED {
        let world = World::new();
        let (mut a, a1) = world.actor(host);
        let (mut b, b1) = world.actor(host);
        let (a2, b2) = (
            a.open("data/b.lock").unwrap(),
            b.open("data/b.lock").unwrap(),
        );
        let held = a.acquire(a1, true, None).unwrap();
        let other = b.acquire(b2, true, None).unwrap();
        let waiting = start(move || {
            let guard = a.acquire(a2, true, None);
            (a, guard)
        });
        waiting.must_block();
        assert_eq!(error(b.acquire(b1, true, None)), "deadlock");
        b.release(other).unwrap();
        let (mut a, guard) = waiting.finish();
        a.release(guard.unwrap()).unwrap();
        a.release(held).unwrap();
    }
}

#[test]
fn a_request_is_collected_once() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, lock) = world.actor(host);
        let (mut b, _) = world.actor(host);
        let raw = b.open_raw(0, "a.lock").unwrap();
        let guard = a.acquire(lock, true, None).unwrap();
        let request = b.start(raw, true, None).unwrap();
        assert_eq!(b.get(request), None);
        let waiting = start(move || {
            let guard = b.wait(request).unwrap();
            (b, guard)
        });
        waiting.must_block();
        a.release(guard).unwrap();
        let (mut b, guard) = waiting.finish();
        assert_eq!(b.get(request), Some(Err("taken".into())));
        b.drop_request(request);
        assert_eq!(error(a.try_acquire(lock, true)), "taken");
        b.release(guard).unwrap();
        assert!(a.try_acquire(lock, true).is_ok());
    }
}

#[test]
fn a_request_may_time_out_or_be_dropped_before_its_pollable() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, lock) = world.actor(host);
        let (mut b, _) = world.actor(host);
        let raw = b.open_raw(0, "a.lock").unwrap();
        let guard = a.acquire(lock, true, None).unwrap();
        let request = b.start(raw, true, Some(5)).unwrap();
        assert_eq!(error(b.wait(request)), "timeout");
        let request = b.start(raw, true, None).unwrap();
        b.drop_request_before_pollable(request);
        // Granted, and dropped without having been collected.
        let request = b.start(raw, true, None).unwrap();
        a.release(guard).unwrap();
        assert_eq!(error(a.try_acquire(lock, true)), "taken");
        b.drop_request(request);
        assert!(a.try_acquire(lock, true).is_ok());
    }
}

#[test]
fn a_dropped_store_and_a_closed_context_let_go() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, lock) = world.actor(host);
        let (mut b, other) = world.actor(host);
        a.acquire(lock, true, None).unwrap();
        drop(a);
        let guard = b.try_acquire(other, true).unwrap();
        b.close_locks();
        assert_eq!(error(b.check(guard)), "closed");
        assert_eq!(error(b.release(guard)), "closed");
        assert_eq!(error(b.try_acquire(other, true)), "closed");
        assert_eq!(error(b.last_touched(other)), "closed");
        assert_eq!(error(b.open("data/a.lock")), "closed");
        let (mut c, lock) = world.actor(host);
        assert!(c.try_acquire(lock, true).is_ok());
    }
}

#[test]
fn a_trap_holds_the_lock_until_close_or_the_end_of_the_store() {
    for host in HOSTS {
        for close in [true, false] {
            let world = World::new();
            let (mut a, lock) = world.actor(host);
            let (mut b, other) = world.actor(host);
            a.acquire(lock, true, None).unwrap();
            a.trap();
            assert_eq!(error(b.try_acquire(other, true)), "taken");
            let waiting = start(move || b.acquire(other, true, None).map(|_| b));
            waiting.must_block();
            if close {
                a.close_locks();
            } else {
                drop(a);
            }
            waiting.finish().unwrap();
        }
    }
}

#[test]
fn close_ends_a_wait() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, lock) = world.actor(host);
        let (mut b, other) = world.actor(host);
        let raw = b.open_raw(0, "a.lock").unwrap();
        a.acquire(lock, true, None).unwrap();
        let request = b.start(raw, true, None).unwrap();
        b.close_locks();
        assert_eq!(error(b.wait(request)), "closed");
        assert_eq!(error(b.acquire(other, true, None)), "closed");
    }
}

#[test]
fn each_quota_is_an_error_value() {
    for host in HOSTS {
        let world = World::new();
        let limit = "quota";

        // The actor opens a path twice, for the two kinds of lock of the SDK.
        let mut actor = world.limited(host, |l| l.open_locks = 3);
        let lock = actor.open("data/a.lock").unwrap();
        assert_eq!(error(actor.open("data/b.lock")), limit);
        actor.close(lock);
        actor.open("data/b.lock").unwrap();

        let mut actor = world.limited(host, |l| l.created_locks = 1);
        actor.open("data/c.lock").unwrap();
        assert_eq!(error(actor.open("data/d.lock")), limit);
        assert!(!world.path().join("d.lock").exists());
        actor.open("data/a.lock").unwrap();

        let mut actor = world.limited(host, |l| l.held_locks = 1);
        let lock = actor.open("data/a.lock").unwrap();
        let guard = actor.try_acquire(lock, false).unwrap();
        assert_eq!(error(actor.try_acquire(lock, false)), limit);
        assert_eq!(error(actor.acquire(lock, false, None)), limit);
        actor.release(guard).unwrap();

        let mut actor = world.limited(host, |l| l.name_bytes = 4);
        assert_eq!(error(actor.open("data/a.lock")), "invalid-name");
        actor.open("data/a").unwrap();

        let (mut holder, held) = world.actor(host);
        let mut actor = world.limited(host, |l| l.waiting_requests = 1);
        let raw = actor.open_raw(0, "a.lock").unwrap();
        holder.acquire(held, true, None).unwrap();
        let request = actor.start(raw, true, None).unwrap();
        assert_eq!(error(actor.start(raw, true, None)), limit);
        actor.drop_request(request);
        actor.start(raw, true, None).unwrap();

        let mut actor = world.limited(host, |l| l.longest_wait = Some(STILL_BLOCKED));
        let lock = actor.open("data/a.lock").unwrap();
        assert_eq!(error(actor.acquire(lock, true, None)), "timeout");

        // Another host holds the lock, so this one has to wait in the kernel.
        let world = World::new();
        let elsewhere = LockManager::new(Ceilings::default());
        let mut foreign = Setup::data(world.path(), &elsewhere).actor(host);
        let lock = foreign.open("data/a.lock").unwrap();
        foreign.acquire(lock, true, None).unwrap();
        let mut actor = world.limited(host, |l| l.waiter_threads = 0);
        let raw = actor.open_raw(0, "a.lock").unwrap();
        // A guest of WASI 0.3 learns it at once.
        let outcome = match actor.start(raw, true, None) {
            Ok(request) => actor.get(request),
            Err(error) => Some(Err(error)),
        };
        let refused = waits_need_threads().then(|| Err(limit.into()));
        assert_eq!(outcome, refused);
    }
}

#[test]
fn grants_say_what_is_permitted() {
    let world = World::new();
    let grant = |configure: fn(Lockspace) -> Lockspace| {
        let space = configure(Lockspace::open_ambient(world.path()).unwrap());
        Setup::new(&world.manager).locks(|locks| {
            locks.lockspace("data", space);
        })
    };
    let mut actor = grant(|s| s.create(false)).actor(Host::Sync);
    assert_eq!(error(actor.open("data/a.lock")), "no-entry");
    assert!(!world.path().join("a.lock").exists());

    let mut reader = grant(|s| s.shared_only(true)).actor(Host::Sync);
    assert_eq!(error(reader.open("data/a.lock")), "no-entry");
    assert!(!world.path().join("a.lock").exists());
    let mut writer = grant(|s| s).actor(Host::Sync);
    let other = writer.open("data/a.lock").unwrap();
    let lock = reader.open("data/a.lock").unwrap();
    let raw = reader.open_raw(0, "a.lock").unwrap();
    assert_eq!(error(reader.acquire(lock, true, None)), "read-only");
    let guard = reader.acquire(raw, false, None).unwrap();
    assert_eq!(error(reader.touch(guard)), "read-only");
    assert_eq!(error(reader.try_upgrade(guard)), "read-only");
    reader.check(guard).unwrap();

    // A writer's own description excludes the reader's.
    assert_eq!(error(writer.try_acquire(other, true)), "taken");
    reader.release(guard).unwrap();
    let guard = writer.try_acquire(other, true).unwrap();
    assert_eq!(error(reader.try_acquire(lock, false)), "taken");
    writer.release(guard).unwrap();

    // One file in two families would not be one lock.
    if Family::supported().len() > 1 {
        let mut other = grant(|s| s.family(Family::supported()[1])).actor(Host::Sync);
        assert_eq!(error(other.open("data/a.lock")), "family-mismatch");
        drop((reader, writer));
        other.open("data/a.lock").unwrap();
    }

    let mut nothing = Setup::new(&world.manager).actor(Host::Sync);
    assert!(nothing.spaces().is_empty());
    assert_eq!(error(nothing.open("data/a.lock")), "not-granted");
}

#[test]
fn many_guests_count_together() {
    // On Wine a guest reads and writes a file in some 30 ms.
    const EACH: u64 = if cfg!(windows) { 20 } else { 200 };
    for host in HOSTS {
        let world = World::new();
        let guests: Vec<_> = (0..4)
            .map(|_| {
                let (mut actor, lock) = world.actor(host);
                start(move || {
                    for _ in 0..EACH {
                        let guard = actor.acquire(lock, true, None).unwrap();
                        actor.increment("data/count").unwrap();
                        actor.drop_guard(guard);
                    }
                })
            })
            .collect();
        for guest in guests {
            guest.finish();
        }
        let count = std::fs::read_to_string(world.path().join("count")).unwrap();
        assert_eq!(count, (4 * EACH).to_string());
    }
}

#[test]
fn a_very_long_timeout_is_a_wait_like_any_other() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, lock) = world.actor(host);
        let (mut b, other) = world.actor(host);
        let guard = a.acquire(lock, true, None).unwrap();
        let waiting = start(move || b.acquire(other, true, Some(u32::MAX)).map(|_| b));
        waiting.must_block();
        a.release(guard).unwrap();
        waiting.finish().unwrap();
    }
}

/// Whether locks of the default family are converted by the system.
fn converts() -> bool {
    Family::default() == Family::Posix
}

#[test]
fn a_guard_is_converted() {
    for host in HOSTS {
        for raw in [false, true] {
            let world = World::new();
            let (mut a, sdk) = world.actor(host);
            let (mut b, other) = world.actor(host);
            let lock = match raw {
                true => a.open_raw(0, "a.lock").unwrap(),
                false => sdk,
            };
            // The SDK's guard that can be converted is that of the reader-writer lock,
            // which its second exclusive acquisition is.
            let first = a.acquire(lock, true, None).unwrap();
            a.release(first).unwrap();
            let guard = a.acquire(lock, true, None).unwrap();
            assert!(a.is_exclusive(guard));
            a.downgrade(guard).unwrap();
            assert!(!a.is_exclusive(guard));
            let beside = b.try_acquire(other, false).unwrap();
            assert_eq!(a.try_upgrade(guard), Ok(false));
            assert!(!a.is_exclusive(guard));
            b.release(beside).unwrap();
            // It was exclusive before, so every family can do it.
            assert_eq!(a.try_upgrade(guard), Ok(true));
            assert_eq!(error(b.try_acquire(other, false)), "taken");
            a.release(guard).unwrap();

            let guard = a.acquire(lock, false, None).unwrap();
            let upgraded = a.try_upgrade(guard);
            let expected = match converts() {
                true => Ok(true),
                false => Err("unsupported".into()),
            };
            assert_eq!(upgraded, expected);
            a.check(guard).unwrap();
            a.drop_guard(guard);
            assert!(b.try_acquire(other, true).is_ok());
        }
    }
}

#[test]
fn tokens_increase_from_holder_to_holder() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, lock) = world.actor(host);
        let elsewhere = LockManager::new(Ceilings::default());
        let mut b = Setup::data(world.path(), &elsewhere).actor(host);
        let other = b.open_raw(0, "a.lock").unwrap();
        let guard = a.acquire(lock, true, None).unwrap();
        let first = match a.fencing_token(guard) {
            // Not every file system of a machine that runs the tests has attributes.
            Err(error) => {
                assert_eq!(error, "unsupported");
                return;
            }
            Ok(token) => token,
        };
        assert_eq!(a.fencing_token(guard), Ok(first));
        a.release(guard).unwrap();
        let guard = b.acquire(other, true, None).unwrap();
        assert!(b.fencing_token(guard).unwrap() > first);
        b.release(guard).unwrap();
        let guard = b.acquire(other, false, None).unwrap();
        assert_eq!(error(b.fencing_token(guard)), "unsupported");
    }
}

#[test]
fn a_touch_is_seen_by_all() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, lock) = world.actor(host);
        let elsewhere = LockManager::new(Ceilings::default());
        let mut b = Setup::data(world.path(), &elsewhere).actor(host);
        let watching = b.open_raw(0, "a.lock").unwrap();
        let untouched = b.last_touched(watching).unwrap();
        assert!(untouched.is_none() || !keeps_creation_times());
        for exclusive in [false, true] {
            let guard = a.acquire(lock, exclusive, None).unwrap();
            a.touch(guard).unwrap();
            let touched = b.last_touched(watching).unwrap().unwrap();
            assert_eq!(a.last_touched(lock), Ok(Some(touched)));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            assert!(touched.abs_diff(now.as_secs()) < 60);
            a.drop_guard(guard);
        }
        // The contents are nobody's business.
        assert_eq!(std::fs::read(world.path().join("a.lock")).unwrap(), b"");
    }
}

#[test]
fn a_guard_says_that_it_is_lost() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, _) = world.actor(host);
        let raw = a.open_raw(0, "a.lock").unwrap();
        let guard = a.acquire(raw, true, None).unwrap();
        a.check(guard).unwrap();
        assert_eq!(a.is_lost(guard), Ok(false));
        remove_name(&world.path().join("a.lock"));
        assert_eq!(error(a.check(guard)), "replaced");
        assert_eq!(a.is_lost(guard), Ok(false));
        a.drop_guard_before_pollable(guard);
        let guard = a.acquire(raw, true, None).unwrap();
        let handle = a.locks_handle();
        let waiting = start(move || a.wait_for_loss(guard));
        waiting.must_block();
        handle.close();
        assert_eq!(waiting.finish(), "closed");
    }
}

#[test]
fn a_full_table_is_an_error_value() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, lock) = world.actor(host);
        let raw = a.open_raw(0, "a.lock").unwrap();
        let guard = a.acquire(raw, false, None).unwrap();
        let other_guard = a.acquire(raw, false, None).unwrap();
        a.fill_table();
        assert_eq!(error(a.acquire(lock, false, None)), "quota");
        assert_eq!(error(a.try_acquire(lock, false)), "quota");
        assert_eq!(error(a.open("data/b.lock")), "quota");
        assert_eq!(error(a.start(raw, false, None)), "quota");
        if host != Host::Concurrent {
            assert_eq!(error(a.is_lost(guard)), "quota");
        }
        a.release(guard).unwrap();
        if host != Host::Concurrent {
            // A pollable takes two entries, and leaves the one that is free.
            assert_eq!(error(a.is_lost(other_guard)), "quota");
        }
        let guard = a.acquire(raw, false, None).unwrap();
        a.release(guard).unwrap();
        a.release(other_guard).unwrap();
        // The requests that found no room hold nothing.
        let (mut b, other) = world.actor(host);
        assert!(b.try_acquire(other, true).is_ok());
    }
}

#[test]
fn an_embedder_sees_what_is_held_and_waited_for() {
    for host in HOSTS {
        let world = World::new();
        let labelled = |label: &str| {
            let setup = Setup::data(world.path(), &world.manager);
            let mut actor = setup
                .locks(|locks| {
                    locks.label(label);
                })
                .actor(host);
            let raw = actor.open_raw(0, "a.lock").unwrap();
            (actor, raw)
        };
        let ((mut a, held), (mut b, awaited)) = (labelled("reader"), labelled("writer"));
        a.acquire(held, false, None).unwrap();
        let request = b.start(awaited, true, None).unwrap();
        let seen: Vec<_> = world
            .manager
            .snapshot()
            .into_iter()
            .map(|seen| (seen.owner, seen.lock, seen.mode, seen.held))
            .collect();
        assert_eq!(
            seen,
            [
                ("reader".into(), "a.lock".into(), Mode::Shared, true),
                ("writer".into(), "a.lock".into(), Mode::Exclusive, false)
            ]
        );
        let handle = b.locks_handle();
        assert_eq!(handle.snapshot().len(), 1);
        b.drop_request(request);
        assert_eq!((handle.snapshot().len(), handle.in_use()), (0, 0));
    }
}

#[test]
fn a_builder_builds_more_than_once() {
    let world = World::new();
    let space = Lockspace::open_ambient(world.path()).unwrap();
    let mut builder = LocksCtx::builder(&world.manager);
    builder.lockspace("data", space.clone());
    for _ in 0..2 {
        let setup = Setup::new(&world.manager).locks(|locks| *locks = builder.clone());
        assert_eq!(setup.actor(Host::Sync).spaces(), ["data"]);
    }
    let other = Setup::new(&world.manager).locks(|locks| {
        locks.lockspace("elsewhere", space.shared_only(true));
    });
    assert_eq!(other.actor(Host::Sync).spaces(), ["elsewhere"]);
}

/// Who counts waits in the log counts those as well that were given up.
#[test]
fn a_wait_that_is_withdrawn_is_logged_as_ended() {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let world = World::new();
    let grant = Lockspace::open_ambient(world.path()).unwrap().grant();
    let owner = |label| {
        world
            .manager
            .labelled_owner(label, clasp_host::Limits::default())
    };
    let (holder, waiter) = (owner("holder"), owner("waiter"));
    let held = holder.open(&grant, "a.lock").unwrap();
    let _guard = held.try_acquire(Mode::Exclusive).unwrap();
    let awaited = waiter.open(&grant, "a.lock").unwrap();

    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        drop(awaited.start_acquire(Mode::Exclusive, None).unwrap());
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let ended = log.lines().find(|line| line.contains("waited")).unwrap();
    assert!(
        ended.contains("withdrawn") && ended.contains("waiter"),
        "{log}"
    );
}
