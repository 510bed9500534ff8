//! One lock, a few owners of one host, and an environment that may do at any time
//! what a back end and other hosts may do: finish operations late, refuse or fail
//! them, lose the lock, hold it, wait in line for it. `Model::check` is the list of
//! the invariants.

use super::{World, explore};
use crate::{
    Error, ErrorKind, Mode,
    backend::{Answer, Caps, Op, OpId, Reply, Tenure},
    core::{
        lock::{Actions, Attempt, Collected, Core, Outcome},
        queue::{HoldId, RequestId, Waiting},
    },
};
use Mode::{Exclusive, Shared};
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
    owners: Owner,
    /// Requests and holds that live at the same time.
    alive: usize,
    /// Whether there are tasks, tries, conversions and tokens, besides threads.
    rich: bool,
    /// How often what ends the ordinary course may happen on one way.
    upsets: u8,
}

/// What the environment may do once in a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upset {
    Fail,
    Gone,
    Lose,
    Evict(Owner),
    Overdue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A try of a resource whose operations end at once.
    Attempt(Owner, Mode),
    /// A request: its kind is that of a thread, of a task, or a try.
    Request(Owner, Mode, Kind),
    Release(usize),
    Withdraw(usize),
    /// The owner drops a request, perhaps with a grant that it has not seen.
    Abandon(usize),
    Collect(usize),
    Convert(usize, Mode),
    Token(usize),
    Sweep,
    /// The operation ends with this.
    Finish(Answer),
    Foreign(Option<Mode>),
    /// A foreign host is in line from now on, or has gone.
    InLine(bool),
    TenureEnds,
    Upset(Upset),
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
    mode: Mode,
    token: u64,
    /// Granted to a task that has not collected it.
    of: Option<(Slot, RequestId)>,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    id: RequestId,
    slot: Slot,
    owner: Owner,
    mode: Mode,
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
    by: By,
    /// The request that it was started for.
    serves: Option<Slot>,
    cancelled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Try(Owner, Mode),
    Hold(HoldId, Option<Mode>),
    Core,
}

