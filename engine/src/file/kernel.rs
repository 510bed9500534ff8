//! What the file back end needs of an operating system. `sys/` has it for each;
//! the reference back end has one in memory.

use crate::{ByteRange, Error, ErrorKind, Mode, backend::Cancel};
use std::{sync::Arc, time::SystemTime};

/// One open file description, and the locks on it.
///
/// A description does not conflict with itself, and unlocking releases all that
/// it holds.
pub(crate) trait Kernel: Send + Sync + 'static {
    /// Takes the lock without waiting; `false` if another description holds it.
    fn try_lock(&self, mode: Mode) -> Result<bool, Error>;

    /// Releases the lock, also if it is not held.
    fn unlock(&self) -> Result<(), Error>;

    /// Whether no other description holds the lock, in any mode. Not for a
    /// description that holds it.
    fn is_free(&self) -> Result<bool, Error>;

    /// Whether [`convert`](Kernel::convert) works, down and up.
    fn converts(&self) -> bool {
        false
    }

    /// Converts the lock that is held, at once; `false` if another description
    /// holds it too, and it is held as before then.
    fn convert(&self, to: Mode) -> Result<bool, Error> {
        let _ = to;
        Err(ErrorKind::Unsupported.into())
    }

    /// Whether [`token`](Kernel::token) works.
    fn has_tokens(&self) -> bool {
        false
    }

    /// A token that is greater than all before it. The lock is held exclusively.
    fn token(&self) -> Result<u64, Error> {
        Err(ErrorKind::Unsupported.into())
    }

    /// What the loss of the lock that was just taken will be reported by; zero if
    /// it cannot be lost.
    fn epoch(&self) -> u64 {
        0
    }

    /// Whether the file still has a name.
    fn is_linked(&self) -> Result<bool, Error>;

    /// Sets the time of the file to now.
    fn touch(&self) -> Result<(), Error> {
        Err(ErrorKind::Unsupported.into())
    }

    /// When the file was last touched; `None` if it never was.
    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        Err(ErrorKind::Unsupported.into())
    }

    /// A copy of the descriptor, which programs that this process starts inherit.
    #[cfg(unix)]
    fn descriptor(&self) -> Result<std::os::fd::OwnedFd, Error> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Prepares to wait for the lock on a thread.
    fn wait(&self, mode: Mode) -> Result<Arc<dyn Call>, Error>;

    /// Whether the system waits for this file without a thread of the engine:
    /// then [`start`](Kernel::start) serves instead of [`wait`](Kernel::wait).
    fn waits_by_itself(&self) -> bool {
        false
    }

    /// Whether a wait on a thread [comes back](crate::backend::Blocking::comes_back)
    /// when it is cancelled.
    fn comes_back(&self) -> bool {
        true
    }

    /// Begins to wait and returns at once. `done` is called once, on another
    /// thread, unless this answers an error.
    fn start(&self, mode: Mode, done: Done) -> Result<Arc<dyn Call>, Error> {
        let _ = (mode, done);
        Err(ErrorKind::Unsupported.into())
    }
}

/// Told how a wait ended that was started without a thread.
pub(crate) type Done = Box<dyn FnOnce(Result<Waited, Error>) + Send>;

/// A wait in the kernel.
pub(crate) trait Call: Send + Sync {
    /// Waits on the calling thread. May be called again after it was interrupted.
    fn run(&self) -> Result<Waited, Error>;

    /// Ends the wait, also before it has begun. Does not block.
    fn cancel(&self) -> Cancel;

    /// Has [`run`](Call::run) return soon, if a thread is in it, though it may be
    /// missed. Does not block.
    fn interrupt(&self) {}
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The description holds what was waited for.
    Granted,
    /// The wait was interrupted, and goes on if it is run again.
    Interrupted,
    /// It was cancelled. The description may hold the lock all the same.
    Cancelled,
}

/// Bytes of a file: the first, and how many; none for all up to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) len: i64,
}

impl Range {
    /// From one byte up to another, which is not in it.
    pub(crate) fn between(start: i64, end: i64) -> Range {
        Range {
            start,
            len: end - start,
        }
    }
}

impl From<ByteRange> for Range {
    fn from(range: ByteRange) -> Range {
        // Both fit: offsets are 63 bits long.
        Range {
            start: range.start() as i64,
            len: range.len() as i64,
        }
    }
}

impl TryFrom<Range> for ByteRange {
    type Error = Error;

    fn try_from(range: Range) -> Result<ByteRange, Error> {
        ByteRange::new(range.start as u64, range.len as u64)
    }
}

/// Locks on the bytes of a file, by one description.
#[allow(dead_code, reason = "not every operating system has them")]
pub(crate) trait Bytes: Send + Sync + 'static {
    /// A lock of another description that stands against `mode` somewhere in a
    /// range; not the first of them in particular.
    fn conflict(&self, range: Range, mode: Mode) -> Result<Option<Range>, Error>;

    /// Takes a lock without waiting; `false` if another description holds it.
    fn lock(&self, range: Range, mode: Mode) -> Result<bool, Error>;

    /// Releases what is held of a range.
    fn unlock(&self, range: Range) -> Result<(), Error>;

    /// Prepares to wait for a lock on a range.
    fn wait(&self, range: Range, mode: Mode) -> Result<Arc<dyn Call>, Error>;
}

/// A file whose bytes are the permits of a semaphore, as one description has it.
pub(crate) trait PermitFile: Bytes {
    /// Whether a wait [comes back](crate::backend::Blocking::comes_back) when it is
    /// cancelled.
    fn comes_back(&self) -> bool {
        true
    }

    /// Whether the file still has a name.
    fn is_linked(&self) -> Result<bool, Error>;
}

/// A file whose bytes are the places of hosts in line, and that serves nothing else.
#[allow(dead_code, reason = "not every operating system has them")]
pub(crate) trait OrderBytes: Bytes {
    /// Sees that the file is still the one that other hosts use, and that it is
    /// open by a description of this lock alone if it is to be `own`; answers
    /// whether it was replaced. Called while nothing is held.
    fn refresh(&self, own: bool) -> Result<bool, Error>;

    /// Microseconds since the machine was started.
    fn clock(&self) -> u64;
}
