//! Cases about guards: conversions, tokens, times, and how a hold ends.

use super::*;
use crate::LockUse;

pub(super) fn a_downgrade_lets_readers_in(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, writer) = here.lock();
    let (_b, reader) = here.lock();
    let (_c, foreign) = there.lock();
    let mut guard = take(world, &writer, Exclusive);
    let waiting = acquire(reader, Shared);
    waiting.must_block();
    guard.downgrade().unwrap();
    assert_eq!(guard.mode(), Shared);
    let beside = waiting.finish();
    // No writer comes in between, and other hosts read where the family converts.
    assert_eq!(
        kind(foreign.try_acquire(Exclusive)),
        Some(ErrorKind::WouldBlock)
    );
    if world.converts() {
        take(world, &foreign, Shared).release().unwrap();
    } else {
        assert_eq!(
            kind(foreign.try_acquire(Shared)),
            Some(ErrorKind::WouldBlock)
        );
    }
    guard.downgrade().unwrap();
    guard.release().unwrap();
    drop(beside);
    drop(
        foreign
            .acquire_blocking(Exclusive, Some(LIVENESS_TIMEOUT))
            .unwrap(),
    );
}

pub(super) fn an_upgrade_succeeds_for_the_one_holder(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let (_a, lock) = here.lock();
    let (_b, beside) = here.lock();
    let (_c, foreign) = there.lock();
    let mut guard = lock.acquire_blocking(Shared, None).unwrap();
    let other = beside.acquire_blocking(Shared, None).unwrap();
    assert!(
        !guard.try_upgrade().unwrap(),
        "beside a holder of this host"
    );
    drop(other);
    if !world.converts() {
        let refused = guard.try_upgrade();
        assert_eq!(kind(refused), Some(ErrorKind::Unsupported));
        assert_eq!(guard.mode(), Shared);
        return guard.release().unwrap();
    }
    let other = foreign.acquire_blocking(Shared, None).unwrap();
    assert!(
        !guard.try_upgrade().unwrap(),
        "beside a holder of another host"
    );
    assert_eq!(guard.mode(), Shared);
    drop(other);
    let mut upgraded = false;
    eventually(&|| foreign.try_acquire(Shared).is_ok());
    while !upgraded {
        upgraded = guard.try_upgrade().unwrap();
    }
    assert_eq!(guard.mode(), Exclusive);
    for other in [&beside, &foreign] {
        assert_eq!(kind(other.try_acquire(Shared)), Some(ErrorKind::WouldBlock));
    }
    guard.downgrade().unwrap();
    beside
        .acquire_blocking(Shared, None)
        .unwrap()
        .release()
        .unwrap();
    guard.release().unwrap();
    drop(
        foreign
            .acquire_blocking(Exclusive, Some(LIVENESS_TIMEOUT))
            .unwrap(),
    );
}

pub(super) fn tokens_increase(world: &dyn World) {
    let (here, there) = (Process::new(world), Process::new(world));
    let ((_a, lock), (_b, foreign)) = (here.lock(), there.lock());
    let mut guard = lock.acquire_blocking(Exclusive, None).unwrap();
    let first = match guard.token() {
        Err(error) if !world.has_tokens() => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            return;
        }
        token => token.unwrap(),
    };
    assert_eq!(guard.token(), Ok(first));
    guard.downgrade().unwrap();
    assert_eq!(kind(guard.token()), Some(ErrorKind::Unsupported));
    while !guard.try_upgrade().unwrap() {}
    let second = guard.token().unwrap();
    assert!(second > first, "{second} after {first}");
    drop(guard);
    let guard = foreign.acquire_blocking(Exclusive, None).unwrap();
    assert!(guard.token().unwrap() > second);
}

pub(super) fn a_guard_says_why_its_hold_has_ended(world: &dyn World) {
    let here = Process::new(world);
    let (owner, lock) = here.lock();
    let guard = take(world, &lock, Exclusive);
    guard.check().unwrap();
    if world.has_files() {
        // The name is gone, the lock is held all the same.
        world.unlink("a.lock");
        assert_eq!(kind(guard.check()), Some(ErrorKind::Replaced));
    }
    assert!(guard.is_held());
    let flag = Arc::new(Flag::default());
    let mut loss = guard.loss();
    assert!(poll(&mut loss, &flag).is_pending());
    owner.close();
    assert!(flag.0.load(Ordering::SeqCst));
    assert!(poll(&mut loss, &flag).is_ready());
    for error in [
        kind(guard.check()),
        kind(guard.touch()),
        kind(guard.token()),
    ] {
        assert_eq!(error, Some(ErrorKind::Closed));
    }
    assert_eq!(kind(guard.release()), Some(ErrorKind::Closed));
    if !world.lose("a.lock") {
        return;
    }
    let (_owner, lock) = here.lock();
    let mut guard = take(world, &lock, Exclusive);
    let waits = start({
        let loss = guard.loss();
        move || block_on(loss)
    });
    waits.must_block();
    assert!(world.lose("a.lock"));
    waits.finish();
    assert_eq!(kind(guard.check()), Some(ErrorKind::Lost));
    assert_eq!(kind(guard.downgrade()), Some(ErrorKind::Lost));
    assert_eq!(kind(guard.try_upgrade()), Some(ErrorKind::Lost));
    assert_eq!(kind(guard.release()), Some(ErrorKind::Lost));
    // The lock is there for others.
    take(world, &lock, Exclusive).release().unwrap();
}

