//! Servers and hosts that end, stop, or are cut off.
#![cfg(all(feature = "testing", unix))]
#![allow(missing_docs, reason = "tests")]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{ErrorKind, Grant, Limits, Mode, file::FileSpace};
use clasp_etcd::{Address, testing::LocalCluster};
use etcd_client::{Client, GetOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{Host, LIVENESS, Proxy, Traffic, behind, eventually};

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(process.cast_signed()).expect("a process");
    kill_process(process, signal).expect("a signal");
}

/// The keys below a prefix.
fn keys(address: &Address, below: &str) -> Vec<String> {
    block_on(async {
        let mut client = Client::connect(address.members(), None)
            .await
            .expect("a client");
        let prefix = format!("{}/{below}", address.prefix());
        let options = GetOptions::new().with_prefix().with_keys_only();
        let found = client.get(prefix, Some(options)).await.expect("keys");
        let keys = found
            .kvs()
            .iter()
            .map(|kv| String::from_utf8_lossy(kv.key()).into_owned());
        keys.collect()
    })
}

#[test]
fn waiters_go_on_after_the_leader_is_killed() {
    let mut cluster = LocalCluster::start(3).expect("a cluster");
    let address = cluster.address("/leader");
    let (first, second) = (Host::new(&address, 10), Host::new(&address, 10));
    let (lock, waits) = (first.open("a"), second.open("a"));
    let guard = lock.acquire_blocking(Mode::Exclusive, None).unwrap();
    let token = guard.token().unwrap();
    let waiting = thread::spawn(move || waits.acquire_blocking(Mode::Exclusive, None));
    eventually("a place in line", || keys(&address, "a//x/").len() == 2);
    cluster.kill(cluster.leader().unwrap()).unwrap();
    let begun = Instant::now();
    guard.release().unwrap();
    let guard = waiting.join().unwrap().unwrap();
    println!("went on after {:?}", begun.elapsed());
    assert!(guard.token().unwrap() > token);
    guard.check().unwrap();
}

#[test]
fn waiters_go_on_while_their_member_is_stopped() {
    let cluster = LocalCluster::start(3).expect("a cluster");
    let leader = cluster.leader().unwrap();
    let stopped = (leader + 1) % 3;
    let port = |number: usize| cluster.ports()[number];
    // The member that will be stopped is asked first.
    let members = [stopped, leader].map(|number| format!("127.0.0.1:{}", port(number)));
    let address: Address = format!("etcd://{}/stopped", members.join(","))
        .parse()
        .unwrap();
    let (first, second) = (Host::new(&address, 10), Host::new(&address, 10));
    let (lock, waits) = (first.open("a"), second.open("a"));
    let guard = lock.acquire_blocking(Mode::Exclusive, None).unwrap();
    let waiting = thread::spawn(move || waits.acquire_blocking(Mode::Exclusive, None));
    eventually("a place in line", || keys(&address, "a//x/").len() == 2);
    let process = cluster.process(stopped).unwrap();
    signal(process, Signal::STOP);
    let begun = Instant::now();
    guard.release().unwrap();
    let guard = waiting.join().unwrap().unwrap();
    println!("went on after {:?}", begun.elapsed());
    guard.release().unwrap();
    // Those who come now are not held up for long either, and nothing is left over once
    // the member goes on.
    drop(
        lock.acquire_blocking(Mode::Exclusive, Some(LIVENESS))
            .unwrap(),
    );
    signal(process, Signal::CONT);
    eventually("the end of all requests", || {
        keys(&address, "a//").is_empty()
    });
}

