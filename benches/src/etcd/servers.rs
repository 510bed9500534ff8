//! Servers of others to compare with, on the loopback interface; they end when they are
//! dropped. Where a program is missing, there is no server.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(30);

/// A server that was asked to end when this is dropped.
struct Server {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let process = Pid::from_child(&self.child);
        // It may have ended by itself.
        let _ = kill_process(process, Signal::INT);
        let _ = self.child.wait();
    }
}

fn port() -> Result<u16> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(free.local_addr()?.port())
}

impl Server {
    /// Starts a server and waits until it listens.
    fn start(command: &mut Command, port: u16, directory: TempDir) -> Result<Server> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Server {
            child,
            port,
            _directory: directory,
        };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = server.child.try_wait()?.is_some();
            ensure!(
                !ended && begun.elapsed() < START,
                "{command:?} does not start"
            );
            thread::yield_now();
        }
        Ok(server)
    }
}

/// One Redis, which keeps nothing on disk.
pub(crate) struct Redis(Server);

impl Redis {
    pub(crate) fn start() -> Result<Option<Redis>> {
        let program = Path::new("/usr/bin/redis-server");
        if !program.is_file() {
            eprintln!("no redis-server: going on without Redis");
            return Ok(None);
        }
        let directory = tempfile::tempdir()?;
        let port = port()?;
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--save", "", "--dir"]).arg(directory.path());
        Server::start(&mut command, port, directory).map(|server| Some(Redis(server)))
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port
    }
}

/// One PostgreSQL.
pub(crate) struct Postgres(Server);

impl Postgres {
    pub(crate) fn start() -> Result<Option<Postgres>> {
        let Some(programs) = programs_of_postgres() else {
            eprintln!("no postgres: going on without PostgreSQL");
            return Ok(None);
        };
        let directory = tempfile::tempdir()?;
        // It does not run as root.
        let other = match rustix::process::geteuid().is_root() {
            true => Some(id_of("postgres")?),
            false => None,
        };
        chown(directory.path(), other, None)?;
        let run = |program: &str| {
            let program = programs.join(program);
            match other {
                None => Command::new(program),
                Some(user) => {
                    let mut command = Command::new("setpriv");
                    command.args(["--reuid", &user.to_string(), "--clear-groups"]);
                    command.arg(program);
                    command
                }
            }
        };
        let data = directory.path().join("data");
        let made = run("initdb")
            .args(["--auth", "trust", "--username", "bench", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()?;
        ensure!(made.success(), "initdb failed: {made}");
        let port = port()?;
        let mut command = run("postgres");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"]);
        command.arg(directory.path()).arg("-D").arg(&data);
        Server::start(&mut command, port, directory).map(|server| Some(Postgres(server)))
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port
    }
}

/// The newest version that Debian has installed.
fn programs_of_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    programs.max().filter(|bin| bin.join("postgres").is_file())
}

/// The number of a user.
fn id_of(user: &str) -> Result<u32> {
    let output = Command::new("id").args(["-u", user]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
