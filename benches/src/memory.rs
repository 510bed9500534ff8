//! What a waiter costs beside its store: bytes on the heap for each request
//! that waits for one lock, counted by the allocator.

use anyhow::{Context, Result};
use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Grant, Limits, LockManager, Mode,
    file::{FileSpace, Order},
};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{
    alloc::System,
    future::Future,
    pin::pin,
    task::{Context as TaskContext, Waker},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).context("a directory")?;
    let dir = Dir::open_ambient_dir(directory, ambient_authority())?;
    let space = FileSpace::new(dir).order(Order::Fair);
    let grant = Grant::new(space.into_space());
    let mut limits = Limits::default();
    limits.waiting_requests = 100_000;
    limits.held_locks = 100_000;
    let owner = LockManager::global().owner(limits);
    let lock = owner.open(&grant, "memory.lock")?;
    let mut found = Vec::new();
    for waiters in [100, 1_000, 10_000] {
        let guard = lock.try_acquire(Mode::Exclusive)?;
        let mut requests = Vec::with_capacity(waiters);
        let region = Region::new(ALLOCATOR);
        for _ in 0..waiters {
            let mut request = lock.start_acquire(Mode::Exclusive, None)?;
            let _ = pin!(&mut request).poll(&mut TaskContext::from_waker(Waker::noop()));
            requests.push(request);
        }
        let change = region.change();
        let heap = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
        let own = size_of::<clasp_engine::Acquire>() as f64;
        found.push(json!({ "waiters": waiters, "bytes_each": heap / waiters as f64 + own }));
        drop(requests);
        drop(guard);
    }
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}
