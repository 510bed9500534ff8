//! What the owners of one manager share: which locks are open, the threads, the
//! timer, and who is blocked where.

use super::{entry::Entry, services::Services};
use crate::{
    Ceilings, Error, ErrorKind, LockName, Mode,
    backend::{Access, Creation, Identity, OpenedRanges},
    core::WaitGraph,
    diagnose::Deadlocks,
    policy::{Account, Grant, OwnerId, Quota},
    sync::Mutex,
};
use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering},
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
    /// How often a file is open for locks on ranges.
    ranges: HashMap<Identity, OpenRanges>,
    /// How many there were after those that had ended were last taken out.
    kept: usize,
}

/// A file that is open for locks on ranges.
struct OpenRanges {
    count: usize,
    /// Of locks on the whole file, those that exclude ranges.
    families: &'static [&'static str],
}

impl Entries {
    fn find(&self, identity: &Identity) -> Option<Arc<Entry>> {
        let entry = self.by_identity.get(identity).and_then(Weak::upgrade)?;
        (!entry.is_retired()).then_some(entry)
    }

    /// Notes a file that is open for ranges, unless the lock on the whole of it would not
    /// exclude them.
    fn open_ranges(
        &mut self,
        opened: OpenedRanges,
        entry: Option<&Entry>,
        name: &LockName,
    ) -> Result<OpenedRanges, Error> {
        if let Some(entry) = entry
            && entry.family_of_grant.load(Ordering::Relaxed)
            && !opened.families.contains(&entry.family)
        {
            return Err(ranges_mismatch(name, entry.family));
        }
        let identity = opened.identity.clone();
        let open = self.ranges.entry(identity).or_insert(OpenRanges {
            count: 0,
            families: opened.families,
        });
        open.count += 1;
        Ok(opened)
    }

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
            services: Arc::new(Services::new(ceilings.waiter_threads)),
            blocked: Mutex::default(),
            deadlocks: Deadlocks::default(),
        }
    }

    /// Opens a lock, or a semaphore with so many permits, and finds its entry, whatever name
    /// it was opened by.
    pub(crate) fn open(
        &self,
        account: &Account,
        grant: &Grant,
        name: &LockName,
        permits: u8,
    ) -> Result<Place, Error> {
        let opened = create_within(account, |creation| match permits {
            0 => grant.space.open(name, access(grant), creation),
            permits => grant.space.open_semaphore(name, permits, creation),
        })?;
        let exclusive = opened.resource.permits(Mode::Exclusive);
        let found = {
            let mut entries = self.entries.lock();
            if let Some(ranges) = entries.ranges.get(&opened.identity)
                && !grant.family_of_call
                && !ranges.families.contains(&opened.family)
            {
                return Err(ranges_mismatch(name, opened.family));
            }
            match entries.find(&opened.identity) {
                Some(entry) => {
                    if entry.family == opened.family {
                        entry.chosen_by(grant);
                    }
                    entry
                }
                None => {
                    let permit = self.lock_files.take()?;
                    let entry = Entry::new(&self.services, opened, permits, permit);
                    entry.chosen_by(grant);
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
        if found.permits != permits {
            return Err(Error::new(
                ErrorKind::FamilyMismatch,
                format!(
                    "{name:?} is open as a semaphore with {} permits, and not with {permits}",
                    found.permits
                ),
            ));
        }
        found.add_resource(opened.resource);
        let entry = found;
        Ok(Place { entry, exclusive })
    }

    /// Opens a file for locks on ranges; [`close_ranges`](Host::close_ranges) has to follow.
    pub(super) fn open_ranges(
        &self,
        account: &Account,
        grant: &Grant,
        name: &LockName,
    ) -> Result<OpenedRanges, Error> {
        let opened = create_within(account, |creation| {
            grant.space.open_ranges(name, access(grant), creation)
        })?;
        let mut entries = self.entries.lock();
        // Kept until the mutex is released: the last of an entry closes its file.
        let entry = entries.find(&opened.identity);
        let result = entries.open_ranges(opened, entry.as_deref(), name);
        drop(entries);
        result
    }

    pub(super) fn close_ranges(&self, identity: &Identity) {
        let mut entries = self.entries.lock();
        if let Some(open) = entries.ranges.get_mut(identity) {
            open.count -= 1;
            if open.count == 0 {
                entries.ranges.remove(identity);
            }
        }
    }

    /// The lock on a whole file, if it is open.
    pub(crate) fn entry(&self, identity: &Identity) -> Option<Arc<Entry>> {
        self.entries.lock().find(identity)
    }
}

/// Opens something that may be created, within the owner's quota.
fn create_within<T>(
    account: &Account,
    open: impl FnOnce(&mut Creation) -> Result<T, Error>,
) -> Result<T, Error> {
    let may_create = account.created_locks.charge().is_ok();
    let mut creation = Creation::new(may_create);
    let opened = open(&mut creation);
    if may_create && !creation.is_done() {
        account.created_locks.give_back();
    }
    opened
}

/// For as much as a grant permits.
fn access(grant: &Grant) -> Access {
    match grant.shared_only {
        true => Access::Shared,
        false => Access::Any,
    }
}

#[cold]
fn ranges_mismatch(name: &LockName, family: &str) -> Error {
    Error::new(
        ErrorKind::FamilyMismatch,
        format!(
            "{name:?} is in use with `{family}` locks on the whole file and with locks on ranges \
             of its bytes, which would not exclude each other"
        ),
    )
}
