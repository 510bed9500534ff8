//! The suite that every back end passes, on a cluster of three.
#![cfg(feature = "testing")]
#![allow(missing_docs, reason = "tests")]

use clasp_engine::{
    backend::Space,
    testing::{
        TestLine,
        conformance::{World, run},
    },
};
use clasp_etcd::{Address, Cluster, Options, testing::LocalCluster};
use etcd_client::{Client, DeleteOptions};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

struct OnEtcd(Address);

impl World for OnEtcd {
    fn space(&self) -> Arc<dyn Space> {
        let cluster = Cluster::connect(&self.0, &Options::default());
        cluster.expect("a cluster").space()
    }

    fn unlink(&self, _: &str) {
        unreachable!("locks on etcd are no files");
    }

    fn has_files(&self) -> bool {
        false
    }

    fn line(&self, _: &str) -> Option<TestLine> {
        None
    }

    fn is_fair(&self) -> bool {
        true
    }

    fn waits_need_threads(&self) -> bool {
        false
    }

    fn is_immediate(&self) -> bool {
        false
    }

    fn has_tokens(&self) -> bool {
        true
    }

    /// Ends every session, as if the leases had expired.
    fn lose(&self, _: &str) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let client = Client::connect(self.0.members(), None).await;
            let hosts = format!("{}//hosts/", self.0.prefix());
            let options = DeleteOptions::new().with_prefix();
            let deleted = client.expect("a client").delete(hosts, Some(options)).await;
            deleted.expect("the hosts are deleted");
        });
        true
    }
}

#[test]
fn etcd() {
    let cluster = LocalCluster::start(3).expect("a cluster");
    let worlds = AtomicU32::new(0);
    run(&|| {
        let world = worlds.fetch_add(1, Ordering::Relaxed);
        Box::new(OnEtcd(cluster.address(&format!("/world{world}"))))
    });
}
