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
    task::{Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

/// How many acquisitions of a lock may end at once, one after the other, before
/// the task gives way to others of its executor. As many as a task of tokio may
/// poll resources before it is made to; at 2 us each this is a quarter of a
/// millisecond.
const COOPERATIVE_BUDGET: u32 = 128;

/// How often a task wakes itself, which keeps it on its worker thread, before it
/// has another thread wake it, which lets any idle worker have it. Workers with
/// work of their own take none from each other, so three such tasks may share one
/// worker while a fourth has the other to itself. Once in 4 ms costs nothing that
/// can be measured.
const WORKER_BUDGET: u32 = 16;

/// An open lock of one [`Owner`](crate::Owner).
pub struct Lock {
    open: Arc<OpenLock>,
    /// Acquisitions since the task moved.
    unyielded: AtomicU32,
}

impl Lock {
    pub(super) fn new(open: Arc<OpenLock>) -> Lock {
        Lock {
            open,
            unyielded: AtomicU32::new(0),
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

    /// As [`try_acquire`](Lock::try_acquire), but suspends the task if it has
    /// to wait, and yields to other tasks at intervals.
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

    /// Acquires the lock and blocks its owner. Until the future has ended, the
    /// engine assumes that the owner does nothing else, so that it can detect
    /// deadlocks.
    ///
    /// `None` waits for as long as the limits allow, zero tries once. Dropping
    /// the future withdraws the request.
    ///
    /// # Errors
    /// [`Timeout`](ErrorKind::Timeout), [`Deadlock`](ErrorKind::Deadlock),
    /// [`ReadOnly`](ErrorKind::ReadOnly) or [`Access`](ErrorKind::Access) for a mode
    /// that is denied, [`Quota`](ErrorKind::Quota),
    /// [`Unavailable`](ErrorKind::Unavailable), [`Closed`](ErrorKind::Closed) once
    /// the owner is closed, [`Lost`](ErrorKind::Lost) if the back end has lost the
    /// lock before this returns, and what opening answers if the lock file was
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

    /// When a holder last [touched](crate::Guard::touch) the lock, by the clock of
    /// what keeps it; `None` if none ever did. Whatever sets the modification time of
    /// a lock file touches it as well. The time may lie in the future, if clocks
    /// differ.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) where the back end keeps no time,
    /// [`Closed`](ErrorKind::Closed) once the owner is closed, and what opening
    /// answers if the lock file was replaced and is opened again.
    pub fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.open.look_up()?.entry().last_touched()
    }

    /// Yields once to the executor when the budget is used up: a task whose
    /// acquisitions all end at once would keep its worker for ever. It yields
    /// before it acquires, since it must not hold the lock meanwhile.
    async fn give_way(&self) {
        // Tasks that share a handle share the budget; a lost count does no harm.
        let count = self.unyielded.load(Ordering::Relaxed) + 1;
        let moves = count == COOPERATIVE_BUDGET * WORKER_BUDGET;
        let next = if moves { 0 } else { count };
        self.unyielded.store(next, Ordering::Relaxed);
        if !count.is_multiple_of(COOPERATIVE_BUDGET) {
            return;
        }
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            if !moves || !self.wake_from_elsewhere(cx.waker()) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await;
    }

    /// Has the timer's thread wake a task; `false` if there is none.
    fn wake_from_elsewhere(&self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let timer = &self.open.host().services.timer;
        timer
            .at(Instant::now(), Box::new(move || waker.wake()))
            .is_ok()
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
