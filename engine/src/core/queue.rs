//! Who holds a lock, or permits of a semaphore, and who waits for it inside one host (S7):
//! first come first served; adjacent requests that fit are granted together.

use crate::{Mode, Permits};
use slab::Slab;
use std::{collections::BTreeMap, fmt};

/// A request in the queue. Later requests have greater numbers.
pub(crate) type RequestId = u64;

/// One granted request, until it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HoldId {
    at: usize,
    number: u64,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Amount {
    /// A lock.
    Lock(Mode),
    /// So many permits of a semaphore.
    Permits(u8),
}

impl From<Mode> for Amount {
    fn from(mode: Mode) -> Amount {
        Amount::Lock(mode)
    }
}

impl Amount {
    /// The mode in which the lock, or its file, is needed.
    pub(crate) fn mode(self) -> Mode {
        match self {
            Amount::Lock(mode) => mode,
            Amount::Permits(_) => Mode::Exclusive,
        }
    }

    /// How many permits; none of a lock.
    pub(crate) fn permits(self) -> u8 {
        match self {
            Amount::Lock(_) => 0,
            Amount::Permits(count) => count,
        }
    }

    /// The mode of a lock, or the number of permits.
    pub(crate) fn parts(self) -> (Option<Mode>, Option<u8>) {
        match self {
            Amount::Lock(mode) => (Some(mode), None),
            Amount::Permits(count) => (None, Some(count)),
        }
    }

    /// Whether a place in line for the one serves the other.
    pub(crate) fn shares_place(self, other: Amount) -> bool {
        match (self, other) {
            (Amount::Permits(_), Amount::Permits(_)) => true,
            _ => self == other,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Lock(mode) => mode.fmt(f),
            Amount::Permits(1) => f.write_str("1 permit"),
            Amount::Permits(count) => write!(f, "{count} permits"),
        }
    }
}

#[derive(Debug, Clone)]
struct Holder<O, R> {
    number: u64,
    owner: O,
    /// Of a semaphore.
    permits: Permits,
    /// That was granted; zero if it did not wait.
    request: RequestId,
    provisional: Option<Provisional<O, R>>,
    token: Option<u64>,
}

/// A grant that its task has not collected yet.
#[derive(Debug, Clone)]
struct Provisional<O, R> {
    id: RequestId,
    waiting: Waiting<O, R>,
    /// The sweep before has seen it.
    seen: bool,
}

/// A request in the queue.
#[derive(Debug, Clone)]
pub(crate) struct Waiting<O, R> {
    pub(crate) owner: O,
    pub(crate) amount: Amount,
    /// It waits for its turn; otherwise it is answered as soon as it is known
    /// whether the lock is free.
    pub(crate) wait: bool,
    /// A task collects the grant, perhaps late or never. A thread is running
    /// when it is woken.
    pub(crate) provisional: bool,
    /// What the caller wants back when the request's turn comes.
    pub(crate) request: R,
}

/// Holders and waiting requests of one lock or semaphore. `O` names an owner.
#[derive(Debug, Clone)]
pub(crate) struct Queue<O, R> {
    holders: Slab<Holder<O, R>>,
    /// How the holders hold a lock, if there are any: all shared, or one exclusive.
    held: Mode,
    /// How many permits the semaphore has; zero for a lock.
    permits: u8,
    waiting: BTreeMap<RequestId, Waiting<O, R>>,
    /// Requests whose grant was revoked. They keep their places, and are passed
    /// over until they rejoin.
    parked: BTreeMap<RequestId, Waiting<O, R>>,
    next: u64,
}

