//! What operators are told: events of `tracing`, and the deadlocks that were
//! refused. No mutex of the engine is held while a subscriber is called.

use crate::{Error, ErrorKind, backend::Identity, core::Record, sync::Mutex};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    time::SystemTime,
};

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
    /// The [label](crate::Owner::label) of the owner whose request was refused.
    pub owner: String,
    /// The locks of the cycle, by the names they were opened with, which may be
    /// those of different places: the one that was asked for, then the one that
    /// its holder or a request before it waits for, and so on. The owner of the
    /// request holds or awaits the last.
    pub locks: Vec<String>,
}

/// The deadlocks of a manager.
#[derive(Debug, Default)]
pub(crate) struct Deadlocks(Mutex<VecDeque<Deadlock>>);

impl Deadlocks {
    /// Keeps and tells a cycle; answers the error for its request.
    pub(crate) fn report(&self, owner: &str, locks: Vec<String>) -> Error {
        tracing::warn!(target: "clasp::deadlock", owner, ?locks, "refused a request that would wait for itself");
        let mut kept = self.0.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        let at = SystemTime::now();
        let owner = owner.to_owned();
        kept.push_back(Deadlock { at, owner, locks });
        ErrorKind::Deadlock.into()
    }

    pub(crate) fn recent(&self) -> Vec<Deadlock> {
        self.0.lock().iter().cloned().collect()
    }
}

/// Tells what has happened to a lock. Subscribers are foreign code: one that panics
/// must not keep the engine from what it has still to do.
pub(crate) fn tell(lock: &Identity, records: Vec<Record>) {
    let told = catch_unwind(AssertUnwindSafe(|| tell_each(lock, records)));
    if let Err(panic) = told {
        drop(panic);
    }
}

fn tell_each(lock: &Identity, records: Vec<Record>) {
    for record in records {
        match record {
            Record::Revoked(grants) => {
                tracing::debug!(target: "clasp::wait", ?lock, grants, "grants were not collected in time and go to the next requests");
            }
            Record::CannotUnlock(error) => {
                tracing::error!(target: "clasp", ?lock, %error, "cannot unlock; the open file is given up");
            }
            Record::CannotConvert(error) => {
                tracing::debug!(target: "clasp", ?lock, %error, "cannot convert the lock in place");
            }
            Record::CannotLeave(error) => {
                tracing::error!(target: "clasp::order", ?lock, %error, "cannot give a place in line back");
            }
            Record::Abandoned => {
                tracing::warn!(target: "clasp::wait", ?lock, "an operation that was cancelled has not ended; the open file is given up");
            }
            Record::Lost(epoch) => {
                tracing::warn!(target: "clasp", ?lock, epoch, "the lock was lost");
            }
        }
    }
}
