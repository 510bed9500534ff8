//! A request for a lock, from its start to its guard.

use super::{
    guard::Guard,
    opened::{OpenLock, Share},
};
use crate::{
    Error, ErrorKind,
    core::{Amount, BlockedOn, Collected, Outcome, RequestId},
    driver::{Key, Progress, Queued, Request},
    naming::{Held, Target, Tried, replaced_too_often},
    policy::{Account, Permit},
    pool::Job,
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

/// The longest time for a try if an operation is under way, or if operations of
/// the back end take long. It is longer than a round trip to a server, and
/// short enough for a call that should return at once.
const TRY_LIMIT: Duration = Duration::from_secs(1);

/// How often one request moves to another lock; see [`replaced_too_often`].
const MOVE_LIMIT: usize = 64;

/// Whom a request blocks while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocks {
    Nothing,
    Task,
    Thread,
}

/// A request that was [started](crate::Lock::start_acquire): a future of its
/// guard.
///
/// Dropping it withdraws the request, or releases the lock if it was granted
/// meanwhile.
///
/// A grant is provisional: if the task that was woken does not poll for 100 to
/// 200 ms, the next request gets the lock; this one keeps its place, and has its
/// turn again when it polls.
///
/// Wakers are called on threads of the engine, one after the other: they must
/// neither wait nor use the engine.
#[derive(Debug)]
#[must_use = "dropping the request withdraws it"]
pub struct Acquire(Stage);

enum Stage {
    Granted(Guard),
    Waiting(Box<Waiting>),
    Ended,
}

impl Acquire {
    pub(super) fn begin(
        lock: &Arc<OpenLock>,
        amount: Amount,
        timeout: Option<Duration>,
        blocks: Blocks,
    ) -> Result<Acquire, Error> {
        let share = Share::take(lock, amount)?;
        let looked_up = match lock.try_hold(amount)? {
            Tried::Held(held) => {
                return Ok(Acquire(Stage::Granted(Guard::new(
                    share,
                    held,
                    amount.mode(),
                ))));
            }
            Tried::Busy => true,
            Tried::Later => false,
        };
        let timeout = lock.account().limits.cut(timeout);
        let zero = timeout.is_some_and(|t| t.is_zero());
        if zero && looked_up {
            return Err(ErrorKind::Timeout.into());
        }
        let ends = match timeout {
            // It tries once, and that takes its time.
            Some(_) if zero => Instant::now().checked_add(TRY_LIMIT),
            // A deadline beyond the clock's range is none.
            Some(timeout) => Instant::now().checked_add(timeout),
            None => None,
        };
        let ends = ends.map(|at| Ends {
            at,
            with: ErrorKind::Timeout.into(),
        });
        let waits = if zero { None } else { Some(blocks) };
        Acquire::submit(
            share,
            amount,
            ends,
            waits,
            blocks == Blocks::Thread,
            looked_up,
        )
    }

    /// A try that cannot be answered at once.
    pub(super) fn try_later(
        share: Share,
        amount: Amount,
        on_thread: bool,
    ) -> Result<Acquire, Error> {
        let why = "the back end did not answer within a second";
        let ends = Some(Ends {
            at: Instant::now() + TRY_LIMIT,
            with: Error::new(ErrorKind::Unavailable, why),
        });
        Acquire::submit(share, amount, ends, None, on_thread, false)
    }

    fn submit(
        share: Share,
        amount: Amount,
        ends: Option<Ends>,
        waits: Option<Blocks>,
        on_thread: bool,
        looked_up: bool,
    ) -> Result<Acquire, Error> {
        let lock = Arc::clone(share.lock());
        let request = Arc::new(Request::new(lock.account(), on_thread));
        let mut waiting = Box::new(Waiting {
            _waiting: lock.account().waiting.take()?,
            share: Some(share),
            lock,
            amount,
            ends,
            begun: Instant::now(),
            waits,
            in_graph: false,
            request,
            place: None,
            alarm: None,
            moves: 0,
        });
        waiting.queue(looked_up, None)?;
        Ok(Acquire(Stage::Waiting(waiting)))
    }

    /// Whether it is worth polling. Unlike a poll, this leaves the waker of the
    /// last one registered.
    pub fn is_ready(&self) -> bool {
        match &self.0 {
            Stage::Waiting(waiting) => waiting.request.is_ready(),
            Stage::Granted(_) | Stage::Ended => true,
        }
    }

    /// Ends a request that has not been answered yet; the stage is `Ended` then.
    fn end(&mut self) -> Result<Guard, Error> {
        match std::mem::replace(&mut self.0, Stage::Ended) {
            Stage::Granted(guard) if guard.is_held() => Ok(guard),
            Stage::Granted(guard) => Err(guard.why_ended()),
            Stage::Waiting(_) | Stage::Ended => Err(Error::new(
                ErrorKind::Closed,
                "the outcome of this request was taken already",
            )),
        }
    }

