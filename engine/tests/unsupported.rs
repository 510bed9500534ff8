//! A system whose locks the engine does not know says so, and does nothing.
//! `cargo xtask test` runs this with `--cfg clasp_unsupported`.
#![cfg(clasp_unsupported)]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Ceilings, ErrorKind, Grant, Limits, LockManager,
    file::{FileSpace, set_order_directory, set_wake_signal},
};

#[test]
fn it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
    let grant = Grant::new(FileSpace::new(dir).into_space());
    let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
    let error = owner.open(&grant, "a.lock").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("operating system"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

    let error = set_wake_signal(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = set_order_directory(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
