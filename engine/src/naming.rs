//! Which lock a name refers to: the lock that was opened, or another lock that
//! has replaced it (S11).

use crate::{
    Error, ErrorKind, LockName, Mode,
    backend::Identity,
    core::{Amount, HoldId},
    driver::{Attempt, Entry, Host, Place},
    policy::{Account, Grant, Permit},
    sync::Mutex,
};
use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

/// How many acquisitions may pass before the lock's name is looked up again:
/// a look-up costs about half a lock, so 64 make it one part in a hundred.
const CHECK_ACQUISITIONS: u32 = 64;

/// How long a name may stand unchecked: a lock that is taken less often than
/// this has its name checked each time.
const CHECK_INTERVAL_MS: u64 = 100;

/// How often one request follows a lock that is replaced under it. If it
/// happens more often, a program replaces files in a loop.
const REOPEN_LIMIT: usize = 64;

/// A lock that a name has led to.
pub(crate) struct Target {
    place: Place,
    /// Of the owner's open locks, once the name leads elsewhere and this is
    /// still in use.
    former: OnceLock<Permit>,
}

impl Target {
    fn new(place: Place) -> Arc<Target> {
        Arc::new(Target {
            place,
            former: OnceLock::new(),
        })
    }

    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.place.entry
    }
}

/// A hold that ends on drop.
pub(crate) struct Held {
    pub(crate) target: Arc<Target>,
    pub(crate) hold: HoldId,
}

impl Held {
    pub(crate) fn is_held(&self) -> bool {
        self.target.entry().holds(self.hold)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.target.entry().release(self.hold);
    }
}

/// What [`Named::try_hold`] achieved.
pub(crate) enum Tried {
    Held(Held),
    /// The lock is held or waited for.
    Busy,
    /// An operation is under way: the request is to queue.
    Later,
}

/// A name that was opened, and where it has led.
pub(crate) struct Named {
    host: Arc<Host>,
    account: Arc<Account>,
    grant: Grant,
    name: LockName,
    /// How many permits the semaphore has; zero for a lock.
    permits: u8,
    targets: Mutex<Targets>,
    /// Acquisitions since the name was last looked up.
    unchecked: AtomicU32,
    /// Of the entry, as it was when the name was last looked up.
    generation: AtomicU32,
    /// When that was, by [`now_ms`].
    checked_ms: AtomicU64,
    _permit: Permit,
}

struct Targets {
    current: Arc<Target>,
    /// Holds and requests may live on there.
    former: Vec<Weak<Target>>,
}

impl Named {
    /// Opens the name of a lock, or of a semaphore with so many permits, within the owner's
    /// quota.
    pub(crate) fn open(
        host: &Arc<Host>,
        account: &Arc<Account>,
        grant: &Grant,
        name: &str,
        permits: u8,
    ) -> Result<Named, Error> {
        account.check_open()?;
        let name = LockName::parse(name, account.limits.name_bytes)?;
        let permit = account.open_locks.take()?;
        let current = Target::new(host.open(account, grant, &name, permits)?);
        Ok(Named {
            checked_ms: AtomicU64::new(now_ms()),
            host: Arc::clone(host),
            account: Arc::clone(account),
            grant: grant.clone(),
            name,
            permits,
            targets: Mutex::new(Targets {
                current,
                former: Vec::new(),
            }),
            unchecked: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            _permit: permit,
        })
    }

    pub(crate) fn name(&self) -> &LockName {
        &self.name
    }

