//! Clusters with users: what a role needs, and what is told if it does not suffice.
#![cfg(feature = "testing")]
#![allow(missing_docs, reason = "tests")]

use clasp_engine::{Ceilings, ErrorKind, Grant, Limits, LockManager, Mode};
use clasp_etcd::{Cluster, Options, testing::LocalCluster};
use etcd_client::{Client, Permission, PermissionType};

/// Users with roles of their own; then users are asked for.
async fn add_users(members: &[String]) -> Result<(), etcd_client::Error> {
    let mut client = Client::connect(members, None).await?;
    let all = Permission::new(PermissionType::Readwrite, "/locks/").with_prefix();
    client.user_add("root", "secret", None).await?;
    client.user_grant_role("root", "root").await?;
    client.role_add("clasp").await?;
    client.role_grant_permission("clasp", all).await?;
    client.user_add("clasp", "password", None).await?;
    client.user_grant_role("clasp", "clasp").await?;
    client.user_add("other", "password", None).await?;
    client.auth_enable().await?;
    Ok(())
}

#[test]
fn the_role_of_one_prefix_suffices() {
    let local = LocalCluster::start(1).expect("a cluster");
    let address = local.address("/locks");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(add_users(address.members())).unwrap();

    let connect = |options: Options| Cluster::connect(&address, &options);
    for (options, told) in [
        (Options::default(), "CLASP_ETCD_USER"),
        (Options::default().user("clasp", "wrong"), "password"),
        (Options::default().user("nobody", "password"), "password"),
        (
            Options::default().user("other", "password"),
            "readwrite --prefix",
        ),
    ] {
        let error = connect(options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Access, "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }

    let hosts = [(); 2].map(|()| connect(Options::default().user("clasp", "password")).unwrap());
    let manager = LockManager::new(Ceilings::default());
    let owner = manager.owner(Limits::default());
    let locks = hosts.map(|host| owner.open(&Grant::new(host.space()), "a").unwrap());
    let mut guard = locks[0].acquire_blocking(Mode::Exclusive, None).unwrap();
    assert!(locks[1].try_acquire(Mode::Shared).is_err());
    guard.downgrade().unwrap();
    drop(locks[1].acquire_blocking(Mode::Shared, None).unwrap());
    guard.release().unwrap();
    drop(locks[1].acquire_blocking(Mode::Exclusive, None).unwrap());
}
