//! The recipe of semaphores, explored as that of locks is in `model.rs`: transactions and the
//! state of a request in line are the crate's own, and the flow is that of `semaphore.rs`.
#![allow(missing_docs, reason = "tests")]

#[path = "support/store.rs"]
mod store;

use clasp_engine::{LockName, Permits};
use clasp_etcd::{
    permits::{InLine, Next, held},
    txn::{
        Answer, Fence, Found, Id, Key, Keys, SemaphoreKeys, Test, Txn, host_key, release, take_back,
    },
};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::{BTreeMap, BTreeSet};
use store::Store;

/// What is wrong with the recipe, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Transactions do not require that the key of the host is unchanged.
    NoFence,
    /// A try takes permits that are not free.
    NoLook,
    /// A host that is told that its transaction has failed does not look whether a copy of it has
    /// been carried out before.
    NoCopy,
    /// A host claims its permits until the server has taken them away.
    LateDeadline,
}

struct Hosts {
    /// How many permits there are, and how many each host asks for.
    permits: u8,
    counts: Vec<u8>,
    /// How often each host acquires.
    rounds: u8,
    /// How many calls are given up, and how many requests are delivered twice.
    given_up: u8,
    repeated: u8,
    /// Leases may expire.
    expire: bool,
    fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Trying(Id, Permits),
    LiningUp(Id),
    InLine(InLine),
    Looking(InLine),
    Taking(InLine, Permits),
    /// The answer of `Taking` is unknown, and is asked for.
    Asking(InLine, Permits),
    Holding(Id, Permits),
    Releasing(Id, Permits),
    TakingBack(Vec<Key>),
    /// It has lost its session, and makes no other.
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Host {
    phase: Phase,
    fence: i64,
    numbers: u64,
    rounds: u8,
    /// The message that it waits for an answer to.
    asked: u32,
    /// The keys of which it would be told that they were deleted.
    known: BTreeSet<Key>,
    /// The server keeps its lease.
    lease: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    number: u32,
    host: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    store: Store,
    hosts: Vec<Host>,
    /// Requests that may still be delivered.
    requests: BTreeMap<Message, Txn>,
    answers: BTreeMap<Message, Answer>,
    next: u32,
    given_up: u8,
    repeated: u8,
    /// The token of the last holder of each permit, and whether one was not greater.
    tokens: BTreeMap<u8, i64>,
    fell: bool,
    acquired: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    Begin(usize),
    /// The server carries a request out; it may come again.
    Deliver(Message, bool),
    Hear(Message),
    GiveUp(usize),
    /// The watch tells a host of all that was deleted.
    Watch(usize),
    Release(usize),
    /// The time of a host is over.
    Stop(usize),
    /// The server takes away what belongs to a lease.
    Expire(usize),
}

fn keys() -> SemaphoreKeys {
    SemaphoreKeys::new("/p", &LockName::parse("a", 10).unwrap())
}

fn lease(host: usize) -> i64 {
    host as i64 + 1
}

/// The requests in line and the permits that are held, as a transaction reads them.
fn read(found: &[Vec<Found>]) -> Option<(&[Found], &[Found])> {
    match found {
        [.., line, held] => Some((line, held)),
        _ => None,
    }
}

impl Hosts {
    fn fence(&self, state: &State, host: usize) -> Fence {
        Fence {
            key: host_key("/p", lease(host)),
            at: state.hosts[host].fence,
        }
    }

    fn send(&self, state: &mut State, host: usize, mut txn: Txn, phase: Phase) {
        match self.fault {
            Fault::NoFence => txn
                .tests
                .retain(|test| !matches!(test, Test::ChangedAt(..))),
            Fault::NoLook if matches!(phase, Phase::Trying(..)) => {
                txn.tests.retain(|test| !matches!(test, Test::Absent(_)));
            }
            _ => {}
        }
        state.next += 1;
        let number = state.next;
        state.hosts[host].asked = number;
        state.hosts[host].phase = phase;
        state.requests.insert(Message { number, host }, txn);
    }

    fn id(&self, state: &mut State, host: usize) -> Id {
        state.hosts[host].numbers += 1;
        Id::new(lease(host), state.hosts[host].numbers)
    }

    fn begin(&self, state: &mut State, host: usize) {
        let id = self.id(state, host);
        let permits = Permits::first(self.counts[host]);
        let txn = keys().try_take(&self.fence(state, host), &id, permits);
        self.send(state, host, txn, Phase::Trying(id, permits));
    }

    fn line_up(&self, state: &mut State, host: usize) {
        let id = self.id(state, host);
        let txn = keys().stand_in_line(&self.fence(state, host), &id);
        self.send(state, host, txn, Phase::LiningUp(id));
    }

