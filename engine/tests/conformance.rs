//! Every back end passes the one suite.
#![cfg(feature = "conformance")]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    backend::Space,
    conformance::{World, run},
    file::{Family, FileSpace, Order},
    memory::Memory,
};
use std::sync::Arc;
use tempfile::TempDir;

struct InMemory(Memory, bool);

impl World for InMemory {
    fn space(&self) -> Arc<dyn Space> {
        self.0.space()
    }

    fn unlink(&self, name: &str) {
        self.0.unlink(name);
    }

    fn is_fair(&self) -> bool {
        self.1
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
        std::fs::remove_file(self.0.path().join(name)).unwrap();
    }

    fn is_fair(&self) -> bool {
        self.2 == Order::Fair
    }
}

fn folder(family: Family, order: Order) {
    run(&|| Box::new(Folder(tempfile::tempdir().unwrap(), family, order)));
}

#[test]
fn memory() {
    run(&|| Box::new(InMemory(Memory::new(), false)));
}

#[test]
fn fair_memory() {
    run(&|| Box::new(InMemory(Memory::fair(), true)));
}

#[test]
fn fair_posix() {
    folder(Family::Posix, Order::Fair);
}

#[test]
fn posix() {
    folder(Family::Posix, Order::Kernel);
}

#[test]
fn flock() {
    folder(Family::Flock, Order::Kernel);
}

#[test]
fn fair_flock() {
    folder(Family::Flock, Order::Fair);
}

#[test]
fn both() {
    folder(Family::Both, Order::Kernel);
}

#[test]
fn fair_both() {
    folder(Family::Both, Order::Fair);
}
