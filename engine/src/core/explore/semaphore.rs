//! One semaphore, a few owners of one host, and an environment that may do at any time what
//! a back end and other hosts may do. `Model::check` is the list of the invariants.

use super::{World, explore};
use crate::{
    Error, ErrorKind, Permits,
    backend::{Answer, Caps, Op, OpId, Reply, Tenure},
    core::{
        lock::{Actions, Attempt, Collected, Core, Outcome},
        queue::{Amount, HoldId, RequestId, Waiting},
    },
};
use std::{
    fmt::Write,
    sync::OnceLock,
    time::{Duration, Instant},
};

type Owner = u8;

/// Names a request while it lives; the least that is free is taken.
type Slot = u8;

/// Turns of a tenure in a world, so that they run out.
const TURNS: u32 = 2;

/// How far a world may go.
#[derive(Debug, Clone, Copy)]
struct Limits {
    caps: Caps,
    permits: u8,
    owners: Owner,
    /// Requests and holds that live at the same time.
    alive: usize,
    /// Whether there are tasks and tries, besides threads.
    rich: bool,
    /// How often what ends the ordinary course may happen on one way.
    upsets: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A try of a resource whose operations end at once.
    Attempt(Owner, u8),
    Request(Owner, u8, Kind),
    Release(usize),
    Withdraw(usize),
    /// The owner drops a request, perhaps with a grant that it has not seen.
    Abandon(usize),
    Collect(usize),
    Sweep,
    /// The operation ends with this.
    Finish(Answer),
    /// Other hosts have so many permits.
    Foreign(u8),
    /// A foreign host is in line from now on, or has gone.
    InLine(bool),
    TenureEnds,
    /// What happens once in a while.
    Fail,
    Gone,
    Lose,
    Evict(Owner),
    Overdue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Thread,
    Task,
    Try,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    id: HoldId,
    owner: Owner,
    permits: Permits,
    /// Granted to a task that has not collected it.
    of: Option<(Slot, RequestId)>,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    id: RequestId,
    slot: Slot,
    owner: Owner,
    count: u8,
    /// Withdrawn, and to be told of it.
    leaves: bool,
    /// Its grant was revoked.
    parked: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    id: OpId,
    op: Op,
    /// The owner whose try it is.
    tries: Option<Owner>,
    /// The request that it was started for.
    serves: Option<Slot>,
    cancelled: bool,
}

#[derive(Clone)]
struct Model {
    limits: Limits,
    core: Core<Owner, Slot>,
    holds: Vec<Hold>,
    requests: Vec<Request>,
    /// What the description holds, whatever the core believes.
    native: Permits,
    foreign: Permits,
    epoch: u64,
    /// Another host is in line.
    in_line: bool,
    /// Turns that this host has had since then, or since its own turn in line.
    turns: u32,
    op: Option<InFlight>,
    tenure_over: bool,
    upsets: u8,
    sweep_armed: bool,
}

/// The time at which every world begins.
fn begin() -> Instant {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    *BEGIN.get_or_init(Instant::now)
}

impl Model {
    fn new(limits: Limits) -> Model {
        Model {
            limits,
            core: Core::new(limits.caps, limits.permits),
            holds: Vec::new(),
            requests: Vec::new(),
            native: Permits::NONE,
            foreign: Permits::NONE,
            epoch: 0,
            in_line: false,
            turns: 0,
            op: None,
            tenure_over: false,
            upsets: 0,
            sweep_armed: false,
        }
    }

    fn now(&self) -> Instant {
        begin() + Duration::from_secs(if self.tenure_over { 2 } else { 0 })
    }

    /// Nobody's.
    fn free(&self) -> Permits {
        let all = Permits::first(self.limits.permits);
        all.without(self.native).without(self.foreign)
    }

    fn used(&self) -> Permits {
        let holds = self.holds.iter();
        holds.fold(Permits::NONE, |used, hold| used.with(hold.permits))
    }

