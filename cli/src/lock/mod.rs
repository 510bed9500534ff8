//! `clasp lock`: a command under a lock, with the options of flock(1).

use crate::{durations, grants, waiting};
use anyhow::{Context, Result};
use cap_std::{ambient_authority, fs::Dir};
use clap::Args;
use clasp_host::{
    Error, ErrorKind, Family, FileSpace, Grant, Limits, LockManager, Mode, Order,
    engine::{Guard, Owner},
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// The exit codes of flock(1), after sysexits.h.
const CANNOT_OPEN: u8 = 66;
const CANNOT_RUN: u8 = 69;
const SYSTEM_ERROR: u8 = 71;

#[derive(Args)]
#[command(after_help = "\
The lock excludes every program that locks the file with fcntl, lockf or flock, and hosts of \
clasp. On Linux the hosts of one user, this command included, get the lock in the order in \
which they came.

Differences from flock(1):
  - The command does not inherit the lock, as with `flock -o`: the lock ends with this
    process, and processes that the command leaves behind do not keep it. SIGTERM and SIGHUP
    are passed on to the command, and SIGINT is left to it. SIGKILL of this process releases
    the lock while the command runs; with --inherit or --no-fork it does not.
  - A directory is locked with flock alone, since fcntl cannot lock directories.
  - A file descriptor number instead of a file, and --unlock, are not supported.

Exit status: that of the command, 128 and the signal's number if a signal ended it, the code of \
-E if the lock was not taken, 66 if the file cannot be opened, 69 if the command cannot be run, \
and 71 for other errors.

Environment: CLASP_LOG sets what is logged, such as `debug` or `clasp::wait=debug`.")]
pub(crate) struct Lock {
    /// Take a shared lock
    #[arg(short, long, conflicts_with = "exclusive")]
    shared: bool,

    /// Take an exclusive lock; this is the default
    #[arg(short = 'x', short_alias = 'e', long)]
    exclusive: bool,

    /// Fail rather than wait
    #[arg(short, long, visible_alias = "nb", conflicts_with = "wait")]
    nonblock: bool,

    /// Fail after this time, such as 5, 0.5 or 2m; a number is in seconds
    #[arg(short, long, visible_alias = "timeout", value_name = "TIME",
          value_parser = durations::parse)]
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

    /// Run this command line with the shell
    #[arg(
        short,
        long = "command",
        value_name = "COMMAND",
        conflicts_with = "words"
    )]
    command_line: Option<OsString>,

    /// Print what happens
    #[arg(long)]
    verbose: bool,

    /// The family of locks: posix, flock or both (on Windows lockfileex)
    #[arg(long, value_name = "FAMILY")]
    family: Option<Family>,

    /// The order of hosts: fair or kernel
    #[arg(long, value_name = "ORDER")]
    order: Option<Order>,

    /// The file or directory to lock; a file that is missing is created
    file: PathBuf,

    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND",
        required_unless_present = "command_line"
    )]
    words: Vec<OsString>,
}

impl Lock {
    /// How the wait is told.
    pub(crate) fn waits(&self) -> waiting::Settings {
        let parent = self.file.parent().unwrap_or(&self.file);
        let mut settings = waiting::Settings::new(vec![parent.to_owned()]);
        if self.verbose {
            settings.patience = Duration::ZERO;
        }
        if self.wait.is_none() {
            settings.unused_bound = Some("-w");
        }
        settings
    }

