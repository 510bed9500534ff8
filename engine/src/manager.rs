//! The lock manager: which lock files are open in this host, and what all of
//! its owners share.

use crate::{
    Ceilings, Error, ErrorKind, Limits, LockName, Mode, Owner,
    backend::{Access, Identity},
    deadlock::{Deadlock, Deadlocks},
    entry::Entry,
    limits::Quota,
    owner::OwnerState,
    policy::Grant,
    sync::Mutex,
    threads::Threads,
    timer::Timer,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Instant,
};

/// One host: owners of one manager queue with each other in the order in which
/// they come; two managers exclude each other through the operating system
/// only, as two processes do.
///
/// Clones are the same manager. Most programs want the one of the process,
/// [`LockManager::global`].
#[derive(Clone)]
pub struct LockManager(Arc<Shared>);

impl LockManager {
    /// A manager of its own, with its own [`Ceilings`].
    pub fn new(ceilings: Ceilings) -> LockManager {
        LockManager(Arc::new(Shared {
            entries: Mutex::default(),
            lock_files: Quota::new(
                ceilings.lock_files,
                "open lock files",
                ErrorKind::Unavailable,
            ),
            threads: Threads::new(ceilings.waiter_threads),
            timer: Timer::default(),
            arrivals: Mutex::default(),
            deadlocks: Deadlocks::default(),
            begun: Instant::now(),
        }))
    }

    /// The manager of this process, with default ceilings.
    pub fn global() -> &'static LockManager {
        static GLOBAL: OnceLock<LockManager> = OnceLock::new();
        GLOBAL.get_or_init(|| LockManager::new(Ceilings::default()))
    }

    /// Makes an owner.
    pub fn owner(&self, limits: Limits) -> Owner {
        Owner(Arc::new(OwnerState::new(Arc::clone(&self.0), limits)))
    }

    /// The last 32 requests that were refused with
    /// [`ErrorKind::Deadlock`], the oldest first. For the operator: the names
    /// in it are none of a guest's business.
    pub fn deadlocks(&self) -> Vec<Deadlock> {
        self.0.deadlocks.recent()
    }

    /// Helper threads that wait now, or have waited and are kept for the next
    /// wait.
    pub fn waiter_threads(&self) -> usize {
        self.0.threads.count()
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

/// A lock that was opened through a grant.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) entry: Arc<Entry>,
    /// Whether the file could be opened for exclusive requests through this
    /// grant, whatever others could (S16).
    pub(crate) exclusive: bool,
}

/// What the owners of one manager share.
pub(crate) struct Shared {
    entries: Mutex<HashMap<Identity, Weak<Entry>>>,
    lock_files: Arc<Quota>,
    pub(crate) threads: Threads,
    pub(crate) timer: Timer,
    /// Serializes the arrivals of requests that halt their owner, see
    /// `deadlock.rs`. Taken before any other lock.
    pub(crate) arrivals: Mutex<()>,
    pub(crate) deadlocks: Deadlocks,
    begun: Instant,
}

impl Shared {
    /// Opens a lock and finds its entry, whatever name it was opened by.
    pub(crate) fn open(self: &Arc<Self>, grant: &Grant, name: &LockName) -> Result<Place, Error> {
        let access = if grant.shared_only {
            Access::Shared
        } else {
            Access::Any
        };
        let opened = grant.space.open(name, access)?;
        let exclusive = opened.resource.permits(Mode::Exclusive);
        let found = {
            // An entry that is retired leaves the map here; its drop locks the
            // map, so it outlives the guard.
            let _stale;
            let mut entries = self.entries.lock();
            let found = entries.get(&opened.identity).and_then(Weak::upgrade);
            match found {
                Some(entry) if !entry.is_retired() => entry,
                found => {
                    _stale = found;
                    let charge = self.lock_files.take()?;
                    let identity = opened.identity.clone();
                    let entry = Arc::new(Entry::new(self, opened, charge));
                    entries.insert(identity, Arc::downgrade(&entry));
                    return Ok(Place { entry, exclusive });
                }
            }
        };
        if found.family != opened.family {
            return Err(Error::new(
                ErrorKind::NotPermitted,
                format!(
                    "{name:?} is open with `{}` locks through another grant; \
                     `{}` locks would not exclude them",
                    found.family, opened.family
                ),
            ));
        }
        found.add_resource(opened.resource);
        let entry = found;
        Ok(Place { entry, exclusive })
    }

    /// Takes an entry that is being dropped out of the map.
    pub(crate) fn forget(&self, entry: &Entry) {
        let mut entries = self.entries.lock();
        // A live entry under the same identity is another one.
        if entries
            .get(&entry.identity)
            .is_some_and(|other| other.strong_count() == 0)
        {
            entries.remove(&entry.identity);
        }
    }

    /// Milliseconds since the manager was made.
    pub(crate) fn uptime_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}
