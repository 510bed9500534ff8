//! Running the command while signals for it arrive here.
//!
//! The lock is held by this process, so this process lives as long as the command. It
//! passes signals on that would end it.

use std::{
    io,
    process::{Command, ExitStatus},
};

/// As a shell reports the end of a process.
pub(super) fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return (128 + signal) as u8;
    }
    status.code().map_or(1, |code| code as u8)
}

/// Runs the command to its end.
#[cfg(unix)]
pub(super) fn run(command: &mut Command) -> io::Result<ExitStatus> {
    use signal_hook::{
        consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2},
        iterator::Signals,
    };

    let inherited = Inherited::read();
    // What this process was told to ignore, such as SIGHUP by nohup(1), the command is to
    // ignore as well. A handler here would become the default action there.
    let passed: Vec<i32> = [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2]
        .into_iter()
        .filter(|signal| !inherited.ignored.has(*signal))
        .collect();
    if inherited.blocked.has(SIGCHLD) {
        // The end of the command will not be seen here, so a thread passes signals on.
        let mut signals = Signals::new(&passed)?;
        let mut child = command.spawn()?;
        let pid = rustix::process::Pid::from_child(&child);
        std::thread::spawn(move || {
            for signal in &mut signals {
                pass_on(signal, pid);
            }
        });
        return child.wait();
    }
    let mut signals = Signals::new(passed.iter().chain([&SIGCHLD]))?;
    let mut child = command.spawn()?;
    let pid = rustix::process::Pid::from_child(&child);
    for signal in &mut signals {
        match signal {
            SIGCHLD => {
                if let Some(status) = child.try_wait()? {
                    return Ok(status);
                }
            }
            signal => pass_on(signal, pid),
        }
    }
    child.wait()
}

#[cfg(unix)]
fn pass_on(signal: i32, pid: rustix::process::Pid) {
    use signal_hook::consts::{SIGINT, SIGQUIT};

    // A terminal sends these to the command as well.
    if [SIGINT, SIGQUIT].contains(&signal) && is_in_the_foreground() {
        return;
    }
    if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
        // The command may have ended just now.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Whether the keys of a terminal send signals to this process.
#[cfg(unix)]
fn is_in_the_foreground() -> bool {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else {
        return false;
    };
    let group = rustix::termios::tcgetpgrp(terminal);
    group.is_ok_and(|group| group == rustix::process::getpgrp())
}

/// What this process has inherited with regard to signals, as far as the system tells.
#[cfg(unix)]
struct Inherited {
    ignored: Mask,
    blocked: Mask,
}

/// A set of signals, by their numbers.
#[cfg(unix)]
#[derive(Clone, Copy, Default)]
struct Mask(u64);

#[cfg(unix)]
impl Mask {
    fn has(self, signal: i32) -> bool {
        self.0 >> (signal - 1) & 1 == 1
    }

    fn parse(status: &str, name: &str) -> Mask {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        Mask(mask.unwrap_or_default())
    }
}

#[cfg(unix)]
impl Inherited {
    /// Only Linux tells it without unsafe code.
    fn read() -> Inherited {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Inherited {
            ignored: Mask::parse(&status, "SigIgn:"),
            blocked: Mask::parse(&status, "SigBlk:"),
        }
    }
}

/// Asks the command to end, by a signal that this process passes on.
#[cfg(all(unix, feature = "etcd"))]
pub(super) fn end() {
    let this = rustix::process::getpid();
    // Nobody waits for this thread's answer.
    let _ = rustix::process::kill_process(this, rustix::process::Signal::TERM);
}

/// Ends this process; there are no signals for the command.
#[cfg(all(not(unix), feature = "etcd"))]
pub(super) fn end() {
    std::process::exit(crate::clusters::LOST.into());
}

#[cfg(not(unix))]
pub(super) fn run(command: &mut Command) -> io::Result<ExitStatus> {
    command.status()
}

#[cfg(all(test, unix))]
mod tests {
    use super::Mask;

    #[test]
    fn masks_are_read() {
        let status = "Name:\tclasp\nSigBlk:\t0000000000010000\nSigIgn:\t0000000000000001\n";
        let (blocked, ignored) = (
            Mask::parse(status, "SigBlk:"),
            Mask::parse(status, "SigIgn:"),
        );
        assert!(blocked.has(17) && !blocked.has(16) && !blocked.has(18));
        assert!(ignored.has(1) && !ignored.has(2));
        assert!(!Mask::parse("", "SigIgn:").has(1));
    }
}