    /// Waits on the calling thread.
    pub(super) fn block(mut self) -> Result<Guard, Error> {
        let Stage::Waiting(waiting) = &mut self.0 else {
            // No waker is needed, and none is made.
            return self.end();
        };
        let thread = Unparker::new();
        loop {
            match waiting.advance(thread.waker()) {
                Advance::Ended(result) => return result,
                Advance::Run(job) => job.run(),
                Advance::Wait => thread.park(),
            }
        }
    }
}

impl Future for Acquire {
    type Output = Result<Guard, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Stage::Waiting(waiting) = &mut self.0 else {
            return Poll::Ready(self.end());
        };
        loop {
            match waiting.advance(cx.waker()) {
                Advance::Ended(result) => {
                    self.0 = Stage::Ended;
                    return Poll::Ready(result);
                }
                Advance::Wait => return Poll::Pending,
                // The engine gives operations to threads only.
                Advance::Run(job) => job.run(),
            }
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

enum Advance {
    Wait,
    Run(Job),
    Ended(Result<Guard, Error>),
}

/// When a request ends by itself, and how.
struct Ends {
    at: Instant,
    with: Error,
}

/// A request with a place in a queue, or on its way to the next one.
struct Waiting {
    lock: Arc<OpenLock>,
    amount: Amount,
    ends: Option<Ends>,
    begun: Instant,
    /// Whom it blocks if it waits for its turn; nothing for a try.
    waits: Option<Blocks>,
    /// Whether the owner is in the wait graph of the host.
    in_graph: bool,
    request: Arc<Request>,
    place: Option<(Arc<Target>, RequestId)>,
    alarm: Option<Key>,
    moves: usize,
    /// The guard's in the end.
    share: Option<Share>,
    _waiting: Permit,
}

impl Waiting {
    /// Takes a place in the queue of the lock that the name leads to. `before` is
    /// the lock that the request has left.
    fn queue(&mut self, mut looked_up: bool, before: Option<Arc<Target>>) -> Result<(), Error> {
        let mut before = before;
        loop {
            if let Some(ends) = &self.ends
                && ends.at <= Instant::now()
            {
                return Err(ends.with.clone());
            }
            self.moves += 1;
            if self.moves > MOVE_LIMIT {
                return Err(replaced_too_often());
            }
            let target = self.lock.follow(
                self.amount.mode(),
                std::mem::take(&mut looked_up),
                before.as_ref(),
            )?;
            match self.enqueue(&target)? {
                Queued::Moved => before = Some(target),
                Queued::Busy => return Err(self.busy()),
                Queued::At(id) => {
                    self.place = Some((Arc::clone(&target), id));
                    self.set_alarm(&target, id)?;
                    target.entry().advance();
                    let (mode, permits) = self.amount.parts();
                    tracing::debug!(
                        target: "clasp::wait",
                        owner = %self.lock.account().label,
                        lock = %self.lock.name(),
                        mode = mode.map(tracing::field::display),
                        permits,
                        id = %target.entry().identity,
                        "waiting"
                    );
                    return Ok(());
                }
            }
        }
    }

    fn set_alarm(&mut self, target: &Arc<Target>, id: RequestId) -> Result<(), Error> {
        let Some(ends) = &self.ends else {
            return Ok(());
        };
        let entry = Arc::clone(target.entry());
        let outcome = Outcome::Failed(ends.with.clone());
        let alarm = Box::new(move || entry.withdraw(id, outcome));
        let set = self.lock.host().services.timer.at(ends.at, alarm);
        self.alarm = Some(set.map_err(|error| {
            let why = format!("cannot start the timer: {error}");
            Error::new(ErrorKind::Unavailable, why)
        })?);
        Ok(())
    }

    /// Queues, unless the wait could never end. No system call is made here:
    /// arrivals in the wait graph wait for each other in the whole host.
    fn enqueue(&mut self, target: &Arc<Target>) -> Result<Queued, Error> {
        let entry = target.entry();
        let waits = self.waits.is_some();
        let account = self.lock.account();
        // An owner that holds nothing and asks for nothing else is in no circle: those
        // that wait for its request wait for what it waits for, in the same queue. The
        // request itself is counted already.
        let alone = account.held_locks.used() <= 1;
        if alone || matches!(self.waits, None | Some(Blocks::Nothing)) {
            return entry.enqueue(&self.request, self.amount, waits);
        }
        let host = self.lock.host();
        let mode = match self.amount {
            Amount::Lock(mode) => mode,
            Amount::Permits(count) => {
                if self.lock.has_too_many(entry, count) {
                    let name = self.lock.name().to_string();
                    let locks = vec![name.clone(), name];
                    return Err(host.deadlocks.report(&account.label, locks));
                }
                return entry.enqueue(&self.request, self.amount, waits);
            }
        };
        if self.lock.waits_for_own_ranges(entry, mode) {
            let name = self.lock.name().to_string();
            let locks = vec![name.clone(), name];
            return Err(host.deadlocks.report(&account.label, locks));
        }
        let cycle = {
            let mut blocked = host.blocked.lock();
            let cycle = blocked.find_cycle(
                account.id,
                entry,
                mode,
                Arc::as_ptr,
                |entry, id, mode, searched| entry.blockers(id, mode, searched),
            );
            match cycle {
                Some(cycle) => cycle,
                None => {
                    let queued = entry.enqueue(&self.request, self.amount, waits)?;
                    if let Queued::At(request) = queued {
                        let on = BlockedOn {
                            lock: Arc::clone(entry),
                            request,
                            mode,
                            name: self.lock.name().to_string(),
                        };
                        blocked.block(account.id, on);
                        self.in_graph = true;
                    }
                    return Ok(queued);
                }
            }
        };
        let mut locks = vec![self.lock.name().to_string()];
        locks.extend(cycle);
        Err(host.deadlocks.report(&account.label, locks))
    }

    /// Reports that the wait is over, and why it was in vain if it was.
    fn log_end(&self, error: Option<&dyn fmt::Display>) {
        let (mode, permits) = self.amount.parts();
        tracing::debug!(
            target: "clasp::wait",
            owner = %self.lock.account().label,
            lock = %self.lock.name(),
            mode = mode.map(tracing::field::display),
            permits,
            waited_us = self.begun.elapsed().as_micros() as u64,
            error = error.map(tracing::field::display),
            "waited"
        );
    }

    /// Gives up what belongs to a place in a queue, except the place.
    fn leave(&mut self) -> Option<(Arc<Target>, RequestId)> {
        let place = self.place.take()?;
        let host = self.lock.host();
        if std::mem::take(&mut self.in_graph) {
            host.blocked.lock().unblock(self.lock.account().id);
        }
        if let Some(key) = self.alarm.take() {
            host.services.timer.cancel(key);
        }
        Some(place)
    }

    fn advance(&mut self, waker: &Waker) -> Advance {
        loop {
            let outcome = match self.request.poll(waker) {
                Progress::Waiting => return Advance::Wait,
                Progress::Run(job) => return Advance::Run(job),
                Progress::Done(outcome) => outcome,
            };
            let result = match outcome {
                Outcome::Granted(hold) | Outcome::HandedOver(hold) if !self.collects(hold) => {
                    continue;
                }
                outcome => self.accept(outcome),
            };
            let Some(result) = result.transpose() else {
                continue;
            };
            let _place = self.leave();
            self.log_end(
                result
                    .as_ref()
                    .err()
                    .map(|error| error as &dyn fmt::Display),
            );
            return Advance::Ended(result);
        }
    }

    /// Whether the grant is final. Otherwise it was revoked, since the task did
    /// not poll, and the request has rejoined the queue.
    fn collects(&self, hold: crate::core::HoldId) -> bool {
        let Some((target, id)) = &self.place else {
            return true;
        };
        if self.request.on_thread || target.entry().collect(hold, *id) != Collected::Rejoined {
            return true;
        }
        // The alarm may have rung while the grant was provisional.
        if let Some(ends) = &self.ends
            && ends.at <= Instant::now()
        {
            let outcome = Outcome::Failed(ends.with.clone());
            target.entry().withdraw(*id, outcome);
        }
        false
    }

    /// Accepts the outcome; `None` if the request has queued for another lock.
    fn accept(&mut self, outcome: Outcome) -> Result<Option<Guard>, Error> {
        let Some((target, _)) = self.leave() else {
            return Err(Account::closed());
        };
        // Waiting for another host takes much longer than a look-up, and the name may
        // have been given to another file meanwhile. A lock that the requests of this
        // host hand to each other is looked up at intervals.
        let handed_over = matches!(outcome, Outcome::HandedOver(_));
        match outcome {
            Outcome::Failed(error) => Err(error),
            Outcome::Granted(hold) | Outcome::HandedOver(hold) => {
                let held = Held { target, hold };
                if !held.is_held() {
                    // It ended before it was collected.
                    return Err(self.lock.account().why_ended());
                }
                self.lock.account().check_open()?;
                let current = match handed_over {
                    true => self.lock.is_current(&held.target)?,
                    false => self.lock.leads_to(&held.target)?,
                };
                if !current {
                    let target = Arc::clone(&held.target);
                    drop(held);
                    return self.queue(false, Some(target)).map(|()| None);
                }
                match self.share.take() {
                    Some(share) => Ok(Some(Guard::new(share, held, self.amount.mode()))),
                    None => Err(Account::closed()),
                }
            }
            Outcome::Moved => self.queue(false, Some(target)).map(|()| None),
            _ => Err(self.busy()),
        }
    }

    /// What a try answers; zero as a timeout is one, too.
    fn busy(&self) -> Error {
        match &self.ends {
            Some(Ends { with, .. }) if with.kind() == ErrorKind::Timeout => with.clone(),
            _ => ErrorKind::WouldBlock.into(),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((target, id)) = self.leave() {
            target.entry().abandon(id);
            self.log_end(Some(&"withdrawn"));
        }
    }
}