    /// In the order of their places.
    fn waiting(&self) -> Vec<&Request> {
        let waits = |request: &&Request| !request.leaves && !request.parked;
        let mut waiting: Vec<_> = self.requests.iter().filter(waits).collect();
        waiting.sort_by_key(|request| request.id);
        waiting
    }

    /// Whether a back end may end the operation so.
    fn may_end(&self, op: &InFlight, answer: Answer) -> bool {
        match (op.op, answer) {
            (Op::Take { count, wait, ahead }, Answer::Granted) => {
                self.free().len() >= count && (wait || ahead || !self.in_line)
            }
            (Op::Take { wait, .. }, Answer::Busy) => !wait || op.cancelled,
            (Op::Give { .. } | Op::Leave, answer) => answer == Answer::Granted,
            _ => false,
        }
    }

    fn apply(&mut self, event: Event) -> Result<(), String> {
        let time = self.now();
        let now = move || time;
        let mut out = Actions::default();
        match event {
            Event::Attempt(owner, count) => {
                let waited_for = !self.waiting().is_empty();
                match self.core.attempt(owner, Amount::Permits(count), &now) {
                    Attempt::Start(..) if waited_for => {
                        return Err("an attempt overtakes a request".into());
                    }
                    Attempt::Start(id, op) => self.begin(id, op, Some(owner))?,
                    Attempt::Ended(Outcome::Busy | Outcome::Moved) | Attempt::Later => {}
                    other => return Err(format!("an attempt is answered {other:?}")),
                }
            }
            Event::Request(owner, count, kind) => {
                // Those of whose end their owner will hear count as well.
                let used = |slot: &Slot| {
                    let mut requests = self.requests.iter();
                    let mut holds = self.holds.iter();
                    requests.any(|r| r.slot == *slot)
                        || holds.any(|h| h.of.is_some_and(|(s, _)| s == *slot))
                };
                let slot = (0..).find(|slot| !used(slot)).ok_or("no slot")?;
                let waiting = Waiting {
                    owner,
                    amount: Amount::Permits(count),
                    wait: kind != Kind::Try,
                    provisional: kind == Kind::Task,
                    request: slot,
                };
                if let Ok(id) = self.core.enqueue(waiting) {
                    self.requests.push(Request {
                        id,
                        slot,
                        owner,
                        count,
                        leaves: false,
                        parked: false,
                        kind,
                    });
                    self.core.advance(&now, &mut out);
                }
            }
            Event::Release(at) => {
                let hold = self.holds.remove(at);
                if !self.core.release(hold.id, &now, &mut out) {
                    return Err("a hold ended by itself".into());
                }
            }
            Event::Withdraw(at) => {
                self.requests[at].leaves = true;
                let timeout = Outcome::Failed(ErrorKind::Timeout.into());
                let id = self.requests[at].id;
                self.core.withdraw(id, Some(timeout), &now, &mut out);
            }
            Event::Abandon(at) => {
                let id = match self.holds.get(at).and_then(|hold| hold.of) {
                    Some((_, id)) => {
                        self.holds.remove(at);
                        id
                    }
                    None => {
                        let request = self.requests.remove(at - self.holds.len());
                        if let Some(op) = &mut self.op
                            && op.serves == Some(request.slot)
                        {
                            op.serves = None;
                        }
                        request.id
                    }
                };
                self.core.abandon(id, &now, &mut out);
            }
            Event::Collect(at) => self.collect(at, &now, &mut out)?,
            Event::Sweep => {
                self.sweep_armed = false;
                self.core.sweep(&now, &mut out);
                for hold in self.holds.clone() {
                    if !self.core.holds(hold.id) {
                        self.revoked(hold)?;
                    }
                }
            }
            Event::Finish(answer) => self.finish(Ok(answer), &mut out)?,
            Event::Foreign(count) => {
                let grows = count > self.foreign.len();
                let all = Permits::first(self.limits.permits).without(self.native);
                self.foreign = all.choose(count).ok_or("too many")?;
                if grows {
                    // It was the turn of the other.
                    self.turns = 0;
                }
            }
            Event::InLine(in_line) => (self.in_line, self.turns) = (in_line, 0),
            Event::TenureEnds => self.tenure_over = true,
            Event::Fail | Event::Gone | Event::Lose | Event::Evict(_) | Event::Overdue => {
                self.upsets += 1;
                self.upset(event, &now, &mut out)?;
            }
        }
        self.perform(out)
    }

