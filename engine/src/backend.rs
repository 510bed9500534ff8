//! The contract that a family of locks fulfils for the engine.
//!
//! A back end knows how to open, take and release one lock of the outside
//! world. It knows nothing about owners, queues or quotas. Its terms:
//!
//! - A [`Space`] opens locks by name.
//! - A [`Resource`] is one open lock, such as an open file description. A
//!   resource never conflicts with itself, and one unlock releases whatever it
//!   holds; the engine therefore lets one state machine alone use it.
//! - A [`Wait`] is one request of a resource that waits outside.
//! - [`Tickets`], where a back end has them, put the hosts that wait for one
//!   lock in an order. They exclude nobody: losing them costs order alone.
//!
//! Every back end passes [`conformance`](crate::conformance).

use crate::{Error, LockName, Mode};
use std::{fmt, sync::Arc};

/// What a lock is, whatever it was called (S3).
///
/// Two resources with equal identities are the same lock. Equal locks with
/// different identities cost order and deadlock detection, never exclusion;
/// when in doubt, split.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A file.
    File {
        /// Its device.
        device: u64,
        /// Its inode, which cannot be used again while the resource is open.
        /// Some file systems of Windows number files with 128 bits.
        inode: u128,
        /// Its path as well, where inode numbers are not to be trusted.
        path: Option<Box<str>>,
    },
    /// A name in a realm of its own, such as a server's.
    Named {
        /// The realm, unique in this process.
        realm: u64,
        /// The lock in it.
        lock: u64,
    },
}

/// Which requests a resource is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Shared requests only.
    Shared,
    /// Any request. A back end may fall back to what the outside permits;
    /// [`Resource::permits`] tells.
    Any,
}

/// What [`Space::open`] found.
pub struct Opened {
    /// What it is.
    pub identity: Identity,
    /// The family of locks that carries the exclusion. The same identity in
    /// two families is refused.
    pub family: &'static str,
    /// The open lock.
    pub resource: Arc<dyn Resource>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("identity", &self.identity)
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

/// A place in which locks are opened by name, such as a granted directory.
pub trait Space: Send + Sync + 'static {
    /// Opens the lock called `name`, creating it if that is permitted.
    ///
    /// # Errors
    /// Whatever keeps it from opening. Nothing is created then.
    fn open(&self, name: &LockName, access: Access) -> Result<Opened, Error>;

    /// What `name` leads to now; `None` if to nothing.
    ///
    /// # Errors
    /// Whatever keeps it from looking.
    fn identify(&self, name: &LockName) -> Result<Option<Identity>, Error>;
}

/// One open lock of the outside world.
pub trait Resource: Send + Sync + 'static {
    /// Whether it can be taken in this mode at all.
    fn permits(&self, mode: Mode) -> bool;

    /// Takes the lock without waiting; `false` if somebody else holds it.
    ///
    /// # Errors
    /// Anything but "somebody else holds it".
    fn try_lock(&self, mode: Mode) -> Result<bool, Error>;

    /// Releases the lock, also if it is not held.
    ///
    /// # Errors
    /// Only if the lock could not be released.
    fn unlock(&self) -> Result<(), Error>;

    /// Whether any name still leads to it.
    ///
    /// # Errors
    /// Whatever keeps it from looking.
    fn is_linked(&self) -> Result<bool, Error>;

    /// Prepares to wait for the lock. The resource must not hold it, and is
    /// not used otherwise until the wait has ended.
    ///
    /// # Errors
    /// Whatever keeps the wait from being prepared.
    fn begin_wait(&self, mode: Mode) -> Result<Arc<dyn Wait>, Error>;

    /// Whether nobody else holds it, in any mode. The resource does not hold
    /// it either.
    ///
    /// # Errors
    /// Whatever keeps it from looking.
    fn is_free(&self) -> Result<bool, Error>;

    /// Turns an exclusive lock that is held into a shared one, if that can be
    /// done with nobody in between; `false` if it cannot.
    ///
    /// # Errors
    /// Whatever went wrong. The lock is held exclusively then.
    fn downgrade(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// The order of the hosts that wait for this lock; `None` if it is whatever
    /// the outside makes of it.
    fn tickets(&self) -> Option<&dyn Tickets> {
        None
    }
}

/// The order in which hosts take one lock: each that has to wait draws a
/// ticket, and takes the lock when no earlier ticket conflicts.
pub trait Tickets: Send + Sync + 'static {
    /// Whether another host has a ticket that conflicts with `mode`.
    fn others_wait(&self, mode: Mode) -> bool;

    /// Prepares to draw a ticket and to wait for its turn. At most one ticket
    /// of a resource is out at any time.
    ///
    /// # Errors
    /// Whatever keeps it from being prepared.
    fn begin_turn(&self, mode: Mode) -> Result<Arc<dyn Turn>, Error>;
}

/// One ticket. [`run`](Wait::run) draws it and waits until no earlier one
/// conflicts.
pub trait Turn: Wait {
    /// Names the first of the tickets that this one waits for, or whatever else
    /// it waits for: if that stays the same, whoever has it does not move.
    fn head(&self) -> Option<u64>;

    /// Gives the ticket back, whatever has become of it. `run` has returned, or
    /// was never called.
    fn end(&self);
}

/// Told how a [`Wait`] ended that was started without a thread.
pub type Done = Box<dyn FnOnce(Result<Waited, Error>) + Send>;

/// One request that waits outside. Either [`run`](Wait::run) or
/// [`start`](Wait::start) is called, at most once.
pub trait Wait: Send + Sync + 'static {
    /// Waits on the calling thread.
    ///
    /// # Errors
    /// Whatever ended the wait other than the lock or [`cancel`](Wait::cancel).
    /// Some of the lock may be held; the engine unlocks it.
    fn run(&self) -> Result<Waited, Error>;

    /// Whether it waits on a thread of its own, which is what `run` is for.
    /// Otherwise [`start`](Wait::start) serves as well.
    fn needs_thread(&self) -> bool {
        true
    }

    /// Begins to wait and returns at once. `done` is called as soon as the
    /// wait has ended, with what [`run`](Wait::run) would have answered: on
    /// another thread, never from within this call, whose caller holds locks.
    ///
    /// The engine calls it only for a wait that does not need a thread.
    ///
    /// # Errors
    /// Whatever keeps the wait from beginning. `done` is not called then. Some of
    /// the lock may be held; the engine unlocks it.
    fn start(self: Arc<Self>, done: Done) -> Result<(), Error> {
        drop(done);
        Err(crate::ErrorKind::Unsupported.into())
    }

    /// Ends the wait, also before it has begun.
    fn cancel(&self) -> Cancel;
}

/// How a [`Wait`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The resource holds the lock.
    Granted,
    /// It was cancelled. The resource may hold the lock all the same.
    Cancelled,
}

/// What [`Wait::cancel`] achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// The wait ends at once.
    Prompt,
    /// The wait cannot be woken: it ends when the lock is granted. The
    /// resource belongs to it from now on.
    Abandoned,
}
