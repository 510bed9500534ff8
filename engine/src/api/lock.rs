//! An open lock of one owner.

use super::{
    acquire::{Acquire, Blocks},
    cooperation::Cooperation,
    guard::Guard,
    opened::{OpenLock, Share},
};
use crate::{Error, ErrorKind, Mode, backend::Identity, naming::Tried};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// An open lock of one [`Owner`](crate::Owner).
pub struct Lock {
    open: Arc<OpenLock>,
    cooperation: Cooperation,
}

impl Lock {
    pub(super) fn new(open: Arc<OpenLock>) -> Lock {
        Lock {
            open,
            cooperation: Cooperation::default(),
        }
    }

    /// The name the lock was opened with, without `.` and empty components.
    pub fn name(&self) -> &str {
        self.open.name().as_str()
    }

    /// What its name led to when that was looked up last.
    pub fn identity(&self) -> Identity {
        self.open.identity()
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
        let share = Share::take(&self.open, mode.into())?;
        match self.open.try_hold(mode.into())? {
            Tried::Held(held) => Ok(Guard::new(share, held, mode)),
            Tried::Busy => Err(ErrorKind::WouldBlock.into()),
            Tried::Later => Acquire::try_later(share, mode.into(), true)?.block(),
        }
    }

    /// As [`try_acquire`](Lock::try_acquire), but suspends the task if it has
    /// to wait, and yields to other tasks at intervals.
    ///
    /// # Errors
    /// As `try_acquire`.
    pub async fn try_acquire_async(&self, mode: Mode) -> Result<Guard, Error> {
        self.cooperation.give_way(self.open.host()).await;
        let share = Share::take(&self.open, mode.into())?;
        match self.open.try_hold(mode.into())? {
            Tried::Held(held) => Ok(Guard::new(share, held, mode)),
            Tried::Busy => Err(ErrorKind::WouldBlock.into()),
            Tried::Later => Acquire::try_later(share, mode.into(), false)?.await,
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
        self.cooperation.give_way(self.open.host()).await;
        Acquire::begin(&self.open, mode.into(), timeout, Blocks::Task)?.await
    }

    /// As [`acquire`](Lock::acquire), but blocks the calling thread, which itself
    /// waits in the kernel if this request is the first of the host.
    ///
    /// # Errors
    /// As `acquire`.
    pub fn acquire_blocking(&self, mode: Mode, timeout: Option<Duration>) -> Result<Guard, Error> {
        Acquire::begin(&self.open, mode.into(), timeout, Blocks::Thread)?.block()
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
        Acquire::begin(&self.open, mode.into(), timeout, Blocks::Nothing)
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
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
