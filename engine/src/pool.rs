//! Helper threads, which carry out what waits.

use crate::{
    Error, ErrorKind,
    sync::{Condvar, Mutex, thread},
};
use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// An operation with all that follows its end. Dropping it ends the operation
/// before it has begun.
pub(crate) type Job = Box<dyn Runs>;

/// See [`Job`].
pub(crate) trait Runs: Send {
    fn run(self: Box<Self>);

    /// Drops it without an end of the operation.
    fn disarm(self: Box<Self>);
}

/// How long a thread without work stays: long enough that a contended lock
/// does not start a thread for each wait.
const IDLE: Duration = Duration::from_secs(5);

/// The stack of a helper: system calls and a `tracing` event fit many times.
const STACK_BYTES: usize = 256 * 1024;

#[derive(Default)]
struct Work {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads that wait for a job, those for which one is queued included.
    idle: usize,
    closed: bool,
}

type Shared = (Mutex<Work>, Condvar);

/// A pool that has a thread for each job: jobs take as long as other processes
/// hold a lock, so none queues behind another. Whoever gives it jobs sees to it that they
/// are not too many.
#[derive(Default)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// Threads that there are.
    pub(crate) fn threads(&self) -> usize {
        self.shared.0.lock().threads
    }

    /// Runs a job on a thread of its own, or answers it.
    pub(crate) fn spawn(&self, job: Job) -> Result<(), (Error, Job)> {
        let (work, wake) = &*self.shared;
        let mut locked = work.lock();
        if locked.idle > locked.jobs.len() {
            locked.jobs.push_back(job);
            wake.notify_one();
            return Ok(());
        }
        locked.threads += 1;
        drop(locked);
        start(&self.shared, job).map_err(|(error, job)| {
            let why = format!("cannot start a waiter thread: {error}");
            (Error::new(ErrorKind::Unavailable, why), job)
        })
    }
}

/// Starts a thread that is counted already, or takes it off the count.
fn start(shared: &Arc<Shared>, job: Job) -> Result<(), (io::Error, Job)> {
    // The job is to survive a thread that does not start.
    let handed = Arc::new(Mutex::new(Some(job)));
    let (pool, given) = (Arc::clone(shared), Arc::clone(&handed));
    let started = thread::Builder::new()
        .name("clasp-wait".into())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let job = given.lock().take();
            if let Some(job) = job {
                run(&pool, job);
            }
        });
    let Err(error) = started else {
        return Ok(());
    };
    shared.0.lock().threads -= 1;
    let job = handed.lock().take();
    match job {
        Some(job) => Err((error, job)),
        None => Ok(()),
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let (work, wake) = &*self.shared;
        work.lock().closed = true;
        wake.notify_all();
    }
}

fn run(shared: &Arc<Shared>, mut job: Job) {
    let (work, wake) = &**shared;
    loop {
        // A job ends with foreign code, such as a subscriber of `tracing`.
        if catch_unwind(AssertUnwindSafe(|| job.run())).is_err() {
            tracing::error!(target: "clasp::wait", "passing on the end of an operation has panicked");
        }
        let mut locked = work.lock();
        locked.idle += 1;
        job = loop {
            if let Some(job) = locked.jobs.pop_front() {
                locked.idle -= 1;
                break job;
            }
            let mut ends = locked.closed;
            if !ends {
                (locked, ends) = wake.wait_timeout(locked, IDLE);
            }
            if ends && locked.jobs.is_empty() {
                locked.idle -= 1;
                locked.threads -= 1;
                return;
            }
        };
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Test<F>(F);

    impl<F: FnOnce() + Send> Runs for Test<F> {
        fn run(self: Box<Self>) {
            (self.0)();
        }

        fn disarm(self: Box<Self>) {}
    }

    fn spawn(pool: &Pool, f: impl FnOnce() + Send + 'static) {
        assert!(pool.spawn(Box::new(Test(f))).is_ok());
    }

    /// A thread that passes on a result may block; the next job must not wait
    /// for it.
    #[test]
    fn a_job_does_not_wait_for_a_thread_that_passes_on_a_result() {
        let pool = Pool::default();
        let (go, blocked) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let first = tell.clone();
        spawn(&pool, move || {
            first.send("passes on").unwrap();
            let _ = blocked.recv();
        });
        assert_eq!(told.recv(), Ok("passes on"));
        spawn(&pool, move || tell.send("the next").unwrap());
        assert_eq!(told.recv(), Ok("the next"));
        assert_eq!(pool.threads(), 2);
        drop(go);
    }

    #[test]
    fn a_job_that_panics_ends_no_thread() {
        let pool = Pool::default();
        spawn(&pool, || panic!("a job panics, as this test asks"));
        let (tell, told) = mpsc::channel();
        while pool.shared.0.lock().idle == 0 {
            std::thread::yield_now();
        }
        spawn(&pool, move || tell.send(()).unwrap());
        assert_eq!(told.recv(), Ok(()));
        assert_eq!(pool.threads(), 1);
    }
}
