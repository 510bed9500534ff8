//! What guards do beside a back end that takes its time, beside other grants of the
//! same file, and beside other holders.
#![cfg(feature = "conformance")]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Ceilings, Error, ErrorKind, Grant, Limits, LockManager, LockName, Mode,
    backend::{Access, Caps, Creation, Identity, Op, OpId, Opened, Resource, Sink, Space, Started},
    file::FileSpace,
    testing::{faulty::Faulty, memory::Memory},
};
use std::{
    fs,
    future::Future,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

fn files(directory: &Path) -> Grant {
    let dir = Dir::open_ambient_dir(directory, ambient_authority()).unwrap();
    Grant::new(FileSpace::new(dir).into_space())
}

/// A back end whose tokens wait for this test.
struct SlowTokens {
    space: Arc<dyn Space>,
    begun: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

struct SlowToken {
    resource: Arc<dyn Resource>,
    begun: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Space for SlowTokens {
    fn open(
        &self,
        name: &LockName,
        access: Access,
        creation: &mut Creation,
    ) -> Result<Opened, Error> {
        let opened = self.space.open(name, access, creation)?;
        let resource = Arc::new(SlowToken {
            resource: opened.resource,
            begun: self.begun.clone(),
            go_on: Arc::clone(&self.go_on),
        });
        Ok(Opened { resource, ..opened })
    }

    fn identify(&self, name: &LockName) -> Result<Option<Identity>, Error> {
        self.space.identify(name)
    }
}

impl Resource for SlowToken {
    fn permits(&self, mode: Mode) -> bool {
        self.resource.permits(mode)
    }

    fn caps(&self) -> Caps {
        self.resource.caps()
    }

    fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started {
        if op == Op::Token {
            self.begun.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
        self.resource.start(id, op, sink)
    }

    fn is_linked(&self) -> Result<bool, Error> {
        self.resource.is_linked()
    }
}

/// A token is written to the disk, which takes long while the file system is frozen.
#[test]
fn a_token_that_hangs_stops_no_other_request() {
    let (begun, has_begun) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let grant = Grant::new(Arc::new(SlowTokens {
        space: Memory::new().space(),
        begun,
        go_on: Arc::new(Mutex::new(goes_on)),
    }));
    let manager = LockManager::new(Ceilings::default());
    let (holder, waiter) = (
        manager.owner(Limits::default()),
        manager.owner(Limits::default()),
    );
    let guard = holder
        .open(&grant, "a")
        .unwrap()
        .try_acquire(Mode::Exclusive)
        .unwrap();
    let drawing = thread::spawn(move || {
        let token = guard.token().unwrap();
        assert_eq!(guard.token().unwrap(), token);
        guard.release().unwrap();
    });
    has_begun.recv().unwrap();
    let lock = waiter.open(&grant, "a").unwrap();
    let short = Some(Duration::from_millis(20));
    let error = lock.acquire_blocking(Mode::Exclusive, short).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(manager.snapshot().len(), 1);
    let request = lock.start_acquire(Mode::Exclusive, None).unwrap();
    go_on.send(()).unwrap();
    drawing.join().unwrap();
    drop(request);
    lock.try_acquire(Mode::Exclusive)
        .unwrap()
        .release()
        .unwrap();
}

/// The file may have been opened for reading first, by a guest with a lesser grant.
#[cfg(unix)]
#[test]
fn a_lock_is_upgraded_beside_a_grant_of_shared_locks() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.lock"), "").unwrap();
    let manager = LockManager::new(Ceilings::default());
    let (reads, writes) = (
        manager.owner(Limits::default()),
        manager.owner(Limits::default()),
    );
    let reader = reads
        .open(&files(directory.path()).shared_only(true), "a.lock")
        .unwrap();
    let held = reader.try_acquire(Mode::Shared).unwrap();
    let writer = writes.open(&files(directory.path()), "a.lock").unwrap();
    // The file that is locked now can be read only.
    let mut guard = writer.try_acquire(Mode::Shared).unwrap();
    drop(held);
    assert_eq!(
        guard.try_upgrade().unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    drop(guard);
    let mut guard = writer.try_acquire(Mode::Shared).unwrap();
    assert!(guard.try_upgrade().unwrap());
    let refused = reader.try_acquire(Mode::Shared).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    guard.release().unwrap();
}

/// A host opens a lock again that it had to give up, also to see its time.
#[test]
fn a_lock_that_was_given_up_tells_its_time() {
    let space = Faulty::default();
    let manager = LockManager::new(Ceilings::default());
    let owner = manager.owner(Limits::default());
    let lock = owner
        .open(&Grant::new(Arc::new(space.clone())), "a")
        .unwrap();
    let guard = lock.try_acquire(Mode::Exclusive).unwrap();
    guard.touch().unwrap();
    space.fail_unlocks(true);
    drop(guard);
    space.fail_unlocks(false);
    assert!(lock.last_touched().unwrap().is_some());
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Other holders may come and go as they like.
#[test]
fn only_the_end_of_its_own_hold_wakes_a_guest_that_waits_for_it() {
    let manager = LockManager::new(Ceilings::default());
    let grant = Grant::new(Memory::new().space());
    let (one, other) = (
        manager.owner(Limits::default()),
        manager.owner(Limits::default()),
    );
    let (lock, beside) = (
        one.open(&grant, "a").unwrap(),
        other.open(&grant, "a").unwrap(),
    );
    let guard = lock.try_acquire(Mode::Shared).unwrap();
    let woken = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let (mut first, mut second) = (pin!(guard.loss()), pin!(guard.loss()));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(second.as_mut().poll(&mut cx).is_pending());
    // Polled again, it is woken once.
    assert!(first.as_mut().poll(&mut cx).is_pending());
    for _ in 0..3 {
        drop(beside.try_acquire(Mode::Shared).unwrap());
    }
    drop(other);
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    one.close();
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    assert_eq!(first.as_mut().poll(&mut cx), Poll::Ready(()));
    assert_eq!(guard.check().unwrap_err().kind(), ErrorKind::Closed);
}

/// A request that finds something else by its name has opened nothing.
#[test]
fn a_name_that_cannot_be_opened_again_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lock");
    let manager = LockManager::new(Ceilings::default());
    let owner = manager.owner(Limits::default().open_locks(2));
    let grant = files(directory.path());
    let lock = owner.open(&grant, "a.lock").unwrap();
    let guard = lock.try_acquire(Mode::Shared).unwrap();
    if fs::remove_file(&path).is_err() || fs::create_dir(&path).is_err() {
        eprintln!("not run: this system keeps the name of a file that is open");
        return;
    }
    let refused = lock.try_acquire(Mode::Exclusive).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::IsDirectory);
    drop(owner.open(&grant, "b.lock").unwrap());
    fs::remove_dir(&path).unwrap();
    drop(lock.try_acquire(Mode::Exclusive).unwrap());
    // Now the old one is held beside the new one.
    let full = owner.open(&grant, "b.lock").unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Quota);
    drop(guard);
    owner.open(&grant, "b.lock").unwrap();
}
