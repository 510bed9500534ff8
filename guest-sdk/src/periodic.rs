//! Jobs that run at most once per interval.

use crate::{Error, InterProcessLock};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

/// A job that runs at most once per interval, whichever process asks first.
///
/// ```no_run
/// use clasp_guest::Periodic;
/// use std::time::Duration;
///
/// let cleanup = Periodic::new("data/cleanup.lock", Duration::from_secs(3600))?;
/// // Every instance asks as often as it likes.
/// if let Some(removed) = cleanup.run(|| 42)? {
///     println!("removed {removed} files");
/// }
/// # Ok::<(), clasp_guest::Error>(())
/// ```
///
/// The time of the last run is the modification time of the lock file, so a program
/// of the operating system can read it (`stat`, `find -mmin`) and have the job run soon
/// by setting it back (`touch -d @0`).
#[derive(Debug)]
pub struct Periodic {
    lock: InterProcessLock,
    interval: Duration,
}

impl Periodic {
    /// A job whose lock, and whose time of the last run, is the file at `path`.
    ///
    /// # Errors
    /// As [`InterProcessLock::new`].
    pub fn new(path: impl AsRef<Path>, interval: Duration) -> Result<Periodic, Error> {
        Ok(Periodic {
            lock: InterProcessLock::new(path)?,
            interval,
        })
    }

    /// Whether the interval has passed since the last run, or the job never ran.
    ///
    /// The last run may appear to be in the future, by less than an interval, if the
    /// clock of the file system is ahead of the clock of this component: the job is not
    /// due then. If it appears to be further in the future, the job is due: a clock that
    /// was wrong once does not stop it.
    ///
    /// # Errors
    /// As [`InterProcessLock::last_touched`].
    pub fn is_due(&self) -> Result<bool, Error> {
        let Some(last) = self.lock.last_touched()? else {
            return Ok(true);
        };
        Ok(match SystemTime::now().duration_since(last) {
            Ok(passed) => passed >= self.interval,
            Err(ahead) => ahead.duration() >= self.interval,
        })
    }

    /// Runs the job while the lock is held, if it is due and no process runs it now.
    /// Otherwise returns `None`. This never waits for another process.
    ///
    /// The run counts from its beginning: a job that fails, or whose process ends, is
    /// not run again before the interval has passed.
    ///
    /// # Errors
    /// As [`is_due`](Self::is_due), [`InterProcessLock::try_acquire`] and
    /// [`InterProcessGuard::touch`](crate::InterProcessGuard::touch); the job is not run
    /// then.
    pub fn run<R>(&self, job: impl FnOnce() -> R) -> Result<Option<R>, Error> {
        if !self.is_due()? {
            return Ok(None);
        }
        let Some(guard) = self.lock.try_acquire()? else {
            return Ok(None);
        };
        // Another process may have run it since.
        if !self.is_due()? {
            return Ok(None);
        }
        guard.touch()?;
        Ok(Some(job()))
    }
}
