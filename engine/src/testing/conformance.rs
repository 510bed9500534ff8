//! One suite for every back end: what the engine promises must hold whatever
//! takes the locks outside.
//!
//! A back end's tests implement [`World`] and call [`run`]. Two managers stand
//! for two processes here; processes proper are tested elsewhere.

mod files;
mod guards;
mod order;
mod semaphores;

use crate::{
    Ceilings, Error, ErrorKind, Grant, Guard, Limits, Lock, LockManager, Mode, Owner,
    backend::Space, testing::TestLine,
};
pub use files::{keeps_creation_times, remove_name, waits_need_threads};

use Mode::{Exclusive, Shared};
use guards::*;
use order::*;
use semaphores::*;
use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

/// How long something that must happen may take. Long, for it is waited for
/// only by what fails.
pub const LIVENESS_TIMEOUT: Duration = Duration::from_secs(30);

/// How long something that must not happen is given to happen.
pub const STILL_BLOCKED: Duration = Duration::from_millis(60);

/// A place with locks, empty at first.
pub trait World {
    /// The place as one process sees it.
    fn space(&self) -> Arc<dyn Space>;

    /// Removes a lock's name.
    fn unlink(&self, name: &str);

    /// The line of the hosts that wait for a lock, if they have an order.
    fn line(&self, name: &str) -> Option<TestLine>;

    /// Whether a lock is a file: it has to be created, its name can be removed, and it
    /// keeps the time when it was touched.
    fn has_files(&self) -> bool {
        true
    }

    /// Whether hosts have an order.
    fn is_fair(&self) -> bool {
        self.line("a.lock").is_some()
    }

    /// Whether what waits outside needs a thread of the engine.
    fn waits_need_threads(&self) -> bool {
        true
    }

    /// Whether a request that is dropped has left no trace when the call returns:
    /// not where operations take their time.
    fn is_immediate(&self) -> bool {
        true
    }

    /// Takes a lock away from all that hold it, as a server does; `false` where that
    /// cannot happen.
    fn lose(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Whether locks have tokens on every system.
    fn has_tokens(&self) -> bool {
        false
    }

    /// Whether there are semaphores.
    fn has_semaphores(&self) -> bool {
        true
    }

    /// Whether shared and exclusive locks are converted into each other outside.
    fn converts(&self) -> bool {
        true
    }
}

/// Runs every case, each in a world of its own.
///
/// # Panics
/// If a case fails; its name is printed first.
pub fn run(make: &dyn Fn() -> Box<dyn World>) {
    for (name, case) in CASES {
        println!("conformance: {name}");
        case(&*make());
    }
}

macro_rules! cases {
    ($($name:ident)*) => {
        const CASES: &[(&str, fn(&dyn World))] = &[$((stringify!($name), $name)),*];
    };
}

cases! {
    exclusive_excludes_all_others
    shared_locks_share
    a_release_wakes_a_waiter
    a_release_wakes_a_waiter_of_another_process
    timeouts_none_zero_given
    a_dropped_request_leaves_no_trace
    an_uncollected_grant_is_released
    first_come_first_served
    a_writer_that_gives_up_lets_readers_in
    an_owner_never_waits_for_itself
    a_cycle_of_owners_is_refused
    a_started_request_is_in_the_cycle
    a_cycle_behind_a_request_that_has_ended
    shared_again_beside_a_queued_writer
    close_ends_holds_and_waits
    closing_a_neighbour_disturbs_no_wait
    an_unlinked_lock_moves_to_the_new_file
    a_waiter_follows_an_unlinked_lock
    a_further_reader_follows_an_unlinked_lock
    a_try_follows_an_unlinked_lock
    close_finds_what_moved
    a_finished_wait_gives_its_thread_to_the_next
    who_has_timed_out_is_in_no_cycle
    a_grant_is_lost_with_its_owner
    a_panicking_waker_is_alone
    quotas_are_errors
    shared_only_grants
    asynchronous_requests_wake_their_task
    a_storm_of_requests
    a_grant_that_is_not_polled_goes_to_the_next
    nobody_waits_for_a_store_that_is_not_polled
    a_grant_that_is_polled_stays
    readers_do_not_pass_a_foreign_writer
    a_foreign_writer_that_gives_up_lets_readers_in
    a_stopped_host_is_passed
    who_comes_back_passes_a_stopped_host
    who_comes_back_leaves_the_place_of_who_waits
    who_asks_after_an_unlink_does_not_wait_for_the_old_file
    a_stopped_host_is_passed_at_once_again
    a_host_that_moves_again_is_waited_for
    a_downgrade_lets_readers_in
    an_upgrade_succeeds_for_the_one_holder
    tokens_increase
    a_guard_says_why_its_hold_has_ended
    a_loss_outlives_its_guard
    a_holder_touches_the_lock
    created_locks_are_counted
    a_snapshot_shows_holders_and_waiters
    a_lock_that_is_passed_on_follows_an_unlinked_file
    a_busy_host_lets_others_in
    a_lock_is_passed_on_in_order
    semaphores_exist_or_are_refused
    permits_are_counted_among_processes
    a_permit_wakes_a_waiter
    waits_for_permits_end_in_time
    a_dropped_request_for_permits_leaves_no_trace
    permits_go_to_who_came_first
    permits_go_to_the_process_that_came_first
    waits_for_all_permits_end
    a_busy_host_gives_permits_to_others
    an_owner_never_waits_for_its_own_permits
    what_is_no_semaphore_is_refused
    the_end_of_an_owner_frees_its_permits
    permits_count_against_the_quota
    lost_permits_are_told
    a_semaphore_follows_an_unlinked_file
    tokens_of_permits_increase
    a_storm_for_permits
    a_permit_that_is_not_polled_goes_to_the_next
}

/// One process with one owner.
struct Process {
    manager: LockManager,
    grant: Grant,
}

impl Process {
    fn new(world: &dyn World) -> Process {
        Process {
            manager: LockManager::new(Ceilings::default()),
            grant: Grant::new(world.space()),
        }
    }

