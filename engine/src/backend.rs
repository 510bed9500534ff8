//! The contract between the engine and whatever takes a lock for it: a file
//! system, a server, or memory.
//!
//! A back end opens locks by name and carries out operations on them. It knows
//! nothing of owners, queues or quotas. Its terms:
//!
//! - A [`Space`] opens locks by name.
//! - A [`Resource`] is one open lock, such as an open file description. It never
//!   conflicts with itself, and one unlock releases all that it holds. Therefore
//!   the engine starts an operation on it only when the one before has ended.
//! - An operation ([`Op`]) ends once, with a [`Reply`] or an error. It ends at
//!   once ([`Started::Done`]), by itself later ([`Started::Pending`]), or on a
//!   thread that the engine gives it ([`Started::Blocking`]).
//! - After an operation that was not granted, the resource holds what it held
//!   before. That includes operations that were cancelled and those that failed.
//! - A back end whose lock can be lost numbers each native acquisition with an
//!   epoch, and reports the loss of an epoch with [`Sink::lost`].
//!
//! Every back end passes the suite in `testing::conformance`.

use crate::{ByteRange, Error, ErrorKind, LockName, Mode, Permits};
use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

/// The identity of a lock, whatever name it was opened by (S3).
///
/// Two resources with equal identities are the same lock. Equal locks with
/// different identities lose order and deadlock detection, never exclusion, so a
/// back end that is in doubt gives different identities.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A file.
    File {
        /// Its device.
        device: u64,
        /// Its inode, which the file system cannot use again while the resource
        /// is open. Some file systems of Windows number files with 128 bits.
        inode: u128,
        /// Its path as well, where inode numbers do not identify files.
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

/// As `device:inode` of a file, and `realm/lock` of a name.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::File { device, inode, .. } => write!(f, "{device}:{inode}"),
            Identity::Named { realm, lock } => write!(f, "{realm}/{lock}"),
        }
    }
}

/// Which requests a resource is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Shared requests only.
    Shared,
    /// Any request. A back end may open for less if no more is permitted;
    /// [`Resource::permits`] tells.
    Any,
}

/// What [`Space::open`] found.
pub struct Opened {
    /// What it is.
    pub identity: Identity,
    /// The family of locks that carries the exclusion. The engine refuses to
    /// open one identity in two families.
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

/// What [`Space::open_ranges`] found.
pub struct OpenedRanges {
    /// What it is; that of a lock on the whole of the file is the same.
    pub identity: Identity,
    /// The families of locks on whole files that exclude the ranges, and are excluded by
    /// them. The engine refuses to use a file with ranges and with any other family.
    pub families: &'static [&'static str],
    /// The open file.
    pub resource: Arc<dyn RangeLocks>,
}

impl fmt::Debug for OpenedRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedRanges")
            .field("identity", &self.identity)
            .field("families", &self.families)
            .finish_non_exhaustive()
    }
}

/// Whether a call of [`Space::open`] may create the lock, and whether it has.
#[derive(Debug)]
pub struct Creation {
    allowed: bool,
    created: bool,
}

impl Creation {
    /// For an owner that may create another lock, or has used up its quota.
    pub fn new(allowed: bool) -> Creation {
        Creation {
            allowed,
            created: false,
        }
    }

    /// To be called before the lock is created.
    ///
    /// # Errors
    /// [`Quota`](ErrorKind::Quota) if the owner has used up its quota of created locks.
    pub fn check(&self) -> Result<(), Error> {
        if self.allowed {
            return Ok(());
        }
        let why = "the limit of created locks is reached";
        Err(Error::new(ErrorKind::Quota, why))
    }

    /// To be called once the lock is created, also if opening it fails afterwards.
    pub fn done(&mut self) {
        self.created = true;
    }

    /// Whether a lock was created.
    pub fn is_done(&self) -> bool {
        self.created
    }
}