    fn upset(
        &mut self,
        event: Event,
        now: &dyn Fn() -> Instant,
        out: &mut Actions<Slot>,
    ) -> Result<(), String> {
        match event {
            Event::Fail => self.finish(Err(()), out)?,
            Event::Gone => self.finish(Ok(Answer::Gone), out)?,
            Event::Lose => {
                self.native = Permits::NONE;
                self.core.lost(self.epoch, now, out);
                if let Some(hold) = self.holds.iter().find(|hold| self.core.holds(hold.id)) {
                    return Err(format!("{hold:?} outlives the loss"));
                }
                self.holds.clear();
            }
            Event::Evict(owner) => {
                self.core.evict(owner, now, out);
                self.holds.retain(|hold| hold.owner != owner);
                for request in &mut self.requests {
                    request.leaves |= request.owner == owner;
                }
                if let Some(op) = &mut self.op {
                    op.tries = op.tries.filter(|of| *of != owner);
                }
            }
            _ => {
                let Some(op) = self.op else { return Ok(()) };
                // It is told without its end.
                self.op = Some(InFlight { serves: None, ..op });
                self.core.overdue(op.id, now, out);
                if !self.core.is_in_flight(op.id) {
                    return Err("an operation is forgotten that may be granted".into());
                }
            }
        }
        Ok(())
    }

    fn collect(
        &mut self,
        at: usize,
        now: &dyn Fn() -> Instant,
        out: &mut Actions<Slot>,
    ) -> Result<(), String> {
        let holds = self.holds.len();
        let (hold, id, expected) = match self.holds.get_mut(at) {
            Some(hold) => {
                let Some((_, id)) = hold.of.take() else {
                    return Ok(());
                };
                (hold.id, id, Collected::Held)
            }
            None => {
                let request = &mut self.requests[at - holds];
                request.parked = false;
                // Its grant has ended, so any hold of it is stale.
                (HoldId::stale(), request.id, Collected::Rejoined)
            }
        };
        let collected = self.core.collect(hold, id, now, out);
        match collected == expected {
            true => Ok(()),
            false => Err(format!("what should be {expected:?} is {collected:?}")),
        }
    }

    /// A provisional grant was revoked: its request is parked.
    fn revoked(&mut self, hold: Hold) -> Result<(), String> {
        let Some((slot, id)) = hold.of else {
            return Err("a hold was revoked that is not provisional".into());
        };
        self.holds.retain(|other| other.id != hold.id);
        self.requests.push(Request {
            id,
            slot,
            owner: hold.owner,
            count: hold.permits.len(),
            leaves: false,
            parked: true,
            kind: Kind::Task,
        });
        Ok(())
    }

    fn hold(
        &mut self,
        id: HoldId,
        owner: Owner,
        count: u8,
        of: Option<(Slot, RequestId)>,
    ) -> Result<(), String> {
        let permits = self.core.permits_of(id).unwrap_or_default();
        if permits.len() != count {
            return Err(format!("{permits:?} instead of {count} permits"));
        }
        self.holds.push(Hold {
            id,
            owner,
            permits,
            of,
        });
        Ok(())
    }

    fn begin(&mut self, id: OpId, op: Op, tries: Option<Owner>) -> Result<(), String> {
        if let Some(other) = self.op {
            return Err(format!("{op:?} is started during {other:?}"));
        }
        if let Op::Give { permits } = op
            && (permits.is_empty() || permits.without(self.native) != Permits::NONE)
        {
            return Err(format!("{op:?} is started with {:?} held", self.native));
        }
        self.op = Some(InFlight {
            id,
            op,
            tries,
            serves: None,
            cancelled: false,
        });
        Ok(())
    }

