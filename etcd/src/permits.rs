//! A request for permits of a semaphore: when it may take which. Pure: events in, state out.

use crate::txn::{Found, Id, Key, SemaphoreKeys};
use clasp_engine::Permits;
use std::collections::BTreeSet;

/// The numbers of the permits that are held, as far as their keys were found.
pub fn held(keys: &SemaphoreKeys, found: &[Found]) -> Permits {
    let numbers = found.iter().filter_map(|found| keys.permit(&found.key));
    let ones = numbers.map(Permits::one);
    ones.fold(Permits::NONE, Permits::with)
}

/// What a request in line does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It waits for an event.
    Wait,
    /// It reads the keys again.
    Look,
    /// It tries to take these permits.
    Take(Permits),
    /// It is not in line any more, because somebody has deleted its key.
    Gone,
}

/// A request in line.
///
/// It waits for the requests that were there when it came; as ids are never used again, their
/// number only falls. Once it is the first, it takes permits as soon as enough are free. What
/// it knows of those that are held may be old: the transaction that takes permits fails then,
/// and reads them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InLine {
    keys: SemaphoreKeys,
    id: Id,
    /// How many permits there are.
    of: u8,
    /// The revision that put it.
    revision: i64,
    before: BTreeSet<Key>,
    /// The permits that are held; `None` if they are to be read.
    held: Option<BTreeSet<Key>>,
    gone: bool,
}

fn all(found: &[Found]) -> BTreeSet<Key> {
    found.iter().map(|found| found.key.clone()).collect()
}

impl InLine {
    /// The request, put by `revision`, whose transaction found these requests in line, itself
    /// among them, and these permits held.
    pub fn new(
        keys: &SemaphoreKeys,
        id: Id,
        of: u8,
        revision: i64,
        line: &[Found],
        held: &[Found],
    ) -> InLine {
        let own = keys.request(&id);
        // A copy of the transaction may have put it before.
        let created = line.iter().find(|found| found.key == own);
        let revision = created.map_or(revision, |found| found.created);
        let mut before = all(line);
        before.remove(&own);
        InLine {
            keys: keys.clone(),
            id,
            of,
            revision,
            before,
            held: Some(all(held)),
            gone: false,
        }
    }

    /// Which request it is.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The revision that put it.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether somebody has deleted its key.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// What it does next to get so many permits.
    pub fn next(&self, count: u8) -> Next {
        if self.gone {
            return Next::Gone;
        }
        if !self.before.is_empty() {
            return Next::Wait;
        }
        let Some(held) = &self.held else {
            return Next::Look;
        };
        let held = held.iter().filter_map(|key| self.keys.permit(key));
        let free = held
            .map(Permits::one)
            .fold(Permits::first(self.of), Permits::without);
        free.choose(count).map_or(Next::Wait, Next::Take)
    }

    /// A watch tells of deletions after `revision` only. Answers whether some may have been
    /// missed, so that the keys have to be read again.
    pub fn watched_since(&self, revision: i64) -> bool {
        revision > self.revision
    }

    /// A key was deleted.
    pub fn deleted(&mut self, key: &[u8]) {
        if self.before.remove(key) {
            // It may have taken permits.
            self.held = None;
        }
        if let Some(held) = &mut self.held {
            held.remove(key);
        }
        self.gone |= key == self.keys.request(&self.id);
    }

    /// The requests in line and the permits that are held were read again.
    pub fn read_again(&mut self, line: &[Found], held: &[Found]) {
        let line = all(line);
        self.before.retain(|key| line.contains(key));
        self.gone |= !line.contains(&self.keys.request(&self.id));
        self.held = Some(all(held));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clasp_engine::LockName;

    fn found(keys: impl IntoIterator<Item = Key>) -> Vec<Found> {
        let found = |key| Found {
            key,
            created: 12,
            changed: 1,
        };
        keys.into_iter().map(found).collect()
    }

    #[test]
    fn the_first_in_line_takes_permits_that_are_free() {
        let keys = SemaphoreKeys::new("/p", &LockName::parse("a.sem", 100).unwrap());
        let [own, first, holder] = [1, 2, 3].map(|number| Id::new(7, number));
        let line = found([keys.request(&own), keys.request(&first)]);
        let taken = found(keys.held(Permits::first(2), &holder));
        assert_eq!(held(&keys, &taken), Permits::first(2));
        let mut waiting = InLine::new(&keys, own.clone(), 3, 12, &line, &taken);
        assert!(waiting.watched_since(13) && !waiting.watched_since(12));
        assert_eq!(waiting.next(1), Next::Wait);
        // The one before it may have taken the third permit.
        waiting.deleted(&keys.request(&first));
        assert_eq!(waiting.next(1), Next::Look);
        let third = keys.held(Permits::one(2), &first);
        waiting.read_again(&line[..1], &[taken, found(third.clone())].concat());
        assert_eq!(waiting.next(1), Next::Wait);
        waiting.deleted(&third[0]);
        assert_eq!(waiting.next(1), Next::Take(Permits::one(2)));
        assert_eq!(waiting.next(2), Next::Wait);
        waiting.deleted(&keys.held(Permits::one(0), &holder)[0]);
        let both = Permits::one(0).with(Permits::one(2));
        assert_eq!(waiting.next(2), Next::Take(both));
        waiting.deleted(&keys.request(&own));
        assert_eq!(waiting.next(2), Next::Gone);
    }

    #[test]
    fn a_request_that_is_not_found_again_is_gone() {
        let keys = SemaphoreKeys::new("/p", &LockName::parse("a.sem", 100).unwrap());
        let own = Id::new(7, 1);
        let line = found([keys.request(&own)]);
        let mut waiting = InLine::new(&keys, own, 64, 12, &line, &[]);
        assert_eq!(waiting.next(64), Next::Take(Permits::first(64)));
        waiting.read_again(&[], &[]);
        assert!(waiting.is_gone());
    }
}
