//! The host functions: they translate between the guest's handles and the engine, and decide
//! nothing. A function that waits has taken what it needs from the store before.

use super::{
    CallError, GuardResource, LockResource, LockspaceResource, PermitResource, RangeOwnerResource,
    SemaphoreResource,
    bindings::{flock, preopens, ranges, semaphores, types},
};
use crate::{
    Locks, LocksCtxView,
    lockspaces::{amount, since_1970},
};
use async_lock::Mutex;
use clasp_engine::{ByteRange, Error, ErrorKind, Guard, Mode, Permit, RangeOwner};
use std::{sync::Arc, time::Duration};
use wasmtime::{
    Result as Trappable,
    component::{Accessor, Resource},
};

/// What a host function answers.
type Answer<T> = Result<T, CallError>;

/// The store's data, where nothing waits.
fn with<T, R>(
    store: &Accessor<T, Locks>,
    call: impl FnOnce(LocksCtxView<'_>) -> Answer<R>,
) -> Answer<R> {
    store.with(|mut access| call(access.get()))
}

crate::error::answers!(types);

impl LocksCtxView<'_> {
    fn push_guard(&mut self, guard: Guard) -> Answer<Resource<GuardResource>> {
        let mode = guard.mode();
        let guard = Arc::new(Mutex::new(guard));
        Ok(self.table.push(GuardResource { guard, mode })?)
    }
}

fn shared_guard<T>(
    store: &Accessor<T, Locks>,
    guard: &Resource<GuardResource>,
) -> Answer<Arc<Mutex<Guard>>> {
    with(store, |view| Ok(Arc::clone(&view.table.get(guard)?.guard)))
}

fn shared_ranges<T>(
    store: &Accessor<T, Locks>,
    owner: &Resource<RangeOwnerResource>,
) -> Answer<Arc<Mutex<RangeOwner>>> {
    with(store, |view| Ok(Arc::clone(&view.table.get(owner)?.ranges)))
}

fn shared_permit<T>(
    store: &Accessor<T, Locks>,
    permit: &Resource<PermitResource>,
) -> Answer<Arc<Permit>> {
    with(store, |view| Ok(Arc::clone(&view.table.get(permit)?.0)))
}

impl preopens::Host for LocksCtxView<'_> {
    fn get_lockspaces(&mut self) -> Trappable<Vec<(Resource<LockspaceResource>, String)>> {
        Ok(self.lockspaces())
    }
}

impl types::HostLockspace for LocksCtxView<'_> {
    fn drop(&mut self, _: Resource<LockspaceResource>) -> Trappable<()> {
        Ok(())
    }
}

impl<T> types::HostLockspaceWithStore<T> for Locks {
    async fn open(
        store: &Accessor<T, Self>,
        space: Resource<LockspaceResource>,
        name: String,
    ) -> Answer<Resource<LockResource>> {
        with(store, |view| {
            let lock = Arc::new(view.open_lock(&space, &name)?);
            Ok(view.table.push(LockResource(lock))?)
        })
    }
}

impl types::HostLock for LocksCtxView<'_> {
    fn name(&mut self, lock: Resource<LockResource>) -> Trappable<String> {
        Ok(self.table.get(&lock)?.0.name().to_owned())
    }

    fn drop(&mut self, lock: Resource<LockResource>) -> Trappable<()> {
        self.table.delete(lock)?;
        Ok(())
    }
}

impl<T> types::HostLockWithStore<T> for Locks {
    async fn try_acquire(
        store: &Accessor<T, Self>,
        lock: Resource<LockResource>,
        mode: types::Mode,
    ) -> Answer<Option<Resource<GuardResource>>> {
        let lock = with(store, |view| Ok(Arc::clone(&view.table.get(&lock)?.0)))?;
        match lock.try_acquire_async(mode.into()).await {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            guard => with(store, |mut view| view.push_guard(guard?)).map(Some),
        }
    }

    async fn acquire(
        store: &Accessor<T, Self>,
        lock: Resource<LockResource>,
        mode: types::Mode,
        timeout: Option<u64>,
    ) -> Answer<Resource<GuardResource>> {
        let timeout = timeout.map(Duration::from_nanos);
        // Another task may release what this one waits for, so that no wait is a deadlock.
        let request = with(store, |view| {
            Ok(view
                .table
                .get(&lock)?
                .0
                .start_acquire(mode.into(), timeout)?)
        })?;
        let guard = request.await;
        with(store, |mut view| view.push_guard(guard?))
    }

    async fn last_touched(
        store: &Accessor<T, Self>,
        lock: Resource<LockResource>,
    ) -> Answer<Option<types::Instant>> {
        let touched = with(store, |view| Ok(view.table.get(&lock)?.0.last_touched()?))?;
        Ok(touched.map(since_1970).map(|since| types::Instant {
            seconds: since.as_secs() as i64,
            nanoseconds: since.subsec_nanos(),
        }))
    }
}

