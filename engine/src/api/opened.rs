//! The locks that an owner has open.

use crate::{
    Error, Mode,
    driver::Host,
    naming::Named,
    policy::{Account, Grant},
    sync::Mutex,
};
use std::{
    collections::HashMap,
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

    /// Ends every hold and every request of the owner, and all calls to come.
    pub(super) fn close(&self) {
        self.account.close();
        let locks: Vec<_> = self.by_number.lock().values().cloned().collect();
        for lock in locks.iter().filter_map(Weak::upgrade) {
            lock.evict();
        }
    }
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