#[derive(Clone)]
struct Model {
    limits: Limits,
    core: Core<Owner, Slot>,
    holds: Vec<Hold>,
    requests: Vec<Request>,
    /// What the description holds, whatever the core believes.
    native: Option<Mode>,
    epoch: u64,
    /// What another host holds.
    foreign: Option<Mode>,
    /// Another host is in line.
    in_line: bool,
    /// Turns that this host has had since then.
    turns: u32,
    op: Option<InFlight>,
    tenure_over: bool,
    /// The last token, and the last that a holder was given.
    token: u64,
    given: u64,
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
            core: Core::new(limits.caps, 0),
            holds: Vec::new(),
            requests: Vec::new(),
            native: None,
            epoch: 0,
            foreign: None,
            in_line: false,
            turns: 0,
            op: None,
            tenure_over: false,
            token: 0,
            given: 0,
            upsets: 0,
            sweep_armed: false,
        }
    }

    fn now(&self) -> Instant {
        begin() + Duration::from_secs(if self.tenure_over { 2 } else { 0 })
    }

    fn alive(&self) -> usize {
        self.holds.len() + self.requests.len()
    }

    /// A request that still waits.
    fn waits(&self, request: &Request) -> bool {
        !request.leaves
    }

    /// Whether a back end may end the operation so.
    fn may_end(&self, op: &InFlight, answer: Answer) -> bool {
        let fits = |mode| self.foreign.is_none_or(|foreign| !foreign.conflicts(mode));
        match (op.op, answer) {
            (
                Op::Lock {
                    amount,
                    ahead,
                    wait,
                },
                Answer::Granted,
            ) => fits(amount) && (wait || ahead || !self.in_line),
            (Op::Lock { wait, .. } | Op::Join { wait, .. }, Answer::Busy) => !wait || op.cancelled,
            (Op::Join { .. }, Answer::Granted) => true,
            (Op::Convert { to }, Answer::Granted) => self.native.is_some() && fits(to),
            (Op::Convert { to }, Answer::Busy) => self.native.is_none() || !fits(to),
            (Op::Token, Answer::Granted) => self.native == Some(Exclusive),
            (Op::Token, Answer::Busy) => self.native.is_none(),
            (Op::Unlock | Op::Leave, answer) => answer == Answer::Granted,
            _ => false,
        }
    }

    fn apply(&mut self, event: Event) -> Result<(), String> {
        let time = self.now();
        let now = move || time;
        let mut out = Actions::default();
        match event {
            Event::Attempt(owner, mode) => {
                let again = self.core_holds(owner);
                let waited_for = self.requests.iter().any(|r| self.waits(r) && !r.parked);
                match self.core.attempt(owner, mode.into(), &now) {
                    Attempt::Start(id, op) => {
                        if waited_for && !(mode == Shared && again) {
                            return Err("an attempt overtakes a request".into());
                        }
                        self.begin(id, op, By::Try(owner, mode))?;
                    }
                    Attempt::Ended(Outcome::Granted(_)) => {
                        return Err("granted without an operation".into());
                    }
                    Attempt::Unchecked(id) => self.hold(id, owner, mode, None),
                    Attempt::Ended(_) | Attempt::Later => {}
                }
            }
            Event::Request(owner, mode, kind) => {
                // Those of whose end their owner will hear count as well.
                let used = |slot: &Slot| {
                    self.requests.iter().any(|r| r.slot == *slot)
                        || self
                            .holds
                            .iter()
                            .any(|h| h.of.is_some_and(|(s, _)| s == *slot))
                };
                let slot = (0..).find(|slot| !used(slot)).ok_or("no slot")?;
                let waiting = Waiting {
                    owner,
                    amount: mode.into(),
                    wait: kind != Kind::Try,
                    provisional: kind == Kind::Task,
                    request: slot,
                };
                if let Ok(id) = self.core.enqueue(waiting) {
                    self.requests.push(Request {
                        id,
                        slot,
                        owner,
                        mode,
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
                let (id, outcome) = (self.requests[at].id, failed(ErrorKind::Timeout));
                self.core.withdraw(id, Some(outcome), &now, &mut out);
            }
            Event::Abandon(at) => self.abandon(at, &now, &mut out)?,
            Event::Collect(at) => self.collect(at, &mut out)?,
            Event::Convert(at, to) => {
                let hold = self.holds[at];
                match self.core.convert(hold.id, to, None, &now, &mut out) {
                    Attempt::Start(id, op) => self.begin(id, op, By::Hold(hold.id, Some(to)))?,
                    Attempt::Ended(outcome) => self.called(hold.id, Some(to), outcome)?,
                    other => return Err(format!("a conversion is answered {other:?}")),
                }
            }
            Event::Token(at) => {
                let hold = self.holds[at].id;
                match self.core.token(hold, None) {
                    Attempt::Start(id, op) => self.begin(id, op, By::Hold(hold, None))?,
                    Attempt::Ended(outcome) => self.called(hold, None, outcome)?,
                    other => return Err(format!("a token is answered {other:?}")),
                }
            }
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
            Event::Foreign(foreign) => {
                self.foreign = foreign;
                // It was its turn.
                if foreign.is_some() {
                    self.turns = 0;
                }
            }
            Event::InLine(in_line) => (self.in_line, self.turns) = (in_line, 0),
            Event::TenureEnds => self.tenure_over = true,
            Event::Upset(upset) => {
                self.upsets += 1;
                self.upset(upset, &now, &mut out)?;
            }
        }
        self.perform(out)
    }

    fn core_holds(&self, owner: Owner) -> bool {
        self.holds.iter().any(|hold| hold.owner == owner)
    }

    fn upset(
        &mut self,
        upset: Upset,
        now: &dyn Fn() -> Instant,
        out: &mut Actions<Slot>,
    ) -> Result<(), String> {
        match upset {
            Upset::Fail => self.finish(Err(()), out)?,
            Upset::Gone => self.finish(Ok(Answer::Gone), out)?,
            Upset::Lose => {
                self.native = None;
                self.core.lost(self.epoch, now, out);
                if let Some(hold) = self.holds.iter().find(|hold| self.core.holds(hold.id)) {
                    return Err(format!("{hold:?} outlives the loss"));
                }
                self.holds.clear();
            }
            Upset::Evict(owner) => {
                self.core.evict(owner, now, out);
                self.holds.retain(|hold| hold.owner != owner);
                for request in &mut self.requests {
                    request.leaves |= request.owner == owner;
                }
                if let Some(InFlight { by, .. }) = &mut self.op
                    && matches!(by, By::Try(of, _) if *of == owner)
                {
                    *by = By::Core;
                }
            }
            Upset::Overdue => {
                let Some(op) = self.op else { return Ok(()) };
                // It is told without its end.
                self.op = Some(InFlight { serves: None, ..op });
                self.core.overdue(op.id, now, out);
                if !self.core.is_in_flight(op.id) {
                    self.op = None;
                }
            }
        }
        Ok(())
    }

    fn abandon(
        &mut self,
        at: usize,
        now: &dyn Fn() -> Instant,
        out: &mut Actions<Slot>,
    ) -> Result<(), String> {
        if at < self.holds.len() {
            let hold = self.holds.remove(at);
            let Some((_, id)) = hold.of else {
                return Ok(());
            };
            self.core.abandon(id, now, out);
            return match self.core.holds(hold.id) {
                true => Err(format!("{hold:?} outlives its request")),
                false => Ok(()),
            };
        }
        let request = self.requests.remove(at - self.holds.len());
        if let Some(op) = &mut self.op
            && op.serves == Some(request.slot)
        {
            op.serves = None;
        }
        self.core.abandon(request.id, now, out);
        Ok(())
    }

    fn collect(&mut self, at: usize, out: &mut Actions<Slot>) -> Result<(), String> {
        let time = self.now();
        let now = move || time;
        if at < self.holds.len() {
            let hold = &mut self.holds[at];
            let Some((_, id)) = hold.of.take() else {
                return Ok(());
            };
            let (hold, collected) = (hold.id, self.core.collect(self.holds[at].id, id, &now, out));
            return match collected {
                Collected::Held => Ok(()),
                other => Err(format!("the grant {hold:?} is {other:?}")),
            };
        }
        let request = &mut self.requests[at - self.holds.len()];
        request.parked = false;
        // Its grant has ended, so any hold of it is stale.
        let stale = HoldId::stale();
        match self.core.collect(stale, request.id, &now, out) {
            Collected::Rejoined => Ok(()),
            other => Err(format!("a parked request is {other:?}")),
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
            mode: hold.mode,
            leaves: false,
            parked: true,
            kind: Kind::Task,
        });
        Ok(())
    }

    fn hold(&mut self, id: HoldId, owner: Owner, mode: Mode, of: Option<(Slot, RequestId)>) {
        self.holds.push(Hold {
            id,
            owner,
            mode,
            token: 0,
            of,
        });
    }

    fn begin(&mut self, id: OpId, op: Op, by: By) -> Result<(), String> {
        if let Some(other) = self.op {
            return Err(format!("{op:?} is started during {other:?}"));
        }
        let acts_on_a_lock = !matches!(op, Op::Lock { .. } | Op::Leave);
        if op != Op::Leave && self.native.is_some() != acts_on_a_lock {
            return Err(format!("{op:?} is started with {:?} held", self.native));
        }
        self.op = Some(InFlight {
            id,
            op,
            by,
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
        if answer == Ok(Answer::Granted) {
            match op.op {
                Op::Lock { amount, ahead, .. } => {
                    self.native = Some(amount);
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
                Op::Convert { to } => self.native = Some(to),
                Op::Unlock => self.native = None,
                Op::Token => {
                    self.token += 1;
                    reply.token = Some(self.token);
                }
                Op::Join { ahead, .. } => {
                    if !ahead {
                        self.turns = 0;
                    }
                }
                Op::Leave | Op::Take { .. } | Op::Give { .. } => {}
            }
        }
        if op.op == Op::Unlock {
            // If it fails, the resource is closed.
            self.native = None;
        }
        let result = match answer {
            Ok(_) => Ok(reply),
            Err(()) => Err(Error::from(ErrorKind::Io)),
        };
        let time = self.now();
        let outcome = self.core.done(op.id, result, &move || time, out);
        match (op.by, outcome) {
            (By::Try(owner, mode), Some(Outcome::Granted(id))) => {
                self.hold(id, owner, mode, None);
                Ok(())
            }
            (By::Try(..), Some(_)) | (By::Core, None) => Ok(()),
            (By::Hold(hold, to), Some(outcome)) => self.called(hold, to, outcome),
            (by, outcome) => Err(format!("{by:?} is answered {outcome:?}")),
        }
    }

    /// A call on a hold was answered.
    fn called(&mut self, id: HoldId, to: Option<Mode>, outcome: Outcome) -> Result<(), String> {
        let (token, given) = (self.token, self.given);
        let Some(hold) = self.holds.iter_mut().find(|hold| hold.id == id) else {
            return Ok(());
        };
        match (to, outcome) {
            (Some(to), Outcome::Converted) => {
                hold.mode = to;
                hold.token = 0;
            }
            (None, Outcome::Token(found)) => {
                if found <= given || found > token {
                    return Err(format!("the token {found} after {given}"));
                }
                hold.token = found;
                self.given = found;
            }
            (_, Outcome::Refused | Outcome::Failed(_)) => {}
            (_, other) => return Err(format!("a call is answered {other:?}")),
        }
        Ok(())
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
                    return Err(format!("{request:?} has left and is granted the lock"));
                }
                Outcome::Granted(id) | Outcome::HandedOver(id) => {
                    self.check_turn(&request)?;
                    let of = (request.kind == Kind::Task).then_some((slot, request.id));
                    self.hold(id, request.owner, request.mode, of);
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
            self.begin(start.id, start.op, By::Core)?;
            if let Some(op) = &mut self.op {
                op.serves = start.request;
            }
        }
        Ok(())
    }

    /// First come first served: no request before this one still waits, except
    /// shared ones beside which it is granted.
    fn check_turn(&self, granted: &Request) -> Result<(), String> {
        let before = self.requests.iter().find(|other| {
            let waits = self.waits(other) && !other.parked;
            waits && other.id < granted.id && other.mode.conflicts(granted.mode)
        });
        match before {
            Some(before) => Err(format!("{granted:?} overtakes {before:?}")),
            None => Ok(()),
        }
    }

    /// The invariants.
    fn check(&self) -> Result<(), String> {
        // Exclusion: what the core's holders hold, the description holds, and it
        // does not conflict with other hosts.
        let exclusive = self.holds.iter().any(|hold| hold.mode == Exclusive);
        if exclusive && (self.holds.len() > 1 || self.native != Some(Exclusive)) {
            return Err("an exclusive holder is not alone, or holds nothing".into());
        }
        if !self.holds.is_empty() && self.native.is_none() {
            return Err("a holder holds nothing".into());
        }
        if let (Some(native), Some(foreign)) = (self.native, self.foreign)
            && native.conflicts(foreign)
        {
            return Err("two hosts hold the lock".into());
        }
        if let Some(hold) = self.holds.iter().find(|hold| !self.core.holds(hold.id)) {
            return Err(format!("{hold:?} is not held"));
        }
        // The core and the back end agree on what is under way.
        let in_flight = self.op.is_some_and(|op| self.core.is_in_flight(op.id));
        if in_flight != self.op.is_some() || in_flight == self.core.is_idle() && in_flight {
            return Err("the core and the back end do not agree".into());
        }
        // No grant leaked: what no request holds is being unlocked.
        if self.op.is_none() && self.native.is_some() && self.holds.is_empty() {
            return Err("the lock is held for no request".into());
        }
        // No operation waits for a request that is gone.
        if self.op.is_some_and(|op| op.op.waits() && !op.cancelled)
            && !self.requests.iter().any(|r| self.waits(r) && !r.parked)
        {
            return Err("an operation waits for no request".into());
        }
        if self.op.is_none() && self.requests.iter().any(|request| request.leaves) {
            return Err("a request has left and is not told".into());
        }
        // No request stays where none can be granted any more.
        let ends = |r: &Request| {
            self.op
                .is_some_and(|op| op.cancelled && op.serves == Some(r.slot))
        };
        if self.core.is_retired() && self.requests.iter().any(|r| !r.leaves && !ends(r)) {
            return Err("a request waits for a lock that was given up".into());
        }
        // Liveness: a lock that could be taken is being taken.
        let queued = self.requests.iter().filter(|r| self.waits(r) && !r.parked);
        if let Some(first) = queued.min_by_key(|request| request.id)
            && self.op.is_none()
        {
            let fits = self.holds.is_empty() || !exclusive && first.mode == Shared;
            if fits {
                return Err(format!("{first:?} waits, and no operation is under way"));
            }
            if first.kind == Kind::Try {
                return Err(format!("{first:?} does not wait, and is not answered"));
            }
        }
        // A grant that is not collected is looked at again.
        if !self.sweep_armed && self.holds.iter().any(|hold| hold.of.is_some()) {
            return Err("no sweep will look at a provisional grant".into());
        }
        // Bounded overtaking: within one tenure the turns are counted. The first
        // comes with the native acquisition.
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
        let mut holds: Vec<_> = self
            .holds
            .iter()
            .map(|h| {
                let of = h.of.map(|(_, id)| (rank(id), self.core.is_seen(h.id)));
                let tokens = (h.token > 0, self.core.has_token(h.id));
                (name(h.owner), h.mode as u8, tokens, of)
            })
            .collect();
        holds.sort_unstable();
        let mut requests: Vec<_> = self
            .requests
            .iter()
            .map(|r| {
                let is = (r.leaves, r.parked, r.kind as u8);
                (rank(r.id), name(r.owner), r.mode as u8, is)
            })
            .collect();
        requests.sort_unstable();
        let by = self.op.map(|op| match op.by {
            By::Try(owner, _) => (1, Some(name(owner)), None),
            By::Hold(id, to) => {
                let of = self.holds.iter().find(|h| h.id == id);
                (2, of.map(|h| name(h.owner)), to.map(|to| to as u8))
            }
            By::Core => (3, None, None),
        });
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
        let trying = matches!(&self.op, Some(op) if matches!(op.by, By::Try(..)));
        if self.alive() + usize::from(trying) < self.limits.alive {
            for owner in 0..self.limits.owners {
                for mode in [Shared, Exclusive] {
                    if self.limits.caps.immediate {
                        events.push(Event::Attempt(owner, mode));
                    }
                    events.push(Event::Request(owner, mode, Kind::Thread));
                    if self.limits.rich {
                        events.push(Event::Request(owner, mode, Kind::Task));
                        events.push(Event::Request(owner, mode, Kind::Try));
                    }
                }
            }
        }
        for (at, hold) in self.holds.iter().enumerate() {
            if hold.of.is_some() {
                events.push(Event::Collect(at));
                events.push(Event::Abandon(at));
                continue;
            }
            events.push(Event::Release(at));
            // One call on a hold at a time: it borrows the guard.
            let called = matches!(&self.op, Some(op) if matches!(op.by, By::Hold(..)));
            if !called && self.limits.rich {
                let to = match hold.mode {
                    Shared => Exclusive,
                    Exclusive => Shared,
                };
                events.push(Event::Convert(at, to));
                if hold.mode == Exclusive && hold.token == 0 {
                    events.push(Event::Token(at));
                }
            }
        }
        for (at, request) in self.requests.iter().enumerate() {
            if self.waits(request) {
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
            for answer in [Answer::Granted, Answer::Busy] {
                if self.may_end(op, answer) {
                    events.push(Event::Finish(answer));
                }
            }
        }
        for foreign in [None, Some(Shared), Some(Exclusive)] {
            let fits = match (self.native, foreign) {
                (Some(native), Some(foreign)) => !native.conflicts(foreign),
                _ => true,
            };
            if foreign != self.foreign && fits {
                events.push(Event::Foreign(foreign));
            }
        }
        if self.limits.caps.order {
            events.push(Event::InLine(!self.in_line));
        }
        if !self.tenure_over && self.native.is_some() {
            events.push(Event::TenureEnds);
        }
        if self.upsets < self.limits.upsets {
            if self.op.is_some_and(|op| op.op != Op::Leave) {
                events.push(Event::Upset(Upset::Fail));
            }
            if let Some(InFlight {
                op: Op::Lock { .. } | Op::Join { .. },
                ..
            }) = self.op
            {
                events.push(Event::Upset(Upset::Gone));
            }
            if self.op.is_some_and(|op| op.cancelled) {
                events.push(Event::Upset(Upset::Overdue));
            }
            if self.native.is_some() {
                events.push(Event::Upset(Upset::Lose));
            }
            for owner in 0..self.limits.owners {
                events.push(Event::Upset(Upset::Evict(owner)));
            }
        }
        events
    }

    fn after(&self, event: Event) -> Result<Model, String> {
        let mut next = self.clone();
        next.apply(event)?;
        // Those that are granted together have one turn. An owner that holds the
        // lock already passes in any case (S9).
        let has_turn = next.holds.iter().any(|hold| {
            let before = self.holds.iter().any(|before| before.id == hold.id);
            !before && !self.core_holds(hold.owner)
        });
        next.turns += u32::from(has_turn && next.in_line);
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

fn failed(kind: ErrorKind) -> Outcome {
    Outcome::Failed(kind.into())
}

const CAPS: Caps = Caps {
    immediate: true,
    order: false,
    downgrade: true,
    upgrade: true,
    tokens: true,
};

#[test]
fn a_lock_of_the_kernels_order() {
    let limits = Limits {
        caps: CAPS,
        owners: 2,
        alive: 2,
        rich: true,
        upsets: 1,
    };
    explore(Model::new(limits), 75_000);
}

#[test]
fn a_lock_with_an_order() {
    let limits = Limits {
        caps: Caps {
            order: true,
            ..CAPS
        },
        owners: 2,
        alive: 2,
        rich: true,
        upsets: 0,
    };
    explore(Model::new(limits), 110_000);
}

#[test]
fn a_lock_with_an_order_and_upsets() {
    let limits = Limits {
        caps: Caps {
            order: true,
            ..CAPS
        },
        owners: 2,
        alive: 2,
        rich: true,
        upsets: 1,
    };
    explore(Model::new(limits), 280_000);
}

#[test]
fn a_lock_of_a_server() {
    let limits = Limits {
        caps: Caps {
            immediate: false,
            ..CAPS
        },
        owners: 2,
        alive: 2,
        rich: true,
        upsets: 2,
    };
    explore(Model::new(limits), 98_000);
}

#[test]
fn a_lock_without_conversions() {
    let limits = Limits {
        caps: Caps {
            downgrade: false,
            upgrade: false,
            tokens: false,
            ..CAPS
        },
        owners: 2,
        alive: 2,
        rich: true,
        upsets: 1,
    };
    explore(Model::new(limits), 60_000);
}

#[test]
fn three_owners() {
    let limits = Limits {
        caps: CAPS,
        owners: 3,
        alive: 2,
        rich: true,
        upsets: 0,
    };
    explore(Model::new(limits), 43_000);
}

#[test]
fn three_requests() {
    let limits = Limits {
        caps: CAPS,
        owners: 2,
        alive: 3,
        rich: false,
        upsets: 0,
    };
    explore(Model::new(limits), 7_500);
}

#[test]
fn three_requests_with_an_order() {
    let limits = Limits {
        caps: Caps {
            order: true,
            ..CAPS
        },
        owners: 2,
        alive: 3,
        rich: false,
        upsets: 0,
    };
    explore(Model::new(limits), 59_000);
}
