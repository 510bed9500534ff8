//! Every back end passes the one suite.
#![cfg(feature = "conformance")]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    ErrorKind, LockName,
    backend::{Access, Creation, Space},
    file::{Family, FileSpace, Order},
    testing::{
        TestLine,
        conformance::{World, remove_name, run, waits_need_threads},
        delayed::Delayed,
        memory::Memory,
        native,
    },
};
use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

struct InMemory {
    memory: Memory,
    delayed: Option<Delayed>,
    threadless: bool,
}

impl World for InMemory {
    fn space(&self) -> Arc<dyn Space> {
        match &self.delayed {
            Some(delayed) => Arc::new(delayed.clone()),
            None => self.memory.space(),
        }
    }

    fn unlink(&self, name: &str) {
        self.memory.unlink(name);
    }

    fn line(&self, name: &str) -> Option<TestLine> {
        self.memory.line(name)
    }

    fn waits_need_threads(&self) -> bool {
        !self.threadless
    }

    fn is_immediate(&self) -> bool {
        self.delayed.is_none()
    }

    fn has_tokens(&self) -> bool {
        true
    }

    fn lose(&self, name: &str) -> bool {
        self.memory.lose(name);
        true
    }
}

fn in_memory(memory: fn() -> Memory, threadless: bool) {
    run(&|| {
        Box::new(InMemory {
            memory: memory(),
            delayed: None,
            threadless,
        })
    });
}

/// As a server is: every operation takes up to 200 us.
fn behind_a_slow_line(memory: fn() -> Memory) {
    let seed = AtomicU64::new(1);
    run(&|| {
        let memory = memory();
        let seed = seed.fetch_add(1, Ordering::Relaxed);
        let latency = Duration::from_micros(200);
        Box::new(InMemory {
            delayed: Some(Delayed::new(memory.clone(), latency, seed)),
            memory,
            threadless: true,
        })
    });
}

struct Directory(TempDir, Family, Order);

impl World for Directory {
    fn space(&self) -> Arc<dyn Space> {
        let dir = Dir::open_ambient_dir(self.0.path(), ambient_authority()).unwrap();
        FileSpace::new(dir)
            .family(self.1)
            .order(self.2)
            .into_space()
    }

    fn unlink(&self, name: &str) {
        remove_name(&self.0.path().join(name));
    }

    fn line(&self, name: &str) -> Option<TestLine> {
        if self.2 == Order::Kernel {
            return None;
        }
        let file = File::options()
            .append(true)
            .create(true)
            .open(self.0.path().join(name));
        native::line(&file.unwrap())
    }

    fn waits_need_threads(&self) -> bool {
        waits_need_threads()
    }

    fn has_semaphores(&self) -> bool {
        cfg!(any(target_os = "linux", target_os = "macos"))
    }

    fn converts(&self) -> bool {
        cfg!(target_os = "macos") || self.1 == Family::Posix
    }
}

fn directory(family: Family, order: Order) {
    run(&|| Box::new(Directory(tempfile::tempdir().unwrap(), family, order)));
}

#[test]
fn memory() {
    in_memory(Memory::new, false);
}

#[test]
fn fair_memory() {
    in_memory(Memory::fair, false);
}

#[test]
fn threadless_memory() {
    in_memory(Memory::threadless, true);
}

#[test]
fn delayed_memory() {
    behind_a_slow_line(Memory::new);
}

#[test]
fn delayed_fair_memory() {
    behind_a_slow_line(Memory::fair);
}

#[cfg(windows)]
#[test]
fn lockfileex() {
    directory(Family::LockFileEx, Order::Kernel);
}

#[cfg(unix)]
#[test]
fn posix() {
    directory(Family::Posix, Order::Kernel);
}

#[cfg(unix)]
#[test]
fn flock() {
    directory(Family::Flock, Order::Kernel);
}

#[cfg(unix)]
#[test]
fn both() {
    directory(Family::Both, Order::Kernel);
}

#[cfg(target_os = "linux")]
#[test]
fn fair_posix() {
    directory(Family::Posix, Order::Fair);
}

#[cfg(target_os = "linux")]
#[test]
fn fair_flock() {
    directory(Family::Flock, Order::Fair);
}

#[cfg(target_os = "linux")]
#[test]
fn fair_both() {
    directory(Family::Both, Order::Fair);
}

/// What another system has is refused before anything is created.
#[test]
fn what_this_system_has_not_is_refused() {
    let world = tempfile::tempdir().unwrap();
    let open = |family, order| {
        let dir = Dir::open_ambient_dir(world.path(), ambient_authority()).unwrap();
        let space = FileSpace::new(dir).family(family).order(order).into_space();
        let name = LockName::parse("a.lock", 100).unwrap();
        let mut creation = Creation::new(true);
        space.open(&name, Access::Any, &mut creation).map(drop)
    };
    let (family, order) = (Family::default(), Order::default());
    let foreign = match family {
        Family::LockFileEx => Family::Posix,
        _ => Family::LockFileEx,
    };
    let error = open(foreign, order).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains(family.name()), "{error}");
    assert_eq!(foreign.check(), Err(error));
    if order == Order::Kernel {
        let error = open(family, Order::Fair).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("kernel"), "{error}");
    }
    assert_eq!(std::fs::read_dir(world.path()).unwrap().count(), 0);
    open(family, order).unwrap();
}
