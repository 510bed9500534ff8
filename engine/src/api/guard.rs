//! A lock that is held.

use super::opened::Share;
use crate::{
    Error, ErrorKind, Mode, Permits,
    backend::Op,
    core::{HoldId, Outcome},
    driver::{Entry, Progress, Request},
    naming::Held,
    policy::Account,
    sync::Unparker,
};
use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

/// A lock that is held until this is dropped.
pub struct Guard {
    held: Held,
    /// As it was when this was last told.
    mode: Mode,
    share: Share,
}

impl Guard {
    pub(super) fn new(share: Share, held: Held, mode: Mode) -> Guard {
        Guard { held, mode, share }
    }

    /// The mode in which the lock is held or, if it is no longer held, was
    /// held.
    pub fn mode(&self) -> Mode {
        let entry = self.held.target.entry();
        entry.mode_of(self.held.hold).unwrap_or(self.mode)
    }

    /// Whether it is still held: it is not when its owner was closed, or the back
    /// end has lost it.
    pub fn is_held(&self) -> bool {
        self.held.is_held()
    }

    /// The permits of a semaphore that it has, or none if it is no longer held.
    pub(super) fn permits(&self) -> Permits {
        let entry = self.held.target.entry();
        entry.permits_of(self.held.hold).unwrap_or_default()
    }

    /// Why it is not held any more.
    pub(super) fn why_ended(&self) -> Error {
        self.share.lock().account().why_ended()
    }

    /// Checks that the lock is still held, and that its name still leads to it.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if the owner was closed,
    /// [`Lost`](ErrorKind::Lost) if the back end has lost the lock,
    /// [`Replaced`](ErrorKind::Replaced) if the name leads to another file or to
    /// none, though the lock is held, and what keeps the name from being looked up.
    pub fn check(&self) -> Result<(), Error> {
        let leads = self.share.lock().leads_to(&self.held.target);
        // After the look-up, which may take its time.
        if !self.is_held() {
            return Err(self.why_ended());
        }
        match leads? {
            true => Ok(()),
            false => Err(ErrorKind::Replaced.into()),
        }
    }

    /// Releases the lock and returns what [`check`](Guard::check) returns at
    /// that time.
    ///
    /// # Errors
    /// As `check`. The lock is released in any case.
    pub fn release(self) -> Result<(), Error> {
        self.check()
    }

    /// A future that completes when the lock is no longer held, because this
    /// guard was dropped, its owner was closed, or the back end has lost the
    /// lock. [`check`](Guard::check) says which.
    ///
    /// A file that was replaced does not end it, since the lock is still held.
    pub fn loss(&self) -> Loss {
        Loss {
            entry: Arc::downgrade(self.held.target.entry()),
            hold: self.held.hold,
            key: None,
        }
    }

    /// Converts an exclusive lock into a shared one, with no other holder in
    /// between (S10). A shared one stays as it is.
    ///
    /// Where the family has no such conversion, other hosts see the lock as
    /// exclusive until it is released; requests of this host share it.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) or [`Lost`](ErrorKind::Lost) if the lock is not
    /// held any more. After any error the lock is held as before, if it is.
    pub fn downgrade(&mut self) -> Result<(), Error> {
        let outcome = self.convert(Mode::Shared).block();
        self.downgraded(outcome)
    }

    /// As [`downgrade`](Guard::downgrade), but suspends the task if the back end
    /// does not answer at once. If the future is dropped, the lock may be
    /// converted all the same.
    ///
    /// # Errors
    /// As `downgrade`.
    pub async fn downgrade_async(&mut self) -> Result<(), Error> {
        let outcome = self.convert(Mode::Shared).finish().await;
        self.downgraded(outcome)
    }

    fn downgraded(&mut self, outcome: Outcome) -> Result<(), Error> {
        match outcome {
            Outcome::Converted => {
                self.mode = Mode::Shared;
                Ok(())
            }
            outcome => Err(self.failed(outcome)),
        }
    }

    /// Converts a shared lock into an exclusive one, at once or not at all (S10):
    /// `false` if another holds it shared, and the lock is held shared then. It
    /// overtakes waiting requests, because they wait for this hold to end. An
    /// exclusive one stays as it is.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) where the family has no such
    /// conversion, [`ReadOnly`](ErrorKind::ReadOnly) or
    /// [`Access`](ErrorKind::Access) where only shared locks are granted,
    /// [`Closed`](ErrorKind::Closed) or [`Lost`](ErrorKind::Lost) if the lock is not
    /// held any more. After any error the lock is held as before, if it is.
    pub fn try_upgrade(&mut self) -> Result<bool, Error> {
        self.may_be_exclusive()?;
        let outcome = self.convert(Mode::Exclusive).block();
        self.upgraded(outcome)
    }

    /// As [`try_upgrade`](Guard::try_upgrade), but suspends the task if the back end
    /// does not answer at once. If the future is dropped, the lock may be converted
    /// all the same.
    ///
    /// # Errors
    /// As `try_upgrade`.
    pub async fn try_upgrade_async(&mut self) -> Result<bool, Error> {
        self.may_be_exclusive()?;
        let outcome = self.convert(Mode::Exclusive).finish().await;
        self.upgraded(outcome)
    }

    fn may_be_exclusive(&self) -> Result<(), Error> {
        self.share.lock().check_exclusive(&self.held.target)
    }

    fn upgraded(&mut self, outcome: Outcome) -> Result<bool, Error> {
        match outcome {
            Outcome::Converted => {
                self.mode = Mode::Exclusive;
                Ok(true)
            }
            Outcome::Refused => Ok(false),
            outcome => Err(self.failed(outcome)),
        }
    }

