//! The lock manager: one host.

use super::opened::{LockUse, OpenLocks};
use crate::{
    Ceilings, Limits, Owner, diagnose::Deadlock, driver::Host, policy::Account, sync::Mutex,
};
use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
};

/// One host: owners of one manager queue with each other in the order in which
/// they come; two managers exclude each other through the operating system
/// only, as two processes do.
///
/// Clones are the same manager. Most programs want the one of the process,
/// [`LockManager::global`].
#[derive(Clone)]
pub struct LockManager {
    host: Arc<Host>,
    owners: Arc<Mutex<Owners>>,
}

/// The owners that live, and some that do not any more.
#[derive(Default)]
struct Owners {
    all: Vec<Weak<OpenLocks>>,
    /// How many there were after those that had ended were last taken out.
    kept: usize,
}

impl Owners {
    fn insert(&mut self, owner: &Arc<OpenLocks>) {
        // Looked through when their number has doubled: one step for each insert.
        if self.all.len() >= 2 * self.kept.max(16) {
            self.all.retain(|owner| owner.strong_count() > 0);
            self.kept = self.all.len();
        }
        self.all.push(Arc::downgrade(owner));
    }
}

impl LockManager {
    /// A manager of its own, with its own [`Ceilings`].
    pub fn new(ceilings: Ceilings) -> LockManager {
        LockManager {
            host: Arc::new(Host::new(&ceilings)),
            owners: Arc::default(),
        }
    }

    /// The manager of this process, with default ceilings.
    pub fn global() -> &'static LockManager {
        static GLOBAL: OnceLock<LockManager> = OnceLock::new();
        GLOBAL.get_or_init(|| LockManager::new(Ceilings::default()))
    }

    /// Makes an owner. Its label is a number.
    pub fn owner(&self, limits: Limits) -> Owner {
        self.insert(Account::new(None, limits))
    }

    /// Makes an owner that is called `label` in logs and reports, such as by the
    /// name of a plugin or the number of a request.
    pub fn labelled_owner(&self, label: &str, limits: Limits) -> Owner {
        self.insert(Account::new(Some(label), limits))
    }

    fn insert(&self, account: Account) -> Owner {
        let owner = Owner::new(&self.host, account);
        self.owners.lock().insert(owner.opened());
        owner
    }

    /// What all owners hold and wait for now, for the operator: do not show the
    /// names in it to a guest. The owners are looked at one after the other, so a
    /// lock that changes hands meanwhile may be missing or be there twice.
    pub fn snapshot(&self) -> Vec<LockUse> {
        let owners: Vec<_> = self.owners.lock().all.clone();
        let owners = owners.iter().filter_map(Weak::upgrade);
        owners.flat_map(|owner| owner.snapshot()).collect()
    }

    /// The last 32 requests that were refused with
    /// [`ErrorKind::Deadlock`](crate::ErrorKind::Deadlock), the oldest first. For the
    /// operator: do not show the names in it to a guest.
    pub fn deadlocks(&self) -> Vec<Deadlock> {
        self.host.deadlocks.recent()
    }

    /// Helper threads that wait now, or have waited and are kept for the next
    /// wait.
    pub fn waiter_threads(&self) -> usize {
        self.host.services.pool.threads()
    }

    /// Lock files that are open now.
    pub fn open_files(&self) -> usize {
        self.host.lock_files.used()
    }
}

impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager")
            .field("open_files", &self.open_files())
            .finish_non_exhaustive()
    }
}