impl types::HostGuard for LocksCtxView<'_> {
    fn mode(&mut self, guard: Resource<GuardResource>) -> Trappable<types::Mode> {
        let guard = self.table.get_mut(&guard)?;
        // While it is being converted, it is held as before.
        if let Some(held) = guard.guard.try_lock() {
            guard.mode = held.mode();
        }
        Ok(guard.mode.into())
    }

    fn drop(&mut self, guard: Resource<GuardResource>) -> Trappable<()> {
        self.table.delete(guard)?;
        Ok(())
    }
}

impl<T> types::HostGuardWithStore<T> for Locks {
    async fn check(store: &Accessor<T, Self>, guard: Resource<GuardResource>) -> Answer<()> {
        let guard = shared_guard(store, &guard)?;
        Ok(guard.lock().await.check()?)
    }

    async fn lost(
        store: &Accessor<T, Self>,
        guard: Resource<GuardResource>,
    ) -> Trappable<types::ErrorCode> {
        let guard = store.with(|mut access| {
            let guard = access.get().table.get(&guard)?;
            Ok::<_, wasmtime::Error>(Arc::clone(&guard.guard))
        })?;
        let loss = guard.lock().await.loss();
        loss.await;
        match guard.lock().await.check() {
            Err(error) => Ok(error.into()),
            Ok(()) => Ok(types::ErrorCode::Lost),
        }
    }

    async fn downgrade(store: &Accessor<T, Self>, guard: Resource<GuardResource>) -> Answer<()> {
        let guard = shared_guard(store, &guard)?;
        Ok(guard.lock().await.downgrade_async().await?)
    }

    async fn try_upgrade(
        store: &Accessor<T, Self>,
        guard: Resource<GuardResource>,
    ) -> Answer<bool> {
        let guard = shared_guard(store, &guard)?;
        Ok(guard.lock().await.try_upgrade_async().await?)
    }

    async fn fencing_token(
        store: &Accessor<T, Self>,
        guard: Resource<GuardResource>,
    ) -> Answer<u64> {
        let guard = shared_guard(store, &guard)?;
        Ok(guard.lock().await.token_async().await?)
    }

    async fn touch(store: &Accessor<T, Self>, guard: Resource<GuardResource>) -> Answer<()> {
        let guard = shared_guard(store, &guard)?;
        Ok(guard.lock().await.touch()?)
    }

    async fn release(store: &Accessor<T, Self>, guard: Resource<GuardResource>) -> Answer<()> {
        let guard = with(store, |view| Ok(view.table.delete(guard)?))?;
        // No call has it: the guest could not give away a handle that a call borrows.
        match Arc::into_inner(guard.guard) {
            Some(guard) => Ok(guard.into_inner().release()?),
            None => Err(Error::from(ErrorKind::Io).into()),
        }
    }
}

impl flock::Host for LocksCtxView<'_> {}

impl<T> flock::HostWithStore<T> for Locks {
    async fn open(
        store: &Accessor<T, Self>,
        space: Resource<LockspaceResource>,
        name: String,
    ) -> Answer<Resource<LockResource>> {
        with(store, |view| {
            let lock = Arc::new(view.open_flock_lock(&space, &name)?);
            Ok(view.table.push(LockResource(lock))?)
        })
    }
}

impl ranges::Host for LocksCtxView<'_> {}

impl ranges::HostRangeOwner for LocksCtxView<'_> {
    fn is_same(
        &mut self,
        owner: Resource<RangeOwnerResource>,
        other: Resource<RangeOwnerResource>,
    ) -> Trappable<bool> {
        let other = &self.table.get(&other)?.file;
        Ok(self.table.get(&owner)?.file == *other)
    }

    fn drop(&mut self, owner: Resource<RangeOwnerResource>) -> Trappable<()> {
        self.table.delete(owner)?;
        Ok(())
    }
}

impl<T> ranges::HostRangeOwnerWithStore<T> for Locks {
    async fn open(
        store: &Accessor<T, Self>,
        space: Resource<LockspaceResource>,
        name: String,
    ) -> Answer<Resource<RangeOwnerResource>> {
        with(store, |view| {
            let ranges = view.open_range_owner(&space, &name)?;
            let file = ranges.identity().clone();
            let ranges = Arc::new(Mutex::new(ranges));
            Ok(view.table.push(RangeOwnerResource { ranges, file })?)
        })
    }

    async fn try_set(
        store: &Accessor<T, Self>,
        owner: Resource<RangeOwnerResource>,
        mode: types::Mode,
        start: u64,
        len: u64,
    ) -> Answer<bool> {
        let range = ByteRange::new(start, len)?;
        let owner = shared_ranges(store, &owner)?;
        Ok(owner.lock().await.try_set_async(range, mode.into()).await?)
    }

    async fn set(
        store: &Accessor<T, Self>,
        owner: Resource<RangeOwnerResource>,
        mode: types::Mode,
        start: u64,
        len: u64,
        timeout: Option<u64>,
    ) -> Answer<()> {
        let range = ByteRange::new(start, len)?;
        let timeout = timeout.map(Duration::from_nanos);
        let owner = shared_ranges(store, &owner)?;
        Ok(owner
            .lock()
            .await
            .request(range, mode.into(), timeout)
            .await?)
    }

