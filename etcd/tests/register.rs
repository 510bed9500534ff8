//! A register that refuses old tokens, written under a lock on etcd while the network and
//! the servers fail: no update is lost, and no two holders claim the lock at once.
#![cfg(feature = "testing")]
#![allow(missing_docs, reason = "tests")]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use clasp_engine::{Guard, Mode};
use clasp_etcd::testing::LocalCluster;
use porcupine_rs::{Model, Operation, check_operations};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{Host, Proxy, Traffic, behind};

const HOSTS: usize = 3;

/// What a resource has to do: it refuses a token that is smaller than one it has seen.
#[derive(Default)]
struct Register {
    token: u64,
    value: u64,
}

impl Register {
    fn read(&mut self, token: u64) -> Option<u64> {
        (token >= self.token).then(|| {
            self.token = token;
            self.value
        })
    }

    fn write(&mut self, token: u64, value: u64) -> bool {
        let accepted = token >= self.token;
        if accepted {
            self.token = token;
            self.value = value;
        }
        accepted
    }
}

/// Sections that read a value and write the next.
#[derive(Debug, Clone)]
struct Counter;

impl Model for Counter {
    type State = u64;
    type Op = u64;
    type Metadata = ();

    fn init() -> u64 {
        0
    }

    fn step(state: &u64, read: &u64) -> (bool, u64) {
        (state == read, read + 1)
    }
}

#[derive(Default)]
struct World {
    register: Mutex<Register>,
    /// Those that claim the lock.
    holders: Mutex<HashMap<usize, Arc<Guard>>>,
    /// The host, what it read, and when its turn began and ended.
    history: Mutex<Vec<(usize, u64, u64, u64)>>,
    refused: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
    /// The number of the host, from one, that is to stay in its section for longer than a
    /// lease.
    cut_off: AtomicUsize,
    end: AtomicBool,
}

impl World {
    /// One turn of a host.
    fn turn(&self, host: usize, lock: &clasp_engine::Lock, begun: Instant) {
        let now = || u64::try_from(begun.elapsed().as_nanos()).unwrap();
        let start = now();
        let guard = match lock.acquire_blocking(Mode::Exclusive, Some(Duration::from_secs(20))) {
            Ok(guard) => Arc::new(guard),
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let Ok(token) = guard.token() else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        {
            let mut holders = self.holders.lock().unwrap();
            for (other, held) in holders.iter() {
                // Its process has not looked yet; when it does, it has lost the lock.
                let other_holds = held.check().is_ok();
                assert!(
                    !other_holds || guard.check().is_err(),
                    "{host} and {other} hold the lock"
                );
            }
            holders.insert(host, Arc::clone(&guard));
        }
        let read = self.register.lock().unwrap().read(token);
        thread::sleep(match self.cut_off.load(Ordering::Relaxed) == host + 1 {
            true => Duration::from_millis(5300),
            false => Duration::from_micros(token % 3000),
        });
        let written = read.map(|value| self.register.lock().unwrap().write(token, value + 1));
        self.holders.lock().unwrap().remove(&host);
        match (read, written) {
            (Some(value), Some(true)) => {
                self.history
                    .lock()
                    .unwrap()
                    .push((host, value, start, now()));
            }
            _ => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        match Arc::try_unwrap(guard).map(Guard::release) {
            Ok(Ok(())) => {}
            _ => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A number for the soak, see CONTRIBUTING.md.
fn setting(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(otherwise, |text| text.parse().expect(name))
}

/// How many faults.
fn faults() -> u64 {
    setting("CLASP_ETCD_FAULTS", 60)
}

#[test]
fn a_register_with_tokens_loses_nothing() {
    let mut cluster = LocalCluster::start(3).expect("a cluster");
    let ports = cluster.ports();
    let mut proxies = Vec::new();
    for host in 0..HOSTS {
        // Every host asks another member first.
        let order = (0..3).map(|member| ports[(member + host) % 3]);
        proxies.push(order.map(Proxy::start).collect::<Vec<_>>());
    }
    let world = Arc::<World>::default();
    let begun = Instant::now();
    let hosts: Vec<_> = proxies
        .iter()
        .enumerate()
        .map(|(number, proxies)| {
            let host = Host::new(&behind(proxies, "/register"), 5);
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let lock = host.open("a");
                while !world.end.load(Ordering::Relaxed) {
                    world.turn(number, &lock, begun);
                }
            })
        })
        .collect();

    let mut random = setting("CLASP_ETCD_SEED", 0x9e37_79b9_7f4a_7c15).max(1);
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut long = 0;
    for fault in 0..faults() {
        let all: Vec<_> = proxies.iter().flatten().collect();
        let proxy = all[usize::try_from(next(9)).unwrap()];
        let time = match next(12) {
            // Longer than a server has to answer.
            0..3 => Duration::from_millis(2500),
            _ => Duration::from_millis(next(300)),
        };
        match next(10) {
            0..4 => {
                proxy.set(Traffic::Hole);
                thread::sleep(time);
                proxy.set(Traffic::Pass);
            }
            4..6 => {
                // One host is cut off, at times for longer than its lease.
                let host = usize::try_from(next(HOSTS as u64)).unwrap();
                let time = match next(3) {
                    0 => {
                        long += 1;
                        world.cut_off.store(host + 1, Ordering::Relaxed);
                        let begun = Instant::now();
                        let holds = || world.holders.lock().unwrap().contains_key(&host);
                        while !holds() && begun.elapsed() < Duration::from_secs(5) {
                            thread::yield_now();
                        }
                        Duration::from_millis(5500)
                    }
                    _ => time,
                };
                proxies[host]
                    .iter()
                    .for_each(|proxy| proxy.set(Traffic::Hole));
                thread::sleep(time);
                proxies[host]
                    .iter()
                    .for_each(|proxy| proxy.set(Traffic::Pass));
                world.cut_off.store(0, Ordering::Relaxed);
            }
            6..8 => proxy.reset(),
            _ => {
                proxy.set(Traffic::Delay(Duration::from_millis(next(100))));
                thread::sleep(time.min(Duration::from_secs(1)));
                proxy.set(Traffic::Pass);
            }
        }
        if fault % 20 == 19 {
            let member = usize::try_from(next(3)).unwrap();
            cluster.kill(member).unwrap();
            thread::sleep(time);
            cluster.start_member(member).unwrap();
            cluster.wait_for(member).unwrap();
        }
    }
    world.end.store(true, Ordering::Relaxed);
    for host in hosts {
        host.join().expect("a host");
    }

    let history = std::mem::take(&mut *world.history.lock().unwrap());
    let (lost, refused) = (&world.lost, &world.refused);
    println!(
        "{} faults: {} turns, {lost:?} locks lost, {refused:?} writes refused, {:?} waits failed",
        faults(),
        history.len(),
        world.failed
    );
    let value = world.register.lock().unwrap().value;
    assert_eq!(value, history.len() as u64, "updates were lost");
    assert!(value > faults(), "hardly any turns");
    let lost = lost.load(Ordering::Relaxed);
    assert!(
        lost > 0 || long == 0,
        "hosts were cut off and have lost nothing"
    );
    let operations: Vec<_> = history
        .into_iter()
        .map(|(client, read, call, end)| Operation::<Counter> {
            client_id: u32::try_from(client).ok(),
            call_time: i64::try_from(call).unwrap(),
            return_time: i64::try_from(end).unwrap(),
            op: read,
            metadata: None,
        })
        .collect();
    assert!(check_operations(&operations));
}
