//! The recipe, explored: hosts run its transactions over a network that delays, repeats
//! and loses messages, while leases expire and calls are given up.
//!
//! The flow is that of `space.rs`; transactions and the state of a request in line are the
//! crate's own. The exploration has to find the faults that are planted.
#![allow(missing_docs, reason = "tests")]

#[path = "support/store.rs"]
mod store;

use clasp_engine::{LockName, Mode};
use clasp_etcd::{
    line::Waiting,
    txn::{Answer, Fence, Found, Id, Key, Keys, LockKeys, Test, Txn, host_key, release, take_back},
};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::BTreeMap;
use store::Store;

/// What is wrong with the recipe, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Transactions do not require that the key of the host is unchanged.
    NoFence,
    /// A host uses its id again.
    SameId,
    /// A host claims its locks until the server has taken them away.
    LateDeadline,
}

struct Hosts {
    modes: Vec<Mode>,
    /// How many locks each host acquires.
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
    /// A request to stand in line is under way.
    LiningUp(Id),
    Waiting(Key, i64),
    Holding(Id),
    Releasing(Id),
    TakingBack(Id),
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
    /// What it waits for in line.
    before: Vec<Key>,
    id: Option<Id>,
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
    /// The greatest token that a holder has had, and whether one was not greater.
    token: i64,
    fell: bool,
    acquired: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    LineUp(usize),
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

fn keys() -> LockKeys {
    LockKeys::new("/p", &LockName::parse("a", 10).unwrap())
}

fn lease(host: usize) -> i64 {
    host as i64 + 1
}

impl Hosts {
    fn fence(&self, state: &State, host: usize) -> Fence {
        Fence {
            key: host_key("/p", lease(host)),
            at: state.hosts[host].fence,
        }
    }

    fn send(&self, state: &mut State, host: usize, mut txn: Txn) {
        if self.fault == Fault::NoFence {
            txn.tests
                .retain(|test| !matches!(test, Test::ChangedAt(..)));
        }
        state.next += 1;
        let number = state.next;
        state.hosts[host].asked = number;
        state.requests.insert(Message { number, host }, txn);
    }

    fn id(&self, host: &mut Host, number: usize) -> Id {
        if self.fault != Fault::SameId {
            host.numbers += 1;
        }
        Id::new(lease(number), host.numbers)
    }

    fn line_up(&self, state: &mut State, host: usize) {
        let id = self.id(&mut state.hosts[host], host);
        state.hosts[host].id = Some(id.clone());
        let fence = self.fence(state, host);
        let txn = keys().stand_in_line(&fence, &id, self.modes[host], &[]);
        state.hosts[host].phase = Phase::LiningUp(id);
        self.send(state, host, txn);
    }

    fn take_back(&self, state: &mut State, host: usize, id: Id) {
        let fence = self.fence(state, host);
        let txn = take_back(&fence, &keys().of(std::slice::from_ref(&id)));
        state.hosts[host].phase = Phase::TakingBack(id);
        self.send(state, host, txn);
    }

    fn release(&self, state: &mut State, host: usize, id: Id) {
        let txn = release(&keys().of(std::slice::from_ref(&id)));
        state.hosts[host].phase = Phase::Releasing(id);
        self.send(state, host, txn);
    }

    /// The state of a request in line, as the crate has it.
    fn waiting(&self, state: &State, host: usize) -> Option<Waiting> {
        let Phase::Waiting(_, revision) = &state.hosts[host].phase else {
            return None;
        };
        let id = state.hosts[host].id.clone()?;
        let before = state.hosts[host].before.iter();
        let found = before.map(|key| Found {
            key: key.clone(),
            created: 0,
            changed: 0,
        });
        let found: Vec<_> = found.collect();
        Some(Waiting::new(
            &keys(),
            id,
            self.modes[host],
            *revision,
            &found,
        ))
    }

    fn wait(&self, state: &mut State, host: usize, revision: i64, found: &[Found]) {
        let id = state.hosts[host].id.clone().expect("a request");
        let key = keys().request(&id);
        let own = [key.clone(), keys().exclusive(&id)];
        let before = found.iter().map(|found| found.key.clone());
        state.hosts[host].before = before.filter(|key| !own.contains(key)).collect();
        state.hosts[host].phase = Phase::Waiting(key, revision);
        self.look(state, host);
    }

    /// Grants a request that waits for nobody.
    fn look(&self, state: &mut State, host: usize) {
        let Some(waiting) = self.waiting(state, host) else {
            return;
        };
        if waiting.is_granted() {
            if self.modes[host] == Mode::Exclusive {
                state.fell |= waiting.revision() <= state.token;
                state.token = waiting.revision();
            }
            state.acquired += 1;
            state.hosts[host].phase = Phase::Holding(waiting.id().clone());
        }
    }

    fn done(&self, state: &mut State, host: usize) {
        state.hosts[host].phase = Phase::Idle;
        state.hosts[host].id = None;
        state.hosts[host].before.clear();
    }

