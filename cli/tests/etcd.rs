//! `clasp` with locks on etcd.
#![cfg(all(feature = "etcd", target_os = "linux"))]
#![allow(missing_docs, reason = "tests")]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use clasp_etcd::testing::LocalCluster;
use common::{Held, clasp, ended, eventually};
use serde_json::Value;
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

/// Whether there are servers to test with.
fn there_is_etcd() -> bool {
    let is = env::var_os("CLASP_ETCD").is_some();
    if !is {
        let why = "CLASP_ETCD is not set: what needs etcd is not run; use `cargo xtask test`";
        assert!(env::var_os("CI").is_none(), "{why}");
        eprintln!("{why}");
    }
    is
}

fn status(address: &str) -> Value {
    let (code, out, text) = ended(clasp().args(["status", "--json", address]));
    assert_eq!(code, Some(0), "{text}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn the_demo_loses_nothing_while_a_server_is_killed() {
    if !there_is_etcd() {
        return;
    }
    let mut demo = clasp();
    let (code, out, text) = ended(demo.args(["demo", "--on", "etcd", "--seconds", "4", "--json"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("was killed"), "{text}");
    let phases: Value = serde_json::from_str(&out).unwrap();
    let with = &phases[1];
    assert!(with["event"].as_str().unwrap().contains("killed"));
    assert_eq!(with["end"]["lost_updates"], 0);
    assert_eq!(with["end"]["wrong_audits"], 0);
    assert_eq!(with["end"]["money"], with["money_before"]);
    let processes = with["processes"].as_array().unwrap();
    assert!(processes.iter().all(|process| process["operations"] != 0));
}

#[test]
fn what_the_demo_cannot_do_on_etcd_is_told() {
    for (options, told) in [
        (["--with", "sqlite"], "ranges of bytes"),
        (["--python", "python3"], "fasteners"),
    ] {
        let (code, _, text) = ended(clasp().args(["demo", "--on", "etcd"]).args(options));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn commands_lock_on_a_cluster_and_status_lists_them() {
    if !there_is_etcd() {
        return;
    }
    let cluster = LocalCluster::start(1).expect("a cluster");
    let prefix = cluster.address("/locks").to_string();
    let address = format!("{prefix}/deploy/a.lock");
    assert_eq!(status(&prefix).get("clusters"), None);

    let holder = Held::lock(&["--shared"], Path::new(&address));
    let mut tries = clasp();
    tries.args(["lock", "-n", &address, "true"]);
    assert_eq!(ended(&mut tries).0, Some(1));
    let mut waits = clasp()
        .args(["lock", &address, "true"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    eventually("a request in line", || {
        status(&prefix)["clusters"][0]["queue"]
            .as_array()
            .is_some_and(|queue| queue.len() == 1)
    });
    let report = status(&address);
    let row = &report["clusters"][0];
    assert_eq!(row["address"], *address);
    let host = |list: &str| row[list][0]["host"].as_str().unwrap().to_owned();
    assert!(
        host("holders").ends_with(&format!(" {}", holder.id())),
        "{row}"
    );
    assert!(
        host("queue").ends_with(&format!(" {}", waits.id())),
        "{row}"
    );
    assert_eq!(row["holders"][0]["mode"], "shared");
    assert_eq!(row["queue"][0]["mode"], "exclusive");
    let (_, text, _) = ended(clasp().args(["status", &prefix]));
    assert!(text.contains("  held       shared "), "{text}");
    assert!(text.contains("  queue 1    exclusive "), "{text}");

    assert_eq!(holder.end(), Some(0));
    assert!(waits.wait().unwrap().success());
    let (_, text, _) = ended(clasp().args(["status", &prefix]));
    assert_eq!(text, "no lock is held there\n");
}

#[test]
fn commands_have_permits_on_a_cluster_and_status_lists_them() {
    if !there_is_etcd() {
        return;
    }
    let cluster = LocalCluster::start(1).expect("a cluster");
    let address = cluster.address("/locks").to_string() + "/jobs.sem";
    let permits = ["--permits", "2"];
    let one = Held::lock(&permits, Path::new(&address));
    let two = Held::lock(&permits, Path::new(&address));
    let mut tries = clasp();
    tries
        .arg("lock")
        .args(permits)
        .args(["-n", &address, "true"]);
    assert_eq!(ended(&mut tries).0, Some(1));
    let mut waits = clasp();
    waits.arg("lock").args(permits).args([&address, "true"]);
    let mut waits = waits.stdin(Stdio::null()).spawn().unwrap();
    eventually("a request in line", || {
        status(&address)["clusters"][0]["queue"]
            .as_array()
            .is_some_and(|queue| queue.len() == 1)
    });
    let report = status(&address);
    let holders = report["clusters"][0]["holders"].as_array().unwrap();
    let modes: Vec<_> = holders.iter().map(|holder| &holder["mode"]).collect();
    assert_eq!(modes, ["permit 0", "permit 1"], "{report}");
    assert_eq!(one.end(), Some(0));
    assert!(waits.wait().unwrap().success());
    assert_eq!(two.end(), Some(0));
}

/// Both end at once when their locks are lost, because somebody revokes the lease.
#[test]
fn a_lost_lock_ends_the_command() {
    if !there_is_etcd() {
        return;
    }
    let cluster = LocalCluster::start(1).expect("a cluster");
    let address = cluster.address("/lost").to_string() + "/a.lock";
    let directory = tempfile::tempdir().unwrap();
    let told = directory.path().join("told");
    let script = format!(
        "trap 'echo ended > {}; exit 3' TERM; echo held; read line",
        told.display()
    );
    let mut command = clasp();
    command.args(["lock", &address, "--", "bash", "-c", &script]);
    let holder = Held::start(&mut command);
    let etcdctl = Path::new(&env::var_os("CLASP_ETCD").unwrap()).with_file_name("etcdctl");
    let members = format!("127.0.0.1:{}", cluster.ports()[0]);
    let (code, _, text) = ended(Command::new(etcdctl).args([
        "--endpoints",
        &members,
        "del",
        "--prefix",
        "/lost//hosts/",
    ]));
    assert_eq!(code, Some(0), "{text}");
    eventually("the end of the command", || {
        fs::read_to_string(&told).is_ok_and(|told| told == "ended\n")
    });
    assert_eq!(holder.end(), Some(3));
}

#[test]
fn a_cluster_that_is_not_there_is_told() {
    // The port of a server that is not there any more.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let directory = tempfile::tempdir().unwrap();
    let guest = directory.path().join("guest.wasm");
    fs::write(&guest, "").unwrap();
    let address = format!("etcd://127.0.0.1:{port}/p");
    let (grant, lock) = (format!("{address}::data"), format!("{address}/a"));
    for words in [
        &["run", "--locks", &grant, guest.to_str().unwrap()][..],
        &["lock", &lock, "true"],
        &["status", &address],
    ] {
        let (code, _, text) = ended(clasp().args(words));
        assert!(matches!(code, Some(1 | 71)), "{code:?} {text}");
        assert!(text.contains("majority"), "{text}");
        assert!(text.contains("refused"), "{text}");
    }
}
