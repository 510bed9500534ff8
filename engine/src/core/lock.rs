//! The state machine of one lock, or of one semaphore, in one host.
//!
//! The lock's resource is Free, Held or in an operation; one operation is under
//! way at a time, since a resource does not conflict with itself and one unlock
//! releases all that it holds. That of a semaphore holds permits: those that the
//! holders have, and for a moment spare ones, which are handed over or given back.
//! Requests, releases, conversions, withdrawals and
//! losses may come at any time, also during an operation: they change the queue
//! at once, and [`Core::advance`] decides what follows when the operation ends.

use super::queue::{Amount, HoldId, Queue, RequestId, Waiting};
use crate::{
    Error, ErrorKind, Mode, Permits,
    backend::{Answer, Caps, Op, OpId, Reply, Tenure},
};
use std::{ops::Range, time::Instant};

/// Reads the clock, if the decision needs it.
pub(crate) type Clock<'a> = &'a dyn Fn() -> Instant;

/// How a request, or a call on a hold, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It holds the lock.
    Granted(HoldId),
    /// It holds the lock, which another request of this host had before it.
    HandedOver(HoldId),
    /// The lock is held or waited for.
    Busy,
    /// The lock has no name any more, or its resource was given up: the request
    /// goes to where its name leads now.
    Moved,
    /// It failed.
    Failed(Error),
    /// The hold was converted.
    Converted,
    /// The hold could not be converted at once and is as it was.
    Refused,
    /// The token of the hold.
    Token(u64),
}

/// What a call achieved at once.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It has ended.
    Ended(Outcome),
    /// It holds the lock, whose name was not looked at.
    Unchecked(HoldId),
    /// The caller starts this operation and passes on its end.
    Start(OpId, Op),
    /// An operation is under way: the call is to queue.
    Later,
}

/// What [`Core::collect`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collected {
    /// The grant is final.
    Held,
    /// It was revoked, and the request has rejoined the queue.
    Rejoined,
    /// Hold and request are gone.
    Gone,
}

/// An operation to start.
#[derive(Debug)]
pub(crate) struct Start<R> {
    pub(crate) id: OpId,
    pub(crate) op: Op,
    /// The request that it serves, whose thread may run it.
    pub(crate) request: Option<R>,
}

/// Something that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// Grants were not collected in time and go to the next.
    Revoked(usize),
    /// The resource could not be unlocked and was given up.
    CannotUnlock(Error),
    /// A conversion for the next requests failed.
    CannotConvert(Error),
    /// The place in line could not be given back.
    CannotLeave(Error),
    /// An operation that was cancelled has not ended in time: its resource was
    /// given up.
    Abandoned,
    /// The back end has lost the lock.
    Lost(u64),
}

/// What is to be done once the state's mutex is free.
#[derive(Debug)]
#[must_use]
pub(crate) struct Actions<R> {
    pub(crate) complete: Vec<(R, Outcome)>,
    pub(crate) start: Option<Start<R>>,
    /// End this operation; the flag says whether to keep the place in line.
    pub(crate) cancel: Option<(OpId, bool)>,
    /// Look for hosts in line that do not move, in this operation.
    pub(crate) nudge: Option<OpId>,
    /// Call [`Core::sweep`] after [`SWEEP`](crate::backend::SWEEP).
    pub(crate) arm_sweep: bool,
    pub(crate) records: Vec<Record>,
}

impl<R> Default for Actions<R> {
    fn default() -> Self {
        Actions {
            complete: Vec::new(),
            start: None,
            cancel: None,
            nudge: None,
            arm_sweep: false,
            records: Vec::new(),
        }
    }
}

impl<R> Actions<R> {
    pub(crate) fn is_empty(&self) -> bool {
        self.complete.is_empty()
            && self.start.is_none()
            && self.cancel.is_none()
            && self.nudge.is_none()
            && !self.arm_sweep
            && self.records.is_empty()
    }
}

/// For whom an operation was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By<O> {
    /// A try of an owner, who is answered by [`Core::done`].
    Try(O),
    Request(RequestId),
    /// A call on a hold.
    Hold(HoldId),
    /// The core itself.
    Core,
}

/// The operation that is under way.
#[derive(Debug, Clone)]
struct InFlight<O, R> {
    id: OpId,
    op: Op,
    by: By<O>,
    /// Who is told of the end of a call on a hold; otherwise it is answered by
    /// [`Core::done`].
    tell: Option<R>,
    /// If so, whether it keeps its place in line.
    cancelled: Option<bool>,
    /// What it was to act on was lost meanwhile.
    stale: bool,
    /// It passes the hosts in line since its owner holds the lock already.
    again: bool,
}

