//! `clasp lock`, `clasp status` and `clasp clean` beside flock(1) and Python.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

mod common;

use common::{Held, clasp, ended, eventually};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let lock = directory.path().join("a.lock");
    (directory, lock)
}

fn lock(options: &[&str], file: &Path, command: &[&str]) -> (Option<i32>, String, String) {
    let mut all = clasp();
    all.arg("lock").args(options).arg(file).arg("--");
    ended(all.args(command))
}

/// Whether flock(1) would have to wait.
fn flock_waits(file: &Path) -> bool {
    let (code, _, _) = ended(Command::new("flock").arg("-n").arg(file).arg("true"));
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
    code == Some(1)
}

/// Whether `fcntl` would have to wait.
fn fcntl_waits(file: &Path) -> bool {
    let (code, _, _) = ended(
        Command::new("flock")
            .args(["--fcntl", "-n"])
            .arg(file)
            .arg("true"),
    );
    if code == Some(64) {
        // An older flock(1) has no such option.
        let python = "import fcntl,sys\nf=open(sys.argv[1],'a')\n\
                      try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
                      except OSError: sys.exit(1)";
        let (code, _, text) = ended(Command::new("python3").args(["-c", python]).arg(file));
        assert!(matches!(code, Some(0 | 1)), "{text}");
        return code == Some(1);
    }
    code == Some(1)
}

fn status(path: &Path) -> Value {
    let (code, out, text) = ended(clasp().args(["status", "--json"]).arg(path));
    assert_eq!(code, Some(0), "{text}");
    serde_json::from_str(&out).unwrap()
}

/// The process ids of a list in the report about one file.
fn ids(report: &Value, list: &str) -> Vec<u64> {
    let of = |entry: &Value| entry["process"]["pid"].as_u64();
    let list = report["files"][0][list].as_array().unwrap();
    let mut ids: Vec<u64> = list.iter().filter_map(of).collect();
    ids.dedup();
    ids
}

#[test]
fn a_command_runs_under_the_lock_and_its_code_is_passed_on() {
    let (_directory, file) = directory();
    assert_eq!(lock(&[], &file, &["echo", "ran"]).1, "ran\n");
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
        assert_eq!(lock(&[], &file, &["sh", "-c", script]).0, Some(code));
    }
    let mut shell = clasp();
    shell.arg("lock").arg(&file).args(["-c", "exit 9"]);
    assert_eq!(ended(&mut shell).0, Some(9));
    let (code, _, text) = lock(&[], &file, &["no-such-command"]);
    assert_eq!(code, Some(69));
    assert!(text.contains("no-such-command"), "{text}");
    let (code, _, text) = lock(&[], &file.join("x"), &["true"]);
    assert_eq!(code, Some(66), "{text}");
    let (_, _, told) = lock(&["--verbose"], &file, &["true"]);
    assert!(told.contains("getting the lock took"), "{told}");
}

#[test]
fn both_families_are_excluded_by_default() {
    let (_directory, file) = directory();
    for (options, by_flock, by_fcntl) in [
        (&[][..], true, true),
        (&["--family", "flock"], true, false),
        (&["--family", "posix"], false, true),
    ] {
        let held = Held::lock(options, &file);
        assert_eq!(flock_waits(&file), by_flock, "{options:?}");
        assert_eq!(fcntl_waits(&file), by_fcntl, "{options:?}");
        assert_eq!(held.end(), Some(0));
        assert!(!flock_waits(&file) && !fcntl_waits(&file));
    }
}

#[test]
fn a_lock_that_is_taken_is_told_with_its_holder() {
    let (_directory, file) = directory();
    let held = Held::lock(&["--shared"], &file);
    assert_eq!(lock(&["-s", "-n"], &file, &["true"]).0, Some(0));
    assert_eq!(lock(&["-n"], &file, &["true"]).0, Some(1));
    assert_eq!(lock(&["-n", "-E", "9"], &file, &["true"]).0, Some(9));
    let (code, _, text) = lock(&["--verbose", "-w", "0.05"], &file, &["true"]);
    assert_eq!(code, Some(1));
    let holder = format!("held by {}", held.id());
    assert!(text.contains(&holder), "{text}");
    assert!(text.contains("is locked by others"), "{text}");
    assert_eq!(held.end(), Some(0));
}

