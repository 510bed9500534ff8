//! Semaphores: how many may hold permits, who is next, and what becomes of permits.

use super::{
    Flag, LIVENESS_TIMEOUT, Process, Started, World, block_on, eventually, kind, poll, start,
};
use crate::{Error, ErrorKind, Limits, Owner, Permit, Permits, Semaphore};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

const WOULD_BLOCK: Option<ErrorKind> = Some(ErrorKind::WouldBlock);

impl Process {
    fn semaphore(&self, permits: u8) -> (Owner, Semaphore) {
        let owner = self.owner();
        let semaphore = owner.open_semaphore(&self.grant, "a.sem", permits);
        (owner, semaphore.unwrap())
    }
}

/// Takes permits that are free, or are about to be where operations take their time.
fn take(world: &dyn World, semaphore: &Semaphore, count: u8) -> Permit {
    let begun = Instant::now();
    loop {
        match semaphore.try_acquire(count) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && !world.is_immediate() => {
                assert!(begun.elapsed() < LIVENESS_TIMEOUT, "they stay taken");
            }
            taken => return taken.unwrap(),
        }
    }
}

fn acquire(semaphore: Semaphore, count: u8) -> Started<Permit> {
    start(move || semaphore.acquire_blocking(count, None).unwrap())
}

fn numbers(permits: &[&Permit]) -> Vec<u8> {
    let numbers = permits.iter().flat_map(|permit| permit.numbers().iter());
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

pub(super) fn semaphores_exist_or_are_refused(world: &dyn World) {
    let here = Process::new(world);
    let owner = here.owner();
    let opened = owner.open_semaphore(&here.grant, "a.sem", 2);
    let expect = (!world.has_semaphores()).then_some(ErrorKind::Unsupported);
    assert_eq!(kind(opened), expect);
}

pub(super) fn permits_are_counted_among_processes(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (owner, semaphore) = here.semaphore(3);
    let (_neighbour, beside) = here.semaphore(3);
    let (_foreigner, outside) = there.semaphore(3);
    assert_eq!((semaphore.permits(), semaphore.name()), (3, "a.sem"));
    let second = owner.open_semaphore(&here.grant, "./a.sem", 3).unwrap();
    let two = take(world, &semaphore, 2);
    let one = take(world, &outside, 1);
    assert_eq!(numbers(&[&two, &one]), [0, 1, 2]);
    for other in [&semaphore, &second, &beside, &outside] {
        for count in 1..=3 {
            assert_eq!(kind(other.try_acquire(count)), WOULD_BLOCK);
            let task = block_on(other.try_acquire_async(count));
            assert_eq!(kind(task), WOULD_BLOCK);
        }
    }
    two.release().unwrap();
    let beside = take(world, &beside, 2);
    assert_eq!(kind(outside.try_acquire(1)), WOULD_BLOCK);
    drop((one, beside));
    assert_eq!(numbers(&[&take(world, &outside, 3)]), [0, 1, 2]);
    assert_eq!(owner.in_use(), 0);
}

pub(super) fn a_permit_wakes_a_waiter(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    for (holders, waiters) in [(&here, &here), (&here, &there)] {
        let (_a, holder) = holders.semaphore(2);
        let (_b, waiter) = waiters.semaphore(2);
        let (_c, task) = waiters.semaphore(2);
        let (one, other) = (take(world, &holder, 1), take(world, &holder, 1));
        let number = other.numbers();
        let waiting = acquire(waiter, 1);
        waiting.must_block();
        drop(other);
        let first = waiting.finish();
        assert_eq!(first.numbers(), number);
        // As a task, and two at once.
        let waiting = task.start_acquire(2, None).unwrap();
        drop(one);
        drop(first);
        assert_eq!(block_on(waiting).unwrap().numbers(), Permits::first(2));
    }
}

pub(super) fn waits_for_permits_end_in_time(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, holder) = here.semaphore(2);
    let (_b, inside) = here.semaphore(2);
    let (_c, outside) = there.semaphore(2);
    let permit = take(world, &holder, 1);
    for other in [&inside, &outside] {
        for timeout in [Duration::ZERO, Duration::from_millis(5)] {
            let blocking = other.acquire_blocking(2, Some(timeout));
            assert_eq!(kind(blocking), Some(ErrorKind::Timeout), "{timeout:?}");
            let task = block_on(other.acquire(2, Some(timeout)));
            assert_eq!(kind(task), Some(ErrorKind::Timeout), "{timeout:?}");
        }
    }
    // Nothing is left of them.
    drop(take(world, &outside, 1));
    drop(permit);
    for other in [&inside, &outside] {
        drop(take(world, other, 2));
        other.acquire_blocking(2, None).unwrap();
        block_on(other.acquire(1, None)).unwrap();
    }
}

