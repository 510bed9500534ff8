//! The host functions: they translate between the guest's handles and the
//! engine, and decide nothing.

use super::{
    CallError,
    bindings::preopens,
    resources::{
        FutureGuardResource, FuturePermitResource, GuardResource, LockResource, Lost,
        PermitResource, RangeOwnerResource, SemaphoreResource, Shared,
    },
};
use crate::{
    LocksCtxView,
    lockspaces::{LockspaceResource, amount, since_1970},
};
use clasp_engine::{ByteRange, Error, ErrorKind, Guard, Mode, Permit};
use std::time::Duration;
use wasmtime::{
    Result as Trappable,
    component::{Resource, ResourceTableError},
};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

/// What a host function answers.
type Answer<T> = Result<T, CallError>;

/// What `get` of a request answers.
type Got<T, E> = Option<Result<Result<Resource<T>, E>, ()>>;

impl LocksCtxView<'_> {
    fn open(
        &mut self,
        space: &Resource<LockspaceResource>,
        name: &str,
    ) -> Answer<Resource<LockResource>> {
        let lock = self.open_lock(space, name)?;
        Ok(self.table.push(LockResource(lock))?)
    }

    fn open_flock(
        &mut self,
        space: &Resource<LockspaceResource>,
        name: &str,
    ) -> Answer<Resource<LockResource>> {
        let lock = self.open_flock_lock(space, name)?;
        Ok(self.table.push(LockResource(lock))?)
    }

    fn open_ranges(
        &mut self,
        space: &Resource<LockspaceResource>,
        name: &str,
    ) -> Answer<Resource<RangeOwnerResource>> {
        let ranges = self.open_range_owner(space, name)?;
        Ok(self.table.push(RangeOwnerResource(ranges))?)
    }

    fn guard(&mut self, guard: Result<Guard, Error>) -> Answer<Resource<GuardResource>> {
        Ok(self.table.push(GuardResource(guard?))?)
    }

    /// What a try has achieved.
    fn tried(&mut self, guard: Result<Guard, Error>) -> Answer<Option<Resource<GuardResource>>> {
        match guard {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            guard => self.guard(guard).map(Some),
        }
    }

    fn start_acquire(
        &mut self,
        lock: &Resource<LockResource>,
        mode: Mode,
        timeout: Option<u64>,
    ) -> Answer<Resource<FutureGuardResource>> {
        let lock = &self.table.get(lock)?.0;
        let acquire = lock.start_acquire(mode, timeout.map(Duration::from_nanos))?;
        Ok(self.table.push(FutureGuardResource(Shared::new(acquire)))?)
    }

    fn last_touched(&mut self, lock: &Resource<LockResource>) -> Answer<Option<Duration>> {
        let touched = self.table.get(lock)?.0.last_touched()?;
        Ok(touched.map(since_1970))
    }

    fn get(
        &mut self,
        future: &Resource<FutureGuardResource>,
    ) -> Trappable<Got<GuardResource, Error>> {
        let outcome = self.table.get(future)?.0.take();
        once(outcome, |guard| self.guard(guard))
    }

    fn get_permit(
        &mut self,
        future: &Resource<FuturePermitResource>,
    ) -> Trappable<Got<PermitResource, Error>> {
        let outcome = self.table.get(future)?.0.take();
        once(outcome, |permit| self.permit(permit))
    }

    fn permit(&mut self, permit: Result<Permit, Error>) -> Answer<Resource<PermitResource>> {
        Ok(self.table.push(PermitResource(permit?))?)
    }

    /// What a try for permits has achieved.
    fn tried_permit(
        &mut self,
        permit: Result<Permit, Error>,
    ) -> Answer<Option<Resource<PermitResource>>> {
        match permit {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            permit => self.permit(permit).map(Some),
        }
    }

    /// A pollable with an entry of its own, not a child of what it is made from:
    /// either may be dropped first.
    fn pollable<T: Pollable>(&mut self, pollable: T) -> Answer<Resource<DynPollable>> {
        let pollable = self.table.push(pollable)?;
        let at = pollable.rep();
        subscribe(self.table, pollable).or_else(|error| {
            // There was room for one entry of the two.
            self.table.delete(Resource::<T>::new_own(at))?;
            match error.downcast::<ResourceTableError>() {
                Ok(error) => Err(error.into()),
                Err(error) => Err(CallError::Trap(error)),
            }
        })
    }
}

