//! The locks of the module `aio`, natively.
#![allow(missing_docs, reason = "tests")]

use clasp_guest::{
    Error, ErrorKind,
    aio::{InterProcessLock, InterProcessReaderWriterLock, InterProcessSemaphore},
    interprocess_limited, interprocess_locked, interprocess_read_locked, interprocess_write_locked,
};
use futures::{
    FutureExt,
    executor::block_on,
    future::{join, join_all},
};
use std::{
    path::{Path, PathBuf},
    pin::pin,
    task::Poll,
    time::Duration,
};

/// Lets other tasks go on.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| match std::mem::replace(&mut yielded, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

const SOON: Duration = Duration::from_millis(5);

fn in_directory<R>(test: impl AsyncFnOnce(&Path) -> Result<R, Error>) -> R {
    let directory = tempfile::tempdir().unwrap();
    block_on(test(&directory.path().join("a.lock"))).unwrap()
}

#[test]
fn a_lock_excludes_other_tasks_and_the_blocking_ones() {
    in_directory(async |path| {
        let (lock, other) = join(InterProcessLock::new(path), InterProcessLock::new(path)).await;
        let (lock, other) = (lock?, other?);
        let guard = lock.acquire().await?;
        assert!(other.try_acquire().await?.is_none());
        let blocking = clasp_guest::InterProcessLock::new(path)?;
        assert!(blocking.try_acquire()?.is_none());
        let late = other.acquire_timeout(SOON).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        assert!(late.to_string().contains("a.lock"), "{late}");
        guard.check().await?;
        assert_eq!(guard.path(), path);
        // A task waits for what another one of the same process holds, and gets it.
        let mut waiting = pin!(other.acquire());
        assert!(waiting.as_mut().now_or_never().is_none());
        guard.release().await?;
        drop(waiting.await?);
        Ok(())
    });
}

#[test]
fn a_dropped_future_withdraws_its_request() {
    in_directory(async |path| {
        let lock = InterProcessLock::new(path).await?;
        let guard = lock.acquire().await?;
        for _ in 0..2 {
            assert!(lock.acquire().now_or_never().is_none());
        }
        drop(guard);
        assert!(lock.try_acquire().await?.is_some());
        Ok(())
    });
}

#[test]
fn readers_share_and_convert() {
    in_directory(async |path| {
        let lock = InterProcessReaderWriterLock::new(path).await?;
        let (one, two) = join(lock.read(), lock.read_timeout(SOON)).await;
        assert!(lock.try_write().await?.is_none());
        let refused = one?.try_upgrade().await.unwrap_err();
        assert!(refused.error().is_none());
        let one = refused.into_guard();
        drop(two?);
        match one.try_upgrade().await {
            Ok(writer) => {
                assert!(lock.try_read().await?.is_none());
                let reader = writer.downgrade().await.unwrap();
                assert!(lock.try_read().await?.is_some());
                reader.release().await?;
            }
            // Locks of this family are not converted.
            Err(refused) => {
                assert_eq!(refused.error().unwrap().kind(), ErrorKind::Unsupported);
                drop(refused.into_guard());
            }
        }
        let writer = lock.write_timeout(SOON).await?;
        writer.touch().await?;
        assert!(lock.last_touched().await?.is_some());
        drop(writer);
        let inside = lock.with_read(async || lock.try_write().await).await??;
        assert!(inside.is_none());
        assert!(
            lock.with_write(async || lock.try_read().await)
                .await??
                .is_none()
        );
        Ok(())
    });
}

#[test]
fn tasks_of_one_process_count_together() {
    in_directory(async |path| {
        let file = path.with_file_name("count");
        std::fs::write(&file, "0").unwrap();
        let count = async || {
            let lock = InterProcessLock::new(path).await?;
            for _ in 0..50 {
                lock.with(async || {
                    let count: u32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
                    // Others may go on here, and must not come in.
                    yield_now().await;
                    std::fs::write(&file, (count + 1).to_string()).unwrap();
                })
                .await?;
            }
            Ok::<(), Error>(())
        };
        for done in join_all([count(), count(), count()]).await {
            done?;
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "150");
        Ok(())
    });
}

#[interprocess_locked(path, timeout = "5ms")]
async fn exclusive(path: &Path) -> Result<bool, Error> {
    let lock = InterProcessReaderWriterLock::new(path).await?;
    Ok(lock.try_read().await?.is_none())
}

#[interprocess_read_locked(&path, map_err = |error| error.to_string())]
async fn shared(path: PathBuf) -> Result<bool, String> {
    let lock = InterProcessReaderWriterLock::new(&path).await.unwrap();
    Ok(lock.try_write().await.unwrap().is_none() && lock.try_read().await.unwrap().is_some())
}

#[interprocess_write_locked(path, panic)]
async fn written(path: &Path) -> bool {
    let lock = InterProcessReaderWriterLock::new(path).await.unwrap();
    lock.try_read().await.unwrap().is_none()
}

#[test]
fn attributes_await_their_lock() {
    in_directory(async |path| {
        assert!(exclusive(path).await?);
        assert!(shared(path.to_owned()).await.unwrap());
        assert!(written(path).await);
        let lock = InterProcessLock::new(path).await?;
        let guard = lock.acquire().await?;
        let late = exclusive(path).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        drop(guard);
        // A future that is dropped lets go.
        let mut held = pin!(holds(path));
        assert!(held.as_mut().now_or_never().is_none());
        assert!(lock.try_acquire().await?.is_none());
        Ok(())
    });
}

#[interprocess_locked(path)]
async fn holds(path: &Path) -> Result<(), Error> {
    std::future::pending().await
}

#[test]
fn an_error_says_what_is_wrong() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing/a.lock");
        let error = InterProcessLock::new(&missing).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoEntry);
        InterProcessLock::create_dirs(&missing).await.unwrap();
        let error = InterProcessLock::new("").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn permits_are_counted_among_tasks() {
    in_directory(async |path| {
        let semaphore = InterProcessSemaphore::new(path, 2).await?;
        assert_eq!((semaphore.path(), semaphore.permits()), (path, 2));
        let one = semaphore.acquire().await?;
        assert_eq!((one.path(), one.number()), (path, 0));
        one.check().await?;
        let late = semaphore.acquire_many_timeout(2, SOON).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        assert!(semaphore.try_acquire_many(2).await?.is_none());
        let mut both = pin!(semaphore.acquire_many(2));
        assert!(both.as_mut().now_or_never().is_none());
        // Who came later waits, though a permit is free.
        assert!(semaphore.try_acquire().await?.is_none());
        one.release().await?;
        assert_eq!(both.await?.numbers(), [0, 1]);
        assert_eq!(semaphore.with(async || 5).await?, 5);
        semaphore.acquire_timeout(SOON).await?.release().await?;
        let token = semaphore.acquire().await?.fencing_token().await;
        assert_eq!(token.unwrap_err().kind(), ErrorKind::Unsupported);
        Ok(())
    });
}

#[interprocess_limited(path, permits = 1, timeout = SOON)]
async fn limited(path: &Path) -> Result<bool, Error> {
    let semaphore = InterProcessSemaphore::new(path, 1).await?;
    Ok(semaphore.try_acquire().await?.is_some())
}

#[cfg(target_os = "linux")]
#[test]
fn an_attribute_limits_tasks() {
    in_directory(async |path| {
        assert!(!limited(path).await?);
        let semaphore = InterProcessSemaphore::new(path, 1).await?;
        let _permit = semaphore.acquire().await?;
        assert_eq!(limited(path).await.unwrap_err().kind(), ErrorKind::Timeout);
        Ok(())
    });
}