/// How long this host may go on with the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Term {
    /// For one tenure, which begins with the first hand-over.
    Unbegun,
    Running(Tenure),
    Over,
}

/// The state of one lock in one host. `O` names an owner, `R` is what the caller
/// wants back when a request has ended.
#[derive(Debug, Clone)]
pub(crate) struct Core<O, R> {
    queue: Queue<O, R>,
    caps: Caps,
    /// How the resource holds the lock.
    held: Option<Mode>,
    /// What the resource holds of a semaphore.
    permits: Permits,
    /// Tokens for holds of permits.
    tokens: Range<u64>,
    /// Of the last native acquisition.
    epoch: u64,
    /// This epoch and all before are lost.
    lost: u64,
    op: Option<InFlight<O, R>>,
    next_op: u64,
    term: Term,
    /// The resource may have a place in line.
    place: bool,
    /// Requests that have left, until no trace of them is left outside.
    leaving: Vec<(R, Outcome)>,
    /// No new request may come here.
    retired: bool,
    sweep_armed: bool,
}

impl<O: Copy + PartialEq, R: Clone> Core<O, R> {
    /// Of a lock, or of a semaphore with so many permits.
    pub(crate) fn new(caps: Caps, permits: u8) -> Self {
        Core {
            queue: Queue::new(permits),
            caps,
            held: None,
            permits: Permits::NONE,
            tokens: 0..0,
            epoch: 0,
            lost: 0,
            op: None,
            next_op: 0,
            term: Term::Over,
            place: false,
            leaving: Vec::new(),
            retired: false,
            sweep_armed: false,
        }
    }

    /// Whether this host has a place in line.
    #[cfg(test)]
    pub(crate) fn has_place(&self) -> bool {
        self.place
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }

