//! A FUSE file system that ignores interrupts and hangs: its requests end by
//! their timeouts, and other locks do not notice. Where no FUSE file system can be
//! mounted, `engine/tests/hung.rs` has the same with a back end in memory.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Ceilings, ErrorKind, Grant, Limits, Lock, LockManager, Mode, Owner,
    file::FileSpace,
    testing::conformance::{LIVENESS_TIMEOUT, block_on},
};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, ReplyAttr, ReplyCreate, ReplyEmpty,
    ReplyEntry, Request,
};
use std::{
    ffi::OsStr,
    fs,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

const SHORT: Option<Duration> = Some(Duration::from_millis(20));
const FILE: INodeNo = INodeNo(2);

/// What the daemon does, and has seen.
#[derive(Default)]
struct State {
    /// Another process holds the lock, on another machine.
    held: bool,
    /// Questions for the attributes of the file are not answered.
    hangs: bool,
    waits: Vec<ReplyEmpty>,
    questions: Vec<ReplyAttr>,
    unlocks: usize,
    /// Files that were to be created.
    creations: usize,
}

#[derive(Clone, Default)]
struct Daemon(Arc<Mutex<State>>);

fn attributes(ino: INodeNo) -> FileAttr {
    let (kind, perm) = match ino {
        INodeNo::ROOT => (FileType::Directory, 0o755),
        _ => (FileType::RegularFile, 0o644),
    };
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 512,
        flags: 0,
    }
}

impl Filesystem for Daemon {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        config
            .add_capabilities(InitFlags::FUSE_POSIX_LOCKS)
            .map_err(|_| std::io::Error::other("no locks"))
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == "a.lock" {
            true => reply.entry(&Duration::ZERO, &attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        self.0.lock().unwrap().creations += 1;
        reply.error(Errno::EACCES);
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        self.0.lock().unwrap().creations += 1;
        reply.error(Errno::EACCES);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let mut state = self.0.lock().unwrap();
        match state.hangs && ino == FILE {
            true => state.questions.push(reply),
            false => reply.attr(&Duration::ZERO, &attributes(ino)),
        }
    }

    fn setlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        kind: i32,
        _: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        const UNLOCK: i32 = 2;
        let mut state = self.0.lock().unwrap();
        state.unlocks += usize::from(kind == UNLOCK);
        match (state.held && kind != UNLOCK, sleep) {
            (false, _) => reply.ok(),
            (true, false) => reply.error(Errno::EAGAIN),
            // An interrupt comes as a message of its own, which is ignored.
            (true, true) => state.waits.push(reply),
        }
    }
}

fn mount(daemon: &Daemon, at: &Path) -> Option<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("clasp".into()),
        MountOption::Subtype("clasp-test".into()),
    ];
    match fuser::spawn_mount(daemon.clone(), at, &config) {
        Ok(session) => Some(session),
        Err(error) => {
            eprintln!("not run: cannot mount a FUSE file system: {error}");
            None
        }
    }
}

fn lock(manager: &LockManager, directory: &Path, opted_in: bool) -> (Owner, Lock) {
    let owner = manager.owner(Limits::default());
    let dir = Dir::open_ambient_dir(directory, ambient_authority()).unwrap();
    let space = FileSpace::new(dir).network(opted_in).into_space();
    let lock = owner.open(&Grant::new(space), "a.lock").unwrap();
    (owner, lock)
}

fn finishes<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(f()));
    receive.recv_timeout(LIVENESS_TIMEOUT).expect("it hangs")
}

fn eventually(happens: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happens() {
        assert!(begun.elapsed() < LIVENESS_TIMEOUT, "it does not happen");
        thread::yield_now();
    }
}

