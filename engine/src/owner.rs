//! Owners: whoever takes locks under one set of quotas and is halted as one,
//! such as the guest in one wasmtime store (S9).

use crate::{
    Error, ErrorKind, Limits, Lock, LockName, deadlock::Halt, limits::Quota, lock::LockShared,
    manager::Shared, policy::Grant, sync::Mutex,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Takes locks, within [`Limits`]; made by
/// [`LockManager::owner`](crate::LockManager::owner).
///
/// All that an owner holds and waits for ends with [`close`](Owner::close).
/// Dropping the owner closes it.
#[derive(Debug)]
pub struct Owner(pub(crate) Arc<OwnerState>);

impl Owner {
    /// Opens the lock called `name` in a granted place, creating its file if
    /// that is permitted. It is not acquired yet.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName), [`NoEntry`](ErrorKind::NoEntry),
    /// [`NotAFile`](ErrorKind::NotAFile), [`Access`](ErrorKind::Access),
    /// [`NotPermitted`](ErrorKind::NotPermitted) for a name that leads out of
    /// the place or a file that is locked in another family,
    /// [`LimitExceeded`](ErrorKind::LimitExceeded),
    /// [`Unavailable`](ErrorKind::Unavailable), [`Lost`](ErrorKind::Lost)
    /// after `close`.
    pub fn open(&self, grant: &Grant, name: &str) -> Result<Lock, Error> {
        let owner = &self.0;
        if owner.is_closed() {
            return Err(ErrorKind::Lost.into());
        }
        let name = LockName::parse(name, owner.limits.name_bytes)?;
        let charge = owner.open_locks.take()?;
        LockShared::open(owner, grant, name, charge).map(Lock)
    }

    /// Ends every wait and every hold of this owner. From now on each of its
    /// calls answers [`Lost`](ErrorKind::Lost).
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether [`close`](Owner::close) was called.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Locks that are held or waited for, the open ones apart.
    pub fn in_use(&self) -> usize {
        self.0.held_locks.used()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub(crate) struct OwnerState {
    pub(crate) manager: Arc<Shared>,
    pub(crate) limits: Limits,
    pub(crate) open_locks: Arc<Quota>,
    pub(crate) held_locks: Arc<Quota>,
    pub(crate) waiting: Arc<Quota>,
    pub(crate) waiter_threads: Arc<Quota>,
    /// The request that halts this owner now.
    pub(crate) halt: Mutex<Option<Halt>>,
    closed: AtomicBool,
    locks: Mutex<HashMap<u64, Weak<LockShared>>>,
    next_lock: AtomicU64,
}

impl OwnerState {
    pub(crate) fn new(manager: Arc<Shared>, limits: Limits) -> OwnerState {
        let quota = |limit, what| Quota::new(limit, what, ErrorKind::LimitExceeded);
        OwnerState {
            open_locks: quota(limits.open_locks, "open locks"),
            held_locks: quota(limits.held_locks, "held locks"),
            waiting: quota(limits.waiting_requests, "waiting requests"),
            waiter_threads: quota(limits.waiter_threads, "waiter threads"),
            manager,
            limits,
            halt: Mutex::default(),
            closed: AtomicBool::new(false),
            locks: Mutex::default(),
            next_lock: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Remembers a lock so that `close` finds its holds; answers its number.
    pub(crate) fn register(&self, lock: Weak<LockShared>) -> u64 {
        let number = self.next_lock.fetch_add(1, Ordering::Relaxed);
        self.locks.lock().insert(number, lock);
        number
    }

    pub(crate) fn forget(&self, number: u64) {
        self.locks.lock().remove(&number);
    }

    fn close(self: &Arc<Self>) {
        self.closed.store(true, Ordering::Release);
        let locks: Vec<_> = self.locks.lock().values().cloned().collect();
        for lock in locks.iter().filter_map(Weak::upgrade) {
            for entry in lock.entries() {
                entry.evict(self);
            }
        }
    }
}

/// Owners are compared by identity: quotas and halts belong to one of them.
impl PartialEq for OwnerState {
    fn eq(&self, other: &OwnerState) -> bool {
        std::ptr::eq(self, other)
    }
}

impl std::fmt::Debug for OwnerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnerState")
            .field("limits", &self.limits)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
