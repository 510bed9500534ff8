//! Locks, guards and requests as their owner sees them.

use crate::{
    Error, ErrorKind, LockName, Mode,
    deadlock::{Halt, find_cycle},
    entry::{Attempt, Entry, WaitJob},
    limits::Charge,
    manager::Place,
    owner::OwnerState,
    policy::Grant,
    queue::{HoldId, Ticket},
    request::{Outcome, Progress, Request},
    sync::{Mutex, thread},
    threads::Job,
    timer,
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

/// How many acquisitions may pass before the lock's name is looked up again:
/// a look-up costs about half a lock, so 64 make it one part in a hundred.
const NAME_CHECK_ACQUISITIONS: u32 = 64;

/// How long a name may stand unchecked: a lock that is taken less often than
/// this has its name checked each time.
const NAME_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How often one request follows a lock file that is replaced under it. More
/// is no maintenance but somebody who replaces files in a loop.
const REOPEN_LIMIT: usize = 64;

/// An open lock of one [`Owner`](crate::Owner).
#[derive(Debug)]
pub struct Lock(pub(crate) Arc<LockShared>);

impl Lock {
    /// The name the lock was opened with, without `.` and empty components.
    pub fn name(&self) -> &str {
        self.0.name.as_str()
    }

    /// Takes the lock now.
    ///
    /// # Errors
    /// [`WouldBlock`](ErrorKind::WouldBlock) if somebody holds it or waits for
    /// it, and what [`acquire`](Lock::acquire) answers at once.
    pub fn try_acquire(&self, mode: Mode) -> Result<Guard, Error> {
        let charge = self.0.charge(mode)?;
        match self.0.try_hold(mode)? {
            Some(held) => Ok(self.0.guard(held, mode, charge)),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Takes the lock, halting its owner: until the future has ended, the
    /// owner is taken to do nothing else, so that deadlocks can be told.
    ///
    /// `None` waits for as long as the limits allow, zero tries once. Dropping
    /// the future withdraws the request.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), [`Deadlock`](ErrorKind::Deadlock),
    /// [`NotPermitted`](ErrorKind::NotPermitted) or
    /// [`Access`](ErrorKind::Access) for a mode that is denied,
    /// [`LimitExceeded`](ErrorKind::LimitExceeded),
    /// [`Unavailable`](ErrorKind::Unavailable), [`Lost`](ErrorKind::Lost) once
    /// the owner is closed, and what opening answers if the lock file was
    /// replaced and is opened again.
    pub async fn acquire(&self, mode: Mode, timeout: Option<Duration>) -> Result<Guard, Error> {
        self.0.begin(mode, timeout, Halting::Task)?.await
    }

    /// As [`acquire`](Lock::acquire), but halts the calling thread, which
    /// itself waits in the kernel where somebody must.
    ///
    /// # Errors
    /// As `acquire`.
    pub fn acquire_blocking(&self, mode: Mode, timeout: Option<Duration>) -> Result<Guard, Error> {
        self.0.begin(mode, timeout, Halting::Thread)?.block()
    }

    /// Starts to take the lock; the owner goes on. The place in the queue is
    /// taken before this returns.
    ///
    /// Such a request is never refused with [`Deadlock`](ErrorKind::Deadlock):
    /// the owner may release what it waits for.
    ///
    /// # Errors
    /// As `acquire`, as far as they are known at once.
    pub fn start_acquire(&self, mode: Mode, timeout: Option<Duration>) -> Result<Acquire, Error> {
        self.0.begin(mode, timeout, Halting::Nobody)
    }
}

/// Whom a request halts while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Halting {
    Nobody,
    Task,
    Thread,
}

/// What the handles and guards of one opened lock share.
pub(crate) struct LockShared {
    owner: Arc<OwnerState>,
    grant: Grant,
    pub(crate) name: LockName,
    places: Mutex<Places>,
    number: u64,
    unchecked: AtomicU32,
    /// Of the entry's doubts, those that were known when the name was last
    /// looked up; an entry that is opened anew is looked up at once.
    doubts: AtomicU32,
    /// When the name was last looked up, in milliseconds of the manager.
    checked_ms: AtomicU64,
    _charge: Charge,
}

/// Where the name of a lock has led.
struct Places {
    current: Place,
    /// Entries of files that were replaced; holds and waits there may live on.
    former: Vec<Weak<Entry>>,
}

impl LockShared {
    pub(crate) fn open(
        owner: &Arc<OwnerState>,
        grant: &Grant,
        name: LockName,
        charge: Charge,
    ) -> Result<Arc<LockShared>, Error> {
        let current = owner.manager.open(grant, &name)?;
        Ok(Arc::new_cyclic(|this| LockShared {
            number: owner.register(this.clone()),
            checked_ms: AtomicU64::new(owner.manager.uptime_ms()),
            owner: Arc::clone(owner),
            grant: grant.clone(),
            name,
            places: Mutex::new(Places {
                current,
                former: Vec::new(),
            }),
            unchecked: AtomicU32::new(0),
            doubts: AtomicU32::new(0),
            _charge: charge,
        }))
    }

    /// The entry for a request.
    fn entry(&self, mode: Mode) -> Result<Arc<Entry>, Error> {
        let places = self.places.lock();
        if mode == Mode::Exclusive && !places.current.exclusive {
            return Err(Error::new(
                ErrorKind::Access,
                "the file could be opened for reading only",
            ));
        }
        Ok(Arc::clone(&places.current.entry))
    }

    /// Every entry in which this lock may hold or wait.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        let places = self.places.lock();
        let mut entries: Vec<_> = places.former.iter().filter_map(Weak::upgrade).collect();
        entries.push(Arc::clone(&places.current.entry));
        entries
    }

    /// Opens the name again because it no longer leads to `stale`.
    fn reopen(&self, stale: &Arc<Entry>) -> Result<(), Error> {
        tracing::debug!(target: "clasp::file", lock = %self.name, "lock file was replaced, opening the new one");
        stale.retire_if_unlinked();
        let fresh = self.owner.manager.open(&self.grant, &self.name)?;
        let mut places = self.places.lock();
        // If another request of this lock has moved on before, `stale` is among
        // the former ones; what it moved to may be stale by now as well, and
        // whoever uses that will see.
        let unused = if Arc::ptr_eq(&places.current.entry, stale) {
            places.former.retain(|entry| entry.strong_count() > 0);
            places.former.push(Arc::downgrade(stale));
            std::mem::replace(&mut places.current, fresh)
        } else {
            fresh
        };
        drop(places);
        // The last of an entry locks the manager's map: not under a mutex.
        drop(unused);
        Ok(())
    }

    /// Whether the name still leads to the file of `entry`.
    fn is_named(&self, entry: &Entry) -> Result<bool, Error> {
        let doubts = entry.doubts.load(Ordering::Relaxed);
        let named = match self.grant.space.identify(&self.name) {
            Ok(found) => found.as_ref() == Some(&entry.identity),
            // Whatever stands there now, it is not this one.
            Err(_) if entry.is_unlinked() => false,
            Err(error) => return Err(error),
        };
        if named {
            self.unchecked.store(0, Ordering::Relaxed);
            self.doubts.store(doubts, Ordering::Relaxed);
            self.checked_ms
                .store(self.owner.manager.uptime_ms(), Ordering::Relaxed);
        } else {
            entry.doubts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(named)
    }

    /// As [`is_named`](Self::is_named), at bounded intervals and in doubt.
    fn is_named_if_due(&self, entry: &Entry) -> Result<bool, Error> {
        let unchecked = self.unchecked.fetch_add(1, Ordering::Relaxed);
        let since = self
            .owner
            .manager
            .uptime_ms()
            .saturating_sub(self.checked_ms.load(Ordering::Relaxed));
        let due = unchecked >= NAME_CHECK_ACQUISITIONS
            || since >= NAME_CHECK_INTERVAL.as_millis() as u64
            || self.is_in_doubt(entry);
        Ok(!due || self.is_named(entry)?)
    }

    /// Whether somebody has found a name not to lead here since this lock's was
    /// looked up.
    fn is_in_doubt(&self, entry: &Entry) -> bool {
        entry.doubts.load(Ordering::Relaxed) != self.doubts.load(Ordering::Relaxed)
    }

    /// Checks the mode against the policy, then the quota.
    fn charge(&self, mode: Mode) -> Result<Charge, Error> {
        if self.owner.is_closed() {
            return Err(ErrorKind::Lost.into());
        }
        if !self.grant.permits(mode) {
            return Err(Error::new(
                ErrorKind::NotPermitted,
                "only shared locks are granted here",
            ));
        }
        self.owner.held_locks.take()
    }

    /// Takes the lock now; `None` if somebody else has it.
    fn try_hold(&self, mode: Mode) -> Result<Option<Held>, Error> {
        for _ in 0..REOPEN_LIMIT {
            let entry = self.entry(mode)?;
            match entry.try_acquire(&self.owner, mode)? {
                Attempt::Granted(hold) => {
                    let held = Held { entry, hold };
                    if self.is_named_if_due(&held.entry)? {
                        return Ok(Some(held));
                    }
                    self.reopen(&held.entry)?;
                }
                Attempt::Retired => self.reopen(&entry)?,
                Attempt::Queued(_) => unreachable!("nobody queues by trying"),
                Attempt::Busy => {
                    // Somebody holds a file; is it the one we are after?
                    if self.is_named(&entry)? {
                        return Ok(None);
                    }
                    self.reopen(&entry)?;
                }
            }
        }
        Err(replaced_too_often())
    }

    fn guard(self: &Arc<Self>, held: Held, mode: Mode, charge: Charge) -> Guard {
        Guard {
            lock: Arc::clone(self),
            held,
            mode,
            _charge: charge,
        }
    }

    fn begin(
        self: &Arc<Self>,
        mode: Mode,
        timeout: Option<Duration>,
        halting: Halting,
    ) -> Result<Acquire, Error> {
        let charge = self.charge(mode)?;
        if let Some(held) = self.try_hold(mode)? {
            return Ok(Acquire(Stage::Granted(self.guard(held, mode, charge))));
        }
        let timeout = match (timeout, self.owner.limits.longest_wait) {
            (Some(asked), Some(cap)) => Some(asked.min(cap)),
            (asked, cap) => asked.or(cap),
        };
        if timeout.is_some_and(|t| t.is_zero()) {
            return Err(ErrorKind::TimedOut.into());
        }
        let mut waiting = Waiting {
            _waiting: self.owner.waiting.take()?,
            lock: Arc::clone(self),
            mode,
            // A deadline beyond the clock's range is none.
            deadline: timeout.and_then(|t| Instant::now().checked_add(t)),
            begun: Instant::now(),
            halting,
            request: Arc::new(Request::new(halting == Halting::Thread)),
            place: None,
            alarm: None,
        };
        Ok(Acquire(match waiting.submit(true)? {
            Some(held) => Stage::Granted(self.guard(held, mode, charge)),
            None => Stage::Waiting(waiting, charge),
        }))
    }
}

impl Drop for LockShared {
    fn drop(&mut self) {
        self.owner.forget(self.number);
    }
}

impl fmt::Debug for LockShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cold]
fn replaced_too_often() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("the lock file was replaced {REOPEN_LIMIT} times during one request"),
    )
}