    /// The back end ends the operation.
    fn finish(
        &mut self,
        answer: Result<Answer, ()>,
        out: &mut Actions<Slot>,
    ) -> Result<(), String> {
        let Some(op) = self.op.take() else {
            return Ok(());
        };
        let mut reply = Reply::from(answer.unwrap_or(Answer::Busy));
        if let (Ok(Answer::Granted), Op::Take { count, ahead, .. }) = (answer, op.op) {
            reply.permits = self.free().choose(count).ok_or("too few are free")?;
            self.native = self.native.with(reply.permits);
            self.epoch += 1;
            reply.epoch = self.epoch;
            if !(ahead && self.limits.caps.order) {
                (self.tenure_over, self.turns) = (false, 0);
                reply.tenure = Some(Tenure {
                    turns: TURNS,
                    until: begin() + Duration::from_secs(1),
                });
            }
        }
        if let Op::Give { permits } = op.op {
            // If it fails, the resource is closed.
            self.native = self.native.without(permits);
        }
        let result = match answer {
            Ok(_) => Ok(reply),
            Err(()) => Err(Error::from(ErrorKind::Io)),
        };
        let time = self.now();
        let outcome = self.core.done(op.id, result, &move || time, out);
        match (op.tries, outcome) {
            (Some(owner), Some(Outcome::Granted(id))) => {
                self.hold(id, owner, reply.permits.len(), None)
            }
            (Some(_), Some(_)) | (None, None) => Ok(()),
            (tries, outcome) => Err(format!("{tries:?} is answered {outcome:?}")),
        }
    }

    fn perform(&mut self, out: Actions<Slot>) -> Result<(), String> {
        for (slot, outcome) in out.complete {
            let at = self.requests.iter().position(|r| r.slot == slot);
            let Some(at) = at else {
                return Err(format!("slot {slot} is told twice: {outcome:?}"));
            };
            let request = self.requests.remove(at);
            if self.op.is_some_and(|op| op.serves == Some(slot)) {
                return Err(format!("{request:?} is told while its operation goes on"));
            }
            match outcome {
                Outcome::Granted(_) | Outcome::HandedOver(_) if request.leaves => {
                    return Err(format!("{request:?} has left and is granted permits"));
                }
                Outcome::Granted(id) | Outcome::HandedOver(id) => {
                    // First come first served, also if a later one would fit.
                    if let Some(before) = self.waiting().first()
                        && before.id < request.id
                    {
                        return Err(format!("{request:?} overtakes {before:?}"));
                    }
                    let of = (request.kind == Kind::Task).then_some((slot, request.id));
                    self.hold(id, request.owner, request.count, of)?;
                }
                Outcome::Busy if request.kind != Kind::Try => {
                    return Err(format!("{request:?} waits and is told `busy`"));
                }
                _ => {}
            }
        }
        if let Some((id, _)) = out.cancel {
            match &mut self.op {
                Some(op) if op.id == id => op.cancelled = true,
                _ => return Err("an operation is cancelled that is not under way".into()),
            }
        }
        self.sweep_armed |= out.arm_sweep;
        if let Some(start) = out.start {
            self.begin(start.id, start.op, None)?;
            if let Some(op) = &mut self.op {
                op.serves = start.request;
            }
        }
        Ok(())
    }

