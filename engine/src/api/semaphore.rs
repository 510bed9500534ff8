//! An open semaphore of one owner, and the permits that it acquires.

use super::{
    acquire::{Acquire, Blocks},
    cooperation::Cooperation,
    guard::{Guard, Loss},
    opened::{OpenLock, Share},
};
use crate::{Error, ErrorKind, Permits, backend::Identity, core::Amount, naming::Tried};
use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// An open semaphore of one [`Owner`](crate::Owner): at most so many holders at a time,
/// among all hosts, as it has permits.
///
/// ```
/// use clasp_engine::{Grant, Limits, LockManager, file::FileSpace};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let dir = cap_std::fs::Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
/// let grant = Grant::new(FileSpace::new(dir).into_space());
/// let owner = LockManager::global().owner(Limits::default());
/// # if cfg!(target_os = "linux") {
/// let jobs = owner.open_semaphore(&grant, "jobs.sem", 4)?;
/// let permit = jobs.acquire_blocking(1, None)?;
/// // ... at most three others are here ...
/// permit.release()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Semaphore {
    open: Arc<OpenLock>,
    cooperation: Cooperation,
}

impl Semaphore {
    pub(super) fn new(open: Arc<OpenLock>) -> Semaphore {
        Semaphore {
            open,
            cooperation: Cooperation::default(),
        }
    }

    /// The name the semaphore was opened with, without `.` and empty components.
    pub fn name(&self) -> &str {
        self.open.name().as_str()
    }

    /// How many permits it has.
    pub fn permits(&self) -> u8 {
        self.open.permits()
    }

    /// What its name led to when that was looked up last.
    pub fn identity(&self) -> Identity {
        self.open.identity()
    }

    fn amount(&self, count: u8) -> Result<Amount, Error> {
        let permits = self.permits();
        if (1..=permits).contains(&count) {
            return Ok(Amount::Permits(count));
        }
        let why = format!("a request for {count} permits of a semaphore that has {permits}");
        Err(Error::new(ErrorKind::Unsupported, why))
    }

    /// Takes so many permits now. As [`Lock::try_acquire`](crate::Lock::try_acquire), it may
    /// take a moment.
    ///
    /// # Errors
    /// [`WouldBlock`](ErrorKind::WouldBlock) if fewer are free or another request waits for
    /// permits, [`Unavailable`](ErrorKind::Unavailable) if the file system does not answer
    /// within a second, and what [`acquire`](Semaphore::acquire) answers at once.
    pub fn try_acquire(&self, count: u8) -> Result<Permit, Error> {
        let amount = self.amount(count)?;
        let share = Share::take(&self.open, amount)?;
        match self.open.try_hold(amount)? {
            Tried::Held(held) => Permit::new(Guard::new(share, held, amount.mode())),
            Tried::Busy => Err(ErrorKind::WouldBlock.into()),
            Tried::Later => Acquire::try_later(share, amount, true)?
                .block()
                .and_then(Permit::new),
        }
    }

    /// As [`try_acquire`](Semaphore::try_acquire), but suspends the task if it has to wait,
    /// and yields to other tasks at intervals.
    ///
    /// # Errors
    /// As `try_acquire`.
    pub async fn try_acquire_async(&self, count: u8) -> Result<Permit, Error> {
        self.cooperation.give_way(self.open.host()).await;
        let amount = self.amount(count)?;
        let share = Share::take(&self.open, amount)?;
        match self.open.try_hold(amount)? {
            Tried::Held(held) => Permit::new(Guard::new(share, held, amount.mode())),
            Tried::Busy => Err(ErrorKind::WouldBlock.into()),
            Tried::Later => Acquire::try_later(share, amount, false)?
                .await
                .and_then(Permit::new),
        }
    }

