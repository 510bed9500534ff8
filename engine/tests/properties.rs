//! Random requests of several owners: what happens follows from a few rules,
//! and is the same in every back end.
#![cfg(feature = "conformance")]
#![allow(missing_docs, reason = "tests")]

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Acquire, Ceilings, ErrorKind, Grant, Guard, Limits, Lock, LockManager, Mode, Owner,
    backend::Space,
    file::{Family, FileSpace, Order},
    testing::{conformance::LIVENESS_TIMEOUT, delayed::Delayed, memory::Memory},
};
use proptest::prelude::*;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

const OWNERS: usize = 3;
const LOCKS: usize = 2;

/// What an owner does. Guards and requests are chosen from those there are.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Try(usize, usize, Mode),
    Start(usize, usize, Mode),
    Release(usize),
    GiveUp(usize),
    Close(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let mode = prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)];
    let request = (0..OWNERS, 0..LOCKS, mode);
    let deed = prop_oneof![
        2 => request.clone().prop_map(|(o, l, m)| Deed::Try(o, l, m)),
        4 => request.prop_map(|(o, l, m)| Deed::Start(o, l, m)),
        4 => any::<usize>().prop_map(Deed::Release),
        2 => any::<usize>().prop_map(Deed::GiveUp),
        1 => (0..OWNERS).prop_map(Deed::Close),
    ];
    proptest::collection::vec(deed, 1..60)
}

/// What came of a deed: numbers of requests that were granted or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Granted(usize),
    WouldBlock(usize),
    Closed(usize),
}

/// The rules, in the fewest words.
#[derive(Default)]
struct Rules {
    held: [Vec<(usize, usize, Mode)>; LOCKS],
    queue: [Vec<(usize, usize, Mode)>; LOCKS],
    closed: [bool; OWNERS],
}

impl Rules {
    fn fits(&self, lock: usize, mode: Mode) -> bool {
        let held = &self.held[lock];
        held.is_empty() || mode == Mode::Shared && held.iter().all(|h| h.2 == Mode::Shared)
    }

    fn admits(&self, owner: usize, lock: usize, mode: Mode) -> bool {
        let again = mode == Mode::Shared && self.held[lock].iter().any(|h| h.1 == owner);
        self.fits(lock, mode) && (self.queue[lock].is_empty() || again)
    }

    fn settle(&mut self, told: &mut Vec<Told>) {
        for lock in 0..LOCKS {
            while let Some(next) = self.queue[lock].first().copied()
                && self.fits(lock, next.2)
            {
                self.queue[lock].remove(0);
                self.held[lock].push(next);
                told.push(Told::Granted(next.0));
            }
        }
    }
}

/// A back end, and what is held and awaited in it.
struct World {
    owners: Vec<(Owner, Vec<Lock>)>,
    guards: Vec<(usize, Guard)>,
    requests: Vec<(usize, Acquire)>,
}

impl World {
    fn new(space: Arc<dyn Space>) -> World {
        let manager = LockManager::new(Ceilings::default());
        let grant = Grant::new(space);
        let owners = (0..OWNERS).map(|_| {
            let owner = manager.owner(Limits::default());
            let locks = (0..LOCKS).map(|l| owner.open(&grant, &format!("{l}.lock")).unwrap());
            let locks = locks.collect();
            (owner, locks)
        });
        World {
            owners: owners.collect(),
            guards: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// Polls every request.
    fn settle(&mut self, told: &mut Vec<Told>) {
        let mut waiting = Vec::new();
        for (number, mut request) in self.requests.drain(..) {
            match Pin::new(&mut request).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => waiting.push((number, request)),
                Poll::Ready(Ok(guard)) => {
                    told.push(Told::Granted(number));
                    self.guards.push((number, guard));
                }
                Poll::Ready(Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Closed);
                    told.push(Told::Closed(number));
                }
            }
        }
        self.requests = waiting;
    }