impl<O: Copy + PartialEq, R: Clone> Queue<O, R> {
    /// Of a lock, or of a semaphore with so many permits.
    pub(crate) fn new(permits: u8) -> Self {
        Queue {
            holders: Slab::new(),
            held: Mode::Shared,
            permits,
            waiting: BTreeMap::new(),
            parked: BTreeMap::new(),
            next: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether no holder stands against it.
    pub(crate) fn fits(&self, amount: Amount) -> bool {
        match amount {
            Amount::Lock(mode) => self.holders.is_empty() || !self.held.conflicts(mode),
            Amount::Permits(count) => count <= self.permits.saturating_sub(self.used().len()),
        }
    }

    /// The permits that the holders have.
    pub(crate) fn used(&self) -> Permits {
        let holders = self.holders.iter();
        holders.fold(Permits::NONE, |used, (_, h)| used.with(h.permits))
    }

    /// Whether a new request may be granted now: it fits and overtakes no other.
    /// An owner that holds shared may overtake with a further shared request,
    /// or a queued writer would make it wait for itself (S9).
    pub(crate) fn admits(&self, owner: O, amount: Amount) -> bool {
        let shared = amount == Mode::Shared.into();
        self.fits(amount) && (self.waiting.is_empty() || shared && self.is_held_by(owner))
    }

    /// Whether an owner holds the lock shared and asks for it shared again.
    pub(crate) fn is_again(&self, owner: O, amount: Amount) -> bool {
        let shared = amount == Mode::Shared.into();
        shared && self.held == Mode::Shared && self.is_held_by(owner)
    }

    /// Whether a request is in the queue that waits for its turn.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.values().any(|waiting| waiting.wait)
    }

    /// Has an owner hold it, with these permits.
    pub(crate) fn hold(&mut self, owner: O, amount: Amount, permits: Permits) -> HoldId {
        self.insert(owner, amount, permits, 0, None)
    }

    fn insert(
        &mut self,
        owner: O,
        amount: Amount,
        permits: Permits,
        request: RequestId,
        provisional: Option<Provisional<O, R>>,
    ) -> HoldId {
        debug_assert!(self.fits(amount));
        if let Amount::Lock(mode) = amount {
            self.held = mode;
        }
        let number = self.number();
        let at = self.holders.insert(Holder {
            number,
            owner,
            permits,
            request,
            provisional,
            token: None,
        });
        HoldId { at, number }
    }

    fn holder(&self, id: HoldId) -> Option<&Holder<O, R>> {
        self.holders.get(id.at).filter(|h| h.number == id.number)
    }

    fn holder_mut(&mut self, id: HoldId) -> Option<&mut Holder<O, R>> {
        let holder = self.holders.get_mut(id.at);
        holder.filter(|h| h.number == id.number)
    }

    /// Ends a hold; `false` if there is none such.
    pub(crate) fn release(&mut self, id: HoldId) -> bool {
        let held = self.holds(id);
        if held {
            self.holders.remove(id.at);
        }
        held
    }

    pub(crate) fn holds(&self, id: HoldId) -> bool {
        self.holder(id).is_some()
    }

    pub(crate) fn is_held(&self) -> bool {
        !self.holders.is_empty()
    }

    pub(crate) fn is_held_by(&self, owner: O) -> bool {
        self.holders.iter().any(|(_, h)| h.owner == owner)
    }

    /// How the holders hold, if there are any.
    pub(crate) fn held(&self) -> Option<Mode> {
        self.is_held().then_some(self.held)
    }

    /// Whether this is the one holder.
    pub(crate) fn holds_alone(&self, id: HoldId) -> bool {
        self.holders.len() == 1 && self.holds(id)
    }

    /// Changes how the one holder holds. Its next token is a new one.
    pub(crate) fn convert(&mut self, id: HoldId, to: Mode) {
        debug_assert!(self.holds_alone(id));
        if let Some(holder) = self.holder_mut(id) {
            holder.token = None;
            self.held = to;
        }
    }

    /// The permits of a hold, if there is such a hold.
    pub(crate) fn permits_of(&self, id: HoldId) -> Option<Permits> {
        self.holder(id).map(|holder| holder.permits)
    }

    pub(crate) fn token(&self, id: HoldId) -> Option<u64> {
        self.holder(id)?.token
    }

    pub(crate) fn set_token(&mut self, id: HoldId, token: u64) {
        if let Some(holder) = self.holder_mut(id) {
            holder.token = Some(token);
        }
    }

    pub(crate) fn enqueue(&mut self, waiting: Waiting<O, R>) -> RequestId {
        let id = self.number();
        self.waiting.insert(id, waiting);
        id
    }

    /// The request whose turn is next.
    pub(crate) fn front(&self) -> Option<(RequestId, &Waiting<O, R>)> {
        self.waiting.iter().next().map(|(id, w)| (*id, w))
    }

    pub(crate) fn is_waiting(&self, id: RequestId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// Takes a request out of the queue, wherever it is.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Waiting<O, R>> {
        let waiting = self.waiting.remove(&id);
        waiting.or_else(|| self.parked.remove(&id))
    }

    /// Grants the front request if it fits beside the holders; permits are taken from
    /// `spare`.
    pub(crate) fn grant_front(&mut self, spare: Permits) -> Option<(HoldId, Waiting<O, R>)> {
        let (id, front) = self.front()?;
        if !self.fits(front.amount) {
            return None;
        }
        let permits = match front.amount {
            Amount::Lock(_) => Permits::NONE,
            Amount::Permits(count) => spare.choose(count)?,
        };
        let granted = self.waiting.remove(&id)?;
        let provisional = granted.provisional.then(|| Provisional {
            id,
            waiting: granted.clone(),
            seen: false,
        });
        let hold = self.insert(granted.owner, granted.amount, permits, id, provisional);
        Some((hold, granted))
    }

    /// The hold that a request was granted.
    pub(crate) fn hold_of(&self, id: RequestId) -> Option<HoldId> {
        let mut holders = self.holders.iter();
        let (at, holder) = holders.find(|(_, holder)| holder.request == id)?;
        let number = holder.number;
        Some(HoldId { at, number })
    }

    /// The request, if it waits.
    pub(crate) fn waiting(&self, id: RequestId) -> Option<&Waiting<O, R>> {
        self.waiting.get(&id)
    }

    /// Makes a provisional grant final; `false` if it was revoked.
    pub(crate) fn collect(&mut self, id: HoldId) -> bool {
        match self.holder_mut(id) {
            Some(holder) => {
                holder.provisional = None;
                true
            }
            None => false,
        }
    }

    /// Whether any grant is provisional.
    pub(crate) fn is_provisional(&self) -> bool {
        self.holders.iter().any(|(_, h)| h.provisional.is_some())
    }

    /// Revokes the provisional grants that the sweep before has seen: their
    /// requests have their old places and are parked. Answers how many.
    pub(crate) fn revoke_stale(&mut self) -> usize {
        let mut stale = Vec::new();
        for (at, holder) in &mut self.holders {
            if let Some(provisional) = &mut holder.provisional {
                if provisional.seen {
                    stale.push(at);
                }
                provisional.seen = true;
            }
        }
        for at in &stale {
            if let Some(p) = self.holders.remove(*at).provisional {
                self.parked.insert(p.id, p.waiting);
            }
        }
        stale.len()
    }

    /// Takes a parked request into account again; `false` if it is not parked.
    pub(crate) fn rejoin(&mut self, id: RequestId) -> bool {
        let parked = self.parked.remove(&id);
        parked.is_some_and(|waiting| self.waiting.insert(id, waiting).is_none())
    }

    /// Ends every hold of `owner` and lists its requests.
    pub(crate) fn evict(&mut self, owner: O) -> Vec<RequestId> {
        self.holders.retain(|_, h| h.owner != owner);
        self.all()
            .filter(|(_, w)| w.owner == owner)
            .map(|(id, _)| *id)
            .collect()
    }

    /// What an owner holds and what it asks for, in this order.
    pub(crate) fn of_owner(&self, owner: O) -> (Vec<Amount>, Vec<Amount>) {
        let holders = self.holders.iter().filter(|(_, h)| h.owner == owner);
        let waiting = self.all().filter(|(_, w)| w.owner == owner);
        (
            holders.map(|(_, h)| self.amount_of(h)).collect(),
            waiting.map(|(_, w)| w.amount).collect(),
        )
    }

    fn amount_of(&self, holder: &Holder<O, R>) -> Amount {
        match self.permits {
            0 => self.held.into(),
            _ => Amount::Permits(holder.permits.len()),
        }
    }

    /// Ends every hold.
    pub(crate) fn revoke_all(&mut self) {
        self.holders.clear();
    }

    /// Every request in the queue.
    pub(crate) fn requests(&self) -> Vec<RequestId> {
        self.all().map(|(id, _)| *id).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&RequestId, &Waiting<O, R>)> {
        self.waiting.iter().chain(&self.parked)
    }

    /// The owners that a request for a lock waits for: of `mode`, and the request `id` or
    /// one at the end of the queue. Those are the owners of conflicting earlier
    /// requests, of whatever these wait for in turn, and of conflicting holds.
    /// `None` for a request that has left the queue: it waits for no owner.
    ///
    /// `searched` names the last shared and the last exclusive request that was
    /// asked about before; what it waits for is left out.
    pub(crate) fn blockers(
        &self,
        id: Option<RequestId>,
        mode: Mode,
        searched: [RequestId; 2],
    ) -> Option<Vec<O>> {
        let gone = |id| !self.waiting.contains_key(&id) && !self.parked.contains_key(&id);
        if id.is_some_and(gone) {
            return None;
        }
        let id = id.unwrap_or(RequestId::MAX);
        // What the chain of requests contains so far.
        let (mut exclusive, mut owners) = (mode == Mode::Exclusive, Vec::new());
        for (before, w) in self.waiting.range(..id).rev() {
            exclusive |= w.amount == Mode::Exclusive.into();
            if *before <= searched[usize::from(exclusive)] {
                return Some(owners);
            }
            if exclusive {
                owners.push(w.owner);
            }
        }
        if exclusive || self.held == Mode::Exclusive {
            owners.extend(self.holders.iter().map(|(_, h)| h.owner));
        }
        Some(owners)
    }
}

#[cfg(all(test, not(shuttle), not(windows)))]
impl HoldId {
    /// One that has ended.
    pub(in crate::core) fn stale() -> HoldId {
        HoldId {
            at: usize::MAX,
            number: 0,
        }
    }
}

#[cfg(all(test, not(shuttle), not(windows)))]
impl<O: Copy + PartialEq, R: Clone> Queue<O, R> {
    /// Whether the sweep before has seen a provisional grant.
    pub(in crate::core) fn is_seen(&self, id: HoldId) -> bool {
        let holder = self.holder(id);
        holder.is_some_and(|h| h.provisional.as_ref().is_some_and(|p| p.seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mode::{Exclusive as X, Shared as S};

    fn queue() -> Queue<u32, &'static str> {
        Queue::new(0)
    }

    fn request(owner: u32, mode: Mode, request: &'static str) -> Waiting<u32, &'static str> {
        Waiting {
            owner,
            amount: mode.into(),
            wait: true,
            provisional: false,
            request,
        }
    }

    fn name(
        granted: Option<(HoldId, Waiting<u32, &'static str>)>,
    ) -> Option<(HoldId, &'static str)> {
        granted.map(|(hold, waiting)| (hold, waiting.request))
    }

    #[test]
    fn adjacent_shared_requests_are_granted_together_and_no_further() {
        let mut q = queue();
        let hold = q.hold(0, X.into(), Permits::NONE);
        for (owner, mode, name) in [(1, S, "s1"), (2, S, "s2"), (3, X, "x"), (4, S, "s3")] {
            assert!(!q.admits(owner, mode.into()));
            q.enqueue(request(owner, mode, name));
        }
        assert_eq!(name(q.grant_front(Permits::NONE)), None);
        assert!(q.release(hold));
        assert!(!q.release(hold));
        let granted: Vec<_> = std::iter::from_fn(|| name(q.grant_front(Permits::NONE))).collect();
        assert_eq!(
            granted.iter().map(|g| g.1).collect::<Vec<_>>(),
            ["s1", "s2"]
        );
        for (hold, _) in granted {
            assert!(q.release(hold));
        }
        assert_eq!(name(q.grant_front(Permits::NONE)).map(|g| g.1), Some("x"));
    }

    #[test]
    fn only_an_owner_that_holds_shared_overtakes() {
        let mut q = queue();
        q.hold(1, S.into(), Permits::NONE);
        q.enqueue(request(2, X, "x"));
        assert!(q.admits(1, S.into()));
        assert!(!q.admits(3, S.into()));
        assert!(!q.admits(1, X.into()));
    }

    #[test]
    fn a_request_that_leaves_holds_up_no_other() {
        let mut q = queue();
        q.hold(1, S.into(), Permits::NONE);
        let x = q.enqueue(request(2, X, "x"));
        q.enqueue(request(3, S, "s"));
        assert_eq!(name(q.grant_front(Permits::NONE)), None);
        assert!(q.remove(x).is_some());
        assert!(q.remove(x).is_none());
        assert_eq!(name(q.grant_front(Permits::NONE)).map(|g| g.1), Some("s"));
    }

    #[test]
    fn blockers_are_conflicting_holders_and_the_chain_of_earlier_requests() {
        let mut q = queue();
        q.hold(1, S.into(), Permits::NONE);
        assert_eq!(q.blockers(None, S, [0; 2]), Some(vec![]));
        assert_eq!(q.blockers(None, X, [0; 2]), Some(vec![1]));
        let x = q.enqueue(request(2, X, "x"));
        q.enqueue(request(3, S, "s"));
        // Behind s and x: s does not conflict, x does, and x waits for 1.
        assert_eq!(q.blockers(None, S, [0; 2]), Some(vec![2, 1]));
        assert_eq!(q.blockers(None, X, [0; 2]), Some(vec![3, 2, 1]));
        assert_eq!(q.blockers(Some(x), X, [0; 2]), Some(vec![1]));
        // What was searched before is left out.
        assert_eq!(q.blockers(None, X, [0, x]), Some(vec![3]));
        assert_eq!(q.blockers(None, S, [0, x]), Some(vec![]));
        q.remove(x);
        assert_eq!(q.blockers(Some(x), X, [0; 2]), None);
    }

    #[test]
    fn a_grant_that_is_not_collected_goes_to_the_next() {
        let task = |owner, name| Waiting {
            provisional: true,
            ..request(owner, X, name)
        };
        let mut q = queue();
        let hold = q.hold(0, X.into(), Permits::NONE);
        let place = q.enqueue(task(1, "asleep"));
        q.enqueue(task(2, "awake"));
        q.release(hold);
        let (asleep, _) = q.grant_front(Permits::NONE).unwrap();
        assert_eq!(q.revoke_stale(), 0);
        assert!(q.is_provisional());
        assert_eq!(q.revoke_stale(), 1);
        assert!(!q.collect(asleep));
        let (hold, name) = q
            .grant_front(Permits::NONE)
            .map(|(h, w)| (h, w.request))
            .unwrap();
        assert_eq!(name, "awake");
        assert!(q.collect(hold));
        assert_eq!((q.revoke_stale(), q.revoke_stale()), (0, 0));
        // It rejoins in its old place.
        q.enqueue(task(3, "later"));
        assert!(q.rejoin(place));
        assert!(!q.rejoin(place));
        q.release(hold);
        assert_eq!(
            q.grant_front(Permits::NONE).map(|g| g.1.request),
            Some("asleep")
        );
    }

    #[test]
    fn eviction_ends_holds_and_names_the_requests() {
        let mut q = queue();
        let hold = q.hold(1, S.into(), Permits::NONE);
        q.hold(2, S.into(), Permits::NONE);
        let id = q.enqueue(request(1, X, "x"));
        assert_eq!(q.evict(1), [id]);
        assert!(!q.holds(hold));
        assert!(q.is_held());
    }

    #[test]
    fn a_conversion_changes_the_mode_and_ends_the_token() {
        let mut q = queue();
        let hold = q.hold(1, X.into(), Permits::NONE);
        q.set_token(hold, 7);
        assert_eq!(q.token(hold), Some(7));
        q.convert(hold, S);
        assert_eq!((q.held(), q.token(hold)), (Some(S), None));
        assert!(q.fits(S.into()));
    }

    #[test]
    fn permits_are_granted_while_there_are_enough() {
        let mut q: Queue<u32, &'static str> = Queue::new(3);
        let two = q.hold(1, Amount::Permits(2), Permits::first(2));
        assert!(q.admits(1, Amount::Permits(1)) && !q.admits(2, Amount::Permits(2)));
        let permits = |amount, name| Waiting {
            amount,
            ..request(2, X, name)
        };
        q.enqueue(permits(Amount::Permits(2), "two"));
        q.enqueue(permits(Amount::Permits(1), "one"));
        // The second would fit, and does not overtake.
        assert!(!q.admits(3, Amount::Permits(1)));
        assert_eq!(name(q.grant_front(Permits::one(2))), None);
        assert!(q.release(two));
        // This host has one of them at present.
        assert_eq!(name(q.grant_front(Permits::one(2))), None);
        let spare = Permits::first(2);
        let (hold, granted) = name(q.grant_front(spare)).unwrap();
        assert_eq!((granted, q.permits_of(hold)), ("two", Some(spare)));
        assert_eq!(
            q.of_owner(2),
            (vec![Amount::Permits(2)], vec![Amount::Permits(1)])
        );
    }
}
