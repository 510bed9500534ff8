//! Helper threads that wait in the kernel for asynchronous requests.

use crate::{
    Error, ErrorKind,
    sync::{Condvar, Mutex, MutexGuard, thread},
};
use std::{collections::VecDeque, io, sync::Arc, time::Duration};

/// What a helper does.
pub(crate) trait Job: Send {
    /// Waits, for as long as it takes.
    fn wait(&mut self);

    /// Passes on the result; answers what this thread is to wait for next.
    fn finish(self: Box<Self>) -> Option<Box<dyn Job>>;
}

/// How long a thread without work stays: long enough that a contended lock
/// does not start a thread for each wait.
const IDLE: Duration = Duration::from_secs(5);

/// The stack of a helper: a system call and a `tracing` event fit many times.
const STACK_BYTES: usize = 256 * 1024;

#[derive(Default)]
struct Pool {
    jobs: VecDeque<Box<dyn Job>>,
    threads: usize,
    /// Threads that will look for a job before they wait for anything.
    free: usize,
    /// The manager is gone: those that have nothing to do end.
    closed: bool,
}

/// A pool that starts a thread for each job, up to a ceiling: jobs wait in the
/// kernel for as long as somebody holds a lock, so none may queue behind
/// another. Those that pass on a result count as free; if one then has more to
/// wait for, and a job has counted on it, there is one thread more for a while.
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

    /// Threads that there are.
    pub(crate) fn count(&self) -> usize {
        self.pool.0.lock().threads
    }

    /// Runs `job` on a thread of its own, or not at all.
    pub(crate) fn spawn(&self, job: Box<dyn Job>) -> Result<(), Error> {
        let _starting = self.starting.lock();
        let (pool, wake) = &*self.pool;
        let mut locked = pool.lock();
        if locked.free > locked.jobs.len() {
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
        start(&self.pool, job).map_err(|(error, _)| {
            Error::new(
                ErrorKind::Unavailable,
                format!("cannot start a waiter thread: {error}"),
            )
        })
    }
}

/// Starts a thread that is counted already, or takes it off the count.
fn start(
    pool: &Arc<(Mutex<Pool>, Condvar)>,
    job: Box<dyn Job>,
) -> Result<(), (io::Error, Box<dyn Job>)> {
    // The job is to survive a thread that does not start.
    let handed = Arc::new(Mutex::new(Some(job)));
    let (shared, given) = (Arc::clone(pool), Arc::clone(&handed));
    let started = thread::Builder::new()
        .name("clasp-wait".into())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let job = given.lock().take();
            if let Some(job) = job {
                work(&shared, job);
            }
        });
    let Err(error) = started else {
        return Ok(());
    };
    pool.0.lock().threads -= 1;
    match handed.lock().take() {
        Some(job) => Err((error, job)),
        None => Ok(()),
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let (pool, wake) = &*self.pool;
        pool.lock().closed = true;
        wake.notify_all();
    }
}

fn work(shared: &Arc<(Mutex<Pool>, Condvar)>, mut job: Box<dyn Job>) {
    let (pool, wake) = &**shared;
    loop {
        job.wait();
        // Whoever learns of the result may count on this thread.
        pool.lock().free += 1;
        let next = job.finish();
        let mut locked = pool.lock();
        if let Some(next) = next {
            locked.free -= 1;
            make_up(shared, locked);
            job = next;
            continue;
        }
        job = loop {
            if let Some(job) = locked.jobs.pop_front() {
                locked.free -= 1;
                break job;
            }
            let mut ends = locked.closed;
            if !ends {
                (locked, ends) = wake.wait_timeout(locked, IDLE);
            }
            if ends && locked.jobs.is_empty() {
                locked.free -= 1;
                locked.threads -= 1;
                return;
            }
        };
    }
}

/// Starts a thread for a job that counted on one which has more to wait for,
/// even beyond the ceiling: the job was accepted.
fn make_up(shared: &Arc<(Mutex<Pool>, Condvar)>, mut locked: MutexGuard<'_, Pool>) {
    if locked.jobs.len() <= locked.free {
        return;
    }
    let Some(job) = locked.jobs.pop_back() else {
        return;
    };
    locked.threads += 1;
    drop(locked);
    if let Err((error, job)) = start(shared, job) {
        tracing::error!(target: "clasp::wait", %error, "cannot start a waiter thread");
        // The next thread that is free takes it.
        shared.0.lock().jobs.push_back(job);
        shared.1.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Test {
        wait: mpsc::Receiver<()>,
        finish: Box<dyn FnOnce() -> Option<Box<dyn Job>> + Send>,
    }

    impl Job for Test {
        fn wait(&mut self) {
            let _ = self.wait.recv();
        }

        fn finish(self: Box<Self>) -> Option<Box<dyn Job>> {
            (self.finish)()
        }
    }

    fn job(
        finish: impl FnOnce() -> Option<Box<dyn Job>> + Send + 'static,
    ) -> (mpsc::Sender<()>, Box<dyn Job>) {
        let (go, wait) = mpsc::channel();
        let finish = Box::new(finish);
        (go, Box::new(Test { wait, finish }))
    }

    #[test]
    fn the_ceiling_is_an_error_and_a_thread_goes_on_with_what_it_is_given() {
        let threads = Threads::new(1);
        let (done, finished) = mpsc::channel();
        let (go_second, second) = job({
            let done = done.clone();
            move || {
                done.send("second").unwrap();
                None
            }
        });
        let (go_first, first) = job(move || {
            done.send("first").unwrap();
            Some(second)
        });
        threads.spawn(first).unwrap();
        let (_, refused) = job(|| None);
        let error = threads.spawn(refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        drop((go_first, go_second));
        assert_eq!(finished.recv(), Ok("first"));
        assert_eq!(finished.recv(), Ok("second"));
        assert_eq!(threads.count(), 1);
    }
}