    /// The invariants.
    fn check(&self) -> Result<(), String> {
        // No permit has two holders, and each that a holder has is the description's.
        let counts = self.holds.iter().map(|hold| hold.permits.len());
        let used = self.used();
        if counts.sum::<u8>() != used.len() || !used.without(self.native).is_empty() {
            return Err("a permit has two holders, or is nobody's".into());
        }
        if let Some(hold) = self.holds.iter().find(|hold| !self.core.holds(hold.id)) {
            return Err(format!("{hold:?} is not held"));
        }
        // The core and the back end agree on what is under way.
        let in_flight = self.op.is_some_and(|op| self.core.is_in_flight(op.id));
        if in_flight != self.op.is_some() || in_flight && self.core.is_idle() {
            return Err("the core and the back end do not agree".into());
        }
        // No permit is idle: what no request holds is given back, and the operation that
        // keeps it from that is one that ends.
        let spare = self.native.without(used);
        let ends = |op: InFlight| !op.op.waits() || op.cancelled;
        if !spare.is_empty() && !self.op.is_some_and(ends) {
            return Err(format!("{spare:?} is held for no request"));
        }
        let waiting = self.waiting();
        // No operation waits for a request that is gone.
        if self.op.is_some_and(|op| !ends(op)) && waiting.is_empty() {
            return Err("an operation waits for no request".into());
        }
        if self.op.is_none() && self.requests.iter().any(|request| request.leaves) {
            return Err("a request has left and is not told".into());
        }
        // No request stays where none can be granted any more.
        let is_served = |r: &Request| {
            self.op
                .is_some_and(|op| op.cancelled && op.serves == Some(r.slot))
        };
        if self.core.is_retired() && self.requests.iter().any(|r| !r.leaves && !is_served(r)) {
            return Err("a request waits for a semaphore that was given up".into());
        }
        // Liveness: what this host does not use itself is asked for.
        if let Some(first) = waiting.first()
            && self.op.is_none()
        {
            if first.count <= self.limits.permits - used.len() {
                return Err(format!("{first:?} waits, and no operation is under way"));
            }
            if first.kind == Kind::Try {
                return Err(format!("{first:?} does not wait, and is not answered"));
            }
            if self.core.has_place() {
                return Err("the place in line is kept while only this host can go on".into());
            }
        }
        // A grant that is not collected is looked at again.
        if !self.sweep_armed && self.holds.iter().any(|hold| hold.of.is_some()) {
            return Err("no sweep will look at a provisional grant".into());
        }
        // Bounded overtaking: within one tenure the turns are counted. The first comes with
        // the acquisition.
        if self.turns > TURNS + 1 {
            return Err(format!("{} turns before the host in line", self.turns));
        }
        Ok(())
    }

    fn key_from(&self, name: impl Fn(Owner) -> Owner) -> String {
        let mut numbers: Vec<(u64, Slot)> = self.requests.iter().map(|r| (r.id, r.slot)).collect();
        let uncollected = self.holds.iter().filter_map(|h| h.of);
        numbers.extend(uncollected.map(|(slot, id)| (id, slot)));
        numbers.sort_unstable();
        let rank = |id: u64| numbers.iter().filter(|(n, _)| *n < id).count();
        let place = |slot: Slot| numbers.iter().position(|(_, s)| *s == slot);
        let holds = self.holds.iter().map(|h| {
            let of = h.of.map(|(_, id)| (rank(id), self.core.is_seen(h.id)));
            (name(h.owner), h.permits.iter().collect::<Vec<_>>(), of)
        });
        let mut holds: Vec<_> = holds.collect();
        holds.sort_unstable();
        let requests = self.requests.iter().map(|r| {
            let is = (r.leaves, r.parked, r.kind as u8);
            (rank(r.id), name(r.owner), r.count, is)
        });
        let mut requests: Vec<_> = requests.collect();
        requests.sort_unstable();
        let by = self.op.map(|op| op.tries.map(&name));
        let mut key = String::new();
        let _ = write!(
            key,
            "{holds:?}{requests:?}{by:?}{:?}{}{}",
            (self.native, self.foreign, self.in_line, self.turns),
            self.upsets,
            self.core.snapshot(rank, place, self.tenure_over),
        );
        key
    }
}