pub(super) fn a_loss_outlives_its_guard(world: &dyn World) {
    let (owner, lock) = Process::new(world).lock();
    let (guard, other) = (take(world, &lock, Shared), take(world, &lock, Shared));
    let (flag, mut loss) = (Arc::new(Flag::default()), guard.loss());
    let mut dropped = guard.loss();
    assert!(poll(&mut loss, &flag).is_pending());
    assert!(poll(&mut dropped, &flag).is_pending());
    drop(dropped);
    // Whoever else releases it wakes the task for nothing.
    drop(other);
    assert!(poll(&mut loss, &flag).is_pending());
    flag.0.store(false, Ordering::SeqCst);
    drop(guard);
    assert!(flag.0.load(Ordering::SeqCst));
    assert!(poll(&mut loss, &flag).is_ready());
    let mut never_polled = take(world, &lock, Shared).loss();
    drop((lock, owner));
    assert!(poll(&mut never_polled, &flag).is_ready());
}

pub(super) fn a_holder_touches_the_lock(world: &dyn World) {
    if !world.has_files() {
        return;
    }
    let (here, there) = (Process::new(world), Process::new(world));
    let (owner, lock) = here.lock();
    let (_b, watcher) = there.lock();
    let mut last = watcher.last_touched().unwrap();
    assert!(last.is_none() || !keeps_creation_times());
    for mode in [Exclusive, Shared] {
        let guard = lock.acquire_blocking(mode, None).unwrap();
        guard.touch().unwrap();
        let touched = watcher.last_touched().unwrap();
        assert!(touched >= last && touched.is_some());
        last = touched;
    }
    let reading = here.grant.clone().shared_only(true);
    let reader = owner.open(&reading, "a.lock").unwrap();
    let guard = reader.acquire_blocking(Shared, None).unwrap();
    assert_eq!(kind(guard.touch()), Some(ErrorKind::ReadOnly));
    assert_eq!(reader.last_touched(), Ok(last));
}

pub(super) fn created_locks_are_counted(world: &dyn World) {
    if !world.has_files() {
        return;
    }
    let here = Process::new(world);
    let owner = here.manager.owner(Limits::default().created_locks(2));
    let open = |name| kind(owner.open(&here.grant, name));
    assert_eq!([open("a.lock"), open("b.lock")], [None, None]);
    assert_eq!(open("c.lock"), Some(ErrorKind::Quota));
    // Those that are there can be opened, and a refusal has created nothing.
    assert_eq!([open("a.lock"), open("b.lock")], [None, None]);
    assert_eq!(open("c.lock"), Some(ErrorKind::Quota));
    let other = here.owner();
    drop(other.open(&here.grant, "c.lock").unwrap());
    assert_eq!(open("c.lock"), None);
}

pub(super) fn a_snapshot_shows_holders_and_waiters(world: &dyn World) {
    let here = Process::new(world);
    let labelled = |label| here.manager.labelled_owner(label, Limits::default());
    let (reader, writer) = (labelled("reader"), labelled("writer"));
    let shared = reader.open(&here.grant, "./a.lock").unwrap();
    let exclusive = writer.open(&here.grant, "a.lock").unwrap();
    assert_eq!(here.manager.snapshot(), []);
    let guards = (take(world, &shared, Shared), take(world, &shared, Shared));
    let waits = exclusive.start_acquire(Exclusive, None).unwrap();
    let lock_use = |owner: &str, mode, held| LockUse {
        owner: owner.into(),
        lock: "a.lock".into(),
        mode,
        held,
        range: None,
        permits: None,
    };
    let held = lock_use("reader", Shared, true);
    let waiting = lock_use("writer", Exclusive, false);
    assert_eq!(
        here.manager.snapshot(),
        [held.clone(), held.clone(), waiting.clone()]
    );
    let handle = writer.handle();
    assert_eq!(handle.label().as_deref(), Some("writer"));
    assert_eq!(handle.snapshot(), [waiting]);
    drop((guards, waits));
    eventually(&|| here.manager.snapshot().is_empty());
    drop((exclusive, writer));
    assert_eq!((handle.snapshot(), handle.label()), (vec![], None));
}