/// A place in which locks are opened by name, such as a granted directory.
pub trait Space: Send + Sync + 'static {
    /// Opens the lock called `name`. If it is missing, and the place and `creation`
    /// permit it, the lock is created.
    ///
    /// # Errors
    /// Whatever keeps it from opening. A name that is refused creates nothing.
    fn open(
        &self,
        name: &LockName,
        access: Access,
        creation: &mut Creation,
    ) -> Result<Opened, Error>;

    /// Opens the semaphore called `name`, with so many permits, of which there are
    /// [`Permits::MOST`] at the most. If it is missing, and the place and `creation` permit
    /// it, the semaphore is created. The operations of its resource are [`Op::Take`],
    /// [`Op::Give`] and [`Op::Leave`].
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported), the default, where there are no semaphores,
    /// and whatever keeps it from opening.
    fn open_semaphore(
        &self,
        name: &LockName,
        permits: u8,
        creation: &mut Creation,
    ) -> Result<Opened, Error> {
        let _ = (name, permits, creation);
        Err(ErrorKind::Unsupported.into())
    }

    /// Opens a file for locks on ranges of its bytes. If it is missing, and the place and
    /// `creation` permit it, the file is created.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported), the default, where nothing has bytes, and
    /// whatever keeps it from opening.
    fn open_ranges(
        &self,
        name: &LockName,
        access: Access,
        creation: &mut Creation,
    ) -> Result<OpenedRanges, Error> {
        let _ = (name, access, creation);
        Err(ErrorKind::Unsupported.into())
    }

    /// What `name` leads to now; `None` if to nothing.
    ///
    /// # Errors
    /// Whatever keeps it from looking.
    fn identify(&self, name: &LockName) -> Result<Option<Identity>, Error>;
}

/// What a resource can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// An operation that does not wait ends at once: `start` answers it with
    /// [`Started::Done`]. It cannot hang, except for [`Op::Token`], which may write to
    /// a disk. A server, or a file system that may hang, does not have this
    /// capability.
    pub immediate: bool,
    /// Hosts that wait have an order: [`Op::Lock`] and [`Op::Join`] go behind
    /// the hosts in line unless they are `ahead`.
    pub order: bool,
    /// An exclusive lock becomes a shared one with no other holder in between.
    pub downgrade: bool,
    /// A shared lock becomes an exclusive one at once, or is refused and kept.
    pub upgrade: bool,
    /// [`Op::Token`] works; or, of a semaphore, grants come with tokens.
    pub tokens: bool,
}

/// An operation on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Takes the lock. The resource holds nothing.
    Lock {
        /// How much of it.
        amount: Mode,
        /// Waits until it is granted. Otherwise the operation ends without it
        /// if another host holds the lock or, unless `ahead`, is in line.
        wait: bool,
        /// Passes the hosts in line, since this host's tenure still runs.
        ahead: bool,
    },
    /// One more shared holder of this host. The resource holds the lock and
    /// goes on to hold it: the operation checks that the lock still has a name
    /// and, unless `ahead`, goes behind the hosts in line.
    Join {
        /// Waits for the turn of this host.
        wait: bool,
        /// Passes the hosts in line.
        ahead: bool,
    },
    /// Converts what the resource holds, at once or not at all.
    Convert {
        /// To this.
        to: Mode,
    },
    /// Releases all that the resource holds of a lock.
    Unlock,
    /// Takes permits of a semaphore, beside those that the resource holds.
    Take {
        /// How many.
        count: u8,
        /// Waits until all of them are granted. Otherwise the operation ends without them
        /// if other hosts hold too many or, unless `ahead`, are in line.
        wait: bool,
        /// Passes the hosts in line, since this host's tenure still runs.
        ahead: bool,
    },
    /// Gives permits back. The resource holds them, perhaps among others.
    Give {
        /// These.
        permits: Permits,
    },
    /// Gives up the place in line that a cancelled operation has kept.
    Leave,
    /// Answers a token that is greater than that of every exclusive acquisition
    /// before this one (S13). The resource holds the lock exclusively; it is no semaphore.
    Token,
}

impl Op {
    /// How many tokens go with a granted [`Op::Take`]: one for each permit, and one for each
    /// turn of a [tenure](Tenure::TURNS).
    pub const TOKENS: u64 = 128;

    /// Whether it may take as long as other hosts hold the lock.
    pub fn waits(self) -> bool {
        matches!(
            self,
            Op::Lock { wait: true, .. } | Op::Join { wait: true, .. } | Op::Take { wait: true, .. }
        )
    }

    /// Whether it may write to a disk. A write can take long on any file system, for
    /// example while the file system is frozen for a snapshot.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Op::Token)
    }
}

