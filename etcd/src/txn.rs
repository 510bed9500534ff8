//! The transactions of the recipe, as data. The server carries each out at once or not
//! at all.
//!
//! Lock `N` below the prefix `P` has these keys, all bound to the lease of their host:
//!
//! - `P/N//q/<id>` for every request that holds the lock or stands in line,
//! - `P/N//x/<id>` beside it if the request is exclusive,
//! - `P//hosts/<lease>`, the key of the host.
//!
//! Semaphore `N` has these, of which the last is shared with the locks:
//!
//! - `P/N//w/<id>` for every request that stands in line,
//! - `P/N//p/<number>/<id>` for every permit that is held, by its number,
//! - `P//hosts/<lease>`.
//!
//! An id is never used again. Every transaction that puts a key of a lock or a semaphore
//! requires that the key of the host was not changed since ([`Fence`]): by changing it, a
//! host makes sure that a copy of the transaction which is still under way fails.

use clasp_engine::{LockName, Mode, Permits};

/// A key of etcd.
pub type Key = Vec<u8>;

/// Which keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Keys {
    /// This one.
    One(Key),
    /// All that begin with this.
    Below(Key),
    /// From the first, without the second.
    Between(Key, Key),
}

impl Keys {
    /// The range as etcd has it: from the first key, without the second.
    pub(crate) fn ends(&self) -> (Key, Key) {
        match self {
            Keys::One(key) => (key.clone(), [key, &[0][..]].concat()),
            Keys::Below(prefix) => (prefix.clone(), after_all(prefix)),
            Keys::Between(from, to) => (from.clone(), to.clone()),
        }
    }

    /// Whether a key is among them.
    pub fn contains(&self, key: &[u8]) -> bool {
        let (from, to) = self.ends();
        from.as_slice() <= key && key < to.as_slice()
    }
}

/// The first key after all that begin with `prefix`, whose last byte is not 255.
fn after_all(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// There are no such keys.
    Absent(Keys),
    /// The key was created by this revision.
    CreatedAt(Key, i64),
    /// The key was changed last by this revision.
    ChangedAt(Key, i64),
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Puts a key, bound to the lease of the host.
    Put(Key),
    /// Deletes keys.
    Delete(Keys),
    /// Reads keys.
    Get(Keys),
}

/// If all `tests` hold, all of `then` is done, otherwise all of `otherwise`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Txn {
    /// The conditions.
    pub tests: Vec<Test>,
    /// What is done if they hold.
    pub then: Vec<Step>,
    /// What is done if one does not.
    pub otherwise: Vec<Step>,
}

/// A key that a transaction has read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Found {
    /// The key.
    pub key: Key,
    /// The revision that created it.
    pub created: i64,
    /// The revision that changed it last.
    pub changed: i64,
}

/// What a transaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The revision of the store after it; of what it put, if it put anything.
    pub revision: i64,
    /// Whether the conditions held.
    pub held: bool,
    /// What each `Get` found, in their order.
    pub found: Vec<Vec<Found>>,
}

/// The key of a host, and the revision that changed it last.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The key.
    pub key: Key,
    /// The revision.
    pub at: i64,
}

impl Fence {
    fn test(&self) -> Test {
        Test::ChangedAt(self.key.clone(), self.at)
    }

    fn get(&self) -> Step {
        Step::Get(Keys::One(self.key.clone()))
    }
}

/// Names one request; never used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(String);

impl Id {
    /// The request of this number, of the host with this lease.
    pub fn new(lease: i64, number: u64) -> Id {
        Id(format!("{lease:016x}-{number:016x}"))
    }

    /// Its text in keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of a host.
pub fn host_key(prefix: &str, lease: i64) -> Key {
    format!("{prefix}//hosts/{lease:016x}").into_bytes()
}

fn delete(keys: &[Key]) -> Vec<Step> {
    let keys = keys.iter().cloned();
    keys.map(|key| Step::Delete(Keys::One(key))).collect()
}

/// Takes keys of requests away.
pub fn release(keys: &[Key]) -> Txn {
    Txn {
        then: delete(keys),
        ..Txn::default()
    }
}

/// Takes keys of requests away that may have been put or not, and makes sure that they are
/// not put later.
pub fn take_back(fence: &Fence, keys: &[Key]) -> Txn {
    let mut then = vec![Step::Put(fence.key.clone())];
    then.extend(delete(keys));
    Txn {
        tests: vec![fence.test()],
        then,
        otherwise: vec![fence.get()],
    }
}

/// The keys of one lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LockKeys(String);

impl LockKeys {
    /// The keys of the lock called `name`.
    pub fn new(prefix: &str, name: &LockName) -> LockKeys {
        LockKeys(format!("{prefix}/{}//", name.as_str()))
    }