/// The outcome of a request, if it is the time for it, as a handle.
fn once<T, R>(
    outcome: Option<Result<Result<T, Error>, ()>>,
    push: impl FnOnce(Result<T, Error>) -> Answer<Resource<R>>,
) -> Trappable<Got<R, Error>> {
    let outcome = match outcome {
        None => return Ok(None),
        Some(Err(())) => return Ok(Some(Err(()))),
        Some(Ok(outcome)) => outcome,
    };
    match push(outcome) {
        Ok(handle) => Ok(Some(Ok(Ok(handle)))),
        Err(CallError::Answer(error)) => Ok(Some(Ok(Err(error)))),
        Err(CallError::Trap(error)) => Err(error),
    }
}

impl preopens::Host for LocksCtxView<'_> {
    fn get_lockspaces(&mut self) -> Trappable<Vec<(Resource<LockspaceResource>, String)>> {
        Ok(self.lockspaces())
    }
}

/// The traits of one of the two sets of bindings, which differ in what may wait.
macro_rules! translate {
    (
        $bindings:path,
        { $($of_lock:item)* },
        { $($of_guard:item)* },
        { $($of_ranges:item)* },
        { $($of_semaphore:item)* }
    ) => {
        const _: () = {
            use $bindings::{flock, ranges, semaphores, types};

            crate::error::answers!(types);

            impl types::HostLockspace for LocksCtxView<'_> {
                fn open(
                    &mut self,
                    space: Resource<LockspaceResource>,
                    name: String,
                ) -> Answer<Resource<LockResource>> {
                    LocksCtxView::open(self, &space, &name)
                }

                fn drop(&mut self, _: Resource<LockspaceResource>) -> Trappable<()> {
                    Ok(())
                }
            }

            impl types::HostLock for LocksCtxView<'_> {
                fn name(&mut self, lock: Resource<LockResource>) -> Trappable<String> {
                    Ok(self.table.get(&lock)?.0.name().to_owned())
                }

                $($of_lock)*

                fn start_acquire(
                    &mut self,
                    lock: Resource<LockResource>,
                    mode: types::Mode,
                    timeout: Option<u64>,
                ) -> Answer<Resource<FutureGuardResource>> {
                    LocksCtxView::start_acquire(self, &lock, mode.into(), timeout)
                }

                fn last_touched(
                    &mut self,
                    lock: Resource<LockResource>,
                ) -> Answer<Option<types::Datetime>> {
                    let touched = LocksCtxView::last_touched(self, &lock)?;
                    Ok(touched.map(|since| types::Datetime {
                        seconds: since.as_secs(),
                        nanoseconds: since.subsec_nanos(),
                    }))
                }

                fn drop(&mut self, lock: Resource<LockResource>) -> Trappable<()> {
                    self.table.delete(lock)?;
                    Ok(())
                }
            }

            impl types::HostFutureGuard for LocksCtxView<'_> {
                fn subscribe(
                    &mut self,
                    future: Resource<FutureGuardResource>,
                ) -> Answer<Resource<DynPollable>> {
                    let ended = self.table.get(&future)?.0.ended();
                    self.pollable(ended)
                }

                fn get(
                    &mut self,
                    future: Resource<FutureGuardResource>,
                ) -> Trappable<Got<GuardResource, types::ErrorCode>> {
                    let outcome = LocksCtxView::get(self, &future)?;
                    Ok(outcome.map(|once| once.map(|guard| guard.map_err(Into::into))))
                }

                fn drop(&mut self, future: Resource<FutureGuardResource>) -> Trappable<()> {
                    self.table.delete(future)?;
                    Ok(())
                }
            }

            impl types::HostGuard for LocksCtxView<'_> {
                fn mode(&mut self, guard: Resource<GuardResource>) -> Trappable<types::Mode> {
                    Ok(self.table.get(&guard)?.0.mode().into())
                }

                fn check(&mut self, guard: Resource<GuardResource>) -> Answer<()> {
                    Ok(self.table.get(&guard)?.0.check()?)
                }

                fn subscribe(
                    &mut self,
                    guard: Resource<GuardResource>,
                ) -> Answer<Resource<DynPollable>> {
                    let lost = Lost(self.table.get(&guard)?.0.loss());
                    self.pollable(lost)
                }

                $($of_guard)*

                fn touch(&mut self, guard: Resource<GuardResource>) -> Answer<()> {
                    Ok(self.table.get(&guard)?.0.touch()?)
                }

                fn release(&mut self, guard: Resource<GuardResource>) -> Answer<()> {
                    Ok(self.table.delete(guard)?.0.release()?)
                }

                fn drop(&mut self, guard: Resource<GuardResource>) -> Trappable<()> {
                    self.table.delete(guard)?;
                    Ok(())
                }
            }

            impl flock::Host for LocksCtxView<'_> {
                fn open(
                    &mut self,
                    space: Resource<LockspaceResource>,
                    name: String,
                ) -> Answer<Resource<LockResource>> {
                    self.open_flock(&space, &name)
                }
            }

            impl ranges::Host for LocksCtxView<'_> {}

            impl ranges::HostRangeOwner for LocksCtxView<'_> {
                fn open(
                    &mut self,
                    space: Resource<LockspaceResource>,
                    name: String,
                ) -> Answer<Resource<RangeOwnerResource>> {
                    self.open_ranges(&space, &name)
                }

                fn is_same(
                    &mut self,
                    owner: Resource<RangeOwnerResource>,
                    other: Resource<RangeOwnerResource>,
                ) -> Trappable<bool> {
                    let other = &self.table.get(&other)?.0;
                    Ok(self.table.get(&owner)?.0.is_same(other))
                }

                $($of_ranges)*

                fn unlock(
                    &mut self,
                    owner: Resource<RangeOwnerResource>,
                    start: u64,
                    len: u64,
                ) -> Answer<()> {
                    let range = ByteRange::new(start, len)?;
                    Ok(self.table.get_mut(&owner)?.0.unlock(range)?)
                }

                fn test(
                    &mut self,
                    owner: Resource<RangeOwnerResource>,
                    mode: types::Mode,
                    start: u64,
                    len: u64,
                ) -> Answer<Option<ranges::LockedRange>> {
                    let range = ByteRange::new(start, len)?;
                    let found = self.table.get(&owner)?.0.test(range, mode.into())?;
                    Ok(found.map(|(range, mode)| ranges::LockedRange {
                        mode: mode.into(),
                        start: range.start(),
                        len: range.len(),
                    }))
                }

                fn drop(&mut self, owner: Resource<RangeOwnerResource>) -> Trappable<()> {
                    self.table.delete(owner)?;
                    Ok(())
                }
            }

            impl semaphores::Host for LocksCtxView<'_> {}

            impl semaphores::HostSemaphore for LocksCtxView<'_> {
                fn open(
                    &mut self,
                    space: Resource<LockspaceResource>,
                    name: String,
                    permits: u32,
                ) -> Answer<Resource<SemaphoreResource>> {
                    let semaphore = self.open_semaphore(&space, &name, permits)?;
                    Ok(self.table.push(SemaphoreResource(semaphore))?)
                }

                fn name(&mut self, semaphore: Resource<SemaphoreResource>) -> Trappable<String> {
                    Ok(self.table.get(&semaphore)?.0.name().to_owned())
                }

                fn permits(&mut self, semaphore: Resource<SemaphoreResource>) -> Trappable<u32> {
                    Ok(self.table.get(&semaphore)?.0.permits().into())
                }

                $($of_semaphore)*

                fn start_acquire(
                    &mut self,
                    semaphore: Resource<SemaphoreResource>,
                    count: u32,
                    timeout: Option<u64>,
                ) -> Answer<Resource<FuturePermitResource>> {
                    let timeout = timeout.map(Duration::from_nanos);
                    let semaphore = &self.table.get(&semaphore)?.0;
                    let acquire = semaphore.start_acquire(amount(count), timeout)?;
                    Ok(self.table.push(FuturePermitResource(Shared::new(acquire)))?)
                }

                fn drop(&mut self, semaphore: Resource<SemaphoreResource>) -> Trappable<()> {
                    self.table.delete(semaphore)?;
                    Ok(())
                }
            }

            impl semaphores::HostFuturePermit for LocksCtxView<'_> {
                fn subscribe(
                    &mut self,
                    future: Resource<FuturePermitResource>,
                ) -> Answer<Resource<DynPollable>> {
                    let ended = self.table.get(&future)?.0.ended();
                    self.pollable(ended)
                }

                fn get(
                    &mut self,
                    future: Resource<FuturePermitResource>,
                ) -> Trappable<Got<PermitResource, types::ErrorCode>> {
                    let outcome = self.get_permit(&future)?;
                    Ok(outcome.map(|once| once.map(|permit| permit.map_err(Into::into))))
                }

                fn drop(&mut self, future: Resource<FuturePermitResource>) -> Trappable<()> {
                    self.table.delete(future)?;
                    Ok(())
                }
            }

            impl semaphores::HostPermit for LocksCtxView<'_> {
                fn numbers(&mut self, permit: Resource<PermitResource>) -> Trappable<Vec<u32>> {
                    let numbers = self.table.get(&permit)?.0.numbers();
                    Ok(numbers.iter().map(u32::from).collect())
                }

                fn check(&mut self, permit: Resource<PermitResource>) -> Answer<()> {
                    Ok(self.table.get(&permit)?.0.check()?)
                }

                fn subscribe(
                    &mut self,
                    permit: Resource<PermitResource>,
                ) -> Answer<Resource<DynPollable>> {
                    let lost = Lost(self.table.get(&permit)?.0.loss());
                    self.pollable(lost)
                }

                fn fencing_token(&mut self, permit: Resource<PermitResource>) -> Answer<u64> {
                    Ok(self.table.get(&permit)?.0.token()?)
                }

                fn release(&mut self, permit: Resource<PermitResource>) -> Answer<()> {
                    Ok(self.table.delete(permit)?.0.release()?)
                }

                fn drop(&mut self, permit: Resource<PermitResource>) -> Trappable<()> {
                    self.table.delete(permit)?;
                    Ok(())
                }
            }
        };
    };
}

