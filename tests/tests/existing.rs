//! Existing code takes the locks: one program in C, built as a guest with `clasp-posix` and as
//! a native program with the kernel's own `fcntl` and `flock`, answers the same, alone and
//! beside each other.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

use clasp_tests::{Process, clasp, clasp_run, has_guest, target};
use std::{path::Path, process::Command};

/// What carries out the commands of `tests/guests/c/posix.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Guest,
    Native,
}

use Kind::{Guest, Native};

struct Actor {
    process: Process,
    root: String,
}

impl Actor {
    fn start(kind: Kind, directory: &Path) -> Actor {
        let (mut command, root) = match kind {
            Native => {
                let program = target().join("guests/c/posix");
                (Command::new(program), directory.display().to_string())
            }
            Guest => (clasp_run(directory, "/d", "posix"), "/d".to_owned()),
        };
        Actor {
            process: Process::start(&mut command),
            root,
        }
    }

    fn command(&self, command: &str) -> String {
        command.replace('@', &self.root)
    }

    fn ask(&mut self, command: &str) -> String {
        let command = self.command(command);
        self.process.ask(&command)
    }
}

/// Plays a script with each pair of a guest and a native program. A line is that of one of two
/// programs, `a` or `b`: a command and, after `=>`, the answer; `... ` before a command says
/// that it waits, and `a =>` that it then answers.
fn play(script: &str) {
    if !has_guest("posix") {
        return;
    }
    for kinds in [
        [Native, Native],
        [Guest, Native],
        [Native, Guest],
        [Guest, Guest],
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut actors = kinds.map(|kind| Actor::start(kind, directory.path()));
        for line in script
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            let (who, rest) = line.split_at(1);
            let actor = &mut actors[usize::from(who == "b")];
            let rest = rest.trim();
            if let Some(command) = rest.strip_prefix("... ") {
                let command = actor.command(command);
                actor.process.tell(&command);
                actor.process.must_block();
                continue;
            }
            let (command, expected) = rest.split_once("=>").expect("a line has an answer");
            let found = match command.trim() {
                "" => actor.process.answer(),
                command => actor.ask(command),
            };
            let of: Vec<_> = expected.trim().split(" or ").collect();
            assert!(of.contains(&found.as_str()), "{kinds:?}: {line}: {found}");
        }
    }
}

#[test]
fn locks_of_a_process_are_those_of_posix() {
    play(
        "a open 0 @/f rw => ok
         b open 0 @/f rw => ok
         a fcntl 0 setlk write set 0 10 => ok
         b fcntl 0 setlk read set 9 1 => EAGAIN
         b fcntl 0 setlk write set 10 0 => ok
         b fcntl 0 getlk read set 5 3 => write 0 10
         a fcntl 0 getlk write set 20 1 => write 10 0
         a fcntl 0 getlk write set 0 10 => free
         a fcntl 0 setlk read set 3 4 => ok
         b fcntl 0 setlk read set 4 1 => ok
         b fcntl 0 getlk write set 3 1 => read 3 4
         a fcntl 0 setlk write set 4 1 => EAGAIN
         a fcntl 0 setlk unlock set 0 3 => ok
         b fcntl 0 setlk write set 0 3 => ok
         b fcntl 0 setlk unlock set 0 0 => ok
         a fcntl 0 setlk write set 0 0 => ok
         b ... fcntl 0 setlkw read set 100 1
         a fcntl 0 setlk unlock set 100 1 => ok
         b => ok
         a fcntl 0 setlk write set 100 1 => EAGAIN
         b fcntl 0 setlk write set 99 1 => EAGAIN",
    );
}

#[test]
fn a_range_is_relative_to_the_offset_or_the_end() {
    play(
        "a open 0 @/f rw => ok
         b open 0 @/f rw => ok
         a size 0 100 => ok
         a seek 0 40 => ok
         a fcntl 0 setlk write cur 5 5 => ok
         b fcntl 0 getlk write set 0 0 => write 45 5
         a fcntl 0 setlk unlock set 0 0 => ok
         a fcntl 0 setlk write end -10 5 => ok
         b fcntl 0 getlk write set 0 0 => write 90 5
         a fcntl 0 setlk unlock set 0 0 => ok
         a fcntl 0 setlk write set 50 -20 => ok
         b fcntl 0 getlk write set 0 0 => write 30 20
         a fcntl 0 setlk write set -1 1 => EINVAL
         a fcntl 0 setlk write set 5 -6 => EINVAL
         a fcntl 0 setlk write cur 9223372036854775807 1 => EOVERFLOW
         a fcntl 0 setlk write set 9223372036854775807 2 => EOVERFLOW
         a fcntl 0 setlk write set 9223372036854775807 1 => ok
         b fcntl 0 getlk write set 100 0 => write 9223372036854775807 0",
    );
}

