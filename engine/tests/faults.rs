//! What becomes of errors from outside, and of a file in the way.
#![cfg(feature = "conformance")]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Ceilings, ErrorKind, Grant, Limits, LockManager, Mode,
    file::FileSpace,
    testing::{faulty::Faulty, memory::Memory},
};
use std::sync::Arc;

#[test]
fn an_error_from_outside_ends_one_request_and_is_told() {
    let space = Faulty::default();
    let manager = LockManager::new(Ceilings::default());
    let grant = Grant::new(Arc::new(space.clone()));
    let owner = manager.owner(Limits::default());
    let other = manager.owner(Limits::default());
    let lock = owner.open(&grant, "a").unwrap();
    let behind = other.open(&grant, "a").unwrap();

    space.fail(Some(ErrorKind::Io));
    assert_eq!(
        lock.try_acquire(Mode::Shared).unwrap_err().kind(),
        ErrorKind::Io
    );
    assert_eq!(owner.open(&grant, "b").unwrap_err().kind(), ErrorKind::Io);
    space.fail(None);

    // Requests that wait are told when their turn comes.
    let guard = lock.try_acquire(Mode::Exclusive).unwrap();
    let waiting = behind.start_acquire(Mode::Exclusive, None).unwrap();
    space.fail(Some(ErrorKind::Unavailable));
    drop(guard);
    let error = clasp_engine::testing::conformance::block_on(waiting).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    space.fail(None);
    let guard = behind.try_acquire(Mode::Exclusive).unwrap();
    assert_eq!((owner.in_use(), other.in_use()), (0, 1));
    guard.release().unwrap();
}

