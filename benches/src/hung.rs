//! A host in which one lock hangs: what the others lose by it.

use crate::statistics::quantile;
use anyhow::{Context, Result, ensure};
use cap_std::{ambient_authority, fs::Dir};
use clap::Args;
use clasp_engine::{
    Ceilings, Grant, Limits, Lock, LockManager, Mode, Owner,
    file::FileSpace,
    testing::{delayed::Delayed, memory::Memory},
};
use serde::{Deserialize, Serialize};
use std::{
    future::Future,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Requests that hang, and requests that compete for a lock that does not.
const HANGING: usize = 8;
const COMPETING: usize = 2;

/// The timeout whose lateness is measured.
const TIMEOUT: Duration = Duration::from_millis(5);

#[derive(Args)]
pub(crate) struct Hung {
    /// sync or async
    kind: String,
    directory: PathBuf,
    milliseconds: u64,
    /// Whether there is a lock that hangs
    #[arg(long)]
    hangs: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) per_second: f64,
    /// How late a timeout is told: of nine in ten at most, in microseconds.
    pub(crate) late_p90: f64,
}

impl Hung {
    pub(crate) fn run(self) -> Result<()> {
        let found = self.measure()?;
        println!("{}", serde_json::to_string(&found)?);
        Ok(())
    }

    fn measure(&self) -> Result<Found> {
        ensure!(matches!(&*self.kind, "sync" | "async"), "sync or async");
        let suspends = self.kind == "async";
        let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
        let manager = LockManager::new(Ceilings::default());
        let dir = Dir::open_ambient_dir(&self.directory, ambient_authority())?;
        let files = Grant::new(FileSpace::new(dir).into_space());
        let slow = Delayed::new(Memory::new(), Duration::ZERO, 1);
        let hanging = Grant::new(Arc::new(slow.clone()));
        let lock = |grant: &Grant, name: &str| -> Result<(Owner, Lock)> {
            let owner = manager.owner(Limits::default());
            let lock = owner.open(grant, name)?;
            Ok((owner, lock))
        };
        if self.hangs {
            slow.hang(true);
            for _ in 0..HANGING {
                let (owner, lock) = lock(&hanging, "hung")?;
                let waits = async move {
                    let _owner = owner;
                    lock.acquire(Mode::Exclusive, None).await.map(drop)
                };
                // These never end: the process does, before them.
                drop(spawn(&runtime, suspends, waits));
            }
            slow.wait_for_an_operation();
        }
        let until = Instant::now() + Duration::from_millis(self.milliseconds);
        let mut competing = Vec::new();
        for _ in 0..COMPETING {
            let (owner, lock) = lock(&files, "busy.lock")?;
            competing.push(spawn(&runtime, suspends, async move {
                let _owner = owner;
                let mut turns = 0_u64;
                while Instant::now() < until {
                    drop(lock.acquire(Mode::Exclusive, None).await?);
                    turns += 1;
                }
                Ok::<u64, clasp_engine::Error>(turns)
            }));
        }
        let (_holder, held) = lock(&files, "held.lock")?;
        let _guard = held.try_acquire(Mode::Exclusive)?;
        let (owner, waits) = lock(&files, "held.lock")?;
        let late = spawn(&runtime, suspends, async move {
            let _owner = owner;
            let mut late = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                if waits.acquire(Mode::Shared, Some(TIMEOUT)).await.is_ok() {
                    break;
                }
                let more = begun.elapsed().saturating_sub(TIMEOUT);
                late.push(more.as_nanos() as u64);
            }
            Ok::<Vec<u64>, clasp_engine::Error>(late)
        });
        let mut turns = 0;
        for competitor in competing {
            turns += competitor()??;
        }
        let mut late = late()??;
        late.sort_unstable();
        ensure!(!late.is_empty(), "no timeout was told");
        // Its workers may hang with the lock.
        runtime.shutdown_background();
        Ok(Found {
            per_second: turns as f64 * 1e3 / self.milliseconds as f64,
            late_p90: quantile(&late, 0.9) as f64 / 1e3,
        })
    }
}

/// Runs a future as a task, or on a thread of its own that blocks; the answer waits
/// for its end.
fn spawn<T: Send + 'static>(
    runtime: &tokio::runtime::Runtime,
    suspends: bool,
    future: impl Future<Output = T> + Send + 'static,
) -> Box<dyn FnOnce() -> Result<T>> {
    if suspends {
        let (handle, task) = (runtime.handle().clone(), runtime.spawn(future));
        return Box::new(move || Ok(handle.block_on(task)?));
    }
    let thread = thread::spawn(move || clasp_engine::testing::conformance::block_on(future));
    Box::new(move || thread.join().ok().context("a thread panicked"))
}
