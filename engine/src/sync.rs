//! A mutex and a condition variable that do not know poison. No waker is woken and
//! no subscriber of `tracing` called in a critical section of this crate; a panic in
//! its own code is a defect that poison would only spread.
//!
//! With `--cfg shuttle` they, and threads, are those of `shuttle`, which tries
//! out in which order threads may run; see `tests/models.rs`.

#[cfg(shuttle)]
use shuttle::sync as base;
#[cfg(not(shuttle))]
use std::sync as base;
use std::{
    sync::{Arc, PoisonError},
    task::{Wake, Waker},
    time::Duration,
};

pub(crate) use base::MutexGuard;
#[cfg(shuttle)]
pub(crate) use shuttle::thread;
#[cfg(not(shuttle))]
pub(crate) use std::thread;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(base::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex(base::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(base::Condvar);

impl Condvar {
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for at most `limit`; `true` if that has passed.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        let (guard, result) = self
            .0
            .wait_timeout(guard, limit)
            .unwrap_or_else(PoisonError::into_inner);
        (guard, result.timed_out())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A waker for the calling thread, and a way to wait for it.
pub(crate) struct Unparker {
    waker: Waker,
}

impl Unparker {
    pub(crate) fn new() -> Unparker {
        struct Unpark(thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        Unparker {
            waker: Waker::from(Arc::new(Unpark(thread::current()))),
        }
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Waits until the waker was woken, or for no reason.
    pub(crate) fn park(&self) {
        thread::park();
    }
}
