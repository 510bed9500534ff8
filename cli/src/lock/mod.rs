//! `clasp lock`: a command under a lock, with the options of flock(1).

mod children;

#[cfg(feature = "etcd")]
use crate::clusters::ClusterLocks;
use crate::{
    durations, grants,
    output::{self, say},
    waiting,
};
use anyhow::{Context, Result};
use cap_std::{ambient_authority, fs::Dir};
use clap::Args;
use clasp_host::{
    Error, ErrorKind, Family, FileSpace, Grant, Limits, LockManager, Mode, Order,
    engine::{Guard, Owner, Permit},
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// Of every command of `clasp` that is used wrongly.
const USAGE: u8 = 2;

/// The exit codes of flock(1), after sysexits.h.
const CANNOT_OPEN: u8 = 66;
const CANNOT_RUN: u8 = 69;
const SYSTEM_ERROR: u8 = 71;

#[derive(Args)]
#[command(after_help = "\
The lock excludes every program that locks the file with fcntl, lockf or flock, and hosts of \
clasp. On Linux the hosts of one user, this command included, get the lock in the order in \
which they requested it. With -n the command takes no place in that order: it gets the lock \
if the lock is free.

Differences from flock(1):
  - The command does not inherit the lock, as with `flock -o`: the lock ends with this
    process, and processes that the command leaves behind do not keep it. Signals that would
    end this process are passed on to the command, unless they are ignored or come from the
    keys of a terminal, which sends them to the command as well. SIGKILL of this process
    releases the lock while the command runs; with --inherit or --no-fork it does not.
  - A directory, a file that is executable, and a file that the user may not write are locked
    with flock alone: fcntl cannot lock directories, needs write access, and a file that is
    open for writing cannot be executed.
  - Devices, the directory `/`, a descriptor number instead of a file, and --unlock are not
    supported.
  - If the arguments are wrong, the exit status is 2.

Exit status: that of the command, 128 and the signal's number if a signal ended it, the code of \
-E if the lock was not taken, 66 if the file cannot be opened, 69 if \
the command cannot be run, and 71 for other errors.

Environment: CLASP_LOG sets what is logged, such as `debug` or `clasp::wait=debug`.")]
pub(crate) struct Lock {
    /// Take a shared lock
    #[arg(short, long, overrides_with_all = ["shared", "exclusive"])]
    shared: bool,

    /// Take an exclusive lock; this is the default
    #[arg(short = 'x', short_alias = 'e', long, overrides_with_all = ["shared", "exclusive"])]
    exclusive: bool,

    /// Fail rather than wait
    #[arg(short, long, visible_alias = "nb", overrides_with_all = ["nonblock", "wait"])]
    nonblock: bool,

    /// Fail after this time, such as 5, 0.5 or 2m; a number is in seconds
    #[arg(short, long, visible_alias = "timeout", value_name = "TIME",
          value_parser = durations::parse, overrides_with_all = ["nonblock", "wait"])]
    wait: Option<Duration>,

    /// The exit code if the lock was not taken, with -n or -w
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = 1)]
    conflict_exit_code: u8,

    /// Do not pass the lock on to the command; this is the default
    #[arg(short = 'o', long, conflicts_with_all = ["inherit", "no_fork"])]
    close: bool,

    /// Have the command inherit the lock: it is held until the command and all processes
    /// that it has started have ended
    #[arg(long)]
    inherit: bool,

    /// Replace this process by the command, which inherits the lock
    #[arg(short = 'F', long)]
    no_fork: bool,

    /// Take a permit of a semaphore that has N permits, from 1 to 64, so that at most so many
    /// commands run at a time. All must give the same number. The command finds the number of
    /// its permit, from 0, in the environment variable CLASP_PERMIT
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64),
          conflicts_with_all = ["shared", "exclusive", "inherit", "no_fork", "family"])]
    permits: Option<u8>,

    /// How many permits to take, all at once; CLASP_PERMIT has their numbers then, separated by
    /// spaces
    #[arg(long, value_name = "COUNT", default_value_t = 1, requires = "permits",
          value_parser = clap::value_parser!(u8).range(1..=64))]
    count: u8,

    /// Print what happens
    #[arg(long)]
    verbose: bool,

    /// The family of locks: posix, flock or both (on Windows lockfileex)
    #[arg(long, value_name = "FAMILY")]
    family: Option<Family>,

    /// The order of hosts: fair or kernel
    #[arg(long, value_name = "ORDER")]
    order: Option<Order>,

    /// Directory in which hosts keep their order, for hosts of several users or
    /// containers; the default is one of the user's own
    #[arg(long, value_name = "DIR", env = "CLASP_ORDER_DIR")]
    order_dir: Option<PathBuf>,

    /// The file or directory to lock, then the command and its arguments. A file that is
    /// missing is created. A lock on etcd is etcd://HOST:PORT,HOST:PORT/PREFIX/NAME, with
    /// the options ttl=TIME, on-lost=stop|report, ca=FILE, cert=FILE, key=FILE after commas.
    /// `-c COMMAND` is a command line for the shell
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_names = ["FILE", "COMMAND"]
    )]
    words: Vec<OsString>,
}