    fn owner(&self) -> Owner {
        self.manager.owner(Limits::default())
    }

    fn lock(&self) -> (Owner, Lock) {
        let owner = self.owner();
        let lock = owner.open(&self.grant, "a.lock").unwrap();
        (owner, lock)
    }
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

/// Waits for what another thread is about to do.
fn eventually(done: &dyn Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIVENESS_TIMEOUT, "it did not happen");
        std::thread::yield_now();
    }
}

/// Something that runs on a thread of its own.
struct Started<T>(mpsc::Receiver<T>);

impl<T> Started<T> {
    fn finish(self) -> T {
        self.0
            .recv_timeout(LIVENESS_TIMEOUT)
            .expect("still blocked")
    }

    fn must_block(&self) {
        assert!(self.0.recv_timeout(STILL_BLOCKED).is_err(), "did not block");
    }
}

fn start<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Started<T> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(f()));
    Started(receive)
}

/// Takes a lock that is free, or is about to be where operations take their
/// time.
fn take(world: &dyn World, lock: &Lock, mode: Mode) -> Guard {
    if world.is_immediate() {
        return lock.try_acquire(mode).unwrap();
    }
    let begun = Instant::now();
    loop {
        match lock.try_acquire(mode) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(begun.elapsed() < LIVENESS_TIMEOUT, "it stays taken");
            }
            taken => return taken.unwrap(),
        }
    }
}

fn acquire(lock: Lock, mode: Mode) -> Started<Guard> {
    start(move || lock.acquire_blocking(mode, None).unwrap())
}

/// Runs a future on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(LIVENESS_TIMEOUT),
        }
    }
}

/// A waker that tells whether it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn poll<F: Future + Unpin>(future: &mut F, flag: &Arc<Flag>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(flag));
    std::pin::Pin::new(future).poll(&mut Context::from_waker(&waker))
}

fn exclusive_excludes_all_others(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let (owner, lock) = here.lock();
    let (_neighbour, beside) = here.lock();
    let (_foreigner, outside) = there.lock();
    let second = owner.open(&here.grant, "./a.lock").unwrap();
    let guard = take(world, &lock, Exclusive);
    assert_eq!(guard.mode(), Exclusive);
    for other in [&lock, &second, &beside, &outside] {
        for mode in [Shared, Exclusive] {
            assert_eq!(kind(other.try_acquire(mode)), Some(ErrorKind::WouldBlock));
        }
    }
    guard.release().unwrap();
    for other in [&lock, &second, &beside, &outside] {
        for mode in [Shared, Exclusive] {
            take(world, other, mode).release().unwrap();
        }
    }
}

fn shared_locks_share(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, lock) = here.lock();
    let (_b, beside) = here.lock();
    let (_c, outside) = there.lock();
    let guards: Vec<_> = [&lock, &lock, &beside, &outside]
        .map(|l| take(world, l, Shared))
        .into();
    let mut left = guards.len();
    for guard in guards {
        for other in [&lock, &beside, &outside] {
            assert_eq!(
                kind(other.try_acquire(Exclusive)),
                Some(ErrorKind::WouldBlock),
                "{left} shared holders left"
            );
        }
        drop(guard);
        left -= 1;
    }
    take(world, &outside, Exclusive);
}

