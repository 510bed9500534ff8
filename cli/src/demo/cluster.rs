//! The cluster of the demo: three members of etcd on this machine, of which one is killed.

use anyhow::{Context, Result};
use clasp_etcd::{Address, Cluster, Options, testing::LocalCluster};
use clasp_host::engine::Grant;

/// How many members there are; one of them can be missed.
const MEMBERS: usize = 3;

/// Servers that end with the demo.
pub(super) struct Members {
    servers: LocalCluster,
    address: Address,
}

impl Members {
    pub(super) fn start() -> Result<Members> {
        let servers = LocalCluster::start(MEMBERS).context("cannot start a cluster of etcd")?;
        let address = servers.address("/demo");
        Ok(Members { servers, address })
    }

    /// The place of the locks, as `clasp run --locks` takes it.
    pub(super) fn place(&self) -> String {
        self.address.to_string()
    }

    /// The same place, for the demo itself.
    pub(super) fn grant(&self) -> Result<Grant> {
        let cluster = Cluster::connect(&self.address, &Options::default())?;
        Ok(Grant::new(cluster.space()))
    }

    /// Kills the member that leads the others, whose loss they notice most.
    pub(super) fn kill_the_leader(&mut self) -> Result<()> {
        let leader = self.servers.leader().context("cannot find the leader")?;
        self.servers.kill(leader).context("cannot kill the leader")
    }
}