    pub(crate) fn run(self) -> Result<ExitCode> {
        let owner = LockManager::global().labelled_owner("clasp lock", Limits::default());
        let begun = Instant::now();
        let guard = match self.acquire(&owner) {
            Ok(Some(guard)) => guard,
            Ok(None) => {
                self.say(|| format!("{} is locked by others", self.file.display()));
                return Ok(ExitCode::from(self.conflict_exit_code));
            }
            Err(error) => {
                eprintln!("clasp: {error:#}");
                return Ok(ExitCode::from(exit_code(&error)));
            }
        };
        self.say(|| {
            format!(
                "getting the lock took {:.6} s",
                begun.elapsed().as_secs_f64()
            )
        });
        let mut command = self.command();
        self.say(|| format!("running {command:?}"));
        if self.no_fork {
            return self.replace(command, guard);
        }
        if self.inherit {
            return self.run_inheriting(command, guard);
        }
        let status = children::run(&mut command);
        drop(guard);
        Ok(match status {
            Ok(status) => ExitCode::from(children::code(status)),
            Err(error) => cannot_run(&command, &error),
        })
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("clasp: {}", text());
        }
    }

    /// Takes the lock; `None` if it was not to be had in time.
    fn acquire(&self, owner: &Owner) -> Result<Option<Guard>> {
        let (grant, name) = self.grant()?;
        let lock = owner
            .open(&grant, &name)
            .with_context(|| self.cannot_open())?;
        let mode = match self.shared {
            true => Mode::Shared,
            false => Mode::Exclusive,
        };
        match lock.try_acquire(mode) {
            Ok(guard) => return Ok(Some(guard)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).with_context(|| self.cannot_open()),
        }
        if self.nonblock {
            return Ok(None);
        }
        let outcome = lock.acquire_blocking(mode, self.wait);
        match outcome {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if error.kind() == ErrorKind::Timeout => Ok(None),
            Err(error) => Err(error).with_context(|| self.cannot_open()),
        }
    }

    /// The directory of the file, and its name there.
    fn grant(&self) -> Result<(Grant, String)> {
        // The name of a directory may be `.` or end with `..`.
        let path = match self.file.is_dir() {
            true => self
                .file
                .canonicalize()
                .with_context(|| self.cannot_open())?,
            false => self.file.clone(),
        };
        let is_root = path.parent().is_none();
        let name = if is_root {
            Some(".")
        } else {
            path.file_name().and_then(|n| n.to_str())
        };
        let name = name.with_context(|| {
            format!(
                "{}: the name of a lock file has to be UTF-8",
                path.display()
            )
        })?;
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let dir = Dir::open_ambient_dir(parent.unwrap_or(Path::new(".")), ambient_authority())
            .with_context(|| self.cannot_open())?;
        let family = match self.family {
            Some(family) => family,
            None if path.is_dir() && Family::supported().contains(&Family::Flock) => Family::Flock,
            None => grants::widest_family(),
        };
        let space = FileSpace::new(dir)
            .family(family)
            .order(self.order.unwrap_or_default())
            .directories(true)
            // As flock(1): the user has chosen the file.
            .network(true);
        Ok((Grant::new(space.into_space()), name.to_owned()))
    }

    fn cannot_open(&self) -> String {
        format!("cannot lock {}", self.file.display())
    }

    fn command(&self) -> Command {
        match &self.command_line {
            Some(line) => {
                let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
                let mut command = Command::new(shell);
                command.arg("-c").arg(line);
                command
            }
            None => {
                let mut command = Command::new(&self.words[0]);
                command.args(&self.words[1..]);
                command
            }
        }
    }

    #[cfg(unix)]
    fn replace(&self, mut command: Command, guard: Guard) -> Result<ExitCode> {
        use std::os::unix::process::CommandExt;

        // The descriptor stays open in the new program, and the lock with it.
        let _descriptor = guard.descriptor()?;
        let error = command.exec();
        Ok(cannot_run(&command, &error))
    }

    #[cfg(unix)]
    fn run_inheriting(&self, mut command: Command, guard: Guard) -> Result<ExitCode> {
        let _descriptor = guard.descriptor()?;
        match children::run(&mut command) {
            // Without dropping the guard or its owner, which would unlock what other
            // processes have inherited.
            Ok(status) => std::process::exit(children::code(status).into()),
            Err(error) => Ok(cannot_run(&command, &error)),
        }
    }

    #[cfg(not(unix))]
    fn replace(&self, _: Command, _: Guard) -> Result<ExitCode> {
        anyhow::bail!("--no-fork is not supported on this system")
    }

    #[cfg(not(unix))]
    fn run_inheriting(&self, _: Command, _: Guard) -> Result<ExitCode> {
        anyhow::bail!("--inherit is not supported on this system")
    }
}

fn cannot_run(command: &Command, error: &std::io::Error) -> ExitCode {
    let program = command.get_program().to_string_lossy();
    eprintln!("clasp: cannot run {program}: {error}");
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

/// Running the command while signals for it arrive here.
mod children {
    use std::{
        io,
        process::{Command, ExitStatus},
    };

    /// Runs it to its end. SIGTERM and SIGHUP are passed on.
    #[cfg(unix)]
    pub(super) fn run(command: &mut Command) -> io::Result<ExitStatus> {
        use signal_hook::{
            consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
            iterator::Signals,
        };

        // The end of the command is a signal as well, so no other thread is needed.
        let mut signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGTERM])?;
        let mut child = command.spawn()?;
        let pid = rustix::process::Pid::from_child(&child);
        for signal in &mut signals {
            match signal {
                SIGCHLD => {
                    if let Some(status) = child.try_wait()? {
                        return Ok(status);
                    }
                }
                // A terminal sends it to the command as well.
                SIGINT => {}
                signal => {
                    if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
                        // The command may have ended just now.
                        let _ = rustix::process::kill_process(pid, signal);
                    }
                }
            }
        }
        child.wait()
    }

    #[cfg(not(unix))]
    pub(super) fn run(command: &mut Command) -> io::Result<ExitStatus> {
        command.status()
    }

    /// As a shell reports it.
    pub(super) fn code(status: ExitStatus) -> u8 {
        #[cfg(unix)]
        if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
            return (128 + signal) as u8;
        }
        status.code().map_or(1, |code| code as u8)
    }
}