translate!(
    super::bindings,
    {
        async fn try_acquire(
            &mut self,
            lock: Resource<LockResource>,
            mode: types::Mode,
        ) -> Answer<Option<Resource<GuardResource>>> {
            let lock = &self.table.get(&lock)?.0;
            let guard = lock.try_acquire_async(mode.into()).await;
            self.tried(guard)
        }

        async fn acquire(
            &mut self,
            lock: Resource<LockResource>,
            mode: types::Mode,
            timeout: Option<u64>,
        ) -> Answer<Resource<GuardResource>> {
            let timeout = timeout.map(Duration::from_nanos);
            let guard = self.table.get(&lock)?.0.acquire(mode.into(), timeout).await;
            self.guard(guard)
        }
    },
    {
        async fn downgrade(&mut self, guard: Resource<GuardResource>) -> Answer<()> {
            Ok(self.table.get_mut(&guard)?.0.downgrade_async().await?)
        }

        async fn try_upgrade(&mut self, guard: Resource<GuardResource>) -> Answer<bool> {
            Ok(self.table.get_mut(&guard)?.0.try_upgrade_async().await?)
        }

        async fn fencing_token(&mut self, guard: Resource<GuardResource>) -> Answer<u64> {
            Ok(self.table.get(&guard)?.0.token_async().await?)
        }
    },
    {
        async fn try_set(
            &mut self,
            owner: Resource<RangeOwnerResource>,
            mode: types::Mode,
            start: u64,
            len: u64,
        ) -> Answer<bool> {
            let range = ByteRange::new(start, len)?;
            let owner = &mut self.table.get_mut(&owner)?.0;
            Ok(owner.try_set_async(range, mode.into()).await?)
        }

        async fn set(
            &mut self,
            owner: Resource<RangeOwnerResource>,
            mode: types::Mode,
            start: u64,
            len: u64,
            timeout: Option<u64>,
        ) -> Answer<()> {
            let range = ByteRange::new(start, len)?;
            let timeout = timeout.map(Duration::from_nanos);
            let owner = &mut self.table.get_mut(&owner)?.0;
            Ok(owner.set(range, mode.into(), timeout).await?)
        }
    },
    {
        async fn try_acquire(
            &mut self,
            semaphore: Resource<SemaphoreResource>,
            count: u32,
        ) -> Answer<Option<Resource<PermitResource>>> {
            let semaphore = &self.table.get(&semaphore)?.0;
            let permit = semaphore.try_acquire_async(amount(count)).await;
            self.tried_permit(permit)
        }

        async fn acquire(
            &mut self,
            semaphore: Resource<SemaphoreResource>,
            count: u32,
            timeout: Option<u64>,
        ) -> Answer<Resource<PermitResource>> {
            let timeout = timeout.map(Duration::from_nanos);
            let semaphore = &self.table.get(&semaphore)?.0;
            let permit = semaphore.acquire(amount(count), timeout).await;
            self.permit(permit)
        }
    }
);