    async fn unlock(
        store: &Accessor<T, Self>,
        owner: Resource<RangeOwnerResource>,
        start: u64,
        len: u64,
    ) -> Answer<()> {
        let range = ByteRange::new(start, len)?;
        let owner = shared_ranges(store, &owner)?;
        Ok(owner.lock().await.unlock(range)?)
    }

    async fn test(
        store: &Accessor<T, Self>,
        owner: Resource<RangeOwnerResource>,
        mode: types::Mode,
        start: u64,
        len: u64,
    ) -> Answer<Option<ranges::LockedRange>> {
        let range = ByteRange::new(start, len)?;
        let owner = shared_ranges(store, &owner)?;
        let found = owner.lock().await.test(range, mode.into())?;
        Ok(found.map(|(range, mode)| ranges::LockedRange {
            mode: mode.into(),
            start: range.start(),
            len: range.len(),
        }))
    }
}

impl semaphores::Host for LocksCtxView<'_> {}

impl semaphores::HostSemaphore for LocksCtxView<'_> {
    fn name(&mut self, semaphore: Resource<SemaphoreResource>) -> Trappable<String> {
        Ok(self.table.get(&semaphore)?.0.name().to_owned())
    }

    fn permits(&mut self, semaphore: Resource<SemaphoreResource>) -> Trappable<u32> {
        Ok(self.table.get(&semaphore)?.0.permits().into())
    }

    fn drop(&mut self, semaphore: Resource<SemaphoreResource>) -> Trappable<()> {
        self.table.delete(semaphore)?;
        Ok(())
    }
}

impl<T> semaphores::HostSemaphoreWithStore<T> for Locks {
    async fn open(
        store: &Accessor<T, Self>,
        space: Resource<LockspaceResource>,
        name: String,
        permits: u32,
    ) -> Answer<Resource<SemaphoreResource>> {
        with(store, |view| {
            let semaphore = Arc::new(view.open_semaphore(&space, &name, permits)?);
            Ok(view.table.push(SemaphoreResource(semaphore))?)
        })
    }

    async fn try_acquire(
        store: &Accessor<T, Self>,
        semaphore: Resource<SemaphoreResource>,
        count: u32,
    ) -> Answer<Option<Resource<PermitResource>>> {
        let semaphore = with(store, |view| Ok(Arc::clone(&view.table.get(&semaphore)?.0)))?;
        match semaphore.try_acquire_async(amount(count)).await {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            permit => {
                let permit = PermitResource(Arc::new(permit?));
                with(store, |view| Ok(Some(view.table.push(permit)?)))
            }
        }
    }

    async fn acquire(
        store: &Accessor<T, Self>,
        semaphore: Resource<SemaphoreResource>,
        count: u32,
        timeout: Option<u64>,
    ) -> Answer<Resource<PermitResource>> {
        let timeout = timeout.map(Duration::from_nanos);
        // Another task may release what this one waits for, so that no wait is a deadlock.
        let request = with(store, |view| {
            let semaphore = &view.table.get(&semaphore)?.0;
            Ok(semaphore.start_acquire(amount(count), timeout)?)
        })?;
        let permit = PermitResource(Arc::new(request.await?));
        with(store, |view| Ok(view.table.push(permit)?))
    }
}

impl semaphores::HostPermit for LocksCtxView<'_> {
    fn numbers(&mut self, permit: Resource<PermitResource>) -> Trappable<Vec<u32>> {
        let numbers = self.table.get(&permit)?.0.numbers();
        Ok(numbers.iter().map(u32::from).collect())
    }

    fn drop(&mut self, permit: Resource<PermitResource>) -> Trappable<()> {
        self.table.delete(permit)?;
        Ok(())
    }
}

impl<T> semaphores::HostPermitWithStore<T> for Locks {
    async fn check(store: &Accessor<T, Self>, permit: Resource<PermitResource>) -> Answer<()> {
        Ok(shared_permit(store, &permit)?.check()?)
    }

    async fn lost(
        store: &Accessor<T, Self>,
        permit: Resource<PermitResource>,
    ) -> Trappable<types::ErrorCode> {
        let permit = store.with(|mut access| {
            let permit = access.get().table.get(&permit)?;
            Ok::<_, wasmtime::Error>(Arc::clone(&permit.0))
        })?;
        permit.loss().await;
        match permit.check() {
            Err(error) => Ok(error.into()),
            Ok(()) => Ok(types::ErrorCode::Lost),
        }
    }

    async fn fencing_token(
        store: &Accessor<T, Self>,
        permit: Resource<PermitResource>,
    ) -> Answer<u64> {
        Ok(shared_permit(store, &permit)?.token()?)
    }

    async fn release(store: &Accessor<T, Self>, permit: Resource<PermitResource>) -> Answer<()> {
        let permit = with(store, |view| Ok(view.table.delete(permit)?))?;
        // No call has it: the guest could not give away a handle that a call borrows.
        match Arc::into_inner(permit.0) {
            Some(permit) => Ok(permit.release()?),
            None => Err(Error::from(ErrorKind::Io).into()),
        }
    }
}
