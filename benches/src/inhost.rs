//! Many guests of one host on one lock, beside as many tasks on a lock of
//! tokio's, which is fair and knows no other process.

use crate::{
    host::{Configuration, Functions, Host},
    turns::now,
};
use anyhow::{Context, Result};
use clap::Args;
use clasp_engine::{
    Ceilings, Grant, Limits, LockManager, Mode,
    file::{FileSpace, Order},
};
use serde::{Deserialize, Serialize};
use std::{fs, future::Future, path::PathBuf, pin::Pin, sync::Arc};

#[derive(Args)]
pub(crate) struct Inhost {
    /// guests, by-hand (guests on a lock of tokio's), engine (its futures as tasks) or
    /// tokio
    who: String,
    directory: PathBuf,
    mode: String,
    count: usize,
    milliseconds: u64,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Grants in a second, of all.
    pub(crate) per_second: f64,
    /// Threads of the process, at most.
    pub(crate) threads: usize,
    /// The fewest and the most turns of any one.
    pub(crate) fewest: u64,
    pub(crate) most: u64,
}

type Task = Pin<Box<dyn Future<Output = Result<u64>> + Send>>;

impl Inhost {
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
        let found = runtime.block_on(self.measure())?;
        println!("{}", serde_json::to_string(&found)?);
        Ok(())
    }

    async fn measure(&self) -> Result<Found> {
        let exclusive = self.mode == "exclusive";
        let mode = if exclusive {
            Mode::Exclusive
        } else {
            Mode::Shared
        };
        let (start, started) = tokio::sync::watch::channel(0);
        let wait = || {
            let mut started = started.clone();
            async move { Ok::<u64, anyhow::Error>(*started.wait_for(|until| *until > 0).await?) }
        };
        let tokio_lock = Arc::new(tokio::sync::RwLock::new(()));
        let manager = LockManager::new(Ceilings::default());
        let dir =
            cap_std::fs::Dir::open_ambient_dir(&self.directory, cap_std::ambient_authority())?;
        let grant = Grant::new(FileSpace::new(dir).order(Order::Fair).into_space());
        let functions = match &*self.who {
            "by-hand" => Functions::ByHand,
            _ => Functions::Suspending,
        };
        let host = Host::new(functions, Configuration::Many)?;
        let mut tasks: Vec<Task> = Vec::new();
        for _ in 0..self.count {
            let wait = wait();
            tasks.push(match &*self.who {
                "tokio" => {
                    let lock = Arc::clone(&tokio_lock);
                    Box::pin(async move {
                        let until = wait.await?;
                        let mut turns = 0;
                        loop {
                            let time = if exclusive {
                                let _guard = lock.write().await;
                                now()
                            } else {
                                let _guard = lock.read().await;
                                now()
                            };
                            if time >= until {
                                return Ok(turns);
                            }
                            turns += 1;
                        }
                    })
                }
                "engine" => {
                    let owner = manager.owner(Limits::default());
                    let lock = owner.open(&grant, "inhost.lock")?;
                    Box::pin(async move {
                        let _owner = owner;
                        let until = wait.await?;
                        let mut turns = 0;
                        loop {
                            let guard = lock.acquire(mode, None).await?;
                            let time = now();
                            drop(guard);
                            if time >= until {
                                return Ok(turns);
                            }
                            turns += 1;
                        }
                    })
                }
                _ => {
                    let mut guest = host.guest(&manager, grant.clone()).await?;
                    Box::pin(async move {
                        let until = wait.await?;
                        guest.count("inhost.lock", exclusive, until).await
                    })
                }
            });
        }
        let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
        let begun = now();
        let length = self.milliseconds * 1_000_000;
        start.send(begun + length)?;
        let half = std::time::Duration::from_millis(self.milliseconds / 2);
        // From a thread of its own: the workers are busy.
        let threads = tokio::task::spawn_blocking(move || -> Result<usize> {
            std::thread::park_timeout(half);
            Ok(fs::read_dir("/proc/self/task")?.count())
        });
        let mut turns = Vec::new();
        for task in tasks {
            turns.push(task.await??);
        }
        let elapsed = (now() - begun).max(1);
        Ok(Found {
            per_second: turns.iter().sum::<u64>() as f64 * 1e9 / elapsed as f64,
            threads: threads.await??,
            fewest: *turns.iter().min().context("no tasks")?,
            most: *turns.iter().max().context("no tasks")?,
        })
    }
}
