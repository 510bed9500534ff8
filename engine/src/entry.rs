//! One lock file in one host: the local queue, and the one state machine that
//! locks, waits for and unlocks its open file description.
//!
//! ```text
//!            try_lock            last holder releases and nobody is next
//!   Free ───────────────▶ Held ─────────────────────────────▶ Free
//!    │  would block       ▲  └─▶ passed on to the next, within a tenure
//!    ▼                    │ granted
//!   Waiting ──────────────┘
//!    │  the request is withdrawn
//!    ▼
//!   Cancelling ──── its thread has left the kernel; unlock ──▶ Free
//! ```
//!
//! A description never conflicts with itself and one unlock drops all that it
//! holds, so nothing but this machine may touch it. Unlocking happens under
//! the entry's mutex and needs no state of its own.
//!
//! Where hosts have an order, the front request first draws a ticket and waits
//! for its [`Turn`] unless no other host waits, and gives it back with the
//! grant. That is a machine of its own beside the other, since readers that
//! would join a shared lock wait for their turn while it is held.
//!
//! Locks are taken in this order: the manager's arrival lock, an entry's
//! state, a request's slot, the timer or the thread pool. Wakers are woken
//! when none is held.

mod place;
mod rounds;
mod waits;

pub(crate) use waits::WaitJob;

use place::Place;
use waits::{Awaited, Helper};

use crate::{
    Error, ErrorKind, Mode,
    backend::{Cancel, Identity, Opened, Resource, Tickets, Turn, Wait, Waited},
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
    time::{Duration, Instant},
};

/// How often a lock is passed on inside this host before other hosts may have
/// it. Taking it anew costs three system calls, about 3 us: little beside 64
/// turns, which cost 4 us each where nothing is done in them.
const TENURE_TURNS: u32 = 64;

/// How long it is passed on at most: whoever waits outside waits for one
/// tenure of each host before it, and a host's scheduling noise is as long.
const TENURE: Duration = Duration::from_millis(1);

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
    /// How often the lock was passed on since it was taken, and when that was.
    passed_on: u32,
    taken: Instant,
    place: Place,
    /// The timer is set to go the rounds.
    rounds: bool,
    /// Set while a helper thread passes on the result of its wait.
    helper: Option<Helper>,
    /// The newest first; more than one only if an early one was opened for
    /// shared requests only.
    resources: Vec<Arc<dyn Resource>>,
    waits: u64,
}

/// Whom to tell what, if anybody.
type Told = Option<(Arc<Request>, Outcome)>;