fn kind<T>(result: Result<T, clasp_engine::Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// A lock on a healthy file system of the same host.
fn check_others(manager: &LockManager, directory: &Path) {
    let ((_a, first), (_b, second)) = (
        lock(manager, directory, false),
        lock(manager, directory, false),
    );
    finishes(move || {
        for _ in 0..50 {
            let guard = first.acquire_blocking(Mode::Exclusive, None).unwrap();
            let request = second.start_acquire(Mode::Exclusive, None).unwrap();
            drop(guard);
            drop(block_on(request).unwrap());
        }
        let guard = first.try_acquire(Mode::Exclusive).unwrap();
        let blocking = second.acquire_blocking(Mode::Shared, SHORT);
        assert_eq!(kind(blocking), Some(ErrorKind::Timeout));
        drop(guard);
    });
}

#[test]
fn a_daemon_that_hangs_keeps_its_own_locks_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let (hung, healthy) = (
        directory.path().join("hung"),
        directory.path().join("healthy"),
    );
    fs::create_dir(&hung).unwrap();
    fs::create_dir(&healthy).unwrap();
    let daemon = Daemon::default();
    let Some(session) = mount(&daemon, &hung) else {
        return;
    };
    let state = || daemon.0.lock().unwrap();
    let manager = LockManager::new(Ceilings::default());

    // It is not known to be local, so it is refused unless the grant opts in.
    let owner = manager.owner(Limits::default());
    let dir = Dir::open_ambient_dir(&hung, ambient_authority()).unwrap();
    let refused = owner.open(&Grant::new(FileSpace::new(dir).into_space()), "a.lock");
    assert_eq!(kind(refused), Some(ErrorKind::Unsupported));
    // Nor is a file created on it by way of a directory that is local.
    let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
    let refused = owner.open(&Grant::new(FileSpace::new(dir).into_space()), "hung/b.lock");
    assert_eq!(kind(refused), Some(ErrorKind::Unsupported));
    assert_eq!(state().creations, 0);

    let (_a, blocking) = lock(&manager, &hung, true);
    let (_b, task) = lock(&manager, &hung, true);
    let (_c, trying) = lock(&manager, &hung, true);
    finishes(move || drop(trying.try_acquire(Mode::Exclusive).unwrap()));

    // Waits that no signal ends.
    state().held = true;
    let (ended, blocking) = finishes(move || {
        let ended = kind(blocking.acquire_blocking(Mode::Exclusive, SHORT));
        (ended, blocking)
    });
    assert_eq!(ended, Some(ErrorKind::Timeout));
    assert_eq!(state().waits.len(), 1);
    check_others(&manager, &healthy);
    let (ended, task) = finishes(move || (kind(block_on(task.acquire(Mode::Shared, SHORT))), task));
    assert_eq!(ended, Some(ErrorKind::Timeout));
    let (tried, blocking) = finishes(move || (kind(blocking.try_acquire(Mode::Shared)), blocking));
    assert_eq!(tried, Some(ErrorKind::WouldBlock));

    // What they are granted in the end, they give back.
    let before = state().unlocks;
    let waits = {
        let mut state = state();
        state.held = false;
        std::mem::take(&mut state.waits)
    };
    let granted = waits.len();
    assert!(granted > 0);
    waits.into_iter().for_each(ReplyEmpty::ok);
    eventually(|| state().unlocks >= before + granted);
    finishes(move || drop(blocking.acquire_blocking(Mode::Exclusive, None).unwrap()));

    // A call that nothing ends at all keeps its thread, and nothing else.
    state().hangs = true;
    let stuck = thread::spawn(move || {
        let ended = kind(task.acquire_blocking(Mode::Shared, SHORT));
        (ended, task)
    });
    eventually(|| !state().questions.is_empty());
    check_others(&manager, &healthy);
    let questions = {
        let mut state = state();
        state.hangs = false;
        std::mem::take(&mut state.questions)
    };
    for question in questions {
        question.attr(&Duration::ZERO, &attributes(FILE));
    }
    let (ended, task) = finishes(move || stuck.join().unwrap());
    assert!(
        matches!(ended, None | Some(ErrorKind::Timeout)),
        "{ended:?}"
    );
    finishes(move || drop(task.acquire_blocking(Mode::Exclusive, None).unwrap()));
    drop((_a, _b, _c));
    drop(session);
}
