//! Helper threads that wait in the kernel for asynchronous requests.

use crate::{
    Error, ErrorKind,
    sync::{Condvar, Mutex},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How long a thread without work stays: long enough that a contended lock
/// does not start a thread for each wait.
const IDLE: Duration = Duration::from_secs(5);

/// The stack of a helper: a system call and a `tracing` event fit many times.
const STACK_BYTES: usize = 256 * 1024;

#[derive(Default)]
struct Pool {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// A pool that starts a thread for each job, up to a ceiling: jobs wait in the
/// kernel for as long as somebody holds a lock, so none may queue behind
/// another.
pub(crate) struct Threads {
    pool: Arc<(Mutex<Pool>, Condvar)>,
    ceiling: usize,
    // Starting a thread is slow; one at a time keeps the count exact.
    starting: Mutex<()>,
}

impl Threads {
    pub(crate) fn new(ceiling: usize) -> Threads {
        Threads {
            pool: Arc::default(),
            ceiling,
            starting: Mutex::default(),
        }
    }

    /// Runs `job` on a thread of its own, or not at all.
    pub(crate) fn spawn(&self, job: Job) -> Result<(), Error> {
        let _starting = self.starting.lock();
        let (pool, wake) = &*self.pool;
        let mut locked = pool.lock();
        if locked.idle > locked.jobs.len() {
            locked.jobs.push_back(job);
            wake.notify_one();
            return Ok(());
        }
        if locked.threads >= self.ceiling {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("all {} waiter threads of the host wait", self.ceiling),
            ));
        }
        locked.threads += 1;
        drop(locked);
        let shared = Arc::clone(&self.pool);
        let started = std::thread::Builder::new()
            .name("clasp-wait".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                job();
                work(&shared);
            });
        if let Err(error) = started {
            let (pool, _) = &*self.pool;
            pool.lock().threads -= 1;
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("cannot start a waiter thread: {error}"),
            ));
        }
        Ok(())
    }
}

fn work(shared: &(Mutex<Pool>, Condvar)) {
    let (pool, wake) = shared;
    let mut locked = pool.lock();
    loop {
        if let Some(job) = locked.jobs.pop_front() {
            drop(locked);
            job();
            locked = pool.lock();
            continue;
        }
        locked.idle += 1;
        let (woken, timed_out) = wake.wait_timeout(locked, IDLE);
        locked = woken;
        locked.idle -= 1;
        if timed_out && locked.jobs.is_empty() {
            locked.threads -= 1;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_ceiling_is_an_error_and_a_thread_is_used_again() {
        let threads = Threads::new(1);
        let (release, blocked) = mpsc::channel::<()>();
        let (done, finished) = mpsc::channel();
        let first = done.clone();
        threads
            .spawn(Box::new(move || {
                let _ = blocked.recv();
                first.send(1).unwrap();
            }))
            .unwrap();
        let refused = threads.spawn(Box::new(|| {})).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        release.send(()).unwrap();
        assert_eq!(finished.recv(), Ok(1));
        // The thread becomes idle a moment after its job said so.
        let mut job: Job = Box::new(move || done.send(2).unwrap());
        let slot = Arc::new(Mutex::new(None::<Job>));
        loop {
            *slot.lock() = Some(job);
            let run = Arc::clone(&slot);
            let attempt = threads.spawn(Box::new(move || {
                let job = run.lock().take();
                if let Some(job) = job {
                    job();
                }
            }));
            if attempt.is_ok() {
                break;
            }
            job = slot.lock().take().unwrap();
            std::thread::yield_now();
        }
        assert_eq!(finished.recv(), Ok(2));
    }
}