    /// Whether nothing is held, outside neither, and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.op.is_none() && !self.has_any()
    }

    /// Whether the resource holds anything.
    fn has_any(&self) -> bool {
        self.held.is_some() || !self.permits.is_empty()
    }

    /// Permits that the resource holds for nobody.
    fn spare(&self) -> Permits {
        match self.permits.is_empty() {
            true => Permits::NONE,
            false => self.permits.without(self.queue.used()),
        }
    }

    /// Whether an operation is under way.
    pub(crate) fn is_in_flight(&self, id: OpId) -> bool {
        self.op.as_ref().is_some_and(|op| op.id == id)
    }

    /// Whether an operation is to end and, if so, whether it keeps its place.
    pub(crate) fn is_cancelled(&self, id: OpId) -> Option<bool> {
        self.op.as_ref().filter(|op| op.id == id)?.cancelled
    }

    pub(crate) fn holds(&self, hold: HoldId) -> bool {
        self.queue.holds(hold)
    }

    /// How a hold holds the lock, if there is such a hold.
    pub(crate) fn mode_of(&self, hold: HoldId) -> Option<Mode> {
        self.queue.held().filter(|_| self.queue.holds(hold))
    }

    /// The permits of a hold, if there is such a hold.
    pub(crate) fn permits_of(&self, hold: HoldId) -> Option<Permits> {
        self.queue.permits_of(hold)
    }

    /// What an owner holds and what it asks for, in this order.
    pub(crate) fn of_owner(&self, owner: O) -> (Vec<Amount>, Vec<Amount>) {
        self.queue.of_owner(owner)
    }

    /// The owners that a request waits for, see [`Queue::blockers`].
    pub(crate) fn blockers(
        &self,
        id: Option<RequestId>,
        mode: Mode,
        searched: [RequestId; 2],
    ) -> Option<Vec<O>> {
        self.queue.blockers(id, mode, searched)
    }

    fn converts(&self) -> bool {
        matches!(&self.op, Some(op) if matches!(op.op, Op::Convert { .. }))
    }

    /// Takes the lock if it is free.
    pub(crate) fn attempt(&mut self, owner: O, amount: Amount, now: Clock<'_>) -> Attempt {
        if self.retired {
            return Attempt::Ended(Outcome::Moved);
        }
        if !self.queue.admits(owner, amount) {
            return Attempt::Ended(Outcome::Busy);
        }
        if self.op.is_some() || !self.caps.immediate {
            // It holds the lock shared already, and must not wait for others.
            return if self.queue.is_again(owner, amount) && !self.converts() {
                Attempt::Unchecked(self.queue.hold(owner, amount, Permits::NONE))
            } else {
                Attempt::Later
            };
        }
        let again = self.held.is_some() && self.queue.is_held_by(owner);
        let ahead = again || self.goes_ahead(now);
        let op = self.acquisition(amount, false, ahead);
        let id = self.begin(op, By::Try(owner), None);
        self.mark_again(again);
        Attempt::Start(id, op)
    }

    /// The operation that a request needs.
    fn acquisition(&self, amount: Amount, wait: bool, ahead: bool) -> Op {
        match (amount, self.held) {
            (Amount::Permits(count), _) => Op::Take { count, wait, ahead },
            (Amount::Lock(_), Some(_)) => Op::Join { wait, ahead },
            (Amount::Lock(amount), None) => Op::Lock {
                amount,
                wait,
                ahead,
            },
        }
    }

    /// Queues a request, which [`advance`](Self::advance) has to follow. One that
    /// does not wait is answered if it would overtake another.
    pub(crate) fn enqueue(&mut self, waiting: Waiting<O, R>) -> Result<RequestId, Outcome> {
        if self.retired {
            return Err(Outcome::Moved);
        }
        if !waiting.wait && (!self.queue.fits(waiting.amount) || self.queue.is_waited_for()) {
            return Err(Outcome::Busy);
        }
        Ok(self.queue.enqueue(waiting))
    }

    /// Ends a hold; `false` if there is none such.
    pub(crate) fn release(&mut self, hold: HoldId, now: Clock<'_>, out: &mut Actions<R>) -> bool {
        let held = self.queue.release(hold);
        if held {
            self.released(now, out);
        }
        held
    }

    /// Converts a hold, at once or not at all.
    pub(crate) fn convert(
        &mut self,
        hold: HoldId,
        to: Mode,
        tell: Option<R>,
        now: Clock<'_>,
        out: &mut Actions<R>,
    ) -> Attempt {
        if !self.queue.holds(hold) {
            return Attempt::Ended(Outcome::Failed(ErrorKind::Lost.into()));
        }
        if self.queue.held() == Some(to) {
            return Attempt::Ended(Outcome::Converted);
        }
        let native = match to {
            Mode::Shared => self.caps.downgrade,
            // Another is about to join, if an operation is under way.
            Mode::Exclusive if !self.queue.holds_alone(hold) || self.op.is_some() => {
                return Attempt::Ended(Outcome::Refused);
            }
            Mode::Exclusive => self.held == Some(Mode::Shared),
        };
        if !native {
            // The resource holds it exclusively all the time.
            self.queue.convert(hold, to);
            self.advance(now, out);
            return Attempt::Ended(Outcome::Converted);
        }
        if to == Mode::Exclusive && !self.caps.upgrade {
            let why = "locks of this family are not upgraded; release and acquire";
            let error = Error::new(ErrorKind::Unsupported, why);
            return Attempt::Ended(Outcome::Failed(error));
        }
        if self.op.is_some() {
            return Attempt::Ended(Outcome::Refused);
        }
        self.spend(now);
        let op = Op::Convert { to };
        Attempt::Start(self.begin(op, By::Hold(hold), tell), op)
    }

    /// The token of an exclusive hold, or of permits.
    pub(crate) fn token(&mut self, hold: HoldId, tell: Option<R>) -> Attempt {
        let fail = |kind, why| Attempt::Ended(Outcome::Failed(Error::new(kind, why)));
        if !self.queue.holds(hold) {
            return Attempt::Ended(Outcome::Failed(ErrorKind::Lost.into()));
        }
        if let Some(token) = self.queue.token(hold) {
            return Attempt::Ended(Outcome::Token(token));
        }
        if !self.caps.tokens {
            return fail(ErrorKind::Unsupported, "these locks have no tokens");
        }
        if self
            .permits_of(hold)
            .is_some_and(|permits| !permits.is_empty())
        {
            let Some(token) = self.tokens.next() else {
                let why = "all tokens of this acquisition are given";
                return fail(ErrorKind::Unavailable, why);
            };
            self.queue.set_token(hold, token);
            return Attempt::Ended(Outcome::Token(token));
        }
        if self.queue.held() != Some(Mode::Exclusive) {
            return fail(ErrorKind::Unsupported, "only exclusive locks have tokens");
        }
        if self.op.is_some() {
            return fail(ErrorKind::Unavailable, "the lock is being converted");
        }
        Attempt::Start(self.begin(Op::Token, By::Hold(hold), tell), Op::Token)
    }

    /// A task collects its grant; the request is `id`.
    pub(crate) fn collect(
        &mut self,
        hold: HoldId,
        id: RequestId,
        now: Clock<'_>,
        out: &mut Actions<R>,
    ) -> Collected {
        if self.queue.collect(hold) {
            return Collected::Held;
        }
        if self.queue.rejoin(id) {
            self.advance(now, out);
            return Collected::Rejoined;
        }
        // It has rejoined before, when its owner looked at it twice.
        if self.queue.is_waiting(id) {
            return Collected::Rejoined;
        }
        Collected::Gone
    }

    /// Takes a request out of the queue. If it is still there, it ends with
    /// `outcome` as soon as no trace of it is left outside.
    pub(crate) fn withdraw(
        &mut self,
        id: RequestId,
        outcome: Option<Outcome>,
        now: Clock<'_>,
        out: &mut Actions<R>,
    ) {
        if self.remove(id, outcome, out) {
            self.advance(now, out);
        }
    }

    /// Takes a request out of the queue whose owner does not want it any more, or
    /// releases what it was granted and its owner has not taken.
    pub(crate) fn abandon(&mut self, id: RequestId, now: Clock<'_>, out: &mut Actions<R>) {
        match self.queue.hold_of(id) {
            Some(hold) => {
                self.release(hold, now, out);
            }
            None => self.withdraw(id, None, now, out),
        }
    }

    /// Calls on holds that have ended are told why.
    fn tell_calls(&mut self, why: ErrorKind, out: &mut Actions<R>) {
        if let Some(op) = &mut self.op
            && let By::Hold(hold) = op.by
            && !self.queue.holds(hold)
            && let Some(tell) = op.tell.take()
        {
            out.complete.push((tell, Outcome::Failed(why.into())));
        }
    }

    /// No sweep will come, since the timer could not be set.
    pub(crate) fn disarm_sweep(&mut self) {
        self.sweep_armed = false;
    }

    /// Ends every hold and every request of an owner (S4).
    pub(crate) fn evict(&mut self, owner: O, now: Clock<'_>, out: &mut Actions<R>) {
        for id in self.queue.evict(owner) {
            let closed = Outcome::Failed(ErrorKind::Closed.into());
            self.remove(id, Some(closed), out);
        }
        if let Some(op) = &mut self.op
            && op.by == By::Try(owner)
        {
            op.by = By::Core;
        }
        self.tell_calls(ErrorKind::Closed, out);
        self.released(now, out);
        self.advance(now, out);
    }

    /// Sends every request to where its name leads now; no new one may come.
    pub(crate) fn retire(&mut self, now: Clock<'_>, out: &mut Actions<R>) {
        self.retired = true;
        self.advance(now, out);
    }

    /// The back end has lost what it granted with `epoch`: every hold of it ends.
    pub(crate) fn lost(&mut self, epoch: u64, now: Clock<'_>, out: &mut Actions<R>) {
        self.lost = self.lost.max(epoch);
        if !self.has_any() || self.epoch > epoch {
            return;
        }
        out.records.push(Record::Lost(epoch));
        self.held = None;
        self.permits = Permits::NONE;
        self.term = Term::Over;
        self.queue.revoke_all();
        if let Some(op) = &mut self.op {
            op.stale = true;
        }
        self.tell_calls(ErrorKind::Lost, out);
        self.advance(now, out);
    }

    /// A bound has passed: an operation that was cancelled is given up if it is
    /// still under way.
    pub(crate) fn overdue(&mut self, id: OpId, now: Clock<'_>, out: &mut Actions<R>) {
        let Some(op) = &self.op else { return };
        if op.id != id || op.cancelled.is_none() {
            return;
        }
        out.records.push(Record::Abandoned);
        if matches!(op.op, Op::Join { .. }) {
            // It changes nothing that the resource holds, which can be unlocked.
            self.op = None;
        }
        self.retire(now, out);
        out.complete.append(&mut self.leaving);
    }

    /// Revokes grants that no task has collected since the last sweep, and has
    /// the back end look for hosts in line that do not move.
    pub(crate) fn sweep(&mut self, now: Clock<'_>, out: &mut Actions<R>) {
        self.sweep_armed = false;
        let revoked = self.queue.revoke_stale();
        if revoked > 0 {
            out.records.push(Record::Revoked(revoked));
            self.released(now, out);
            self.advance(now, out);
        }
        if let Some(op) = &self.op
            && self.caps.order
            && op.op.waits()
            && op.cancelled.is_none()
        {
            out.nudge = Some(op.id);
            self.arm(out);
        }
        if self.queue.is_provisional() {
            self.arm(out);
        }
    }

    /// An operation has ended. The answer is for the caller who started it, if
    /// it was started for a call and not for a request.
    pub(crate) fn done(
        &mut self,
        id: OpId,
        result: Result<Reply, Error>,
        now: Clock<'_>,
        out: &mut Actions<R>,
    ) -> Option<Outcome> {
        let op = match self.op.take() {
            Some(op) if op.id == id => op,
            // Abandoned, and without effect.
            other => {
                self.op = other;
                return None;
            }
        };
        let outcome = match op.op {
            Op::Lock { ahead, .. } | Op::Take { ahead, .. } => {
                self.acquired(&op, ahead, result, now, out)
            }
            Op::Join { ahead, .. } => self.joined(&op, ahead, result, now, out),
            Op::Convert { to } => self.converted(&op, to, result, out),
            Op::Unlock => {
                self.held = None;
                self.released_outside(result, out);
                None
            }
            Op::Give { permits } => {
                self.permits = self.permits.without(permits);
                self.released_outside(result, out);
                None
            }
            Op::Leave => {
                self.place = false;
                out.records.extend(result.err().map(Record::CannotLeave));
                None
            }
            Op::Token => Some(match result {
                Ok(Reply {
                    token: Some(token), ..
                }) if !op.stale => {
                    if let By::Hold(hold) = op.by {
                        self.queue.set_token(hold, token);
                    }
                    Outcome::Token(token)
                }
                Ok(_) => Outcome::Failed(ErrorKind::Lost.into()),
                Err(error) => Outcome::Failed(error),
            }),
        };
        self.advance(now, out);
        self.settle(out);
        match (op.tell, outcome) {
            (Some(tell), Some(outcome)) => {
                out.complete.push((tell, outcome));
                None
            }
            (_, outcome) => outcome,
        }
    }

    /// Decides what follows: grants what fits, starts the next operation, or
    /// unlocks.
    pub(crate) fn advance(&mut self, now: Clock<'_>, out: &mut Actions<R>) {
        if self.retired {
            for id in self.queue.requests() {
                self.remove(id, Some(Outcome::Moved), out);
            }
        }
        while self.op.is_none() {
            if self.held.is_some() && !self.queue.is_held() {
                return self.start(Op::Unlock, By::Core, out);
            }
            let spare = self.spare();
            if !spare.is_empty() {
                if self.serves_front(spare) && self.hands_over(now) {
                    self.give(Outcome::HandedOver, out);
                    continue;
                }
                return self.start(Op::Give { permits: spare }, By::Core, out);
            }
            let Some((id, front)) = self.queue.front() else {
                if self.place {
                    self.start(Op::Leave, By::Core, out);
                }
                return;
            };
            let (amount, wait, owner) = (front.amount, front.wait, front.owner);
            if !self.queue.fits(amount) {
                if wait {
                    // Others in line need not wait for what only this host can give.
                    if self.place {
                        self.start(Op::Leave, By::Core, out);
                    }
                    return;
                }
                self.complete(id, Outcome::Busy, out);
                continue;
            }
            // A try first, unless it is known to fail or costs a round trip.
            let wait = wait && (self.place || !self.caps.immediate);
            let again = self.held.is_some() && self.queue.is_held_by(owner);
            let ahead = again || self.goes_ahead(now);
            let op = self.acquisition(amount, wait, ahead);
            self.start(op, By::Request(id), out);
            self.mark_again(again);
        }
    }

    /// Whether spare permits are enough for the front request.
    fn serves_front(&self, spare: Permits) -> bool {
        let front = self.queue.front();
        let enough = |count| count <= spare.len();
        front.is_some_and(|(_, w)| matches!(w.amount, Amount::Permits(count) if enough(count)))
    }

    /// The end of [`Op::Lock`] and [`Op::Take`].
    fn acquired(
        &mut self,
        op: &InFlight<O, R>,
        ahead: bool,
        result: Result<Reply, Error>,
        now: Clock<'_>,
        out: &mut Actions<R>,
    ) -> Option<Outcome> {
        self.place |= op.cancelled == Some(true);
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => return self.failed(op, error, out),
        };
        let lost = reply.epoch != 0 && reply.epoch <= self.lost;
        match reply.answer {
            Answer::Granted if !lost => {
                self.place &= !op.op.waits();
                self.permits = self.permits.with(reply.permits);
                match (op.op, reply.token) {
                    (Op::Lock { amount, .. }, _) => self.held = Some(amount),
                    (_, Some(token)) => self.tokens = token..token.saturating_add(Op::TOKENS),
                    _ => {}
                }
                self.epoch = reply.epoch;
                match reply.tenure {
                    Some(tenure) => self.term = Term::Running(tenure),
                    None if ahead && self.caps.order => {}
                    None => self.term = Term::Unbegun,
                }
                match op.by {
                    By::Try(_) if self.retired => Some(Outcome::Moved),
                    By::Try(owner) => {
                        let amount = match op.op {
                            Op::Lock { amount, .. } => amount.into(),
                            _ => Amount::Permits(reply.permits.len()),
                        };
                        let hold = self.queue.hold(owner, amount, reply.permits);
                        Some(Outcome::Granted(hold))
                    }
                    _ => {
                        self.give(Outcome::Granted, out);
                        None
                    }
                }
            }
            Answer::Gone => {
                self.retire(now, out);
                matches!(op.by, By::Try(_)).then_some(Outcome::Moved)
            }
            _ => {
                if ahead {
                    self.term = Term::Over;
                }
                self.busy(op, out)
            }
        }
    }

    /// An operation that was not granted.
    fn busy(&mut self, op: &InFlight<O, R>, out: &mut Actions<R>) -> Option<Outcome> {
        match op.by {
            By::Try(_) => Some(Outcome::Busy),
            By::Request(id) if op.cancelled.is_none() => {
                match self.queue.waiting(id).map(|waiting| waiting.wait) {
                    Some(false) => self.complete(id, Outcome::Busy, out),
                    Some(true) if self.queue.front().is_some_and(|(front, _)| front == id) => {
                        self.wait_outside(op.op, id, out);
                    }
                    _ => {}
                }
                None
            }
            _ => None,
        }
    }

    /// Has the front request wait outside, after a try.
    fn wait_outside(&mut self, tried: Op, id: RequestId, out: &mut Actions<R>) {
        let (wait, ahead) = (true, false);
        let op = match tried {
            Op::Lock { amount, .. } if self.held.is_none() => Op::Lock {
                amount,
                wait,
                ahead,
            },
            Op::Join { .. } if self.held.is_some() && self.queue.is_held() => {
                Op::Join { wait, ahead }
            }
            Op::Take { count, .. } if self.spare().is_empty() => Op::Take { count, wait, ahead },
            // The lock was lost, permits were released, or all holders have gone: `advance` decides.
            _ => return,
        };
        self.start(op, By::Request(id), out);
    }

    fn failed(
        &mut self,
        op: &InFlight<O, R>,
        error: Error,
        out: &mut Actions<R>,
    ) -> Option<Outcome> {
        match op.by {
            By::Try(_) => Some(Outcome::Failed(error)),
            By::Request(id) => {
                self.complete(id, Outcome::Failed(error), out);
                None
            }
            By::Hold(_) | By::Core => None,
        }
    }

    /// The end of [`Op::Join`].
    fn joined(
        &mut self,
        op: &InFlight<O, R>,
        ahead: bool,
        result: Result<Reply, Error>,
        now: Clock<'_>,
        out: &mut Actions<R>,
    ) -> Option<Outcome> {
        self.place |= op.cancelled == Some(true);
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => return self.failed(op, error, out),
        };
        match reply.answer {
            Answer::Granted if !op.stale => {
                self.place &= !op.op.waits();
                match op.by {
                    By::Try(_) if self.retired => Some(Outcome::Moved),
                    // Once all holders have gone, the lock is to be unlocked; an owner
                    // that holds no more has no right to pass.
                    By::Try(owner) if self.queue.is_held() && self.may_pass(op, owner) => {
                        let (shared, none) = (Mode::Shared.into(), Permits::NONE);
                        Some(Outcome::Granted(self.queue.hold(owner, shared, none)))
                    }
                    By::Try(_) => Some(Outcome::Busy),
                    // Passing the hosts in line was for this request alone.
                    By::Request(id) if ahead => {
                        if let Some((front, waiting)) = self.queue.front()
                            && front == id
                            && self.may_pass(op, waiting.owner)
                            && self.queue.is_held()
                            && !self.retired
                        {
                            self.grant_front(Outcome::Granted, out);
                        }
                        None
                    }
                    _ if ahead => None,
                    _ => {
                        self.give(Outcome::Granted, out);
                        None
                    }
                }
            }
            Answer::Gone => {
                self.retire(now, out);
                matches!(op.by, By::Try(_)).then_some(Outcome::Moved)
            }
            _ => self.busy(op, out),
        }
    }

    /// Whether a join that passes the hosts in line may still do so.
    fn may_pass(&self, op: &InFlight<O, R>, owner: O) -> bool {
        !op.again || self.queue.is_held_by(owner)
    }

    /// The end of [`Op::Convert`].
    fn converted(
        &mut self,
        op: &InFlight<O, R>,
        to: Mode,
        result: Result<Reply, Error>,
        out: &mut Actions<R>,
    ) -> Option<Outcome> {
        let granted = !op.stale && matches!(&result, Ok(r) if r.answer == Answer::Granted);
        if granted {
            self.held = Some(to);
        }
        if let By::Hold(hold) = op.by {
            return Some(match result {
                Err(error) => Outcome::Failed(error),
                Ok(_) if !self.queue.holds(hold) => Outcome::Failed(ErrorKind::Lost.into()),
                Ok(_) if granted => {
                    self.queue.convert(hold, to);
                    Outcome::Converted
                }
                Ok(_) => Outcome::Refused,
            });
        }
        // For the next requests; if it failed, `advance` unlocks.
        match result {
            Ok(_) if granted => self.give(Outcome::HandedOver, out),
            Ok(_) => {}
            Err(error) => out.records.push(Record::CannotConvert(error)),
        }
        None
    }

    /// The end of [`Op::Unlock`] and [`Op::Give`].
    fn released_outside(&mut self, result: Result<Reply, Error>, out: &mut Actions<R>) {
        if let Err(error) = result {
            // Closing the resource is all that is left to do.
            out.records.push(Record::CannotUnlock(error));
            self.retired = true;
            for id in self.queue.requests() {
                self.complete(id, Outcome::Moved, out);
            }
        }
    }

    /// Grants what the resource holds to the requests that it serves, if any, and
    /// tells them `outcome`. The caller goes on with [`advance`](Self::advance), which unlocks what
    /// no request has taken.
    fn give(&mut self, outcome: fn(HoldId) -> Outcome, out: &mut Actions<R>) {
        let Some((_, front)) = self.queue.front() else {
            return;
        };
        if self.retired {
            return;
        }
        match (self.held, front.amount) {
            (None, Amount::Permits(_)) => self.grant(outcome, out),
            (None, Amount::Lock(_)) | (Some(_), Amount::Permits(_)) => {}
            (Some(_), _) if self.queue.is_held() => self.grant(outcome, out),
            (Some(held), Amount::Lock(mode)) if held == mode => self.grant(outcome, out),
            (Some(Mode::Exclusive), _) if self.caps.downgrade => {
                self.start(Op::Convert { to: Mode::Shared }, By::Core, out);
            }
            // In place it would end as if it had been unlocked, or other hosts
            // may hold it shared.
            (Some(_), Amount::Lock(_)) => {}
        }
    }

    /// Grants whatever stands at the front and fits.
    fn grant(&mut self, outcome: fn(HoldId) -> Outcome, out: &mut Actions<R>) {
        while self.grant_front(outcome, out) {}
    }

    /// Grants the front request, if it fits.
    fn grant_front(&mut self, outcome: fn(HoldId) -> Outcome, out: &mut Actions<R>) -> bool {
        let Some((hold, granted)) = self.queue.grant_front(self.spare()) else {
            return false;
        };
        if granted.provisional {
            self.arm(out);
        }
        out.complete.push((granted.request, outcome(hold)));
        true
    }

    /// Holds have ended, perhaps the last.
    fn released(&mut self, now: Clock<'_>, out: &mut Actions<R>) {
        if !self.spare().is_empty() {
            match &mut self.op {
                None => self.advance(now, out),
                // What is spare may serve the request, or other hosts.
                Some(op) if op.op.waits() && op.cancelled.is_none() => {
                    op.cancelled = Some(true);
                    out.cancel = Some((op.id, true));
                }
                Some(_) => {}
            }
            return;
        }
        let (Some(held), false) = (self.held, self.queue.is_held()) else {
            return;
        };
        match &mut self.op {
            None => {
                // A shared lock may be held by other hosts, and a shared request
                // that did not join it has other hosts before it.
                let next = self.queue.front().is_some();
                if next && !self.retired && held == Mode::Exclusive && self.hands_over(now) {
                    self.give(Outcome::HandedOver, out);
                }
                self.advance(now, out);
            }
            // Others are in line before the request that would join; they wait
            // for this host to unlock.
            Some(op) if matches!(op.op, Op::Join { .. }) && op.cancelled.is_none() => {
                op.cancelled = Some(true);
                out.cancel = Some((op.id, true));
            }
            Some(_) => {}
        }
    }

    /// Whether this host's tenure lets it pass the hosts in line; spends a turn.
    /// Where hosts have no order there is nothing to pass, and no clock is read.
    fn goes_ahead(&mut self, now: Clock<'_>) -> bool {
        !self.caps.order || self.spend(now)
    }

    /// Whether this host may hand the lock over; spends a turn.
    fn hands_over(&mut self, now: Clock<'_>) -> bool {
        if self.term == Term::Unbegun {
            self.term = Term::Running(Tenure::begin(now()));
        }
        self.spend(now)
    }

    /// Spends one turn of the tenure, which is never renewed; `false` if it is
    /// over.
    fn spend(&mut self, now: Clock<'_>) -> bool {
        if let Term::Running(tenure) = &mut self.term {
            if tenure.turns > 0 && now() <= tenure.until {
                tenure.turns -= 1;
                return true;
            }
            self.term = Term::Over;
        }
        false
    }

    fn mark_again(&mut self, again: bool) {
        if let Some(op) = &mut self.op {
            op.again = again;
        }
    }

    fn begin(&mut self, op: Op, by: By<O>, tell: Option<R>) -> OpId {
        debug_assert!(self.op.is_none());
        self.next_op += 1;
        let id = OpId(self.next_op);
        self.op = Some(InFlight {
            id,
            op,
            by,
            tell,
            cancelled: None,
            stale: false,
            again: false,
        });
        id
    }

    fn start(&mut self, op: Op, by: By<O>, out: &mut Actions<R>) {
        let id = self.begin(op, by, None);
        let request = match by {
            By::Request(_) => self.queue.front().map(|(_, front)| front.request.clone()),
            _ => None,
        };
        if op.waits() && self.caps.order {
            self.arm(out);
        }
        out.start = Some(Start { id, op, request });
    }

    /// Takes a request out of the queue and its operation out of the back end;
    /// `false` if it is not in the queue.
    fn remove(&mut self, id: RequestId, outcome: Option<Outcome>, out: &mut Actions<R>) -> bool {
        let Some(withdrawn) = self.queue.remove(id) else {
            return false;
        };
        let told = outcome.map(|outcome| (withdrawn.request, outcome));
        // The place in line is this host's: the next request takes it over.
        let next = self.queue.front();
        let keeps =
            next.is_some_and(|(_, next)| next.amount.shares_place(withdrawn.amount) && next.wait);
        match &mut self.op {
            Some(op) if op.by == By::Request(id) => {
                self.leaving.extend(told);
                if op.cancelled.is_none() {
                    op.cancelled = Some(keeps && !self.retired);
                    out.cancel = Some((op.id, keeps && !self.retired));
                }
            }
            _ => out.complete.extend(told),
        }
        true
    }

    /// Takes a request out of the queue, to which nothing outside belongs.
    fn complete(&mut self, id: RequestId, outcome: Outcome, out: &mut Actions<R>) {
        if let Some(waiting) = self.queue.remove(id) {
            out.complete.push((waiting.request, outcome));
        }
    }

    /// Tells those that have left, unless the lock they gave up is still to be
    /// unlocked.
    fn settle(&mut self, out: &mut Actions<R>) {
        let unlocks = matches!(&self.op, Some(op) if matches!(op.op, Op::Unlock | Op::Give { .. }));
        let cancelled = matches!(&self.op, Some(op) if op.cancelled.is_some());
        if !unlocks && !cancelled {
            out.complete.append(&mut self.leaving);
        }
    }

    fn arm(&mut self, out: &mut Actions<R>) {
        if !self.sweep_armed {
            self.sweep_armed = true;
            out.arm_sweep = true;
        }
    }
}

