//! The locks that an owner has open.

use crate::{
    Error, Mode,
    driver::Host,
    naming::Named,
    policy::{Account, Grant},
    sync::Mutex,
};
use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

/// The locks that one owner has open.
pub(super) struct OpenLocks {
    host: Arc<Host>,
    pub(super) account: Arc<Account>,
    by_number: Mutex<HashMap<u64, Weak<OpenLock>>>,
    next: AtomicU64,
}

impl OpenLocks {
    pub(super) fn new(host: &Arc<Host>, account: Account) -> OpenLocks {
        OpenLocks {
            host: Arc::clone(host),
            account: Arc::new(account),
            by_number: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    pub(super) fn open(
        self: &Arc<Self>,
        grant: &Grant,
        name: &str,
    ) -> Result<Arc<OpenLock>, Error> {
        let lock = Arc::new(OpenLock {
            named: Named::open(&self.host, &self.account, grant, name)?,
            of: Arc::clone(self),
            number: self.next.fetch_add(1, Ordering::Relaxed),
        });
        let mut by_number = self.by_number.lock();
        by_number.insert(lock.number, Arc::downgrade(&lock));
        Ok(lock)
    }

    /// What the owner holds and waits for now.
    pub(super) fn snapshot(&self) -> Vec<LockUse> {
        let locks: Vec<_> = self.by_number.lock().values().cloned().collect();
        let mut seen = HashSet::new();
        let mut uses = Vec::new();
        for lock in locks.iter().filter_map(Weak::upgrade) {
            for target in lock.all() {
                let entry = target.entry();
                // Two of its names may lead to one lock.
                if !seen.insert(Arc::as_ptr(entry)) {
                    continue;
                }
                let (held, waiting) = entry.of_owner(self.account.id);
                let held = held.into_iter().map(|mode| (mode, true));
                let all = held.chain(waiting.into_iter().map(|mode| (mode, false)));
                uses.extend(all.map(|(mode, held)| LockUse {
                    owner: self.account.label.to_string(),
                    lock: lock.name().to_string(),
                    mode,
                    held,
                }));
            }
        }
        uses
    }

    /// Ends every hold and every request of the owner, and all calls to come.
    pub(super) fn close(&self) {
        self.account.close();
        let locks: Vec<_> = self.by_number.lock().values().cloned().collect();
        for lock in locks.iter().filter_map(Weak::upgrade) {
            lock.evict();
        }
    }
}

/// A lock that an owner holds or waits for, when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockUse {
    /// The [label](crate::Owner::label) of the owner.
    pub owner: String,
    /// The name of the lock, as the owner has opened it.
    pub lock: String,
    /// How it is held or asked for.
    pub mode: Mode,
    /// Whether it is held; otherwise the owner waits for it.
    pub held: bool,
}

/// One of them; its handle, its guards and its requests share it.
pub(super) struct OpenLock {
    named: Named,
    of: Arc<OpenLocks>,
    number: u64,
}

impl Deref for OpenLock {
    type Target = Named;

    fn deref(&self) -> &Named {
        &self.named
    }
}

impl Drop for OpenLock {
    fn drop(&mut self) {
        self.of.by_number.lock().remove(&self.number);
    }
}

/// One of the locks that an owner may hold or wait for; given back on drop.
pub(super) struct Share(Arc<OpenLock>);

impl Share {
    pub(super) fn take(lock: &Arc<OpenLock>, mode: Mode) -> Result<Share, Error> {
        lock.charge(mode)?;
        Ok(Share(Arc::clone(lock)))
    }

    pub(super) fn lock(&self) -> &Arc<OpenLock> {
        &self.0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.give_back();
    }
}
