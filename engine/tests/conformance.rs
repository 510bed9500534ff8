//! Every back end passes the one suite.
#![cfg(feature = "conformance")]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    ErrorKind, LockName,
    backend::{Access, Space},
    conformance::{World, remove_name, run, waits_need_threads},
    file::{Family, FileSpace, Order},
    memory::Memory,
};
use std::sync::Arc;
use tempfile::TempDir;

struct InMemory {
    memory: Memory,
    fair: bool,
    threadless: bool,
}

impl InMemory {
    fn run(fair: bool, threadless: bool) {
        run(&|| {
            let memory = match (fair, threadless) {
                (fair, true) => Memory::threadless(fair),
                (true, false) => Memory::fair(),
                (false, false) => Memory::new(),
            };
            Box::new(InMemory {
                memory,
                fair,
                threadless,
            })
        });
    }
}

impl World for InMemory {
    fn space(&self) -> Arc<dyn Space> {
        self.memory.space()
    }

    fn unlink(&self, name: &str) {
        self.memory.unlink(name);
    }

    fn is_fair(&self) -> bool {
        self.fair
    }

    fn waits_need_threads(&self) -> bool {
        !self.threadless
    }
}

struct Folder(TempDir, Family, Order);

impl World for Folder {
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

    fn is_fair(&self) -> bool {
        self.2 == Order::Fair
    }

    fn waits_need_threads(&self) -> bool {
        waits_need_threads()
    }
}

fn folder(family: Family, order: Order) {
    run(&|| Box::new(Folder(tempfile::tempdir().unwrap(), family, order)));
}

#[test]
fn memory() {
    InMemory::run(false, false);
}

#[test]
fn fair_memory() {
    InMemory::run(true, false);
}

#[test]
fn threadless_memory() {
    InMemory::run(false, true);
}

#[test]
fn fair_threadless_memory() {
    InMemory::run(true, true);
}

#[cfg(windows)]
#[test]
fn lockfileex() {
    folder(Family::LockFileEx, Order::Kernel);
}

#[cfg(unix)]
#[test]
fn posix() {
    folder(Family::Posix, Order::Kernel);
}

#[cfg(unix)]
#[test]
fn flock() {
    folder(Family::Flock, Order::Kernel);
}

#[cfg(unix)]
#[test]
fn both() {
    folder(Family::Both, Order::Kernel);
}

#[cfg(target_os = "linux")]
#[test]
fn fair_posix() {
    folder(Family::Posix, Order::Fair);
}

#[cfg(target_os = "linux")]
#[test]
fn fair_flock() {
    folder(Family::Flock, Order::Fair);
}

#[cfg(target_os = "linux")]
#[test]
fn fair_both() {
    folder(Family::Both, Order::Fair);
}

/// What another system has is refused before anything is created.
#[test]
fn what_this_system_has_not_is_refused() {
    let world = tempfile::tempdir().unwrap();
    let open = |family, order| {
        let dir = Dir::open_ambient_dir(world.path(), ambient_authority()).unwrap();
        let space = FileSpace::new(dir).family(family).order(order).into_space();
        let name = LockName::parse("a.lock", 100).unwrap();
        space.open(&name, Access::Any).map(drop)
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
