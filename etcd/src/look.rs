//! Who holds the locks of a cluster, and who waits for them, as its keys tell.

use crate::{
    Address, Options,
    connection::{Connections, Failure, PAUSE},
    shared::{PATIENCE, io},
    txn::{Key, Keys},
};
use clasp_engine::{Error, Mode, Permits};
use etcd_client::GetOptions;
use std::{collections::BTreeMap, fmt, time::Instant};
use tokio::{runtime, time::sleep};

/// How many keys are read at once, so that an answer is never too large.
const PAGE: i64 = 1000;

/// The requests for one lock or semaphore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockUse {
    /// The prefix and the name of the lock or semaphore.
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
    /// What it has or asks for.
    pub what: What,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A lock, in this mode.
    Lock(Mode),
    /// Permits of a semaphore, with these numbers. Of a request that waits there are none: its
    /// key does not tell how many it asks for.
    Permits(Permits),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Lock(mode) => mode.fmt(f),
            What::Permits(numbers) => {
                f.write_str("permit")?;
                for (at, number) in numbers.iter().enumerate() {
                    write!(f, "{}{number}", if at == 0 { " " } else { "," })?;
                }
                Ok(())
            }
        }
    }
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

/// What the keys of one request for a lock tell.
#[derive(Default)]
struct Seen {
    /// The revision that put it in line.
    created: i64,
    host: String,
    exclusive: bool,
}

/// What the keys of one name tell.
#[derive(Default)]
struct Name {
    /// Requests for a lock, by their ids.
    requests: BTreeMap<String, Seen>,
    /// Hosts that have permits, by their leases.
    permits: BTreeMap<String, (String, Permits)>,
    /// Hosts that wait for permits, by the revisions that put them in line.
    waiting: BTreeMap<i64, String>,
}

/// The kind of a key.
enum Part {
    /// A request for a lock.
    Request,
    /// The second key of an exclusive request.
    Exclusive,
    /// A request for permits.
    Waits,
    /// A permit that is held.
    Permit(u8),
}

/// The parts of a key: its path, its kind, and the request.
fn parts(key: &str) -> Option<(&str, Part, &str)> {
    let (path, rest) = key.split_once("//")?;
    let (kind, rest) = rest.split_once('/')?;
    Some(match kind {
        "q" => (path, Part::Request, rest),
        "x" => (path, Part::Exclusive, rest),
        "w" => (path, Part::Waits, rest),
        "p" => {
            let (number, id) = rest.split_once('/')?;
            (path, Part::Permit(number.parse().ok()?), id)
        }
        _ => return None,
    })
}

fn lease_of(id: &str) -> &str {
    id.split_once('-').map_or(id, |(lease, _)| lease)
}

fn uses(keys: Vec<Entry>) -> Vec<LockUse> {
    let mut names: BTreeMap<String, Name> = BTreeMap::new();
    for (key, created, value) in keys {
        let key = String::from_utf8_lossy(&key);
        let Some((path, part, id)) = parts(&key) else {
            continue;
        };
        let host = String::from_utf8_lossy(&value).into_owned();
        let name = names.entry(path.to_owned()).or_default();
        match part {
            Part::Request => {
                let seen = name.requests.entry(id.to_owned()).or_default();
                (seen.created, seen.host) = (created, host);
            }
            Part::Exclusive => {
                let seen = name.requests.entry(id.to_owned()).or_default();
                seen.exclusive = true;
            }
            Part::Waits => {
                name.waiting.insert(created, host);
            }
            Part::Permit(number) => {
                let lease = lease_of(id).to_owned();
                let held = name.permits.entry(lease);
                let (_, permits) = held.or_insert((host, Permits::NONE));
                *permits = permits.with(Permits::one(number));
            }
        }
    }
    let names = names.into_iter();
    names
        .map(|(path, name)| {
            let mut used = sort(path, name.requests.into_iter().collect());
            let request = |host, permits| Request {
                host,
                what: What::Permits(permits),
            };
            let held = name.permits.into_values();
            let mut held: Vec<_> = held.collect();
            held.sort_by_key(|(_, permits)| permits.iter().next());
            used.holders.extend(
                held.into_iter()
                    .map(|(host, permits)| request(host, permits)),
            );
            let waiting = name.waiting.into_values();
            used.queue
                .extend(waiting.map(|host| request(host, Permits::NONE)));
            used
        })
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
            what: What::Lock(mode),
        };
        let before = &requests[..at];
        let waits = match mode {
            Mode::Exclusive => !before.is_empty(),
            Mode::Shared => before.iter().any(|(_, other)| other.exclusive),
        };
        // A host that joins a lock which it holds has more than one request.
        let lease = lease_of(id);
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
            entry("/p/z.sem//p/00/2-7", 30, "b 2"),
            entry("/p/z.sem//p/02/1-8", 29, "a 1"),
            entry("/p/z.sem//p/03/2-9", 31, "b 2"),
            entry("/p/z.sem//w/4-1", 33, "d 4"),
            entry("/p/z.sem//w/3-9", 34, "c 3"),
        ]);
        let told = |requests: &[Request]| -> Vec<String> {
            let told = requests.iter();
            told.map(|request| format!("{} {}", request.host, request.what))
                .collect()
        };
        let [first, second, third] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((&*first.path, &*second.path), ("/p/x/y.lock", "/p/z"));
        assert_eq!(told(&first.holders), ["b 2 shared", "a 1 shared"]);
        assert_eq!(told(&first.queue), ["c 3 exclusive", "d 4 shared"]);
        assert_eq!(told(&second.holders), ["c 3 exclusive"]);
        assert_eq!(second.queue, []);
        assert_eq!(told(&third.holders), ["b 2 permit 0,3", "a 1 permit 2"]);
        assert_eq!(told(&third.queue), ["d 4 permit", "c 3 permit"]);
    }
}
