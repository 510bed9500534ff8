//! Quotas of one owner and ceilings of one manager (S15).

use crate::{Error, ErrorKind};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What one owner (one guest) may use. Reaching a limit is
/// [`ErrorKind::Quota`], never a stall of others.
///
/// There is no limit on how long a lock may be held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Open locks. Each uses one descriptor of the host, and up to three more
    /// once a request has waited for it; a wait for permits of a semaphore uses up to
    /// one more for each permit while it lasts. With the default of 256, the locks of
    /// one guest use at most 1,024 descriptors, which is the usual soft limit,
    /// and several guests stay below the usual hard limit. A lock file that was
    /// replaced while it is held counts beside the one in its place, until it
    /// is released.
    pub open_locks: usize,
    /// Lock files created, over the life of the owner. The default is 10,000: enough
    /// for a guest with a lock for each record, too few to use up the inodes of a file
    /// system.
    pub created_locks: usize,
    /// Locks held, those that are waited for included. The default is 1,024:
    /// shared locks may be held several times by way of one handle. Each range of bytes
    /// counts as one.
    pub held_locks: usize,
    /// Requests that wait. The default is 256.
    pub waiting_requests: usize,
    /// The longest wait of any one request; `None`, the default, does not cut
    /// waits short. A wait that reaches it ends with [`ErrorKind::Timeout`].
    pub longest_wait: Option<Duration>,
    /// The longest name, in bytes. The default is 1,024, a quarter of what
    /// Linux takes for a path, because the host's own prefix comes on top.
    pub name_bytes: usize,
    /// Helper threads of the host that may wait in the kernel for this owner,
    /// where waits need threads, as they do but on Windows. The default is 64.
    pub waiter_threads: usize,
}

impl Limits {
    /// Sets [`open_locks`](field@Limits::open_locks).
    pub fn open_locks(mut self, locks: usize) -> Limits {
        self.open_locks = locks;
        self
    }

    /// Sets [`created_locks`](field@Limits::created_locks).
    pub fn created_locks(mut self, locks: usize) -> Limits {
        self.created_locks = locks;
        self
    }

    /// Sets [`held_locks`](field@Limits::held_locks).
    pub fn held_locks(mut self, locks: usize) -> Limits {
        self.held_locks = locks;
        self
    }

    /// Sets [`waiting_requests`](field@Limits::waiting_requests).
    pub fn waiting_requests(mut self, requests: usize) -> Limits {
        self.waiting_requests = requests;
        self
    }

    /// Sets [`longest_wait`](field@Limits::longest_wait); `None` does not cut waits
    /// short.
    pub fn longest_wait(mut self, wait: impl Into<Option<Duration>>) -> Limits {
        self.longest_wait = wait.into();
        self
    }

    /// Sets [`name_bytes`](field@Limits::name_bytes).
    pub fn name_bytes(mut self, bytes: usize) -> Limits {
        self.name_bytes = bytes;
        self
    }

    /// Sets [`waiter_threads`](field@Limits::waiter_threads).
    pub fn waiter_threads(mut self, threads: usize) -> Limits {
        self.waiter_threads = threads;
        self
    }

    /// How long a request with this timeout may wait.
    pub(crate) fn cut(&self, timeout: Option<Duration>) -> Option<Duration> {
        match (timeout, self.longest_wait) {
            (Some(asked), Some(cap)) => Some(asked.min(cap)),
            (asked, cap) => asked.or(cap),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            open_locks: 256,
            created_locks: 10_000,
            held_locks: 1024,
            waiting_requests: 256,
            longest_wait: None,
            name_bytes: 1024,
            waiter_threads: 64,
        }
    }
}

/// What one manager, all of its owners together, may use. Reaching a ceiling
/// is [`ErrorKind::Unavailable`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ceilings {
    /// Lock files open at the same time, with one descriptor each, or four once
    /// they are waited for. The default is 4,096.
    pub lock_files: usize,
    /// Helper threads that wait in the kernel, one for each contended lock
    /// file, where waits need threads. A few more may be there for a moment
    /// while waits end. The default is 1,024.
    pub waiter_threads: usize,
}