#[test]
fn a_directory_is_locked_with_flock() {
    let (directory, _) = directory();
    let held = Held::lock(&[], directory.path());
    assert!(flock_waits(directory.path()));
    assert_eq!(held.end(), Some(0));
    assert!(!flock_waits(directory.path()));
}

#[test]
fn the_lock_is_inherited_only_if_asked() {
    let (directory, file) = directory();
    let script = "(echo; exec cat) < $0 > $1 & echo held; exec cat";
    for (options, inherited) in [(&[][..], false), (&["--inherit"], true), (&["-F"], true)] {
        // A process that the command leaves behind: it ends when the pipe is written to.
        let (pipe, said) = (directory.path().join("pipe"), directory.path().join("said"));
        let _ = fs::remove_file(&pipe);
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let mut command = clasp();
        command.arg("lock").args(options).arg(&file);
        command
            .args(["--", "sh", "-c", script])
            .args([&pipe, &said]);
        let held = Held::start(&mut command);
        assert!(flock_waits(&file));
        assert_eq!(held.end(), Some(0));
        assert_eq!(flock_waits(&file), inherited, "{options:?}");
        fs::write(&pipe, "").unwrap();
        eventually("the end of the process that was left behind", || {
            !flock_waits(&file)
        });
    }
}

#[test]
fn a_signal_is_passed_on_and_ends_the_command() {
    let (_directory, file) = directory();
    let script = "trap 'exit 5' TERM; echo held; while :; do read x || :; done";
    let mut command = clasp();
    command.arg("lock").arg(&file);
    let mut held = Held::start(command.args(["--", "sh", "-c", script]));
    let kill = |signal: &str, id: u32| {
        let status = Command::new("kill")
            .args([signal, &id.to_string()])
            .status();
        assert!(status.unwrap().success());
    };
    kill("-TERM", held.id());
    // It looks at the signal when it has read a line.
    held.write("");
    assert_eq!(held.end(), Some(5));
    assert!(!flock_waits(&file));
}

#[test]
fn status_lists_holders_the_queue_and_others_that_wait() {
    let (directory, file) = directory();
    assert_eq!(
        status(&file_at(&file))["files"][0]["holders"],
        Value::Array(vec![])
    );
    let held = Held::lock(&[], &file);
    let wait = |options: &[&str]| {
        let mut command = clasp();
        command.arg("lock").args(options).arg(&file).arg("true");
        command.spawn().unwrap()
    };
    let mut first = wait(&[]);
    eventually("the first in the queue", || {
        ids(&status(&file), "queue").len() == 1
    });
    let mut second = wait(&["-s"]);
    eventually("the second", || ids(&status(&file), "queue").len() == 2);
    let mut foreign = Command::new("flock")
        .arg(&file)
        .arg("true")
        .spawn()
        .unwrap();
    eventually("the foreign one", || {
        !ids(&status(&file), "waiters").is_empty()
    });

    let report = status(&file);
    let id = |child: &std::process::Child| u64::from(child.id());
    assert_eq!(ids(&report, "holders"), [u64::from(held.id())]);
    assert_eq!(ids(&report, "queue"), [id(&first), id(&second)]);
    assert_eq!(ids(&report, "waiters"), [id(&foreign)]);
    let queue = &report["files"][0]["queue"];
    assert_eq!(queue[0]["mode"], "exclusive");
    assert_eq!(queue[1]["mode"], "shared");

    // In words, for its directory.
    fs::write(directory.path().join("other"), "").unwrap();
    let (_, text, _) = ended(clasp().arg("status").arg(directory.path()));
    for words in [
        "a.lock",
        "held",
        "queue 1",
        "queue 2",
        "waits",
        "clasp lock",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("other"), "{text}");
    assert_eq!(held.end(), Some(0));
    for child in [&mut first, &mut second, &mut foreign] {
        assert!(child.wait().unwrap().success());
    }
    assert!(ids(&status(&file), "queue").is_empty());
}