/// A hold that ends on drop.
struct Held {
    entry: Arc<Entry>,
    hold: HoldId,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.entry.release(self.hold);
    }
}

/// A lock that is held until this is dropped.
pub struct Guard {
    lock: Arc<LockShared>,
    held: Held,
    mode: Mode,
    _charge: Charge,
}

impl Guard {
    /// How the lock is held.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Releases the lock and says whether it was held to the end, and by the
    /// file that its name leads to.
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost) if not, and what keeps the name from being
    /// looked up. The lock is released in any case.
    pub fn release(self) -> Result<(), Error> {
        let named = self.lock.is_named(&self.held.entry);
        if !self.is_held() {
            return Err(closed());
        }
        if !named? {
            return Err(Error::new(
                ErrorKind::Lost,
                "the name of the lock leads to another file or to none",
            ));
        }
        Ok(())
    }
}

impl Guard {
    fn is_held(&self) -> bool {
        self.held.entry.holds(self.held.hold)
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Lost, "the locks of this owner were closed")
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("lock", &self.lock.name)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// A request that was [started](Lock::start_acquire): a future of its guard.
///
/// Dropping it withdraws the request, or releases the lock if it was granted
/// meanwhile.
///
/// A grant is an offer: a task that was woken and does not poll for 100 to 200
/// ms is passed over, keeps its place, and has its turn again when it polls.
///
/// Wakers are called on threads of the engine, one after the other: they must
/// neither wait nor use the engine.
#[derive(Debug)]
#[must_use = "dropping the request withdraws it"]
pub struct Acquire(Stage);

enum Stage {
    Granted(Guard),
    Waiting(Waiting, Charge),
    Ended,
}

impl Acquire {
    /// Whether it is worth polling. Unlike a poll, this leaves the waker of the
    /// last one registered.
    pub fn is_ready(&self) -> bool {
        match &self.0 {
            Stage::Waiting(waiting, _) => waiting.request.is_ready(),
            Stage::Granted(_) | Stage::Ended => true,
        }
    }

