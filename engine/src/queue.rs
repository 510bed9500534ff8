//! Who holds a lock and who waits for it, inside one host (S7).
//!
//! First come, first served; adjacent shared requests are granted together. No
//! input or output, no clock, no threads: the caller does as this says.

use crate::Mode;
use slab::Slab;
use std::collections::BTreeMap;

/// A place in the queue. Later places have greater tickets.
pub(crate) type Ticket = u64;

/// One granted request, until it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HoldId {
    at: usize,
    number: u64,
}

struct Holder<O, R> {
    number: u64,
    owner: O,
    offer: Option<Offer<R>>,
}

/// A grant that its owner has not been seen to accept.
struct Offer<R> {
    ticket: Ticket,
    request: R,
    /// It was there at the last round already.
    old: bool,
}

/// A request in the queue.
pub(crate) struct Waiting<O, R> {
    pub(crate) owner: O,
    pub(crate) mode: Mode,
    pub(crate) request: R,
}

/// Holders and waiting requests of one lock. `O` names an owner, `R` is what
/// the caller wants back when a request's turn comes.
pub(crate) struct Queue<O, R> {
    holders: Slab<Holder<O, R>>,
    /// How the holders hold, if there are any: all shared, or one exclusive.
    held: Mode,
    waiting: BTreeMap<Ticket, Waiting<O, R>>,
    /// Requests that did not accept a grant: they keep their places, and are
    /// passed over until they come back.
    absent: BTreeMap<Ticket, Waiting<O, R>>,
    next: u64,
}

