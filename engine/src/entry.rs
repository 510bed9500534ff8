//! One lock file in one host: the local queue and the one state machine that
//! locks, waits for and unlocks its open file description.
//!
//! ```text
//!            try_lock                       last holder releases
//!   Free ───────────────▶ Held ─────────────────────────────▶ Free
//!    │  would block        ▲
//!    ▼                     │ granted
//!   Waiting ───────────────┘
//!    │  the request is withdrawn
//!    ▼
//!   Cancelling ──── its thread has left the kernel; unlock ──▶ Free
//! ```
//!
//! A description never conflicts with itself and one unlock drops all that it
//! holds, so nothing but this machine may touch it. Unlocking happens under
//! the entry's mutex and needs no state of its own.
//!
//! Locks are taken in this order: the manager's arrival lock, an entry's
//! state, a request's slot, the timer or the thread pool. Wakers are woken
//! when none is held.

use crate::{
    Error, ErrorKind, Mode,
    backend::{Cancel, Identity, Opened, Resource, Wait, Waited},
    limits::Charge,
    manager::Shared,
    owner::OwnerState,
    queue::{HoldId, Queue, Ticket},
    request::{self, Outcome, Request},
    sync::{Condvar, Mutex, MutexGuard},
    threads::Job,
};
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
};

/// A lock file that is open in this host.
pub(crate) struct Entry {
    pub(crate) identity: Identity,
    pub(crate) family: &'static str,
    manager: Weak<Shared>,
    /// How often a name was found not to lead here any more. Whoever has seen
    /// fewer looks up its own name before it relies on it.
    pub(crate) doubts: AtomicU32,
    /// No new request may come here: the file has no name any more, or its
    /// resource was given up. Set under the mutex, read without it by the
    /// manager, which must not wait for a lock file.
    retired: AtomicBool,
    state: Mutex<State>,
    /// Cancelling has ended.
    settled: Condvar,
    _charge: Charge,
}

struct State {
    queue: Queue<Arc<OwnerState>, Arc<Request>>,
    outside: Outside,
    /// The newest first; more than one only if an early one was opened for
    /// shared requests only.
    resources: Vec<Arc<dyn Resource>>,
    waits: u64,
}

/// What this host has of the lock outside.
enum Outside {
    Free,
    Held(Arc<dyn Resource>),
    Waiting {
        id: u64,
        ticket: Ticket,
        wait: Arc<dyn Wait>,
        resource: Arc<dyn Resource>,
    },
    Cancelling {
        id: u64,
        resource: Arc<dyn Resource>,
        /// Told when no trace of the wait is left.
        then: Option<(Arc<Request>, Outcome)>,
    },
}

/// What [`Entry::try_acquire`] and [`Entry::enqueue`] achieved.
pub(crate) enum Attempt {
    Granted(HoldId),
    /// Somebody else holds the lock or waits for it.
    Busy,
    /// The request waits.
    Queued(Ticket),
    /// The file has been replaced: open it again.
    Retired,
}

/// One kernel wait, for the thread that is to run it: both steps, in order.
pub(crate) struct WaitJob {
    entry: Arc<Entry>,
    id: u64,
    wait: Arc<dyn Wait>,
    resource: Arc<dyn Resource>,
    /// The share of the owner's helper threads, while it waits.
    charge: Option<Charge>,
    result: Option<Result<Waited, Error>>,
}

impl Job for WaitJob {
    fn wait(&mut self) {
        self.result = Some(self.wait.run());
        self.charge = None;
    }

    fn finish(self: Box<Self>) {
        if let Some(result) = self.result {
            self.entry.wait_ended(self.id, result, &*self.resource);
        }
    }
}

/// Whom to wake once the entry's mutex is free again.
type Wakers = Vec<Waker>;