/// Names one operation of a resource. The engine never uses a number again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpId(pub(crate) u64);

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It did what it should.
    Granted,
    /// It did not, because another host holds the lock or is in line, or because
    /// it was cancelled. The resource holds what it held before.
    Busy,
    /// The lock has no name any more. The resource holds what it held before.
    Gone,
}

/// The answer to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// How it ended.
    pub answer: Answer,
    /// For a granted [`Op::Lock`] or [`Op::Take`]: the epoch that [`Sink::lost`] would
    /// report. Zero if the lock cannot be lost; otherwise greater than all before it.
    pub epoch: u64,
    /// Of a granted [`Op::Take`]: as many permits as were asked for, none of which the
    /// resource held before.
    pub permits: Permits,
    /// Of a granted [`Op::Lock`] or [`Op::Take`]: how long this host may go on with the lock
    /// while others are in line. `None` for the engine's own bound.
    pub tenure: Option<Tenure>,
    /// Of a granted [`Op::Token`]. Of a granted [`Op::Take`], if the resource has
    /// [tokens](Caps::tokens): the first of [`Op::TOKENS`] numbers that the engine gives to
    /// holders, all of them greater than those of any grant before.
    pub token: Option<u64>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply {
            answer,
            epoch: 0,
            permits: Permits::NONE,
            tenure: None,
            token: None,
        }
    }
}

/// A host's time with a lock: within it, the host hands the lock over between
/// its guests and takes it again after a release, and passes the hosts in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenure {
    /// Turns that are left.
    pub turns: u32,
    /// When it ends.
    pub until: Instant,
}

impl Tenure {
    /// Turns of one tenure. Taking the lock anew with all that order costs is a
    /// few microseconds, which is little beside what 64 turns take.
    pub const TURNS: u32 = 64;

    /// Length of one tenure. A hand-over to another process costs a wake-up of
    /// 25 to 60 us; four or more of them fit, so that most of the time is spent
    /// on turns. A waiter waits for one tenure of each host before it.
    pub const LENGTH: Duration = Duration::from_micros(250);

    /// A tenure of twice the turns and twice the time, for a lock that a helper
    /// thread takes for a task. Its hand-over costs a second wake-up, that of the
    /// executor's thread, before the first turn begins.
    pub(crate) fn for_task(self) -> Tenure {
        Tenure {
            turns: self.turns.saturating_mul(2),
            until: self.until + Tenure::LENGTH,
        }
    }

    /// A tenure that begins now.
    pub fn begin(now: Instant) -> Tenure {
        Tenure {
            turns: Tenure::TURNS,
            until: now + Tenure::LENGTH,
        }
    }
}

/// What [`Resource::start`] achieved.
pub enum Started {
    /// The operation has ended.
    Done(Result<Reply, Error>),
    /// The operation goes on by itself. [`Sink::done`] follows once, possibly
    /// before `start` returns.
    Pending(Arc<dyn Pending>),
    /// The operation needs a thread. The engine calls [`Blocking::run`] once, or
    /// drops it; until then nothing has happened.
    Blocking(Arc<dyn Blocking>),
}

/// An operation that is under way.
pub trait Pending: Send + Sync {
    /// Asks for the end of the operation, also before it has begun. It then
    /// ends, in any way: a grant may come first.
    ///
    /// With `keep_place` the resource keeps its place in line, if it has one,
    /// for the next [`Op::Lock`] or [`Op::Take`] or until [`Op::Leave`]. Does not block.
    fn cancel(&self, keep_place: bool) -> Cancel;

    /// Called every [`SWEEP`] while a waiting operation of a resource with an
    /// [order](Caps::order) is under way, so that the back end looks for hosts
    /// in line that do not move. Does not block.
    fn sweep(&self) {}
}

/// An operation that runs on a thread of the engine.
pub trait Blocking: Pending {
    /// Whether [`cancel`](Pending::cancel) makes the thread that carries out the
    /// operation return. If not, the engine uses a helper thread, so that a
    /// timeout is still reported to the request.
    fn comes_back(&self) -> bool {
        true
    }

    /// How many threads it needs beside the one that carries it out. They count against the
    /// limits of its owner and of the host.
    fn helpers(&self) -> usize {
        0
    }

    /// Carries the operation out on the calling thread.
    ///
    /// # Errors
    /// What kept it from ending otherwise. The resource holds what it held
    /// before.
    fn run(&self) -> Result<Reply, Error>;
}

