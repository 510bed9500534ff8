//! Owners: they take locks under one set of quotas and are blocked as one,
//! such as the guest in one wasmtime store (S9).

use super::opened::OpenLocks;
use crate::{
    Error, Limits, Lock,
    driver::Host,
    policy::{Account, Grant},
};
use std::{
    fmt,
    sync::{Arc, Weak},
};

/// Takes locks, within [`Limits`]; made by
/// [`LockManager::owner`](crate::LockManager::owner).
///
/// All that an owner holds and waits for ends with [`close`](Owner::close).
/// Dropping the owner closes it.
pub struct Owner(Arc<OpenLocks>);

impl Owner {
    pub(super) fn new(host: &Arc<Host>, limits: Limits) -> Owner {
        Owner(Arc::new(OpenLocks::new(host, Account::new(limits))))
    }

    /// Opens the lock called `name` in a granted place, creating its file if
    /// that is permitted. It is not acquired yet.
    ///
    /// # Errors
    /// [`InvalidName`](crate::ErrorKind::InvalidName), [`NoEntry`](crate::ErrorKind::NoEntry),
    /// [`NotAFile`](crate::ErrorKind::NotAFile), [`Access`](crate::ErrorKind::Access),
    /// [`NotPermitted`](crate::ErrorKind::NotPermitted) for a name that leads out of
    /// the place or a file that is locked in another family,
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded),
    /// [`Unavailable`](crate::ErrorKind::Unavailable), [`Lost`](crate::ErrorKind::Lost)
    /// after `close`.
    pub fn open(&self, grant: &Grant, name: &str) -> Result<Lock, Error> {
        self.0.open(grant, name).map(Lock::new)
    }

    /// Ends every wait and every hold of this owner. From now on each of its
    /// calls answers [`Lost`](crate::ErrorKind::Lost).
    pub fn close(&self) {
        self.0.close();
    }

    /// A handle by which this owner can be closed while a call of it waits, from
    /// any thread.
    pub fn closer(&self) -> Closer {
        Closer(Arc::downgrade(&self.0))
    }

    /// Whether [`close`](Owner::close) was called.
    pub fn is_closed(&self) -> bool {
        self.0.account.is_closed()
    }

    /// Locks that are held or waited for, the open ones apart.
    pub fn in_use(&self) -> usize {
        self.0.account.held_locks.used()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner")
            .field("limits", &self.0.account.limits)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Closes an [`Owner`] that another thread uses; made by [`Owner::closer`].
///
/// It keeps nothing alive: once the owner is gone, it does nothing.
#[derive(Clone)]
pub struct Closer(Weak<OpenLocks>);

impl Closer {
    /// As [`Owner::close`]: a call of the owner that waits ends with
    /// [`Lost`](crate::ErrorKind::Lost).
    pub fn close(&self) {
        if let Some(opened) = self.0.upgrade() {
            opened.close();
        }
    }

    /// Locks that are held or waited for; none once the owner is gone.
    pub fn in_use(&self) -> usize {
        let opened = self.0.upgrade();
        opened.map_or(0, |opened| opened.account.held_locks.used())
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closer").finish_non_exhaustive()
    }
}