    fn take_back(&self, state: &mut State, host: usize, taken: Vec<Key>) {
        let txn = take_back(&self.fence(state, host), &taken);
        self.send(state, host, txn, Phase::TakingBack(taken));
    }

    fn granted(&self, state: &mut State, host: usize, id: Id, permits: Permits, revision: i64) {
        for number in permits.iter() {
            let last = state.tokens.insert(number, revision);
            state.fell |= last.is_some_and(|last| last >= revision);
        }
        state.acquired += 1;
        state.hosts[host].known.clear();
        state.hosts[host].phase = Phase::Holding(id, permits);
    }

    /// What a request in line does next.
    fn go_on(&self, state: &mut State, host: usize, waiting: InLine) {
        let fence = self.fence(state, host);
        match waiting.next(self.counts[host]) {
            Next::Wait => state.hosts[host].phase = Phase::InLine(waiting),
            Next::Gone => state.hosts[host].phase = Phase::Over,
            Next::Look => self.send(state, host, keys().look(), Phase::Looking(waiting)),
            Next::Take(permits) => {
                let (id, created) = (waiting.id().clone(), waiting.revision());
                let txn = keys().take(&fence, &id, created, permits);
                self.send(state, host, txn, Phase::Taking(waiting, permits));
            }
        }
    }

    fn read_again(&self, state: &mut State, host: usize, mut waiting: InLine, answer: &Answer) {
        if let Some((line, held)) = read(&answer.found) {
            let all = line.iter().chain(held).map(|found| found.key.clone());
            state.hosts[host].known = all.collect();
            waiting.read_again(line, held);
        }
        self.go_on(state, host, waiting);
    }

    /// The revision by which a copy of the transaction has taken permits.
    fn done(&self, permits: Permits, id: &Id, answer: &Answer) -> Option<i64> {
        let own = keys().held(permits, id);
        let (_, held) = read(&answer.found).unwrap_or_default();
        let done = held.iter().find(|found| own.contains(&found.key));
        done.filter(|_| self.fault != Fault::NoCopy)
            .map(|found| found.created)
    }

    fn heard(&self, state: &mut State, host: usize, answer: &Answer) {
        // What was read first is the key of the host.
        let changed = answer.found.first().and_then(|found| found.first());
        let changed = changed.map(|found| found.changed);
        // Whether a transaction failed because of the fence: it is sent again then.
        let is_stale = |state: &State| changed != Some(state.hosts[host].fence);
        match state.hosts[host].phase.clone() {
            Phase::Trying(id, permits) if answer.held => {
                self.granted(state, host, id, permits, answer.revision);
            }
            Phase::Trying(..)
            | Phase::LiningUp(_)
            | Phase::Taking(..)
            | Phase::TakingBack(_)
            | Phase::Asking(..)
                if !answer.held && is_stale(state) =>
            {
                let Some(fence) = changed else {
                    state.hosts[host].phase = Phase::Over;
                    return;
                };
                state.hosts[host].fence = fence;
                match state.hosts[host].phase.clone() {
                    Phase::TakingBack(taken) => self.take_back(state, host, taken),
                    Phase::Taking(waiting, _) => self.go_on(state, host, waiting),
                    Phase::Asking(waiting, permits) => self.ask(state, host, waiting, permits),
                    Phase::LiningUp(_) => self.line_up(state, host),
                    _ => self.begin(state, host),
                }
            }
            Phase::Trying(id, permits) => match self.done(permits, &id, answer) {
                Some(revision) => self.granted(state, host, id, permits, revision),
                None => self.line_up(state, host),
            },
            Phase::LiningUp(id) => {
                let (line, held) = read(&answer.found).unwrap_or_default();
                let all = line.iter().chain(held).map(|found| found.key.clone());
                state.hosts[host].known = all.collect();
                let revision = answer.revision;
                let waiting = InLine::new(&keys(), id, self.permits, revision, line, held);
                self.go_on(state, host, waiting);
            }
            Phase::Taking(waiting, permits) if answer.held => {
                let id = waiting.id().clone();
                self.granted(state, host, id, permits, answer.revision);
            }
            Phase::Taking(waiting, permits) => {
                let id = waiting.id().clone();
                match self.done(permits, &id, answer) {
                    Some(revision) => self.granted(state, host, id, permits, revision),
                    None => self.read_again(state, host, waiting, answer),
                }
            }
            Phase::Looking(waiting) => self.read_again(state, host, waiting, answer),
            Phase::Asking(waiting, permits) => {
                state.hosts[host].fence = answer.revision;
                let id = waiting.id().clone();
                match self.done(permits, &id, answer) {
                    Some(revision) => self.granted(state, host, id, permits, revision),
                    None => self.read_again(state, host, waiting, answer),
                }
            }
            Phase::TakingBack(_) => {
                state.hosts[host].fence = answer.revision;
                state.hosts[host].phase = Phase::Idle;
            }
            Phase::Releasing(..) => state.hosts[host].phase = Phase::Idle,
            _ => {}
        }
    }