    /// How many permits the semaphore has; zero for a lock.
    pub(crate) fn permits(&self) -> u8 {
        self.permits
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Checks the mode against the policy, then takes one of the owner's held
    /// locks; [`give_back`](Named::give_back) has to follow.
    pub(crate) fn charge(&self, mode: Mode) -> Result<(), Error> {
        self.account.check_open()?;
        if !self.grant.permits(mode) {
            return Err(shared_only());
        }
        self.account.held_locks.charge()
    }

    pub(crate) fn give_back(&self) {
        self.account.held_locks.give_back();
    }

    /// An error unless exclusive requests are granted here.
    pub(crate) fn check_exclusive(&self, target: &Target) -> Result<(), Error> {
        if !self.grant.permits(Mode::Exclusive) {
            return Err(shared_only());
        }
        if !target.place.exclusive {
            return Err(read_only());
        }
        Ok(())
    }

    /// The lock for a request.
    fn target(&self, mode: Mode) -> Result<Arc<Target>, Error> {
        let targets = self.targets.lock();
        if mode == Mode::Exclusive && !targets.current.place.exclusive {
            return Err(read_only());
        }
        Ok(Arc::clone(&targets.current))
    }

    /// What the name led to when that was looked up last.
    pub(crate) fn identity(&self) -> Identity {
        self.targets.lock().current.entry().identity.clone()
    }

    /// The lock that the name leads to now.
    pub(crate) fn look_up(&self) -> Result<Arc<Target>, Error> {
        self.account.check_open()?;
        self.follow(Mode::Shared, false, None)
    }

    /// Every lock that the name has led to and that is still in use.
    pub(crate) fn all(&self) -> Vec<Arc<Target>> {
        let targets = self.targets.lock();
        let former = targets.former.iter().filter_map(Weak::upgrade);
        let mut all: Vec<_> = former.collect();
        all.push(Arc::clone(&targets.current));
        all
    }

    /// Ends every hold and every request of the owner by this name.
    pub(crate) fn evict(&self) {
        for target in self.all() {
            target.entry().evict(self.account.id);
        }
    }

    /// Opens the name again because it no longer leads to `stale`.
    fn reopen(&self, stale: &Arc<Target>) -> Result<(), Error> {
        tracing::debug!(target: "clasp::file", lock = %self.name, "the lock was replaced, opening the new one");
        stale.entry().retire_if_unlinked();
        // If other calls still use the old lock, it continues to count against
        // the quota.
        let in_use = Arc::strong_count(stale) > 2 && stale.former.get().is_none();
        let permit = match in_use {
            true => Some(self.account.open_locks.take()?),
            false => None,
        };
        let place = self
            .host
            .open(&self.account, &self.grant, &self.name, self.permits)?;
        let fresh = Target::new(place);
        if let Some(permit) = permit {
            drop(stale.former.set(permit));
        }
        let mut targets = self.targets.lock();
        // If another request by this name has moved on before, `stale` is among
        // the former ones; what it moved to may be stale by now as well, and
        // the next that uses it will see.
        let unused = if Arc::ptr_eq(&targets.current, stale) {
            targets.former.retain(|target| target.strong_count() > 0);
            targets.former.push(Arc::downgrade(stale));
            std::mem::replace(&mut targets.current, fresh)
        } else {
            fresh
        };
        drop(targets);
        // The last of an entry closes its file: not under a mutex.
        drop(unused);
        Ok(())
    }

    /// Whether the name still leads to this lock.
    pub(crate) fn leads_to(&self, target: &Target) -> Result<bool, Error> {
        let entry = target.entry();
        let generation = entry.name_generation.load(Ordering::Relaxed);
        let leads = match self.grant.space.identify(&self.name) {
            Ok(found) => found.as_ref() == Some(&entry.identity),
            // Whatever stands there now, it is not this one.
            Err(_) if entry.is_unlinked() => false,
            Err(error) => return Err(error),
        };
        if leads {
            self.unchecked.store(0, Ordering::Relaxed);
            self.generation.store(generation, Ordering::Relaxed);
            self.checked_ms.store(now_ms(), Ordering::Relaxed);
        } else {
            entry.name_generation.fetch_add(1, Ordering::Relaxed);
        }
        Ok(leads)
    }

    /// Whether a request may wait for this lock, or use it after a wait: it still
    /// has a name and, if a look-up is due, this one leads to it.
    ///
    /// If guests of this host hand a lock to each other, only this function checks
    /// its name. The link count costs a quarter of a look-up, and tells of files
    /// that were removed or replaced by a rename.
    pub(crate) fn is_current(&self, target: &Target) -> Result<bool, Error> {
        let entry = target.entry();
        if !entry.immediate || self.is_due(entry) {
            return self.leads_to(target);
        }
        entry.is_linked()
    }

    /// Whether the name is to be looked up: at intervals, and if another name was
    /// found not to lead to this lock any more.
    fn is_due(&self, entry: &Entry) -> bool {
        // One user at a time is the rule; a lost count among several costs one
        // look-up.
        let unchecked = self.unchecked.load(Ordering::Relaxed);
        self.unchecked
            .store(unchecked.wrapping_add(1), Ordering::Relaxed);
        let checked = self.checked_ms.load(Ordering::Relaxed);
        unchecked >= CHECK_ACQUISITIONS
            || entry.name_generation.load(Ordering::Relaxed)
                != self.generation.load(Ordering::Relaxed)
            || now_ms().saturating_sub(checked) >= CHECK_INTERVAL_MS
    }

    /// Takes the lock now, if it is free.
    pub(crate) fn try_hold(&self, amount: Amount) -> Result<Tried, Error> {
        for _ in 0..REOPEN_LIMIT {
            let target = self.target(amount.mode())?;
            match target.entry().try_acquire(&self.account, amount)? {
                Attempt::Granted(hold, checked) => {
                    let held = Held { target, hold };
                    let current = match checked {
                        true => !self.is_due(held.target.entry()) || self.leads_to(&held.target)?,
                        false => self.is_current(&held.target)?,
                    };
                    if current {
                        return Ok(Tried::Held(held));
                    }
                    self.reopen(&held.target)?;
                }
                Attempt::Moved => self.reopen(&target)?,
                Attempt::Later => return Ok(Tried::Later),
                Attempt::Busy => {
                    // Another holds a lock; is it the one the name leads to?
                    if self.is_current(&target)? {
                        return Ok(Tried::Busy);
                    }
                    self.reopen(&target)?;
                }
            }
        }
        Err(replaced_too_often())
    }

    /// The lock that a request is to queue for, looked up by its name unless that
    /// was done a moment ago. `before` is one that it has left.
    pub(crate) fn follow(
        &self,
        mode: Mode,
        looked_up: bool,
        before: Option<&Arc<Target>>,
    ) -> Result<Arc<Target>, Error> {
        if let Some(before) = before {
            self.reopen(before)?;
        }
        for _ in 0..REOPEN_LIMIT {
            let target = self.target(mode)?;
            // Never wait for a lock that only its holder can still reach.
            let given_up = target.entry().is_retired();
            if !given_up && (looked_up || self.leads_to(&target)?) {
                return Ok(target);
            }
            self.reopen(&target)?;
        }
        Err(replaced_too_often())
    }
}

/// A monotonic clock in milliseconds.
fn now_ms() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed().as_millis() as u64
}

#[cold]
pub(crate) fn replaced_too_often() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("the lock was replaced {REOPEN_LIMIT} times during one request"),
    )
}

#[cold]
fn shared_only() -> Error {
    ErrorKind::ReadOnly.into()
}

#[cold]
fn read_only() -> Error {
    Error::new(
        ErrorKind::Access,
        "the file could be opened for reading only: an exclusive lock needs permission to write \
         (a lock file that a host creates has the permissions 0666 less the umask)",
    )
}