translate!(
    super::bindings::sync,
    {
        fn try_acquire(
            &mut self,
            lock: Resource<LockResource>,
            mode: types::Mode,
        ) -> Answer<Option<Resource<GuardResource>>> {
            let guard = self.table.get(&lock)?.0.try_acquire(mode.into());
            self.tried(guard)
        }

        fn acquire(
            &mut self,
            lock: Resource<LockResource>,
            mode: types::Mode,
            timeout: Option<u64>,
        ) -> Answer<Resource<GuardResource>> {
            let timeout = timeout.map(Duration::from_nanos);
            let lock = &self.table.get(&lock)?.0;
            let guard = lock.acquire_blocking(mode.into(), timeout);
            self.guard(guard)
        }
    },
    {
        fn downgrade(&mut self, guard: Resource<GuardResource>) -> Answer<()> {
            Ok(self.table.get_mut(&guard)?.0.downgrade()?)
        }

        fn try_upgrade(&mut self, guard: Resource<GuardResource>) -> Answer<bool> {
            Ok(self.table.get_mut(&guard)?.0.try_upgrade()?)
        }

        fn fencing_token(&mut self, guard: Resource<GuardResource>) -> Answer<u64> {
            Ok(self.table.get(&guard)?.0.token()?)
        }
    },
    {
        fn try_set(
            &mut self,
            owner: Resource<RangeOwnerResource>,
            mode: types::Mode,
            start: u64,
            len: u64,
        ) -> Answer<bool> {
            let range = ByteRange::new(start, len)?;
            let owner = &mut self.table.get_mut(&owner)?.0;
            Ok(owner.try_set(range, mode.into())?)
        }

        fn set(
            &mut self,
            owner: Resource<RangeOwnerResource>,
            mode: types::Mode,
            start: u64,
            len: u64,
            timeout: Option<u64>,
        ) -> Answer<()> {
            let range = ByteRange::new(start, len)?;
            let timeout = timeout.map(Duration::from_nanos);
            let owner = &mut self.table.get_mut(&owner)?.0;
            Ok(owner.set_blocking(range, mode.into(), timeout)?)
        }
    },
    {
        fn try_acquire(
            &mut self,
            semaphore: Resource<SemaphoreResource>,
            count: u32,
        ) -> Answer<Option<Resource<PermitResource>>> {
            let permit = self.table.get(&semaphore)?.0.try_acquire(amount(count));
            self.tried_permit(permit)
        }

        fn acquire(
            &mut self,
            semaphore: Resource<SemaphoreResource>,
            count: u32,
            timeout: Option<u64>,
        ) -> Answer<Resource<PermitResource>> {
            let timeout = timeout.map(Duration::from_nanos);
            let semaphore = &self.table.get(&semaphore)?.0;
            let permit = semaphore.acquire_blocking(amount(count), timeout);
            self.permit(permit)
        }
    }
);