fn a_release_wakes_a_waiter(world: &dyn World) {
    let here = Process::new(world);
    wakes(here.lock(), here.lock());
}

fn a_release_wakes_a_waiter_of_another_process(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    wakes(here.lock(), there.lock());
}

fn wakes((_a, holder): (Owner, Lock), (_b, waiter): (Owner, Lock)) {
    let guard = holder.acquire_blocking(Exclusive, None).unwrap();
    let waiting = acquire(waiter, Shared);
    waiting.must_block();
    drop(guard);
    waiting.finish().release().unwrap();
}

fn timeouts_none_zero_given(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, lock) = there.lock();
    let (_b, inside) = there.lock();
    let (_c, outside) = here.lock();
    let capped = here.manager.owner(Limits {
        longest_wait: Some(Duration::from_millis(5)),
        ..Limits::default()
    });
    let capped = capped_lock(&capped, &here.grant);
    let guard = take(world, &lock, Exclusive);
    for other in [&inside, &outside] {
        for timeout in [Duration::ZERO, Duration::from_millis(5)] {
            let blocking = other.acquire_blocking(Exclusive, Some(timeout));
            assert_eq!(kind(blocking), Some(ErrorKind::Timeout), "{timeout:?}");
            let task = block_on(other.acquire(Shared, Some(timeout)));
            assert_eq!(kind(task), Some(ErrorKind::Timeout), "{timeout:?}");
        }
    }
    for timeout in [None, Some(LIVENESS_TIMEOUT)] {
        let result = capped.acquire_blocking(Shared, timeout);
        assert_eq!(kind(result), Some(ErrorKind::Timeout), "{timeout:?}");
    }
    drop(guard);
    // Elsewhere another process may still be releasing it.
    let zero = world.is_immediate().then_some(Duration::ZERO);
    for timeout in [None, zero, Some(Duration::MAX)] {
        outside.acquire_blocking(Exclusive, timeout).unwrap();
        block_on(inside.acquire(Exclusive, timeout)).unwrap();
    }
}

fn capped_lock(owner: &Owner, grant: &Grant) -> Lock {
    let lock = owner.open(grant, "a.lock").unwrap();
    assert!(lock.try_acquire(Shared).is_ok());
    lock
}

fn a_dropped_request_leaves_no_trace(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, holder) = here.lock();
    let (_b, waiter) = there.lock();
    let (_c, beside) = there.lock();
    // A request may be anywhere when it is dropped; these are many places.
    for round in 0..300 {
        let guard = take(world, &holder, Shared);
        let request = waiter.start_acquire(Exclusive, None).unwrap();
        for _ in 0..round % 7 * 50 {
            std::hint::spin_loop();
        }
        drop(request);
        // Only the request that is gone held the reader up.
        take(world, &beside, Shared);
        drop(guard);
        take(world, &beside, Exclusive);
        take(world, &holder, Exclusive);
    }
}

fn an_uncollected_grant_is_released(world: &dyn World) {
    let here = Process::new(world);
    let (owner, lock) = here.lock();
    let (_b, other) = here.lock();
    let guard = take(world, &lock, Exclusive);
    let request = other.start_acquire(Exclusive, None).unwrap();
    drop(guard);
    assert_eq!(kind(lock.try_acquire(Shared)), Some(ErrorKind::WouldBlock));
    drop(request);
    take(world, &lock, Exclusive);
    // One that is granted at once is the same.
    let request = other.start_acquire(Exclusive, None).unwrap();
    assert_eq!(kind(lock.try_acquire(Shared)), Some(ErrorKind::WouldBlock));
    drop(request);
    assert_eq!(owner.in_use(), 0);
    take(world, &lock, Exclusive);
}

