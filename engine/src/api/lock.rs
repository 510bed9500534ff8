//! An open lock of one owner.

use super::{
    acquire::{Acquire, Blocks},
    guard::Guard,
    opened::{OpenLock, Share},
};
use crate::{Error, ErrorKind, Mode, naming::Tried};
use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

/// How many acquisitions of a lock may end at once, one after the other, before
/// the task gives way to others of its executor. As many as a task of tokio may
/// poll resources before it is made to; at 2 us each this is a quarter of a
/// millisecond.
const COOPERATIVE_BUDGET: u32 = 128;

/// An open lock of one [`Owner`](crate::Owner).
pub struct Lock {
    open: Arc<OpenLock>,
    budget: AtomicU32,
}

impl Lock {
    pub(super) fn new(open: Arc<OpenLock>) -> Lock {
        Lock {
            open,
            budget: AtomicU32::new(COOPERATIVE_BUDGET),
        }
    }

    /// The name the lock was opened with, without `.` and empty components.
    pub fn name(&self) -> &str {
        self.open.name().as_str()
    }

    /// Takes the lock now.
    ///
    /// While another thread is about to release the lock, or to give up a wait
    /// for it, this waits for that: microseconds on a local file system, a round
    /// trip with a server, a second at most.
    ///
    /// # Errors
    /// [`WouldBlock`](ErrorKind::WouldBlock) if another request holds it or waits
    /// for it, [`Unavailable`](ErrorKind::Unavailable) if the file system does not
    /// answer within a second, and what [`acquire`](Lock::acquire) answers at
    /// once.
    pub fn try_acquire(&self, mode: Mode) -> Result<Guard, Error> {
        let share = Share::take(&self.open, mode)?;
        match self.open.try_hold(mode)? {
            Tried::Held(held) => Ok(Guard::new(share, held, mode)),
            Tried::Busy => Err(ErrorKind::WouldBlock.into()),
            Tried::Later => Acquire::try_later(share, mode, true)?.block(),
        }
    }

    /// As [`try_acquire`](Lock::try_acquire), but suspends a task where that
    /// waits, and gives way to other tasks now and then.
    ///
    /// # Errors
    /// As `try_acquire`.
    pub async fn try_acquire_async(&self, mode: Mode) -> Result<Guard, Error> {
        self.give_way().await;
        let share = Share::take(&self.open, mode)?;
        match self.open.try_hold(mode)? {
            Tried::Held(held) => Ok(Guard::new(share, held, mode)),
            Tried::Busy => Err(ErrorKind::WouldBlock.into()),
            Tried::Later => Acquire::try_later(share, mode, false)?.await,
        }
    }

    /// Takes the lock and blocks its owner: until the future has ended, the
    /// owner is taken to do nothing else, so that deadlocks can be told.
    ///
    /// `None` waits for as long as the limits allow, zero tries once. Dropping
    /// the future withdraws the request.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), [`Deadlock`](ErrorKind::Deadlock),
    /// [`NotPermitted`](ErrorKind::NotPermitted) or
    /// [`Access`](ErrorKind::Access) for a mode that is denied,
    /// [`LimitExceeded`](ErrorKind::LimitExceeded),
    /// [`Unavailable`](ErrorKind::Unavailable), [`Lost`](ErrorKind::Lost) once
    /// the owner is closed, and what opening answers if the lock file was
    /// replaced and is opened again.
    pub async fn acquire(&self, mode: Mode, timeout: Option<Duration>) -> Result<Guard, Error> {
        self.give_way().await;
        Acquire::begin(&self.open, mode, timeout, Blocks::Task)?.await
    }

    /// As [`acquire`](Lock::acquire), but blocks the calling thread, which itself
    /// waits in the kernel if this request is the first of the host.
    ///
    /// # Errors
    /// As `acquire`.
    pub fn acquire_blocking(&self, mode: Mode, timeout: Option<Duration>) -> Result<Guard, Error> {
        Acquire::begin(&self.open, mode, timeout, Blocks::Thread)?.block()
    }

    /// Starts to take the lock; the owner goes on. The place in the queue is
    /// taken before this returns.
    ///
    /// Such a request is never refused with [`Deadlock`](ErrorKind::Deadlock):
    /// the owner may release what it waits for.
    ///
    /// # Errors
    /// As `acquire`, as far as they are known at once.
    pub fn start_acquire(&self, mode: Mode, timeout: Option<Duration>) -> Result<Acquire, Error> {
        Acquire::begin(&self.open, mode, timeout, Blocks::Nothing)
    }

    /// Yields once to the executor when the budget is used up: a task whose
    /// acquisitions all end at once would keep its worker for ever. It yields
    /// before it acquires, since it must not hold the lock meanwhile.
    async fn give_way(&self) {
        // Tasks that share a handle share the budget; a lost count does no harm.
        let left = self.budget.load(Ordering::Relaxed);
        if left > 0 {
            return self.budget.store(left - 1, Ordering::Relaxed);
        }
        self.budget.store(COOPERATIVE_BUDGET, Ordering::Relaxed);
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
