//! The threads of one host: helpers and the timer.

use super::timer::Timer;
use crate::{ErrorKind, policy::Quota, pool::Pool};
use std::sync::Arc;

/// What all locks of a host share.
pub(crate) struct Services {
    pub(crate) pool: Pool,
    /// Operations on threads of the pool. A thread that passes on the result of its last
    /// operation counts no more; such threads come on top for a moment.
    pub(crate) waiter_threads: Arc<Quota>,
    pub(crate) timer: Timer,
}

impl Services {
    /// With at most so many operations on threads of the pool.
    pub(crate) fn new(waiter_threads: usize) -> Services {
        Services {
            pool: Pool::default(),
            waiter_threads: Arc::new(Quota::new(
                waiter_threads,
                "waiter threads of the host",
                ErrorKind::Unavailable,
            )),
            timer: Timer::default(),
        }
    }
}