pub(super) fn a_dropped_request_for_permits_leaves_no_trace(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, holder) = here.semaphore(2);
    let (_b, waiter) = there.semaphore(2);
    let (_c, beside) = there.semaphore(2);
    for round in 0..200 {
        let permit = take(world, &holder, 1);
        let request = waiter.start_acquire(2, None).unwrap();
        for _ in 0..round % 7 * 50 {
            std::hint::spin_loop();
        }
        drop(request);
        // Only the request that is gone kept others from the second permit.
        drop(take(world, &beside, 1));
        drop(permit);
        drop(take(world, &beside, 2));
        drop(take(world, &holder, 2));
    }
}

/// A request for few permits does not pass one for many.
pub(super) fn permits_go_to_who_came_first(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let here = Process::new(world);
    let (_a, holder) = here.semaphore(3);
    let (_b, large) = here.semaphore(3);
    let (_c, small) = here.semaphore(3);
    let flag = Arc::<Flag>::default();
    let permit = take(world, &holder, 1);
    let mut first = large.start_acquire(3, None).unwrap();
    let mut second = small.start_acquire(1, None).unwrap();
    assert!(poll(&mut first, &flag).is_pending());
    assert!(poll(&mut second, &flag).is_pending());
    assert_eq!(kind(small.try_acquire(1)), WOULD_BLOCK);
    assert_eq!(kind(holder.try_acquire(1)), WOULD_BLOCK);
    drop(permit);
    let all = block_on(first).unwrap();
    assert!(poll(&mut second, &flag).is_pending());
    drop(all);
    drop(block_on(second).unwrap());
}

/// So between processes, where they have an order.
pub(super) fn permits_go_to_the_process_that_came_first(world: &dyn World) {
    if !world.has_semaphores() || !world.is_fair() {
        return;
    }
    let [here, there, elsewhere] = [(); 3].map(|()| Process::new(world));
    let (_a, holder) = here.semaphore(2);
    let (_b, large) = there.semaphore(2);
    let (_c, small) = elsewhere.semaphore(2);
    let permit = take(world, &holder, 1);
    let first = acquire(large, 2);
    first.must_block();
    // One permit is free, but another process waits for two.
    assert_eq!(kind(small.try_acquire(1)), WOULD_BLOCK);
    let second = acquire(small, 1);
    second.must_block();
    drop(permit);
    let all = first.finish();
    second.must_block();
    drop(all);
    drop(second.finish());
}

/// Requests of two processes for all permits do not each get some of them.
pub(super) fn waits_for_all_permits_end(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let process = || {
        let process = Process::new(world);
        let (owner, semaphore) = process.semaphore(2);
        start(move || {
            for turn in 0..100 {
                let count = 1 + turn % 2;
                drop(semaphore.acquire_blocking(count, None).unwrap());
            }
            drop(owner);
        })
    };
    for process in [process(), process(), process()] {
        process.finish();
    }
}

/// A host that goes on with a permit among its guests lets others have it in between.
pub(super) fn a_busy_host_gives_permits_to_others(world: &dyn World) {
    if !world.has_semaphores() || !world.is_fair() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy = [(); 3].map(|()| {
        let (owner, semaphore) = here.semaphore(2);
        let over = Arc::clone(&over);
        start(move || {
            while !over.load(Ordering::SeqCst) {
                drop(semaphore.acquire_blocking(1, None).unwrap());
            }
            drop(owner);
        })
    });
    let (_b, outside) = there.semaphore(2);
    for _ in 0..20 {
        drop(acquire_here(&outside));
    }
    over.store(true, Ordering::SeqCst);
    for thread in busy {
        thread.finish();
    }
}

fn acquire_here(semaphore: &Semaphore) -> Permit {
    let permit = semaphore.acquire_blocking(1, Some(LIVENESS_TIMEOUT));
    permit.expect("the other process goes on")
}

/// An owner that has permits may wait for more, unless it has too many itself.
pub(super) fn an_owner_never_waits_for_its_own_permits(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let here = Process::new(world);
    let (owner, semaphore) = here.semaphore(3);
    let (_b, other) = here.semaphore(3);
    let deadlock = Some(ErrorKind::Deadlock);
    let two = take(world, &semaphore, 2);
    assert_eq!(kind(semaphore.acquire_blocking(2, None)), deadlock);
    assert_eq!(kind(block_on(semaphore.acquire(3, None))), deadlock);
    let theirs = take(world, &other, 1);
    // The other may give its permit back.
    let soon = Some(Duration::from_millis(5));
    let waits = semaphore.acquire_blocking(1, soon);
    assert_eq!(kind(waits), Some(ErrorKind::Timeout));
    // A request beside which the owner goes on may release what is missing.
    let request = semaphore.start_acquire(3, None).unwrap();
    drop((two, theirs));
    drop(block_on(request).unwrap());
    assert_eq!(owner.in_use(), 0);
}

