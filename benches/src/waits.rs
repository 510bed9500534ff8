//! Many requests of one guest at once, and requests that are cancelled.

use crate::{
    host::{Configuration, Crowded, Functions, Host},
    statistics::quantile,
};
use anyhow::Result;
use clap::Args;
use clasp_engine::{
    Ceilings, Grant, Limits, LockManager, Mode,
    file::{FileSpace, Order},
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Waits {
    directory: PathBuf,
    /// How many requests wait.
    count: u32,
    /// How many are cancelled, of each kind.
    cancelled: u32,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Of the process, for each request: the guest's memory, the host's and the engine's.
    pub(crate) bytes_each: f64,
    /// Threads that the requests have brought.
    pub(crate) threads: usize,
    /// Grants in a second.
    pub(crate) per_second: f64,
    /// How long a cancelled request was still there, in microseconds: behind another guest, and
    /// in the kernel behind another process.
    pub(crate) queued_p99: f64,
    pub(crate) kernel_p99: f64,
}

impl Waits {
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()?;
        let found = runtime.block_on(self.measure())?;
        println!("{}", serde_json::to_string(&found)?);
        Ok(())
    }

    async fn measure(&self) -> Result<Found> {
        let grant = || -> Result<Grant> {
            let ambient = cap_std::ambient_authority();
            let dir = cap_std::fs::Dir::open_ambient_dir(&self.directory, ambient)?;
            Ok(Grant::new(
                FileSpace::new(dir).order(Order::Fair).into_space(),
            ))
        };
        let manager = LockManager::new(Ceilings::default());
        let host = Host::new(Functions::Concurrent, Configuration::Default)?;
        let mut guest = host.guest(&manager, grant()?).await?;
        // What is allocated once.
        guest.crowd("crowd.lock", 10).await?;
        let before = Crowded::now()?;
        let (taken, crowded) = guest.crowd("crowd.lock", self.count).await?;

        let cancel = async |holds: &LockManager, name: &str| -> Result<f64> {
            let owner = holds.owner(Limits::default());
            let lock = owner.open(&grant()?, name)?;
            let _guard = lock.acquire_blocking(Mode::Exclusive, None)?;
            let mut guest = host.guest(&manager, grant()?).await?;
            let mut times = guest.cancel(name, self.cancelled).await?;
            times.sort_unstable();
            Ok(quantile(&times, 0.99) as f64 / 1e3)
        };
        let elsewhere = LockManager::new(Ceilings::default());
        Ok(Found {
            bytes_each: crowded.bytes.saturating_sub(before.bytes) as f64 / f64::from(self.count),
            threads: crowded.threads.saturating_sub(before.threads),
            per_second: f64::from(self.count) * 1e9 / taken.max(1) as f64,
            queued_p99: cancel(&manager, "queued.lock").await?,
            kernel_p99: cancel(&elsewhere, "kernel.lock").await?,
        })
    }
}