/// What follows the file is the command, whatever it looks like.
#[test]
fn options_after_the_file_are_those_of_the_command() {
    let (_directory, file) = directory();
    let (code, out, _) = lock(&[], &file, &["echo", "-n", "--verbose", "x"]);
    assert_eq!((code, &*out), (Some(0), "--verbose x"));
    let mut command = clasp();
    command
        .arg("lock")
        .arg(&file)
        .args(["-c", "echo a; exit 3"]);
    let (code, out, _) = ended(&mut command);
    assert_eq!((code, &*out), (Some(3), "a\n"));
    // As with flock(1), the last of several options counts.
    let options = ["-n", "-n", "-s", "-x", "-w", "5", "-w", "1"];
    let (code, _, text) = lock(&options, &file, &["true"]);
    assert_eq!(code, Some(0), "{text}");
}

/// A host that is suspended in line holds nothing.
#[test]
fn a_try_does_not_fail_because_a_waiter_is_suspended() {
    let (_directory, file) = directory();
    let held = Held::lock(&[], &file);
    let mut command = clasp();
    let mut waiting = command.arg("lock").arg(&file).arg("true").spawn().unwrap();
    eventually("the other in the queue", || {
        ids(&status(&file), "queue") == [u64::from(waiting.id())]
    });
    let pid = rustix::process::Pid::from_child(&waiting);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    // Until it has stopped, it could still get the lock.
    eventually("the waiter to stop", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", waiting.id())).unwrap();
        tasks.flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap();
            stat.contains(") T ")
        })
    });
    assert_eq!(held.end(), Some(0));
    let mut tried = Vec::new();
    for options in [&["-n"][..], &["-w", "0"]] {
        let (code, _, text) = lock(options, &file, &["true"]);
        tried.push((options, code, text));
    }
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(waiting.wait().unwrap().success());
    for (options, code, text) in tried {
        assert_eq!(code, Some(0), "{options:?}: {text}");
    }
}

/// Otherwise the lock would be free while the command still runs.
#[test]
fn signals_that_end_a_process_are_passed_on() {
    use rustix::process::{Signal, kill_process};

    for (signal, name) in [
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::ALARM, "ALRM"),
        (Signal::INT, "INT"),
    ] {
        // A shell starts jobs in the background with SIGINT and SIGQUIT ignored, and a test run
        // may be one.
        if is_ignored(signal) {
            eprintln!("SIG{name} is ignored in this test run: not tested");
            continue;
        }
        let (_directory, file) = directory();
        let script = format!("trap 'exit 7' {name}; echo held; while :; do read x || :; done");
        let mut command = clasp();
        command
            .arg("lock")
            .arg(&file)
            .args(["--", "sh", "-c", &script]);
        // Not in the foreground of a terminal, in which the test may run.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut held = Held::start(&mut command);
        kill_process(pid_of(&held), signal).unwrap();
        // A shell runs the trap once the line that it reads has come.
        held.write("go");
        assert_eq!(held.end(), Some(7), "{name}");
    }
}

fn is_ignored(signal: rustix::process::Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask >> (signal.as_raw() - 1) & 1 == 1
}

fn pid_of(held: &Held) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(held.id() as i32).unwrap()
}

/// nohup(1) has a program ignore SIGHUP, and the program's children as well.
#[test]
fn ignored_signals_stay_ignored_in_the_command() {
    let (_directory, file) = directory();
    let script = "trap '' HUP INT; \"$0\" lock \"$1\" -- grep SigIgn /proc/self/status";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_clasp")]);
    let (code, out, text) = ended(command.arg(&file));
    assert_eq!(code, Some(0), "{text}");
    let mask = out.trim().strip_prefix("SigIgn:").unwrap().trim();
    let mask = u64::from_str_radix(mask, 16).unwrap();
    // SIGHUP is 1 and SIGINT 2.
    assert_eq!(mask & 0b11, 0b11, "{out}");
}