impl World for Model {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let trying = self.op.is_some_and(|op| op.tries.is_some());
        if self.holds.len() + self.requests.len() + usize::from(trying) < self.limits.alive {
            for owner in 0..self.limits.owners {
                for count in 1..=2 {
                    if self.limits.caps.immediate {
                        events.push(Event::Attempt(owner, count));
                    }
                    events.push(Event::Request(owner, count, Kind::Thread));
                    if self.limits.rich {
                        events.push(Event::Request(owner, count, Kind::Task));
                        events.push(Event::Request(owner, count, Kind::Try));
                    }
                }
            }
        }
        for (at, hold) in self.holds.iter().enumerate() {
            if hold.of.is_some() {
                events.extend([Event::Collect(at), Event::Abandon(at)]);
            } else {
                events.push(Event::Release(at));
            }
        }
        for (at, request) in self.requests.iter().enumerate() {
            if !request.leaves {
                events.push(Event::Withdraw(at));
                if self.limits.rich {
                    events.push(Event::Abandon(self.holds.len() + at));
                }
            }
            if request.parked {
                events.push(Event::Collect(self.holds.len() + at));
            }
        }
        if self.sweep_armed {
            events.push(Event::Sweep);
        }
        if let Some(op) = &self.op {
            let answers = [Answer::Granted, Answer::Busy].into_iter();
            let answers = answers.filter(|answer| self.may_end(op, *answer));
            events.extend(answers.map(Event::Finish));
        }
        for foreign in 0..=self.limits.permits - self.native.len() {
            if foreign != self.foreign.len() {
                events.push(Event::Foreign(foreign));
            }
        }
        if self.limits.caps.order {
            events.push(Event::InLine(!self.in_line));
        }
        if !self.tenure_over && !self.native.is_empty() {
            events.push(Event::TenureEnds);
        }
        if self.upsets < self.limits.upsets {
            if self.op.is_some_and(|op| op.op != Op::Leave) {
                events.push(Event::Fail);
            }
            if self.op.is_some_and(|op| matches!(op.op, Op::Take { .. })) {
                events.push(Event::Gone);
            }
            if self.op.is_some_and(|op| op.cancelled) {
                events.push(Event::Overdue);
            }
            if !self.native.is_empty() {
                events.push(Event::Lose);
            }
            events.extend((0..self.limits.owners).map(Event::Evict));
        }
        events
    }

    fn after(&self, event: Event) -> Result<Model, String> {
        let mut next = self.clone();
        next.apply(event)?;
        // Those that are granted together have one turn.
        let is_new = |hold: &Hold| !self.holds.iter().any(|before| before.id == hold.id);
        next.turns += u32::from(next.in_line && next.holds.iter().any(is_new));
        next.check()?;
        Ok(next)
    }

    /// The state without its numbering: of owners, too, which are all alike.
    fn key(&self) -> String {
        let owners = self.limits.owners;
        let keys =
            (0..owners).map(|first| self.key_from(|owner| (owner + owners - first) % owners));
        keys.min().unwrap_or_default()
    }
}

const CAPS: Caps = Caps {
    immediate: true,
    order: true,
    downgrade: false,
    upgrade: false,
    tokens: false,
};

const LIMITS: Limits = Limits {
    caps: CAPS,
    permits: 2,
    owners: 2,
    alive: 2,
    rich: true,
    upsets: 1,
};

#[test]
fn a_semaphore_with_an_order() {
    explore(Model::new(LIMITS), 700_000);
}

#[test]
fn a_semaphore_of_a_server() {
    let caps = Caps {
        immediate: false,
        ..CAPS
    };
    explore(Model::new(Limits { caps, ..LIMITS }), 700_000);
}

#[test]
fn a_semaphore_without_an_order() {
    let caps = Caps {
        order: false,
        ..CAPS
    };
    explore(Model::new(Limits { caps, ..LIMITS }), 190_000);
}

#[test]
fn three_requests_for_three_permits() {
    let limits = Limits {
        permits: 3,
        alive: 3,
        rich: false,
        upsets: 0,
        ..LIMITS
    };
    explore(Model::new(limits), 390_000);
}
