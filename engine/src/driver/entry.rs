//! One lock of a host: a mutex around its core, and the execution of what the
//! core decides.
//!
//! Mutexes are taken in this order: the wait graph of the host, the state of an
//! entry, the slot of a request; the map of the host, the timer and the pool are
//! leaves. Wakers are woken, subscribers called and entries dropped while none of
//! them is held, and so are operations started, except those of immediate resources
//! that end at once and write nothing.

use super::{
    request::{self, Request},
    services::Services,
    timer,
};
use crate::{
    Error, ErrorKind, Mode, Permits,
    backend::{
        Answer, Blocking, Cancel, Identity, Op, OpId, Opened, Pending, Reply, Resource, SWEEP,
        Sink, Started, Tenure,
    },
    core::{
        self, Actions, Amount, Clock, Collected, Core, HoldId, Outcome, RequestId, Start, Waiting,
    },
    diagnose,
    policy::{Account, Grant, OwnerId, Permit},
    pool::Runs,
    sync::{Mutex, MutexGuard},
};
use slab::Slab;
use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
    time::{Duration, Instant, SystemTime},
};

/// How long an operation may take to end once it was cancelled, before it is
/// given up with its resource. On a local file system it takes microseconds, on
/// macOS 10 ms; on FUSE it may never end.
const CONFIRM: Duration = Duration::from_millis(100);

/// A lock that is open in this host.
pub(crate) struct Entry {
    pub(crate) identity: Identity,
    pub(crate) family: &'static str,
    /// Whether a grant has chosen the family, rather than the calls of an owner.
    pub(super) family_of_grant: AtomicBool,
    /// Operations that do not wait end at once, on the calling thread.
    pub(crate) immediate: bool,
    /// How many permits the semaphore has; zero for a lock.
    pub(crate) permits: u8,
    /// How often a name was found not to lead here any more. A lock that has
    /// seen fewer looks up its own name before it relies on it.
    pub(crate) name_generation: AtomicU32,
    services: Weak<Services>,
    this: Weak<Entry>,
    /// The same, for back ends.
    sink: Weak<dyn Sink>,
    /// As in the core; read without the mutex when a lock is opened.
    retired: AtomicBool,
    state: Mutex<State>,
    _permit: Permit,
}

struct State {
    core: Core<OwnerId, Arc<Request>>,
    /// The newest first; more than one only if an early one was opened for
    /// shared requests only. None once the entry is retired and idle.
    resources: Vec<Arc<dyn Resource>>,
    /// The place in `resources` of the one that holds the lock, or is to.
    current: usize,
    running: Option<Running>,
    /// Those that wait for the end of a hold, by hold.
    watchers: HashMap<HoldId, Slab<Waker>>,
}

/// A pending operation.
struct Running {
    id: OpId,
    operation: Arc<dyn Pending>,
    /// Whose thread is to carry it out.
    request: Option<Arc<Request>>,
    /// Set once it was cancelled.
    bound: Option<timer::Key>,
    /// The entry lives for as long as the operation.
    _entry: Arc<Entry>,
}

/// What [`Entry::try_acquire`] achieved.
pub(crate) enum Attempt {
    /// The lock is held; the flag says whether its name was looked at.
    Granted(HoldId, bool),
    /// The lock is held or waited for.
    Busy,
    /// An operation is under way, or takes its time: the request is to queue.
    Later,
    /// The lock was replaced: open it again.
    Moved,
}

/// What [`Entry::enqueue`] achieved.
pub(crate) enum Queued {
    /// The request waits; [`Entry::advance`] has to follow.
    At(RequestId),
    /// The request does not wait, and would have to.
    Busy,
    /// The lock was replaced: open it again.
    Moved,
}

/// What is to be done when no mutex is held, and the resource for the operation that is
/// to be started.
type Todo = (
    Actions<Arc<Request>>,
    Option<(Start<Arc<Request>>, Result<Arc<dyn Resource>, Error>)>,
);

