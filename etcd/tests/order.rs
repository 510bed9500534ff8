//! Order between hosts, and hand-overs within a host.
#![cfg(feature = "testing")]
#![allow(missing_docs, reason = "tests")]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use clasp_engine::{Grant, Limits, Mode, testing::conformance::block_on};
use clasp_etcd::{Address, testing::LocalCluster};
use etcd_client::{Client, GetOptions};
use std::{sync::mpsc, thread};
use support::{Host, eventually};

/// How many requests a lock has, and the revision of the store.
fn look(address: &Address) -> (i64, i64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let mut client = Client::connect(address.members(), None).await.unwrap();
        let prefix = format!("{}/a//q/", address.prefix());
        let options = GetOptions::new().with_prefix().with_count_only();
        let found = client.get(prefix, Some(options)).await.unwrap();
        (found.count(), found.header().unwrap().revision())
    })
}

#[test]
fn hosts_are_served_in_the_order_of_their_requests() {
    let cluster = LocalCluster::start(1).expect("a cluster");
    let address = cluster.address("/order");
    let holder = Host::new(&address, 5);
    let guard = holder
        .open("a")
        .acquire_blocking(Mode::Exclusive, None)
        .unwrap();
    let (served, order) = mpsc::channel();
    let waiting: Vec<_> = (0..5)
        .map(|number| {
            let host = Host::new(&address, 5);
            let served = served.clone();
            let waits = thread::spawn(move || {
                let guard = host
                    .open("a")
                    .acquire_blocking(Mode::Exclusive, None)
                    .unwrap();
                served.send(number).unwrap();
                guard.release().unwrap();
            });
            eventually("a place in line", || look(&address).0 == number + 2);
            waits
        })
        .collect();
    guard.release().unwrap();
    for host in waiting {
        host.join().unwrap();
    }
    drop(served);
    assert_eq!(order.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

/// The next guest of a host gets the lock without a request to the cluster, though another
/// host is in line, and a token of its own.
#[test]
fn a_host_passes_the_lock_on_by_itself() {
    let cluster = LocalCluster::start(1).expect("a cluster");
    let address = cluster.address("/within");
    let (here, there) = (Host::new(&address, 5), Host::new(&address, 5));
    // Each guest has a grant of its own.
    let grant = || Grant::new(here.cluster.space());
    let owners = [(); 2].map(|()| here.manager.owner(Limits::default()));
    let [first, second] = owners
        .each_ref()
        .map(|owner| owner.open(&grant(), "a").unwrap());
    let foreign = there.open("a");
    // The machine may be slow: a tenure that is over is tried again.
    eventually("a hand-over within a tenure", || {
        let guard = first.acquire_blocking(Mode::Exclusive, None).unwrap();
        let token = guard.token().unwrap();
        let next = second.start_acquire(Mode::Exclusive, None).unwrap();
        let before = look(&address).1;
        guard.release().unwrap();
        let guard = block_on(next).unwrap();
        assert!(guard.token().unwrap() > token);
        let passed = look(&address).1 == before;
        guard.release().unwrap();
        passed
    });
    drop(foreign.acquire_blocking(Mode::Exclusive, None).unwrap());
}
