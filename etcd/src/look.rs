//! Who holds the locks of a cluster, and who waits for them, as its keys tell.

use crate::{
    Address, Options,
    connection::{Connections, Failure, PAUSE},
    shared::{PATIENCE, io},
    txn::{Key, Keys},
};
use clasp_engine::{Error, Mode};
use etcd_client::GetOptions;
use std::{collections::BTreeMap, time::Instant};
use tokio::{runtime, time::sleep};

/// How many keys are read at once, so that an answer is never too large.
const PAGE: i64 = 1000;

/// The requests for one lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockUse {
    /// The prefix and the name of the lock.
    pub path: String,
    /// Those that hold it.
    pub holders: Vec<Request>,
    /// Those that wait for it, in the order in which they will get it.
    pub queue: Vec<Request>,
}

/// A request of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The label of the host, which is the name of its machine and the number of its
    /// process unless it has chosen another.
    pub host: String,
    /// How it asks for the lock.
    pub mode: Mode,
}

/// Looks which locks are in use: the one at the prefix of `address`, and all below it. This
/// begins no session and takes no lock.
///
/// # Errors
/// As of [`Cluster::connect`](crate::Cluster::connect).
pub fn look(address: &Address, options: &Options) -> Result<Vec<LockUse>, Error> {
    options.check(address)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io)?;
    runtime.block_on(async {
        let connections = Connections::new(address, options);
        let begun = Instant::now();
        loop {
            match read(&connections).await {
                Ok(keys) => return Ok(uses(keys)),
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Unknown(error)) if begun.elapsed() > PATIENCE => {
                    return Err(connections.unavailable(&error, PATIENCE));
                }
                Err(Failure::Unknown(_)) => sleep(PAUSE).await,
            }
        }
    })
}

/// A key, the revision that created it, and its value.
type Entry = (Key, i64, Vec<u8>);

/// All keys below the prefix, as of one revision.
async fn read(connections: &Connections) -> Result<Vec<Entry>, Failure> {
    let below = format!("{}/", connections.address().prefix()).into_bytes();
    let (mut from, end) = Keys::Below(below).ends();
    let mut all = Vec::new();
    let mut revision = 0;
    loop {
        let options = GetOptions::new()
            .with_range(end.clone())
            .with_limit(PAGE)
            .with_revision(revision);
        let key = from.clone();
        let page = connections
            .call(|client| async move { client.kv_client().get(key, Some(options)).await })
            .await?;
        revision = page.header().map_or(0, |header| header.revision());
        let entries = page.kvs().iter();
        all.extend(
            entries.map(|kv| (kv.key().to_vec(), kv.create_revision(), kv.value().to_vec())),
        );
        match page.kvs().last() {
            Some(last) if page.more() => (_, from) = Keys::One(last.key().to_vec()).ends(),
            _ => return Ok(all),
        }
    }
}

/// What the keys of one request tell.
#[derive(Default)]
struct Seen {
    /// The revision that put it in line.
    created: i64,
    host: String,
    exclusive: bool,
}

/// The parts of a key of a lock: its path, whether it is the second one of an exclusive
/// request, and the request.
fn parts(key: &str) -> Option<(&str, bool, &str)> {
    let (path, rest) = key.split_once("//")?;
    match rest.split_once('/')? {
        ("q", id) => Some((path, false, id)),
        ("x", id) => Some((path, true, id)),
        _ => None,
    }
}

fn uses(keys: Vec<Entry>) -> Vec<LockUse> {
    let mut locks: BTreeMap<String, BTreeMap<String, Seen>> = BTreeMap::new();
    for (key, created, value) in keys {
        let key = String::from_utf8_lossy(&key);
        let Some((path, exclusive, id)) = parts(&key) else {
            continue;
        };
        let requests = locks.entry(path.to_owned()).or_default();
        let seen = requests.entry(id.to_owned()).or_default();
        if exclusive {
            seen.exclusive = true;
        } else {
            seen.created = created;
            seen.host = String::from_utf8_lossy(&value).into_owned();
        }
    }
    let locks = locks.into_iter();
    locks
        .map(|(path, requests)| sort(path, requests.into_iter().collect()))
        .collect()
}

fn sort(path: String, mut requests: Vec<(String, Seen)>) -> LockUse {
    requests.sort_by_key(|(_, seen)| seen.created);
    let (mut holders, mut queue) = (Vec::new(), Vec::new());
    let mut holding = Vec::new();
    for (at, (id, seen)) in requests.iter().enumerate() {
        let mode = match seen.exclusive {
            true => Mode::Exclusive,
            false => Mode::Shared,
        };
        let request = Request {
            host: seen.host.clone(),
            mode,
        };
        let before = &requests[..at];
        let waits = match mode {
            Mode::Exclusive => !before.is_empty(),
            Mode::Shared => before.iter().any(|(_, other)| other.exclusive),
        };
        // A host that joins a lock which it holds has more than one request.
        let lease = id.split('-').next();
        if waits {
            queue.push(request);
        } else if !holding.contains(&lease) {
            holding.push(lease);
            holders.push(request);
        }
    }
    LockUse {
        path,
        holders,
        queue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_in_their_order() {
        let entry = |key: &str, created, host: &str| {
            (key.as_bytes().to_vec(), created, host.as_bytes().to_vec())
        };
        let found = uses(vec![
            entry("/p//hosts/1", 1, "a 1"),
            entry("/p/x/y.lock//q/1-1", 12, "a 1"),
            entry("/p/x/y.lock//q/1-2", 13, "a 1"),
            entry("/p/x/y.lock//q/2-1", 10, "b 2"),
            entry("/p/x/y.lock//q/3-1", 14, "c 3"),
            entry("/p/x/y.lock//q/4-1", 15, "d 4"),
            entry("/p/x/y.lock//x/3-1", 14, "c 3"),
            entry("/p/z//q/3-2", 20, "c 3"),
            // Made exclusive later.
            entry("/p/z//x/3-2", 25, "c 3"),
        ]);
        let told = |requests: &[Request]| -> Vec<String> {
            let told = requests.iter();
            told.map(|request| format!("{} {}", request.host, request.mode))
                .collect()
        };
        let [first, second] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((&*first.path, &*second.path), ("/p/x/y.lock", "/p/z"));
        assert_eq!(told(&first.holders), ["b 2 shared", "a 1 shared"]);
        assert_eq!(told(&first.queue), ["c 3 exclusive", "d 4 shared"]);
        assert_eq!(told(&second.holders), ["c 3 exclusive"]);
        assert_eq!(second.queue, []);
    }
}
