//! Locks on ranges of the bytes of a file.

use super::{acquire::Blocks, cooperation::Cooperation, opened::OpenRanges};
use crate::{
    ByteRange, Error, ErrorKind, Mode,
    backend::Identity,
    driver::{Key, RangeWait},
    policy::Permit,
    sync::Unparker,
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// Locks ranges of the bytes of a file, with the meaning of `fcntl`; made by
/// [`Owner::open_ranges`](crate::Owner::open_ranges).
///
/// It is one open file description. Its locks exclude those of every other description: of
/// other processes, of other owners, and of this owner's other range owners and guards of the
/// same file. They do not exclude each other: a request replaces what this range owner holds
/// of the bytes, at once for all of them or not at all. Dropping it releases them.
///
/// There is no queue of this host, and no order: the kernel decides who is next. The file is
/// the one that was opened, whatever its name leads to later.
///
/// ```
/// use clasp_engine::{ByteRange, Grant, Limits, LockManager, Mode, file::FileSpace};
/// # let directory = tempfile::tempdir()?;
/// # let dir = cap_std::fs::Dir::open_ambient_dir(directory.path(), cap_std::ambient_authority())?;
/// # if !cfg!(unix) { return Ok(()); }
/// let grant = Grant::new(FileSpace::new(dir).into_space());
/// let owner = LockManager::global().owner(Limits::default());
///
/// let mut one = owner.open_ranges(&grant, "table.db")?;
/// let mut two = owner.open_ranges(&grant, "table.db")?;
/// one.set_blocking(ByteRange::new(0, 100)?, Mode::Exclusive, None)?;
/// assert!(two.try_set(ByteRange::new(100, 100)?, Mode::Exclusive)?);
/// assert!(!two.try_set(ByteRange::new(99, 1)?, Mode::Shared)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RangeOwner {
    file: Arc<OpenRanges>,
    cooperation: Cooperation,
}

impl RangeOwner {
    pub(super) fn new(file: Arc<OpenRanges>) -> RangeOwner {
        RangeOwner {
            file,
            cooperation: Cooperation::default(),
        }
    }

    /// The name the file was opened with, without `.` and empty components.
    pub fn name(&self) -> &str {
        self.file.name().as_str()
    }

    /// Whether both have opened the same file (S3).
    pub fn is_same(&self, other: &RangeOwner) -> bool {
        self.file.identity() == other.file.identity()
    }

    /// What the file is.
    pub fn identity(&self) -> &Identity {
        self.file.identity()
    }

    /// Locks the bytes in this mode now; `false` if another description holds one of them in
    /// a conflicting mode. What was held is unchanged then.
    ///
    /// # Errors
    /// [`ReadOnly`](ErrorKind::ReadOnly) or [`Access`](ErrorKind::Access) for a mode that is
    /// denied, [`Quota`](ErrorKind::Quota), [`Unavailable`](ErrorKind::Unavailable),
    /// [`Closed`](ErrorKind::Closed) once the owner is closed, and [`Io`](ErrorKind::Io).
    pub fn try_set(&mut self, range: ByteRange, mode: Mode) -> Result<bool, Error> {
        self.file.try_set(range, Some(mode))
    }

    /// As [`try_set`](RangeOwner::try_set), but yields to other tasks at intervals.
    ///
    /// # Errors
    /// As `try_set`.
    pub async fn try_set_async(&mut self, range: ByteRange, mode: Mode) -> Result<bool, Error> {
        self.cooperation.give_way(self.file.host()).await;
        self.try_set(range, mode)
    }

    /// Locks the bytes in this mode, and waits until that is possible. What was held of them
    /// is held meanwhile.
    ///
    /// `None` waits for as long as the limits allow, zero tries once. Dropping the future
    /// withdraws the request; if it was granted meanwhile, the bytes are held as before. One
    /// exception: bytes that were held exclusively and were requested shared may stay shared,
    /// if another process has locked them shared by then.
    ///
    /// # Errors
    /// [`Timeout`](ErrorKind::Timeout); [`Unsupported`](ErrorKind::Unsupported) if it would
    /// have to wait and the process has no signal to end a wait
    /// ([`set_wake_signal`](crate::file::set_wake_signal)); [`Deadlock`](ErrorKind::Deadlock) if the owner itself
    /// holds a conflicting lock on the file, by another range owner or by a guard; and what
    /// `try_set` answers. Deadlocks with others are not detected.
    pub async fn set(
        &mut self,
        range: ByteRange,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        self.cooperation.give_way(self.file.host()).await;
        match self.begin(range, mode, timeout, Blocks::Task)? {
            Some(waiting) => waiting.await,
            None => Ok(()),
        }
    }

    /// As [`set`](RangeOwner::set), but the owner goes on with other work. So the request is
    /// never refused with [`Deadlock`](ErrorKind::Deadlock): the owner may release what it waits
    /// for.
    ///
    /// # Errors
    /// As `set`.
    pub async fn request(
        &mut self,
        range: ByteRange,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        self.cooperation.give_way(self.file.host()).await;
        match self.begin(range, mode, timeout, Blocks::Nothing)? {
            Some(waiting) => waiting.await,
            None => Ok(()),
        }
    }