fn first_come_first_served(world: &dyn World) {
    let here = Process::new(world);
    let (_a, lock) = here.lock();
    let guard = take(world, &lock, Exclusive);
    let flag = Arc::<Flag>::default();
    let modes = [Shared, Shared, Exclusive, Shared, Exclusive];
    let mut requests: Vec<_> = modes
        .iter()
        .map(|mode| {
            let (owner, lock) = here.lock();
            Some((lock.start_acquire(*mode, None).unwrap(), owner))
        })
        .collect();
    let mut turn = |expect: &[usize]| {
        let mut guards = Vec::new();
        let begun = Instant::now();
        loop {
            for (at, slot) in requests.iter_mut().enumerate() {
                if let Some((request, _)) = slot
                    && let Poll::Ready(guard) = poll(request, &flag)
                {
                    guards.push((at, guard.unwrap()));
                    // The owner goes on living: its end would end the hold.
                    std::mem::forget(slot.take());
                }
            }
            let late = guards.len() < expect.len() && !world.is_immediate();
            if !late || begun.elapsed() > LIVENESS_TIMEOUT {
                break;
            }
        }
        guards.sort_by_key(|(at, _)| *at);
        assert_eq!(guards.iter().map(|g| g.0).collect::<Vec<_>>(), expect);
        assert_eq!(kind(lock.try_acquire(Shared)), Some(ErrorKind::WouldBlock));
        guards
    };
    assert!(turn(&[]).is_empty());
    drop(guard);
    for expect in [&[0, 1][..], &[2], &[3], &[4]] {
        turn(expect);
    }
    take(world, &lock, Exclusive);
}

fn a_writer_that_gives_up_lets_readers_in(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, foreign) = there.lock();
    let (_b, writer) = here.lock();
    let (_c, reader) = here.lock();
    let guard = take(world, &foreign, Shared);
    let writing = start(move || kind(writer.acquire_blocking(Exclusive, Some(STILL_BLOCKED))));
    let flag = Arc::<Flag>::default();
    // Once the writer waits, readers of its host wait behind it.
    let mut reading = loop {
        let mut request = reader.start_acquire(Shared, None).unwrap();
        match poll(&mut request, &flag) {
            Poll::Ready(guard) => drop(guard),
            Poll::Pending => break request,
        }
        std::thread::yield_now();
    };
    assert_eq!(writing.finish(), Some(ErrorKind::Timeout));
    let guard_here = start(move || block_on(&mut reading)).finish().unwrap();
    drop((guard, guard_here));
}

fn an_owner_never_waits_for_itself(world: &dyn World) {
    let here = Process::new(world);
    let (owner, lock) = here.lock();
    let second = owner.open(&here.grant, "a.lock").unwrap();
    for (held, asked) in [
        (Exclusive, Exclusive),
        (Exclusive, Shared),
        (Shared, Exclusive),
    ] {
        let guard = take(world, &lock, held);
        for lock in [&lock, &second] {
            let blocking = lock.acquire_blocking(asked, None);
            assert_eq!(kind(blocking), Some(ErrorKind::Deadlock));
            let task = block_on(lock.acquire(asked, Some(LIVENESS_TIMEOUT)));
            assert_eq!(kind(task), Some(ErrorKind::Deadlock));
            // Who may go on may release, so it is not refused.
            let started = lock.start_acquire(asked, None).unwrap();
            drop(started);
        }
        guard.release().unwrap();
    }
    assert_eq!(owner.in_use(), 0);
}

fn a_cycle_of_owners_is_refused(world: &dyn World) {
    let here = Process::new(world);
    let owners = [here.owner(), here.owner(), here.owner()];
    let names = ["a.lock", "b.lock", "c.lock"];
    let open = |owner: usize, name: usize| owners[owner].open(&here.grant, names[name]).unwrap();
    let guards = [0, 1, 2].map(|i| take(world, &open(i, i), Exclusive));
    // 0 waits for 1, 1 for 2; 2 may not wait for 0.
    let first = acquire(open(0, 1), Exclusive);
    first.must_block();
    let second = acquire(open(1, 2), Shared);
    second.must_block();
    let refused = open(2, 0).acquire_blocking(Exclusive, None);
    assert_eq!(kind(refused), Some(ErrorKind::Deadlock));
    let deadlocks = here.manager.deadlocks();
    assert_eq!(deadlocks.len(), 1);
    assert_eq!(deadlocks[0].locks, names);
    let [a, b, c] = guards;
    drop(c);
    drop(second.finish());
    drop(b);
    drop(first.finish());
    drop(a);
}

fn a_started_request_is_in_the_cycle(world: &dyn World) {
    let here = Process::new(world);
    let (_a, holder) = here.lock();
    let (owner, lock) = here.lock();
    let guard = take(world, &holder, Exclusive);
    let started = lock.start_acquire(Exclusive, None).unwrap();
    // The started request will hold the lock, and its owner would be halted.
    let refused = lock.acquire_blocking(Exclusive, None);
    assert_eq!(kind(refused), Some(ErrorKind::Deadlock));
    drop(guard);
    let refused = lock.acquire_blocking(Exclusive, None);
    assert_eq!(kind(refused), Some(ErrorKind::Deadlock));
    block_on(started).unwrap().release().unwrap();
    assert_eq!(owner.in_use(), 0);
    lock.acquire_blocking(Exclusive, None).unwrap();
}

