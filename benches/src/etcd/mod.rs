//! Locks on servers: clasp on etcd beside etcd's own recipe, and beside locks on Redis and
//! PostgreSQL. A report of its own, since it needs servers.

mod recipe;
mod report;
mod results;
mod servers;

pub(crate) use recipe::Recipe;

use crate::{
    machine::Machine,
    processes::{Competitor, Who, compete, output},
    statistics::{contention, hand_overs, median, quantile},
    turns::{now, pass},
};
use anyhow::{Context, Result};
use clasp_engine::{Ceilings, Grant, Limits, LockManager, Mode};
use clasp_etcd::{Address, Cluster, Options, testing::LocalCluster};
use etcd_client::Client;
use results::{HandOver, Inside, Pair, Results, Turns};
use servers::{Postgres, Redis};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Members of the cluster.
const MEMBERS: usize = 3;

/// How long the holder has the lock while a hand-over is measured, in microseconds: long
/// enough for the other to be in line.
const HOLD: u64 = 8_000;

pub(crate) struct Settings {
    pub(crate) out: PathBuf,
    pub(crate) python: Option<PathBuf>,
    /// The command `clasp`, built with etcd.
    pub(crate) clasp: Option<PathBuf>,
    pub(crate) quick: bool,
}

/// Who competes, and under which name they know the lock.
struct Competing {
    who: Who,
    /// The address without the name of the lock.
    place: String,
}

struct Run<'a> {
    settings: &'a Settings,
    address: Address,
    competing: Vec<Competing>,
}

pub(crate) fn run(settings: &Settings) -> Result<()> {
    fs::create_dir_all(&settings.out)?;
    let servers = LocalCluster::start(MEMBERS).context("cannot start a cluster of etcd")?;
    let address = servers.address("/bench");
    let mut competing: Vec<_> = ["etcd", "etcd-recipe"]
        .map(|way| Competing {
            who: Who::way(way),
            place: address.to_string(),
        })
        .into();
    let redis;
    let postgres;
    if let Some(python) = &settings.python {
        // Each ends with this function.
        (redis, postgres) = (Redis::start()?, Postgres::start()?);
        let ports = [
            ("redis", redis.as_ref().map(Redis::port)),
            ("postgres", postgres.as_ref().map(Postgres::port)),
        ];
        for (library, port) in ports {
            if let Some(port) = port {
                competing.push(Competing {
                    who: Who::python(library, python),
                    place: port.to_string(),
                });
            }
        }
    }
    let run = Run {
        settings,
        address,
        competing,
    };
    let mut idle = run.deletions(|| {
        pass(now(), (run.seconds(5.0) * 1e9) as u64);
    })?;
    idle.sort_unstable();
    let results = Results {
        machine: Machine::this(&std::env::temp_dir()),
        quick: settings.quick,
        delete_p50: ms(quantile(&idle, 0.5)),
        delete_p99: ms(quantile(&idle, 0.99)),
        pairs: run.pairs()?,
        commands: run.commands()?,
        hand_over: run.hand_over()?,
        turns: run.turns()?,
        inside: run.inside()?,
    };
    let mut json = serde_json::to_string_pretty(&results)?;
    json.push('\n');
    fs::write(settings.out.join("etcd.json"), json)?;
    let text = report::text(&results)?;
    println!("{text}");
    fs::write(settings.out.join("etcd.md"), text)?;
    Ok(())
}

fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

impl Competing {
    /// A lock that no measurement before has used.
    fn lock(&self) -> PathBuf {
        static LOCKS: AtomicU64 = AtomicU64::new(0);
        let number = LOCKS.fetch_add(1, Ordering::Relaxed);
        Path::new(&self.place).join(format!("lock{number}"))
    }
}