    /// As [`set`](RangeOwner::set), but blocks the calling thread, which itself waits in the
    /// kernel.
    ///
    /// # Errors
    /// As `set`.
    pub fn set_blocking(
        &mut self,
        range: ByteRange,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        match self.begin(range, mode, timeout, Blocks::Thread)? {
            Some(waiting) => waiting.block(),
            None => Ok(()),
        }
    }

    /// Releases what is held of these bytes.
    ///
    /// # Errors
    /// [`Quota`](ErrorKind::Quota) or [`Unavailable`](ErrorKind::Unavailable) if that would
    /// split a range and there may not be one more; [`Closed`](ErrorKind::Closed) once the
    /// owner is closed, and [`Io`](ErrorKind::Io).
    pub fn unlock(&mut self, range: ByteRange) -> Result<(), Error> {
        self.file.try_set(range, None).map(drop)
    }

    /// Bytes that another description holds so that these could not be locked in this mode,
    /// and how it holds them; `None` if there are none. They are not the first of several in
    /// particular.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) once the owner is closed, and [`Io`](ErrorKind::Io).
    pub fn test(&self, range: ByteRange, mode: Mode) -> Result<Option<(ByteRange, Mode)>, Error> {
        self.file.test(range, mode)
    }

    /// Tries, and begins to wait if that fails; `None` if it does not.
    fn begin(
        &mut self,
        range: ByteRange,
        mode: Mode,
        timeout: Option<Duration>,
        blocks: Blocks,
    ) -> Result<Option<Waiting>, Error> {
        let file = &self.file;
        if file.try_set(range, Some(mode))? {
            return Ok(None);
        }
        let account = file.account();
        let timeout = account.limits.cut(timeout);
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(ErrorKind::Timeout.into());
        }
        if blocks != Blocks::Nothing
            && let Some(locks) = file.waits_for_itself(range, mode)
        {
            return Err(file.host().deadlocks.report(&account.label, locks));
        }
        let permit = account.waiting.take()?;
        let on_thread = blocks == Blocks::Thread;
        let wait = file.wait(range, mode, on_thread)?;
        let mut waiting = Waiting {
            file: Arc::clone(file),
            range,
            mode,
            begun: Instant::now(),
            alarm: None,
            wait,
            runs_here: on_thread,
            ended: false,
            _permit: permit,
        };
        // A deadline beyond the clock's range is none.
        if let Some(at) = timeout.and_then(|timeout| waiting.begun.checked_add(timeout)) {
            let wait = Arc::clone(&waiting.wait);
            let alarm = Box::new(move || wait.cancel(ErrorKind::Timeout.into()));
            let set = file.host().services.timer.at(at, alarm);
            waiting.alarm = Some(set.map_err(|error| {
                let why = format!("cannot start the timer: {error}");
                Error::new(ErrorKind::Unavailable, why)
            })?);
        }
        tracing::debug!(
            target: "clasp::wait",
            owner = %account.label,
            lock = %file.name(),
            mode = %mode,
            id = %file.identity(),
            range = %range,
            "waiting"
        );
        Ok(Some(waiting))
    }
}

impl fmt::Debug for RangeOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeOwner")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// A request that waits. Dropping it withdraws the request.
struct Waiting {
    file: Arc<OpenRanges>,
    range: ByteRange,
    mode: Mode,
    begun: Instant,
    alarm: Option<Key>,
    wait: Arc<RangeWait>,
    /// The thread of the request carries the wait out.
    runs_here: bool,
    ended: bool,
    _permit: Permit,
}

impl Waiting {
    fn block(mut self) -> Result<(), Error> {
        if self.runs_here {
            self.file.run(&self.wait);
        }
        let thread = Unparker::new();
        loop {
            match self.advance(thread.waker()) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => thread.park(),
            }
        }
    }

    fn advance(&mut self, waker: &Waker) -> Poll<Result<(), Error>> {
        let outcome = self.wait.poll(waker);
        if let Poll::Ready(outcome) = &outcome {
            self.ended = true;
            self.log_end(
                outcome
                    .as_ref()
                    .err()
                    .map(|error| error as &dyn fmt::Display),
            );
        }
        outcome
    }

    /// Reports that the wait is over, and why it was in vain if it was.
    fn log_end(&self, error: Option<&dyn fmt::Display>) {
        tracing::debug!(
            target: "clasp::wait",
            owner = %self.file.account().label,
            lock = %self.file.name(),
            mode = %self.mode,
            range = %self.range,
            waited_us = self.begun.elapsed().as_micros() as u64,
            error = error.map(tracing::field::display),
            "waited"
        );
    }
}

impl Future for Waiting {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.advance(cx.waker())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(key) = self.alarm.take() {
            self.file.host().services.timer.cancel(key);
        }
        if !self.ended {
            match self.runs_here {
                true => self.file.give_up(&self.wait),
                false => self.file.abandon(&self.wait),
            }
            self.log_end(Some(&"withdrawn"));
        }
    }
}
