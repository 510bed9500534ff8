//! The examples run.
#![cfg(all(feature = "testing", unix))]
#![allow(missing_docs, reason = "tests")]

use std::process::Command;

#[test]
fn a_late_write_is_refused() {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().unwrap().parent().unwrap();
    let example = built.join("examples/fenced");
    assert!(
        example.is_file(),
        "`cargo test` does not build examples for a single test: run `cargo build --package \
         clasp-etcd --features testing --examples` before"
    );
    let output = Command::new(example).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{complaint}");
    assert!(told.contains("write of \"old\""), "{told}");
    assert!(told.contains("refused"), "{told}");
    assert!(told.ends_with("the store has \"new\"\n"), "{told}");
}