impl Run<'_> {
    fn seconds(&self, seconds: f64) -> f64 {
        if self.settings.quick { 1.0 } else { seconds }
    }

    fn rounds(&self) -> usize {
        if self.settings.quick { 1 } else { 3 }
    }

    /// How long single deletions take while `meanwhile` runs, in nanoseconds.
    fn deletions(&self, meanwhile: impl FnOnce()) -> Result<Vec<u64>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let end = Arc::new(AtomicBool::new(false));
        let (ends, members) = (Arc::clone(&end), self.address.members().to_owned());
        let probe = thread::spawn(move || {
            runtime.block_on(async {
                let mut client = Client::connect(members, None).await?;
                let mut times = Vec::new();
                let mut ticks = tokio::time::interval(Duration::from_millis(20));
                while !ends.load(Ordering::Relaxed) {
                    client.put("/probe", "", None).await?;
                    ticks.tick().await;
                    let begun = now();
                    client.delete("/probe", None).await?;
                    times.push(now() - begun);
                }
                anyhow::Ok(times)
            })
        });
        meanwhile();
        end.store(true, Ordering::Relaxed);
        probe.join().map_err(|_| anyhow::anyhow!("the probe"))?
    }

    fn pairs(&self) -> Result<Vec<Pair>> {
        let mut found = Vec::new();
        for competing in &self.competing {
            let count = if self.settings.quick { 50 } else { 300 };
            let mut times = Vec::new();
            for _ in 0..self.rounds() {
                times.push(competing.who.pair(&competing.lock(), true, count)? / 1e6);
            }
            found.push(Pair {
                way: competing.who.way.clone(),
                milliseconds: median(times),
            });
            eprintln!("{:?}", found.last());
        }
        Ok(found)
    }

    /// A command under a lock.
    fn commands(&self) -> Result<Vec<Pair>> {
        let Some(clasp) = &self.settings.clasp else {
            return Ok(Vec::new());
        };
        let address = format!("{}/command", self.address);
        let etcdctl = std::env::var_os("CLASP_ETCD").map(PathBuf::from);
        let etcdctl = etcdctl.map_or("etcdctl".into(), |etcd| etcd.with_file_name("etcdctl"));
        let mut ways = [
            ("clasp lock", Command::new(clasp)),
            ("etcdctl lock", Command::new(etcdctl)),
        ];
        ways[0].1.args(["lock", &address, "true"]);
        let members = self.address.members().join(",");
        ways[1]
            .1
            .args(["--endpoints", &members, "lock", "command", "true"]);
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..if self.settings.quick { 2 } else { 30 } {
            for ((_, command), times) in ways.iter_mut().zip(&mut times) {
                let begun = now();
                output(command)?;
                times.push(ms(now() - begun));
            }
        }
        let found = ways.iter().zip(times).map(|((way, _), times)| Pair {
            way: (*way).into(),
            milliseconds: median(times),
        });
        Ok(found.collect())
    }

    fn hand_over(&self) -> Result<Vec<HandOver>> {
        let mut found = Vec::new();
        for competing in &self.competing {
            let competitor = |hold, pause| Competitor {
                who: competing.who.clone(),
                exclusive: true,
                hold,
                pause,
            };
            // The pause has no common measure with the hold, so that the waiter asks at any
            // time of the holder's turn.
            let both = [competitor(HOLD, 0), competitor(0, 3_170)];
            let mut samples = Vec::new();
            let mut deletions = Vec::new();
            for _ in 0..self.rounds() {
                let mut logs = Ok(Vec::new());
                let compete = || logs = compete(&both, &competing.lock(), self.seconds(10.0));
                deletions.extend(self.deletions(compete)?);
                let logs = logs?;
                samples.extend(hand_overs(&logs[0], &logs[1]));
            }
            samples.sort_unstable();
            deletions.sort_unstable();
            let on_etcd = competing.place.starts_with("etcd");
            found.push(HandOver {
                way: competing.who.way.clone(),
                samples: samples.len(),
                p50: ms(quantile(&samples, 0.5)),
                p99: ms(quantile(&samples, 0.99)),
                delete_p50: on_etcd.then(|| ms(quantile(&deletions, 0.5))),
            });
            eprintln!("{:?}", found.last());
        }
        Ok(found)
    }

    fn turns(&self) -> Result<Vec<Turns>> {
        let mut found = Vec::new();
        let hosts: &[usize] = if self.settings.quick {
            &[2]
        } else {
            &[2, 4, 8, 16]
        };
        for &hosts in hosts {
            for competing in &self.competing {
                let competitor = Competitor {
                    who: competing.who.clone(),
                    exclusive: true,
                    hold: 0,
                    pause: 0,
                };
                let logs = compete(
                    &vec![competitor; hosts],
                    &competing.lock(),
                    self.seconds(8.0),
                )?;
                let of = contention(&logs);
                found.push(Turns {
                    way: competing.who.way.clone(),
                    hosts,
                    per_second: of.per_second,
                    wait_p50: of.wait_p50 / 1e3,
                    wait_p99: of.wait_p99 / 1e3,
                    fewest: of.turns.iter().copied().min().unwrap_or(0),
                    most: of.turns.iter().copied().max().unwrap_or(0),
                    overlaps: of.violations,
                });
                eprintln!("{:?}", found.last());
            }
        }
        Ok(found)
    }

    /// Hand-overs between the owners of a host, most of which the servers do not see.
    fn inside(&self) -> Result<Vec<Inside>> {
        const OWNERS: usize = 8;
        let mut found = Vec::new();
        for hosts in [1, 2] {
            let end = now() + (self.seconds(5.0) * 1e9) as u64;
            let name = format!("inside{hosts}");
            let clusters: Vec<_> = (0..hosts)
                .map(|_| Cluster::connect(&self.address, &Options::default()))
                .collect::<Result<_, _>>()?;
            let mut threads = Vec::new();
            for cluster in &clusters {
                let manager = LockManager::new(Ceilings::default());
                for _ in 0..OWNERS {
                    let owner = manager.owner(Limits::default());
                    let lock = owner.open(&Grant::new(cluster.space()), &name)?;
                    threads.push(thread::spawn(move || {
                        let _owner = owner;
                        let mut turns = 0_u64;
                        while now() < end {
                            lock.acquire_blocking(Mode::Exclusive, None)?.release()?;
                            turns += 1;
                        }
                        Ok::<_, clasp_engine::Error>(turns)
                    }));
                }
            }
            let mut turns = 0;
            for thread in threads {
                turns += thread.join().map_err(|_| anyhow::anyhow!("an owner"))??;
            }
            found.push(Inside {
                hosts,
                owners_each: OWNERS,
                per_second: turns as f64 / self.seconds(5.0),
            });
            eprintln!("{:?}", found.last());
        }
        Ok(found)
    }
}
