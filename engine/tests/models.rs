//! Models: the engine with the threads of `shuttle`, which runs them in many
//! orders and finds the one in which a request waits for ever. The kernel is
//! the reference back end, whose descriptions never conflict with themselves
//! and lose all they hold with one unlock, as real ones do.
//!
//! `cargo xtask test` runs them; by hand, with more iterations:
//!
//! ```text
//! CLASP_MODEL_ITERATIONS=100000 RUSTFLAGS="--cfg shuttle" \
//!     cargo test --release -p clasp-engine --features conformance --test models
//! ```
#![cfg(shuttle)]
#![allow(missing_docs, reason = "tests")]

use clasp_engine::{
    Ceilings, Error, ErrorKind, Grant, Guard, Limits, Lock, LockManager, Mode, Owner,
    testing::memory::Memory,
};
use shuttle::{future::block_on, thread};
use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

fn iterations() -> usize {
    let asked = std::env::var("CLASP_MODEL_ITERATIONS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

/// Checks a model whose hosts have no order, then one whose hosts have, and
/// both again with waits that need no thread.
fn check(model: fn(&World)) {
    let memories: [fn() -> Memory; 3] = [Memory::new, Memory::fair, Memory::threadless];
    for memory in memories {
        let run = move || {
            let memory = memory();
            let world = World {
                memory,
                inside: Arc::default(),
                hosts: RefCell::default(),
            };
            model(&world);
            // Nothing is left behind, neither in the hosts nor outside.
            world.host();
            for host in world.hosts.borrow().iter() {
                // An operation that was abandoned may still be on its way out.
                let (_owner, lock) = host.lock();
                lock.acquire_blocking(Mode::Exclusive, None).unwrap();
            }
        };
        shuttle::check_random(run, iterations());
        shuttle::check_pct(run, iterations() / 2, 3);
    }
}

struct World {
    memory: Memory,
    inside: Arc<AtomicI64>,
    hosts: RefCell<Vec<Rc<Host>>>,
}

struct Host {
    manager: LockManager,
    grant: Grant,
}

impl World {
    fn host(&self) -> Rc<Host> {
        let host = Rc::new(Host {
            manager: LockManager::new(Ceilings::default()),
            grant: Grant::new(self.memory.space()),
        });
        self.hosts.borrow_mut().push(Rc::clone(&host));
        host
    }

    /// Runs `f` on a thread, as an owner of a host.
    fn spawn(&self, host: &Host, f: impl FnOnce(Actor) + Send + 'static) -> thread::JoinHandle<()> {
        let (owner, lock) = host.lock();
        let inside = Arc::clone(&self.inside);
        thread::spawn(move || {
            f(Actor {
                owner,
                lock,
                inside,
            })
        })
    }
}

impl Host {
    fn lock(&self) -> (Owner, Lock) {
        let owner = self.manager.owner(Limits::default());
        let lock = owner.open(&self.grant, "a.lock").unwrap();
        (owner, lock)
    }
}

struct Actor {
    owner: Owner,
    lock: Lock,
    inside: Arc<AtomicI64>,
}

/// A deadline that is always ahead by the clock, and may pass at any time in a
/// model.
const SOME_TIME: Option<Duration> = Some(Duration::from_secs(3600));

impl Actor {
    /// Is in the critical section, if it got the lock, where no writer has company.
    fn enter(&self, result: Result<Guard, Error>) {
        let guard = match result {
            Ok(guard) => guard,
            Err(error) => {
                assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::Timeout | ErrorKind::WouldBlock | ErrorKind::Closed
                    ),
                    "{error}"
                );
                return;
            }
        };
        let step = match guard.mode() {
            Mode::Shared => 1,
            Mode::Exclusive => -1_000,
        };
        let before = self.inside.fetch_add(step, Ordering::SeqCst);
        match guard.mode() {
            Mode::Shared => assert!(before >= 0, "a reader beside a writer"),
            Mode::Exclusive => assert_eq!(before, 0, "a writer beside another holder"),
        }
        thread::yield_now();
        self.inside.fetch_sub(step, Ordering::SeqCst);
        drop(guard);
    }

    fn blocking(&self, mode: Mode, timeout: Option<Duration>) {
        self.enter(self.lock.acquire_blocking(mode, timeout));
    }

    fn suspending(&self, mode: Mode, timeout: Option<Duration>) {
        self.enter(block_on(self.lock.acquire(mode, timeout)));
    }
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

use Mode::{Exclusive, Shared};

#[test]
fn every_waiter_gets_its_turn() {
    check(|world| {
        let (p, q) = (world.host(), world.host());
        join(vec![
            world.spawn(&p, |a| a.blocking(Exclusive, None)),
            world.spawn(&p, |a| a.suspending(Shared, None)),
            world.spawn(&q, |a| a.suspending(Exclusive, None)),
            world.spawn(&q, |a| a.blocking(Shared, None)),
        ]);
    });
}

#[test]
fn a_request_that_times_out_keeps_nobody_waiting() {
    check(|world| {
        let (p, q) = (world.host(), world.host());
        join(vec![
            world.spawn(&p, |a| a.blocking(Exclusive, SOME_TIME)),
            world.spawn(&p, |a| a.suspending(Shared, None)),
            world.spawn(&q, |a| a.suspending(Exclusive, SOME_TIME)),
            world.spawn(&q, |a| a.blocking(Exclusive, None)),
        ]);
    });
}

/// The holder waits for the request to end, as a guest may that is told of it.
#[test]
fn a_timeout_is_told_while_the_lock_is_held() {
    check(|world| {
        let (p, q) = (world.host(), world.host());
        let (_owner, holder) = p.lock();
        let guard = holder.try_acquire(Exclusive).unwrap();
        join(vec![
            world.spawn(&q, |a| a.blocking(Exclusive, SOME_TIME)),
            world.spawn(&q, |a| a.suspending(Shared, SOME_TIME)),
            world.spawn(&p, |a| a.blocking(Shared, SOME_TIME)),
        ]);
        drop(guard);
    });
}

#[test]
fn a_request_that_is_dropped_keeps_nobody_waiting() {
    check(|world| {
        let (p, q) = (world.host(), world.host());
        let started = |mode| {
            move |actor: Actor| {
                let request = actor.lock.start_acquire(mode, None);
                thread::yield_now();
                drop(request);
                actor.blocking(mode, None);
            }
        };
        join(vec![
            world.spawn(&p, started(Exclusive)),
            world.spawn(&p, started(Shared)),
            world.spawn(&q, started(Exclusive)),
        ]);
    });
}

#[test]
fn a_request_that_is_never_polled_keeps_nobody_waiting() {
    check(|world| {
        let (p, q) = (world.host(), world.host());
        let (_a, holder) = p.lock();
        let (_b, asleep) = p.lock();
        let guard = holder.try_acquire(Exclusive).unwrap();
        let forgotten = asleep.start_acquire(Exclusive, None).unwrap();
        let others = vec![
            world.spawn(&p, |a| a.blocking(Exclusive, None)),
            world.spawn(&q, |a| a.suspending(Exclusive, None)),
        ];
        drop(guard);
        join(others);
        drop(forgotten);
    });
}

/// Its grant may be taken back and it comes back to its place, in whose favour
/// another may wait in another mode.
#[test]
fn a_request_that_is_polled_late_has_its_turn() {
    check(|world| {
        let (p, q) = (world.host(), world.host());
        let late = |mode| {
            move |actor: Actor| {
                let request = actor.lock.start_acquire(mode, None).unwrap();
                for _ in 0..3 {
                    thread::yield_now();
                }
                actor.enter(block_on(request));
            }
        };
        join(vec![
            world.spawn(&p, late(Exclusive)),
            world.spawn(&p, |a| a.blocking(Shared, None)),
            world.spawn(&p, late(Shared)),
            world.spawn(&q, |a| a.blocking(Exclusive, None)),
        ]);
    });
}

#[test]
fn an_owner_that_is_closed_keeps_nobody_waiting() {
    check(|world| {
        let (p, q) = (world.host(), world.host());
        let (owner, lock) = p.lock();
        let closed = thread::spawn(move || {
            let guard = lock.try_acquire(Exclusive);
            let request = lock.start_acquire(Shared, None);
            owner.close();
            drop((guard, request));
        });
        join(vec![
            closed,
            world.spawn(&p, |a| a.suspending(Exclusive, None)),
            world.spawn(&q, |a| {
                a.blocking(Shared, None);
                a.owner.close();
            }),
        ]);
    });
}
