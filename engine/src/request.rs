//! One request that waits, seen from its owner: where the outcome arrives.

use crate::{
    Error,
    entry::WaitJob,
    queue::HoldId,
    sync::{Mutex, MutexGuard},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

/// Wakes tasks. A waker that panics, which is somebody else's code, must not
/// keep the others asleep or end a thread of ours.
pub(crate) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
            tracing::error!(target: "clasp::wait", "a waker panicked");
        }
    }
}

/// How a request ended.
pub(crate) enum Outcome {
    /// It holds the lock.
    Granted(HoldId),
    /// It failed.
    Failed(Error),
    /// The lock file was replaced; the request belongs into the queue of the
    /// new one.
    Moved,
}

/// What [`Request::poll`] found.
pub(crate) enum Progress {
    /// Nothing yet; the waker will be woken.
    Waiting,
    /// The caller's thread is to wait in the kernel.
    Run(WaitJob),
    /// It was granted and taken back, since nobody polled: the owner is to say
    /// that it is there again, then poll.
    Absent,
    /// It has ended. Told once.
    Done(Outcome),
}

#[derive(Default)]
struct Slot {
    job: Option<WaitJob>,
    outcome: Option<Outcome>,
    waker: Option<Waker>,
    absent: bool,
}

/// The two ends of a waiting request: the entry completes it, the owner's
/// thread or task polls it.
pub(crate) struct Request {
    /// Whether the owner's own thread waits in the kernel if somebody must.
    pub(crate) runs_own_wait: bool,
    slot: Mutex<Slot>,
}

impl Request {
    pub(crate) fn new(runs_own_wait: bool) -> Request {
        Request {
            runs_own_wait,
            slot: Mutex::default(),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock()
    }

    /// Gives the outcome; answers whom to wake once no lock is held.
    #[must_use]
    pub(crate) fn complete(&self, outcome: Outcome) -> Option<Waker> {
        let mut slot = self.slot();
        slot.outcome = Some(outcome);
        slot.absent = false;
        slot.waker.take()
    }

    /// Gives the kernel wait to the owner's thread; answers whom to wake.
    #[must_use]
    pub(crate) fn offer(&self, job: WaitJob) -> Option<Waker> {
        let mut slot = self.slot();
        slot.job = Some(job);
        slot.waker.take()
    }

    /// Takes the kernel wait back; `false` if the owner's thread has it.
    pub(crate) fn take_back(&self) -> bool {
        self.slot().job.take().is_some()
    }

    /// The outcome, if there is one.
    pub(crate) fn take_outcome(&self) -> Option<Outcome> {
        self.slot().outcome.take()
    }

    /// Takes a grant back that was not polled for; `false` if it was.
    pub(crate) fn take_grant_back(&self) -> bool {
        let mut slot = self.slot();
        slot.absent = matches!(slot.outcome, Some(Outcome::Granted(_)));
        if slot.absent {
            slot.outcome = None;
        }
        slot.absent
    }

    /// Whether the outcome, if there was one, has been taken.
    pub(crate) fn is_collected(&self) -> bool {
        self.slot().outcome.is_none()
    }

    /// Whether there is something to do.
    pub(crate) fn is_ready(&self) -> bool {
        let slot = self.slot();
        slot.job.is_some() || slot.outcome.is_some() || slot.absent
    }

    /// What there is to do, or registers `waker`.
    pub(crate) fn poll(&self, waker: &Waker) -> Progress {
        let mut slot = self.slot();
        if let Some(job) = slot.job.take() {
            return Progress::Run(job);
        }
        if let Some(outcome) = slot.outcome.take() {
            return Progress::Done(outcome);
        }
        if std::mem::take(&mut slot.absent) {
            return Progress::Absent;
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