    fn heard(&self, state: &mut State, host: usize, answer: &Answer) {
        let phase = state.hosts[host].phase.clone();
        // What was read first is the key of the host.
        let changed = |answer: &Answer| Some(answer.found.first()?.first()?.changed);
        match phase {
            Phase::LiningUp(_) if answer.held => {
                let found = answer.found.first().map_or(&[][..], |found| found);
                self.wait(state, host, answer.revision, found);
            }
            Phase::LiningUp(_) => match changed(answer) {
                Some(fence) => {
                    state.hosts[host].fence = fence;
                    self.done(state, host);
                }
                None => state.hosts[host].phase = Phase::Over,
            },
            Phase::TakingBack(_) if answer.held => {
                state.hosts[host].fence = answer.revision;
                self.done(state, host);
            }
            Phase::TakingBack(id) => match changed(answer) {
                Some(fence) => {
                    state.hosts[host].fence = fence;
                    self.take_back(state, host, id);
                }
                None => state.hosts[host].phase = Phase::Over,
            },
            Phase::Releasing(_) => self.done(state, host),
            _ => {}
        }
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
        for host in 0..self.modes.len() {
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
                before: Vec::new(),
                id: None,
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
            token: 0,
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
                Phase::Idle if host.rounds > 0 => actions.push(Action::LineUp(number)),
                Phase::LiningUp(_) | Phase::Releasing(_) if state.given_up > 0 => {
                    actions.push(Action::GiveUp(number));
                }
                Phase::Waiting(..) => actions.push(Action::Watch(number)),
                Phase::Holding(_) => actions.push(Action::Release(number)),
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
            Action::LineUp(host) => {
                state.hosts[host].rounds -= 1;
                self.line_up(&mut state, host);
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
                if state.hosts[message.host].asked == message.number
                    && let Some(answer) = answer
                {
                    state.answers.entry(message).or_insert(answer);
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
                    Phase::LiningUp(id) => self.take_back(&mut state, host, id),
                    Phase::Releasing(id) => self.release(&mut state, host, id),
                    _ => return None,
                }
            }
            Action::Watch(host) => {
                let own = keys().request(state.hosts[host].id.as_ref()?);
                let store = &state.store;
                state.hosts[host]
                    .before
                    .retain(|key| store.keys.contains_key(key));
                if !store.keys.contains_key(&own) {
                    state.hosts[host].phase = Phase::Over;
                } else {
                    self.look(&mut state, host);
                }
            }
            Action::Release(host) => match state.hosts[host].phase.clone() {
                Phase::Holding(id) => self.release(&mut state, host, id),
                _ => return None,
            },
            Action::Stop(host) => state.hosts[host].phase = Phase::Over,
            Action::Expire(host) => {
                state.hosts[host].lease = false;
                state.store.revision += 1;
                let expired = lease(host);
                state
                    .store
                    .keys
                    .retain(|_, (_, _, lease)| *lease != expired);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holders(model: &Hosts, state: &State) -> (usize, usize) {
            let holds = |mode| {
                let hosts = state.hosts.iter().zip(&model.modes);
                hosts
                    .filter(|(host, own)| matches!(host.phase, Phase::Holding(_)) && **own == mode)
                    .count()
            };
            (holds(Mode::Exclusive), holds(Mode::Shared))
        }
        vec![
            Property::always("exclusion", |model, state| {
                let (exclusive, shared) = holders(model, state);
                exclusive == 0 || exclusive == 1 && shared == 0
            }),
            Property::always("tokens rise", |_, state: &State| !state.fell),
            // A request that its host does not know of would block all others.
            Property::always("no orphan", |_, state: &State| {
                state.hosts.iter().enumerate().all(|(number, host)| {
                    let own = format!("/p/a//q/{:016x}-", lease(number));
                    let found = state.store.find(&Keys::Below(own.into_bytes()));
                    host.phase != Phase::Idle || found.is_empty()
                })
            }),
            Property::sometimes("all have had it", |model: &Hosts, state: &State| {
                usize::from(state.acquired) == model.modes.len() * usize::from(model.rounds)
            }),
        ]
    }
}

use Mode::{Exclusive, Shared};

fn explore(hosts: Hosts) -> Vec<&'static str> {
    let fault = hosts.fault;
    let checker = hosts.checker().finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    println!("{fault:?}: {} states", checker.unique_state_count());
    if fault == Fault::None {
        checker.assert_properties();
    }
    let found = checker.discoveries();
    let failed = ["exclusion", "tokens rise", "no orphan"].into_iter();
    failed.filter(|name| found.contains_key(name)).collect()
}

fn two(fault: Fault) -> Hosts {
    Hosts {
        modes: vec![Exclusive, Exclusive],
        rounds: 2,
        given_up: 1,
        repeated: 1,
        expire: false,
        fault,
    }
}

#[test]
fn two_writers() {
    assert!(explore(two(Fault::None)).is_empty());
}

#[test]
fn a_reader_and_writers_whose_leases_expire() {
    let hosts = Hosts {
        modes: vec![Exclusive, Shared, Exclusive],
        rounds: 1,
        given_up: 0,
        repeated: 0,
        expire: true,
        fault: Fault::None,
    };
    assert!(explore(hosts).is_empty());
}

#[test]
fn without_the_fence_a_late_request_stays() {
    assert!(explore(two(Fault::NoFence)).contains(&"no orphan"));
}

#[test]
fn an_id_that_is_used_again_loses_a_lock() {
    assert!(!explore(two(Fault::SameId)).is_empty());
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