pub(super) fn what_is_no_semaphore_is_refused(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let here = Process::new(world);
    let owner = here.owner();
    let open = |permits| owner.open_semaphore(&here.grant, "a.sem", permits);
    for permits in [0, Permits::MOST + 1, u8::MAX] {
        assert_eq!(kind(open(permits)), Some(ErrorKind::Unsupported));
    }
    let semaphore = open(2).unwrap();
    // One host uses one semaphore in one way.
    let mismatch = Some(ErrorKind::FamilyMismatch);
    assert_eq!(kind(open(3)), mismatch);
    assert_eq!(kind(owner.open(&here.grant, "a.sem")), mismatch);
    for count in [0, 3] {
        let unsupported = Some(ErrorKind::Unsupported);
        assert_eq!(kind(semaphore.try_acquire(count)), unsupported);
        assert_eq!(kind(semaphore.acquire_blocking(count, None)), unsupported);
        assert_eq!(kind(semaphore.start_acquire(count, None)), unsupported);
    }
    let reading = here.grant.clone().shared_only(true);
    let read_only = owner.open_semaphore(&reading, "a.sem", 2);
    assert_eq!(kind(read_only), Some(ErrorKind::ReadOnly));
    drop(semaphore);
    assert_eq!(open(3).unwrap().permits(), 3);
    // The most that there can be.
    let largest = owner.open_semaphore(&here.grant, "b.sem", Permits::MOST);
    let largest = largest.unwrap();
    let all = take(world, &largest, Permits::MOST);
    assert_eq!(all.numbers(), Permits::first(Permits::MOST));
    assert_eq!(kind(largest.try_acquire(1)), WOULD_BLOCK);
}

pub(super) fn the_end_of_an_owner_frees_its_permits(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (owner, semaphore) = here.semaphore(2);
    let (_b, outside) = there.semaphore(2);
    let permit = take(world, &semaphore, 2);
    let waiting = acquire(outside, 2);
    waiting.must_block();
    owner.close();
    assert_eq!(kind(permit.check()), Some(ErrorKind::Closed));
    assert!(!permit.is_held());
    assert_eq!(permit.numbers(), Permits::first(2));
    block_on(permit.loss());
    assert_eq!(kind(semaphore.try_acquire(1)), Some(ErrorKind::Closed));
    drop(waiting.finish());
}

pub(super) fn permits_count_against_the_quota(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let here = Process::new(world);
    let small = here.manager.owner(Limits::default().held_locks(2));
    let semaphore = small.open_semaphore(&here.grant, "a.sem", 4).unwrap();
    let permits = [(); 2].map(|()| take(world, &semaphore, 1));
    assert_eq!(kind(semaphore.try_acquire(1)), Some(ErrorKind::Quota));
    drop(permits);
    take(world, &semaphore, 1).release().unwrap();
}

pub(super) fn lost_permits_are_told(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, semaphore) = here.semaphore(2);
    let (_b, outside) = there.semaphore(2);
    let permits = [take(world, &semaphore, 1), take(world, &outside, 1)];
    if !world.lose("a.sem") {
        return;
    }
    for permit in &permits {
        block_on(permit.loss());
        assert_eq!(kind(permit.check()), Some(ErrorKind::Lost));
        assert_eq!(permit.numbers().len(), 1);
    }
    // They are free for all, and those that were lost release nothing.
    let all = semaphore.acquire_blocking(2, None).unwrap();
    for permit in permits {
        assert_eq!(kind(permit.release()), Some(ErrorKind::Lost));
    }
    assert_eq!(all.check(), Ok(()));
    assert_eq!(kind(outside.try_acquire(1)), WOULD_BLOCK);
}

pub(super) fn a_semaphore_follows_an_unlinked_file(world: &dyn World) {
    if !world.has_semaphores() || !world.has_files() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, semaphore) = here.semaphore(2);
    let (_b, outside) = there.semaphore(2);
    let old = take(world, &semaphore, 2);
    let waiting = acquire(outside, 1);
    waiting.must_block();
    world.unlink("a.sem");
    assert_eq!(kind(old.check()), Some(ErrorKind::Replaced));
    let (_c, fresh) = here.semaphore(2);
    let new = take(world, &fresh, 1);
    // The waiter comes to the new file once the old one wakes it.
    drop(old);
    let second = waiting.finish();
    assert_eq!(numbers(&[&new, &second]), [0, 1]);
    assert_eq!(kind(semaphore.try_acquire(1)), WOULD_BLOCK);
    assert_eq!((new.check(), second.check()), (Ok(()), Ok(())));
}

