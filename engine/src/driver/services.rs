//! The threads of one host: helpers and the timer.

use super::{pool::Pool, timer::Timer};

/// What all locks of a host share.
pub(crate) struct Services {
    pub(crate) pool: Pool,
    pub(crate) timer: Timer,
}
