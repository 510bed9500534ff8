//! A directory for the order that two users share, and that is removed while hosts
//! run. The directory is chosen once in a process, so this is the one test of this
//! program; its other hosts are processes of their own.
#![cfg(all(feature = "conformance", target_os = "linux"))]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Ceilings, Grant, Limits, LockManager, Mode,
    file::{FileSpace, set_order_directory},
    testing::{TestLine, conformance::LIVENESS_TIMEOUT, native},
};
use std::{
    fs::{self, File, Permissions},
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

/// Names the directory with the lock and the one of the order for a child.
const CHILD: &str = "CLASP_ORDER_CHILD";

fn grant(directory: &Path) -> Grant {
    let dir = Dir::open_ambient_dir(directory, ambient_authority()).unwrap();
    Grant::new(FileSpace::new(dir).into_space())
}

/// Another host: it waits for the lock.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    set_order_directory(directory.join("order")).unwrap();
    let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
    let lock = owner
        .open(&grant(&directory.join("locks")), "a.lock")
        .unwrap();
    let guard = lock.acquire_blocking(Mode::Exclusive, None).unwrap();
    // The file may be another user's.
    guard.touch().unwrap();
    println!("granted");
}

struct Host(Child);

impl Host {
    fn start(program: &Path, directory: &Path, user: Option<u32>) -> Host {
        let mut command = Command::new(program);
        command.args(["--exact", "child", "--nocapture"]);
        command.env(CHILD, directory).stdout(Stdio::piped());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        Host(command.spawn().unwrap())
    }

    fn ends_granted(mut self) -> bool {
        let output = self.0.stdout.take().unwrap();
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.any(|line| line.contains("granted")) && self.0.wait().unwrap().success()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn comes_into_line(line: &TestLine) {
    let begun = Instant::now();
    while !line.is_waited_for(Mode::Exclusive) {
        assert!(begun.elapsed() < LIVENESS_TIMEOUT, "it is not seen in line");
        std::thread::yield_now();
    }
}

#[test]
fn users_share_an_order_and_find_its_directory_again() {
    let directory = tempfile::tempdir().unwrap();
    let (order, locks) = (
        directory.path().join("order"),
        directory.path().join("locks"),
    );
    let open_to_all = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o777));
    for path in [&order, &locks] {
        fs::create_dir(path).unwrap();
        open_to_all(path).unwrap();
    }
    open_to_all(directory.path()).unwrap();
    // Where all users may write, as in /tmp, no user may remove what is another's.
    fs::set_permissions(&order, Permissions::from_mode(0o1777)).unwrap();
    set_order_directory(&order).unwrap();

    let owner = LockManager::new(Ceilings::default()).owner(Limits::default());
    let lock = owner.open(&grant(&locks), "a.lock").unwrap();
    let path = locks.join("a.lock");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let line = native::line(&File::open(&path).unwrap()).unwrap();
    let guard = lock.acquire_blocking(Mode::Exclusive, None).unwrap();

    // A host of another user, whose program this one has to be able to start.
    let program = directory.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let root = rustix::process::geteuid().is_root();
    let host = Host::start(&program, directory.path(), root.then_some(65_534));
    comes_into_line(&line);
    drop(guard);
    assert!(host.ends_granted());

    // As systemd-logind does with /dev/shm when a user logs out.
    fs::remove_dir_all(&order).unwrap();
    fs::create_dir(&order).unwrap();
    open_to_all(&order).unwrap();
    let guard = lock.acquire_blocking(Mode::Exclusive, None).unwrap();
    let host = Host::start(&program, directory.path(), None);
    comes_into_line(&line);
    drop(guard);
    assert!(host.ends_granted());
}