    fn ask(&self, state: &mut State, host: usize, waiting: InLine, permits: Permits) {
        let txn = keys().taken(&self.fence(state, host));
        self.send(state, host, txn, Phase::Asking(waiting, permits));
    }

    fn release(&self, state: &mut State, host: usize, id: Id, permits: Permits) {
        let txn = release(&keys().held(permits, &id));
        self.send(state, host, txn, Phase::Releasing(id, permits));
    }
}

impl Model for Hosts {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut store = Store {
            revision: 1,
            keys: BTreeMap::new(),
        };
        let mut hosts = Vec::new();
        for host in 0..self.counts.len() {
            store.revision += 1;
            let revision = store.revision;
            let key = host_key("/p", lease(host));
            store.keys.insert(key, (revision, revision, lease(host)));
            hosts.push(Host {
                phase: Phase::Idle,
                fence: revision,
                numbers: 0,
                rounds: self.rounds,
                asked: 0,
                known: BTreeSet::new(),
                lease: true,
            });
        }
        vec![State {
            store,
            hosts,
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
            next: 0,
            given_up: self.given_up,
            repeated: self.repeated,
            tokens: BTreeMap::new(),
            fell: false,
            acquired: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for message in state.requests.keys() {
            actions.push(Action::Deliver(message.clone(), false));
            if state.repeated > 0 {
                actions.push(Action::Deliver(message.clone(), true));
            }
        }
        actions.extend(state.answers.keys().cloned().map(Action::Hear));
        for (number, host) in state.hosts.iter().enumerate() {
            match &host.phase {
                Phase::Idle if host.rounds > 0 => actions.push(Action::Begin(number)),
                Phase::Trying(..)
                | Phase::LiningUp(_)
                | Phase::Taking(..)
                | Phase::Releasing(..)
                    if state.given_up > 0 =>
                {
                    actions.push(Action::GiveUp(number));
                }
                Phase::InLine(_) => actions.push(Action::Watch(number)),
                Phase::Holding(..) => actions.push(Action::Release(number)),
                _ => {}
            }
            if self.expire {
                if host.phase != Phase::Over {
                    actions.push(Action::Stop(number));
                }
                // The server is later than the host, unless the host is late.
                let may = host.phase == Phase::Over || self.fault == Fault::LateDeadline;
                if host.lease && may {
                    actions.push(Action::Expire(number));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin(host) => {
                state.hosts[host].rounds -= 1;
                self.begin(&mut state, host);
            }
            Action::Deliver(message, again) => {
                let txn = state.requests.get(&message)?.clone();
                if again {
                    state.repeated -= 1;
                } else {
                    state.requests.remove(&message);
                }
                let alive = state.hosts[message.host].lease;
                let answer = state.store.carry_out(lease(message.host), alive, &txn);
                // What repeats a request has had no answer to it.
                if state.hosts[message.host].asked == message.number
                    && !again
                    && let Some(answer) = answer
                {
                    state.answers.insert(message, answer);
                }
            }
            Action::Hear(message) => {
                let answer = state.answers.remove(&message)?;
                if state.hosts[message.host].asked == message.number {
                    state.hosts[message.host].asked = 0;
                    // No copy is under way of a request that was answered, only of those
                    // that were given up: a connection neither repeats nor reorders.
                    state.requests.remove(&message);
                    self.heard(&mut state, message.host, &answer);
                }
            }
            Action::GiveUp(host) => {
                state.given_up -= 1;
                match state.hosts[host].phase.clone() {
                    Phase::Trying(id, permits) => {
                        self.take_back(&mut state, host, keys().held(permits, &id));
                    }
                    Phase::LiningUp(id) => {
                        self.take_back(&mut state, host, vec![keys().request(&id)]);
                    }
                    Phase::Taking(waiting, permits) => {
                        self.ask(&mut state, host, waiting, permits);
                    }
                    Phase::Releasing(id, permits) => self.release(&mut state, host, id, permits),
                    _ => return None,
                }
            }
            Action::Watch(host) => {
                let Phase::InLine(mut waiting) = state.hosts[host].phase.clone() else {
                    return None;
                };
                let store = &state.store;
                let is_there = |key: &&Key| store.keys.contains_key(*key);
                let known = state.hosts[host].known.clone();
                for key in known.iter().filter(|key| !is_there(key)) {
                    waiting.deleted(key);
                }
                state.hosts[host].known = known.iter().filter(is_there).cloned().collect();
                self.go_on(&mut state, host, waiting);
            }
            Action::Release(host) => match state.hosts[host].phase.clone() {
                Phase::Holding(id, permits) => self.release(&mut state, host, id, permits),
                _ => return None,
            },
            Action::Stop(host) => state.hosts[host].phase = Phase::Over,
            Action::Expire(host) => {
                state.hosts[host].lease = false;
                state.store.revision += 1;
                let expired = lease(host);
                let keys = &mut state.store.keys;
                keys.retain(|_, (_, _, lease)| *lease != expired);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        /// The first in line has been told of all that was deleted, and waits beside permits
        /// that are free.
        fn waits_in_vain(model: &Hosts, state: &State, host: usize) -> bool {
            let Host { phase, known, .. } = &state.hosts[host];
            let Phase::InLine(waiting) = phase else {
                return false;
            };
            let is_there = |key: &Key| state.store.keys.contains_key(key);
            if !known.iter().all(is_there) {
                return false;
            }
            let own = keys().request(waiting.id());
            let before = |key: &&Key| key.starts_with(b"/p/a//w/") && **key != own;
            if known.iter().any(|key| before(&key)) {
                return false;
            }
            let found = state.store.find(&Keys::Below(b"/p/a//p/".to_vec()));
            let free = Permits::first(model.permits).without(held(&keys(), &found));
            free.len() >= model.counts[host]
        }
        vec![
            Property::always("exclusion", |_, state: &State| {
                let mut taken = Permits::NONE;
                state.hosts.iter().all(|host| {
                    let Phase::Holding(_, permits) = host.phase else {
                        return true;
                    };
                    let before = taken.len();
                    taken = taken.with(permits);
                    taken.len() == before + permits.len()
                })
            }),
            Property::always("tokens rise", |_, state: &State| !state.fell),
            // A request or a permit that its host does not know of would be there for ever.
            Property::always("no orphan", |_, state: &State| {
                let found = state.store.find(&Keys::Below(b"/p/a//".to_vec()));
                state.hosts.iter().enumerate().all(|(number, host)| {
                    let own = format!("/{:016x}-", lease(number)).into_bytes();
                    let is_own = |key: &Key| key.windows(own.len()).any(|part| part == own);
                    host.phase != Phase::Idle || !found.iter().any(|found| is_own(&found.key))
                })
            }),
            Property::always("no idle permit", |model: &Hosts, state: &State| {
                (0..state.hosts.len()).all(|host| !waits_in_vain(model, state, host))
            }),
            Property::sometimes("all have had it", |model: &Hosts, state: &State| {
                usize::from(state.acquired) == model.counts.len() * usize::from(model.rounds)
            }),
        ]
    }
}

fn explore(hosts: Hosts) -> Vec<&'static str> {
    let fault = hosts.fault;
    let checker = hosts.checker().finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    println!("{fault:?}: {} states", checker.unique_state_count());
    if fault == Fault::None {
        checker.assert_properties();
    }
    let found = checker.discoveries();
    let failed = ["exclusion", "tokens rise", "no orphan", "no idle permit"].into_iter();
    failed.filter(|name| found.contains_key(name)).collect()
}

fn two(fault: Fault) -> Hosts {
    Hosts {
        permits: 2,
        counts: vec![1, 2],
        rounds: 2,
        given_up: 1,
        repeated: 1,
        expire: false,
        fault,
    }
}

#[test]
fn two_hosts_over_a_bad_network() {
    assert!(explore(two(Fault::None)).is_empty());
}

#[test]
fn three_hosts() {
    let hosts = Hosts {
        counts: vec![1, 2, 1],
        rounds: 1,
        given_up: 0,
        repeated: 0,
        ..two(Fault::None)
    };
    assert!(explore(hosts).is_empty());
}

#[test]
fn hosts_whose_leases_expire() {
    let hosts = Hosts {
        rounds: 1,
        given_up: 0,
        repeated: 0,
        expire: true,
        ..two(Fault::None)
    };
    assert!(explore(hosts).is_empty());
}

#[test]
fn without_the_fence_a_late_request_stays() {
    assert!(explore(two(Fault::NoFence)).contains(&"no orphan"));
}

#[test]
fn permits_that_are_taken_blindly_are_taken_twice() {
    assert!(explore(two(Fault::NoLook)).contains(&"exclusion"));
}

#[test]
fn a_copy_that_was_carried_out_is_found() {
    assert!(explore(two(Fault::NoCopy)).contains(&"no orphan"));
}

#[test]
fn a_late_deadline_breaks_exclusion() {
    let hosts = Hosts {
        rounds: 1,
        given_up: 0,
        repeated: 0,
        expire: true,
        ..two(Fault::LateDeadline)
    };
    assert!(explore(hosts).contains(&"exclusion"));
}
