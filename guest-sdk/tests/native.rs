//! The SDK on the developer's machine, over the engine.
#![cfg(all(not(target_family = "wasm"), feature = "native"))]
#![allow(missing_docs, reason = "tests")]

use clasp_guest::{
    ErrorKind, InterProcessLock, InterProcessReaderWriterLock, InterProcessSemaphore, LockedFile,
    Periodic, interprocess_limited, interprocess_locked,
};
use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};

#[test]
fn a_thread_waits_for_another_and_not_for_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lock");
    let lock = InterProcessLock::new(&path).unwrap();
    let guard = lock.acquire().unwrap();
    assert_eq!(lock.acquire().unwrap_err().kind(), ErrorKind::Deadlock);
    assert!(lock.try_acquire().unwrap().is_none());
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let other = scope.spawn({
            let lock = &lock;
            move || {
                let error = lock.acquire_timeout(Duration::ZERO).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout);
                send.send(()).unwrap();
                // It outlives its thread.
                lock.acquire().unwrap()
            }
        });
        receive.recv().unwrap();
        guard.release().unwrap();
        let guard = other.join().unwrap();
        guard.check().unwrap();
        assert!(lock.try_acquire().unwrap().is_none());
    });
    assert!(lock.try_acquire().unwrap().is_some());
}

#[test]
fn guards_convert_and_tokens_increase() {
    let directory = tempfile::tempdir().unwrap();
    let lock = InterProcessReaderWriterLock::new(directory.path().join("a.lock")).unwrap();
    let writing = lock.write().unwrap();
    let first = writing.fencing_token();
    let reading = writing.downgrade().unwrap();
    let beside = lock.try_read().unwrap().unwrap();
    let refused = reading.try_upgrade().unwrap_err();
    assert!(refused.error().is_none(), "{refused}");
    drop(beside);
    let writing = refused.into_guard().try_upgrade().unwrap();
    assert!(lock.try_read().unwrap().is_none());
    match (first, writing.fencing_token()) {
        (Ok(first), Ok(second)) => assert!(second > first),
        (first, second) => {
            // Not every file system has attributes.
            for error in [first.unwrap_err(), second.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
            }
        }
    }
    writing.release().unwrap();
    assert_eq!(
        lock.with_read(|| 1).unwrap() + lock.with_write(|| 2).unwrap(),
        3
    );
}

#[test]
fn errors_have_kinds_and_name_their_lock() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("dir")).unwrap();
    for (name, kind) in [
        ("dir", ErrorKind::IsDirectory),
        ("missing/a", ErrorKind::NoEntry),
        ("dir/../a", ErrorKind::InvalidName),
    ] {
        let path = directory.path().join(name);
        let error = InterProcessLock::new(&path).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(Path::new(error.lock()), path);
        // What a program prints whose `main` returns it.
        assert_eq!(format!("{error:?}"), error.to_string());
        assert!(
            error
                .to_string()
                .contains(name.split('/').next_back().unwrap())
        );
    }
    assert_eq!(
        InterProcessLock::new("").unwrap_err().kind(),
        ErrorKind::InvalidName
    );
    let deep = directory.path().join("new/and/deep/a.lock");
    let lock = InterProcessLock::create_dirs(&deep).unwrap();
    lock.with(|| assert!(deep.exists())).unwrap();
    let error = InterProcessLock::create_dirs(deep.join("b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoEntry, "{error}");
}

#[test]
fn a_refused_conversion_is_an_error_of_the_crate_as_well() {
    fn upgrade(path: &Path) -> Result<(), clasp_guest::Error> {
        let lock = InterProcessReaderWriterLock::new(path)?;
        let (one, other) = (lock.read()?, lock.read()?);
        drop(one.try_upgrade()?);
        drop(other);
        Ok(())
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lock");
    let error = upgrade(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(Path::new(error.lock()), path);
}

#[test]
fn a_file_that_was_replaced_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lock");
    let lock = InterProcessLock::new(&path).unwrap();
    let guard = lock.acquire().unwrap();
    fs::rename(&path, directory.path().join("old")).unwrap();
    File::create(&path).unwrap();
    assert_eq!(guard.check().unwrap_err().kind(), ErrorKind::Replaced);
    assert_eq!(guard.release().unwrap_err().kind(), ErrorKind::Replaced);
    lock.acquire().unwrap().release().unwrap();
}

// On Windows a locked byte cannot be read by another handle.
#[cfg(unix)]
#[test]
fn threads_count_in_a_locked_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("count");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut file = LockedFile::open(&path).unwrap();
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    let count: u32 = text.parse().unwrap_or(0);
                    file.rewind().unwrap();
                    write!(file, "{}", count + 1).unwrap();
                }
            });
        }
    });
    let mut file = LockedFile::open_shared(&path).unwrap();
    let error = LockedFile::open_timeout(&path, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "200");
    file.close().unwrap();
}

#[test]
fn a_job_runs_at_most_once_per_interval() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("job.lock");
    let hour = Duration::from_secs(3600);
    let job = Periodic::new(&path, hour).unwrap();
    let at = |time| {
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
    };
    // A new file counts as touched where the system does not keep times of creation.
    at(SystemTime::UNIX_EPOCH + 365 * 24 * hour).unwrap();
    assert_eq!(job.run(|| 1).unwrap(), Some(1));
    assert_eq!(job.run(|| 2).unwrap(), None);
    // Another process has run it, or is about to.
    at(SystemTime::now() - 2 * hour).unwrap();
    let lock = InterProcessLock::new(&path).unwrap();
    let guard = lock.acquire().unwrap();
    assert_eq!(job.run(|| 3).unwrap(), None);
    drop(guard);
    assert_eq!(job.run(|| 4).unwrap(), Some(4));
    // A clock that was wrong once stops nothing.
    at(SystemTime::now() + 2 * hour).unwrap();
    assert_eq!(job.run(|| 5).unwrap(), Some(5));
    assert_eq!(job.run(|| 6).unwrap(), None);
    // The clock of the file system may be a little ahead of ours.
    at(SystemTime::now() + hour / 2).unwrap();
    assert_eq!(job.run(|| 6).unwrap(), None);
    let every_time = Periodic::new(&path, Duration::ZERO).unwrap();
    assert_eq!(every_time.run(|| 7).unwrap(), Some(7));
}