impl Entry {
    pub(crate) fn new(manager: &Arc<Shared>, opened: Opened, charge: Charge) -> Entry {
        Entry {
            identity: opened.identity,
            family: opened.family,
            manager: Arc::downgrade(manager),
            doubts: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            state: Mutex::new(State {
                queue: Queue::new(),
                outside: Outside::Free,
                resources: vec![opened.resource],
                waits: 0,
            }),
            settled: Condvar::default(),
            _charge: charge,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Runs `f` on the state, then wakes whom it says.
    fn update<R>(self: &Arc<Self>, f: impl FnOnce(&mut State, &mut Wakers) -> R) -> R {
        let mut wakers = Wakers::new();
        let mut state = self.state();
        let result = f(&mut state, &mut wakers);
        drop(state);
        request::wake(wakers);
        result
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Retires the entry if its file has no name any more, so that those who
    /// wait for it go where theirs leads.
    pub(crate) fn retire_if_unlinked(self: &Arc<Self>) {
        self.update(|state, wakers| {
            let linked = state.resources.first().map(|r| r.is_linked());
            if let Some(Ok(false)) = linked {
                state.retire(self, wakers);
            }
        });
    }

    /// Adds a resource if it can do what the others cannot.
    pub(crate) fn add_resource(&self, resource: Arc<dyn Resource>) {
        let mut state = self.state();
        let can = |mode| state.resources.iter().any(|r| r.permits(mode));
        if [Mode::Shared, Mode::Exclusive]
            .into_iter()
            .any(|mode| resource.permits(mode) && !can(mode))
        {
            state.resources.insert(0, resource);
        }
    }

    /// Takes the lock if nobody holds it or waits for it.
    pub(crate) fn try_acquire(
        self: &Arc<Self>,
        owner: &Arc<OwnerState>,
        mode: Mode,
    ) -> Result<Attempt, Error> {
        let mut wakers = Wakers::new();
        let mut state = self.state();
        // A wait that was withdrawn is out of the kernel within microseconds.
        // Whoever asks next must not be told that the lock is taken.
        while matches!(state.outside, Outside::Cancelling { .. }) && !state.queue.is_waited_for() {
            state = self.settled.wait(state);
        }
        let attempt = state.try_acquire(self, owner, mode, &mut wakers);
        drop(state);
        request::wake(wakers);
        attempt
    }

    /// Takes a place in the queue. [`advance`](Self::advance) has to follow.
    pub(crate) fn enqueue(
        &self,
        owner: &Arc<OwnerState>,
        mode: Mode,
        request: &Arc<Request>,
    ) -> Result<Attempt, Error> {
        let mut state = self.state();
        // Read under the mutex: `close` sets it before it evicts.
        if owner.is_closed() {
            return Err(ErrorKind::Lost.into());
        }
        if self.is_retired() {
            return Ok(Attempt::Retired);
        }
        let (owner, request) = (Arc::clone(owner), Arc::clone(request));
        Ok(Attempt::Queued(state.queue.enqueue(owner, mode, request)))
    }

    /// Lets in whoever may go, and sees that somebody waits for the others.
    pub(crate) fn advance(self: &Arc<Self>) {
        self.update(|state, wakers| state.advance(self, wakers));
    }

    /// Releases a hold; `false` if it was taken away before.
    pub(crate) fn release(self: &Arc<Self>, hold: HoldId) -> bool {
        self.update(|state, wakers| {
            let held = state.queue.release(hold);
            if held {
                state.released(self, wakers);
            }
            held
        })
    }

    pub(crate) fn holds(&self, hold: HoldId) -> bool {
        self.state().queue.holds(hold)
    }

    /// Takes a request out of the queue and, if it is still there, completes
    /// it with `outcome` as soon as no trace of it is left.
    pub(crate) fn withdraw(self: &Arc<Self>, ticket: Ticket, outcome: Outcome) {
        self.update(|state, wakers| state.withdraw(self, ticket, Some(outcome), wakers));
    }

    /// Takes a request out of the queue for its owner, who no longer wants
    /// the lock; releases the lock if it was granted meanwhile.
    pub(crate) fn abandon(self: &Arc<Self>, ticket: Ticket, request: &Request) {
        self.update(|state, wakers| {
            state.withdraw(self, ticket, None, wakers);
            if let Some(Outcome::Granted(hold)) = request.take_outcome()
                && state.queue.release(hold)
            {
                state.released(self, wakers);
            }
        });
    }

    /// Ends every hold and every request of `owner` (S4).
    pub(crate) fn evict(self: &Arc<Self>, owner: &Arc<OwnerState>) {
        self.update(|state, wakers| {
            for ticket in state.queue.evict(owner) {
                let lost = Outcome::Failed(ErrorKind::Lost.into());
                state.remove(self, ticket, Some(lost), wakers);
            }
            state.released(self, wakers);
            state.advance(self, wakers);
        });
    }

    /// The owners a request stands behind, see [`Queue::blockers`].
    pub(crate) fn blockers(&self, place: Option<Ticket>, mode: Mode) -> Vec<Arc<OwnerState>> {
        self.state().queue.blockers(place, mode)
    }

    /// A kernel wait has ended. Anything that is not ours any more, such as
    /// the grant of a wait that was given up, is unlocked.
    fn wait_ended(self: &Arc<Self>, ended: u64, result: Result<Waited, Error>, of: &dyn Resource) {
        self.update(|state, wakers| {
            match std::mem::replace(&mut state.outside, Outside::Free) {
                Outside::Waiting {
                    id,
                    ticket,
                    resource,
                    ..
                } if id == ended => state.waited(self, ticket, result, resource, wakers),
                Outside::Cancelling { id, resource, then } if id == ended => {
                    // A grant may have raced with the cancellation, and the
                    // description may live on in a forked child.
                    state.unlock(self, &*resource);
                    wakers.extend(then.and_then(|(request, outcome)| request.complete(outcome)));
                    self.settled.notify_all();
                }
                other => {
                    state.outside = other;
                    if let Err(error) = of.unlock() {
                        tracing::error!(target: "clasp", lock = ?self.identity, %error, "cannot unlock");
                    }
                    return;
                }
            }
            state.advance(self, wakers);
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(manager) = self.manager.upgrade() {
            manager.forget(self);
        }
    }
}

/// What [`State::take`] achieved outside.
enum Take {
    Taken,
    Busy,
    Unlinked,
}

impl State {
    fn try_acquire(
        &mut self,
        entry: &Arc<Entry>,
        owner: &Arc<OwnerState>,
        mode: Mode,
        wakers: &mut Wakers,
    ) -> Result<Attempt, Error> {
        // Read under the mutex: `close` sets it before it evicts.
        if owner.is_closed() {
            return Err(ErrorKind::Lost.into());
        }
        if entry.is_retired() {
            return Ok(Attempt::Retired);
        }
        if !self.queue.admits(owner, mode) {
            return Ok(Attempt::Busy);
        }
        let taken = match &self.outside {
            // Both are shared, or the request would not be admitted.
            Outside::Held(resource) if resource.is_linked()? => Take::Taken,
            Outside::Held(_) => Take::Unlinked,
            Outside::Waiting { .. } | Outside::Cancelling { .. } => Take::Busy,
            Outside::Free => self.take(entry, mode)?,
        };
        Ok(match taken {
            Take::Taken => Attempt::Granted(self.queue.hold(Arc::clone(owner), mode)),
            Take::Busy => Attempt::Busy,
            Take::Unlinked => {
                self.retire(entry, wakers);
                Attempt::Retired
            }
        })
    }

    /// Sends everybody who waits to the file that their name leads to now.
    fn retire(&mut self, entry: &Entry, wakers: &mut Wakers) {
        entry.retired.store(true, Ordering::Release);
        while let Some((ticket, _)) = self.queue.front() {
            self.remove(entry, ticket, Some(Outcome::Moved), wakers);
        }
    }

    fn resource(&self, mode: Mode) -> Result<&Arc<dyn Resource>, Error> {
        self.resources
            .iter()
            .find(|r| r.permits(mode))
            .ok_or_else(|| Error::from(ErrorKind::Access))
    }

    /// Takes the free lock outside, if nobody has it there.
    fn take(&mut self, entry: &Entry, mode: Mode) -> Result<Take, Error> {
        let resource = Arc::clone(self.resource(mode)?);
        if !resource.try_lock(mode)? {
            return Ok(Take::Busy);
        }
        self.keep_if_linked(entry, resource)
    }

    /// Keeps a lock that was just taken if its file still has a name (S11).
    fn keep_if_linked(
        &mut self,
        entry: &Entry,
        resource: Arc<dyn Resource>,
    ) -> Result<Take, Error> {
        let linked = resource.is_linked();
        if let Ok(true) = linked {
            self.outside = Outside::Held(resource);
            return Ok(Take::Taken);
        }
        self.unlock(entry, &*resource);
        linked.map(|_| Take::Unlinked)
    }

    fn unlock(&mut self, entry: &Entry, resource: &dyn Resource) {
        self.outside = Outside::Free;
        if let Err(error) = resource.unlock() {
            // Closing the description is all that is left to do.
            tracing::error!(target: "clasp", lock = ?entry.identity, %error, "cannot unlock");
            entry.retired.store(true, Ordering::Release);
            self.resources.clear();
        }
    }

    /// Holds have ended, perhaps the last.
    fn released(&mut self, entry: &Arc<Entry>, wakers: &mut Wakers) {
        if self.queue.is_held() {
            return;
        }
        if let Outside::Held(resource) = &self.outside {
            let resource = Arc::clone(resource);
            self.unlock(entry, &*resource);
            self.advance(entry, wakers);
        }
    }

    /// Lets in whoever may go, and sees that somebody waits for the others.
    fn advance(&mut self, entry: &Arc<Entry>, wakers: &mut Wakers) {
        loop {
            if entry.is_retired() {
                return self.retire(entry, wakers);
            }
            match self.outside {
                Outside::Waiting { .. } | Outside::Cancelling { .. } => return,
                Outside::Held(_) => {
                    // Held outside and by nobody inside: just taken for the
                    // front request, in its mode.
                    while let Some((hold, request)) = self.queue.grant_front() {
                        wakers.extend(request.complete(Outcome::Granted(hold)));
                    }
                    return;
                }
                Outside::Free => {}
            }
            let Some((ticket, front)) = self.queue.front() else {
                return;
            };
            let mode = front.mode;
            let started = match self.take(entry, mode) {
                Ok(Take::Busy) => self.start_wait(entry, ticket, wakers),
                Ok(Take::Taken) => Ok(()),
                Ok(Take::Unlinked) => return self.retire(entry, wakers),
                Err(error) => Err(error),
            };
            if let Err(error) = started {
                self.fail(ticket, error, wakers);
            }
        }
    }

    fn fail(&mut self, ticket: Ticket, error: Error, wakers: &mut Wakers) {
        if let Some(w) = self.queue.remove(ticket) {
            wakers.extend(w.request.complete(Outcome::Failed(error)));
        }
    }

    /// Sends the front request into the kernel, on its owner's thread or on a
    /// helper.
    fn start_wait(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        wakers: &mut Wakers,
    ) -> Result<(), Error> {
        let Some((_, front)) = self.queue.front() else {
            return Ok(());
        };
        let resource = Arc::clone(self.resource(front.mode)?);
        let charge = if front.request.runs_own_wait {
            None
        } else {
            Some(front.owner.waiter_threads.take()?)
        };
        let wait = resource.begin_wait(front.mode)?;
        self.waits += 1;
        let job = WaitJob {
            entry: Arc::clone(entry),
            id: self.waits,
            wait: Arc::clone(&wait),
            resource: Arc::clone(&resource),
            charge,
            result: None,
        };
        if front.request.runs_own_wait {
            wakers.extend(front.request.offer(job));
        } else {
            let manager = entry.manager.upgrade().ok_or(ErrorKind::Lost)?;
            manager.threads.spawn(Box::new(job))?;
        }
        self.outside = Outside::Waiting {
            id: self.waits,
            ticket,
            wait,
            resource,
        };
        Ok(())
    }

    /// The wait of the front request has ended and was not cancelled.
    fn waited(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        result: Result<Waited, Error>,
        resource: Arc<dyn Resource>,
        wakers: &mut Wakers,
    ) {
        let kept = match result {
            Ok(Waited::Granted) => self.keep_if_linked(entry, resource),
            // Nobody cancelled it: `advance` tries again.
            Ok(Waited::Cancelled) => Ok(Take::Busy),
            Err(error) => Err(error),
        };
        match kept {
            Ok(Take::Taken | Take::Busy) => {}
            Ok(Take::Unlinked) => self.retire(entry, wakers),
            Err(error) => self.fail(ticket, error, wakers),
        }
    }

    fn withdraw(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        outcome: Option<Outcome>,
        wakers: &mut Wakers,
    ) {
        self.remove(entry, ticket, outcome, wakers);
        self.advance(entry, wakers);
    }

    /// Takes a request out of the queue and its wait out of the kernel.
    fn remove(
        &mut self,
        entry: &Entry,
        ticket: Ticket,
        outcome: Option<Outcome>,
        wakers: &mut Wakers,
    ) {
        let Some(withdrawn) = self.queue.remove(ticket) else {
            return;
        };
        let then = outcome.map(|outcome| (withdrawn.request.clone(), outcome));
        let then = match std::mem::replace(&mut self.outside, Outside::Free) {
            Outside::Waiting {
                id,
                ticket: waiting,
                wait,
                resource,
            } if waiting == ticket => {
                if withdrawn.request.take_back() {
                    // Its owner's thread has not begun to wait.
                    then
                } else if wait.cancel() == Cancel::Prompt {
                    self.outside = Outside::Cancelling { id, resource, then };
                    return;
                } else {
                    // The description belongs to the abandoned wait; the
                    // others go on with a new one.
                    entry.retired.store(true, Ordering::Release);
                    then
                }
            }
            other => {
                self.outside = other;
                then
            }
        };
        wakers.extend(then.and_then(|(request, outcome)| request.complete(outcome)));
    }
}
