//! Locks on ranges of bytes: beside each other, beside locks on whole files, and beside
//! programs that know nothing of the engine.
#![cfg(all(feature = "conformance", any(target_os = "linux", target_os = "macos")))]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    ByteRange, Ceilings, ErrorKind, Grant, Limits, LockManager, Mode, Owner, RangeOwner,
    file::{Family, FileSpace},
    testing::native,
};
use proptest::prelude::*;
use std::{
    fs::{self, File},
    future::Future,
    pin::pin,
    sync::mpsc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};
use tempfile::TempDir;

use Mode::{Exclusive, Shared};

/// A directory, and one host.
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

    fn space(&self) -> FileSpace {
        let path = self.directory.path();
        FileSpace::new(Dir::open_ambient_dir(path, ambient_authority()).unwrap())
    }

    fn grant(&self) -> Grant {
        Grant::new(self.space().into_space())
    }

    fn owner(&self) -> Owner {
        self.manager.owner(Limits::default())
    }

    /// An open file of a program without the engine.
    fn native(&self, name: &str) -> File {
        let path = self.directory.path().join(name);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).open(path).unwrap()
    }
}

fn range(start: u64, len: u64) -> ByteRange {
    ByteRange::new(start, len).unwrap()
}

fn kind<T: std::fmt::Debug>(result: Result<T, clasp_engine::Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Returns once the owner waits.
fn until_waiting(owner: &clasp_engine::OwnerHandle) {
    while owner.snapshot().iter().all(|lock| lock.held) {
        thread::yield_now();
    }
}

#[test]
fn a_request_replaces_what_its_owner_holds_of_the_bytes() {
    let world = World::new();
    let (a, b) = (world.owner(), world.owner());
    let mut one = a.open_ranges(&world.grant(), "f").unwrap();
    let mut two = b.open_ranges(&world.grant(), "./f").unwrap();
    assert!(one.is_same(&two));
    assert!(one.try_set(range(0, 10), Exclusive).unwrap());
    assert!(!two.try_set(range(9, 1), Shared).unwrap());
    assert!(two.try_set(range(10, 0), Exclusive).unwrap());
    assert_eq!(
        two.test(range(5, 3), Shared).unwrap(),
        Some((range(0, 10), Exclusive))
    );
    // Converted at once, and split.
    assert!(one.try_set(range(3, 4), Shared).unwrap());
    assert!(two.try_set(range(4, 1), Shared).unwrap());
    assert_eq!(kind_of_all(&two, range(0, 3)), Some(Exclusive));
    assert!(!one.try_set(range(3, 4), Exclusive).unwrap());
    // A request that fails changes nothing.
    assert!(!two.try_set(range(0, 5), Exclusive).unwrap());
    assert!(!one.try_set(range(4, 1), Exclusive).unwrap());
    one.unlock(range(0, 3)).unwrap();
    assert_eq!(two.test(range(0, 3), Exclusive).unwrap(), None);
    assert!(two.try_set(range(0, 3), Exclusive).unwrap());
    drop(one);
    assert_eq!(two.test(ByteRange::ALL, Exclusive).unwrap(), None);
    assert_eq!(a.in_use(), 0);
    assert!(b.in_use() > 0);
}

fn kind_of_all(owner: &RangeOwner, range: ByteRange) -> Option<Mode> {
    owner.test(range, Exclusive).unwrap().map(|(_, mode)| mode)
}

#[test]
fn programs_without_the_engine_exclude_and_are_excluded() {
    let world = World::new();
    let owner = world.owner();
    let mut ranges = owner.open_ranges(&world.grant(), "f").unwrap();
    let native = world.native("f");
    assert!(ranges.try_set(range(100, 1), Shared).unwrap());
    assert!(!native::try_lock(&native, Family::Posix, Exclusive).unwrap());
    assert!(native::try_lock(&native, Family::Posix, Shared).unwrap());
    assert!(!ranges.try_set(range(0, 1), Exclusive).unwrap());
    assert_eq!(kind_of_all(&ranges, range(0, 1)), Some(Shared));
    let timeout = Some(Duration::from_millis(20));
    let refused = ranges.set_blocking(range(0, 1), Exclusive, timeout);
    assert_eq!(kind(refused), ErrorKind::Timeout);
    // What was held is held.
    native::unlock(&native, Family::Posix).unwrap();
    assert!(!native::try_lock(&native, Family::Posix, Exclusive).unwrap());
    drop(ranges);
    assert!(native::try_lock(&native, Family::Posix, Exclusive).unwrap());
}

#[test]
fn a_release_ends_a_wait_on_a_thread() {
    let world = World::new();
    let owner = world.owner();
    let mut ranges = owner.open_ranges(&world.grant(), "f").unwrap();
    let native = world.native("f");
    assert!(native::try_lock(&native, Family::Posix, Exclusive).unwrap());
    let handle = owner.handle();
    let thread = thread::spawn(move || {
        ranges.set_blocking(range(7, 1), Exclusive, None).unwrap();
        ranges
    });
    until_waiting(&handle);
    let waits = &handle.snapshot()[0];
    assert_eq!(
        (waits.mode, waits.held, waits.range),
        (Exclusive, false, Some(range(7, 1)))
    );
    native::unlock(&native, Family::Posix).unwrap();
    let ranges = thread.join().unwrap();
    assert!(!native::try_lock(&native, Family::Posix, Shared).unwrap());
    assert!(handle.snapshot()[0].held);
    assert_eq!(world.manager.waiter_threads(), 0);
    drop(ranges);
}

/// Tells when it is woken.
struct Told(mpsc::Sender<()>);

impl Wake for Told {
    fn wake(self: std::sync::Arc<Self>) {
        let _ = self.0.send(());
    }
}

fn told() -> (Waker, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    (Waker::from(std::sync::Arc::new(Told(tell))), told)
}

#[test]
fn a_task_waits_without_its_thread() {
    let world = World::new();
    let owner = world.owner();
    let mut ranges = owner.open_ranges(&world.grant(), "f").unwrap();
    let native = world.native("f");
    assert!(native::try_lock(&native, Family::Posix, Exclusive).unwrap());
    let (waker, told) = told();
    let mut context = Context::from_waker(&waker);
    {
        let mut wait = pin!(ranges.set(range(0, 5), Shared, None));
        assert!(wait.as_mut().poll(&mut context).is_pending());
        native::unlock(&native, Family::Posix).unwrap();
        told.recv().unwrap();
        assert_eq!(wait.poll(&mut context), Poll::Ready(Ok(())));
    }
    assert!(!native::try_lock(&native, Family::Posix, Exclusive).unwrap());
    ranges.unlock(ByteRange::ALL).unwrap();
    assert!(native::try_lock(&native, Family::Posix, Exclusive).unwrap());
    let limit = Some(Duration::from_millis(10));
    let mut wait = pin!(ranges.set(range(0, 5), Shared, limit));
    assert!(wait.as_mut().poll(&mut context).is_pending());
    told.recv().unwrap();
    let ended = wait.poll(&mut context);
    assert!(matches!(ended, Poll::Ready(Err(error)) if error.kind() == ErrorKind::Timeout));
}

#[test]
fn a_request_that_is_withdrawn_changes_nothing() {
    let world = World::new();
    let owner = world.owner();
    let handle = owner.handle();
    let mut ranges = owner.open_ranges(&world.grant(), "f").unwrap();
    assert!(ranges.try_set(range(0, 2), Shared).unwrap());
    let before = handle.snapshot();
    let native = world.native("f");
    for granted in [false, true] {
        assert!(native::try_lock(&native, Family::Posix, Shared).unwrap());
        let (waker, told) = told();
        {
            let mut wait = pin!(ranges.set(range(1, 5), Exclusive, None));
            assert!(
                wait.as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            assert_eq!(owner.in_use(), 2);
            if granted {
                native::unlock(&native, Family::Posix).unwrap();
                told.recv().unwrap();
            }
        }
        native::unlock(&native, Family::Posix).unwrap();
        assert_eq!(handle.snapshot(), before);
        // A wait that was cancelled may be granted all the same, and is taken back then.
        while !native::try_lock(&native, Family::Posix, Shared).unwrap() {
            thread::yield_now();
        }
        native::unlock(&native, Family::Posix).unwrap();
        assert!(!native::try_lock(&native, Family::Posix, Exclusive).unwrap());
    }
    assert_eq!(owner.in_use(), 1);
}

/// A helper thread may still have the file when its owner drops it.
#[test]
fn a_dropped_file_holds_nothing_though_a_request_of_it_waits() {
    let world = World::new();
    let owner = world.owner();
    let mut ranges = owner.open_ranges(&world.grant(), "f").unwrap();
    let another = world.owner();
    let mut other = another.open_ranges(&world.grant(), "f").unwrap();
    let native = world.native("f");
    for _ in 0..200 {
        assert!(ranges.try_set(range(0, 1), Exclusive).unwrap());
        assert!(other.try_set(range(5, 1), Exclusive).unwrap());
        {
            let mut wait = pin!(ranges.set(range(5, 1), Shared, None));
            let context = &mut Context::from_waker(Waker::noop());
            assert!(wait.as_mut().poll(context).is_pending());
            other.unlock(ByteRange::ALL).unwrap();
        }
        // What was requested meanwhile does not count, and what is requested now does.
        assert!(ranges.try_set(range(5, 1), Exclusive).unwrap());
        assert!(!other.try_set(range(5, 1), Shared).unwrap());
        drop(ranges);
        assert!(native::try_lock(&native, Family::Posix, Exclusive).unwrap());
        native::unlock(&native, Family::Posix).unwrap();
        ranges = owner.open_ranges(&world.grant(), "f").unwrap();
    }
}

#[test]
fn an_owner_does_not_wait_for_itself() {
    let world = World::new();
    let owner = world.owner();
    let mut one = owner.open_ranges(&world.grant(), "f").unwrap();
    let mut two = owner.open_ranges(&world.grant(), "f").unwrap();
    assert!(one.try_set(range(0, 5), Shared).unwrap());
    two.set_blocking(range(0, 5), Shared, None).unwrap();
    assert_eq!(
        kind(two.set_blocking(range(4, 4), Exclusive, None)),
        ErrorKind::Deadlock
    );
    two.set_blocking(range(5, 4), Exclusive, None).unwrap();
    // A try is an answer in itself.
    assert!(!two.try_set(range(0, 1), Exclusive).unwrap());
    let zero = Some(Duration::ZERO);
    assert_eq!(
        kind(two.set_blocking(range(0, 1), Exclusive, zero)),
        ErrorKind::Timeout
    );

    let lock = owner.open(&world.grant(), "f").unwrap();
    assert_eq!(
        kind(lock.acquire_blocking(Shared, None)),
        ErrorKind::Deadlock
    );
    drop(two);
    let guard = lock.acquire_blocking(Shared, None).unwrap();
    one.set_blocking(range(9, 1), Shared, None).unwrap();
    assert_eq!(
        kind(one.set_blocking(range(9, 1), Exclusive, None)),
        ErrorKind::Deadlock
    );
    drop(guard);
    one.set_blocking(range(9, 1), Exclusive, None).unwrap();
    let reports = world.manager.deadlocks();
    assert_eq!(reports.len(), 3);
    assert_eq!(reports[0].locks, ["f", "f"]);

    // Another owner's locks are awaited.
    let other = world.owner();
    let mut three = other.open_ranges(&world.grant(), "f").unwrap();
    let short = Some(Duration::from_millis(10));
    assert_eq!(
        kind(three.set_blocking(range(9, 1), Shared, short)),
        ErrorKind::Timeout
    );
}

#[test]
fn a_file_is_not_used_with_locks_that_do_not_exclude_ranges() {
    let world = World::new();
    let owner = world.owner();
    let flock = Grant::new(world.space().family(Family::Flock).into_space());
    // On macOS all locks of a file exclude each other.
    let mismatch = cfg!(target_os = "linux");
    {
        let _lock = owner.open(&flock, "f").unwrap();
        let opened = owner.open_ranges(&world.grant(), "f");
        assert_eq!(opened.is_err(), mismatch);
        if mismatch {
            assert_eq!(kind(opened), ErrorKind::FamilyMismatch);
        }
    }
    let ranges = owner.open_ranges(&flock, "f").unwrap();
    assert_eq!(owner.open(&flock, "f").is_err(), mismatch);
    let both = Grant::new(world.space().family(Family::Both).into_space());
    drop(owner.open(&both, "f").unwrap());
    // An owner that names the family itself knows what it excludes.
    let by_call = flock.clone().family_of_call(true);
    let lock = owner.open(&by_call, "f").unwrap();
    let second = owner.open_ranges(&world.grant(), "f").unwrap();
    drop((ranges, second, lock));
    let lock = owner.open(&flock, "f").unwrap();
    assert_eq!(owner.open_ranges(&world.grant(), "f").is_err(), mismatch);
    drop(lock);
}

#[test]
fn each_range_counts() {
    let world = World::new();
    let owner = world
        .manager
        .owner(Limits::default().held_locks(2).open_locks(2));
    let mut ranges = owner.open_ranges(&world.grant(), "f").unwrap();
    assert!(ranges.try_set(range(0, 3), Exclusive).unwrap());
    assert!(ranges.try_set(range(5, 3), Exclusive).unwrap());
    assert_eq!(kind(ranges.try_set(range(10, 1), Shared)), ErrorKind::Quota);
    assert_eq!(kind(ranges.unlock(range(1, 1))), ErrorKind::Quota);
    // One becomes two, and two become one.
    assert!(ranges.try_set(range(3, 2), Exclusive).unwrap());
    assert_eq!(owner.in_use(), 1);
    ranges.unlock(range(1, 1)).unwrap();
    assert_eq!(owner.in_use(), 2);
    let second = owner.open_ranges(&world.grant(), "g").unwrap();
    assert_eq!(
        kind(owner.open_ranges(&world.grant(), "g")),
        ErrorKind::Quota
    );
    drop((ranges, second));
    assert_eq!((owner.in_use(), world.manager.open_files()), (0, 0));
}

#[test]
fn a_closed_owner_holds_and_awaits_nothing() {
    let world = World::new();
    let owner = world.owner();
    let grant = world.grant();
    let mut held = owner.open_ranges(&grant, "held").unwrap();
    let mut waits = owner.open_ranges(&grant, "waits").unwrap();
    assert!(held.try_set(range(0, 1), Exclusive).unwrap());
    let (native_held, native_waits) = (world.native("held"), world.native("waits"));
    assert!(native::try_lock(&native_waits, Family::Posix, Exclusive).unwrap());
    let handle = owner.handle();
    let thread = thread::spawn(move || waits.set_blocking(range(0, 1), Shared, None));
    // Held first: what is held alone does not end the loop.
    while handle.snapshot().len() < 2 {
        thread::yield_now();
    }
    owner.close();
    assert_eq!(kind(thread.join().unwrap()), ErrorKind::Closed);
    assert!(native::try_lock(&native_held, Family::Posix, Exclusive).unwrap());
    assert_eq!(kind(held.try_set(range(0, 1), Shared)), ErrorKind::Closed);
    assert_eq!(kind(held.unlock(range(0, 1))), ErrorKind::Closed);
    assert_eq!(kind(held.test(range(0, 1), Shared)), ErrorKind::Closed);
    assert_eq!(owner.in_use(), 0);
}

#[test]
fn a_grant_of_shared_locks_permits_no_more() {
    let world = World::new();
    let owner = world.owner();
    fs::write(world.directory.path().join("f"), "").unwrap();
    let grant = world.grant().shared_only(true);
    let mut ranges = owner.open_ranges(&grant, "f").unwrap();
    assert!(ranges.try_set(range(0, 1), Shared).unwrap());
    assert_eq!(
        kind(ranges.try_set(range(0, 1), Exclusive)),
        ErrorKind::ReadOnly
    );
    assert_eq!(
        kind(owner.open_ranges(&grant, "missing")),
        ErrorKind::NoEntry
    );
    let read = Grant::new(world.space().write(false).into_space());
    let mut ranges = owner.open_ranges(&read, "f").unwrap();
    assert_eq!(
        kind(ranges.try_set(range(0, 1), Exclusive)),
        ErrorKind::Access
    );
    assert_eq!(
        kind(owner.open_ranges(&world.grant(), "../f")),
        ErrorKind::InvalidName
    );
    fs::create_dir(world.directory.path().join("d")).unwrap();
    assert_eq!(
        kind(owner.open_ranges(&world.grant(), "d")),
        ErrorKind::IsDirectory
    );
}

/// Locks stay with the file that was opened, as those of a descriptor do.
#[test]
fn a_file_that_is_replaced_is_another_file() {
    let world = World::new();
    let owner = world.owner();
    let mut old = owner.open_ranges(&world.grant(), "f").unwrap();
    assert!(old.try_set(range(0, 1), Exclusive).unwrap());
    fs::remove_file(world.directory.path().join("f")).unwrap();
    let mut new = owner.open_ranges(&world.grant(), "f").unwrap();
    assert!(!new.is_same(&old));
    assert!(new.try_set(range(0, 1), Exclusive).unwrap());
    assert!(old.try_set(range(0, 1), Shared).unwrap());
}

const OWNERS: usize = 3;
const BYTES: u64 = 8;

fn request() -> impl Strategy<Value = (usize, ByteRange, Option<Mode>)> {
    let mode = prop_oneof![Just(None), Just(Some(Shared)), Just(Some(Exclusive))];
    let made = |(owner, start, len, mode)| (owner, ByteRange::new(start, len).unwrap(), mode);
    (0..OWNERS, 0..BYTES, 0..BYTES, mode).prop_map(made)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A request is granted if and only if no other owner's bytes stand against it.
    #[test]
    fn owners_exclude_each_other_byte_by_byte(requests in prop::collection::vec(request(), 1..60)) {
        let world = World::new();
        let grant = world.grant();
        let owners: Vec<_> = (0..OWNERS).map(|_| world.owner()).collect();
        let mut files: Vec<_> = owners.iter().map(|owner| owner.open_ranges(&grant, "f").unwrap()).collect();
        let mut model = [[None::<Mode>; 2 * BYTES as usize]; OWNERS];
        for (at, range, mode) in requests {
            let within = |byte: usize| {
                let byte = byte as u64;
                range.start() <= byte && (range.len() == 0 || byte < range.start() + range.len())
            };
            let bytes = || (0..2 * BYTES as usize).filter(|byte| within(*byte));
            let Some(mode) = mode else {
                files[at].unlock(range).unwrap();
                bytes().for_each(|byte| model[at][byte] = None);
                continue;
            };
            let free = bytes().all(|byte| (0..OWNERS).all(|other| {
                other == at || model[other][byte].is_none_or(|held| !held.conflicts(mode))
            }));
            prop_assert_eq!(files[at].test(range, mode).unwrap().is_none(), free);
            prop_assert_eq!(files[at].try_set(range, mode).unwrap(), free);
            if free {
                bytes().for_each(|byte| model[at][byte] = Some(mode));
            }
        }
    }
}

/// An open file is found by whatever name it has now, in the directory that it lies in.
#[cfg(target_os = "linux")]
#[test]
fn an_open_file_is_found_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let (here, below) = (directory.path(), directory.path().join("below"));
    std::fs::create_dir(&below).unwrap();
    let space = |path: &std::path::Path| {
        FileSpace::new(Dir::open_ambient_dir(path, ambient_authority()).unwrap())
    };
    let file = std::fs::File::create(below.join("file")).unwrap();
    let (name, identity) = space(here).name_of(&file).unwrap();
    assert_eq!(name, "below/file");
    let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
    let ranges = owner.open_ranges(&Grant::new(space(&below).into_space()), "file");
    assert_eq!(*ranges.unwrap().identity(), identity);
    let lock = owner.open(&Grant::new(space(here).into_space()), "below/file");
    assert_eq!(lock.unwrap().identity(), identity);

    std::fs::rename(below.join("file"), below.join("renamed")).unwrap();
    assert_eq!(space(&below).name_of(&file).unwrap().0, "renamed");
    let kind = |space: &FileSpace| space.name_of(&file).unwrap_err().kind();
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(kind(&space(elsewhere.path())), ErrorKind::NotPermitted);
    std::fs::remove_file(below.join("renamed")).unwrap();
    assert_eq!(kind(&space(&below)), ErrorKind::NoEntry);
}
