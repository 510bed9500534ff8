//! A guest of WASI 0.3 that takes a lock over and over, or many times at once; see the world
//! `tasks` in `benches/wit/contender.wit`.

use clasp_guest::{Error, aio::InterProcessReaderWriterLock};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use std::hint::spin_loop;

wit_bindgen::generate!({ path: "../../wit", world: "tasks" });

struct Tasks;

fn text(error: Error) -> String {
    error.to_string()
}

async fn open(path: &str) -> Result<InterProcessReaderWriterLock, String> {
    InterProcessReaderWriterLock::new(path).await.map_err(text)
}

/// Takes the lock, does something and lets go.
async fn held<R>(
    lock: &InterProcessReaderWriterLock,
    exclusive: bool,
    f: impl FnOnce() -> R,
) -> Result<R, String> {
    if exclusive {
        let _guard = lock.write().await.map_err(text)?;
        Ok(f())
    } else {
        let _guard = lock.read().await.map_err(text)?;
        Ok(f())
    }
}

fn spin(from: u64, length: u64) -> u64 {
    let mut time = from;
    while time < from + length {
        spin_loop();
        time = now();
    }
    time
}

impl Guest for Tasks {
    async fn pairs(path: String, exclusive: bool, count: u32) -> Result<u64, String> {
        let lock = open(&path).await?;
        let begun = now();
        for _ in 0..count {
            held(&lock, exclusive, || ()).await?;
        }
        Ok(now() - begun)
    }

    async fn compete(
        path: String,
        exclusive: bool,
        hold: u64,
        pause: u64,
        until: u64,
    ) -> Result<Vec<TaskTurn>, String> {
        let lock = open(&path).await?;
        let mut turns = Vec::new();
        let mut asked = now();
        while asked < until {
            let turn = held(&lock, exclusive, || {
                let got = now();
                (got, spin(got, hold))
            });
            let (got, left) = turn.await?;
            turns.push(TaskTurn { asked, got, left });
            asked = spin(now(), pause);
        }
        Ok(turns)
    }

    async fn count(path: String, exclusive: bool, until: u64) -> Result<u64, String> {
        let lock = open(&path).await?;
        let mut turns = 0;
        while held(&lock, exclusive, now).await? < until {
            turns += 1;
        }
        Ok(turns)
    }

    async fn crowd(path: String, count: u32) -> Result<u64, String> {
        let lock = open(&path).await?;
        let guard = lock.write().await.map_err(text)?;
        let mut waits: FuturesUnordered<_> = (0..count).map(|_| held(&lock, true, || ())).collect();
        // Polls each of them.
        if waits.next().now_or_never().is_some() {
            return Err("a request did not wait".into());
        }
        all_wait();
        let begun = now();
        drop(guard);
        while let Some(granted) = waits.next().await {
            granted?;
        }
        Ok(now() - begun)
    }

    async fn cancel(path: String, count: u32) -> Result<Vec<u64>, String> {
        let lock = open(&path).await?;
        let mut times = Vec::new();
        for _ in 0..count {
            let mut wait = Box::pin(lock.write());
            if futures::poll!(&mut wait).is_ready() {
                return Err("the lock is free".into());
            }
            let begun = now();
            drop(wait);
            while waiting() > 0 {
                wit_bindgen::yield_async().await;
            }
            times.push(now() - begun);
        }
        Ok(times)
    }
}

export!(Tasks);