    /// What all of them begin with.
    pub fn all(&self) -> Key {
        self.0.clone().into_bytes()
    }

    /// The key of a request.
    pub fn request(&self, id: &Id) -> Key {
        format!("{}q/{}", self.0, id.0).into_bytes()
    }

    /// The second key of an exclusive request.
    pub fn exclusive(&self, id: &Id) -> Key {
        format!("{}x/{}", self.0, id.0).into_bytes()
    }

    /// The keys of the requests with which one of this mode cannot share.
    pub fn conflicting(&self, mode: Mode) -> Keys {
        let kind = match mode {
            Mode::Exclusive => "q/",
            Mode::Shared => "x/",
        };
        Keys::Below(format!("{}{kind}", self.0).into_bytes())
    }

    fn put(&self, id: &Id, mode: Mode) -> Vec<Step> {
        let mut steps = vec![Step::Put(self.request(id))];
        if mode == Mode::Exclusive {
            steps.push(Step::Put(self.exclusive(id)));
        }
        steps
    }

    /// All keys that requests may have.
    pub fn of(&self, ids: &[Id]) -> Vec<Key> {
        let keys = |id| [self.request(id), self.exclusive(id)];
        ids.iter().flat_map(keys).collect()
    }

    /// Takes the lock if no request conflicts.
    pub fn try_lock(&self, fence: &Fence, id: &Id, mode: Mode) -> Txn {
        Txn {
            tests: vec![fence.test(), Test::Absent(self.conflicting(mode))],
            then: self.put(id, mode),
            otherwise: vec![fence.get()],
        }
    }

    /// Puts a request in line, in place of others of the same host, and reads those
    /// with which it conflicts.
    pub fn stand_in_line(&self, fence: &Fence, id: &Id, mode: Mode, instead: &[Id]) -> Txn {
        let mut then = delete(&self.of(instead));
        then.extend(self.put(id, mode));
        then.push(Step::Get(self.conflicting(mode)));
        Txn {
            tests: vec![fence.test()],
            then,
            otherwise: vec![fence.get()],
        }
    }

    /// Reads the requests with which one of this mode conflicts, and the request itself.
    pub fn look(&self, id: Option<&Id>, mode: Mode) -> Txn {
        let mut then = vec![Step::Get(self.conflicting(mode))];
        then.extend(id.map(|id| Step::Get(Keys::One(self.request(id)))));
        Txn {
            then,
            ..Txn::default()
        }
    }

    /// Makes an exclusive request shared.
    pub fn downgrade(&self, id: &Id) -> Txn {
        Txn {
            tests: Vec::new(),
            then: vec![
                Step::Delete(Keys::One(self.exclusive(id))),
                Step::Get(Keys::One(self.request(id))),
            ],
            otherwise: Vec::new(),
        }
    }

    /// Makes a shared request exclusive if these are the only requests. The first of them
    /// stays, created by revision `created`.
    pub fn upgrade(&self, fence: &Fence, ids: &[Id], created: i64) -> Txn {
        let Some((first, others)) = ids.split_first() else {
            return Txn::default();
        };
        let mut tests = vec![fence.test(), Test::CreatedAt(self.request(first), created)];
        let (mut from, end) = self.conflicting(Mode::Exclusive).ends();
        let mut own: Vec<_> = ids.iter().map(|id| self.request(id)).collect();
        own.sort();
        for key in own {
            let (_, next) = Keys::One(key.clone()).ends();
            tests.push(Test::Absent(Keys::Between(from, key)));
            from = next;
        }
        tests.push(Test::Absent(Keys::Between(from, end)));
        let mut then = vec![Step::Put(self.exclusive(first))];
        then.extend(delete(&self.of(others)));
        Txn {
            tests,
            then,
            otherwise: vec![fence.get(), Step::Get(Keys::One(self.request(first)))],
        }
    }

