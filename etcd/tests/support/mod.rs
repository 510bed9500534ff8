//! What the tests of faults share.

use clasp_engine::{Ceilings, Grant, Limits, Lock, LockManager, Owner};
use clasp_etcd::{Address, Cluster, Options};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// How long something that must happen may take.
pub(crate) const LIVENESS: Duration = Duration::from_secs(60);

/// One host with one owner.
pub(crate) struct Host {
    pub(crate) cluster: Cluster,
    pub(crate) manager: LockManager,
    pub(crate) owner: Owner,
}

impl Host {
    pub(crate) fn new(address: &Address, ttl: u64) -> Host {
        let options = Options::default().ttl(Duration::from_secs(ttl));
        let cluster = Cluster::connect(address, &options).expect("a cluster");
        let manager = LockManager::new(Ceilings::default());
        let owner = manager.owner(Limits::default());
        Host {
            cluster,
            manager,
            owner,
        }
    }

    pub(crate) fn open(&self, name: &str) -> Lock {
        let grant = Grant::new(self.cluster.space());
        self.owner.open(&grant, name).expect("a lock")
    }
}

/// Waits for what others are about to do.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIVENESS, "{what} did not happen");
        thread::yield_now();
    }
}

/// What a proxy does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// It passes it on.
    Pass,
    /// It passes it on after this time.
    Delay(Duration),
    /// It keeps it, in both directions.
    Hole,
}

/// A TCP proxy before one member of a cluster.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    traffic: Traffic,
    /// Bytes from clients that a hole has kept.
    kept: usize,
    /// Connections, to be reset.
    streams: Vec<TcpStream>,
    closed: bool,
}

impl Proxy {
    pub(crate) fn start(to: u16) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                traffic: Traffic::Pass,
                kept: 0,
                streams: Vec::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        });
        let accepts = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { continue };
                let mut state = accepts.state.lock().unwrap();
                if state.closed {
                    return;
                }
                let server = SocketAddr::from((Ipv4Addr::LOCALHOST, to));
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                state.streams.extend([
                    client.try_clone().expect("a clone"),
                    server.try_clone().expect("a clone"),
                ]);
                drop(state);
                for (from, to, counts) in [
                    (client.try_clone(), server.try_clone(), true),
                    (server.try_clone(), client.try_clone(), false),
                ] {
                    let shared = Arc::clone(&accepts);
                    let (from, to) = (from.expect("a clone"), to.expect("a clone"));
                    thread::spawn(move || shared.pass(from, to, counts));
                }
            }
        });
        Proxy { port, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, traffic: Traffic) {
        let mut state = self.shared.state.lock().unwrap();
        state.traffic = traffic;
        state.kept = 0;
        self.shared.changed.notify_all();
    }

    /// Closes all connections; new ones can be made.
    pub(crate) fn reset(&self) {
        let streams = std::mem::take(&mut self.shared.state.lock().unwrap().streams);
        for stream in streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }

    /// Whether a hole has kept a request. The pings of HTTP/2 have 17 bytes.
    pub(crate) fn keeps_a_request(&self) -> bool {
        self.shared.state.lock().unwrap().kept > 64
    }
}

impl Shared {
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, counts: bool) {
        let mut buffer = [0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let mut state = self.state.lock().unwrap();
            if state.traffic == Traffic::Hole && counts {
                state.kept += length;
            }
            while state.traffic == Traffic::Hole && !state.closed {
                state = self.changed.wait(state).unwrap();
            }
            let traffic = state.traffic;
            drop(state);
            if let Traffic::Delay(time) = traffic {
                thread::sleep(time);
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().closed = true;
        self.reset();
        // The listener wakes and ends.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// The address of a cluster behind proxies.
pub(crate) fn behind(proxies: &[Proxy], prefix: &str) -> Address {
    let members = proxies
        .iter()
        .map(|proxy| format!("127.0.0.1:{}", proxy.port()));
    let members: Vec<_> = members.collect();
    let address = format!("etcd://{}{prefix}", members.join(","));
    address.parse().expect("an address")
}