#[test]
fn a_blocked_sigchld_does_not_keep_the_lock() {
    let (_directory, file) = directory();
    let script = "import os, signal, sys\n\
                  signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])\n\
                  os.execv(sys.argv[1], sys.argv[1:])";
    let mut command = Command::new("python3");
    command.args(["-c", script, env!("CARGO_BIN_EXE_clasp"), "lock"]);
    let (code, _, text) = ended(command.arg(&file).args(["sh", "-c", "exit 5"]));
    assert_eq!(code, Some(5), "{text}");
}

/// The idiom of the manual page of flock(1): a script that locks itself. Linux executes no
/// file that is open for writing.
#[test]
fn a_script_can_lock_itself() {
    use std::os::unix::fs::PermissionsExt;

    let (directory, _) = directory();
    let script = directory.path().join("self.sh");
    let text = "#!/bin/sh\n[ \"$LOCKED\" ] || \
                exec env LOCKED=1 CLASP lock -n \"$0\" \"$0\"\necho ran\n";
    fs::write(&script, text.replace("CLASP", env!("CARGO_BIN_EXE_clasp"))).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (code, out, text) = ended(&mut Command::new(&script));
    assert_eq!((code, &*out), (Some(0), "ran\n"), "{text}");
}

#[test]
fn a_link_is_followed_and_a_directory_must_exist() {
    let (directory, file) = directory();
    file_at(&file);
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let link = inner.join("link.lock");
    std::os::unix::fs::symlink("../a.lock", &link).unwrap();
    let held = Held::lock(&[], &file);
    assert_eq!(lock(&["-n"], &link, &["true"]).0, Some(1));
    held.end();
    assert_eq!(lock(&["-n"], &link, &["true"]).0, Some(0));
    let slash = directory.path().join("new/");
    let (code, _, text) = lock(&["-n"], &slash, &["true"]);
    assert_eq!(code, Some(71), "{text}");
    assert!(!directory.path().join("new").exists());
}

/// A message that cannot be written does not keep the command from running.
#[test]
fn a_full_standard_error_does_not_matter() {
    let (_directory, file) = directory();
    let script = "\"$0\" lock --verbose \"$1\" -- echo ran 2>/dev/full";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_clasp")]);
    let (code, out, _) = ended(command.arg(&file));
    assert_eq!((code, &*out), (Some(0), "ran\n"));
}

