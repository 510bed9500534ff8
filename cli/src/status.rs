//! `clasp status`: who holds locks, and who waits for them.

#[cfg(feature = "etcd")]
use crate::clusters::ClusterLocks;
use crate::{
    holders::{self, FileId, Found, Hold, Use, Wait},
    output::{self, say},
};
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use std::{
    fmt::{self, Write as _},
    io::{self, ErrorKind, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{self, Sender},
    thread,
    time::Duration,
};

#[derive(Args)]
#[command(after_help = "\
`clasp status` reads /proc and takes no lock, so it costs the processes that use the locks \
nothing. It needs root to inspect processes of other users. Without root it reports their locks \
but not their names, and it cannot see all of their waits.

Programs that wait in the kernel have no order. The hosts of clasp that wait are listed in the \
order in which they will get the lock. Each user has an order of its own; root sees those of all \
users, one after the other. For hosts that were started with --order-dir, pass the same \
directory.

A permit of a semaphore on a file is a lock on one byte, whose number is that of the permit.

Of locks on etcd it shows the hosts, with the name of their machine and the number of their \
process, as the servers list them. A host that was killed is listed until its lease expires. \
CLASP_ETCD_USER and CLASP_ETCD_PASSWORD or CLASP_ETCD_PASSWORD_FILE are used as by `clasp run`; \
`,ca=FILE` and `,cert=FILE,key=FILE` may follow an address.

Exit status: 0, and 1 if a path does not exist, the processes cannot be read, or a cluster does \
not answer.")]
pub(crate) struct Status {
    /// Print JSON, on one line for each look with --watch
    #[arg(long)]
    json: bool,

    /// Look again every second, until Ctrl-C, or q and Enter
    #[arg(long)]
    watch: bool,

    /// Directory in which the hosts keep their order; the default is that of this user
    #[arg(long, value_name = "DIR", env = "CLASP_ORDER_DIR")]
    order_dir: Option<PathBuf>,

    /// A lock file, or a directory whose files are looked at; directories in it are not
    /// entered. Or locks on etcd: etcd://HOST:2379,HOST:2379/PREFIX looks at all below the
    /// prefix, and etcd://HOST:2379,HOST:2379/PREFIX/NAME at one
    #[arg(required = true, value_name = "FILE|DIR|URL")]
    paths: Vec<PathBuf>,
}

/// Whether a path is the address of a cluster.
fn is_address(path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    path.starts_with(b"etcd://") || path.starts_with(b"etcds://")
}

/// What is printed for one lock of a cluster.
#[derive(Serialize)]
struct ClusterRow {
    address: String,
    holders: Vec<Host>,
    /// In the order in which they will get the lock.
    queue: Vec<Host>,
}

/// A host in a cluster.
#[derive(Serialize)]
struct Host {
    /// The mode of a lock, or the numbers of permits.
    mode: String,
    host: String,
}

/// Others may have chosen the name of a host.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10} {}", self.mode, output::printable(&self.host))
    }
}

/// What is printed for one file.
#[derive(Serialize)]
struct Row {
    #[serde(serialize_with = "text")]
    path: PathBuf,
    #[serde(flatten)]
    used: Use,
}