/// What this host has of the lock outside.
enum Outside {
    Free,
    Held(Arc<dyn Resource>, Mode),
    Waiting {
        id: u64,
        ticket: Ticket,
        wait: Arc<dyn Wait>,
        resource: Arc<dyn Resource>,
        mode: Mode,
    },
    Cancelling {
        id: u64,
        resource: Arc<dyn Resource>,
        /// Told when no trace of the wait is left.
        then: Told,
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
                passed_on: 0,
                taken: Instant::now(),
                place: Place::None,
                rounds: false,
                helper: None,
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
            if state.is_unlinked() {
                state.retire(self, wakers);
            }
        });
    }

    /// Whether the file has no name at all any more.
    pub(crate) fn is_unlinked(&self) -> bool {
        self.state().is_unlinked()
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
        // A wait that was withdrawn is out of the kernel within microseconds, on
        // macOS within 10 ms. Whoever asks next must not be told that the lock
        // is taken.
        while state.is_cancelling() && !state.queue.is_waited_for() {
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
    pub(crate) fn blockers(
        &self,
        place: Option<Ticket>,
        mode: Mode,
    ) -> Option<Vec<Arc<OwnerState>>> {
        self.state().queue.blockers(place, mode)
    }

    /// The owner of a request that was passed over is there again.
    pub(crate) fn come_back(self: &Arc<Self>, ticket: Ticket) {
        self.update(|state, wakers| {
            state.queue.come_back(ticket);
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
            Outside::Held(resource, _) => {
                if self.others_wait(mode) && !self.queue.is_held_by(owner) {
                    Take::Busy
                } else if resource.is_linked()? {
                    Take::Taken
                } else {
                    Take::Unlinked
                }
            }
            Outside::Waiting { .. } | Outside::Cancelling { .. } => Take::Busy,
            Outside::Free if !matches!(self.place, Place::None) => Take::Busy,
            Outside::Free if self.others_wait(mode) => Take::Busy,
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

    fn is_unlinked(&self) -> bool {
        let resource = match &self.outside {
            Outside::Held(resource, _) => Some(resource),
            _ => self.resources.first(),
        };
        resource.is_some_and(|resource| matches!(resource.is_linked(), Ok(false)))
    }

    /// Whether a wait of ours is on its way out of the kernel.
    fn is_cancelling(&self) -> bool {
        matches!(self.outside, Outside::Cancelling { .. })
            || matches!(self.place, Place::Cancelling { .. })
    }

    /// Sends everybody who waits to the file that their name leads to now.
    fn retire(&mut self, entry: &Entry, wakers: &mut Wakers) {
        entry.retired.store(true, Ordering::Release);
        self.give_share_back();
        for ticket in self.queue.places() {
            self.remove(entry, ticket, Some(Outcome::Moved), wakers);
        }
        if let Outside::Free = self.outside {
            self.let_go(entry);
        }
    }

    /// Closes what will not be used again: there are systems on which a file
    /// that was removed keeps its name until the last one has closed it.
    fn let_go(&mut self, entry: &Entry) {
        if entry.is_retired() {
            self.resources.clear();
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
        self.keep_if_linked(entry, resource, mode)
    }

    /// Keeps a lock that was just taken if its file still has a name (S11).
    fn keep_if_linked(
        &mut self,
        entry: &Entry,
        resource: Arc<dyn Resource>,
        mode: Mode,
    ) -> Result<Take, Error> {
        let linked = resource.is_linked();
        if let Ok(true) = linked {
            self.outside = Outside::Held(resource, mode);
            self.passed_on = 0;
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
        }
        self.let_go(entry);
    }

    /// Holds have ended, perhaps the last.
    fn released(&mut self, entry: &Arc<Entry>, wakers: &mut Wakers) {
        if self.queue.is_held() {
            return;
        }
        if let Outside::Held(resource, held) = &self.outside {
            let (resource, held) = (Arc::clone(resource), *held);
            if !self.pass_on(entry, &*resource, held, wakers) {
                self.unlock(entry, &*resource);
                self.advance(entry, wakers);
            }
        }
    }

    /// Passes the lock on to the next request of this host, without unlocking
    /// it in between; `false` if there is none, or it is the others' turn.
    fn pass_on(
        &mut self,
        entry: &Arc<Entry>,
        resource: &dyn Resource,
        held: Mode,
        wakers: &mut Wakers,
    ) -> bool {
        let Some(next) = self.queue.front().map(|(_, next)| next.mode) else {
            return false;
        };
        if entry.is_retired() || !self.continues_tenure() {
            return false;
        }
        match (held, next) {
            (Mode::Exclusive, Mode::Exclusive) => {}
            (Mode::Exclusive, Mode::Shared) => {
                if !self.make_shared(entry, resource) {
                    return false;
                }
            }
            // Never in place: other hosts may hold it shared. And a shared
            // request that did not join a shared lock has others before it.
            (Mode::Shared, _) => return false,
        }
        self.grant(entry, wakers);
        true
    }

    /// Makes the exclusive lock outside a shared one; `false` if it stays as it
    /// is.
    fn make_shared(&mut self, entry: &Entry, resource: &dyn Resource) -> bool {
        let done = resource.downgrade().unwrap_or_else(|error| {
            tracing::debug!(target: "clasp", lock = ?entry.identity, %error, "cannot downgrade");
            false
        });
        if done && let Outside::Held(_, mode) = &mut self.outside {
            *mode = Mode::Shared;
        }
        done
    }

    /// Counts one more turn of this tenure; `false` if it is over.
    fn continues_tenure(&mut self) -> bool {
        if self.passed_on == 0 {
            // The clock is read from the second turn on: most have no next.
            self.taken = Instant::now();
        }
        self.passed_on += 1;
        self.passed_on <= TENURE_TURNS && self.taken.elapsed() <= TENURE
    }

    /// Grants whatever stands at the front and fits.
    fn grant(&mut self, entry: &Arc<Entry>, wakers: &mut Wakers) {
        self.give_share_back();
        let mut offered = false;
        // A thread that waits is awake when it is woken; a task may never be
        // polled.
        while let Some((hold, request)) = self.queue.grant_front(|r| !r.runs_own_wait) {
            offered |= !request.runs_own_wait;
            wakers.extend(request.complete(Outcome::Granted(hold)));
        }
        if offered {
            self.start_rounds(entry);
        }
        // The place was that of the first of them.
        self.end_turn();
    }

    /// Lets in whoever may go, and sees that somebody waits for the others.
    fn advance(&mut self, entry: &Arc<Entry>, wakers: &mut Wakers) {
        loop {
            if entry.is_retired() {
                return self.retire(entry, wakers);
            }
            let Some((ticket, front)) = self.queue.front() else {
                return self.end_turn();
            };
            let mode = front.mode;
            let held = match &self.outside {
                // The turn of whoever waits outside stays with it, even if
                // another has come back before it.
                Outside::Waiting { .. } | Outside::Cancelling { .. } => return,
                Outside::Held(resource, held) => Some((Arc::clone(resource), *held)),
                Outside::Free => None,
            };
            let Some(first) = self.is_first(ticket, mode) else {
                return;
            };
            let started = match held {
                Some(_) if !self.queue.fits(mode) => return,
                // Just taken, but for a request that is not the first any more.
                Some((resource, held)) if !self.queue.is_held() && held != mode => {
                    if held != Mode::Exclusive || !self.make_shared(entry, &*resource) {
                        self.unlock(entry, &*resource);
                    }
                    continue;
                }
                // Just taken for the front request, or shared.
                Some(_) => {
                    if first || !self.queue.is_held() || !self.others_wait(mode) {
                        return self.grant(entry, wakers);
                    }
                    self.start_turn(entry, ticket, wakers)
                }
                None if !first && self.others_wait(mode) => self.start_turn(entry, ticket, wakers),
                None => match self.take(entry, mode) {
                    Ok(Take::Taken) => Ok(()),
                    Ok(Take::Busy) if first => self.start_wait(entry, ticket, wakers),
                    Ok(Take::Busy) => self.start_turn(entry, ticket, wakers),
                    Ok(Take::Unlinked) => return self.retire(entry, wakers),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = started {
                self.fail(ticket, error, wakers);
            }
        }
    }

    fn fail(&mut self, ticket: Ticket, error: Error, wakers: &mut Wakers) {
        self.end_turn_of(ticket);
        if let Some(w) = self.queue.remove(ticket) {
            self.give_share_back();
            tell(Some((w.request, Outcome::Failed(error))), wakers);
        }
    }

    /// A wait that was withdrawn has left no trace.
    fn settle(&mut self, entry: &Entry, then: Told, wakers: &mut Wakers) {
        self.give_share_back();
        tell(then, wakers);
        entry.settled.notify_all();
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
        let then = match &self.place {
            Place::Waiting { ticket: placed, .. } if *placed == ticket => {
                match self.leave_line(then) {
                    Some(then) => then,
                    // Told when it has left.
                    None => return,
                }
            }
            _ => {
                self.end_turn_of(ticket);
                then
            }
        };
        let then = match std::mem::replace(&mut self.outside, Outside::Free) {
            Outside::Waiting {
                id,
                ticket: waiting,
                wait,
                resource,
                ..
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
        tell(then, wakers);
    }
}

fn tell(then: Told, wakers: &mut Wakers) {
    wakers.extend(then.and_then(|(request, outcome)| request.complete(outcome)));
}