    fn advance(&mut self, waker: &Waker) -> Step {
        match &mut self.0 {
            Stage::Waiting(waiting, _) => match waiting.advance(waker) {
                Advance::Wait => Step::Wait,
                Advance::Run(job) => Step::Run(job),
                Advance::Ended(result) => {
                    let Stage::Waiting(waiting, charge) =
                        std::mem::replace(&mut self.0, Stage::Ended)
                    else {
                        unreachable!("it was waiting a line ago");
                    };
                    Step::Ended(result.map(|h| waiting.lock.guard(h, waiting.mode, charge)))
                }
            },
            _ => match std::mem::replace(&mut self.0, Stage::Ended) {
                Stage::Granted(guard) if guard.is_held() => Step::Ended(Ok(guard)),
                Stage::Granted(_) => Step::Ended(Err(closed())),
                _ => Step::Ended(Err(Error::new(
                    ErrorKind::Lost,
                    "the outcome of this request was taken already",
                ))),
            },
        }
    }

    /// Waits on the calling thread.
    fn block(mut self) -> Result<Guard, Error> {
        struct Unpark(thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        if let Stage::Granted(_) = self.0 {
            // No waker is needed, and none is made.
            return match self.advance(Waker::noop()) {
                Step::Ended(result) => result,
                Step::Wait | Step::Run(_) => unreachable!("a granted request has ended"),
            };
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            match self.advance(&waker) {
                Step::Ended(result) => return result,
                Step::Run(mut job) => {
                    job.wait();
                    // Only helpers are given more to wait for.
                    Box::new(job).finish();
                }
                Step::Wait => thread::park(),
            }
        }
    }
}

impl Future for Acquire {
    type Output = Result<Guard, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.advance(cx.waker()) {
            Step::Ended(result) => Poll::Ready(result),
            Step::Wait => Poll::Pending,
            Step::Run(_) => unreachable!("only blocking requests wait on their own thread"),
        }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Granted(_) => "granted",
            Stage::Waiting(..) => "waiting",
            Stage::Ended => "ended",
        })
    }
}