/// A is halted at e behind B, times out and does not look; D must still see
/// that B, before it, waits for D.
fn a_cycle_behind_a_request_that_has_ended(world: &dyn World) {
    let here = Process::new(world);
    let [a, b, d] = [(); 3].map(|()| here.owner());
    let open = |owner: &Owner, name| owner.open(&here.grant, name).unwrap();
    let _held = [&a, &b].map(|owner| take(world, &open(owner, "f"), Shared));
    let _e = take(world, &open(&d, "e"), Exclusive);
    let flag = Arc::<Flag>::default();
    let (a, b) = (open(&a, "e"), open(&b, "e"));
    let mut before = Box::pin(b.acquire(Exclusive, None));
    assert!(poll(&mut before, &flag).is_pending());
    let mut ended = Box::pin(a.acquire(Exclusive, Some(Duration::from_millis(5))));
    let woken = Arc::<Flag>::default();
    assert!(poll(&mut ended, &woken).is_pending());
    eventually(&|| woken.0.load(Ordering::SeqCst));
    let refused = open(&d, "f").acquire_blocking(Exclusive, Some(LIVENESS_TIMEOUT));
    assert_eq!(kind(refused), Some(ErrorKind::Deadlock));
}

fn shared_again_beside_a_queued_writer(world: &dyn World) {
    let here = Process::new(world);
    let (_a, reader) = here.lock();
    let (_b, writer) = here.lock();
    let (_c, late) = here.lock();
    let first = take(world, &reader, Shared);
    let writing = acquire(writer, Exclusive);
    writing.must_block();
    let second = reader.acquire_blocking(Shared, None).unwrap();
    assert_eq!(kind(late.try_acquire(Shared)), Some(ErrorKind::WouldBlock));
    drop((first, second));
    drop(writing.finish());
}

fn close_ends_holds_and_waits(world: &dyn World) {
    let here = Process::new(world);
    let (closing, lock) = here.lock();
    let other = closing.open(&here.grant, "b.lock").unwrap();
    let (_b, neighbour) = here.lock();
    let (_c, busy) = here.lock();
    let guard = take(world, &lock, Exclusive);
    let theirs = take(world, &_c.open(&here.grant, "b.lock").unwrap(), Exclusive);
    let started = lock.start_acquire(Shared, None).unwrap();
    let waiting = start(move || kind(other.acquire_blocking(Exclusive, None)));
    waiting.must_block();
    let freed = acquire(neighbour, Exclusive);
    freed.must_block();
    closing.close();
    assert!(closing.is_closed());
    assert_eq!(waiting.finish(), Some(ErrorKind::Closed));
    drop(freed.finish());
    assert_eq!(kind(block_on(started)), Some(ErrorKind::Closed));
    assert_eq!(kind(guard.release()), Some(ErrorKind::Closed));
    assert_eq!(kind(lock.try_acquire(Shared)), Some(ErrorKind::Closed));
    assert_eq!(
        kind(closing.open(&here.grant, "a.lock")),
        Some(ErrorKind::Closed)
    );
    take(world, &busy, Exclusive);
    theirs.release().unwrap();
}

fn closing_a_neighbour_disturbs_no_wait(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, foreign) = there.lock();
    let (_b, waiter) = here.lock();
    let (neighbour, _lock) = here.lock();
    let guard = take(world, &foreign, Exclusive);
    let waiting = acquire(waiter, Exclusive);
    waiting.must_block();
    neighbour.close();
    let (_c, reader) = here.lock();
    let behind = acquire(reader, Shared);
    waiting.must_block();
    behind.must_block();
    drop(guard);
    drop(waiting.finish());
    drop(behind.finish());
}

fn an_unlinked_lock_moves_to_the_new_file(world: &dyn World) {
    if !world.has_files() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, stale) = here.lock();
    let old = take(world, &stale, Exclusive);
    world.unlink("a.lock");
    let (_b, fresh) = there.lock();
    let new = take(world, &fresh, Exclusive);
    assert_eq!(kind(old.release()), Some(ErrorKind::Replaced));
    assert_eq!(kind(stale.try_acquire(Shared)), Some(ErrorKind::WouldBlock));
    new.release().unwrap();
    take(world, &stale, Exclusive).release().unwrap();
}

