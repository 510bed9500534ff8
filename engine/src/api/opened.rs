//! The locks that an owner has open.

use crate::{
    ByteRange, Error, Mode,
    core::Amount,
    driver::{Entry, Host, RangeFile},
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
    ranges: Mutex<HashMap<u64, Weak<RangeFile>>>,
    next: AtomicU64,
}

impl OpenLocks {
    pub(super) fn new(host: &Arc<Host>, account: Account) -> OpenLocks {
        OpenLocks {
            host: Arc::clone(host),
            account: Arc::new(account),
            by_number: Mutex::default(),
            ranges: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    pub(super) fn open(
        self: &Arc<Self>,
        grant: &Grant,
        name: &str,
        permits: u8,
    ) -> Result<Arc<OpenLock>, Error> {
        let lock = Arc::new(OpenLock {
            named: Named::open(&self.host, &self.account, grant, name, permits)?,
            of: Arc::clone(self),
            number: self.next.fetch_add(1, Ordering::Relaxed),
        });
        let mut by_number = self.by_number.lock();
        by_number.insert(lock.number, Arc::downgrade(&lock));
        Ok(lock)
    }

    pub(super) fn open_ranges(
        self: &Arc<Self>,
        grant: &Grant,
        name: &str,
    ) -> Result<Arc<OpenRanges>, Error> {
        let file = Arc::new(RangeFile::open(&self.host, &self.account, grant, name)?);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.ranges.lock().insert(number, Arc::downgrade(&file));
        Ok(Arc::new(OpenRanges {
            file,
            of: Arc::clone(self),
            number,
        }))
    }

    fn range_files(&self) -> Vec<Arc<RangeFile>> {
        let ranges = self.ranges.lock();
        ranges.values().filter_map(Weak::upgrade).collect()
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
                let held = held.into_iter().map(|amount| (amount, true));
                let all = held.chain(waiting.into_iter().map(|amount| (amount, false)));
                uses.extend(all.map(|(amount, held)| LockUse {
                    owner: self.account.label.to_string(),
                    lock: lock.name().to_string(),
                    mode: match amount {
                        Amount::Lock(mode) => mode,
                        Amount::Permits(_) => Mode::Shared,
                    },
                    held,
                    range: None,
                    permits: Some(amount.permits()).filter(|count| *count > 0),
                }));
            }
        }
        for file in self.range_files() {
            let (held, waiting) = file.uses();
            let held = held.into_iter().map(|piece| (piece, true));
            let all = held.chain(waiting.into_iter().map(|piece| (piece, false)));
            uses.extend(all.map(|(piece, held)| LockUse {
                owner: self.account.label.to_string(),
                lock: file.name().to_string(),
                mode: piece.mode,
                held,
                range: Some(piece.range),
                permits: None,
            }));
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
        for file in self.range_files() {
            file.evict();
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
    /// How it is held or asked for; a semaphore always shared.
    pub mode: Mode,
    /// Whether it is held; otherwise the owner waits for it.
    pub held: bool,
    /// The bytes that are locked, if not the whole file is.
    pub range: Option<ByteRange>,
    /// How many permits, of a semaphore.
    pub permits: Option<u8>,
}

/// One of them; its handle, its guards and its requests share it.
pub(super) struct OpenLock {
    named: Named,
    of: Arc<OpenLocks>,
    number: u64,
}

impl OpenLock {
    /// Whether the owner itself has so many permits of the semaphore that a request for
    /// others would wait for ever (S9).
    pub(super) fn has_too_many(&self, entry: &Entry, count: u8) -> bool {
        let (held, _) = entry.of_owner(self.account().id);
        let own: u8 = held.iter().map(|amount| amount.permits()).sum();
        own > self.permits().saturating_sub(count)
    }

    /// Whether the owner itself holds bytes of the file that exclude such a request, which
    /// would wait for ever.
    pub(super) fn waits_for_own_ranges(&self, entry: &Entry, mode: Mode) -> bool {
        self.of.range_files().iter().any(|file| {
            *file.identity() == entry.identity
                && file.excludes(entry.family)
                && file.holding(ByteRange::ALL, mode).is_some()
        })
    }
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

/// A file whose bytes the owner locks; its handle and its requests share it.
pub(super) struct OpenRanges {
    file: Arc<RangeFile>,
    of: Arc<OpenLocks>,
    number: u64,
}

impl OpenRanges {
    /// The locks of the owner itself, by name, for one of which a request would wait for
    /// ever, after the one that was asked for.
    pub(super) fn waits_for_itself(&self, range: ByteRange, mode: Mode) -> Option<Vec<String>> {
        let own_ranges = || {
            let files = self.of.range_files();
            let other = files.into_iter().find(|file| {
                !Arc::ptr_eq(file, &self.file)
                    && file.identity() == self.identity()
                    && file.holding(range, mode).is_some()
            })?;
            Some(other.name().to_string())
        };
        let own_guards = || {
            let entry = self.host().entry(self.identity())?;
            let (held, _) = entry.of_owner(self.account().id);
            // A lock of another family may be exclusive for the kernel though its guard was
            // downgraded. It is the reason then: nobody else can hold a conflicting range.
            let conflicts = |held: &Amount| held.mode().conflicts(mode) || entry.family != "posix";
            let stands = self.excludes(entry.family) && held.iter().any(conflicts);
            stands.then(|| self.name().to_string())
        };
        let other = own_ranges().or_else(own_guards)?;
        Some(vec![self.name().to_string(), other])
    }
}

impl Deref for OpenRanges {
    type Target = Arc<RangeFile>;

    fn deref(&self) -> &Arc<RangeFile> {
        &self.file
    }
}

impl Drop for OpenRanges {
    fn drop(&mut self) {
        self.file.drop_all();
        self.of.ranges.lock().remove(&self.number);
    }
}

/// One of the locks that an owner may hold or wait for; given back on drop.
pub(super) struct Share(Arc<OpenLock>);

impl Share {
    pub(super) fn take(lock: &Arc<OpenLock>, amount: Amount) -> Result<Share, Error> {
        lock.charge(amount.mode())?;
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
