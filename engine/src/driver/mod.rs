//! Runs what the core decides: a mutex around each core, threads, timers and
//! wakers. Actions run outside of all mutexes.

mod entry;
mod ranges;
mod registry;
mod request;
mod services;
mod timer;

pub(crate) use entry::{Attempt, Entry, Queued};
pub(crate) use ranges::{RangeFile, RangeWait};
pub(crate) use registry::{Host, Place};
pub(crate) use request::{Progress, Request};
pub(crate) use timer::Key;
