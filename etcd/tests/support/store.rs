//! A server of keys, for models.

use clasp_etcd::txn::{Answer, Found, Key, Keys, Step, Test, Txn};
use std::collections::BTreeMap;

/// The keys, as of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) revision: i64,
    /// Created, changed, lease.
    pub(crate) keys: BTreeMap<Key, (i64, i64, i64)>,
}

impl Store {
    pub(crate) fn find(&self, keys: &Keys) -> Vec<Found> {
        let found = self.keys.iter().filter(|(key, _)| keys.contains(key));
        found
            .map(|(key, (created, changed, _))| Found {
                key: key.clone(),
                created: *created,
                changed: *changed,
            })
            .collect()
    }

    fn holds(&self, test: &Test) -> bool {
        let one = |key: &Key| self.keys.get(key).copied().unwrap_or_default();
        match test {
            Test::Absent(keys) => self.find(keys).is_empty(),
            Test::CreatedAt(key, revision) => one(key).0 == *revision,
            Test::ChangedAt(key, revision) => one(key).1 == *revision,
        }
    }

    /// Carries a transaction out. Without its lease nothing can be put.
    pub(crate) fn carry_out(&mut self, lease: i64, alive: bool, txn: &Txn) -> Option<Answer> {
        let held = txn.tests.iter().all(|test| self.holds(test));
        let steps = if held { &txn.then } else { &txn.otherwise };
        if !alive && steps.iter().any(|step| matches!(step, Step::Put(_))) {
            return None;
        }
        let next = self.revision + 1;
        let mut answer = Answer {
            held,
            ..Answer::default()
        };
        for step in steps {
            match step {
                Step::Put(key) => {
                    let created = self.keys.get(key).map_or(next, |found| found.0);
                    self.keys.insert(key.clone(), (created, next, lease));
                    self.revision = next;
                }
                Step::Delete(keys) => {
                    let found = self.find(keys);
                    for found in &found {
                        self.keys.remove(&found.key);
                        self.revision = next;
                    }
                }
                Step::Get(keys) => answer.found.push(self.find(keys)),
            }
        }
        answer.revision = self.revision;
        Some(answer)
    }
}