enum Step {
    Wait,
    Run(WaitJob),
    Ended(Result<Guard, Error>),
}

enum Advance {
    Wait,
    Run(WaitJob),
    Ended(Result<Held, Error>),
}

/// A request with a place in a queue, or on its way to the next one.
struct Waiting {
    lock: Arc<LockShared>,
    mode: Mode,
    deadline: Option<Instant>,
    begun: Instant,
    halting: Halting,
    request: Arc<Request>,
    place: Option<(Arc<Entry>, Ticket)>,
    alarm: Option<timer::Key>,
    _waiting: Charge,
}

impl Waiting {
    /// Takes the lock or a place in its queue. `tried` says that the name was
    /// looked up and the lock was not free a moment ago.
    fn submit(&mut self, mut tried: bool) -> Result<Option<Held>, Error> {
        let lock = Arc::clone(&self.lock);
        let owner = &lock.owner;
        for _ in 0..REOPEN_LIMIT {
            if self.deadline.is_some_and(|d| d <= Instant::now()) {
                return Err(ErrorKind::TimedOut.into());
            }
            let entry = lock.entry(self.mode)?;
            // Never wait for a file that only its holder can still reach.
            if !tried && !lock.is_named(&entry)? {
                lock.reopen(&entry)?;
                continue;
            }
            match self.arrive(&entry, std::mem::take(&mut tried))? {
                Attempt::Granted(hold) => return Ok(Some(Held { entry, hold })),
                Attempt::Retired => lock.reopen(&entry)?,
                Attempt::Busy => unreachable!("a request that finds it busy queues"),
                Attempt::Queued(ticket) => {
                    tracing::debug!(target: "clasp::wait", lock = %lock.name, mode = %self.mode, "waiting");
                    self.place = Some((Arc::clone(&entry), ticket));
                    if let Some(deadline) = self.deadline {
                        let timed_out = Outcome::Failed(ErrorKind::TimedOut.into());
                        let alarm = Box::new(move || entry.withdraw(ticket, timed_out));
                        let key = owner.manager.timer.at(deadline, alarm).map_err(|error| {
                            Error::new(
                                ErrorKind::Unavailable,
                                format!("cannot start the timer: {error}"),
                            )
                        })?;
                        self.alarm = Some(key);
                    }
                    return Ok(None);
                }
            }
        }
        Err(replaced_too_often())
    }