/// What is held while the command runs.
enum Held {
    Lock(Guard),
    Permits(Permit),
}

/// The environment variable that tells a command which permits it has.
const PERMIT: &str = "CLASP_PERMIT";

impl Lock {
    /// The file, as the user wrote it.
    fn file(&self) -> &Path {
        self.words.first().map_or(Path::new(""), Path::new)
    }

    /// Whether the command is to be run now or not at all.
    fn tries_once(&self) -> bool {
        self.nonblock || self.wait == Some(Duration::ZERO)
    }

    /// How the wait is told.
    pub(crate) fn waits(&self) -> waiting::Settings {
        let mut settings = waiting::Settings::of_file(self.file());
        if self.verbose {
            settings.patience = Duration::ZERO;
        }
        if self.wait.is_none() {
            settings.unused_bound = Some("-w");
        }
        settings
    }

    pub(crate) fn run(self) -> Result<ExitCode> {
        let Some(mut command) = self.command() else {
            say!("clasp lock needs a command: clasp lock [OPTIONS] FILE COMMAND [ARGUMENTS]");
            return Ok(ExitCode::from(USAGE));
        };
        if let Some(permits) = self.permits.filter(|permits| *permits < self.count) {
            say!("--count {} is more than --permits {permits}", self.count);
            return Ok(ExitCode::from(USAGE));
        }
        if let Some(directory) = &self.order_dir {
            clasp_host::set_order_directory(directory)
                .with_context(|| grants::cannot_open_order(directory))?;
        }
        let owner = LockManager::global().labelled_owner("clasp lock", Limits::default());
        let begun = Instant::now();
        let held = match self.acquire(&owner) {
            Ok(Some(held)) => held,
            Ok(None) => {
                let by = match self.permits {
                    None => "is locked by others",
                    Some(_) => "has too few free permits",
                };
                self.report(|| format!("{} {by}", output::path(self.file())));
                return Ok(ExitCode::from(self.conflict_exit_code));
            }
            Err(error) => {
                say!("{error:#}");
                return Ok(ExitCode::from(exit_code(&error)));
            }
        };
        self.report(|| {
            format!(
                "getting {} took {:.6} s",
                match &held {
                    Held::Lock(_) => "the lock".to_owned(),
                    Held::Permits(permit) => format!("permit {}", numbers(permit)),
                },
                begun.elapsed().as_secs_f64()
            )
        });
        self.report(|| format!("running {command:?}"));
        match &held {
            Held::Lock(guard) if self.no_fork => return replace(command, guard),
            Held::Lock(guard) if self.inherit => return run_inheriting(command, guard),
            Held::Lock(_) => {}
            Held::Permits(permit) => {
                command.env(PERMIT, numbers(permit));
            }
        }
        let status = children::run(&mut command);
        drop(held);
        Ok(match status {
            Ok(status) => ExitCode::from(children::code(status)),
            Err(error) => cannot_run(&command, &error),
        })
    }