impl Ceilings {
    /// Sets [`lock_files`](field@Ceilings::lock_files).
    pub fn lock_files(mut self, files: usize) -> Ceilings {
        self.lock_files = files;
        self
    }

    /// Sets [`waiter_threads`](field@Ceilings::waiter_threads).
    pub fn waiter_threads(mut self, threads: usize) -> Ceilings {
        self.waiter_threads = threads;
        self
    }
}

impl Default for Ceilings {
    fn default() -> Ceilings {
        Ceilings {
            lock_files: 4096,
            waiter_threads: 1024,
        }
    }
}

/// A count that may not pass its limit.
#[derive(Debug)]
pub(crate) struct Quota {
    used: AtomicUsize,
    limit: usize,
    what: &'static str,
    kind: ErrorKind,
}

impl Quota {
    pub(crate) fn new(limit: usize, what: &'static str, kind: ErrorKind) -> Quota {
        Quota {
            used: AtomicUsize::new(0),
            limit,
            what,
            kind,
        }
    }

    /// Takes one of the quota until the answer is dropped.
    pub(crate) fn take(self: &Arc<Quota>) -> Result<Permit, Error> {
        self.charge()?;
        Ok(Permit(Arc::clone(self)))
    }

    /// Takes one of the quota until [`give_back`](Quota::give_back).
    pub(crate) fn charge(&self) -> Result<(), Error> {
        // Relaxed: the count guards nothing but itself.
        if self.used.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.give_back();
            return Err(self.exceeded());
        }
        Ok(())
    }

    pub(crate) fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
    }

    #[cold]
    fn exceeded(&self) -> Error {
        Error::new(
            self.kind,
            format!("the limit of {} {} is reached", self.limit, self.what),
        )
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// One of a [`Quota`]; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Quota>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// Names an owner; never used again in this process.
pub(crate) type OwnerId = u64;

/// What one owner uses.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) id: OwnerId,
    /// What operators call the owner.
    pub(crate) label: Box<str>,
    pub(crate) limits: Limits,
    pub(crate) open_locks: Arc<Quota>,
    pub(crate) created_locks: Quota,
    pub(crate) held_locks: Quota,
    pub(crate) waiting: Arc<Quota>,
    pub(crate) waiter_threads: Arc<Quota>,
    closed: AtomicBool,
}

impl Account {
    pub(crate) fn new(label: Option<&str>, limits: Limits) -> Account {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let quota = |limit, what| Quota::new(limit, what, ErrorKind::Quota);
        Account {
            id,
            label: label.map_or_else(|| format!("owner {id}").into(), Into::into),
            open_locks: Arc::new(quota(limits.open_locks, "open locks")),
            created_locks: quota(limits.created_locks, "created lock files"),
            held_locks: quota(limits.held_locks, "held locks"),
            waiting: Arc::new(quota(limits.waiting_requests, "waiting requests")),
            waiter_threads: Arc::new(quota(limits.waiter_threads, "waiter threads")),
            limits,
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// An error if the owner is closed.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Account::closed());
        }
        Ok(())
    }

    /// Why a lock that the owner has taken is not held any more.
    #[cold]
    pub(crate) fn why_ended(&self) -> Error {
        match self.is_closed() {
            true => Account::closed(),
            false => ErrorKind::Lost.into(),
        }
    }

    /// What every call of an owner that is closed answers.
    #[cold]
    pub(crate) fn closed() -> Error {
        ErrorKind::Closed.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_given_back() {
        let quota = Arc::new(Quota::new(1, "locks", ErrorKind::Quota));
        let permit = quota.take().unwrap();
        let error = quota.take().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Quota);
        assert!(error.to_string().contains("1 locks"), "{error}");
        drop(permit);
        assert!(quota.take().is_ok());
        assert_eq!(quota.used(), 0);
    }
}