/// A path names a lock as it would in a guest.
#[test]
fn paths_that_name_no_file_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("{}/{name}", directory.path().display());
    for path in [
        at("a/"),
        at("a/."),
        at("a/../b"),
        at("a\0"),
        ".".into(),
        "..".into(),
    ] {
        let error = InterProcessLock::new(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{path:?}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn attributes_lock_natively() {
    #[interprocess_locked(path, timeout = Duration::from_secs(60))]
    fn locked(path: &Path) -> Result<bool, clasp_guest::Error> {
        Ok(InterProcessLock::new(path)?.try_acquire()?.is_none())
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lock");
    assert!(locked(&path).unwrap());
    let _guard = InterProcessLock::new(&path).unwrap().acquire().unwrap();
    assert_eq!(locked(&path).unwrap_err().kind(), ErrorKind::Deadlock);
}

#[cfg(feature = "wstd")]
#[test]
fn tasks_wait_for_locks() {
    use std::{
        future::Future,
        pin::pin,
        sync::Arc,
        task::{Context, Poll, Wake, Waker},
    };

    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    fn block_on<F: Future>(future: F) -> F::Output {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let lock = InterProcessReaderWriterLock::new(directory.path().join("a.lock")).unwrap();
    let reading = block_on(lock.read_async()).unwrap();
    let mut request = lock.start_write(None).unwrap();
    assert!(request.get().is_none());
    drop(reading);
    let writing = block_on(request.wait()).unwrap();
    let mut timed = lock.start_read(Some(Duration::ZERO));
    let error = match &mut timed {
        Ok(request) => request.get().unwrap().unwrap_err(),
        Err(error) => error.clone(),
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    if let Ok(request) = &mut timed {
        let again = request.get().unwrap().unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Other, "an outcome is given once");
    }
    drop(writing);
    block_on(lock.write_async()).unwrap().release().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn permits_are_counted_among_threads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/a.sem");
    let missing = InterProcessSemaphore::new(&path, 3).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NoEntry);
    let semaphore = InterProcessSemaphore::create_dirs(&path, 3).unwrap();
    assert_eq!((semaphore.path(), semaphore.permits()), (path.as_path(), 3));
    let two = semaphore.acquire_many(2).unwrap();
    let one = semaphore.acquire().unwrap();
    assert_eq!((two.numbers(), one.number()), (vec![0, 1], 2));
    assert_eq!(one.path(), path);
    one.check().unwrap();
    assert!(semaphore.try_acquire().unwrap().is_none());
    let refused = semaphore.acquire().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Deadlock, "{refused}");
    let none = semaphore.acquire_many(0).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Unsupported, "{none}");
    assert_eq!(
        one.fencing_token().unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let other = scope.spawn({
            let semaphore = &semaphore;
            move || {
                let late = semaphore.acquire_timeout(Duration::ZERO).unwrap_err();
                assert_eq!(late.kind(), ErrorKind::Timeout);
                send.send(()).unwrap();
                // It outlives its thread.
                semaphore.acquire_many(3).unwrap()
            }
        });
        receive.recv().unwrap();
        two.release().unwrap();
        one.release().unwrap();
        let all = other.join().unwrap();
        assert_eq!(all.numbers(), [0, 1, 2]);
        assert!(semaphore.try_acquire().unwrap().is_none());
    });
    let late = semaphore.acquire_many_timeout(3, Duration::from_secs(10));
    assert_eq!(late.unwrap().numbers().len(), 3);
    assert_eq!(semaphore.with(|| 5).unwrap(), 5);
    let other = InterProcessSemaphore::new(&path, 4).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::FamilyMismatch);
    let lock = InterProcessLock::new(&path).unwrap_err();
    assert_eq!(lock.kind(), ErrorKind::FamilyMismatch);
}

#[cfg(target_os = "linux")]
#[test]
fn an_attribute_limits_how_many_run() {
    #[interprocess_limited(path, permits = 2, timeout = Duration::ZERO)]
    fn limited(path: &Path, inside: &mut dyn FnMut()) -> Result<(), clasp_guest::Error> {
        inside();
        Ok(())
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sem");
    let mut innermost = Vec::new();
    limited(&path, &mut || {
        limited(&path, &mut || {
            let third = limited(&path, &mut || panic!("three run at a time"));
            innermost.push(third.unwrap_err().kind());
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!(innermost, [ErrorKind::Timeout]);
}

#[cfg(all(target_os = "linux", feature = "wstd"))]
#[test]
fn tasks_wait_for_permits() {
    use futures::executor::block_on;

    let directory = tempfile::tempdir().unwrap();
    let semaphore = InterProcessSemaphore::new(directory.path().join("a.sem"), 2).unwrap();
    block_on(async {
        let one = semaphore.acquire_async().await.unwrap();
        let mut both = semaphore.start_acquire(2, None).unwrap();
        assert!(both.get().is_none());
        let late = semaphore.start_acquire(1, Some(Duration::from_millis(5)));
        let late = late.unwrap().wait().await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        drop(one);
        assert_eq!(both.wait().await.unwrap().numbers(), [0, 1]);
    });
}
