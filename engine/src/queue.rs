//! Who holds a lock and who waits for it, inside one host (S7).
//!
//! First come, first served; adjacent shared requests are granted together. No
//! input or output, no clock, no threads: the caller does as this says.

use crate::Mode;
use std::collections::BTreeMap;

/// A place in the queue. Later places have greater tickets.
pub(crate) type Ticket = u64;

/// One granted request, until it is released.
pub(crate) type HoldId = u64;

struct Holder<O> {
    id: HoldId,
    owner: O,
    mode: Mode,
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
    // All holders are shared, or there is one.
    holders: Vec<Holder<O>>,
    waiting: BTreeMap<Ticket, Waiting<O, R>>,
    next: u64,
}

impl<O: Clone + PartialEq, R> Queue<O, R> {
    pub(crate) fn new() -> Self {
        Queue {
            holders: Vec::new(),
            waiting: BTreeMap::new(),
            next: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether no holder stands against `mode`.
    fn fits(&self, mode: Mode) -> bool {
        self.holders
            .first()
            .is_none_or(|holder| !holder.mode.conflicts(mode))
    }

    /// Whether a new request may be granted now: it fits and overtakes nobody.
    /// An owner that holds shared may overtake with a further shared request,
    /// or a queued writer would make it wait for itself (S9).
    pub(crate) fn admits(&self, owner: &O, mode: Mode) -> bool {
        self.fits(mode)
            && (self.waiting.is_empty()
                || mode == Mode::Shared && self.holders.iter().any(|h| h.owner == *owner))
    }

    pub(crate) fn hold(&mut self, owner: O, mode: Mode) -> HoldId {
        debug_assert!(self.fits(mode));
        let id = self.number();
        self.holders.push(Holder { id, owner, mode });
        id
    }

    /// Ends a hold; `false` if there is none such.
    pub(crate) fn release(&mut self, id: HoldId) -> bool {
        // From the end: guards are mostly released in reverse.
        match self.holders.iter().rposition(|h| h.id == id) {
            Some(at) => {
                self.holders.swap_remove(at);
                true
            }
            None => false,
        }
    }

    pub(crate) fn holds(&self, id: HoldId) -> bool {
        self.holders.iter().any(|h| h.id == id)
    }

    pub(crate) fn is_held(&self) -> bool {
        !self.holders.is_empty()
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
        self.waiting.remove(&ticket)
    }

    /// Grants the front request if it fits beside the holders.
    pub(crate) fn grant_front(&mut self) -> Option<(HoldId, R)> {
        let (ticket, front) = self.front()?;
        if !self.fits(front.mode) {
            return None;
        }
        let granted = self.waiting.remove(&ticket)?;
        Some((self.hold(granted.owner, granted.mode), granted.request))
    }

    /// Ends every hold of `owner` and lists its places in the queue.
    pub(crate) fn evict(&mut self, owner: &O) -> Vec<Ticket> {
        self.holders.retain(|h| h.owner != *owner);
        self.waiting
            .iter()
            .filter(|(_, w)| w.owner == *owner)
            .map(|(ticket, _)| *ticket)
            .collect()
    }

    /// The owners that a request stands behind: of `mode` and at `place`, or
    /// at the end of the queue. Those are the owners of conflicting earlier
    /// requests, of whatever these stand behind in turn, and of conflicting
    /// holds. A request that has left the queue stands behind nobody.
    pub(crate) fn blockers(&self, place: Option<Ticket>, mode: Mode) -> Vec<O> {
        if place.is_some_and(|place| !self.waiting.contains_key(&place)) {
            return Vec::new();
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
        for h in &self.holders {
            if exclusive || h.mode == Mode::Exclusive {
                any_conflict.push(h.owner.clone());
            }
        }
        any_conflict
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
        assert_eq!(q.grant_front(), None);
        assert!(q.release(hold));
        assert!(!q.release(hold));
        let granted: Vec<_> = std::iter::from_fn(|| q.grant_front()).collect();
        assert_eq!(
            granted.iter().map(|g| g.1).collect::<Vec<_>>(),
            ["s1", "s2"]
        );
        for (hold, _) in granted {
            assert!(q.release(hold));
        }
        assert_eq!(q.grant_front().map(|g| g.1), Some("x"));
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
        assert_eq!(q.grant_front(), None);
        assert!(q.remove(x).is_some());
        assert!(q.remove(x).is_none());
        assert_eq!(q.grant_front().map(|g| g.1), Some("s"));
    }

    #[test]
    fn blockers_are_conflicting_holders_and_the_chain_of_earlier_requests() {
        let mut q = queue();
        q.hold(1, S);
        assert_eq!(q.blockers(None, S), []);
        assert_eq!(q.blockers(None, X), [1]);
        let x = q.enqueue(2, X, "x");
        q.enqueue(3, S, "s");
        // Behind s and x: s does not conflict, x does, and x stands behind 1.
        assert_eq!(q.blockers(None, S), [2, 1]);
        assert_eq!(q.blockers(None, X), [3, 2, 1]);
        assert_eq!(q.blockers(Some(x), X), [1]);
        q.remove(x);
        assert_eq!(q.blockers(Some(x), X), []);
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
