//! Starting `clasp` and others for the tests of its commands.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Longer than anything takes that is to happen.
const LIVENESS: Duration = Duration::from_secs(60);

pub(crate) fn clasp() -> Command {
    Command::new(env!("CARGO_BIN_EXE_clasp"))
}

/// Its exit code, and what it printed on both streams.
pub(crate) fn ended(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// A process that has said that it is there, and ends when it is told to.
pub(crate) struct Held {
    child: Child,
    input: Option<ChildStdin>,
}

impl Held {
    /// Starts a command that prints a line and then waits for its input to end, as
    /// `sh -c 'echo; cat'` does.
    pub(crate) fn start(command: &mut Command) -> Held {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        let input = child.stdin.take();
        Held { child, input }
    }

    /// `clasp lock` with these words before the file.
    pub(crate) fn lock(options: &[&str], file: &Path) -> Held {
        let mut command = clasp();
        command.arg("lock").args(options).arg(file);
        Held::start(command.args(["--", "sh", "-c", "echo held; exec cat"]))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it read a line, if it has not ended.
    pub(crate) fn write(&mut self, line: &str) {
        let _ = writeln!(self.input.as_mut().unwrap(), "{line}");
    }

    /// Has it end; answers its exit code.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.input = None;
        self.child.wait().unwrap().code()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.input = None;
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until something is so.
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < LIVENESS, "{what} does not happen");
        std::thread::yield_now();
    }
}
