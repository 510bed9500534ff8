//! The lock manager: one host.

use crate::{Ceilings, Limits, Owner, diagnose::Deadlock, driver::Host};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// One host: owners of one manager queue with each other in the order in which
/// they come; two managers exclude each other through the operating system
/// only, as two processes do.
///
/// Clones are the same manager. Most programs want the one of the process,
/// [`LockManager::global`].
#[derive(Clone)]
pub struct LockManager(Arc<Host>);

impl LockManager {
    /// A manager of its own, with its own [`Ceilings`].
    pub fn new(ceilings: Ceilings) -> LockManager {
        LockManager(Arc::new(Host::new(&ceilings)))
    }

    /// The manager of this process, with default ceilings.
    pub fn global() -> &'static LockManager {
        static GLOBAL: OnceLock<LockManager> = OnceLock::new();
        GLOBAL.get_or_init(|| LockManager::new(Ceilings::default()))
    }

    /// Makes an owner.
    pub fn owner(&self, limits: Limits) -> Owner {
        Owner::new(&self.0, limits)
    }

    /// The last 32 requests that were refused with
    /// [`ErrorKind::Deadlock`](crate::ErrorKind::Deadlock), the oldest first. For the operator: the names
    /// in it are none of a guest's business.
    pub fn deadlocks(&self) -> Vec<Deadlock> {
        self.0.deadlocks.recent()
    }

    /// Helper threads that wait now, or have waited and are kept for the next
    /// wait.
    pub fn waiter_threads(&self) -> usize {
        self.0.services.pool.threads()
    }

    /// Lock files that are open now.
    pub fn open_files(&self) -> usize {
        self.0.lock_files.used()
    }
}

impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager")
            .field("open_files", &self.open_files())
            .finish_non_exhaustive()
    }
}