    /// After an upgrade whose answer is unknown: makes sure that it is not done later, and
    /// reads whether it was done.
    pub fn upgraded(&self, fence: &Fence, id: &Id) -> Txn {
        Txn {
            tests: vec![fence.test()],
            then: vec![
                Step::Put(fence.key.clone()),
                Step::Get(Keys::One(self.exclusive(id))),
            ],
            otherwise: vec![fence.get()],
        }
    }
}

/// The keys of one semaphore.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SemaphoreKeys(String);

impl SemaphoreKeys {
    /// The keys of the semaphore called `name`.
    pub fn new(prefix: &str, name: &LockName) -> SemaphoreKeys {
        SemaphoreKeys(format!("{prefix}/{}//", name.as_str()))
    }

    /// What all of them begin with.
    pub fn all(&self) -> Key {
        self.0.clone().into_bytes()
    }

    /// The key of a request in line.
    pub fn request(&self, id: &Id) -> Key {
        format!("{}w/{}", self.0, id.0).into_bytes()
    }

    /// The keys of permits that a request has.
    pub fn held(&self, permits: Permits, id: &Id) -> Vec<Key> {
        let key = |number| format!("{}p/{number:02}/{}", self.0, id.0).into_bytes();
        permits.iter().map(key).collect()
    }

    /// Which permit a key stands for, if for any.
    pub fn permit(&self, key: &[u8]) -> Option<u8> {
        let rest = key.strip_prefix(format!("{}p/", self.0).as_bytes())?;
        let (number, _) = std::str::from_utf8(rest).ok()?.split_once('/')?;
        number.parse().ok()
    }

    fn below(&self, kind: &str) -> Keys {
        Keys::Below(format!("{}{kind}", self.0).into_bytes())
    }

    /// Reads the requests in line, then the permits that are held.
    fn get(&self) -> [Step; 2] {
        ["w/", "p/"].map(|kind| Step::Get(self.below(kind)))
    }

    fn are_free(&self, permits: Permits) -> impl Iterator<Item = Test> {
        let keys = permits
            .iter()
            .map(|number| self.below(&format!("p/{number:02}/")));
        keys.map(Test::Absent)
    }

    /// Takes permits if they are free and nobody stands in line.
    pub fn try_take(&self, fence: &Fence, id: &Id, permits: Permits) -> Txn {
        let mut tests = vec![fence.test(), Test::Absent(self.below("w/"))];
        tests.extend(self.are_free(permits));
        Txn {
            tests,
            then: self.held(permits, id).into_iter().map(Step::Put).collect(),
            otherwise: [fence.get()].into_iter().chain(self.get()).collect(),
        }
    }

    /// Puts a request in line.
    pub fn stand_in_line(&self, fence: &Fence, id: &Id) -> Txn {
        let mut then = vec![Step::Put(self.request(id))];
        then.extend(self.get());
        Txn {
            tests: vec![fence.test()],
            then,
            otherwise: vec![fence.get()],
        }
    }

    /// Takes permits if they are free, for a request that was put in line by revision
    /// `created` and has nobody before it.
    pub fn take(&self, fence: &Fence, id: &Id, created: i64, permits: Permits) -> Txn {
        let request = self.request(id);
        let mut tests = vec![fence.test(), Test::CreatedAt(request.clone(), created)];
        tests.extend(self.are_free(permits));
        let mut then: Vec<_> = self.held(permits, id).into_iter().map(Step::Put).collect();
        then.push(Step::Delete(Keys::One(request)));
        Txn {
            tests,
            then,
            otherwise: [fence.get()].into_iter().chain(self.get()).collect(),
        }
    }

    /// After [`take`](Self::take) with an unknown answer: makes sure that it is not done
    /// later, and reads whether it was done.
    pub fn taken(&self, fence: &Fence) -> Txn {
        let mut then = vec![Step::Put(fence.key.clone())];
        then.extend(self.get());
        Txn {
            tests: vec![fence.test()],
            then,
            otherwise: vec![fence.get()],
        }
    }

    /// Reads the requests in line and the permits that are held.
    pub fn look(&self) -> Txn {
        Txn {
            then: self.get().into(),
            ..Txn::default()
        }
    }
}