/// The shell keeps the lock that flock(1) has taken for it.
#[test]
fn a_lock_that_was_inherited_has_one_holder() {
    let (_directory, file) = directory();
    let mut command = Command::new("bash");
    command.args(["-c", "exec 9>\"$0\"; flock 9; echo held; read line"]);
    let held = Held::start(command.arg(&file));
    let report = status(&file);
    assert_eq!(ids(&report, "holders"), [u64::from(held.id())]);
    let holders = report["files"][0]["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1, "{report}");
    held.end();
}

#[test]
fn status_reports_what_is_missing_and_names_that_are_not_text() {
    use std::os::unix::ffi::OsStrExt;

    let (directory, file) = directory();
    file_at(&file);
    let missing = directory.path().join("missing");
    let (code, out, text) = ended(clasp().arg("status").arg(&file).arg(&missing));
    assert_eq!(code, Some(1));
    assert!(out.contains("a.lock"), "{out}");
    assert!(text.contains("missing does not exist"), "{text}");

    let name = std::ffi::OsStr::from_bytes(b"\xff\n.lock");
    let odd = directory.path().join(name);
    let mut command = Command::new("flock");
    command.arg(&odd).args(["sh", "-c", "echo held; exec cat"]);
    let held = Held::start(&mut command);
    let report = status(directory.path());
    assert!(ids(&report, "holders").contains(&u64::from(held.id())));
    let (_, out, _) = ended(clasp().arg("status").arg(directory.path()));
    assert!(out.contains("\\n.lock"), "{out}");
    held.end();
}

/// Each look is a line of JSON, and the next one shows what has changed.
#[test]
fn watching_reports_what_changes() {
    use std::io::{BufRead, BufReader};

    let (_directory, file) = directory();
    let held = Held::lock(&[], &file);
    let mut command = clasp();
    command.args(["status", "--json", "--watch"]).arg(&file);
    let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
    let looks = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut looks = looks.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let id = u64::from(held.id());
    assert_eq!(ids(&looks.next().unwrap(), "holders"), [id]);
    held.end();
    assert!(looks.any(|report| ids(&report, "holders").is_empty()));
    // Nothing reads it any more, so it ends by itself.
    drop(looks);
    assert!(watching.wait().unwrap().success());
}

/// Each user has an order directory of its own.
#[test]
fn root_sees_the_queues_of_other_users() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};

    let nobody = 65534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can start a process of another user: not tested");
        return;
    }
    let (directory, file) = directory();
    file_at(&file);
    // The build directory may be one that others cannot read.
    let program = directory.path().join("clasp");
    fs::copy(env!("CARGO_BIN_EXE_clasp"), &program).unwrap();
    for (path, mode) in [(directory.path(), 0o755), (&file, 0o666), (&program, 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let held = Held::lock(&[], &file);
    let mut command = Command::new(&program);
    command.uid(nobody).gid(nobody).arg("lock");
    let mut waiting = command.arg(&file).arg("true").spawn().unwrap();
    eventually("the process of the other user in the queue", || {
        ids(&status(&file), "queue") == [u64::from(waiting.id())]
    });
    held.end();
    assert!(waiting.wait().unwrap().success());
}

/// The file, created.
fn file_at(path: &Path) -> PathBuf {
    fs::write(path, "").unwrap();
    path.to_owned()
}

#[test]
fn clean_removes_free_files_and_keeps_the_others() {
    let (directory, _) = directory();
    let at = |name: &str| directory.path().join(name);
    for name in ["free.lock", "busy.lock", "open.lock", "readme"] {
        fs::write(at(name), "").unwrap();
    }
    fs::write(at("data.lock"), "data").unwrap();
    let busy = Held::lock(&[], &at("busy.lock"));
    let open = Held::start(
        Command::new("sh")
            .args(["-c", "exec 9<\"$0\"; echo held; exec cat"])
            .arg(at("open.lock")),
    );
    let clean = |options: &[&str]| {
        let (code, out, text) = ended(clasp().arg("clean").args(options).arg(directory.path()));
        assert_eq!(code, Some(0), "{text}");
        out
    };
    assert!(clean(&["--dry-run"]).contains("would remove"));
    assert!(at("free.lock").exists());
    let out = clean(&[]);
    assert!(out.contains("1 removed, 3 kept"), "{out}");
    assert!(out.contains(&format!("open in {}", open.id())), "{out}");
    assert!(!at("free.lock").exists());
    for name in ["busy.lock", "open.lock", "data.lock", "readme"] {
        assert!(at(name).exists(), "{name}");
    }
    drop((busy, open));
    clean(&["--not-empty", "--pattern", "data.*"]);
    assert!(!at("data.lock").exists() && at("busy.lock").exists());
    let (code, _, text) = ended(clasp().arg("clean").arg(at("readme")));
    assert_eq!(code, Some(1), "{text}");
}

/// Requests that wait while files are removed go on with the file that is there then.
/// Each for a reason that is printed; the others are removed all the same.
#[test]
fn clean_keeps_what_is_in_use_or_keeps_a_state() {
    let (directory, file) = directory();
    let at = |name: &str| file_at(&directory.path().join(name));
    at("free.lock");
    at("linked.lock");
    fs::hard_link(
        directory.path().join("linked.lock"),
        directory.path().join("other-name"),
    )
    .unwrap();
    // A job has run.
    let touched = fs::File::open(at("job.lock")).unwrap();
    let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    touched.set_modified(an_hour_ago).unwrap();
    drop(touched);
    // A program holds it at one moment, and waits for it at the next.
    let script = "import fcntl, sys\n\
                  f = open(sys.argv[1], 'a')\n\
                  fcntl.lockf(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_UN)\n\
                  print('held', flush=True); sys.stdin.read()";
    let mut command = Command::new("python3");
    let held = Held::start(command.args(["-c", script]).arg(file_at(&file)));

    let (code, out, text) = ended(clasp().arg("clean").arg(directory.path()));
    assert_eq!(code, Some(0), "{text}");
    for (name, why) in [
        ("a.lock", "open in"),
        ("job.lock", "time of a job"),
        ("linked.lock", "hard link"),
    ] {
        let line = out.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.starts_with("kept") && line.contains(why), "{line}");
        assert!(directory.path().join(name).exists());
    }
    assert!(!directory.path().join("free.lock").exists(), "{out}");
    held.end();
    ended(clasp().args(["clean", "--state"]).arg(directory.path()));
    assert!(!directory.path().join("job.lock").exists());
}

