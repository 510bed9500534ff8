//! Order: within a host, between hosts, and what becomes of those who do not
//! take their turn.

use super::{
    Exclusive, Flag, LIVENESS_TIMEOUT, Process, Shared, World, acquire, block_on, eventually, kind,
    poll, start, take,
};
use crate::{ErrorKind, testing::TestLine};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

pub(super) fn a_grant_that_is_not_polled_goes_to_the_next(world: &dyn World) {
    let here = Process::new(world);
    let (_a, holder) = here.lock();
    let (_b, asleep) = here.lock();
    let (_c, next) = here.lock();
    let (_d, last) = here.lock();
    let guard = take(world, &holder, Exclusive);
    let flag = Arc::<Flag>::default();
    let mut sleeper = asleep.start_acquire(Exclusive, None).unwrap();
    assert!(poll(&mut sleeper, &flag).is_pending());
    let next = acquire(next, Exclusive);
    next.must_block();
    let last = acquire(last, Exclusive);
    last.must_block();
    drop(guard);
    // It is woken, and does nothing.
    let inside = next.finish();
    assert!(flag.0.load(Ordering::SeqCst));
    assert!(sleeper.is_ready());
    // It is the first again as soon as it looks.
    assert!(poll(&mut sleeper, &flag).is_pending());
    drop(inside);
    let inside = block_on(sleeper).unwrap();
    last.must_block();
    drop(inside);
    drop(last.finish());
}

pub(super) fn nobody_waits_for_a_store_that_is_not_polled(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, holder) = here.lock();
    let (_b, asleep) = here.lock();
    let (_c, foreign) = there.lock();
    let guard = take(world, &holder, Exclusive);
    let short = Some(Duration::from_millis(300));
    let forgotten = asleep.start_acquire(Shared, short).unwrap();
    let waiting = acquire(foreign, Exclusive);
    waiting.must_block();
    drop(guard);
    drop(waiting.finish());
    // Free again, it gets it at once, or its time is over.
    let result = block_on(forgotten);
    assert!(matches!(kind(result), None | Some(ErrorKind::Timeout)));
}

pub(super) fn a_grant_that_is_polled_stays(world: &dyn World) {
    let here = Process::new(world);
    let (_a, holder) = here.lock();
    let (_b, first) = here.lock();
    let (_c, second) = here.lock();
    let guard = take(world, &holder, Exclusive);
    let request = first.start_acquire(Exclusive, None).unwrap();
    let waiting = acquire(second, Exclusive);
    waiting.must_block();
    drop(guard);
    let guard = block_on(request).unwrap();
    // Longer than any patience.
    for _ in 0..5 {
        waiting.must_block();
    }
    guard.release().unwrap();
    drop(waiting.finish());
}

pub(super) fn readers_do_not_pass_a_foreign_writer(world: &dyn World) {
    if !world.is_fair() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, reader) = here.lock();
    let (_b, late) = here.lock();
    let (_c, writer) = there.lock();
    let first = take(world, &reader, Shared);
    let writing = acquire(writer, Exclusive);
    writing.must_block();
    assert_eq!(kind(late.try_acquire(Shared)), Some(ErrorKind::WouldBlock));
    // No owner waits for itself (S9).
    let second = take(world, &reader, Shared);
    let late = acquire(late, Shared);
    // Nor do readers of a host that has none so far, though the writer, who is
    // first, does not move for longer than any patience.
    let elsewhere = Process::new(world);
    let (_d, elsewhere) = elsewhere.lock();
    let elsewhere = acquire(elsewhere, Shared);
    for _ in 0..5 {
        elsewhere.must_block();
    }
    late.must_block();
    drop((first, second));
    drop(writing.finish());
    drop(late.finish());
    drop(elsewhere.finish());
}

pub(super) fn a_foreign_writer_that_gives_up_lets_readers_in(world: &dyn World) {
    if !world.is_fair() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, reader) = here.lock();
    let (_b, late) = here.lock();
    let (_c, later) = here.lock();
    let (_d, writer) = there.lock();
    let first = take(world, &reader, Shared);
    let writing = writer.start_acquire(Exclusive, None).unwrap();
    // A request of another thread has its ticket once others see it.
    eventually(&|| later.try_acquire(Shared).is_err());
    let late = acquire(late, Shared);
    late.must_block();
    let flag = Arc::<Flag>::default();
    let mut later = later.start_acquire(Shared, None).unwrap();
    assert!(poll(&mut later, &flag).is_pending());
    drop(writing);
    // The first reader still holds.
    drop(late.finish());
    drop(block_on(later).unwrap());
    first.release().unwrap();
}

