//! A resource that refuses late writes, although their writer does not know that it has
//! lost its lock.
//!
//! ```sh
//! CLASP_ETCD=$(cargo xtask etcd) cargo run --package clasp-etcd --example fenced --features testing
//! ```
//!
//! Two writers, in processes of their own, take one lock on a cluster of etcd, which is
//! started for the example. The first is suspended after it has checked that it holds the
//! lock. When its lease has ended, the second gets the lock, with a greater token, and
//! writes. The first then goes on where it was, and writes as well: the store refuses its
//! token.

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => example::run(),
        [address, value] => example::write(address, value),
        _ => Err("no arguments are needed".into()),
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("processes are suspended by signals here, which this system does not have");
}

#[cfg(unix)]
mod example {
    use clasp_engine::{Ceilings, Grant, Limits, LockManager, Mode};
    use clasp_etcd::{Cluster, Options, testing::LocalCluster};
    use rustix::process::{Pid, Signal, kill_process};
    use std::{
        error::Error,
        io::{BufRead, BufReader, Write, stdin},
        process::{Child, ChildStdin, ChildStdout, Command, Stdio},
        time::Duration,
    };

    type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

    /// What the lock protects. It keeps the greatest token that it has seen, and carries
    /// out the comparison and the write as one step. In a database this is
    ///
    /// ```sql
    /// UPDATE store SET value = $1, token = $2 WHERE token <= $2
    /// ```
    #[derive(Default)]
    struct Store {
        token: u64,
        value: String,
    }

    impl Store {
        fn write(&mut self, token: u64, value: &str) -> bool {
            let accepted = self.token <= token;
            if accepted {
                self.token = token;
                self.value = value.to_owned();
            }
            accepted
        }
    }

    /// A process that writes once, when it is told to.
    struct Writer {
        process: Child,
        input: ChildStdin,
        output: BufReader<ChildStdout>,
    }

    impl Writer {
        fn start(address: &str, value: &str) -> Result<Writer> {
            let mut process = Command::new(std::env::current_exe()?)
                .args([address, value])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            Ok(Writer {
                input: process.stdin.take().ok_or("an input")?,
                output: BufReader::new(process.stdout.take().ok_or("an output")?),
                process,
            })
        }

        /// The next line that it prints.
        fn line(&mut self) -> Result<String> {
            let mut line = String::new();
            self.output.read_line(&mut line)?;
            Ok(line.trim().to_owned())
        }

        /// Has it go on, and passes its write to the store.
        fn write(&mut self, store: &mut Store) -> Result<bool> {
            writeln!(self.input)?;
            let line = self.line()?;
            let (token, value) = line.split_once(' ').ok_or("a token and a value")?;
            let accepted = store.write(token.parse()?, value);
            println!(
                "write of {value:?} with token {token}: {}",
                if accepted { "accepted" } else { "refused" }
            );
            Ok(accepted)
        }

        fn signal(&self, signal: Signal) -> Result {
            Ok(kill_process(Pid::from_child(&self.process), signal)?)
        }
    }

    impl Drop for Writer {
        fn drop(&mut self) {
            // It has ended already, unless the example failed.
            let _ = (self.process.kill(), self.process.wait());
        }
    }

    pub(super) fn run() -> Result {
        let cluster = LocalCluster::start(3)?;
        let address = cluster.address("/fenced").to_string();
        let mut store = Store::default();

        let mut first = Writer::start(&address, "old")?;
        println!("first writer: {}", first.line()?);
        first.signal(Signal::STOP)?;
        println!("first writer: suspended");
        let mut second = Writer::start(&address, "new")?;
        println!("second writer: {}", second.line()?);
        assert!(second.write(&mut store)?);
        first.signal(Signal::CONT)?;
        println!("first writer: goes on");
        assert!(!first.write(&mut store)?);
        println!("first writer: {}", first.line()?);
        println!("the store has {:?}", store.value);
        assert_eq!(store.value, "new");
        Ok(())
    }

    /// One of the writers.
    pub(super) fn write(address: &str, value: &str) -> Result {
        let options = Options::default().ttl(Duration::from_secs(5));
        let cluster = Cluster::connect(&address.parse()?, &options)?;
        let manager = LockManager::new(Ceilings::default());
        let owner = manager.owner(Limits::default());
        let lock = owner.open(&Grant::new(cluster.space()), "store.lock")?;
        let guard = lock.acquire_blocking(Mode::Exclusive, None)?;
        let token = guard.token()?;
        guard.check()?;
        println!("holds the lock");
        // Between the check and the write, the process may be suspended.
        stdin().read_line(&mut String::new())?;
        println!("{token} {value}");
        match guard.release() {
            Ok(()) => println!("released the lock"),
            Err(error) => println!("release: {error}"),
        }
        Ok(())
    }
}
