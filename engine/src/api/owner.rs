//! Owners: they take locks under one set of quotas and are blocked as one,
//! such as the guest in one wasmtime store (S9).

use super::opened::{LockUse, OpenLocks};
use crate::{
    Error, ErrorKind, Lock, Permits, RangeOwner, Semaphore,
    driver::Host,
    policy::{Account, Grant},
};
use std::{
    fmt,
    sync::{Arc, Weak},
};

/// Takes locks, within [`Limits`](crate::Limits); made by
/// [`LockManager::owner`](crate::LockManager::owner).
///
/// All that an owner holds and waits for ends with [`close`](Owner::close).
/// Dropping the owner closes it.
pub struct Owner(Arc<OpenLocks>);

impl Owner {
    pub(super) fn new(host: &Arc<Host>, account: Account) -> Owner {
        Owner(Arc::new(OpenLocks::new(host, account)))
    }

    pub(super) fn opened(&self) -> &Arc<OpenLocks> {
        &self.0
    }

    /// Opens the lock called `name` in a granted place, creating its file if
    /// that is permitted. It is not acquired yet.
    ///
    /// # Errors
    /// [`InvalidName`](crate::ErrorKind::InvalidName), [`NoEntry`](crate::ErrorKind::NoEntry),
    /// [`IsDirectory`](crate::ErrorKind::IsDirectory), [`NotAFile`](crate::ErrorKind::NotAFile),
    /// [`Access`](crate::ErrorKind::Access),
    /// [`NotPermitted`](crate::ErrorKind::NotPermitted) for a name that leads out of
    /// the place, [`FamilyMismatch`](crate::ErrorKind::FamilyMismatch),
    /// [`Quota`](crate::ErrorKind::Quota),
    /// [`Unavailable`](crate::ErrorKind::Unavailable),
    /// [`Closed`](crate::ErrorKind::Closed) after `close`.
    pub fn open(&self, grant: &Grant, name: &str) -> Result<Lock, Error> {
        self.0.open(grant, name, 0).map(Lock::new)
    }

    /// Opens the semaphore called `name`, with so many permits, in a granted place, creating
    /// its file if that is permitted. No permit is acquired yet.
    ///
    /// All who use a semaphore open it with the same number of permits.
    ///
    /// # Errors
    /// As [`open`](Owner::open); [`FamilyMismatch`](crate::ErrorKind::FamilyMismatch) if this
    /// host uses the name as a lock, or as a semaphore with another number of permits;
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly) if only shared locks are granted;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for no permits or more than
    /// [`Permits::MOST`], and where the back end has no semaphores.
    pub fn open_semaphore(
        &self,
        grant: &Grant,
        name: &str,
        permits: u8,
    ) -> Result<Semaphore, Error> {
        if !(1..=Permits::MOST).contains(&permits) {
            let why = format!("a semaphore has 1 to {} permits", Permits::MOST);
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        if grant.shared_only {
            return Err(ErrorKind::ReadOnly.into());
        }
        self.0.open(grant, name, permits).map(Semaphore::new)
    }

    /// Opens the file called `name` in a granted place for locks on ranges of its bytes,
    /// creating it if that is permitted. Nothing is locked yet.
    ///
    /// # Errors
    /// As [`open`](Owner::open); [`FamilyMismatch`](crate::ErrorKind::FamilyMismatch) if this
    /// host uses the file with locks that would not exclude those of `fcntl`;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) on file systems that are not local, on
    /// Windows, and where the back end has no ranges.
    pub fn open_ranges(&self, grant: &Grant, name: &str) -> Result<RangeOwner, Error> {
        self.0.open_ranges(grant, name).map(RangeOwner::new)
    }

    /// Ends every wait and every hold of this owner. From now on each of its
    /// calls answers [`Closed`](crate::ErrorKind::Closed).
    pub fn close(&self) {
        self.0.close();
    }

    /// A handle by which this owner can be looked at and closed from any thread,
    /// also while a call of it waits.
    pub fn handle(&self) -> OwnerHandle {
        OwnerHandle(Arc::downgrade(&self.0))
    }

    /// What the owner is called in logs and reports.
    pub fn label(&self) -> &str {
        &self.0.account.label
    }

    /// Whether [`close`](Owner::close) was called.
    pub fn is_closed(&self) -> bool {
        self.0.account.is_closed()
    }

    /// The number of locks that are held or waited for. Locks that are only
    /// open do not count.
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

/// Inspects and closes an [`Owner`] that another thread uses; made by [`Owner::handle`].
///
/// It keeps nothing alive: once the owner is gone, it does nothing.
#[derive(Clone)]
pub struct OwnerHandle(Weak<OpenLocks>);

impl OwnerHandle {
    /// As [`Owner::close`]: a call of the owner that waits ends with
    /// [`Closed`](crate::ErrorKind::Closed).
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

    /// What the owner is called in logs and reports; `None` once it is gone.
    pub fn label(&self) -> Option<String> {
        let opened = self.0.upgrade()?;
        Some(opened.account.label.to_string())
    }

    /// What the owner holds and waits for now; nothing once it is gone.
    pub fn snapshot(&self) -> Vec<LockUse> {
        let opened = self.0.upgrade();
        opened.map_or_else(Vec::new, |opened| opened.snapshot())
    }
}

impl fmt::Debug for OwnerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerHandle").finish_non_exhaustive()
    }
}