    fn report(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            say!("{}", text());
        }
    }

    /// Takes the lock, or the permits; `None` if it was not to be had in time.
    fn acquire(&self, owner: &Owner) -> Result<Option<Held>> {
        let (grant, name) = self.grant()?;
        let taken = match self.permits {
            None => self.acquire_lock(owner, &grant, &name).map(Held::Lock),
            Some(permits) => {
                let permit = self.acquire_permits(owner, &grant, &name, permits);
                permit.map(Held::Permits)
            }
        };
        match taken {
            Ok(held) => Ok(Some(held)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Timeout) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| self.cannot_open()),
        }
    }

    fn acquire_lock(&self, owner: &Owner, grant: &Grant, name: &str) -> Result<Guard, Error> {
        let lock = owner.open(grant, name)?;
        let mode = match self.shared {
            true => Mode::Shared,
            false => Mode::Exclusive,
        };
        match lock.try_acquire(mode) {
            Err(error) if self.is_to_wait(&error) => lock.acquire_blocking(mode, self.wait),
            taken => taken,
        }
    }

    fn acquire_permits(
        &self,
        owner: &Owner,
        grant: &Grant,
        name: &str,
        permits: u8,
    ) -> Result<Permit, Error> {
        let semaphore = owner.open_semaphore(grant, name, permits)?;
        match semaphore.try_acquire(self.count) {
            Err(error) if self.is_to_wait(&error) => {
                semaphore.acquire_blocking(self.count, self.wait)
            }
            taken => taken,
        }
    }

    /// Whether a try that has failed with this error is followed by a wait.
    fn is_to_wait(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::WouldBlock && !self.tries_once()
    }

    /// The place of the lock, and its name there.
    fn grant(&self) -> Result<(Grant, String)> {
        let file = self.file();
        #[cfg(feature = "etcd")]
        if let Some(address) = file
            .to_str()
            .filter(|text| clasp_etcd::Address::is_one(text))
        {
            return self.grant_of_cluster(address);
        }
        let found = file.symlink_metadata();
        let is_link = found.is_ok_and(|found| found.is_symlink());
        // A link may lead to another directory. The name of a directory may be `.` or end
        // with `..`.
        let path = match is_link || file.is_dir() {
            true => file.canonicalize().with_context(|| self.cannot_open())?,
            false => file.to_owned(),
        };
        // `file/` names a directory, which the parts of a path do not tell.
        let is_wrong = file.as_os_str().as_encoded_bytes().ends_with(b"/") && !path.is_dir();
        let name = path.file_name().filter(|_| !is_wrong);
        let name = name.with_context(|| format!("{}: not a file", self.cannot_open()))?;
        let name = name.to_str().with_context(|| {
            let advice = "the name of a lock file has to be UTF-8";
            format!("{}: {advice}", self.cannot_open())
        })?;
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let dir = Dir::open_ambient_dir(parent.unwrap_or(Path::new(".")), ambient_authority())
            .with_context(|| self.cannot_open())?;
        let by_flock_alone = self.permits.is_none()
            && needs_flock(&path)
            && Family::supported().contains(&Family::Flock);
        let family = match self.family {
            Some(family) => family,
            None if by_flock_alone => Family::Flock,
            None => grants::widest_family(),
        };
        // A request that does not wait takes no turn from those that wait, and a host that
        // is suspended in line cannot make it fail.
        let order = self.order.unwrap_or(match self.tries_once() {
            true => Order::Kernel,
            false => Order::default(),
        });
        let space = FileSpace::new(dir)
            .family(family)
            .order(order)
            .directories(self.permits.is_none())
            .write(!by_flock_alone)
            // As flock(1): the user has chosen the file.
            .network(true);
        Ok((Grant::new(space.into_space()), name.to_owned()))
    }

    /// A lock on etcd: if it is lost, the command is asked to end.
    #[cfg(feature = "etcd")]
    fn grant_of_cluster(&self, address: &str) -> Result<(Grant, String)> {
        let (locks, name) = ClusterLocks::of_lock(address).map_err(anyhow::Error::msg)?;
        anyhow::ensure!(
            !self.inherit && !self.no_fork,
            "a lock on etcd ends with this process, so a command cannot inherit it"
        );
        anyhow::ensure!(
            self.family.is_none() && self.order.is_none(),
            "--family and --order are for locks on files"
        );
        let cluster = locks.connect(children::end)?;
        Ok((Grant::new(cluster.space()), name))
    }

    fn cannot_open(&self) -> String {
        format!("cannot lock {}", output::path(self.file()))
    }

    /// What follows the file; `None` if nothing does.
    fn command(&self) -> Option<Command> {
        let words = self.words.get(1..)?;
        let words = match words.split_first() {
            Some((first, rest)) if first == "--" => rest,
            _ => words,
        };
        let (first, rest) = words.split_first()?;
        if first == "-c" || first == "--command" {
            let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
            let mut command = Command::new(shell);
            command.arg("-c").args(rest);
            return (rest.len() == 1).then_some(command);
        }
        let mut command = Command::new(first);
        command.args(rest);
        Some(command)
    }
}