#[test]
fn a_lock_needs_a_descriptor_that_is_open_for_it() {
    play(
        "a open 0 @/f w => ok
         a open 1 @/f r => ok
         a getfl 0 => w
         a getfl 1 => r
         a fcntl 0 setlk read set 0 1 => EBADF
         a fcntl 1 setlk write set 0 1 => EBADF
         a fcntl 1 ofd-setlk write set 0 1 => EBADF
         a fcntl 1 setlk read set 0 1 => ok
         a fcntl 0 setlk write set 5 1 => ok
         a fcntl 1 setlk unlock set 5 1 => ok
         a flock 1 ex-nb => ok
         a fcntl 0 getlk unlock set 0 1 => EINVAL
         a close 0 => ok
         a close 0 => EBADF
         a fcntl 0 setlk write set 0 1 => EBADF
         a flock 0 ex => EBADF
         a lockf 0 lock 1 => EBADF",
    );
}

/// All descriptors of a file share the locks of the process, and closing one releases them.
#[test]
fn locks_of_a_process_are_shared_by_its_descriptors() {
    play(
        "a open 0 @/f rw => ok
         a open 1 @/f rw => ok
         b open 0 @/f rw => ok
         a fcntl 0 setlk write set 0 10 => ok
         a fcntl 1 setlk write set 5 10 => ok
         a fcntl 1 getlk write set 0 0 => free
         b fcntl 0 setlk read set 14 1 => EAGAIN
         a fcntl 1 setlk unlock set 0 5 => ok
         b fcntl 0 setlk read set 4 1 => ok
         a close 1 => ok
         b fcntl 0 setlk write set 0 0 => ok
         a fcntl 0 setlk write set 0 1 => EAGAIN
         b close 0 => ok
         a fcntl 0 setlk write set 0 1 => ok",
    );
}

#[test]
fn locks_of_a_description_belong_to_their_descriptor() {
    play(
        "a open 0 @/f rw => ok
         a open 1 @/f rw => ok
         b open 0 @/f rw => ok
         a fcntl 0 ofd-setlk write set 0 10 => ok
         a fcntl 1 ofd-setlk read set 0 1 => EAGAIN
         a fcntl 1 ofd-getlk read set 0 1 => write 0 10
         a fcntl 1 setlk read set 0 1 => EAGAIN
         b fcntl 0 ofd-setlk write set 10 1 => ok
         a close 1 => ok
         b fcntl 0 ofd-setlk read set 0 1 => EAGAIN
         b ... fcntl 0 ofd-setlkw read set 0 1
         a close 0 => ok
         b => ok",
    );
}

#[test]
fn lockf_locks_from_the_offset_on() {
    play(
        "a open 0 @/f rw => ok
         b open 0 @/f rw => ok
         a seek 0 10 => ok
         a lockf 0 try 5 => ok
         b lockf 0 test 10 => ok
         b lockf 0 test 11 => EACCES or EAGAIN
         b lockf 0 try 0 => EAGAIN or EACCES
         b seek 0 12 => ok
         b ... lockf 0 lock 1
         a lockf 0 unlock 0 => ok
         b => ok
         a lockf 0 test 0 => EACCES or EAGAIN
         a seek 0 12 => ok
         a lockf 0 try -2 => ok
         b seek 0 11 => ok
         b lockf 0 test 1 => EACCES or EAGAIN",
    );
}