#[test]
fn clean_splits_no_lock_among_hosts() {
    let (directory, file) = directory();
    let count = directory.path().join("count");
    fs::write(&count, "0").unwrap();
    let script = "n=$(cat $0); echo $((n + 1)) > $0";
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (file, count) = (file.clone(), count.clone());
            std::thread::spawn(move || {
                for _ in 0..40 {
                    let path = count.to_str().unwrap();
                    assert_eq!(lock(&[], &file, &["sh", "-c", script, path]).0, Some(0));
                }
            })
        })
        .collect();
    while !workers.iter().all(std::thread::JoinHandle::is_finished) {
        ended(clasp().args(["clean", "--open"]).arg(directory.path()));
    }
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(fs::read_to_string(&count).unwrap().trim(), "120");
}

#[test]
fn at_most_so_many_commands_have_permits() {
    let (_directory, file) = directory();
    let permits = ["--permits", "3"];
    let show = ["sh", "-c", "echo $CLASP_PERMIT"];
    let one = Held::lock(&permits, &file);
    let show_two = [&permits[..], &["--count", "2"]].concat();
    assert_eq!(lock(&show_two, &file, &show).1, "1 2\n");
    let two = Held::lock(&show_two, &file);
    let (code, _, told) = lock(
        &[&permits[..], &["-n", "--verbose"]].concat(),
        &file,
        &["true"],
    );
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("too few free permits"), "{told}");
    assert_eq!(
        lock(&[&permits[..], &["-w", "0.05"]].concat(), &file, &show).0,
        Some(1)
    );

    // A command that is killed gives its permit back.
    let mut waits = clasp();
    waits.arg("lock").args(permits).arg("--verbose").arg(&file);
    let waits = waits
        .args(["--", "sh", "-c", "echo $CLASP_PERMIT"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("a wait", || {
        ids(&status(&file), "queue") == [u64::from(waits.id())]
    });
    let report = status(&file);
    let holders = report["files"][0]["holders"].as_array().unwrap().iter();
    let mut bytes: Vec<_> = holders.map(|hold| [&hold["start"], &hold["end"]]).collect();
    bytes.sort_unstable_by_key(|[start, _]| start.as_u64());
    assert_eq!(bytes, [[0, 0], [1, 2]]);
    let (_, text, _) = ended(clasp().arg("status").arg(&file));
    assert!(text.contains("byte 0)"), "{text}");
    drop(two);
    let output = waits.wait_with_output().unwrap();
    let (out, told) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(["1\n", "2\n"].contains(&out.as_str()), "{out}");
    assert!(
        told.contains("waiting for a permit of the semaphore"),
        "{told}"
    );
    assert!(told.contains("getting permit"), "{told}");
    assert_eq!(one.end(), Some(0));
}

#[test]
fn wrong_numbers_of_permits_are_told() {
    let (_directory, file) = directory();
    for (options, told) in [
        (&["--permits", "0"][..], "1..=64"),
        (&["--permits", "65"], "1..=64"),
        (&["--count", "2"], "--permits"),
        (&["--permits", "2", "--count", "3"], "--count 3 is more"),
        (&["--permits", "2", "--count", "0"], "1..=64"),
        (&["--permits", "2", "--shared"], "--shared"),
        (&["--permits", "2", "--no-fork"], "--no-fork"),
        (&["--permits", "2", "--family", "flock"], "--family"),
    ] {
        let (code, _, text) = lock(options, &file, &["true"]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(told), "{text}");
    }
    assert!(!file.exists());
}