/// Whether only `flock` can lock it: a directory; a file that the user may not write; and a
/// program, which is not executed while its file is open for writing.
#[cfg(unix)]
fn needs_flock(path: &Path) -> bool {
    use rustix::fs::{Access, access};

    if path.is_dir() {
        return true;
    }
    path.is_file() && (access(path, Access::WRITE_OK).is_err() || is_executable(path))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    path.metadata()
        .is_ok_and(|found| found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn needs_flock(_: &Path) -> bool {
    false
}

#[cfg(unix)]
fn replace(mut command: Command, guard: &Guard) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;

    // The descriptor stays open in the new program, and the lock with it.
    let _descriptor = guard.descriptor()?;
    let error = command.exec();
    Ok(cannot_run(&command, &error))
}

#[cfg(unix)]
fn run_inheriting(mut command: Command, guard: &Guard) -> Result<ExitCode> {
    let _descriptor = guard.descriptor()?;
    match children::run(&mut command) {
        // Without dropping the guard or its owner, which would unlock what other
        // processes have inherited.
        Ok(status) => std::process::exit(children::code(status).into()),
        Err(error) => Ok(cannot_run(&command, &error)),
    }
}

#[cfg(not(unix))]
fn replace(_: Command, _: &Guard) -> Result<ExitCode> {
    anyhow::bail!("--no-fork is not supported on this system")
}

#[cfg(not(unix))]
fn run_inheriting(_: Command, _: &Guard) -> Result<ExitCode> {
    anyhow::bail!("--inherit is not supported on this system")
}

/// The numbers of permits, as the command is told.
fn numbers(permit: &Permit) -> String {
    let numbers: Vec<_> = permit.numbers().iter().map(|n| n.to_string()).collect();
    numbers.join(" ")
}

fn cannot_run(command: &Command, error: &std::io::Error) -> ExitCode {
    let program = command.get_program().to_string_lossy();
    say!("cannot run {}: {error}", output::printable(&program));
    ExitCode::from(CANNOT_RUN)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let kind = error.downcast_ref::<Error>().map(Error::kind);
    let opened = error.downcast_ref::<std::io::Error>();
    match kind {
        None if opened.is_none() => SYSTEM_ERROR,
        None
        | Some(
            ErrorKind::Access
            | ErrorKind::NoEntry
            | ErrorKind::IsDirectory
            | ErrorKind::NotAFile
            | ErrorKind::NotPermitted
            | ErrorKind::InvalidName,
        ) => CANNOT_OPEN,
        Some(_) => SYSTEM_ERROR,
    }
}
