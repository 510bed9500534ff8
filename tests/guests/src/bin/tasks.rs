//! Tasks of one component that wait for locks between processes, on the executor of
//! wstd. `tasks LOCK` is run while another process holds the lock.

use clasp_guest::{ErrorKind, InterProcessLock, InterProcessReaderWriterLock};
use std::{cell::Cell, rc::Rc};
use wstd::{
    future::FutureExt as _,
    runtime::{block_on, spawn},
    time::{Duration, Timer},
};

fn main() {
    let path = std::env::args().nth(1).expect("usage: tasks LOCK");
    block_on(async {
        let lock = InterProcessLock::new(&path).unwrap();
        assert!(lock.try_acquire().unwrap().is_none(), "the test holds it");
        // This task goes on while another waits.
        let begun = Rc::new(Cell::new(false));
        let waits = spawn({
            let (lock, begun) = (InterProcessLock::new(&path).unwrap(), Rc::clone(&begun));
            async move {
                begun.set(true);
                lock.acquire_async().await
            }
        });
        for _ in 0..5 {
            Timer::after(Duration::from_millis(1)).wait().await;
        }
        assert!(begun.get() && !waits.is_finished());
        drop(waits);
        let mut waiting = lock.start_acquire(None).unwrap();
        assert!(waiting.get().is_none());
        drop(waiting);
        let request = lock
            .start_acquire(Some(std::time::Duration::from_millis(1)))
            .unwrap();
        let error = request.wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let mut taken = lock
            .start_acquire(Some(std::time::Duration::from_millis(1)))
            .unwrap();
        let first = loop {
            match taken.get() {
                Some(outcome) => break outcome.unwrap_err(),
                None => Timer::after(Duration::from_millis(1)).wait().await,
            };
        };
        assert_eq!(first.kind(), ErrorKind::Timeout);
        let again = taken.get().unwrap().unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Other, "an outcome is given once");
        // A future that is dropped has withdrawn its request.
        let given_up = lock.acquire_async().timeout(Duration::from_millis(5)).await;
        assert!(given_up.is_err());
        println!("waiting");
        let guard = lock.acquire_async().await.unwrap();
        guard.release().unwrap();
        let shared = InterProcessReaderWriterLock::new(&path).unwrap();
        let (one, two) = (shared.read_async().await, shared.read_async().await);
        drop((one.unwrap(), two.unwrap()));
        println!("done");
    });
}
