//! One request that waits, seen from its owner: where the outcome arrives.

use crate::{
    core::Outcome,
    policy::Account,
    pool::Job,
    sync::{Mutex, MutexGuard},
};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Waker,
};

/// Wakes tasks. Wakers are foreign code: one that panics must not keep the
/// others asleep or end a thread of the engine.
pub(crate) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
            tracing::error!(target: "clasp::wait", "a waker panicked");
        }
    }
}

/// What [`Request::poll`] found.
pub(crate) enum Progress {
    /// Nothing yet; the waker will be woken.
    Waiting,
    /// The caller's thread is to carry out the operation.
    Run(Job),
    /// It has ended. Answered once.
    Done(Outcome),
}

#[derive(Default)]
struct Slot {
    job: Option<Job>,
    outcome: Option<Outcome>,
    waker: Option<Waker>,
    /// Its owner has taken the outcome, and looks no more.
    closed: bool,
}

/// The two ends of a waiting request: the entry completes it, the owner's thread
/// or task polls it.
pub(crate) struct Request {
    pub(crate) account: Arc<Account>,
    /// Whether the owner's own thread waits, and carries out operations.
    pub(crate) on_thread: bool,
    slot: Mutex<Slot>,
}

impl Request {
    pub(crate) fn new(account: &Arc<Account>, on_thread: bool) -> Request {
        Request {
            account: Arc::clone(account),
            on_thread,
            slot: Mutex::default(),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock()
    }

    /// Gives the outcome; answers whom to wake once no mutex is held.
    #[must_use]
    pub(crate) fn complete(&self, outcome: Outcome) -> Option<Waker> {
        let mut slot = self.slot();
        slot.outcome = Some(outcome);
        slot.waker.take()
    }

    /// Gives an operation to the owner's thread; answers whom to wake.
    #[must_use]
    pub(crate) fn offer(&self, job: Job) -> Option<Waker> {
        let mut slot = self.slot();
        if slot.closed {
            drop(slot);
            // Dropping it ends the operation.
            drop(job);
            return None;
        }
        slot.job = Some(job);
        slot.waker.take()
    }

    /// The request is queued, for the first time or again.
    pub(crate) fn open(&self) {
        self.slot().closed = false;
    }

    /// Takes the operation back, unless the owner's thread has it.
    pub(crate) fn take_job(&self) -> Option<Job> {
        self.slot().job.take()
    }

    /// Whether there is something to do.
    pub(crate) fn is_ready(&self) -> bool {
        let slot = self.slot();
        slot.job.is_some() || slot.outcome.is_some()
    }

    /// What there is to do, or registers `waker`.
    pub(crate) fn poll(&self, waker: &Waker) -> Progress {
        let mut slot = self.slot();
        if let Some(job) = slot.job.take() {
            return Progress::Run(job);
        }
        if let Some(outcome) = slot.outcome.take() {
            slot.closed = true;
            return Progress::Done(outcome);
        }
        let old = match &mut slot.waker {
            Some(old) if old.will_wake(waker) => None,
            current => current.replace(waker.clone()),
        };
        drop(slot);
        // It may own the last of something that locks; not under the slot.
        drop(old);
        Progress::Waiting
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("on_thread", &self.on_thread)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{policy::Limits, pool::Runs};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Notes that it was dropped, which ends an operation.
    struct Ends(Arc<AtomicBool>);

    impl Runs for Ends {
        fn run(self: Box<Self>) {}
        fn disarm(self: Box<Self>) {}
    }

    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// An owner that has its outcome looks no more: an operation that were left to
    /// it would never end.
    #[test]
    fn an_operation_for_an_owner_that_has_left_ends() {
        let account = Arc::new(Account::new(None, Limits::default()));
        let request = Request::new(&account, true);
        let offer = || {
            let ended = Arc::new(AtomicBool::new(false));
            let woken = request.offer(Box::new(Ends(Arc::clone(&ended))));
            assert!(woken.is_none());
            ended
        };
        let ended = offer();
        drop(request.take_job());
        assert!(ended.load(Ordering::SeqCst));
        assert!(request.complete(Outcome::Busy).is_none());
        let done = request.poll(Waker::noop());
        assert!(matches!(done, Progress::Done(Outcome::Busy)));
        assert!(offer().load(Ordering::SeqCst));
        // It queues again, for another lock.
        request.open();
        assert!(!offer().load(Ordering::SeqCst));
        assert!(request.is_ready());
    }
}