/// What [`Pending::cancel`] achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// The operation will end soon.
    Requested,
    /// It cannot be woken: it ends when the lock is granted.
    Impossible,
}

/// How often the engine looks for those that do not take their turn: tasks that
/// were granted a lock and do not poll, and hosts in line that do not move.
/// Longer than a busy machine keeps a thread from running, short enough for
/// those that wait behind.
pub const SWEEP: Duration = Duration::from_millis(100);

/// The locks on ranges of bytes that one open file description has.
///
/// They have the meaning of `fcntl`: a request replaces what the description holds of these
/// bytes, at once for all of them or not at all, and a description does not conflict with
/// itself. A function other than [`wait`](RangeLocks::wait) ends at once.
pub trait RangeLocks: Send + Sync + 'static {
    /// Whether bytes can be locked in this mode at all.
    fn permits(&self, mode: Mode) -> bool;

    /// Locks the bytes in another mode, or releases them with `None`; `false` if another
    /// description holds one of them in a conflicting mode, and nothing has changed then.
    ///
    /// # Errors
    /// What kept it from that; nothing has changed then.
    fn try_set(&self, range: ByteRange, mode: Option<Mode>) -> Result<bool, Error>;

    /// A lock of another description that conflicts with `mode` somewhere in the range, not
    /// the first of them in particular.
    ///
    /// # Errors
    /// Whatever keeps it from looking.
    fn conflict(&self, range: ByteRange, mode: Mode) -> Result<Option<(ByteRange, Mode)>, Error>;

    /// Prepares to wait until the bytes are locked. [`Blocking::run`] answers
    /// [`Granted`](Answer::Granted) if they are, also if the wait was cancelled meanwhile, and
    /// [`Busy`](Answer::Busy) if the wait was cancelled and nothing has changed. During the
    /// wait, the engine calls [`conflict`](RangeLocks::conflict), and `try_set` to release all
    /// when the owner is closed. It runs no wait that does not
    /// [come back](Blocking::comes_back).
    ///
    /// # Errors
    /// What kept it from being prepared.
    fn wait(&self, range: ByteRange, mode: Mode) -> Result<Arc<dyn Blocking>, Error>;
}

/// Where a back end reports what happens later.
pub trait Sink: Send + Sync {
    /// A pending operation has ended.
    fn done(&self, id: OpId, result: Result<Reply, Error>);

    /// The lock that was granted with `epoch` is lost, and so are all locks
    /// with earlier epochs. Of a semaphore, all permits of the resource are lost at once,
    /// and `epoch` is that of the last grant. The resource holds nothing of it any more. A back
    /// end reports it after the grant of that epoch; if the two race, in any
    /// order.
    fn lost(&self, epoch: u64, why: Error);
}

/// One open lock of the outside world.
pub trait Resource: Send + Sync + 'static {
    /// Whether it can be taken in this mode at all.
    fn permits(&self, mode: Mode) -> bool;

    /// What it can do; the same at each call.
    fn caps(&self) -> Caps;

    /// Starts an operation. The engine starts the next when this one has ended.
    ///
    /// The engine holds none of its mutexes during the call, except that of this
    /// lock for an operation that [ends at once](Caps::immediate).
    fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started;

    /// Whether any name still leads to it. May be called during an operation.
    ///
    /// # Errors
    /// Whatever keeps it from looking.
    fn is_linked(&self) -> Result<bool, Error>;

    /// Notes that the lock is used now (S14). May be called during an operation.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported), the default, where no time can
    /// be kept, and whatever keeps it from being noted.
    fn touch(&self) -> Result<(), Error> {
        Err(ErrorKind::Unsupported.into())
    }

    /// When the lock was last touched, by the clock of what keeps it; `None` if it
    /// never was. May be called during an operation.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported), the default, where no time is
    /// kept, and whatever keeps it from being read.
    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        Err(ErrorKind::Unsupported.into())
    }

    /// A descriptor that programs which this process starts inherit, and the lock with
    /// it; see [`Guard::descriptor`](crate::Guard::descriptor).
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported), the default, where a lock belongs to no
    /// descriptor, and whatever keeps it from being copied.
    #[cfg(unix)]
    fn descriptor(&self) -> Result<std::os::fd::OwnedFd, Error> {
        Err(ErrorKind::Unsupported.into())
    }
}