/// What the exploration needs to tell states apart.
#[cfg(all(test, not(shuttle), not(windows)))]
impl<O: Copy + PartialEq + std::fmt::Debug, R: Clone + std::fmt::Debug> Core<O, R> {
    pub(in crate::core) fn is_seen(&self, hold: HoldId) -> bool {
        self.queue.is_seen(hold)
    }

    pub(in crate::core) fn has_token(&self, hold: HoldId) -> bool {
        self.queue.token(hold).is_some()
    }

    /// The state beside the queue, without its numbering.
    pub(in crate::core) fn snapshot(
        &self,
        rank: impl Fn(RequestId) -> usize,
        place: impl Fn(R) -> Option<usize>,
        tenure_over: bool,
    ) -> String {
        let op = self.op.as_ref().map(|op| {
            let by = match op.by {
                By::Request(id) => Some(rank(id)),
                _ => None,
            };
            (op.op, by, op.cancelled, (op.stale, op.again))
        });
        let turns = match self.term {
            Term::Unbegun => None,
            Term::Running(tenure) if !tenure_over => Some(tenure.turns),
            Term::Running(_) | Term::Over => Some(0),
        };
        let leaving = self.leaving.iter();
        let leaving: Vec<_> = leaving.map(|(request, _)| place(request.clone())).collect();
        let flags = (self.place, self.retired, self.sweep_armed);
        let has = (self.held, self.permits);
        format!("{op:?}{turns:?}{has:?}{flags:?}{leaving:?}")
    }
}