pub(super) fn tokens_of_permits_increase(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, semaphore) = here.semaphore(2);
    let (_b, beside) = here.semaphore(2);
    let (_c, outside) = there.semaphore(2);
    let first = take(world, &semaphore, 1);
    if !world.has_tokens() {
        assert_eq!(kind(first.token()), Some(ErrorKind::Unsupported));
        return;
    }
    // Also while another waits.
    let other = take(world, &outside, 1);
    let waiting = acquire(beside, 1);
    waiting.must_block();
    let token = first.token().unwrap();
    assert_eq!(first.token(), Ok(token));
    assert_ne!(other.token(), Ok(token));
    drop(first);
    let mut last = token;
    let mut permit = waiting.finish();
    for round in 0..10 {
        let token = permit.token().unwrap();
        assert!(token > last, "{token} after {last}");
        last = token;
        drop(permit);
        let next = if round % 2 == 0 { &outside } else { &semaphore };
        permit = take(world, next, 1);
    }
}

/// The permits that are held, by their numbers.
#[derive(Default)]
struct Slots(Mutex<Permits>);

impl Slots {
    fn held(&self) -> MutexGuard<'_, Permits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, permits: Permits) {
        let mut held = self.held();
        assert_eq!(held.without(permits), *held, "{permits:?} beside {held:?}");
        *held = held.with(permits);
    }

    fn leave(&self, permits: Permits) {
        let mut held = self.held();
        *held = held.without(permits);
    }
}

/// Two processes of three owners each, in all forms, with requests that time out, are
/// dropped, or end with their owner.
pub(super) fn a_storm_for_permits(world: &dyn World) {
    const ROUNDS: u64 = 200;
    const PERMITS: u8 = 3;
    if !world.has_semaphores() {
        return;
    }
    let slots = Arc::<Slots>::default();
    let grants = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for _ in 0..2 {
        let process = Arc::new(Process::new(world));
        for seed in 1..=3_u64 {
            let (slots, grants) = (Arc::clone(&slots), Arc::clone(&grants));
            let process = Arc::clone(&process);
            threads.push(start(move || {
                let (mut owner, mut semaphore) = process.semaphore(PERMITS);
                let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for _ in 0..ROUNDS {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let count = if random & 3 == 0 { 2 } else { 1 };
                    let short = Some(Duration::from_micros(random >> 8 & 0xff));
                    let result: Result<Permit, Error> = match random >> 2 & 7 {
                        0 => semaphore.try_acquire(count),
                        1 => semaphore.acquire_blocking(count, short),
                        2 => block_on(semaphore.acquire(count, short)),
                        3 => block_on(semaphore.acquire(count, Some(LIVENESS_TIMEOUT))),
                        4 => {
                            drop(semaphore.start_acquire(count, None));
                            continue;
                        }
                        5 if random >> 5 & 7 == 0 => {
                            owner.close();
                            (owner, semaphore) = process.semaphore(PERMITS);
                            continue;
                        }
                        _ => semaphore.acquire_blocking(count, Some(LIVENESS_TIMEOUT)),
                    };
                    let permit = match result {
                        Ok(permit) => permit,
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
                    let held = permit.numbers();
                    assert_eq!(held.len(), count);
                    slots.enter(held);
                    slots.leave(held);
                    drop(permit);
                }
                assert_eq!(owner.in_use(), 0);
            }));
        }
    }
    for thread in threads {
        thread.finish();
    }
    assert!(grants.load(Ordering::Relaxed) > ROUNDS, "hardly any grants");
    let (_owner, semaphore) = Process::new(world).semaphore(PERMITS);
    drop(take(world, &semaphore, PERMITS));
}

/// Grants that no task looks at go to the next.
pub(super) fn a_permit_that_is_not_polled_goes_to_the_next(world: &dyn World) {
    if !world.has_semaphores() {
        return;
    }
    let here = Process::new(world);
    let (_a, holder) = here.semaphore(1);
    let (_b, asleep) = here.semaphore(1);
    let (_c, next) = here.semaphore(1);
    let permit = take(world, &holder, 1);
    let flag = Arc::<Flag>::default();
    let mut sleeper = asleep.start_acquire(1, None).unwrap();
    assert!(poll(&mut sleeper, &flag).is_pending());
    let next = acquire(next, 1);
    next.must_block();
    drop(permit);
    let inside = next.finish();
    assert!(poll(&mut sleeper, &flag).is_pending());
    drop(inside);
    eventually(&|| sleeper.is_ready());
    let Poll::Ready(permit) = poll(&mut sleeper, &flag) else {
        // Revoked again by a machine that is busy.
        drop(block_on(sleeper).unwrap());
        return;
    };
    drop(permit.unwrap());
}