#[test]
fn flock_is_apart_from_fcntl_and_of_the_description() {
    play(
        "a open 0 @/f rw => ok
         a open 1 @/f rw => ok
         b open 0 @/f rw => ok
         a flock 0 sh => ok
         b flock 0 sh-nb => ok
         a flock 1 ex-nb => EAGAIN
         b flock 0 un => ok
         a flock 0 ex-nb => ok
         a flock 1 sh-nb => EAGAIN
         b ... flock 0 ex
         a flock 0 un => ok
         b => ok
         a flock 0 sh-nb => EAGAIN
         b close 0 => ok
         a flock 0 sh-nb => ok
         a flock 0 un => ok
         a flock 0 un => ok
         b open 0 @/f rw => ok
         a fcntl 0 setlk write set 0 0 => ok
         b flock 0 ex-nb => ok
         a fcntl 1 ofd-setlk read set 0 0 => EAGAIN
         b fcntl 0 setlk read set 0 1 => EAGAIN",
    );
}

/// A lock goes with the file, not with the name.
#[test]
fn renamed_files_keep_their_locks() {
    play(
        "a open 0 @/f rw => ok
         a rename @/f @/g => ok
         a fcntl 0 setlk write set 0 1 => ok
         b open 0 @/g rw => ok
         b fcntl 0 setlk write set 0 1 => EAGAIN
         a rename @/g @/h => ok
         b fcntl 0 setlk write set 1 1 => EAGAIN or ok or ESTALE
         a unlink @/h => ok
         a fcntl 0 setlk read set 0 1 => ok
         b open 1 @/g rw => ok
         b fcntl 1 setlk write set 0 1 => ok",
    );
}

/// Whatever the file is called.
#[test]
fn flock_stays_with_its_file() {
    play(
        "a open 0 @/f rw => ok
         a flock 0 ex => ok
         a flock 0 un => ok
         a rename @/f @/g => ok
         a flock 0 sh-nb => ok
         a flock 0 ex-nb => ok
         b open 0 @/g rw => ok
         b flock 0 sh-nb => EAGAIN
         b open 1 @/f r => ENOENT
         b ... flock 0 sh
         a close 0 => ok
         b => ok",
    );
}

/// What a native program can do and a guest cannot, with its error.
#[test]
fn a_guest_says_what_it_cannot_lock() {
    if !has_guest("posix") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut guest = Actor::start(Guest, directory.path());
    // The file has no name any more, or another file has it.
    assert_eq!(guest.ask("open 0 @/f rw"), "ok");
    assert_eq!(guest.ask("unlink @/f"), "ok");
    assert_eq!(guest.ask("fcntl 0 setlk write set 0 1"), "ESTALE");
    assert_eq!(guest.ask("open 1 @/f rw"), "ok");
    assert_eq!(guest.ask("fcntl 0 setlk write set 0 1"), "ESTALE");
    assert_eq!(guest.ask("flock 0 ex"), "ESTALE");
    // Also if it was locked before. No file is created, and no other is locked.
    assert_eq!(guest.ask("open 3 @/g rw"), "ok");
    assert_eq!(guest.ask("flock 3 ex"), "ok");
    assert_eq!(guest.ask("flock 3 un"), "ok");
    assert_eq!(guest.ask("unlink @/g"), "ok");
    assert_eq!(guest.ask("flock 3 ex"), "ESTALE");
    assert_eq!(guest.ask("flock 3 ex-nb"), "EAGAIN");
    assert!(!directory.path().join("g").exists());
    assert_eq!(guest.ask("fcntl 1 setlk write set 0 1"), "ok");
    // It would wait for itself, for ever.
    assert_eq!(guest.ask("open 2 @/f rw"), "ok");
    assert_eq!(guest.ask("fcntl 2 ofd-setlkw write set 0 1"), "EDEADLK");
    assert_eq!(guest.ask("flock 2 ex"), "ok");
    assert_eq!(guest.ask("flock 1 ex"), "EDEADLK");

    let granted = format!("{}::/d", directory.path().display());
    let mut command = clasp();
    command
        .args(["run", "--dir", &granted])
        .arg(clasp_tests::guest("posix"));
    let mut guest = Actor {
        process: Process::start(&mut command),
        root: "/d".into(),
    };
    assert_eq!(guest.ask("open 0 @/f rw"), "ok");
    for command in [
        "fcntl 0 setlk write set 0 1",
        "flock 0 ex-nb",
        "lockf 0 try 0",
    ] {
        assert_eq!(guest.ask(command), "ENOTSUP", "{command}");
    }
}