impl<O: Clone + PartialEq, R: Clone> Queue<O, R> {
    pub(crate) fn new() -> Self {
        Queue {
            holders: Slab::new(),
            held: Mode::Shared,
            waiting: BTreeMap::new(),
            absent: BTreeMap::new(),
            next: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether no holder stands against `mode`.
    pub(crate) fn fits(&self, mode: Mode) -> bool {
        self.holders.is_empty() || !self.held.conflicts(mode)
    }

    /// Whether a new request may be granted now: it fits and overtakes nobody.
    /// An owner that holds shared may overtake with a further shared request,
    /// or a queued writer would make it wait for itself (S9).
    pub(crate) fn admits(&self, owner: &O, mode: Mode) -> bool {
        self.fits(mode)
            && (self.waiting.is_empty() || mode == Mode::Shared && self.is_held_by(owner))
    }

    pub(crate) fn hold(&mut self, owner: O, mode: Mode) -> HoldId {
        self.hold_for(owner, mode, None)
    }

    fn hold_for(&mut self, owner: O, mode: Mode, offer: Option<Offer<R>>) -> HoldId {
        debug_assert!(self.fits(mode));
        self.held = mode;
        let number = self.number();
        let at = self.holders.insert(Holder {
            number,
            owner,
            offer,
        });
        HoldId { at, number }
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
        self.holders
            .get(id.at)
            .is_some_and(|h| h.number == id.number)
    }

    pub(crate) fn is_held(&self) -> bool {
        !self.holders.is_empty()
    }

    pub(crate) fn is_held_by(&self, owner: &O) -> bool {
        self.holders.iter().any(|(_, h)| h.owner == *owner)
    }

    pub(crate) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn enqueue(&mut self, owner: O, mode: Mode, request: R) -> Ticket {
        let ticket = self.number();
        let waiting = Waiting {
            owner,
            mode,
            request,
        };
        self.waiting.insert(ticket, waiting);
        ticket
    }

    /// The request whose turn is next.
    pub(crate) fn front(&self) -> Option<(Ticket, &Waiting<O, R>)> {
        self.waiting.iter().next().map(|(ticket, w)| (*ticket, w))
    }

    /// Takes a request out of the queue, whatever its place.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Waiting<O, R>> {
        let waiting = self.waiting.remove(&ticket);
        waiting.or_else(|| self.absent.remove(&ticket))
    }

    /// Grants the front request if it fits beside the holders. With `offer`
    /// the grant is in doubt until [`stale_offers`](Self::stale_offers) finds
    /// it accepted.
    pub(crate) fn grant_front(&mut self, offer: impl Fn(&R) -> bool) -> Option<(HoldId, R)> {
        let (ticket, front) = self.front()?;
        if !self.fits(front.mode) {
            return None;
        }
        let granted = self.waiting.remove(&ticket)?;
        let offer = offer(&granted.request).then(|| Offer {
            ticket,
            request: granted.request.clone(),
            old: false,
        });
        let hold = self.hold_for(granted.owner, granted.mode, offer);
        Some((hold, granted.request))
    }

    /// Goes round the offers: forgets those that were accepted, and answers
    /// those that were there at the last round already. The flag says whether
    /// there are any others.
    pub(crate) fn stale_offers(&mut self, accepted: impl Fn(&R) -> bool) -> (Vec<HoldId>, bool) {
        let (mut stale, mut fresh) = (Vec::new(), false);
        for (at, holder) in &mut self.holders {
            let Some(offer) = &mut holder.offer else {
                continue;
            };
            if accepted(&offer.request) {
                holder.offer = None;
            } else if offer.old {
                let number = holder.number;
                stale.push(HoldId { at, number });
            } else {
                offer.old = true;
                fresh = true;
            }
        }
        (stale, fresh)
    }

    /// Whom a grant was offered to, if it is not known to be accepted.
    pub(crate) fn offered_to(&self, id: HoldId) -> Option<&R> {
        let holder = self.holders.get(id.at).filter(|h| h.number == id.number)?;
        holder.offer.as_ref().map(|offer| &offer.request)
    }

    /// Takes a grant back that was offered; the request has its old place, and
    /// is passed over until it [comes back](Self::come_back).
    pub(crate) fn take_back(&mut self, id: HoldId) {
        if !self.holds(id) {
            return;
        }
        let holder = self.holders.remove(id.at);
        let mode = self.held;
        if let Some(Offer {
            ticket, request, ..
        }) = holder.offer
        {
            let owner = holder.owner;
            let waiting = Waiting {
                owner,
                mode,
                request,
            };
            self.absent.insert(ticket, waiting);
        }
    }

    /// Takes a request into account again.
    pub(crate) fn come_back(&mut self, ticket: Ticket) {
        if let Some(waiting) = self.absent.remove(&ticket) {
            self.waiting.insert(ticket, waiting);
        }
    }

    /// Ends every hold of `owner` and lists its places in the queue.
    pub(crate) fn evict(&mut self, owner: &O) -> Vec<Ticket> {
        self.holders.retain(|_, h| h.owner != *owner);
        self.all()
            .filter(|(_, w)| w.owner == *owner)
            .map(|(ticket, _)| *ticket)
            .collect()
    }

    /// Every place in the queue.
    pub(crate) fn places(&self) -> Vec<Ticket> {
        self.all().map(|(ticket, _)| *ticket).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&Ticket, &Waiting<O, R>)> {
        self.waiting.iter().chain(&self.absent)
    }

    /// The owners that a request stands behind: of `mode` and at `place`, or
    /// at the end of the queue. Those are the owners of conflicting earlier
    /// requests, of whatever these stand behind in turn, and of conflicting
    /// holds. `None` for a request that has left the queue: it stands behind
    /// nobody.
    pub(crate) fn blockers(&self, place: Option<Ticket>, mode: Mode) -> Option<Vec<O>> {
        let gone = |p| !self.waiting.contains_key(&p) && !self.absent.contains_key(&p);
        if place.is_some_and(gone) {
            return None;
        }
        let place = place.unwrap_or(Ticket::MAX);
        // What the chain of requests contains so far.
        let (mut exclusive, mut any_conflict) = (mode == Mode::Exclusive, Vec::new());
        for (_, w) in self.waiting.range(..place).rev() {
            if exclusive || w.mode == Mode::Exclusive {
                exclusive |= w.mode == Mode::Exclusive;
                any_conflict.push(w.owner.clone());
            }
        }
        if exclusive || self.held == Mode::Exclusive {
            any_conflict.extend(self.holders.iter().map(|(_, h)| h.owner.clone()));
        }
        Some(any_conflict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mode::{Exclusive as X, Shared as S};

    fn queue() -> Queue<u32, &'static str> {
        Queue::new()
    }

    #[test]
    fn adjacent_shared_requests_are_granted_together_and_no_further() {
        let mut q = queue();
        let hold = q.hold(0, X);
        for (owner, mode, name) in [(1, S, "s1"), (2, S, "s2"), (3, X, "x"), (4, S, "s3")] {
            assert!(!q.admits(&owner, mode));
            q.enqueue(owner, mode, name);
        }
        assert_eq!(q.grant_front(|_| false), None);
        assert!(q.release(hold));
        assert!(!q.release(hold));
        let granted: Vec<_> = std::iter::from_fn(|| q.grant_front(|_| false)).collect();
        assert_eq!(
            granted.iter().map(|g| g.1).collect::<Vec<_>>(),
            ["s1", "s2"]
        );
        for (hold, _) in granted {
            assert!(q.release(hold));
        }
        assert_eq!(q.grant_front(|_| false).map(|g| g.1), Some("x"));
    }

    #[test]
    fn nobody_overtakes_but_an_owner_that_holds_shared() {
        let mut q = queue();
        q.hold(1, S);
        q.enqueue(2, X, "x");
        assert!(q.admits(&1, S));
        assert!(!q.admits(&3, S));
        assert!(!q.admits(&1, X));
    }

    #[test]
    fn a_request_that_goes_leaves_no_trace() {
        let mut q = queue();
        q.hold(1, S);
        let x = q.enqueue(2, X, "x");
        q.enqueue(3, S, "s");
        assert_eq!(q.grant_front(|_| false), None);
        assert!(q.remove(x).is_some());
        assert!(q.remove(x).is_none());
        assert_eq!(q.grant_front(|_| false).map(|g| g.1), Some("s"));
    }

    #[test]
    fn blockers_are_conflicting_holders_and_the_chain_of_earlier_requests() {
        let mut q = queue();
        q.hold(1, S);
        assert_eq!(q.blockers(None, S), Some(vec![]));
        assert_eq!(q.blockers(None, X), Some(vec![1]));
        let x = q.enqueue(2, X, "x");
        q.enqueue(3, S, "s");
        // Behind s and x: s does not conflict, x does, and x stands behind 1.
        assert_eq!(q.blockers(None, S), Some(vec![2, 1]));
        assert_eq!(q.blockers(None, X), Some(vec![3, 2, 1]));
        assert_eq!(q.blockers(Some(x), X), Some(vec![1]));
        q.remove(x);
        assert_eq!(q.blockers(Some(x), X), None);
    }

    #[test]
    fn a_grant_that_nobody_accepts_goes_to_the_next() {
        let mut q = queue();
        let hold = q.hold(0, X);
        let place = q.enqueue(1, X, "asleep");
        q.enqueue(2, X, "awake");
        q.release(hold);
        let (offered, _) = q.grant_front(|_| true).unwrap();
        assert_eq!(q.stale_offers(|_| false), (vec![], true));
        assert_eq!(q.stale_offers(|_| false), (vec![offered], false));
        q.take_back(offered);
        let (hold, name) = q.grant_front(|_| true).unwrap();
        assert_eq!(name, "awake");
        // Accepted, hence never stale.
        assert_eq!(q.stale_offers(|_| true), (vec![], false));
        assert_eq!(q.stale_offers(|_| false), (vec![], false));
        // Who comes back has the place it had.
        q.enqueue(3, X, "later");
        q.come_back(place);
        q.release(hold);
        assert_eq!(q.grant_front(|_| false).map(|g| g.1), Some("asleep"));
    }

    #[test]
    fn eviction_ends_holds_and_names_the_places() {
        let mut q = queue();
        let hold = q.hold(1, S);
        q.hold(2, S);
        let place = q.enqueue(1, X, "x");
        assert_eq!(q.evict(&1), [place]);
        assert!(!q.holds(hold));
        assert!(q.is_held());
    }
}
