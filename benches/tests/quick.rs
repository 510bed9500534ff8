//! The benchmarks still run and write their report.
#![allow(missing_docs, reason = "tests")]

use std::{fs, path::Path, process::Command};

/// Runs a comparison quickly; answers the results that it writes as `json`.
fn quick(comparison: &str, directory: &Path, json: &str) -> serde_json::Value {
    let status = Command::new(env!("CARGO_BIN_EXE_clasp-bench"))
        .args([comparison, "--quick", "--out"])
        .arg(directory)
        .status()
        .unwrap();
    assert!(status.success());
    serde_json::from_str(&fs::read_to_string(directory.join(json)).unwrap()).unwrap()
}

#[test]
fn a_quick_run_writes_its_report() {
    let directory = tempfile::tempdir().unwrap();
    let results = quick("run", directory.path(), "results.json");
    assert_eq!(results["quick"], true);
    for part in [
        "uncontended",
        "steps",
        "hand_over",
        "contention",
        "in_host",
        "memory",
    ] {
        assert!(!results[part].as_array().unwrap().is_empty(), "{part}");
    }
    // No two were in it at once, whatever they went by.
    for contended in results["contention"].as_array().unwrap() {
        assert_eq!(contended["found"]["violations"], 0, "{contended}");
    }
    for file in [
        "README.md",
        "uncontended.svg",
        "hand-over.svg",
        "in-host.svg",
    ] {
        assert!(directory.path().join(file).is_file(), "{file}");
    }
}

#[test]
fn a_quick_run_on_etcd_writes_its_report() {
    if std::env::var_os("CLASP_ETCD").is_none() {
        eprintln!("CLASP_ETCD is not set: what needs etcd is not run; use `cargo xtask test`");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let results = quick("etcd", directory.path(), "etcd.json");
    for part in ["pairs", "hand_over", "turns", "inside"] {
        assert!(!results[part].as_array().unwrap().is_empty(), "{part}");
    }
    for turns in results["turns"].as_array().unwrap() {
        assert_eq!(turns["overlaps"], 0, "{turns}");
    }
    assert!(directory.path().join("etcd.md").is_file());
}

#[test]
fn a_quick_run_of_semaphores_writes_its_report() {
    let directory = tempfile::tempdir().unwrap();
    let results = quick("permits", directory.path(), "semaphores.json");
    for part in ["pairs", "wakes", "turns"] {
        assert!(!results[part].as_array().unwrap().is_empty(), "{part}");
    }
    for turns in results["turns"].as_array().unwrap() {
        let most = if turns["way"] == "engine-posix-fair" {
            1
        } else {
            turns["permits"].as_u64().unwrap()
        };
        assert!(turns["at_once"].as_u64().unwrap() <= most, "{turns}");
    }
    assert!(directory.path().join("semaphores.md").is_file());
}