    /// Back ends that take their time are given it: until as much has come of a
    /// deed as is expected.
    fn run(&mut self, deeds: &[Deed], slow: Option<&[Vec<Told>]>) -> Vec<Vec<Told>> {
        let mut all: Vec<Vec<Told>> = Vec::new();
        for (number, deed) in deeds.iter().enumerate() {
            let mut told = Vec::new();
            match *deed {
                Deed::Try(owner, lock, mode) => {
                    match self.owners[owner].1[lock].try_acquire(mode) {
                        Ok(guard) => {
                            told.push(Told::Granted(number));
                            self.guards.push((number, guard));
                        }
                        Err(error) if error.kind() == ErrorKind::Closed => {
                            told.push(Told::Closed(number));
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::WouldBlock);
                            told.push(Told::WouldBlock(number));
                        }
                    }
                }
                Deed::Start(owner, lock, mode) => {
                    match self.owners[owner].1[lock].start_acquire(mode, None) {
                        Ok(request) => self.requests.push((number, request)),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Closed);
                            told.push(Told::Closed(number));
                        }
                    }
                }
                Deed::Release(which) if !self.guards.is_empty() => {
                    self.guards.sort_by_key(|g| g.0);
                    let which = which % self.guards.len();
                    drop(self.guards.remove(which));
                }
                Deed::GiveUp(which) if !self.requests.is_empty() => {
                    let which = which % self.requests.len();
                    drop(self.requests.remove(which));
                }
                Deed::Release(_) | Deed::GiveUp(_) => {}
                Deed::Close(owner) => self.owners[owner].0.close(),
            }
            self.settle(&mut told);
            let expected = slow.map_or(0, |expected| expected[number].len());
            let begun = Instant::now();
            while told.len() < expected && begun.elapsed() < LIVENESS_TIMEOUT {
                std::thread::yield_now();
                self.settle(&mut told);
            }
            told.sort_by_key(|t| match t {
                Told::Granted(n) | Told::WouldBlock(n) | Told::Closed(n) => *n,
            });
            all.push(told);
        }
        all
    }
}

/// What the rules say will come of it.
fn expected(deeds: &[Deed]) -> Vec<Vec<Told>> {
    let mut rules = Rules::default();
    // Guards that exist, even if what they held was taken away.
    let mut guards: Vec<usize> = Vec::new();
    let mut requests: Vec<usize> = Vec::new();
    let mut all = Vec::new();
    for (number, deed) in deeds.iter().enumerate() {
        let mut told = Vec::new();
        match *deed {
            Deed::Try(owner, ..) | Deed::Start(owner, ..) if rules.closed[owner] => {
                told.push(Told::Closed(number));
            }
            Deed::Try(owner, lock, mode) => {
                if rules.admits(owner, lock, mode) {
                    rules.held[lock].push((number, owner, mode));
                    told.push(Told::Granted(number));
                } else {
                    told.push(Told::WouldBlock(number));
                }
            }
            Deed::Start(owner, lock, mode) => {
                if rules.admits(owner, lock, mode) {
                    rules.held[lock].push((number, owner, mode));
                    told.push(Told::Granted(number));
                } else {
                    rules.queue[lock].push((number, owner, mode));
                    requests.push(number);
                }
            }
            Deed::Release(which) if !guards.is_empty() => {
                guards.sort_unstable();
                let number = guards.remove(which % guards.len());
                rules
                    .held
                    .iter_mut()
                    .for_each(|h| h.retain(|h| h.0 != number));
            }
            Deed::GiveUp(which) if !requests.is_empty() => {
                let number = requests.remove(which % requests.len());
                rules
                    .queue
                    .iter_mut()
                    .for_each(|q| q.retain(|q| q.0 != number));
            }
            Deed::Release(_) | Deed::GiveUp(_) => {}
            Deed::Close(owner) => {
                rules.closed[owner] = true;
                for lock in 0..LOCKS {
                    rules.held[lock].retain(|h| h.1 != owner);
                    let gone = rules.queue[lock].iter().filter(|q| q.1 == owner);
                    told.extend(gone.map(|q| Told::Closed(q.0)));
                    rules.queue[lock].retain(|q| q.1 != owner);
                }
            }
        }
        rules.settle(&mut told);
        for told in &told {
            match told {
                Told::Granted(number) => {
                    requests.retain(|n| n != number);
                    guards.push(*number);
                }
                Told::Closed(number) => requests.retain(|n| n != number),
                Told::WouldBlock(_) => {}
            }
        }
        told.sort_by_key(|t| match t {
            Told::Granted(n) | Told::WouldBlock(n) | Told::Closed(n) => *n,
        });
        all.push(told);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A failure is told with its deeds; they are not kept in a file.
        failure_persistence: None,
        ..ProptestConfig::with_cases(300)
    })]

    #[test]
    fn every_back_end_follows_the_rules(deeds in deeds()) {
        let expected = expected(&deeds);
        let directory = tempfile::tempdir().unwrap();
        let files = |family, order| {
            let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
            FileSpace::new(dir).family(family).order(order).into_space()
        };
        let mut spaces = vec![
            ("memory".to_owned(), Memory::new().space()),
            ("fair memory".to_owned(), Memory::fair().space()),
        ];
        // Each family, and each order, but not each with each.
        let mut orders = Order::supported().iter().cycle();
        for (family, order) in Family::supported().iter().zip(&mut orders) {
            spaces.push((format!("{family}, {order}"), files(*family, *order)));
        }
        for (name, space) in spaces {
            let found = World::new(space).run(&deeds, None);
            prop_assert_eq!(&found, &expected, "{}", name);
        }
        for memory in [Memory::new(), Memory::fair()] {
            let slow = Delayed::new(memory, Duration::from_micros(20), 1);
            let found = World::new(Arc::new(slow)).run(&deeds, Some(&expected));
            prop_assert_eq!(&found, &expected, "delayed");
        }
    }
}
