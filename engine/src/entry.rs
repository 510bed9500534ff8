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
/// it. Taking it anew costs three system calls, about 3 us: one part in
/// twenty or less of 64 turns that cost a microsecond each.
const TENURE_TURNS: u32 = 64;

/// How long it is passed on at most: whoever waits outside waits for one
/// tenure of each host before it, and a host's scheduling noise is as long.
const TENURE: Duration = Duration::from_millis(1);

/// How long a request whose turn it is may fail to take it before the next is
/// let past: a task that is not polled, or a process that is stopped. Between
/// this and twice as long, since it is looked at in rounds. Longer than a busy
/// machine keeps a thread from running, short enough for the others.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// A lock file that is open in this host.
pub(crate) struct Entry {
    pub(crate) identity: Identity,
    pub(crate) family: &'static str,
    manager: Weak<Shared>,
    /// How often a name was found not to lead here any more. Whoever has seen
    /// fewer looks up its own name before it relies on it.
    pub(crate) doubts: AtomicU32,
    /// Whether anybody has found a name to lead here since the lock began to be
    /// passed on.
    pub(crate) named: AtomicBool,
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

/// The place of this host among those that wait.
enum Place {
    None,
    Waiting {
        id: u64,
        ticket: Ticket,
        mode: Mode,
        /// Whose thread may be the one that waits.
        request: Arc<Request>,
        turn: Arc<dyn Turn>,
        /// Who was first when the rounds came by.
        head: Option<u64>,
    },
    /// It is the turn of the request with this ticket.
    First {
        ticket: Ticket,
        mode: Mode,
        turn: Arc<dyn Turn>,
    },
    Cancelling {
        id: u64,
        turn: Arc<dyn Turn>,
        then: Told,
    },
}

/// What [`Entry::try_acquire`] and [`Entry::enqueue`] achieved.
pub(crate) enum Attempt {
    Granted(HoldId),
    /// Somebody else holds the lock or waits for it.
    Busy {
        /// The lock is being passed on, so somebody has looked its name up a
        /// tenure ago at most.
        name_checked: bool,
    },
    /// The request waits.
    Queued(Ticket),
    /// The file has been replaced: open it again.
    Retired,
}

/// A helper thread that passes on the result of its wait. What waits next is
/// given to it: a request that has its turn must not lose its thread, and its
/// owner's share, to another before it waits for the lock.
struct Helper {
    charge: Option<Charge>,
    next: Option<WaitJob>,
}

/// What a [`WaitJob`] waits for.
enum Awaited {
    Lock(Arc<dyn Wait>, Arc<dyn Resource>),
    Turn(Arc<dyn Turn>),
}

/// One wait, for the thread that is to run it: both steps, in order.
pub(crate) struct WaitJob {
    entry: Arc<Entry>,
    id: u64,
    awaited: Awaited,
    /// The share of the owner's helper threads, if it runs on one.
    charge: Option<Charge>,
    result: Option<Result<Waited, Error>>,
}

impl Job for WaitJob {
    fn wait(&mut self) {
        self.result = Some(match &self.awaited {
            Awaited::Lock(wait, _) => wait.run(),
            Awaited::Turn(turn) => turn.run(),
        });
    }