/// A request that has its turn and cannot go on keeps no other from its turn.
#[test]
fn a_request_that_fails_gives_its_turn_back() {
    let memory = Memory::fair();
    let faulty = Faulty::new(memory.clone());
    let lock = |space| {
        let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
        let lock = owner.open(&Grant::new(space), "a.lock").unwrap();
        (owner, lock)
    };
    let (_a, failing) = lock(Arc::new(faulty.clone()));
    let (_b, other) = lock(memory.space());
    let guard = other.try_acquire(Mode::Exclusive).unwrap();
    faulty.fail_waits(true);
    let request = failing.start_acquire(Mode::Exclusive, None).unwrap();
    let error = clasp_engine::testing::conformance::block_on(request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    faulty.fail_waits(false);
    drop(guard);
    drop(other.try_acquire(Mode::Exclusive).unwrap());
    drop(failing.try_acquire(Mode::Exclusive).unwrap());
}

/// A name that leads elsewhere, whatever stands in the way now, is a lost lock.
/// Windows renames no directory with an open file in it.
#[cfg(unix)]
#[test]
fn a_lock_whose_directory_is_replaced_is_lost() {
    use std::{fs, os::unix::fs::symlink};

    for replace in [
        |directory: &std::path::Path| fs::write(directory, "a file").unwrap(),
        |directory: &std::path::Path| symlink("/etc", directory).unwrap(),
        |directory: &std::path::Path| fs::create_dir(directory).unwrap(),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let sub = directory.path().join("sub");
        fs::create_dir(&sub).unwrap();
        let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
        let grant = Grant::new(FileSpace::new(dir).into_space());
        let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
        let lock = owner.open(&grant, "sub/a.lock").unwrap();
        let guard = lock.try_acquire(Mode::Exclusive).unwrap();
        fs::rename(&sub, directory.path().join("away")).unwrap();
        replace(&sub);
        assert_eq!(guard.release().unwrap_err().kind(), ErrorKind::Replaced);
    }
}

/// A file that was removed is closed when no request needs it any more, though its
/// lock is still open somewhere.
#[cfg(target_os = "linux")]
#[test]
fn a_removed_file_is_not_kept_open() {
    use clasp_engine::file::Order;
    use std::fs;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lock");
    let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
    let grant = Grant::new(FileSpace::new(dir).order(Order::Kernel).into_space());
    let manager = LockManager::new(Ceilings::default());
    let (a, b) = (
        manager.owner(Limits::default()),
        manager.owner(Limits::default()),
    );
    let (idle, busy) = (
        a.open(&grant, "a.lock").unwrap(),
        b.open(&grant, "a.lock").unwrap(),
    );
    let removed = || {
        let files = fs::read_dir("/proc/self/fd").unwrap();
        let names = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        let gone = format!("{} (deleted)", path.display());
        names.filter(|name| name.to_str() == Some(&*gone)).count()
    };
    for held in [false, true] {
        let guard = held.then(|| busy.try_acquire(Mode::Exclusive).unwrap());
        fs::remove_file(&path).unwrap();
        assert_eq!(removed(), 1);
        drop(busy.try_acquire(Mode::Shared).unwrap());
        assert_eq!(removed(), usize::from(held));
        if let Some(guard) = guard {
            assert_eq!(guard.release().unwrap_err().kind(), ErrorKind::Replaced);
        }
        assert_eq!(removed(), 0);
    }
    drop(idle.try_acquire(Mode::Shared).unwrap());
}

/// At the ceiling, files that are open already can be opened again.
#[test]
fn the_ceiling_counts_files_and_not_handles() {
    let mut ceilings = Ceilings::default();
    ceilings.lock_files = 1;
    let manager = LockManager::new(ceilings);
    let directory = tempfile::tempdir().unwrap();
    let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
    let grant = Grant::new(FileSpace::new(dir).into_space());
    let owner = manager.owner(Limits::default());
    let _lock = owner.open(&grant, "a.lock").unwrap();
    owner.open(&grant, "./a.lock").unwrap();
    let error = owner.open(&grant, "b.lock").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// A process chooses its signal once; a refusal is no choice.
#[cfg(target_os = "linux")]
#[test]
fn a_refused_signal_leaves_the_default() {
    use clasp_engine::file::set_wake_signal;
    use std::time::Duration;

    assert_eq!(
        set_wake_signal(Some(1)).unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let directory = tempfile::tempdir().unwrap();
    let lock = || {
        let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
        let grant = Grant::new(FileSpace::new(dir).into_space());
        let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
        let lock = owner.open(&grant, "a.lock").unwrap();
        (owner, lock)
    };
    let ((_a, holder), (_b, waiter)) = (lock(), lock());
    let _guard = holder.try_acquire(Mode::Exclusive).unwrap();
    let short = Some(Duration::from_millis(5));
    let error = waiter.acquire_blocking(Mode::Shared, short).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // The default was chosen by that wait.
    assert_eq!(
        set_wake_signal(None).unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

/// In a sticky directory Linux refuses `O_CREAT` for the file of another user,
/// but not to open it. Only root can give a file away and switch the protection
/// on; CI runs as root.
#[cfg(target_os = "linux")]
#[test]
fn a_lock_file_of_another_user_in_a_sticky_directory_is_locked_exclusively() {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, chown},
    };

    const PROTECTION: &str = "/proc/sys/fs/protected_regular";
    /// Restores the machine's setting.
    struct Restore(String);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ = fs::write(PROTECTION, &self.0);
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lock");
    fs::write(&path, "").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let before = fs::read_to_string(PROTECTION).unwrap_or_default();
    let protected = before.trim() != "0" || fs::write(PROTECTION, "1").is_ok();
    let _restore = Restore(before);
    if !protected || chown(&path, Some(65_534), Some(65_534)).is_err() {
        eprintln!("not run: it takes root to give a file away");
        return;
    }
    let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
    let grant = Grant::new(FileSpace::new(dir).into_space());
    let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
    let lock = owner.open(&grant, "a.lock").unwrap();
    lock.try_acquire(Mode::Exclusive)
        .unwrap()
        .release()
        .unwrap();
}

#[cfg(unix)]
#[test]
fn a_lock_file_is_created_with_the_permissions_of_the_grant() {
    use std::{fs, os::unix::fs::PermissionsExt};

    let directory = tempfile::tempdir().unwrap();
    let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
    let space = FileSpace::new(dir).creation_mode(0o600).into_space();
    let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
    let _lock = owner.open(&Grant::new(space), "a.lock").unwrap();
    let metadata = fs::metadata(directory.path().join("a.lock")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

/// A lock file that is replaced while it is held counts beside the new one: else
/// a guest that may write could have the host keep any number of files open.
#[cfg(unix)]
#[test]
fn files_that_were_replaced_count_while_they_are_held() {
    use std::fs;

    const OPEN: usize = 4;
    let directory = tempfile::tempdir().unwrap();
    let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
    let grant = Grant::new(FileSpace::new(dir).into_space());
    let manager = LockManager::new(Ceilings::default());
    let mut limits = Limits::default();
    limits.open_locks = OPEN;
    let owner = manager.owner(limits);
    let lock = owner.open(&grant, "a.lock").unwrap();
    let mut guards = Vec::new();
    let error = loop {
        match lock.try_acquire(Mode::Exclusive) {
            Ok(guard) => guards.push(guard),
            Err(error) => break error,
        }
        assert!(
            guards.len() <= OPEN,
            "{} files are open",
            manager.open_files()
        );
        fs::remove_file(directory.path().join("a.lock")).unwrap();
    };
    assert_eq!(error.kind(), ErrorKind::Quota);
    assert_eq!(guards.len(), OPEN);
    assert!(manager.open_files() <= OPEN);
    // Others are not affected, and released files count no more.
    let other = manager.owner(Limits::default());
    let theirs = other.open(&grant, "a.lock").unwrap();
    theirs
        .try_acquire(Mode::Exclusive)
        .unwrap()
        .release()
        .unwrap();
    drop(guards);
    lock.try_acquire(Mode::Exclusive)
        .unwrap()
        .release()
        .unwrap();
    assert_eq!(manager.open_files(), 1);
}

/// A call that blocks its thread borrows the owner; the closer does not.
#[test]
fn an_owner_that_waits_can_be_closed() {
    let manager = LockManager::new(Ceilings::default());
    let grant = Grant::new(Memory::new().space());
    let (holder, waiter) = (
        manager.owner(Limits::default()),
        manager.owner(Limits::default()),
    );
    let guard = holder.open(&grant, "a").unwrap();
    let guard = guard.try_acquire(Mode::Exclusive).unwrap();
    let closer = waiter.handle();
    let closes = std::thread::spawn(move || {
        while closer.in_use() == 0 {
            std::thread::yield_now();
        }
        closer.close();
        closer
    });
    let lock = waiter.open(&grant, "a").unwrap();
    let error = lock.acquire_blocking(Mode::Shared, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let closer = closes.join().unwrap();
    assert!(waiter.is_closed());
    drop((lock, waiter));
    // It keeps nothing alive.
    closer.close();
    assert_eq!(closer.in_use(), 0);
    guard.release().unwrap();
}

/// Tasks of one executor thread that always find their lock free take turns.
#[test]
fn a_task_whose_locks_are_free_gives_way() {
    use std::{
        cell::Cell,
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
    };

    const TURNS: u32 = 10_000;
    let manager = LockManager::new(Ceilings::default());
    let grant = Grant::new(Memory::new().space());
    let done = [Cell::new(0), Cell::new(0)];
    for tries in [false, true] {
        done.iter().for_each(|turns| turns.set(0));
        let task = |at: usize| {
            let owner = manager.owner(Limits::default());
            let lock = owner.open(&grant, "a").unwrap();
            let done = &done;
            async move {
                let _owner = owner;
                while done[at].get() < TURNS {
                    let guard = match tries {
                        true => lock.try_acquire_async(Mode::Shared).await,
                        false => lock.acquire(Mode::Shared, None).await,
                    };
                    drop(guard.unwrap());
                    done[at].set(done[at].get() + 1);
                }
                assert!(done[1 - at].get() > TURNS / 2, "the other had no turn");
            }
        };
        let (mut first, mut second) = (pin!(task(0)), pin!(task(1)));
        let (mut ended, mut rest) = (false, false);
        clasp_engine::testing::conformance::block_on(poll_fn(|cx| {
            ended = ended || first.as_mut().poll(cx).is_ready();
            rest = rest || second.as_mut().poll(cx).is_ready();
            match ended && rest {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
    }
}

/// A resource that cannot be unlocked is closed, and the lock goes on with a new
/// one.
#[test]
fn a_lock_that_cannot_be_unlocked_is_opened_again() {
    let space = Faulty::default();
    let manager = LockManager::new(Ceilings::default());
    let grant = Grant::new(Arc::new(space.clone()));
    let owner = manager.owner(Limits::default());
    let lock = owner.open(&grant, "a").unwrap();
    let guard = lock.try_acquire(Mode::Shared).unwrap();
    space.fail_unlocks(true);
    drop(guard);
    space.fail_unlocks(false);
    drop(lock.try_acquire(Mode::Shared).unwrap());
}

/// A request that is dropped after its grant and before its owner has looked.
#[test]
fn a_request_that_is_dropped_with_its_grant_releases_the_lock() {
    let manager = LockManager::new(Ceilings::default());
    let grant = Grant::new(Memory::new().space());
    let owner = manager.owner(Limits::default());
    let other = manager.owner(Limits::default());
    let lock = owner.open(&grant, "a").unwrap();
    let next = other.open(&grant, "a").unwrap();
    let guard = lock.try_acquire(Mode::Exclusive).unwrap();
    let request = next.start_acquire(Mode::Exclusive, None).unwrap();
    drop(guard);
    assert!(request.is_ready());
    let refused = lock.try_acquire(Mode::Shared).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    drop(request);
    lock.try_acquire(Mode::Shared).unwrap().release().unwrap();
    assert_eq!(other.in_use(), 0);
}

/// Back ends are foreign code as well.
#[test]
fn a_back_end_that_panics_ends_its_request_alone() {
    use clasp_engine::{
        Error, LockName,
        backend::{
            Access, Blocking, Cancel, Caps, Creation, Identity, Op, OpId, Opened, Pending, Reply,
            Resource, Sink, Space, Started,
        },
        testing::conformance::block_on,
    };
    use std::sync::Weak;

    struct Panics(Arc<dyn Space>);

    struct PanickingResource(Arc<dyn Resource>);

    struct Panicking;

    impl Space for Panics {
        fn open(
            &self,
            name: &LockName,
            access: Access,
            creation: &mut Creation,
        ) -> Result<Opened, Error> {
            let opened = self.0.open(name, access, creation)?;
            let resource = Arc::new(PanickingResource(opened.resource));
            Ok(Opened { resource, ..opened })
        }

        fn identify(&self, name: &LockName) -> Result<Option<Identity>, Error> {
            self.0.identify(name)
        }
    }

    impl Resource for PanickingResource {
        fn permits(&self, mode: Mode) -> bool {
            self.0.permits(mode)
        }

        fn caps(&self) -> Caps {
            self.0.caps()
        }

        fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started {
            match op.waits() {
                true => Started::Blocking(Arc::new(Panicking)),
                false => self.0.start(id, op, sink),
            }
        }

        fn is_linked(&self) -> Result<bool, Error> {
            self.0.is_linked()
        }
    }

    impl Pending for Panicking {
        fn cancel(&self, _: bool) -> Cancel {
            Cancel::Requested
        }
    }

    impl Blocking for Panicking {
        fn run(&self) -> Result<Reply, Error> {
            panic!("the back end panics, as this test asks")
        }
    }

    let memory = Memory::new();
    let lock = |space: Arc<dyn Space>| {
        let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
        let lock = owner.open(&Grant::new(space), "a").unwrap();
        (owner, lock)
    };
    let (_a, holder) = lock(memory.space());
    let (_b, waiter) = lock(Arc::new(Panics(memory.space())));
    let guard = holder.try_acquire(Mode::Exclusive).unwrap();
    for _ in 0..2 {
        let blocking = waiter.acquire_blocking(Mode::Exclusive, None);
        assert_eq!(blocking.unwrap_err().kind(), ErrorKind::Io);
        let task = block_on(waiter.acquire(Mode::Exclusive, None));
        assert_eq!(task.unwrap_err().kind(), ErrorKind::Io);
    }
    drop(guard);
    drop(waiter.acquire_blocking(Mode::Exclusive, None).unwrap());
}