fn a_waiter_follows_an_unlinked_lock(world: &dyn World) {
    if !world.has_files() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, holder) = here.lock();
    let (_b, inside) = here.lock();
    let (_c, outside) = there.lock();
    let old = take(world, &holder, Exclusive);
    // Either may be first, so each lets go again.
    let waiters = [inside, outside]
        .map(|lock| start(move || lock.acquire_blocking(Exclusive, None).unwrap().release()));
    waiters.iter().for_each(Started::must_block);
    world.unlink("a.lock");
    let (_d, fresh) = there.lock();
    let new = take(world, &fresh, Exclusive);
    drop(old);
    // They find the file that the name leads to now, and it is held.
    waiters.iter().for_each(Started::must_block);
    new.release().unwrap();
    for waiter in waiters {
        waiter.finish().unwrap();
    }
}

fn a_further_reader_follows_an_unlinked_lock(world: &dyn World) {
    if !world.has_files() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, reader) = here.lock();
    let (_b, further) = here.lock();
    let old = take(world, &reader, Shared);
    world.unlink("a.lock");
    let (_c, foreign) = there.lock();
    let new = take(world, &foreign, Exclusive);
    // The host still holds the old file shared, and no request waits for it.
    assert_eq!(
        kind(further.try_acquire(Shared)),
        Some(ErrorKind::WouldBlock)
    );
    let waiting = acquire(further, Shared);
    waiting.must_block();
    drop(new);
    drop(waiting.finish());
    assert_eq!(kind(old.release()), Some(ErrorKind::Replaced));
}

fn a_try_follows_an_unlinked_lock(world: &dyn World) {
    if !world.has_files() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, holder) = there.lock();
    let (_b, lock) = here.lock();
    let (_c, queued) = here.lock();
    let old = take(world, &holder, Exclusive);
    assert_eq!(kind(lock.try_acquire(Shared)), Some(ErrorKind::WouldBlock));
    let waiting = acquire(queued, Exclusive);
    waiting.must_block();
    world.unlink("a.lock");
    // Who asks next finds the new file, and those who waited go with it, one
    // of them first.
    drop(lock.try_acquire(Shared));
    drop(waiting.finish());
    take(world, &lock, Exclusive);
    drop(old);
}

fn close_finds_what_moved(world: &dyn World) {
    if !world.has_files() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, neighbour) = here.lock();
    let (owner, lock) = here.lock();
    let (_c, foreign) = there.lock();
    let first = take(world, &neighbour, Exclusive);
    let started = lock.start_acquire(Exclusive, None).unwrap();
    world.unlink("a.lock");
    let second = take(world, &lock, Exclusive);
    world.unlink("a.lock");
    drop(first);
    let third = block_on(started).unwrap();
    owner.close();
    take(world, &foreign, Exclusive);
    assert_eq!(kind(second.release()), Some(ErrorKind::Closed));
    assert_eq!(kind(third.release()), Some(ErrorKind::Closed));
}

fn a_finished_wait_gives_its_thread_to_the_next(world: &dyn World) {
    let there = Process::new(world);
    let (_a, foreign) = there.lock();
    let ceilings = Ceilings {
        waiter_threads: 1,
        ..Ceilings::default()
    };
    let limits = Limits {
        waiter_threads: 1,
        ..Limits::default()
    };
    let manager = LockManager::new(ceilings);
    let owner = manager.owner(limits);
    let lock = owner.open(&there.grant, "a.lock").unwrap();
    for timeout in [None, Some(Duration::from_millis(5))] {
        let guard = take(world, &foreign, Exclusive);
        let first = lock.start_acquire(Exclusive, timeout).unwrap();
        let second = lock.start_acquire(Exclusive, None).unwrap();
        let third = lock.start_acquire(Exclusive, None).unwrap();
        if timeout.is_some() {
            assert_eq!(kind(block_on(first)), Some(ErrorKind::Timeout));
        } else {
            drop(first);
        }
        drop(guard);
        drop(block_on(second).unwrap());
        drop(block_on(third).unwrap());
    }
}

fn who_has_timed_out_is_in_no_cycle(world: &dyn World) {
    let here = Process::new(world);
    let (a, b) = (here.owner(), here.owner());
    let open = |owner: &Owner, name| owner.open(&here.grant, name).unwrap();
    let held = take(world, &open(&a, "a.lock"), Exclusive);
    let other = take(world, &open(&b, "b.lock"), Exclusive);
    let wanted = open(&a, "b.lock");
    let mut request = Box::pin(wanted.acquire(Exclusive, Some(Duration::from_millis(5))));
    let flag = Arc::<Flag>::default();
    assert!(poll(&mut request, &flag).is_pending());
    eventually(&|| flag.0.load(Ordering::SeqCst));
    // It has ended, though its owner has not looked yet.
    let waiting = acquire(open(&b, "a.lock"), Exclusive);
    waiting.must_block();
    let Poll::Ready(ended) = poll(&mut request, &flag) else {
        panic!("woken without a reason");
    };
    assert_eq!(kind(ended), Some(ErrorKind::Timeout));
    drop(held);
    drop(waiting.finish());
    drop(other);
}

