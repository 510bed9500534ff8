//! Semaphores of guests: those of WASI 0.2 in both kinds of host, and those of WASI 0.3.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use clasp_host::{Ceilings, Family, LockManager, Lockspace};
use clasp_tests::{Actor, Host, Setup, start};
use tempfile::TempDir;

const HOSTS: [Host; 3] = [Host::Sync, Host::Async, Host::Concurrent];

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

    fn guest(&self, host: Host) -> Actor {
        Setup::data(self.directory.path(), &self.manager).actor(host)
    }

    /// A guest of this host, and a semaphore.
    fn actor(&self, host: Host, permits: u32) -> (Actor, u32) {
        let mut actor = self.guest(host);
        let semaphore = actor.open_semaphore("data/a.sem", permits).unwrap();
        (actor, semaphore)
    }

    /// The same in a host of its own.
    fn foreign(&self, host: Host, permits: u32) -> (Actor, u32) {
        let manager = LockManager::new(Ceilings::default());
        let mut actor = Setup::data(self.directory.path(), &manager).actor(host);
        let semaphore = actor.open_semaphore("data/a.sem", permits).unwrap();
        (actor, semaphore)
    }
}

fn error<T>(result: Result<T, String>) -> String {
    result.err().unwrap_or_else(|| "no error".into())
}

#[test]
fn permits_are_counted_among_guests_and_hosts() {
    for (one, two) in [
        (Host::Sync, Host::Sync),
        (Host::Async, Host::Concurrent),
        (Host::Concurrent, Host::Sync),
    ] {
        for foreign in [false, true] {
            let world = World::new();
            let (mut a, of_a) = world.actor(one, 3);
            let (mut b, of_b) = match foreign {
                false => world.actor(two, 3),
                true => world.foreign(two, 3),
            };
            let both = a.acquire_permits(of_a, 2, None).unwrap();
            let last = b.acquire_permits(of_b, 1, None).unwrap();
            assert_eq!((a.numbers(both), b.numbers(last)), (vec![0, 1], vec![2]));
            assert_eq!(error(b.try_permits(of_b, 1)), "taken");
            assert_eq!(error(b.acquire_permits(of_b, 1, Some(0))), "timeout");
            assert_eq!(error(b.acquire_permits(of_b, 2, Some(5))), "timeout");
            b.check_permit(last).unwrap();
            assert_eq!(error(b.permit_token(last)), "unsupported");
            b.release_permit(last).unwrap();
            // Two are waited for, and one that is free stays free until both are.
            let waiting = start(move || {
                let permit = b.acquire_permits(of_b, 2, None).unwrap();
                (b.numbers(permit), b)
            });
            waiting.must_block();
            a.drop_permit(both);
            let (numbers, b) = waiting.finish();
            assert_eq!(numbers.len(), 2, "{numbers:?}");
            drop(b);
            let all = a.acquire_permits(of_a, 3, None).unwrap();
            assert_eq!(a.numbers(all), [0, 1, 2]);
        }
    }
}

#[test]
fn a_guest_that_waits_for_itself_is_told() {
    for host in [Host::Sync, Host::Async] {
        let world = World::new();
        let (mut a, semaphore) = world.actor(host, 3);
        let two = a.acquire_permits(semaphore, 2, None).unwrap();
        assert_eq!(error(a.acquire_permits(semaphore, 2, None)), "deadlock");
        let (mut b, other) = world.actor(host, 3);
        let one = b.acquire_permits(other, 1, None).unwrap();
        // Another guest has the third, and can release it.
        let waiting = start(move || a.acquire_permits(semaphore, 1, None).map(|_| (a, two)));
        waiting.must_block();
        b.release_permit(one).unwrap();
        let (mut a, two) = waiting.finish().unwrap();
        a.release_permit(two).unwrap();
    }
}

