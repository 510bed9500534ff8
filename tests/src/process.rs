//! Hosts in processes of their own, and native opponents.

use crate::{
    actor::{guest, where_guest_is},
    built::target,
};
use clasp_engine::testing::conformance::{LIVENESS_TIMEOUT, STILL_BLOCKED};
use std::{
    env::consts::EXE_SUFFIX,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
};

/// A process that is told a line and answers one.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    answers: mpsc::Receiver<String>,
}

impl Process {
    /// A host with the actor guest, which has `directory` as `data`. Its commands
    /// are in `src/bin/host.rs`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn host(program: &str, directory: &Path, options: &[&str]) -> Process {
        Process::start(Command::new(program).arg(directory).args(options))
    }

    /// A Python with fasteners. Its commands are in `src/opponent.py`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn fasteners(lock: &Path) -> Process {
        let mut command = Command::new(python());
        command.args(["-u", "-c", include_str!("opponent.py")]);
        Process::start(command.arg(lock))
    }

    /// A program of the caller's own.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = child.stdout.take().expect("piped");
        let (send, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Process {
            input: child.stdin.take(),
            child,
            answers,
        }
    }

    /// Tells it something.
    ///
    /// # Panics
    /// If it has ended.
    pub fn tell(&mut self, command: &str) {
        let input = self.input.as_mut().expect("its input was not ended");
        writeln!(input, "{command}").expect("the process lives");
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// Its next answer.
    ///
    /// # Panics
    /// If there is none in time.
    pub fn answer(&mut self) -> String {
        self.answers
            .recv_timeout(LIVENESS_TIMEOUT)
            .expect("no answer")
    }

    /// Gives it the time not to block.
    ///
    /// # Panics
    /// If it answers.
    pub fn must_block(&mut self) {
        if let Ok(answer) = self.answers.recv_timeout(STILL_BLOCKED) {
            panic!("did not block: {answer}");
        }
    }

    /// Tells it something and gives its answer.
    ///
    /// # Panics
    /// As [`tell`](Self::tell) and [`answer`](Self::answer).
    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL; what it has answered and nobody has asked for.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("a process of ours");
        self.answers.iter().collect()
    }

    /// Waits until it has ended by itself; what it has answered and nobody has asked for.
    ///
    /// # Panics
    /// If it has failed.
    pub fn finish(mut self) -> Vec<String> {
        self.input = None;
        let answers = self.answers.iter().collect();
        assert!(self.child.wait().expect("a process of ours").success());
        answers
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that holds a lock while it runs: flock(1) and the like.
#[derive(Debug)]
pub struct Opponent(Process);

impl Opponent {
    /// Starts `flock(1)` with options; it holds its lock when this returns.
    ///
    /// # Panics
    /// If it does not get the lock.
    pub fn flock(options: &[&str], file: &Path) -> Opponent {
        let mut command = Command::new("flock");
        command.args(options).arg(file);
        command.args(["sh", "-c", "echo held; read line"]);
        let mut process = Process::start(&mut command);
        assert_eq!(process.answer(), "held");
        Opponent(process)
    }

    /// Ends it; its lock is free when this returns.
    ///
    /// # Panics
    /// If it does not end.
    pub fn release(mut self) {
        self.0.tell("go");
        self.0.child.wait().expect("it ends");
    }
}

/// The Python with fasteners that `cargo xtask test` has set up.
///
/// # Panics
/// If there is none.
pub fn python() -> PathBuf {
    let home = std::env::var_os("HOME").expect("HOME is set");
    let python = Path::new(&home).join(".cache/clasp/python/bin/python");
    assert!(
        python.is_file(),
        "{} is missing: run `cargo xtask test`, which needs python3 with venv",
        python.display()
    );
    python
}

/// `clasp run` of a guest that has a directory under a path, for files and for locks, and no
/// other option.
///
/// # Panics
/// If one of the two is not built.
pub fn clasp_run(directory: &Path, path: &str, name: &str) -> Command {
    let granted = format!("{}::{path}", directory.display());
    let mut command = clasp();
    command.args(["run", "--dir", &granted, "--locks", &granted]);
    command.arg(guest(name));
    command
}

/// Whether a guest is built whose compiler not every machine has; says so if it is not.
///
/// # Panics
/// If it is not built in CI, which has the compilers.
pub fn has_guest(name: &str) -> bool {
    let there = where_guest_is(name).is_file();
    if !there {
        let why = format!("the guest {name} is not built: its test is not run");
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("{why}");
    }
    there
}

/// The command `clasp`, as `cargo build` or `cargo test` of the workspace left
/// it.
///
/// # Panics
/// If it is not built.
pub fn clasp() -> Command {
    let profile = std::env::current_exe().expect("the path of this program");
    let clasp = profile
        .ancestors()
        .map(|directory| directory.join(format!("clasp{EXE_SUFFIX}")))
        .find(|clasp| clasp.is_file())
        .unwrap_or_else(|| {
            panic!(
                "clasp is not built below {}: run `cargo xtask test`",
                target().display()
            )
        });
    Command::new(clasp)
}
