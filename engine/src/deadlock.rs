//! Whether a request that halts its owner could ever be granted (S9).
//!
//! A request that halts its owner waits for the owners it stands behind: those
//! of conflicting holds, granted but uncollected ones included, and those of
//! conflicting earlier requests, which will hold before it does. A halted
//! owner can release nothing until its halting request ends. If such a chain
//! leads back to the owner, only a timeout could end it.
//!
//! Arrivals of halting requests are serialized, and a cycle needs one of them
//! as its last edge: halted owners ask for nothing new, and all they are
//! granted meanwhile they had asked for before. So each arrival is checked
//! once, against entries that are looked at one after the other.

use crate::{
    Error, ErrorKind, Mode, entry::Entry, lock::LockShared, owner::OwnerState, queue::Ticket,
    sync::Mutex,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::SystemTime,
};

/// Where an owner is halted.
#[derive(Clone)]
pub(crate) struct Halt {
    pub(crate) entry: Arc<Entry>,
    pub(crate) ticket: Ticket,
    pub(crate) mode: Mode,
    /// By which it asked.
    pub(crate) lock: Arc<LockShared>,
}

/// How many deadlocks are kept for [`LockManager::deadlocks`]; the last ones
/// tell as much as all.
///
/// [`LockManager::deadlocks`]: crate::LockManager::deadlocks
const KEPT: usize = 32;

/// A request that was refused because it would have waited for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlock {
    /// When it was refused.
    pub at: SystemTime,
    /// The locks of the cycle, by the names they were opened with, which are
    /// those of different places perhaps: the one that was asked for, then the
    /// one that its holder or a request before it waits for, and so on. The
    /// owner of the request holds or awaits the last.
    pub locks: Vec<String>,
}

/// The deadlocks of a manager.
#[derive(Debug, Default)]
pub(crate) struct Deadlocks(Mutex<VecDeque<Deadlock>>);

impl Deadlocks {
    /// Keeps and tells a cycle; answers the error for its request.
    pub(crate) fn report(&self, locks: Vec<String>) -> Error {
        tracing::warn!(target: "clasp::deadlock", ?locks, "refused a request that would wait for itself");
        let mut kept = self.0.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        let at = SystemTime::now();
        kept.push_back(Deadlock { at, locks });
        ErrorKind::Deadlock.into()
    }

    pub(crate) fn recent(&self) -> Vec<Deadlock> {
        self.0.lock().iter().cloned().collect()
    }
}

/// An owner that was reached, and on whose account.
struct Reached {
    owner: Arc<OwnerState>,
    /// Its place in the list of those that were reached.
    from: Option<usize>,
    /// The lock it is halted at.
    halted_at: Option<String>,
}

/// Whether a request for `entry` that halts `owner` would wait for itself; if
/// so, the names of the locks on the way, that of `entry` apart. The caller
/// holds the manager's arrival lock.
pub(crate) fn find_cycle(
    entry: &Arc<Entry>,
    owner: &Arc<OwnerState>,
    mode: Mode,
) -> Option<Vec<String>> {
    // Nobody waits for an owner that holds nothing and asks for nothing. The
    // request itself is charged already.
    if owner.held_locks.used() <= 1 {
        return None;
    }
    let mut reached: Vec<Reached> = Vec::new();
    let mut known = HashSet::new();
    // Entries whose owners are all reached, up to a place: who stands behind
    // an exclusive request stands behind all that is before it.
    let mut searched: HashMap<*const Entry, Ticket> = HashMap::new();
    let mut next = 0;
    let mut reach = |reached: &mut Vec<Reached>, blockers: Vec<Arc<OwnerState>>, from| {
        for blocker in blockers {
            if known.insert(Arc::as_ptr(&blocker)) {
                reached.push(Reached {
                    owner: blocker,
                    from,
                    halted_at: None,
                });
            }
        }
    };
    reach(
        &mut reached,
        entry.blockers(None, mode).unwrap_or_default(),
        None,
    );
    if mode == Mode::Exclusive {
        searched.insert(Arc::as_ptr(entry), Ticket::MAX);
    }
    while let Some(blocker) = reached.get(next) {
        if blocker.owner == *owner {
            let mut locks = Vec::new();
            let mut at = blocker.from;
            while let Some(Reached {
                from, halted_at, ..
            }) = at.map(|at| &reached[at])
            {
                locks.extend(halted_at.clone());
                at = *from;
            }
            locks.reverse();
            return Some(locks);
        }
        let halt = blocker.owner.halt.lock().clone();
        if let Some(halt) = halt {
            reached[next].halted_at = Some(halt.lock.name.to_string());
            let all = searched.get(&Arc::as_ptr(&halt.entry)).copied();
            if all.is_none_or(|place| place < halt.ticket)
                && let Some(blockers) = halt.entry.blockers(Some(halt.ticket), halt.mode)
            {
                reach(&mut reached, blockers, Some(next));
                if halt.mode == Mode::Exclusive {
                    searched.insert(Arc::as_ptr(&halt.entry), halt.ticket);
                }
            }
        }
        next += 1;
    }
    None
}