#[test]
fn a_cluster_without_a_majority_is_an_error() {
    let mut cluster = LocalCluster::start(3).expect("a cluster");
    let address = cluster.address("/majority");
    let host = Host::new(&address, 5);
    let (held, other) = (host.open("held"), host.open("other"));
    let guard = held.acquire_blocking(Mode::Exclusive, None).unwrap();
    let lost = guard.loss();
    for member in [0, 1] {
        cluster.kill(member).unwrap();
    }
    let begun = Instant::now();
    let short = other.acquire_blocking(Mode::Exclusive, Some(Duration::from_millis(200)));
    assert_eq!(short.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    let error = other.acquire_blocking(Mode::Exclusive, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("majority"), "{error}");
    block_on(lost);
    assert_eq!(guard.check().unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(guard.release().unwrap_err().kind(), ErrorKind::Lost);
    // Nobody connects now, and says so.
    let refused = clasp_etcd::Cluster::connect(&address, &clasp_etcd::Options::default());
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains("majority"), "{refused}");
    for member in [0, 1] {
        cluster.start_member(member).unwrap();
    }
    eventually("a lock", || {
        held.acquire_blocking(Mode::Exclusive, None).is_ok()
    });
}

/// A host in a process of its own.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(address: &Address, ttl: u64) -> Process {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["--exact", "a_process", "--nocapture"])
            .env("CLASP_TEST_ADDRESS", format!("{ttl} {address}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Process {
            child,
            input: input.expect("its input"),
            output: BufReader::new(output.expect("its output")),
        }
    }

    /// What it says next, after `clasp: `.
    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let length = self.output.read_line(&mut line).expect("a line");
            assert!(length > 0, "the process has ended");
            if let Some((_, told)) = line.split_once("clasp: ") {
                return told.trim().into();
            }
        }
    }

    fn say(&mut self, what: &str) {
        writeln!(self.input, "{what}").expect("it listens");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// The process of the tests below; a test that does nothing otherwise.
#[test]
fn a_process() {
    let Ok(address) = std::env::var("CLASP_TEST_ADDRESS") else {
        return;
    };
    let (ttl, address) = address.split_once(' ').unwrap();
    let host = Host::new(&address.parse().unwrap(), ttl.parse().unwrap());
    let guard = host
        .open("a")
        .acquire_blocking(Mode::Exclusive, None)
        .unwrap();
    println!("clasp: {}", guard.token().unwrap());
    for line in std::io::stdin().lines() {
        match &*line.unwrap() {
            "check" => println!("clasp: {:?}", guard.check().map_err(|error| error.kind())),
            _ => break,
        }
    }
}

#[test]
fn a_host_that_was_stopped_knows_that_its_lock_is_lost() {
    let cluster = LocalCluster::start(1).expect("a cluster");
    let address = cluster.address("/paused");
    let mut stopped = Process::start(&address, 5);
    let first: u64 = stopped.hear().parse().unwrap();
    stopped.say("check");
    assert_eq!(stopped.hear(), "Ok(())");
    let host = Host::new(&address, 5);
    signal(stopped.child.id(), Signal::STOP);
    let guard = host
        .open("a")
        .acquire_blocking(Mode::Exclusive, None)
        .unwrap();
    assert!(guard.token().unwrap() > first);
    // The question is there before the process goes on.
    stopped.say("check");
    signal(stopped.child.id(), Signal::CONT);
    assert_eq!(stopped.hear(), "Err(Lost)");
    guard.check().unwrap();
}

#[test]
fn the_locks_of_a_killed_host_are_free_after_its_lease() {
    let cluster = LocalCluster::start(1).expect("a cluster");
    let address = cluster.address("/killed");
    let mut killed = Process::start(&address, 5);
    let first: u64 = killed.hear().parse().unwrap();
    killed.child.kill().unwrap();
    let host = Host::new(&address, 5);
    let guard = host
        .open("a")
        .acquire_blocking(Mode::Exclusive, Some(LIVENESS))
        .unwrap();
    assert!(guard.token().unwrap() > first);
}

#[test]
fn the_locks_of_a_host_that_ends_are_free_at_once() {
    let cluster = LocalCluster::start(1).expect("a cluster");
    let address = cluster.address("/ended");
    // The lease is longer than the test.
    let mut ends = Process::start(&address, 600);
    ends.hear();
    let host = Host::new(&address, 5);
    let lock = host.open("a");
    assert!(lock.try_acquire(Mode::Shared).is_err());
    ends.say("end");
    drop(
        lock.acquire_blocking(Mode::Exclusive, Some(LIVENESS))
            .unwrap(),
    );
    eventually("the end of its lease", || {
        keys(&address, "/hosts/").len() == 1
    });
}

/// A request that was given up reaches the server later: it is not carried out.
#[test]
fn a_late_request_does_nothing() {
    let cluster = LocalCluster::start(2).expect("a cluster");
    let direct = cluster.address("/late");
    let proxies: Vec<_> = cluster.ports().into_iter().map(Proxy::start).collect();
    let host = Host::new(&behind(&proxies, "/late"), 30);
    let lock = host.open("a");
    drop(lock.acquire_blocking(Mode::Exclusive, None).unwrap());
    eventually("the release", || keys(&direct, "a//").is_empty());
    proxies.iter().for_each(|proxy| proxy.set(Traffic::Hole));
    let waiting = thread::spawn(move || {
        let guard = lock
            .acquire_blocking(Mode::Exclusive, Some(LIVENESS))
            .unwrap();
        guard.release().unwrap();
    });
    let mut asked = None;
    eventually("a request", || {
        asked = proxies.iter().position(Proxy::keeps_a_request);
        asked.is_some()
    });
    // It goes on through the other member.
    let asked = asked.unwrap();
    proxies[1 - asked].set(Traffic::Pass);
    waiting.join().unwrap();
    eventually("the release", || keys(&direct, "a//").is_empty());
    let fence = || {
        block_on(async {
            let mut client = Client::connect(direct.members(), None).await.unwrap();
            let options = GetOptions::new().with_prefix();
            let hosts = client.get("/late//hosts/", Some(options)).await.unwrap();
            let host = hosts.kvs()[0].clone();
            (host.create_revision(), host.mod_revision())
        })
    };
    let (created, changed) = fence();
    assert!(changed > created, "the key of the host was not changed");
    proxies[asked].set(Traffic::Pass);
    // What it has kept arrives now. A request that is answered through it comes later.
    let other = Host::new(&behind(&proxies[asked..=asked], "/late"), 5);
    drop(
        other
            .open("a")
            .acquire_blocking(Mode::Exclusive, Some(LIVENESS))
            .unwrap(),
    );
    eventually("the release", || keys(&direct, "a//").is_empty());
}

#[test]
fn locks_on_files_go_on_without_the_cluster() {
    let mut cluster = LocalCluster::start(1).expect("a cluster");
    let address = cluster.address("/apart");
    let host = Host::new(&address, 600);
    let files = tempfile::tempdir().unwrap();
    let directory = Dir::open_ambient_dir(files.path(), ambient_authority()).unwrap();
    let grant = Grant::new(FileSpace::new(directory).into_space());
    let remote = host.open("a");
    let guard = remote.acquire_blocking(Mode::Exclusive, None).unwrap();
    cluster.kill(0).unwrap();
    // Two requests are under way at the cluster, and are until their patience ends.
    let waiting = {
        let other = host.open("b");
        thread::spawn(move || other.acquire_blocking(Mode::Exclusive, None))
    };
    let releasing = thread::spawn(move || guard.release());
    let [first, second] = [(); 2].map(|()| host.manager.owner(Limits::default()));
    let locks = [&first, &second].map(|owner| owner.open(&grant, "a").unwrap());
    let mut turns = 0;
    while !waiting.is_finished() {
        let guard = locks[0].acquire_blocking(Mode::Exclusive, None).unwrap();
        assert!(locks[1].try_acquire(Mode::Shared).is_err());
        drop(guard);
        drop(
            locks[1]
                .acquire_blocking(Mode::Exclusive, Some(Duration::from_secs(1)))
                .unwrap(),
        );
        turns += 1;
    }
    assert!(turns > 100, "{turns}");
    let error = waiting.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    releasing.join().unwrap().unwrap();
}