/// A host in line that is stopped.
fn stopped(world: &dyn World) -> TestLine {
    let line = world.line("a.lock").expect("an order");
    line.draw(Exclusive);
    line.wait();
    line
}

pub(super) fn a_stopped_host_is_passed(world: &dyn World) {
    if world.line("a.lock").is_none() {
        return;
    }
    let here = Process::new(world);
    let (_a, lock) = here.lock();
    let (_b, other) = here.lock();
    let stopped = stopped(world);
    // A try does not pass it: it would have to wait to see that it is stopped.
    assert_eq!(kind(lock.try_acquire(Shared)), Some(ErrorKind::WouldBlock));
    for mode in [Exclusive, Shared] {
        drop(lock.acquire_blocking(mode, Some(LIVENESS_TIMEOUT)).unwrap());
        drop(block_on(other.acquire(mode, Some(LIVENESS_TIMEOUT))).unwrap());
    }
    stopped.leave();
    drop(take(world, &lock, Exclusive));
}

/// It is remembered, so that a host does not wait for it anew each time, and a
/// try does not fail for as long as it is stopped.
pub(super) fn a_stopped_host_is_passed_at_once_again(world: &dyn World) {
    if world.line("a.lock").is_none() {
        return;
    }
    let here = Process::new(world);
    let (_a, lock) = here.lock();
    let _stopped = stopped(world);
    drop(
        lock.acquire_blocking(Exclusive, Some(LIVENESS_TIMEOUT))
            .unwrap(),
    );
    let begun = Instant::now();
    for _ in 0..500 {
        drop(take(world, &lock, Exclusive));
        drop(
            lock.acquire_blocking(Shared, Some(LIVENESS_TIMEOUT))
                .unwrap(),
        );
    }
    // Waiting anew takes 100 ms and more.
    assert!(begun.elapsed() < LIVENESS_TIMEOUT, "it was waited for anew");
    // Others in line are not passed along with it.
    let next = world.line("a.lock").expect("an order");
    next.draw(Exclusive);
    eventually(&|| lock.try_acquire(Exclusive).is_err());
}

pub(super) fn a_host_that_moves_again_is_waited_for(world: &dyn World) {
    if world.line("a.lock").is_none() {
        return;
    }
    let here = Process::new(world);
    let (_a, lock) = here.lock();
    let moving = stopped(world);
    drop(
        lock.acquire_blocking(Exclusive, Some(LIVENESS_TIMEOUT))
            .unwrap(),
    );
    // It goes on, has its turn, and is in line again before the other has looked.
    moving.leave();
    moving.draw(Exclusive);
    eventually(&|| lock.try_acquire(Exclusive).is_err());
}

pub(super) fn who_comes_back_passes_a_stopped_host(world: &dyn World) {
    if world.line("a.lock").is_none() {
        return;
    }
    let here = Process::new(world);
    let (_a, holder) = here.lock();
    let (_b, asleep) = here.lock();
    let (_c, next) = here.lock();
    let (_d, last) = here.lock();
    let guard = take(world, &holder, Exclusive);
    let flag = Arc::<Flag>::default();
    let mut sleeper = asleep.start_acquire(Exclusive, None).unwrap();
    assert!(poll(&mut sleeper, &flag).is_pending());
    let next = acquire(next, Exclusive);
    next.must_block();
    let last = start(move || drop(last.acquire_blocking(Shared, None).unwrap()));
    last.must_block();
    drop(guard);
    let inside = next.finish();
    let stopped = stopped(world);
    // The last one waits for its turn behind the stopped host, then the
    // sleeper is before it again.
    drop(inside);
    drop(block_on(sleeper).unwrap());
    last.finish();
    stopped.leave();
    drop(take(world, &holder, Exclusive));
}

