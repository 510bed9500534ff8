//! Does several jobs at once, each under a lock of its own, with a deadline over all. While one
//! job waits for its lock, the others go on.
//!
//! ```sh
//! clasp run --dir ./data::data --locks ./data::data jobs.wasm apples pears plums
//! ```
//!
//! Each job adds one to a number in `data/NAME`, under the lock `data/NAME.lock`.

use clasp_guest::aio::InterProcessLock;
use futures::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use std::{collections::BTreeSet, env, fs, io, pin::pin};
use wasip3::{clocks::monotonic_clock, exports::cli::run::Guest};

/// In nanoseconds.
const DEADLINE: u64 = 2_000_000_000;

wasip3::cli::command::export!(Jobs);

struct Jobs;

impl Guest for Jobs {
    async fn run() -> Result<(), ()> {
        let names: BTreeSet<_> = env::args().skip(1).collect();
        match do_all(names).await {
            true => Ok(()),
            false => Err(()),
        }
    }
}

/// Does what can be done until the deadline; answers whether that is everything.
async fn do_all(mut names: BTreeSet<String>) -> bool {
    let mut jobs: FuturesUnordered<_> = names.iter().cloned().map(job).collect();
    let mut deadline = pin!(monotonic_clock::wait_for(DEADLINE));
    let mut all_done = true;
    while let Either::Left((Some((name, result)), _)) = select(jobs.next(), &mut deadline).await {
        names.remove(&name);
        match result {
            Ok(count) => println!("{name}: {count}"),
            Err(error) => {
                eprintln!("{name}: {error}");
                all_done = false;
            }
        }
    }
    // Dropping the jobs that are left withdraws their requests.
    drop(jobs);
    for name in &names {
        eprintln!("{name}: another program holds the lock; not done");
    }
    all_done && names.is_empty()
}

async fn job(name: String) -> (String, io::Result<u64>) {
    let count = count(&name).await;
    (name, count)
}

async fn count(name: &str) -> io::Result<u64> {
    let lock = InterProcessLock::new(format!("data/{name}.lock")).await?;
    let guard = lock.acquire().await?;
    let path = format!("data/{name}");
    let count = fs::read_to_string(&path).unwrap_or_default();
    let count = count.trim().parse().unwrap_or(0) + 1;
    fs::write(&path, format!("{count}\n"))?;
    guard.release().await?;
    Ok(count)
}