    fn finish(self: Box<Self>) -> Option<Box<dyn Job>> {
        let WaitJob {
            entry,
            id,
            awaited,
            charge,
            result,
        } = *self;
        let result = result?;
        let next = entry.update(|state, wakers| {
            // A share belongs to a helper.
            let helper = charge.map(|charge| Helper {
                charge: Some(charge),
                next: None,
            });
            state.helper = helper;
            match &awaited {
                Awaited::Lock(_, of) => state.wait_ended(&entry, id, result, &**of, wakers),
                Awaited::Turn(of) => state.turn_ended(&entry, id, result, &**of, wakers),
            }
            state.helper.take()?.next
        });
        next.map(|job| Box::new(job) as Box<dyn Job>)
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
            named: AtomicBool::new(false),
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

    /// Looks for those who do not take their turn: grants that nobody polls
    /// for, and a host that has been first for too long.
    fn go_round(self: &Arc<Self>) {
        self.update(|state, wakers| {
            state.rounds = false;
            let more_offers = state.take_back_offers(self, wakers);
            if state.pass_stalled_head(self, wakers) || more_offers {
                state.start_rounds(self);
            }
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
            let name_checked = self.is_named(entry) && self.taken.elapsed() <= TENURE;
            return Ok(Attempt::Busy { name_checked });
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
            Take::Busy => Attempt::Busy {
                name_checked: false,
            },
            Take::Unlinked => {
                self.retire(entry, wakers);
                Attempt::Retired
            }
        })
    }

    /// A kernel wait has ended. Anything that is not ours any more, such as
    /// the grant of a wait that was given up, is unlocked.
    fn wait_ended(
        &mut self,
        entry: &Arc<Entry>,
        ended: u64,
        result: Result<Waited, Error>,
        of: &dyn Resource,
        wakers: &mut Wakers,
    ) {
        match std::mem::replace(&mut self.outside, Outside::Free) {
            Outside::Waiting {
                id,
                ticket,
                resource,
                mode,
                ..
            } if id == ended => self.waited(entry, ticket, result, (resource, mode), wakers),
            Outside::Cancelling { id, resource, then } if id == ended => {
                // A grant may have raced with the cancellation, and the
                // description may live on in a forked child.
                self.unlock(entry, &*resource);
                self.give_share_back();
                wakers.extend(then.and_then(|(request, outcome)| request.complete(outcome)));
                entry.settled.notify_all();
            }
            other => {
                self.outside = other;
                if let Err(error) = of.unlock() {
                    tracing::error!(target: "clasp", lock = ?entry.identity, %error, "cannot unlock");
                }
                return;
            }
        }
        self.advance(entry, wakers);
    }

    /// The wait for a turn has ended. A ticket that is not wanted any more is
    /// given back.
    fn turn_ended(
        &mut self,
        entry: &Arc<Entry>,
        ended: u64,
        result: Result<Waited, Error>,
        of: &dyn Turn,
        wakers: &mut Wakers,
    ) {
        match std::mem::replace(&mut self.place, Place::None) {
            Place::Waiting {
                id,
                ticket,
                mode,
                turn,
                ..
            } if id == ended => {
                // That there is no order to be had is no reason to fail.
                if let Err(error) = result {
                    tracing::warn!(target: "clasp::order", lock = ?entry.identity, %error, "no order between hosts");
                }
                self.place = Place::First { ticket, mode, turn };
            }
            Place::Cancelling { id, turn, then } if id == ended => {
                turn.end();
                self.give_share_back();
                wakers.extend(then.and_then(|(request, outcome)| request.complete(outcome)));
                entry.settled.notify_all();
            }
            other => {
                self.place = other;
                of.end();
                return;
            }
        }
        self.advance(entry, wakers);
    }

    /// Whether a wait of ours is on its way out of the kernel.
    fn is_cancelling(&self) -> bool {
        matches!(self.outside, Outside::Cancelling { .. })
            || matches!(self.place, Place::Cancelling { .. })
    }

    /// The order of hosts, which is that of whoever opened the lock first.
    fn tickets(&self) -> Option<&dyn Tickets> {
        self.resources.last()?.tickets()
    }

    /// Whether another host is in line before us.
    fn others_wait(&self, mode: Mode) -> bool {
        self.tickets()
            .is_some_and(|tickets| tickets.others_wait(mode))
    }

    /// Sends everybody who waits to the file that their name leads to now.
    fn retire(&mut self, entry: &Entry, wakers: &mut Wakers) {
        entry.retired.store(true, Ordering::Release);
        for ticket in self.queue.places() {
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
            self.resources.clear();
        }
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
        if self.passed_on == 1 {
            entry.named.store(false, Ordering::Relaxed);
        }
        match (held, next) {
            (Mode::Exclusive, Mode::Exclusive) => {}
            (Mode::Exclusive, Mode::Shared) => match resource.downgrade() {
                Ok(true) => {
                    if let Outside::Held(_, mode) = &mut self.outside {
                        *mode = Mode::Shared;
                    }
                }
                Ok(false) => return false,
                Err(error) => {
                    tracing::debug!(target: "clasp", lock = ?entry.identity, %error, "cannot downgrade");
                    return false;
                }
            },
            // Never in place: other hosts may hold it shared. And a shared
            // request that did not join a shared lock has others before it.
            (Mode::Shared, _) => return false,
        }
        self.grant(entry, wakers);
        true
    }

    /// Whether somebody has looked the name up since the lock began to be
    /// passed on.
    fn is_named(&self, entry: &Entry) -> bool {
        self.passed_on > 1 && entry.named.load(Ordering::Relaxed)
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

    /// Gives back the share of threads of a wait that has ended for good, before
    /// its owner learns of it and asks for more.
    fn give_share_back(&mut self) {
        if let Some(helper) = &mut self.helper {
            helper.charge = None;
        }
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

    /// Gives back the ticket of whoever is first, if anybody is.
    fn end_turn(&mut self) {
        if let Place::First { turn, .. } = &self.place {
            turn.end();
            self.place = Place::None;
        }
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
            let first = match &mut self.place {
                Place::None => false,
                Place::First { ticket: first, .. } if *first == ticket => true,
                // One before it has come back: the turn is this host's.
                Place::First {
                    ticket: first,
                    mode: turn,
                    ..
                } if *turn == mode => {
                    *first = ticket;
                    true
                }
                Place::First { .. } => {
                    self.end_turn();
                    false
                }
                Place::Waiting { .. } | Place::Cancelling { .. } => return,
            };
            let started = match self.outside {
                Outside::Waiting { .. } | Outside::Cancelling { .. } => return,
                Outside::Held(..) if !self.queue.fits(mode) => return,
                // Just taken, but for a request that is not the first any more.
                Outside::Held(ref resource, held) if !self.queue.is_held() && held != mode => {
                    let resource = Arc::clone(resource);
                    self.unlock(entry, &*resource);
                    continue;
                }
                // Just taken for the front request, or shared.
                Outside::Held(..) => {
                    if first || !self.queue.is_held() || !self.others_wait(mode) {
                        return self.grant(entry, wakers);
                    }
                    self.start_turn(entry, ticket, wakers)
                }
                Outside::Free if !first && self.others_wait(mode) => {
                    self.start_turn(entry, ticket, wakers)
                }
                Outside::Free => match self.take(entry, mode) {
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

    /// Takes back what was offered to tasks that are not polled, since it
    /// keeps others waiting. They keep their places. Whether there are more.
    fn take_back_offers(&mut self, entry: &Arc<Entry>, wakers: &mut Wakers) -> bool {
        let (stale, fresh) = self.queue.stale_offers(|r| r.is_collected());
        let mut taken_back = false;
        for hold in stale {
            if self
                .queue
                .offered_to(hold)
                .is_some_and(|r| r.take_grant_back())
            {
                tracing::debug!(target: "clasp::wait", lock = ?entry.identity, "a grant was not polled for and goes to the next");
                self.queue.take_back(hold);
                taken_back = true;
            }
        }
        if taken_back {
            self.released(entry, wakers);
            self.advance(entry, wakers);
        }
        fresh
    }

    /// Takes the lock without its turn if it is free and the host that is
    /// first has not moved for a round. Whether a turn is still waited for.
    fn pass_stalled_head(&mut self, entry: &Arc<Entry>, wakers: &mut Wakers) -> bool {
        let Place::Waiting { turn, head, .. } = &mut self.place else {
            return false;
        };
        let before = std::mem::replace(head, turn.head());
        let stalled = head.is_some() && *head == before;
        let Some((_, front)) = self.queue.front() else {
            return true;
        };
        let mode = front.mode;
        if !stalled || !matches!(self.outside, Outside::Free) {
            return true;
        }
        match self.take_if_free(entry, mode) {
            Ok(Take::Taken) => {
                tracing::debug!(target: "clasp::order", lock = ?entry.identity, "passed a host that does not move");
                self.leave_line(None);
                self.grant(entry, wakers);
                false
            }
            Ok(Take::Busy) => true,
            Ok(Take::Unlinked) => {
                self.retire(entry, wakers);
                false
            }
            Err(error) => {
                tracing::debug!(target: "clasp::order", lock = ?entry.identity, %error, "cannot pass");
                true
            }
        }
    }

    /// Takes the lock if nobody has it. A first host that waits for readers to
    /// go does not move either, and more readers must not pass it.
    fn take_if_free(&mut self, entry: &Entry, mode: Mode) -> Result<Take, Error> {
        if mode == Mode::Shared && !self.resource(mode)?.is_free()? {
            return Ok(Take::Busy);
        }
        self.take(entry, mode)
    }

    /// Sees that [`Entry::go_round`] comes by.
    fn start_rounds(&mut self, entry: &Arc<Entry>) {
        if self.rounds {
            return;
        }
        let Some(manager) = entry.manager.upgrade() else {
            return;
        };
        let weak = Arc::downgrade(entry);
        let round = move || {
            if let Some(entry) = weak.upgrade() {
                entry.go_round();
            }
        };
        match manager.timer.at(Instant::now() + PATIENCE, Box::new(round)) {
            Ok(_) => self.rounds = true,
            Err(error) => {
                tracing::warn!(target: "clasp::wait", %error, "cannot start the timer");
            }
        }
    }

    fn fail(&mut self, ticket: Ticket, error: Error, wakers: &mut Wakers) {
        if let Place::First { ticket: first, .. } = self.place
            && first == ticket
        {
            self.end_turn();
        }
        if let Some(w) = self.queue.remove(ticket) {
            self.give_share_back();
            wakers.extend(w.request.complete(Outcome::Failed(error)));
        }
    }

    /// Sends the front request into the kernel to wait for the lock.
    fn start_wait(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        wakers: &mut Wakers,
    ) -> Result<(), Error> {
        let Some((_, front)) = self.queue.front() else {
            return Ok(());
        };
        let mode = front.mode;
        let resource = Arc::clone(self.resource(mode)?);
        let wait = resource.begin_wait(mode)?;
        let awaited = Awaited::Lock(Arc::clone(&wait), Arc::clone(&resource));
        let id = self.dispatch(entry, awaited, wakers)?;
        self.outside = Outside::Waiting {
            id,
            ticket,
            wait,
            resource,
            mode,
        };
        Ok(())
    }

    /// Sends the front request to wait for its turn, or straight for the lock
    /// if hosts have no order.
    fn start_turn(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        wakers: &mut Wakers,
    ) -> Result<(), Error> {
        let Some((_, front)) = self.queue.front() else {
            return Ok(());
        };
        let (mode, request) = (front.mode, Arc::clone(&front.request));
        let turn = match self.tickets().map(|tickets| tickets.begin_turn(mode)) {
            Some(Ok(turn)) => turn,
            Some(Err(error)) => {
                // That there is no order to be had is no reason to fail.
                tracing::warn!(target: "clasp::order", lock = ?entry.identity, %error, "no order between hosts");
                return self.start_unordered(entry, ticket, wakers);
            }
            None => return self.start_unordered(entry, ticket, wakers),
        };
        let id = self.dispatch(entry, Awaited::Turn(Arc::clone(&turn)), wakers)?;
        self.place = Place::Waiting {
            id,
            ticket,
            mode,
            request,
            turn,
            head: None,
        };
        self.start_rounds(entry);
        Ok(())
    }

    /// Goes on without an order: joins, or waits for the lock.
    fn start_unordered(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        wakers: &mut Wakers,
    ) -> Result<(), Error> {
        if let Outside::Held(..) = self.outside {
            self.grant(entry, wakers);
            return Ok(());
        }
        self.start_wait(entry, ticket, wakers)
    }

    /// Has the front request's wait run on its owner's thread or on a helper;
    /// answers its number.
    fn dispatch(
        &mut self,
        entry: &Arc<Entry>,
        awaited: Awaited,
        wakers: &mut Wakers,
    ) -> Result<u64, Error> {
        self.waits += 1;
        let id = self.waits;
        let Some((_, front)) = self.queue.front() else {
            return Ok(id);
        };
        let mut job = WaitJob {
            entry: Arc::clone(entry),
            id,
            awaited,
            charge: None,
            result: None,
        };
        if front.request.runs_own_wait {
            wakers.extend(front.request.offer(job));
        } else {
            let quota = &front.owner.waiter_threads;
            let helper = self.helper.as_mut().filter(|h| h.next.is_none());
            if let Some(helper) = helper {
                let own = helper.charge.take().filter(|charge| charge.is_of(quota));
                job.charge = Some(own.map_or_else(|| quota.take(), Ok)?);
                helper.next = Some(job);
            } else {
                job.charge = Some(quota.take()?);
                let manager = entry.manager.upgrade().ok_or(ErrorKind::Lost)?;
                manager.threads.spawn(Box::new(job))?;
            }
        }
        Ok(id)
    }

    /// The wait of the front request has ended and was not cancelled.
    fn waited(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        result: Result<Waited, Error>,
        (resource, mode): (Arc<dyn Resource>, Mode),
        wakers: &mut Wakers,
    ) {
        let kept = match result {
            Ok(Waited::Granted) => self.keep_if_linked(entry, resource, mode),
            // Nobody cancelled it: `advance` tries again.
            Ok(Waited::Cancelled) => Ok(Take::Busy),
            Err(error) => {
                // Half of it may be held, where a lock has two halves.
                self.unlock(entry, &*resource);
                Err(error)
            }
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
        let then = match &self.place {
            Place::Waiting { ticket: placed, .. } if *placed == ticket => {
                match self.leave_line(then) {
                    Some(then) => then,
                    // Told when it has left.
                    None => return,
                }
            }
            Place::First { ticket: first, .. } if *first == ticket => {
                self.end_turn();
                then
            }
            _ => then,
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
        wakers.extend(then.and_then(|(request, outcome)| request.complete(outcome)));
    }

    /// Gives up the place that is waited for among the hosts. `None` if `then`
    /// is told later, when no trace of it is left.
    fn leave_line(&mut self, then: Told) -> Option<Told> {
        let Place::Waiting {
            id, turn, request, ..
        } = std::mem::replace(&mut self.place, Place::None)
        else {
            return Some(then);
        };
        if request.take_back() {
            turn.end();
            return Some(then);
        }
        if turn.cancel() == Cancel::Abandoned {
            // Its thread gives the ticket back when its turn has come.
            return Some(then);
        }
        self.place = Place::Cancelling { id, turn, then };
        None
    }
}