impl Entry {
    /// Of a lock, or of a semaphore with so many permits.
    pub(super) fn new(
        services: &Arc<Services>,
        opened: Opened,
        permits: u8,
        permit: Permit,
    ) -> Arc<Entry> {
        let caps = opened.resource.caps();
        Arc::new_cyclic(|this: &Weak<Entry>| Entry {
            identity: opened.identity,
            family: opened.family,
            family_of_grant: AtomicBool::new(false),
            immediate: caps.immediate,
            permits,
            name_generation: AtomicU32::new(0),
            services: Arc::downgrade(services),
            this: this.clone(),
            sink: this.clone(),
            retired: AtomicBool::new(false),
            state: Mutex::new(State {
                core: Core::new(caps, permits),
                resources: vec![opened.resource],
                current: 0,
                running: None,
                watchers: HashMap::new(),
            }),
            _permit: permit,
        })
    }

    /// The lock is used through this grant.
    pub(super) fn chosen_by(&self, grant: &Grant) {
        if !grant.family_of_call {
            self.family_of_grant.store(true, Ordering::Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Passes an event to the core, then does what it decides.
    fn update<T>(
        self: &Arc<Self>,
        event: impl FnOnce(&mut Core<OwnerId, Arc<Request>>, Clock<'_>, &mut Actions<Arc<Request>>) -> T,
    ) -> T {
        self.apply::<false, T>(event)
    }

    /// Passes an event to the core that ends holds, does what it decides, and wakes
    /// those that wait for such an end.
    fn end<T>(
        self: &Arc<Self>,
        event: impl FnOnce(&mut Core<OwnerId, Arc<Request>>, Clock<'_>, &mut Actions<Arc<Request>>) -> T,
    ) -> T {
        self.apply::<true, T>(event)
    }

    #[inline]
    fn apply<const ENDS: bool, T>(
        self: &Arc<Self>,
        event: impl FnOnce(&mut Core<OwnerId, Arc<Request>>, Clock<'_>, &mut Actions<Arc<Request>>) -> T,
    ) -> T {
        let mut out = Actions::default();
        let mut state = self.state();
        let answer = event(&mut state.core, &Instant::now, &mut out);
        if !ENDS || state.watchers.is_empty() {
            self.settle(state, out);
            return answer;
        }
        let ended = state.take_ended_watchers();
        self.settle(state, out);
        let watchers = ended.into_iter().flatten().map(|(_, waker)| waker);
        request::wake(watchers.collect());
        answer
    }

    /// Carries out what the core has decided, and leaves the state.
    fn settle(self: &Arc<Self>, state: MutexGuard<'_, State>, out: Actions<Arc<Request>>) {
        if let Some(todo) = self.leave(state, out) {
            self.perform(todo);
        }
    }

    /// Carries out what ends at once, and leaves the state; answers the rest.
    ///
    /// Operations of immediate resources cannot hang unless they write, and the mutex
    /// is that of this lock alone; all others start when it is free.
    fn leave(
        &self,
        mut state: MutexGuard<'_, State>,
        mut out: Actions<Arc<Request>>,
    ) -> Option<Todo> {
        while let Some(Start { id, op, .. }) = out.start
            && self.ends_at_once(op)
        {
            out.start = None;
            let result = state.carry_out(id, op, &self.sink);
            state.core.done(id, result, &Instant::now, &mut out);
        }
        let retired = state.core.is_retired();
        if out.is_empty() && !retired {
            return None;
        }
        let start = out.start.take().map(|start| {
            let resource = state.resource(start.op, &self.sink).map(Arc::clone);
            (start, resource)
        });
        if retired {
            self.retire(state);
        }
        Some((out, start))
    }

    /// Whether an operation ends on the calling thread, under the mutex.
    pub(crate) fn ends_at_once(&self, op: Op) -> bool {
        self.immediate && !op.waits() && !op.writes()
    }

    #[cold]
    fn retire(&self, mut state: MutexGuard<'_, State>) {
        self.retired.store(true, Ordering::Release);
        // There are systems on which a file that was removed keeps its name until
        // the last open file is closed.
        let closed = match state.core.is_idle() {
            true => std::mem::take(&mut state.resources),
            false => Vec::new(),
        };
        drop(state);
        drop(closed);
    }

    /// Does what the core has decided, with no mutex held.
    fn perform(self: &Arc<Self>, (mut out, mut start): Todo) {
        loop {
            let wakers = out.complete.into_iter();
            let wakers = wakers.filter_map(|(request, outcome)| request.complete(outcome));
            request::wake(wakers.collect());
            if out.arm_sweep {
                self.arm_sweep();
            }
            if !out.records.is_empty() {
                diagnose::tell(&self.identity, out.records);
            }
            if let Some(id) = out.nudge {
                self.nudge(id);
            }
            if let Some((id, keep_place)) = out.cancel {
                self.cancel(id, keep_place);
            }
            let Some((Start { id, op, request }, resource)) = start else {
                return;
            };
            let result = match resource {
                Ok(resource) => self.start(id, op, request, &resource),
                Err(error) => Some(Err(error)),
            };
            let Some(result) = result else { return };
            out = Actions::default();
            let mut state = self.state();
            state.core.done(id, result, &Instant::now, &mut out);
            match self.leave(state, out) {
                Some(rest) => (out, start) = rest,
                None => return,
            }
        }
    }

    /// Starts an operation; answers its end if it has ended.
    fn start(
        self: &Arc<Self>,
        id: OpId,
        op: Op,
        request: Option<Arc<Request>>,
        resource: &Arc<dyn Resource>,
    ) -> Option<Result<Reply, Error>> {
        match resource.start(id, op, &self.sink) {
            Started::Done(result) => Some(result),
            Started::Pending(operation) => {
                self.register(id, operation, None);
                None
            }
            Started::Blocking(operation) => self.dispatch(id, op, operation, request),
        }
    }

    /// Gives an operation that needs a thread to its owner's, or to a helper.
    fn dispatch(
        self: &Arc<Self>,
        id: OpId,
        op: Op,
        operation: Arc<dyn Blocking>,
        request: Option<Arc<Request>>,
    ) -> Option<Result<Reply, Error>> {
        let helpers = match self.helpers(operation.helpers(), request.as_deref()) {
            Ok(helpers) => helpers,
            Err(error) => return Some(Err(error)),
        };
        let mut job = OperationJob {
            entry: Arc::clone(self),
            id,
            operation: Some(Arc::clone(&operation)),
            permits: None,
            helpers,
        };
        // An operation that may hang, or that cannot be ended, must not take its
        // owner's thread along: the owner is told of its timeout in any case.
        if let Some(request) = &request
            && request.on_thread
            && self.immediate
            && operation.comes_back()
        {
            self.register(id, operation, Some(Arc::clone(request)));
            request::wake(request.offer(Box::new(job)).into_iter().collect());
            return None;
        }
        match self.permits(op, request.as_deref()) {
            Ok((services, permits)) => {
                job.permits = permits;
                self.register(id, operation, None);
                if let Err((error, job)) = services.pool.spawn(Box::new(job)) {
                    if op.waits() {
                        job.disarm();
                        self.state().running.take_if(|running| running.id == id);
                        return Some(Err(error));
                    }
                    job.run();
                }
                None
            }
            Err(error) => {
                job.operation = None;
                Some(Err(error))
            }
        }
    }

    /// What an operation needs to run on a helper thread: a share of its owner's
    /// threads and of the host's, if it waits. Others are short, and must not
    /// fail, such as to unlock.
    fn permits(
        &self,
        op: Op,
        request: Option<&Request>,
    ) -> Result<(Arc<Services>, Option<[Permit; 2]>), Error> {
        let services = self.services.upgrade().ok_or(ErrorKind::Closed)?;
        let permits = match request {
            Some(request) if op.waits() => Some([
                request.account.waiter_threads.take()?,
                services.waiter_threads.take()?,
            ]),
            _ => None,
        };
        Ok((services, permits))
    }

    /// The same for the threads that an operation needs beside the one that runs it.
    fn helpers(&self, count: usize, request: Option<&Request>) -> Result<Vec<Permit>, Error> {
        let mut helpers = Vec::new();
        if let Some(request) = request.filter(|_| count > 0) {
            let services = self.services.upgrade().ok_or(ErrorKind::Closed)?;
            for _ in 0..count {
                helpers.push(request.account.waiter_threads.take()?);
                helpers.push(services.waiter_threads.take()?);
            }
        }
        Ok(helpers)
    }

    /// Notes a pending operation, unless it has ended, and ends it if it was
    /// cancelled meanwhile.
    fn register(
        self: &Arc<Self>,
        id: OpId,
        operation: Arc<dyn Pending>,
        request: Option<Arc<Request>>,
    ) {
        let mut state = self.state();
        if !state.core.is_in_flight(id) {
            return;
        }
        let cancelled = state.core.is_cancelled(id);
        state.running = Some(Running {
            id,
            operation,
            request,
            bound: None,
            _entry: Arc::clone(self),
        });
        drop(state);
        if let Some(keep_place) = cancelled {
            self.cancel(id, keep_place);
        }
    }

    /// Ends a pending operation.
    fn cancel(self: &Arc<Self>, id: OpId, keep_place: bool) {
        let Some((operation, request)) = self.running(id) else {
            // It has not been registered yet, or has ended.
            return;
        };
        let job = request.and_then(|request| request.take_job());
        if job.is_some() {
            // Its owner's thread has not begun: dropping the job ends it.
            return drop(job);
        }
        if operation.cancel(keep_place) == Cancel::Impossible {
            return self.update(|core, now, out| core.overdue(id, now, out));
        }
        let Some(services) = self.services.upgrade() else {
            return;
        };
        let weak = Arc::downgrade(self);
        let overdue = Box::new(move || {
            if let Some(entry) = weak.upgrade() {
                entry.update(|core, now, out| core.overdue(id, now, out));
            }
        });
        match services.timer.at(Instant::now() + CONFIRM, overdue) {
            Ok(key) => {
                let mut state = self.state();
                let running = state.running.as_mut().filter(|running| running.id == id);
                let late = match running {
                    Some(running) => running.bound.replace(key),
                    None => Some(key),
                };
                drop(state);
                if let Some(key) = late {
                    services.timer.cancel(key);
                }
            }
            Err(error) => {
                tracing::warn!(target: "clasp::wait", %error, "cannot start the timer");
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "used twice")]
    fn running(&self, id: OpId) -> Option<(Arc<dyn Pending>, Option<Arc<Request>>)> {
        let state = self.state();
        let running = state.running.as_ref().filter(|running| running.id == id)?;
        Some((Arc::clone(&running.operation), running.request.clone()))
    }

    fn nudge(&self, id: OpId) {
        if let Some((operation, _)) = self.running(id) {
            operation.sweep();
        }
    }

    /// A pending operation has ended.
    fn finished(self: &Arc<Self>, id: OpId, result: Result<Reply, Error>) {
        let ended = {
            let mut state = self.state();
            state.running.take_if(|running| running.id == id)
        };
        if let Some(key) = ended.as_ref().and_then(|running| running.bound)
            && let Some(services) = self.services.upgrade()
        {
            services.timer.cancel(key);
        }
        drop(ended);
        self.update(|core, now, out| core.done(id, result, now, out));
    }

    /// Sees that the core looks for those that do not take their turn.
    fn arm_sweep(self: &Arc<Self>) {
        let Some(services) = self.services.upgrade() else {
            return;
        };
        let weak = Arc::downgrade(self);
        let sweep = Box::new(move || {
            if let Some(entry) = weak.upgrade() {
                entry.update(|core, now, out| core.sweep(now, out));
            }
        });
        if let Err(error) = services.timer.at(Instant::now() + SWEEP, sweep) {
            self.state().core.disarm_sweep();
            tracing::warn!(target: "clasp::wait", %error, "cannot start the timer");
        }
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// The resource that holds the lock, or is to; none once it was given up.
    fn current(&self) -> Option<Arc<dyn Resource>> {
        let state = self.state();
        state.resources.get(state.current).map(Arc::clone)
    }

    /// Whether the lock still has a name, whichever. One that was given up counts
    /// as if it had.
    pub(crate) fn is_linked(&self) -> Result<bool, Error> {
        let resource = self.current();
        resource.map_or(Ok(true), |resource| resource.is_linked())
    }

    /// Notes that the lock is used now.
    pub(crate) fn touch(&self) -> Result<(), Error> {
        self.current().ok_or(ErrorKind::Replaced)?.touch()
    }

    /// When the lock was last touched.
    pub(crate) fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.current().ok_or(ErrorKind::Replaced)?.last_touched()
    }

    /// A descriptor of what holds the lock.
    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> Result<std::os::fd::OwnedFd, Error> {
        self.current().ok_or(ErrorKind::Replaced)?.descriptor()
    }

    /// Whether the lock is known to have no name any more.
    pub(crate) fn is_unlinked(&self) -> bool {
        matches!(self.is_linked(), Ok(false))
    }

    /// Retires the entry if its lock has no name any more, so that requests which
    /// wait for it go where their names lead.
    pub(crate) fn retire_if_unlinked(self: &Arc<Self>) {
        if self.is_unlinked() {
            self.update(|core, now, out| core.retire(now, out));
        }
    }

    /// Adds a resource if it can do what the others cannot.
    pub(super) fn add_resource(&self, resource: Arc<dyn Resource>) {
        let mut state = self.state();
        let can = |mode| state.resources.iter().any(|r| r.permits(mode));
        if [Mode::Shared, Mode::Exclusive]
            .into_iter()
            .any(|mode| resource.permits(mode) && !can(mode))
        {
            state.resources.insert(0, resource);
            state.current += 1;
        }
    }

    /// Takes the lock if no other request holds it or waits for it.
    pub(crate) fn try_acquire(
        self: &Arc<Self>,
        account: &Account,
        amount: Amount,
    ) -> Result<Attempt, Error> {
        let mut state = self.state();
        // Read under the mutex: `close` sets it before it evicts.
        account.check_open()?;
        let attempt = state.core.attempt(account.id, amount, &Instant::now);
        let outcome = match attempt {
            core::Attempt::Start(id, op) => self.carry_out(state, id, op),
            core::Attempt::Ended(outcome) => outcome,
            core::Attempt::Unchecked(hold) => return Ok(Attempt::Granted(hold, false)),
            core::Attempt::Later => return Ok(Attempt::Later),
        };
        match outcome {
            Outcome::Granted(hold) => Ok(Attempt::Granted(hold, true)),
            Outcome::Moved => Ok(Attempt::Moved),
            Outcome::Failed(error) => Err(error),
            _ => Ok(Attempt::Busy),
        }
    }

    /// Carries out an operation for a call; answers what came of it.
    fn carry_out(self: &Arc<Self>, mut state: MutexGuard<'_, State>, id: OpId, op: Op) -> Outcome {
        let result = state.carry_out(id, op, &self.sink);
        let mut out = Actions::default();
        let outcome = state.core.done(id, result, &Instant::now, &mut out);
        self.settle(state, out);
        outcome.unwrap_or_else(|| Outcome::Failed(Account::closed()))
    }

    /// Queues a request.
    pub(crate) fn enqueue(
        &self,
        request: &Arc<Request>,
        amount: Amount,
        wait: bool,
    ) -> Result<Queued, Error> {
        let mut state = self.state();
        // Read under the mutex: `close` sets it before it evicts.
        request.account.check_open()?;
        request.open();
        let waiting = Waiting {
            owner: request.account.id,
            amount,
            wait,
            provisional: !request.on_thread,
            request: Arc::clone(request),
        };
        Ok(match state.core.enqueue(waiting) {
            Ok(id) => Queued::At(id),
            Err(Outcome::Busy) => Queued::Busy,
            Err(_) => Queued::Moved,
        })
    }

    /// Grants what may be granted, and starts what is to be waited for.
    pub(crate) fn advance(self: &Arc<Self>) {
        self.update(|core, now, out| core.advance(now, out));
    }

    /// Releases a hold; `false` if it was taken away before.
    pub(crate) fn release(self: &Arc<Self>, hold: HoldId) -> bool {
        self.end(|core, now, out| core.release(hold, now, out))
    }

    pub(crate) fn holds(&self, hold: HoldId) -> bool {
        self.state().core.holds(hold)
    }

    /// Whether a hold has ended; if not, `waker` is woken when it may have. `key`
    /// names the registration.
    pub(crate) fn watch(&self, hold: HoldId, key: &mut Option<usize>, waker: &Waker) -> bool {
        // Wakers are foreign code: cloned and dropped while the mutex is free.
        let waker = waker.clone();
        let mut state = self.state();
        if !state.core.holds(hold) {
            return true;
        }
        let watchers = state.watchers.entry(hold).or_default();
        let replaced = match key.and_then(|key| watchers.get_mut(key)) {
            Some(registered) => Some(std::mem::replace(registered, waker)),
            None => {
                *key = Some(watchers.insert(waker));
                None
            }
        };
        drop(state);
        drop(replaced);
        false
    }

    /// Ends a registration of [`watch`](Self::watch).
    pub(crate) fn unwatch(&self, hold: HoldId, key: usize) {
        let mut state = self.state();
        let Some(watchers) = state.watchers.get_mut(&hold) else {
            return;
        };
        let watcher = watchers.try_remove(key);
        if watchers.is_empty() {
            state.watchers.remove(&hold);
        }
        drop(state);
        drop(watcher);
    }

    /// How a hold holds the lock, if there is such a hold.
    pub(crate) fn mode_of(&self, hold: HoldId) -> Option<Mode> {
        self.state().core.mode_of(hold)
    }

    /// The permits of a hold, if there is such a hold.
    pub(crate) fn permits_of(&self, hold: HoldId) -> Option<Permits> {
        self.state().core.permits_of(hold)
    }

    /// What an owner holds and what it asks for, in this order.
    pub(crate) fn of_owner(&self, owner: OwnerId) -> (Vec<Amount>, Vec<Amount>) {
        self.state().core.of_owner(owner)
    }

    /// A task collects its grant.
    pub(crate) fn collect(self: &Arc<Self>, hold: HoldId, id: RequestId) -> Collected {
        self.update(|core, now, out| core.collect(hold, id, now, out))
    }

    /// Takes a request out of the queue; if it is still there, it ends with
    /// `outcome` as soon as no trace of it is left outside.
    pub(crate) fn withdraw(self: &Arc<Self>, id: RequestId, outcome: Outcome) {
        self.update(|core, now, out| core.withdraw(id, Some(outcome), now, out));
    }

    /// Takes a request out of the queue for its owner, who does not want the lock
    /// any more; releases the lock if it was granted meanwhile.
    pub(crate) fn abandon(self: &Arc<Self>, id: RequestId) {
        self.update(|core, now, out| core.abandon(id, now, out));
    }

    /// Ends every hold and every request of an owner (S4).
    pub(crate) fn evict(self: &Arc<Self>, owner: OwnerId) {
        self.end(|core, now, out| core.evict(owner, now, out));
    }

    /// The owners that a request waits for.
    pub(crate) fn blockers(
        &self,
        id: Option<RequestId>,
        mode: Mode,
        searched: [RequestId; 2],
    ) -> Option<Vec<OwnerId>> {
        self.state().core.blockers(id, mode, searched)
    }

    /// Calls on a hold: converts it, or asks for its token. `request` is told if
    /// it cannot be answered at once.
    pub(crate) fn convert(
        self: &Arc<Self>,
        hold: HoldId,
        to: Mode,
        request: Option<&Arc<Request>>,
    ) -> Option<Outcome> {
        let tell = request.cloned();
        self.call(|core, now, out| core.convert(hold, to, tell, now, out))
    }

    /// See [`convert`](Self::convert).
    pub(crate) fn token(
        self: &Arc<Self>,
        hold: HoldId,
        request: Option<&Arc<Request>>,
    ) -> Option<Outcome> {
        let tell = request.cloned();
        self.call(|core, _, _| core.token(hold, tell))
    }

    fn call(
        self: &Arc<Self>,
        event: impl FnOnce(
            &mut Core<OwnerId, Arc<Request>>,
            Clock<'_>,
            &mut Actions<Arc<Request>>,
        ) -> core::Attempt,
    ) -> Option<Outcome> {
        let mut out = Actions::default();
        let mut state = self.state();
        match event(&mut state.core, &Instant::now, &mut out) {
            core::Attempt::Ended(outcome) => {
                self.settle(state, out);
                Some(outcome)
            }
            core::Attempt::Start(id, op) if self.ends_at_once(op) => {
                Some(self.carry_out(state, id, op))
            }
            core::Attempt::Start(id, op) => {
                let request = None;
                out.start = Some(Start { id, op, request });
                self.settle(state, out);
                None
            }
            core::Attempt::Unchecked(_) | core::Attempt::Later => None,
        }
    }
}

impl State {
    /// Those that wait for the end of a hold that has ended.
    fn take_ended_watchers(&mut self) -> Vec<Slab<Waker>> {
        let core = &self.core;
        let ended = self.watchers.extract_if(|hold, _| !core.holds(*hold));
        ended.map(|(_, watchers)| watchers).collect()
    }

    /// The resource for an operation.
    fn resource(&mut self, op: Op, sink: &Weak<dyn Sink>) -> Result<&Arc<dyn Resource>, Error> {
        if let Op::Lock { amount, .. } = op
            && self.resources.len() > 1
        {
            self.choose_resource(amount, sink);
        }
        let current = self.resources.get(self.current).ok_or(ErrorKind::Access)?;
        match op {
            Op::Lock { amount, .. } if !current.permits(amount) => Err(ErrorKind::Access.into()),
            Op::Convert {
                to: Mode::Exclusive,
            } if !current.permits(Mode::Exclusive) => {
                let why = "the lock is held through a file that was opened for reading only; \
                           release the lock and acquire it";
                Err(Error::new(ErrorKind::Unsupported, why))
            }
            _ => Ok(current),
        }
    }

    /// Makes the best resource for a lock the current one: a shared lock may be
    /// converted later, so one that permits both modes is better.
    #[cold]
    fn choose_resource(&mut self, amount: Mode, sink: &Weak<dyn Sink>) {
        let permits = |mode| move |resource: &Arc<dyn Resource>| resource.permits(mode);
        let both = |r: &Arc<dyn Resource>| permits(Mode::Shared)(r) && permits(Mode::Exclusive)(r);
        let best = self.resources.iter().position(both);
        let best = best.or_else(|| self.resources.iter().position(permits(amount)));
        if let Some(best) = best.filter(|best| *best != self.current) {
            // The place in line, if there is one, is that of the other.
            if let Some(current) = self.resources.get(self.current) {
                current.start(OpId(0), Op::Leave, sink);
            }
            self.current = best;
        }
    }

    /// Carries out an operation that ends at once.
    fn carry_out(&mut self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Result<Reply, Error> {
        let resource = self.resource(op, sink)?;
        match resource.start(id, op, sink) {
            Started::Done(result) => result,
            Started::Pending(_) | Started::Blocking(_) => {
                let why = "the back end says that this operation ends at once, and it has not";
                Err(Error::new(ErrorKind::Io, why))
            }
        }
    }
}

impl Sink for Entry {
    fn done(&self, id: OpId, result: Result<Reply, Error>) {
        if let Some(entry) = self.this.upgrade() {
            entry.finished(id, result);
        }
    }

    fn lost(&self, epoch: u64, why: Error) {
        if let Some(entry) = self.this.upgrade() {
            tracing::debug!(target: "clasp", lock = ?self.identity, error = %why, "the back end reports a loss");
            entry.end(|core, now, out| core.lost(epoch, now, out));
        }
    }
}

/// The reply to a wait on a helper thread.
fn for_task(reply: Reply) -> Reply {
    Reply {
        tenure: reply.tenure.map(Tenure::for_task),
        ..reply
    }
}

/// An operation for the thread that is to run it. Dropping it ends the operation
/// before it has begun.
struct OperationJob {
    entry: Arc<Entry>,
    id: OpId,
    operation: Option<Arc<dyn Blocking>>,
    permits: Option<[Permit; 2]>,
    /// For the threads that it needs besides.
    helpers: Vec<Permit>,
}

impl Runs for OperationJob {
    fn run(mut self: Box<Self>) {
        if let Some(operation) = self.operation.take() {
            // A subscriber of `tracing` may panic in it.
            let run = catch_unwind(AssertUnwindSafe(|| operation.run()));
            let result = run.unwrap_or_else(|_| {
                let why = "the operation has panicked";
                Err(Error::new(ErrorKind::Io, why))
            });
            drop(operation);
            let result = match &self.permits {
                Some(_) => result.map(for_task),
                None => result,
            };
            // Before the request learns of the end, and its owner asks for more.
            self.permits = None;
            self.helpers.clear();
            self.entry.finished(self.id, result);
        }
    }

    fn disarm(mut self: Box<Self>) {
        self.operation = None;
    }
}

impl Drop for OperationJob {
    fn drop(&mut self) {
        if self.operation.take().is_some() {
            self.permits = None;
            self.helpers.clear();
            self.entry.finished(self.id, Ok(Answer::Busy.into()));
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{backend::Caps, policy::Quota};

    /// Notes what it is to do.
    struct Recorder {
        exclusive: bool,
        ops: Mutex<Vec<Op>>,
    }

    impl Recorder {
        fn new(exclusive: bool) -> Arc<Recorder> {
            let ops = Mutex::default();
            Arc::new(Recorder { exclusive, ops })
        }
    }

    impl Resource for Recorder {
        fn permits(&self, mode: Mode) -> bool {
            mode == Mode::Shared || self.exclusive
        }

        fn caps(&self) -> Caps {
            Caps {
                immediate: true,
                order: true,
                downgrade: false,
                upgrade: false,
                tokens: false,
            }
        }

        fn start(&self, _: OpId, op: Op, _: &Weak<dyn Sink>) -> Started {
            self.ops.lock().push(op);
            Started::Done(Ok(Answer::Granted.into()))
        }

        fn is_linked(&self) -> Result<bool, Error> {
            Ok(true)
        }
    }

    /// A place in line belongs to one open file. It is given back when another file
    /// serves the next request, or other hosts would wait for it.
    #[test]
    fn the_place_in_line_is_given_back_when_another_file_takes_over() {
        let services = Arc::new(Services::new(1));
        let quota = Arc::new(Quota::new(1, "files", ErrorKind::Unavailable));
        let (reads, writes) = (Recorder::new(false), Recorder::new(true));
        let opened = Opened {
            identity: Identity::Named { realm: 0, lock: 0 },
            family: "test",
            resource: Arc::clone(&reads) as Arc<dyn Resource>,
        };
        let entry = Entry::new(&services, opened, 0, quota.take().unwrap());
        let lock = |amount| Op::Lock {
            amount,
            wait: true,
            ahead: false,
        };
        let resource = |op| entry.state().resource(op, &entry.sink).map(Arc::clone);
        resource(lock(Mode::Shared)).unwrap();
        assert!(resource(lock(Mode::Exclusive)).is_err());
        entry.add_resource(Arc::clone(&writes) as Arc<dyn Resource>);
        // What the first one holds is not converted by it, but stays with it.
        let convert = |to| Op::Convert { to };
        let error = resource(convert(Mode::Exclusive)).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(!resource(Op::Unlock).unwrap().permits(Mode::Exclusive));
        assert!(reads.ops.lock().is_empty());
        let chosen = resource(lock(Mode::Shared)).unwrap();
        assert!(chosen.permits(Mode::Exclusive));
        assert_eq!(*reads.ops.lock(), [Op::Leave]);
        assert!(writes.ops.lock().is_empty());
    }
}