fn a_grant_is_lost_with_its_owner(world: &dyn World) {
    let here = Process::new(world);
    let (owner, lock) = here.lock();
    let (_b, other) = here.lock();
    let granted = lock.start_acquire(Exclusive, None).unwrap();
    owner.close();
    take(world, &other, Exclusive);
    assert_eq!(kind(block_on(granted)), Some(ErrorKind::Closed));
}

fn a_panicking_waker_is_alone(world: &dyn World) {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker panics, as this test asks");
        }
    }
    let here = Process::new(world);
    let (_a, holder) = here.lock();
    let (_b, lock) = here.lock();
    let (_c, third) = here.lock();
    let guard = take(world, &holder, Exclusive);
    let short = Some(Duration::from_millis(1));
    let mut request = lock.start_acquire(Exclusive, short).unwrap();
    let waker = Waker::from(Arc::new(Panics));
    let poll = std::pin::Pin::new(&mut request).poll(&mut Context::from_waker(&waker));
    assert!(poll.is_pending());
    // Later deadlines ring all the same.
    let later = Some(Duration::from_millis(5));
    assert_eq!(
        kind(third.acquire_blocking(Shared, later)),
        Some(ErrorKind::Timeout)
    );
    drop(guard);
    assert_eq!(kind(block_on(request)), Some(ErrorKind::Timeout));
}

fn quotas_are_errors(world: &dyn World) {
    let here = Process::new(world);
    let small = here.manager.owner(Limits {
        open_locks: 2,
        held_locks: 2,
        waiting_requests: 1,
        name_bytes: 8,
        ..Limits::default()
    });
    let limit = Some(ErrorKind::Quota);
    let long = small.open(&here.grant, "123456789");
    assert_eq!(kind(long), Some(ErrorKind::InvalidName));
    let a = small.open(&here.grant, "a.lock").unwrap();
    let b = small.open(&here.grant, "b.lock").unwrap();
    assert_eq!(kind(small.open(&here.grant, "c.lock")), limit);
    let held = [(); 2].map(|()| take(world, &a, Shared));
    assert_eq!(kind(a.try_acquire(Shared)), limit);
    assert_eq!(kind(b.acquire_blocking(Shared, None)), limit);
    drop(held);
    let (_other, theirs) = here.lock();
    let guard = take(world, &theirs, Exclusive);
    let waiting = a.start_acquire(Shared, None).unwrap();
    assert_eq!(kind(a.start_acquire(Shared, None)), limit);
    drop((waiting, guard));
    drop(b);
    small.open(&here.grant, "c.lock").unwrap();
    // The others never noticed.
    take(world, &theirs, Exclusive);

    // Threads are needed only for what waits outside.
    let there = Process::new(world);
    let (_foreigner, foreign) = there.lock();
    let guard = take(world, &foreign, Exclusive);
    let threadless = here.manager.owner(Limits {
        waiter_threads: 0,
        ..Limits::default()
    });
    let lock = threadless.open(&here.grant, "a.lock").unwrap();
    let refused = |by| match world.waits_need_threads() {
        true => by,
        // It waits, and in vain.
        false => Some(ErrorKind::Timeout),
    };
    let short = Some(Duration::from_millis(5));
    assert_eq!(kind(block_on(lock.acquire(Shared, short))), refused(limit));
    let own_thread = acquire(lock, Shared);
    own_thread.must_block();
    drop(guard);
    own_thread.finish();

    let bounded = LockManager::new(Ceilings {
        lock_files: 1,
        waiter_threads: 0,
    });
    let unavailable = Some(ErrorKind::Unavailable);
    let owner = bounded.owner(Limits::default());
    let lock = owner.open(&here.grant, "a.lock").unwrap();
    assert_eq!(kind(owner.open(&here.grant, "b.lock")), unavailable);
    let guard = take(world, &foreign, Exclusive);
    let waited = kind(block_on(lock.acquire(Shared, short)));
    assert_eq!(waited, refused(unavailable));
    drop((lock, guard));
    // The end of a wait lets go of the file after it has told of itself.
    eventually(&|| owner.open(&here.grant, "b.lock").is_ok());
}

