//! The lock's state without the outside world: events go in, actions come out.
//! Nothing in here makes a system call, reads a clock, starts a thread, wakes a
//! task or writes a log.

mod lock;
mod queue;
mod ranges;
mod waitgraph;

// The core is the same on every system; on Wine the search takes minutes.
#[cfg(all(test, not(shuttle), not(windows)))]
mod explore;

pub(crate) use lock::{Actions, Attempt, Clock, Collected, Core, Outcome, Record, Start};
pub(crate) use queue::{Amount, HoldId, RequestId, Waiting};
pub(crate) use ranges::{HeldRanges, Piece};
pub(crate) use waitgraph::{BlockedOn, WaitGraph};
