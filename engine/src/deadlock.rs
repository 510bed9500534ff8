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

use crate::{Mode, entry::Entry, owner::OwnerState, queue::Ticket};
use std::sync::Arc;

/// Where an owner is halted.
#[derive(Clone)]
pub(crate) struct Halt {
    pub(crate) entry: Arc<Entry>,
    pub(crate) ticket: Ticket,
    pub(crate) mode: Mode,
}

/// Whether a request for `entry` that halts `owner` would wait for itself.
/// The caller holds the manager's arrival lock.
pub(crate) fn would_deadlock(entry: &Entry, owner: &Arc<OwnerState>, mode: Mode) -> bool {
    // Nobody waits for an owner that holds nothing and asks for nothing. The
    // request itself is charged already.
    if owner.held_locks.used() <= 1 {
        return false;
    }
    let mut visited: Vec<Arc<OwnerState>> = Vec::new();
    let mut blockers = entry.blockers(None, mode);
    while let Some(blocker) = blockers.pop() {
        if blocker == *owner {
            return true;
        }
        if visited.contains(&blocker) {
            continue;
        }
        let halt = blocker.halt.lock().clone();
        if let Some(halt) = halt {
            blockers.extend(halt.entry.blockers(Some(halt.ticket), halt.mode));
        }
        visited.push(blocker);
    }
    false
}
