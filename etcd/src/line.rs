//! A request in line: which requests it waits for, and when it is granted. Pure: events
//! in, state out.

use crate::txn::{Found, Id, Key, LockKeys};
use clasp_engine::Mode;
use std::collections::HashSet;

/// A request in line.
///
/// It waits for the conflicting requests that were there when it came. As ids are never
/// used again, their number only falls, and the request holds the lock as soon as none
/// is left, whatever events were missed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    keys: LockKeys,
    id: Id,
    mode: Mode,
    /// The revision that put it.
    revision: i64,
    before: HashSet<Key>,
    gone: bool,
}

impl Waiting {
    /// The request, put by `revision`, whose transaction found these conflicting requests.
    pub fn new(keys: &LockKeys, id: Id, mode: Mode, revision: i64, found: &[Found]) -> Waiting {
        let own = [keys.request(&id), keys.exclusive(&id)];
        let before = found.iter().map(|found| found.key.clone());
        Waiting {
            keys: keys.clone(),
            before: before.filter(|key| !own.contains(key)).collect(),
            id,
            mode,
            revision,
            gone: false,
        }
    }

    /// Which request it is.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// How it asks for the lock.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The revision that put it.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether it holds the lock.
    pub fn is_granted(&self) -> bool {
        self.before.is_empty() && !self.gone
    }

    /// Whether it is not in line any more, because somebody has deleted its key.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// A watch tells of deletions after `revision` only. Answers whether some may have been
    /// missed, so that the keys have to be read again.
    pub fn watched_since(&self, revision: i64) -> bool {
        revision > self.revision
    }

    /// A key was deleted.
    pub fn deleted(&mut self, key: &[u8]) {
        self.before.remove(key);
        self.gone |= key == self.keys.request(&self.id);
    }

    /// The conflicting requests were read again, and the request itself.
    pub fn read_again(&mut self, found: &[Found], own: &[Found]) {
        let there: HashSet<_> = found.iter().map(|found| &found.key).collect();
        self.before.retain(|key| there.contains(key));
        self.gone |= own.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clasp_engine::LockName;

    fn keys() -> LockKeys {
        LockKeys::new("/p", &LockName::parse("a.lock", 100).unwrap())
    }

    fn found(key: Key, created: i64) -> Found {
        Found {
            key,
            created,
            changed: created,
        }
    }

    #[test]
    fn it_holds_the_lock_when_those_before_have_gone() {
        let keys = keys();
        let [own, first, second] = [1, 2, 3].map(|number| Id::new(7, number));
        let before = [
            found(keys.request(&first), 10),
            found(keys.request(&second), 11),
            found(keys.request(&own), 12),
        ];
        let mut waiting = Waiting::new(&keys, own.clone(), Mode::Exclusive, 12, &before);
        assert!(!waiting.is_granted());
        waiting.deleted(&keys.request(&first));
        // The second key of an exclusive request goes with the first.
        waiting.deleted(&keys.exclusive(&first));
        assert!(!waiting.is_granted());
        assert!(waiting.watched_since(13) && !waiting.watched_since(12));
        waiting.read_again(&[found(keys.request(&Id::new(8, 1)), 14)], &before[2..]);
        assert!(waiting.is_granted());
        waiting.deleted(&keys.request(&own));
        assert!(waiting.is_gone() && !waiting.is_granted());
    }

    #[test]
    fn a_request_that_is_not_found_again_is_gone() {
        let keys = keys();
        let own = Id::new(7, 1);
        let mut waiting = Waiting::new(&keys, own, Mode::Shared, 12, &[]);
        assert!(waiting.is_granted());
        waiting.read_again(&[], &[]);
        assert!(waiting.is_gone() && !waiting.is_granted());
    }
}