    /// Acquires so many permits, all of them at once, and blocks its owner.
    ///
    /// `None` waits for as long as the limits allow, zero tries once. Dropping the future
    /// withdraws the request.
    ///
    /// # Errors
    /// [`Deadlock`](ErrorKind::Deadlock) if the owner itself has so many permits that fewer
    /// than `count` are left, [`Unsupported`](ErrorKind::Unsupported) for no permits or more
    /// than the semaphore has, and otherwise as [`Lock::acquire`](crate::Lock::acquire).
    pub async fn acquire(&self, count: u8, timeout: Option<Duration>) -> Result<Permit, Error> {
        self.cooperation.give_way(self.open.host()).await;
        let amount = self.amount(count)?;
        let acquire = Acquire::begin(&self.open, amount, timeout, Blocks::Task)?;
        acquire.await.and_then(Permit::new)
    }

    /// As [`acquire`](Semaphore::acquire), but blocks the calling thread.
    ///
    /// # Errors
    /// As `acquire`.
    pub fn acquire_blocking(&self, count: u8, timeout: Option<Duration>) -> Result<Permit, Error> {
        let amount = self.amount(count)?;
        let acquire = Acquire::begin(&self.open, amount, timeout, Blocks::Thread)?;
        acquire.block().and_then(Permit::new)
    }

    /// Starts to acquire permits; the owner goes on. The place in the queue is taken before
    /// this returns. Such a request is never refused with
    /// [`Deadlock`](ErrorKind::Deadlock).
    ///
    /// # Errors
    /// As `acquire`, as far as they are known at once.
    pub fn start_acquire(
        &self,
        count: u8,
        timeout: Option<Duration>,
    ) -> Result<AcquirePermit, Error> {
        let amount = self.amount(count)?;
        let acquire = Acquire::begin(&self.open, amount, timeout, Blocks::Nothing)?;
        Ok(AcquirePermit(acquire))
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("name", &self.name())
            .field("permits", &self.permits())
            .finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`] that are held until this is dropped.
#[derive(Debug)]
pub struct Permit {
    guard: Guard,
    numbers: Permits,
}

impl Permit {
    /// Fails if the permits were lost in the moment of the grant.
    fn new(guard: Guard) -> Result<Permit, Error> {
        let numbers = guard.permits();
        if numbers.is_empty() {
            guard.check()?;
            return Err(ErrorKind::Lost.into());
        }
        Ok(Permit { guard, numbers })
    }

    /// Which permits are held or, if they were lost, were held. No two holders have the
    /// same one at the same time, so a holder can use what it stands for, such as one
    /// device of several.
    pub fn numbers(&self) -> Permits {
        self.numbers
    }

    /// Whether they are still held: they are not when their owner was closed, or the back
    /// end has lost them.
    pub fn is_held(&self) -> bool {
        self.guard.is_held()
    }

    /// Checks that they are still held, and that the name still leads to the semaphore.
    ///
    /// # Errors
    /// As [`Guard::check`].
    pub fn check(&self) -> Result<(), Error> {
        self.guard.check()
    }

    /// A number greater than any that an earlier holder of one of these permits has asked
    /// for (S13); the same at each call.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) where there are none, as for semaphores on
    /// files, which no host loses; [`Closed`](ErrorKind::Closed) or
    /// [`Lost`](ErrorKind::Lost) if the permits are not held any more.
    pub fn token(&self) -> Result<u64, Error> {
        let token = self.guard.token()?;
        // The core answers by itself; the back end knows whether their time is over.
        match self.guard.check() {
            Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Lost) => Err(error),
            _ => Ok(token),
        }
    }

    /// Releases them and returns what [`check`](Permit::check) returns at that time.
    ///
    /// # Errors
    /// As `check`. They are released in any case.
    pub fn release(self) -> Result<(), Error> {
        self.guard.release()
    }

    /// A future that completes when they are no longer held; see [`Guard::loss`].
    pub fn loss(&self) -> Loss {
        self.guard.loss()
    }
}

/// A request that was [started](Semaphore::start_acquire): a future of its permits. As
/// [`Acquire`].
#[derive(Debug)]
#[must_use = "dropping the request withdraws it"]
pub struct AcquirePermit(Acquire);

impl AcquirePermit {
    /// Whether it is worth polling; see [`Acquire::is_ready`].
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }
}

impl Future for AcquirePermit {
    type Output = Result<Permit, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        pin!(&mut self.0)
            .poll(cx)
            .map(|result| result.and_then(Permit::new))
    }
}
