//! What the owners of one manager share: which locks are open, the threads, the
//! timer, and who is blocked where.

use super::{entry::Entry, pool::Pool, services::Services, timer::Timer};
use crate::{
    Ceilings, Error, ErrorKind, LockName, Mode,
    backend::{Access, Creation, Identity},
    core::WaitGraph,
    diagnose::Deadlocks,
    policy::{Account, Grant, OwnerId, Quota},
    sync::Mutex,
};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

/// A lock that was opened through a grant.
pub(crate) struct Place {
    pub(crate) entry: Arc<Entry>,
    /// Whether it could be opened for exclusive requests through this grant,
    /// whatever others could (S16).
    pub(crate) exclusive: bool,
}

/// The entries that live, and some that do not any more.
#[derive(Default)]
struct Entries {
    by_identity: HashMap<Identity, Weak<Entry>>,
    /// How many there were after those that had ended were last taken out.
    kept: usize,
}

impl Entries {
    fn insert(&mut self, entry: &Arc<Entry>) {
        // Looked through when their number has doubled: one step for each insert.
        if self.by_identity.len() >= 2 * self.kept.max(16) {
            self.by_identity.retain(|_, entry| entry.strong_count() > 0);
            self.kept = self.by_identity.len();
        }
        let identity = entry.identity.clone();
        self.by_identity.insert(identity, Arc::downgrade(entry));
    }
}

/// One host.
pub(crate) struct Host {
    entries: Mutex<Entries>,
    pub(crate) lock_files: Arc<Quota>,
    pub(crate) services: Arc<Services>,
    /// Its mutex serializes the arrivals of requests that block their owner. It
    /// is taken before the state of an entry; no system call is made under it.
    pub(crate) blocked: Mutex<WaitGraph<OwnerId, Arc<Entry>>>,
    pub(crate) deadlocks: Deadlocks,
}

impl Host {
    pub(crate) fn new(ceilings: &Ceilings) -> Host {
        Host {
            entries: Mutex::default(),
            lock_files: Arc::new(Quota::new(
                ceilings.lock_files,
                "open lock files",
                ErrorKind::Unavailable,
            )),
            services: Arc::new(Services {
                pool: Pool::new(ceilings.waiter_threads),
                timer: Timer::default(),
            }),
            blocked: Mutex::default(),
            deadlocks: Deadlocks::default(),
        }
    }

    /// Opens a lock and finds its entry, whatever name it was opened by.
    pub(crate) fn open(
        &self,
        account: &Account,
        grant: &Grant,
        name: &LockName,
    ) -> Result<Place, Error> {
        let access = if grant.shared_only {
            Access::Shared
        } else {
            Access::Any
        };
        let may_create = account.created_locks.charge().is_ok();
        let mut creation = Creation::new(may_create);
        let opened = grant.space.open(name, access, &mut creation);
        if may_create && !creation.is_done() {
            account.created_locks.give_back();
        }
        let opened = opened?;
        let exclusive = opened.resource.permits(Mode::Exclusive);
        let found = {
            let mut entries = self.entries.lock();
            let found = entries.by_identity.get(&opened.identity);
            match found.and_then(Weak::upgrade) {
                Some(entry) if !entry.is_retired() => entry,
                _ => {
                    let permit = self.lock_files.take()?;
                    let entry = Entry::new(&self.services, opened, permit);
                    entries.insert(&entry);
                    return Ok(Place { entry, exclusive });
                }
            }
        };
        if found.family != opened.family {
            return Err(Error::new(
                ErrorKind::FamilyMismatch,
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
}