    fn convert(&self, to: Mode) -> Call {
        let entry = self.held.target.entry();
        self.call(Op::Convert { to }, |request| {
            entry.convert(self.held.hold, to, request)
        })
    }

    /// The fencing token of this exclusive acquisition: greater than that of
    /// every acquisition before it which has asked (S13). The same at each call,
    /// until the lock is converted.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a shared lock, and where the
    /// back end has no tokens; [`Closed`](ErrorKind::Closed) or
    /// [`Lost`](ErrorKind::Lost) if the lock is not held any more.
    pub fn token(&self) -> Result<u64, Error> {
        let outcome = self.draw_token().block();
        self.drawn(outcome)
    }

    /// As [`token`](Guard::token), but suspends the task if the back end does not
    /// answer at once.
    ///
    /// # Errors
    /// As `token`.
    pub async fn token_async(&self) -> Result<u64, Error> {
        let outcome = self.draw_token().finish().await;
        self.drawn(outcome)
    }

    fn draw_token(&self) -> Call {
        let entry = self.held.target.entry();
        self.call(Op::Token, |request| entry.token(self.held.hold, request))
    }

    fn drawn(&self, outcome: Outcome) -> Result<u64, Error> {
        match outcome {
            Outcome::Token(token) => Ok(token),
            outcome => Err(self.failed(outcome)),
        }
    }

    /// Notes that the lock is used now (S14): [`Lock::last_touched`] answers this
    /// time from now on, in every process.
    ///
    /// [`Lock::last_touched`]: crate::Lock::last_touched
    ///
    /// # Errors
    /// [`ReadOnly`](ErrorKind::ReadOnly) where only shared locks are granted,
    /// [`Access`](ErrorKind::Access) where the file may not be written,
    /// [`Closed`](ErrorKind::Closed) or [`Lost`](ErrorKind::Lost) if the lock is not
    /// held any more, [`Unsupported`](ErrorKind::Unsupported) where the back end
    /// keeps no time.
    pub fn touch(&self) -> Result<(), Error> {
        self.may_be_exclusive()?;
        if !self.is_held() {
            return Err(self.why_ended());
        }
        self.held.target.entry().touch()
    }

    /// A descriptor for programs that this process starts: they inherit it, and the
    /// lock with it. The lock is held until the last copy of the descriptor is closed,
    /// or until this guard is dropped, which unlocks. To leave the lock to such a
    /// program, end this process, or execute the program in it, without dropping the
    /// guard.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) where a lock belongs to no descriptor,
    /// [`Closed`](ErrorKind::Closed) or [`Lost`](ErrorKind::Lost) if the lock is not
    /// held any more.
    #[cfg(unix)]
    pub fn descriptor(&self) -> Result<std::os::fd::OwnedFd, Error> {
        if !self.is_held() {
            return Err(self.why_ended());
        }
        self.held.target.entry().descriptor()
    }

    /// Why a call on the hold has not done what it should.
    fn failed(&self, outcome: Outcome) -> Error {
        match outcome {
            Outcome::Failed(error) if error.kind() == ErrorKind::Lost => self.why_ended(),
            Outcome::Failed(error) => error,
            _ => ErrorKind::Unavailable.into(),
        }
    }

    /// Makes a call on the hold, which is carried out by an operation.
    fn call(&self, op: Op, call: impl FnOnce(Option<&Arc<Request>>) -> Option<Outcome>) -> Call {
        if self.held.target.entry().ends_at_once(op) {
            let outcome = call(None);
            return Call::Ended(outcome.unwrap_or_else(|| Outcome::Failed(Account::closed())));
        }
        let request = Arc::new(Request::new(self.share.lock().account(), true));
        match call(Some(&request)) {
            Some(outcome) => Call::Ended(outcome),
            None => Call::Pending(request),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("lock", self.share.lock().name())
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// A call on a hold, which ends at once or when the back end has answered.
enum Call {
    Ended(Outcome),
    Pending(Arc<Request>),
}

impl Call {
    /// Waits for its end on the calling thread.
    fn block(self) -> Outcome {
        let request = match self {
            Call::Ended(outcome) => return outcome,
            Call::Pending(request) => request,
        };
        let thread = Unparker::new();
        loop {
            match request.poll(thread.waker()) {
                Progress::Done(outcome) => return outcome,
                Progress::Run(job) => job.run(),
                Progress::Waiting => thread.park(),
            }
        }
    }

    /// Waits for its end in a task.
    async fn finish(self) -> Outcome {
        let request = match self {
            Call::Ended(outcome) => return outcome,
            Call::Pending(request) => request,
        };
        poll_fn(|cx| {
            loop {
                match request.poll(cx.waker()) {
                    Progress::Done(outcome) => return Poll::Ready(outcome),
                    Progress::Run(job) => job.run(),
                    Progress::Waiting => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// The end of a hold; made by [`Guard::loss`].
///
/// It keeps nothing alive, and may outlive its guard.
#[must_use = "a future does nothing unless it is polled"]
pub struct Loss {
    entry: Weak<Entry>,
    hold: HoldId,
    key: Option<usize>,
}

impl Future for Loss {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Loss { entry, hold, key } = &mut *self;
        match entry.upgrade() {
            Some(entry) if !entry.watch(*hold, key, cx.waker()) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        if let (Some(key), Some(entry)) = (self.key, self.entry.upgrade()) {
            entry.unwatch(self.hold, key);
        }
    }
}

impl fmt::Debug for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loss").finish_non_exhaustive()
    }
}
