//! Every back end passes the one suite.
#![cfg(feature = "conformance")]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    backend::Space,
    conformance::{World, run},
    file::{Family, FileSpace},
    memory::Memory,
};
use std::sync::Arc;
use tempfile::TempDir;

struct InMemory(Memory);

impl World for InMemory {
    fn space(&self) -> Arc<dyn Space> {
        self.0.space()
    }

    fn unlink(&self, name: &str) {
        self.0.unlink(name);
    }
}

struct Folder(TempDir, Family);

impl World for Folder {
    fn space(&self) -> Arc<dyn Space> {
        let dir = Dir::open_ambient_dir(self.0.path(), ambient_authority()).unwrap();
        FileSpace::new(dir).family(self.1).into_space()
    }

    fn unlink(&self, name: &str) {
        std::fs::remove_file(self.0.path().join(name)).unwrap();
    }
}

#[test]
fn memory() {
    run(&|| Box::new(InMemory(Memory::new())));
}

#[test]
fn posix() {
    run(&|| Box::new(Folder(tempfile::tempdir().unwrap(), Family::Posix)));
}

#[test]
fn flock() {
    run(&|| Box::new(Folder(tempfile::tempdir().unwrap(), Family::Flock)));
}
