//! A lock that is held.

use super::opened::Share;
use crate::{
    Error, ErrorKind, Mode,
    core::Outcome,
    driver::{Progress, Request},
    naming::Held,
    policy::Account,
    sync::Unparker,
};
use std::{fmt, sync::Arc};

/// A lock that is held until this is dropped.
pub struct Guard {
    held: Held,
    mode: Mode,
    share: Share,
}

impl Guard {
    pub(super) fn new(share: Share, held: Held, mode: Mode) -> Guard {
        Guard { held, mode, share }
    }

    /// How the lock is held.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether it is still held: it is not when its owner was closed, or the back
    /// end has lost it.
    pub fn is_held(&self) -> bool {
        self.held.is_held()
    }

    /// Releases the lock and says whether it was held to the end, and by the lock
    /// file that its name leads to.
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost) if not, and what keeps the name from being
    /// looked up. The lock is released in any case.
    pub fn release(self) -> Result<(), Error> {
        let leads = self.share.lock().leads_to(&self.held.target);
        if !self.is_held() {
            return Err(Account::closed());
        }
        if !leads? {
            return Err(Error::new(
                ErrorKind::Lost,
                "the name of the lock leads to another file or to none",
            ));
        }
        Ok(())
    }

    /// Converts an exclusive lock into a shared one, with no other holder in
    /// between (S10). A shared one stays as it is.
    ///
    /// Where the family has no such conversion, other hosts see the lock as
    /// exclusive until it is released; requests of this host share it.
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost) if the lock is not held any more. After any
    /// error the lock is held as before, if it is.
    pub fn downgrade(&mut self) -> Result<(), Error> {
        match self.convert(Mode::Shared) {
            Outcome::Converted => Ok(()),
            Outcome::Failed(error) => Err(error),
            _ => Err(ErrorKind::Unavailable.into()),
        }
    }

    /// Converts a shared lock into an exclusive one, at once or not at all
    /// (S10): `false` if another holds it shared, and the lock is held shared
    /// then. It passes requests that wait, since it would make them wait for ever
    /// otherwise.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) where the family has no such
    /// conversion, [`NotPermitted`](ErrorKind::NotPermitted) or
    /// [`Access`](ErrorKind::Access) where only shared locks are granted,
    /// [`Lost`](ErrorKind::Lost) if the lock is not held any more. After any
    /// error the lock is held as before, if it is.
    pub fn try_upgrade(&mut self) -> Result<bool, Error> {
        self.share.lock().check_exclusive(&self.held.target)?;
        match self.convert(Mode::Exclusive) {
            Outcome::Converted => Ok(true),
            Outcome::Failed(error) => Err(error),
            _ => Ok(false),
        }
    }

    fn convert(&mut self, to: Mode) -> Outcome {
        let entry = self.held.target.entry();
        let outcome = self.call(|request| entry.convert(self.held.hold, to, request));
        if outcome == Outcome::Converted {
            self.mode = to;
        }
        outcome
    }

    /// The fencing token of this exclusive acquisition: greater than that of
    /// every acquisition before it which has asked (S13). The same at each call,
    /// until the lock is converted.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a shared lock, and where the
    /// back end has no tokens; [`Lost`](ErrorKind::Lost) if the lock is not held
    /// any more.
    pub fn token(&self) -> Result<u64, Error> {
        let entry = self.held.target.entry();
        match self.call(|request| entry.token(self.held.hold, request)) {
            Outcome::Token(token) => Ok(token),
            Outcome::Failed(error) => Err(error),
            _ => Err(ErrorKind::Unavailable.into()),
        }
    }

    /// Makes a call on the hold, and waits for its end where the back end takes
    /// its time.
    fn call(&self, call: impl FnOnce(Option<&Arc<Request>>) -> Option<Outcome>) -> Outcome {
        if self.held.target.entry().immediate {
            return call(None).unwrap_or_else(|| Outcome::Failed(Account::closed()));
        }
        let request = Arc::new(Request::new(self.share.lock().account(), true));
        if let Some(outcome) = call(Some(&request)) {
            return outcome;
        }
        let thread = Unparker::new();
        loop {
            match request.poll(thread.waker()) {
                Progress::Done(outcome) => return outcome,
                Progress::Run(job) => job.run(),
                Progress::Waiting => thread.park(),
            }
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
