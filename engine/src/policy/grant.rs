//! What an owner is granted: a place to open locks in, and how it may use it.

use crate::{Mode, backend::Space};
use std::{fmt, sync::Arc};

/// A place in which an owner may open locks.
#[derive(Clone)]
pub struct Grant {
    pub(crate) space: Arc<dyn Space>,
    pub(crate) shared_only: bool,
    pub(crate) family_of_call: bool,
}

impl Grant {
    /// Grants shared and exclusive locks in `space`.
    pub fn new(space: Arc<dyn Space>) -> Grant {
        Grant {
            space,
            shared_only: false,
            family_of_call: false,
        }
    }

    /// Restricts the grant to shared locks, whose files are opened read-only.
    pub fn shared_only(mut self, shared_only: bool) -> Grant {
        self.shared_only = shared_only;
        self
    }

    /// Whether the owner names the family with each call, as POSIX programs do, so that it
    /// knows what its locks exclude. A file may then be in use with locks of `flock` and with
    /// locks on ranges at the same time, which do not exclude each other.
    pub fn family_of_call(mut self, chosen: bool) -> Grant {
        self.family_of_call = chosen;
        self
    }

    pub(crate) fn permits(&self, mode: Mode) -> bool {
        mode == Mode::Shared || !self.shared_only
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("shared_only", &self.shared_only)
            .finish_non_exhaustive()
    }
}