/// A path may be other than UTF-8, which JSON cannot be.
fn text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// What is printed at one time.
#[derive(Serialize)]
struct Report {
    files: Vec<Row>,
    /// Locks of clusters that are in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clusters: Vec<ClusterRow>,
    /// Paths that do not exist.
    #[serde(skip)]
    missing: Vec<PathBuf>,
    /// Processes that this user may not inspect.
    hidden_processes: usize,
    /// Whether a lock that is not listed is not held.
    complete: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(directory) = &self.order_dir {
            clasp_host::set_order_directory(directory)
                .with_context(|| format!("cannot open {}", directory.display()))?;
        }
        if !self.watch {
            let report = self.report()?;
            output::print(self.text(&report)?)?;
            for path in &report.missing {
                say!("{} does not exist", output::path(path));
            }
            return Ok(match report.missing.is_empty() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            });
        }
        let clears = io::stdout().is_terminal() && !self.json;
        let (quit, quits) = mpsc::channel();
        // In the background, reading from the terminal would stop the process.
        if clears && io::stdin().is_terminal() {
            wait_for_key(quit.clone());
        }
        loop {
            let text = self.text(&self.report()?)?;
            let screen = match clears {
                true => format!("\x1b[H\x1b[2J{text}\nq and Enter, or Ctrl-C, to quit\n"),
                false => text,
            };
            if !output::print(screen)? {
                return Ok(ExitCode::SUCCESS);
            }
            if quits.recv_timeout(Duration::from_secs(1)).is_ok() {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    fn report(&self) -> Result<Report> {
        let mut files: Vec<(PathBuf, FileId, bool)> = Vec::new();
        let mut clusters = Vec::new();
        let mut missing = Vec::new();
        for path in &self.paths {
            if is_address(path) {
                clusters.extend(look_at_cluster(path)?);
                continue;
            }
            let cannot = || format!("cannot look at {}", output::path(path));
            let id = match FileId::of(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    missing.push(path.clone());
                    continue;
                }
                id => id.with_context(cannot)?,
            };
            if path.is_dir() {
                let inside = holders::files_in(path).with_context(cannot)?;
                files.extend(inside.into_iter().map(|(path, id)| (path, id, false)));
            }
            files.push((path.clone(), id, !path.is_dir()));
        }
        let ids = files.iter().map(|(path, id, _)| (*id, path.as_path()));
        let found = holders::search(ids).context("cannot read /proc")?;
        let complete = found.is_complete();
        let Found {
            files: uses,
            hidden,
        } = found;
        let rows = files.into_iter().filter_map(|(path, id, named)| {
            let used = uses.get(&id)?.clone();
            // In a directory, only files that are locked are of interest.
            (named || !used.is_free()).then_some(Row { path, used })
        });
        Ok(Report {
            files: rows.collect(),
            clusters,
            missing,
            hidden_processes: hidden,
            complete,
        })
    }

    fn text(&self, report: &Report) -> Result<String> {
        if self.json {
            return Ok(match self.watch {
                true => serde_json::to_string(report)?,
                false => serde_json::to_string_pretty(report)?,
            } + "\n");
        }
        let mut text = String::new();
        let (none, free) = match report.complete {
            true => ("no file is locked here", "free"),
            false => ("no lock is seen", "no lock is seen"),
        };
        let on_files = self.paths.iter().any(|path| !is_address(path));
        if on_files && report.files.is_empty() && report.missing.is_empty() {
            writeln!(text, "{none}")?;
        }
        if !on_files && report.clusters.is_empty() {
            writeln!(text, "no lock is held there")?;
        }
        for ClusterRow {
            address,
            holders,
            queue,
        } in &report.clusters
        {
            writeln!(text, "{}", output::printable(address))?;
            for host in holders {
                writeln!(text, "  held       {host}")?;
            }
            for (place, host) in queue.iter().enumerate() {
                writeln!(text, "  queue {:<4} {host}", place + 1)?;
            }
        }
        for Row { path, used } in &report.files {
            writeln!(text, "{}", output::path(path))?;
            if used.is_free() {
                writeln!(text, "  {free}")?;
            }
            for line in held(&used.holders) {
                writeln!(text, "  held       {line}")?;
            }
            for (place, wait) in used.queue.iter().enumerate() {
                writeln!(text, "  queue {:<4} {}", place + 1, waits(wait))?;
            }
            for wait in &used.waiters {
                writeln!(text, "  waits      {}", waits(wait))?;
            }
            if used.is_mixed() {
                writeln!(
                    text,
                    "  warning    flock and fcntl locks do not exclude each other; hosts that \
                     are granted family=both take both"
                )?;
            }
        }
        if self.watch {
            for path in &report.missing {
                writeln!(text, "{}\n  missing", output::path(path))?;
            }
        }
        if on_files && let Some(hidden) = holders::about_hidden(report.hidden_processes) {
            writeln!(text, "{hidden}")?;
        }
        Ok(text)
    }
}

/// The locks of a cluster that are in use.
#[cfg(feature = "etcd")]
fn look_at_cluster(address: &Path) -> Result<Vec<ClusterRow>> {
    let text = address.to_str().context("an address has to be UTF-8")?;
    let locks = ClusterLocks::of_status(text).map_err(anyhow::Error::msg)?;
    let members = locks.members();
    let hosts = |requests: Vec<clasp_etcd::Request>| {
        let requests = requests.into_iter();
        let host = |request: clasp_etcd::Request| Host {
            mode: request.what.to_string(),
            host: request.host,
        };
        requests.map(host).collect()
    };
    let rows = locks.look()?.into_iter().map(|used| ClusterRow {
        address: format!("{members}{}", used.path),
        holders: hosts(used.holders),
        queue: hosts(used.queue),
    });
    Ok(rows.collect())
}

#[cfg(not(feature = "etcd"))]
fn look_at_cluster(address: &Path) -> Result<Vec<ClusterRow>> {
    anyhow::bail!("{}", crate::options::without_etcd(&output::path(address)))
}

/// Reports when the user has pressed q and Enter.
fn wait_for_key(quit: Sender<()>) {
    thread::spawn(move || {
        let mut line = String::new();
        while io::stdin()
            .read_line(&mut line)
            .is_ok_and(|length| length > 0)
        {
            if line.trim().eq_ignore_ascii_case("q") {
                let _ = quit.send(());
                return;
            }
            line.clear();
        }
    });
}

/// A line for each process and mode: a lock of the family `both` is two native locks.
fn held(holds: &[Hold]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for hold in holds {
        let process = match &hold.process {
            Some(process) => process.to_string(),
            None => "a process that this user may not inspect".into(),
        };
        let holder = format!("{:<10} {process}", hold.mode.to_string());
        let how = match hold.end {
            _ if hold.is_whole_file() => hold.kind.to_string(),
            Some(end) if end == hold.start => format!("{}, byte {end}", hold.kind),
            Some(end) => format!("{}, bytes {} to {end}", hold.kind, hold.start),
            None => format!("{}, bytes from {}", hold.kind, hold.start),
        };
        match lines.iter_mut().find(|(other, _)| *other == holder) {
            Some((_, all)) => all.push(how),
            None => lines.push((holder, vec![how])),
        }
    }
    let lines = lines.into_iter();
    lines
        .map(|(holder, how)| format!("{holder} ({})", how.join("; ")))
        .collect()
}

fn waits(wait: &Wait) -> String {
    let process = match &wait.process {
        Some(process) => process.to_string(),
        None => "a process that the kernel does not name".into(),
    };
    let mode = wait
        .mode
        .map_or_else(|| "?".into(), |mode| mode.to_string());
    format!("{mode:<10} {process}")
}