#[test]
fn a_request_waits_beside_other_work() {
    for host in [Host::Sync, Host::Async] {
        let world = World::new();
        let (mut a, semaphore) = world.actor(host, 1);
        let (mut b, other) = world.foreign(host, 1);
        let permit = a.acquire_permits(semaphore, 1, None).unwrap();
        let request = b.start_permits(other, 1, None).unwrap();
        assert_eq!(b.get_permits(request), None);
        let late = b.start_permits(other, 1, Some(5)).unwrap();
        assert_eq!(error(b.wait_for_permits(late)), "timeout");
        let dropped = b.start_permits(other, 1, None).unwrap();
        b.drop_permit_request(dropped);
        let waiting = start(move || (b.wait_for_permits(request), b));
        waiting.must_block();
        a.release_permit(permit).unwrap();
        let (granted, mut b) = waiting.finish();
        assert_eq!(b.numbers(granted.unwrap()), [0]);
        let again = error(b.get_permits(request).unwrap());
        assert!(again.contains("taken before"), "{again}");
    }
}

#[test]
fn permits_end_with_their_context() {
    for host in HOSTS {
        let world = World::new();
        let (mut a, semaphore) = world.actor(host, 2);
        let (mut b, other) = world.foreign(host, 2);
        let permit = a.acquire_permits(semaphore, 2, None).unwrap();
        let waiting = start(move || b.acquire_permits(other, 2, None).map(|_| b));
        waiting.must_block();
        a.close_locks();
        drop(waiting.finish().unwrap());
        assert_eq!(a.wait_for_permit_loss(permit), "closed");
        assert_eq!(a.numbers(permit), [0, 1]);
        assert_eq!(error(a.release_permit(permit)), "closed");
        assert_eq!(error(a.try_permits(semaphore, 1)), "closed");
        // A store that is dropped frees its permits as well.
        let (mut c, semaphore) = world.actor(host, 2);
        c.acquire_permits(semaphore, 2, None).unwrap();
        drop(c);
        let (mut d, semaphore) = world.actor(host, 2);
        d.try_permits(semaphore, 2).unwrap();
    }
}

#[test]
fn what_cannot_be_is_an_error_value() {
    for host in HOSTS {
        let world = World::new();
        let (mut actor, semaphore) = world.actor(host, 2);
        for permits in [0, 65, 256, 257, u32::MAX] {
            let opened = actor.open_semaphore("data/b.sem", permits);
            assert_eq!(error(opened), "unsupported", "{permits}");
        }
        for count in [0, 3, 256, 257, u32::MAX] {
            assert_eq!(error(actor.try_permits(semaphore, count)), "unsupported");
            let waited = actor.acquire_permits(semaphore, count, None);
            assert_eq!(error(waited), "unsupported", "{count}");
        }
        assert_eq!(error(actor.open("data/a.sem")), "family-mismatch");
        let opened = actor.open_semaphore("data/a.sem", 3);
        assert_eq!(error(opened), "family-mismatch");
        assert_eq!(error(actor.open_semaphore("data/../a", 1)), "invalid-name");
        assert_eq!(error(actor.open_semaphore("other/a", 1)), "not-granted");
        let grant = |space: Lockspace| {
            let setup = Setup::new(&world.manager).locks(|locks| {
                locks.lockspace("data", space);
            });
            setup.actor(host).open_semaphore("data/a.sem", 2)
        };
        let space = || Lockspace::open_ambient(world.directory.path()).unwrap();
        assert_eq!(error(grant(space().shared_only(true))), "read-only");
        // Permits are locks of `fcntl` in any family.
        assert_eq!(grant(space().family(Family::Flock)), Ok(0));
    }
}

#[test]
fn quotas_bound_permits_as_they_bound_locks() {
    for host in HOSTS {
        let world = World::new();
        let limited = |change: fn(&mut clasp_host::Limits)| {
            let mut limits = clasp_host::Limits::default();
            change(&mut limits);
            let setup = Setup::data(world.directory.path(), &world.manager);
            let setup = setup.locks(|locks| {
                locks.limits(limits);
            });
            setup.actor(host)
        };
        let mut actor = limited(|limits| limits.held_locks = 1);
        let semaphore = actor.open_semaphore("data/a.sem", 4).unwrap();
        let permit = actor.try_permits(semaphore, 3).unwrap();
        assert_eq!(error(actor.try_permits(semaphore, 1)), "quota");
        actor.release_permit(permit).unwrap();
        let mut actor = limited(|limits| limits.open_locks = 1);
        actor.open_semaphore("data/a.sem", 4).unwrap();
        assert_eq!(error(actor.open_semaphore("data/b.sem", 4)), "quota");
    }
}