pub(super) fn who_comes_back_leaves_the_place_of_who_waits(world: &dyn World) {
    if world.line("a.lock").is_none() {
        return;
    }
    for mode in [Shared, Exclusive] {
        let (here, there) = (Process::new(world), Process::new(world));
        let (_a, asleep) = here.lock();
        let (_b, next) = here.lock();
        let (_c, foreign) = there.lock();
        let probe = world.line("a.lock").expect("an order");
        let in_line = || probe.is_waited_for(Exclusive);

        let guard = take(world, &foreign, Exclusive);
        let mut sleeper = asleep.start_acquire(mode, None).unwrap();
        drop(guard);
        eventually(&|| sleeper.is_ready());
        // Its grant is revoked, and another request has the lock.
        let guard = foreign
            .acquire_blocking(Exclusive, Some(LIVENESS_TIMEOUT))
            .unwrap();
        let next = next.start_acquire(Exclusive, None).unwrap();
        eventually(&in_line);
        let flag = Arc::<Flag>::default();
        assert!(poll(&mut sleeper, &flag).is_pending());
        // At once, or as soon as another ticket is drawn.
        eventually(&in_line);
        drop(sleeper);
        eventually(&in_line);
        drop(guard);
        drop(block_on(next).unwrap());
        eventually(&|| !in_line());
    }
}

pub(super) fn who_asks_after_an_unlink_does_not_wait_for_the_old_file(world: &dyn World) {
    if !world.has_files() {
        return;
    }
    let here = Process::new(world);
    let (_a, lock) = here.lock();
    let (_b, late) = here.lock();
    let guard = take(world, &lock, Exclusive);
    let first = lock.start_acquire(Exclusive, None).unwrap();
    let second = lock.start_acquire(Exclusive, None).unwrap();
    drop(guard);
    drop(block_on(first).unwrap());
    let old = block_on(second).unwrap();
    world.unlink("a.lock");
    drop(block_on(late.start_acquire(Exclusive, None).unwrap()).unwrap());
    assert_eq!(kind(old.release()), Some(ErrorKind::Replaced));
}

pub(super) fn a_lock_that_is_passed_on_follows_an_unlinked_file(world: &dyn World) {
    if !world.has_files() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, holder) = here.lock();
    let (_b, first) = here.lock();
    let (_c, second) = here.lock();
    let (_d, foreign) = there.lock();
    let guard = take(world, &holder, Exclusive);
    let first = first.start_acquire(Exclusive, None).unwrap();
    let flag = Arc::<Flag>::default();
    let mut second = second.start_acquire(Exclusive, None).unwrap();
    drop(guard);
    let first = block_on(first).unwrap();
    world.unlink("a.lock");
    let new = foreign.acquire_blocking(Exclusive, None).unwrap();
    drop(first);
    // Not the old file's, though it is free.
    assert!(poll(&mut second, &flag).is_pending());
    drop(new);
    drop(block_on(second).unwrap());
}

pub(super) fn a_busy_host_lets_others_in(world: &dyn World) {
    if !world.is_fair() {
        return;
    }
    let (busy, other) = (Arc::new(Process::new(world)), Process::new(world));
    let done = Arc::<AtomicBool>::default();
    let crowd: Vec<_> = [Exclusive, Exclusive, Shared, Shared]
        .into_iter()
        .map(|mode| {
            let (busy, done) = (Arc::clone(&busy), Arc::clone(&done));
            start(move || {
                let (_owner, lock) = busy.lock();
                while !done.load(Ordering::SeqCst) {
                    drop(lock.acquire_blocking(mode, Some(LIVENESS_TIMEOUT)).unwrap());
                }
            })
        })
        .collect();
    let (_owner, lock) = other.lock();
    for turn in 0..50 {
        let mode = if turn % 2 == 0 { Exclusive } else { Shared };
        drop(lock.acquire_blocking(mode, Some(LIVENESS_TIMEOUT)).unwrap());
    }
    done.store(true, Ordering::SeqCst);
    crowd.into_iter().for_each(|one| one.finish());
}

pub(super) fn a_lock_is_passed_on_in_order(world: &dyn World) {
    const CROWD: usize = 200;
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, holder) = here.lock();
    let guard = take(world, &holder, Exclusive);
    let mut requests = Vec::new();
    for _ in 0..CROWD {
        let (owner, lock) = here.lock();
        requests.push((lock.start_acquire(Exclusive, None).unwrap(), owner));
    }
    let (_b, foreign) = there.lock();
    let foreign = start(move || drop(foreign.acquire_blocking(Exclusive, None).unwrap()));
    foreign.must_block();
    drop(guard);
    // More than one tenure, so the other host is let in on the way.
    for (request, _owner) in requests {
        drop(block_on(request).unwrap());
    }
    foreign.finish();
}
