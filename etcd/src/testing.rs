//! A cluster on this machine, for tests and demonstrations.

use crate::Address;
use etcd_client::Client;
use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long the members have until they have a leader.
const START: Duration = Duration::from_secs(60);

/// Servers on the loopback interface, with data of their own; dropping it ends them.
pub struct LocalCluster {
    members: Vec<Member>,
    directory: TempDir,
    certificates: Option<Certificates>,
}

/// The files, in PEM form, with which servers encrypt the connections of clients.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The certificate of the servers.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority whose certificates clients need, if they need any.
    pub clients: Option<PathBuf>,
}

struct Member {
    client: u16,
    peer: u16,
    server: Option<Child>,
}

/// The server: what `CLASP_ETCD` names, or `etcd` on the path.
fn program() -> PathBuf {
    std::env::var_os("CLASP_ETCD").map_or_else(|| "etcd".into(), PathBuf::from)
}

/// A port that is free at present.
fn port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

impl LocalCluster {
    /// Starts so many members and waits until they serve.
    ///
    /// # Errors
    /// If there is no server program, and whatever keeps it from starting.
    pub fn start(members: usize) -> io::Result<LocalCluster> {
        LocalCluster::begin(members, None)
    }

    /// The same, for clients with encrypted connections. The members do not encrypt what they
    /// tell each other.
    ///
    /// # Errors
    /// As of [`start`](LocalCluster::start).
    pub fn start_encrypted(members: usize, certificates: Certificates) -> io::Result<LocalCluster> {
        LocalCluster::begin(members, Some(certificates))
    }

    fn begin(members: usize, certificates: Option<Certificates>) -> io::Result<LocalCluster> {
        let member = |_| {
            Ok(Member {
                client: port()?,
                peer: port()?,
                server: None,
            })
        };
        let mut cluster = LocalCluster {
            members: (0..members).map(member).collect::<io::Result<_>>()?,
            directory: tempfile::tempdir()?,
            certificates,
        };
        for member in 0..members {
            cluster.start_member(member)?;
        }
        for member in 0..members {
            cluster.wait_for(member)?;
        }
        Ok(cluster)
    }

    /// How many members there are, those that do not run included.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// The ports at which clients are served.
    pub fn ports(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.client).collect()
    }

    /// Its address, with this prefix.
    ///
    /// # Panics
    /// If the prefix is none.
    pub fn address(&self, prefix: &str) -> Address {
        let members = self
            .ports()
            .into_iter()
            .map(|port| format!("127.0.0.1:{port}"));
        let members: Vec<_> = members.collect();
        let scheme = match self.certificates {
            Some(_) => "etcds",
            None => "etcd",
        };
        let address = format!("{scheme}://{}{prefix}", members.join(","));
        address.parse().expect("a prefix")
    }

    /// Starts a member that does not run, with the data that it has.
    ///
    /// # Errors
    /// Whatever keeps the program from starting.
    pub fn start_member(&mut self, number: usize) -> io::Result<()> {
        let url = |port| format!("http://127.0.0.1:{port}");
        let mut clients = url(self.members[number].client);
        if self.certificates.is_some() {
            clients.replace_range(..4, "https");
        }
        let peers = self.members.iter().enumerate();
        let peers = peers.map(|(number, member)| format!("m{number}={}", url(member.peer)));
        let peers: Vec<_> = peers.collect();
        let directory = self.directory.path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(directory.join(format!("m{number}.log")))?;
        let member = &mut self.members[number];
        let mut server = Command::new(program());
        if let Some(files) = &self.certificates {
            server.arg("--cert-file").arg(&files.certificate);
            server.arg("--key-file").arg(&files.key);
            if let Some(authority) = &files.clients {
                server.arg("--client-cert-auth");
                server.arg("--trusted-ca-file").arg(authority);
            }
        }
        let server = server
            .args(["--name", &format!("m{number}")])
            .arg("--data-dir")
            .arg(directory.join(format!("m{number}")))
            .args(["--listen-client-urls", &clients])
            .args(["--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &url(member.peer)])
            .args(["--initial-advertise-peer-urls", &url(member.peer)])
            .args(["--initial-cluster", &peers.join(",")])
            .args(["--initial-cluster-state", "new", "--log-level", "error"])
            .args(["--auto-compaction-retention", "5m"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        let server = server.map_err(|error| {
            let program = program();
            let program = program.display();
            io::Error::new(
                error.kind(),
                format!("{program}: {error}; `cargo xtask etcd` prints where it is; set CLASP_ETCD to it"),
            )
        })?;
        member.server = Some(server);
        Ok(())
    }

    /// Waits until a member that was started serves.
    ///
    /// # Errors
    /// If it does not within a minute.
    pub fn wait_for(&mut self, number: usize) -> io::Result<()> {
        let begun = Instant::now();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.members[number].client));
        // It listens once it has joined the others.
        while TcpStream::connect(address).is_err() {
            let ended = match &mut self.members[number].server {
                Some(server) => server.try_wait()?.is_some(),
                None => true,
            };
            if ended || begun.elapsed() > START {
                let log = self.directory.path().join(format!("m{number}.log"));
                let log = std::fs::read_to_string(log).unwrap_or_default();
                return Err(io::Error::other(format!("a member does not start: {log}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The number of the member that leads the others.
    ///
    /// # Errors
    /// If a member does not answer, or none leads.
    pub fn leader(&self) -> io::Result<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        for (number, member) in self.members.iter().enumerate() {
            let address = format!("127.0.0.1:{}", member.client);
            let status = runtime.block_on(async {
                let mut client = Client::connect([address], None).await?;
                client.status().await
            });
            let status = status.map_err(io::Error::other)?;
            if status.header().map(|header| header.member_id()) == Some(status.leader()) {
                return Ok(number);
            }
        }
        Err(io::Error::other("no member leads"))
    }

    /// The process of a member that runs.
    pub fn process(&self, number: usize) -> Option<u32> {
        self.members[number].server.as_ref().map(Child::id)
    }

    /// Kills a member.
    ///
    /// # Errors
    /// If that fails.
    pub fn kill(&mut self, number: usize) -> io::Result<()> {
        if let Some(mut server) = self.members[number].server.take() {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        for number in 0..self.members.len() {
            // A member that has ended by itself cannot be killed.
            let _ = self.kill(number);
        }
    }
}
