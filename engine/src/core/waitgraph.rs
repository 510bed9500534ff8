//! Whether a request that blocks its owner could ever be granted (S9).
//!
//! Such a request waits for the owners of conflicting holds, grants that are not
//! collected included, and for those of conflicting earlier requests, which will
//! hold before it does. A blocked owner releases nothing until its request ends.
//! If a chain of these leads back to the owner, only a timeout could end it.
//!
//! An owner that holds nothing and asks for nothing else need not be in the graph:
//! those that wait for its one request wait for what it waits for, in the same queue.
//!
//! Arrivals of the others are serialized by the graph's mutex, and a cycle
//! needs one of them as its last edge: blocked owners ask for nothing new, and
//! all that they are granted meanwhile they had asked for before. So each arrival
//! is checked once.

use super::queue::RequestId;
use crate::Mode;
use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Where an owner is blocked.
#[derive(Debug, Clone)]
pub(crate) struct BlockedOn<L> {
    /// The lock.
    pub(crate) lock: L,
    pub(crate) request: RequestId,
    pub(crate) mode: Mode,
    /// What the owner calls the lock.
    pub(crate) name: String,
}

/// The blocked owners of a host. `O` names an owner, `L` a lock.
#[derive(Debug)]
pub(crate) struct WaitGraph<O, L> {
    blocked: HashMap<O, BlockedOn<L>>,
}

impl<O, L> Default for WaitGraph<O, L> {
    fn default() -> Self {
        WaitGraph {
            blocked: HashMap::new(),
        }
    }
}

/// An owner that was reached, and on whose account.
struct Reached<O> {
    owner: O,
    /// Its place in the list of those that were reached.
    from: Option<usize>,
}

impl<O: Copy + Eq + Hash, L> WaitGraph<O, L> {
    pub(crate) fn block(&mut self, owner: O, on: BlockedOn<L>) {
        self.blocked.insert(owner, on);
    }

    pub(crate) fn unblock(&mut self, owner: O) {
        self.blocked.remove(&owner);
    }

    /// Whether a request for `lock` that blocks `owner` would wait for itself;
    /// if so, the names of the locks on the way, that of `lock` apart.
    ///
    /// `blockers` answers as [`Queue::blockers`](super::queue::Queue::blockers)
    /// does for a lock, `key` tells locks apart.
    pub(crate) fn find_cycle<K: Eq + Hash>(
        &self,
        owner: O,
        lock: &L,
        mode: Mode,
        key: impl Fn(&L) -> K,
        blockers: impl Fn(&L, Option<RequestId>, Mode, [RequestId; 2]) -> Option<Vec<O>>,
    ) -> Option<Vec<String>> {
        let mut reached: Vec<Reached<O>> = Vec::new();
        let mut known = HashSet::new();
        let mut reach = |reached: &mut Vec<Reached<O>>, owners: Vec<O>, from| {
            for owner in owners {
                if known.insert(owner) {
                    reached.push(Reached { owner, from });
                }
            }
        };
        // How far the queue of each lock has been searched for shared and for
        // exclusive requests, so that no request is looked at more than twice.
        // An exclusive request waits for all that a shared one waits for.
        let mut searched: HashMap<K, [RequestId; 2]> = HashMap::new();
        let note = |ends: &mut [RequestId; 2], mode, request| {
            for end in &mut ends[..=usize::from(mode == Mode::Exclusive)] {
                *end = (*end).max(request);
            }
        };
        let first = blockers(lock, None, mode, [0; 2]);
        reach(&mut reached, first.unwrap_or_default(), None);
        note(searched.entry(key(lock)).or_default(), mode, RequestId::MAX);
        let mut next = 0;
        while let Some(at) = reached.get(next) {
            if at.owner == owner {
                return Some(self.names(&reached, next));
            }
            if let Some(on) = self.blocked.get(&at.owner) {
                let ends = searched.entry(key(&on.lock)).or_default();
                if let Some(owners) = blockers(&on.lock, Some(on.request), on.mode, *ends) {
                    note(ends, on.mode, on.request);
                    reach(&mut reached, owners, Some(next));
                }
            }
            next += 1;
        }
        None
    }

    /// The locks on the way to the owner at a place of the list.
    fn names(&self, reached: &[Reached<O>], at: usize) -> Vec<String> {
        let mut names = Vec::new();
        let mut from = reached[at].from;
        while let Some(at) = from {
            let on = self.blocked.get(&reached[at].owner);
            names.extend(on.map(|on| on.name.clone()));
            from = reached[at].from;
        }
        names.reverse();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Permits,
        core::queue::{Queue, Waiting},
    };
    use std::cell::Cell;

    /// Thousands of owners that are blocked at one lock, and reached in any
    /// order, cost no more than twice their number.
    #[test]
    fn a_long_queue_is_searched_once() {
        const OWNERS: u64 = 2_000;
        for order in [false, true] {
            let mut graph = WaitGraph::default();
            let mut queue = Queue::new(0);
            queue.hold(OWNERS, Mode::Exclusive.into(), Permits::NONE);
            for owner in 0..OWNERS {
                let mode = if owner % 3 == 0 {
                    Mode::Exclusive
                } else {
                    Mode::Shared
                };
                let request = queue.enqueue(Waiting {
                    owner,
                    amount: mode.into(),
                    wait: true,
                    provisional: false,
                    request: (),
                });
                let on = BlockedOn {
                    lock: "b",
                    request,
                    mode,
                    name: "b".into(),
                };
                graph.block(owner, on);
            }
            let found = Cell::new(0);
            let blockers = |lock: &&str, request, mode, searched| match *lock {
                "a" if order => Some((0..OWNERS).collect()),
                "a" => Some((0..OWNERS).rev().collect()),
                _ => {
                    let owners = queue.blockers(request, mode, searched);
                    found.set(found.get() + owners.as_ref().map_or(0, Vec::len));
                    owners
                }
            };
            let asker = OWNERS + 1;
            let cycle = graph.find_cycle(asker, &"a", Mode::Exclusive, |lock| *lock, blockers);
            assert_eq!(cycle, None);
            assert!(found.get() <= 4 * OWNERS as usize, "{}", found.get());
        }
    }

    #[test]
    fn a_cycle_is_named_in_order() {
        let mut graph = WaitGraph::default();
        for (owner, lock, name) in [(1, 'b', "b.lock"), (2, 'c', "c.lock")] {
            let on = BlockedOn {
                lock,
                request: 1,
                mode: Mode::Exclusive,
                name: name.into(),
            };
            graph.block(owner, on);
        }
        // 1 holds a, 2 holds b, 0 holds c and asks for a.
        let blockers = |lock: &char, _, _, _| match lock {
            'a' => Some(vec![1]),
            'b' => Some(vec![2]),
            _ => Some(vec![0]),
        };
        let cycle = graph.find_cycle(0, &'a', Mode::Exclusive, |lock| *lock, blockers);
        assert_eq!(cycle, Some(vec!["b.lock".to_owned(), "c.lock".to_owned()]));
        graph.unblock(2);
        let cycle = graph.find_cycle(0, &'a', Mode::Exclusive, |lock| *lock, blockers);
        assert_eq!(cycle, None);
    }
}