fn shared_only_grants(world: &dyn World) {
    let here = Process::new(world);
    let owner = here.owner();
    // A grant of shared locks creates none.
    let (_writer, writer) = here.lock();
    let reading = here.grant.clone().shared_only(true);
    let reader = owner.open(&reading, "a.lock").unwrap();
    let denied = Some(ErrorKind::ReadOnly);
    assert_eq!(kind(reader.try_acquire(Exclusive)), denied);
    assert_eq!(kind(reader.acquire_blocking(Exclusive, None)), denied);
    assert_eq!(kind(reader.start_acquire(Exclusive, None)), denied);
    let guard = take(world, &reader, Shared);
    // An exclusive request through another grant of the same file.
    let would_block = Some(ErrorKind::WouldBlock);
    assert_eq!(kind(writer.try_acquire(Exclusive)), would_block);
    drop(guard);
    let guard = take(world, &writer, Exclusive);
    assert_eq!(kind(reader.try_acquire(Shared)), would_block);
    drop(guard);
    take(world, &reader, Shared);
}

fn asynchronous_requests_wake_their_task(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, holder) = there.lock();
    let (_b, lock) = here.lock();
    let (_c, behind) = here.lock();
    let guard = take(world, &holder, Exclusive);
    let flag = Arc::<Flag>::default();
    let mut first = lock.start_acquire(Exclusive, None).unwrap();
    let mut second = behind.start_acquire(Exclusive, None).unwrap();
    assert!(poll(&mut first, &flag).is_pending());
    assert!(poll(&mut second, &flag).is_pending());
    drop(guard);
    let (first, mut second) = start(move || (block_on(first), second)).finish();
    flag.0.store(false, Ordering::SeqCst);
    assert!(poll(&mut second, &flag).is_pending());
    drop(first.unwrap());
    // The release of a neighbour hands over without another thread.
    let woken = || flag.0.load(Ordering::SeqCst);
    if !world.is_immediate() {
        eventually(&woken);
    }
    assert!(woken());
    let Poll::Ready(guard) = poll(&mut second, &flag) else {
        panic!("woken without a reason");
    };
    guard.unwrap().release().unwrap();
}

/// Two processes of three owners each, in both forms, with requests that time
/// out, are dropped, or end with their owner.
fn a_storm_of_requests(world: &dyn World) {
    const ROUNDS: u64 = 400;
    let inside = Arc::new(AtomicI64::new(0));
    let grants = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for _ in 0..2 {
        let process = Arc::new(Process::new(world));
        for seed in 1..=3_u64 {
            let (inside, grants) = (Arc::clone(&inside), Arc::clone(&grants));
            let process = Arc::clone(&process);
            threads.push(start(move || {
                let (mut owner, mut lock) = process.lock();
                let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for _ in 0..ROUNDS {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let mode = if random & 1 == 0 { Shared } else { Exclusive };
                    let short = Some(Duration::from_micros(random >> 8 & 0xff));
                    let result = match random >> 1 & 7 {
                        0 => lock.try_acquire(mode),
                        1 => lock.acquire_blocking(mode, short),
                        2 => block_on(lock.acquire(mode, short)),
                        3 => block_on(lock.acquire(mode, Some(LIVENESS_TIMEOUT))),
                        4 => {
                            drop(lock.start_acquire(mode, None));
                            continue;
                        }
                        5 if random >> 4 & 7 == 0 => {
                            owner.close();
                            (owner, lock) = process.lock();
                            continue;
                        }
                        _ => lock.acquire_blocking(mode, Some(LIVENESS_TIMEOUT)),
                    };
                    let guard = match result {
                        Ok(guard) => guard,
                        Err(error) => {
                            let kind = error.kind();
                            assert!(
                                matches!(kind, ErrorKind::Timeout | ErrorKind::WouldBlock),
                                "{error}"
                            );
                            continue;
                        }
                    };
                    grants.fetch_add(1, Ordering::Relaxed);
                    // Readers count up from nought, a writer goes far below.
                    let step = if mode == Shared { 1 } else { -1_000_000 };
                    let before = inside.fetch_add(step, Ordering::SeqCst);
                    match mode {
                        Shared => assert!(before >= 0, "a reader beside a writer"),
                        Exclusive => assert_eq!(before, 0, "a writer beside another holder"),
                    }
                    inside.fetch_sub(step, Ordering::SeqCst);
                    drop(guard);
                }
                assert_eq!(owner.in_use(), 0);
                drop(lock);
                drop(owner);
            }));
        }
    }
    for thread in threads {
        thread.finish();
    }
    assert!(grants.load(Ordering::Relaxed) > ROUNDS, "hardly any grants");
    let (_owner, lock) = Process::new(world).lock();
    take(world, &lock, Exclusive);
}