    /// Takes the lock or queues for it, unless the wait could never end.
    fn arrive(&self, entry: &Arc<Entry>, tried: bool) -> Result<Attempt, Error> {
        if !tried {
            match entry.try_acquire(&self.lock.owner, self.mode)? {
                Attempt::Busy => {}
                done => return Ok(done),
            }
        }
        let attempt = self.enqueue(entry)?;
        if let Attempt::Queued(_) = attempt {
            entry.advance();
        }
        Ok(attempt)
    }

    /// Queues. Nothing here calls the operating system: halting arrivals of
    /// the whole host wait for each other.
    fn enqueue(&self, entry: &Arc<Entry>) -> Result<Attempt, Error> {
        let owner = &self.lock.owner;
        if self.halting == Halting::Nobody {
            return entry.enqueue(owner, self.mode, &self.request);
        }
        let _arrival = owner.manager.arrivals.lock();
        if let Some(mut cycle) = find_cycle(entry, owner, self.mode) {
            cycle.insert(0, self.lock.name.to_string());
            return Err(owner.manager.deadlocks.report(cycle));
        }
        let attempt = entry.enqueue(owner, self.mode, &self.request)?;
        if let Attempt::Queued(ticket) = attempt {
            *owner.halt.lock() = Some(Halt {
                entry: Arc::clone(entry),
                ticket,
                mode: self.mode,
                lock: Arc::clone(&self.lock),
            });
        }
        Ok(attempt)
    }

    /// Gives up what belongs to a place in a queue, except the place.
    fn leave(&mut self) -> Option<(Arc<Entry>, Ticket)> {
        let place = self.place.take()?;
        if self.halting != Halting::Nobody {
            *self.lock.owner.halt.lock() = None;
        }
        if let Some(key) = self.alarm.take() {
            self.lock.owner.manager.timer.cancel(key);
        }
        Some(place)
    }

    fn advance(&mut self, waker: &Waker) -> Advance {
        loop {
            let outcome = match self.request.poll(waker) {
                Progress::Waiting => return Advance::Wait,
                Progress::Run(job) => return Advance::Run(job),
                Progress::Absent => {
                    self.come_back();
                    continue;
                }
                Progress::Done(outcome) => outcome,
            };
            let Some((entry, _)) = self.leave() else {
                unreachable!("a request that ended had a place");
            };
            if let Some(result) = self.follow(entry, outcome).transpose() {
                tracing::debug!(
                    target: "clasp::wait",
                    lock = %self.lock.name,
                    mode = %self.mode,
                    waited_us = self.begun.elapsed().as_micros() as u64,
                    error = result.as_ref().err().map(tracing::field::display),
                    "waited"
                );
                return Advance::Ended(result);
            }
        }
    }

    /// The grant was taken back since nobody polled; the place was kept.
    fn come_back(&self) {
        let Some((entry, ticket)) = &self.place else {
            unreachable!("a request that is passed over has a place");
        };
        // The alarm may have rung while the grant was on offer.
        if self.deadline.is_some_and(|d| d <= Instant::now()) {
            entry.withdraw(*ticket, Outcome::Failed(ErrorKind::TimedOut.into()));
        } else {
            entry.come_back(*ticket);
        }
    }

    /// Accepts the outcome, or queues again if the file was replaced.
    fn follow(&mut self, entry: Arc<Entry>, outcome: Outcome) -> Result<Option<Held>, Error> {
        match outcome {
            Outcome::Failed(error) => return Err(error),
            Outcome::Granted(hold) => {
                let held = Held { entry, hold };
                if self.lock.owner.is_closed() {
                    return Err(closed());
                }
                if self.lock.is_named(&held.entry)? {
                    return Ok(Some(held));
                }
                self.lock.reopen(&held.entry)?;
            }
            Outcome::Moved => self.lock.reopen(&entry)?,
        }
        self.submit(false)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((entry, ticket)) = self.leave() {
            entry.abandon(ticket, &self.request);
        }
    }
}
