//! The identities of the locks that this process has open on one cluster.

use crate::session::lock;
use clasp_engine::backend::Identity;
use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Numbers for the names of open locks, the same in every space of a cluster, so that all
/// guests of a process share what it holds.
pub(crate) struct Names {
    realm: u64,
    /// The number of each name, and how often it is open.
    open: Mutex<HashMap<String, (u64, usize)>>,
}

impl Names {
    pub(crate) fn new() -> Names {
        static REALMS: AtomicU64 = AtomicU64::new(0);
        Names {
            realm: REALMS.fetch_add(1, Ordering::Relaxed) | 1 << 63,
            open: Mutex::default(),
        }
    }

    fn identity(&self, lock: u64) -> Identity {
        Identity::Named {
            realm: self.realm,
            lock,
        }
    }

    /// A name that is not open gets a number that no other had.
    pub(crate) fn open(&self, name: &str) -> Identity {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let mut open = lock(&self.open);
        let fresh = || (NUMBERS.fetch_add(1, Ordering::Relaxed), 0);
        let (number, uses) = open.entry(name.to_owned()).or_insert_with(fresh);
        *uses += 1;
        self.identity(*number)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Identity> {
        let open = lock(&self.open);
        open.get(name).map(|(number, _)| self.identity(*number))
    }

    pub(crate) fn close(&self, name: &str) {
        let mut open = lock(&self.open);
        if let Some((_, uses)) = open.get_mut(name) {
            *uses -= 1;
            if *uses == 0 {
                open.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_lock_while_it_is_open() {
        let names = Names::new();
        let (first, other) = (names.open("a"), names.open("b"));
        assert_ne!(first, other);
        assert_eq!(names.open("a"), first);
        names.close("a");
        assert_eq!(names.find("a"), Some(first.clone()));
        names.close("a");
        assert_eq!(names.find("a"), None);
        assert_ne!(names.open("a"), first);
        assert_ne!(Names::new().open("a"), names.open("a"));
    }
}
