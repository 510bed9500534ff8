//! The host functions: they translate between the guest's handles and the
//! engine, and decide nothing.

use super::{
    bindings::preopens,
    resources::{
        Ended, FutureGuardResource, GuardResource, LockResource, LockspaceResource, Request, lock,
    },
};
use crate::LocksCtxView;
use clasp_engine::{Error, ErrorKind, Guard, Mode};
use std::{
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};
use wasmtime::{
    Result,
    component::{Resource, ResourceTable},
};
use wasmtime_wasi_io::poll::{DynPollable, subscribe};

/// Puts a resource into the table; a full table is a quota like any other.
fn push<T: Send + 'static>(table: &mut ResourceTable, resource: T) -> Result<Resource<T>, Error> {
    table
        .push(resource)
        .map_err(|error| Error::new(ErrorKind::LimitExceeded, error.to_string()))
}

impl LocksCtxView<'_> {
    fn open(
        &mut self,
        space: &Resource<LockspaceResource>,
        name: &str,
    ) -> Result<Resource<LockResource>, Error> {
        let Some((_, grant)) = self.ctx.spaces.get(space.rep() as usize) else {
            return Err(Error::new(ErrorKind::Lost, "the lockspace is not granted"));
        };
        let lock = self.ctx.owner.open(grant, name)?;
        push(self.table, LockResource(lock))
    }

    fn guard(&mut self, guard: Result<Guard, Error>) -> Result<Resource<GuardResource>, Error> {
        push(self.table, GuardResource(guard?))
    }

    fn start_acquire(
        &mut self,
        lock: &Resource<LockResource>,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<Result<Resource<FutureGuardResource>, Error>> {
        let request = self.table.get(lock)?.0.start_acquire(mode, timeout);
        Ok(request.and_then(|acquire| {
            let request = Arc::new(Mutex::new(Request::Waiting(acquire)));
            push(self.table, FutureGuardResource(request))
        }))
    }

    #[expect(clippy::type_complexity, reason = "the shape is that of the interface")]
    fn get(
        &mut self,
        future: &Resource<FutureGuardResource>,
    ) -> Result<Option<Result<Result<Resource<GuardResource>, Error>, ()>>> {
        let shared = Arc::clone(&self.table.get(future)?.0);
        let mut request = lock(&shared);
        // A poll would take the waker from a pollable that waits.
        if let Request::Waiting(acquire) = &*request
            && !acquire.is_ready()
        {
            return Ok(None);
        }
        if request
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            return Ok(None);
        }
        let outcome = std::mem::replace(&mut *request, Request::Taken);
        drop(request);
        Ok(Some(match outcome {
            Request::Ended(outcome) => Ok(self.guard(outcome)),
            Request::Waiting(_) | Request::Taken => Err(()),
        }))
    }

    fn subscribe(
        &mut self,
        future: &Resource<FutureGuardResource>,
    ) -> Result<Resource<DynPollable>> {
        // An entry of its own, not a child of the future: either may be
        // dropped first.
        let ended = Ended(Arc::clone(&self.table.get(future)?.0));
        let ended = self.table.push(ended)?;
        subscribe(self.table, ended)
    }
}

impl preopens::Host for LocksCtxView<'_> {
    fn get_lockspaces(&mut self) -> Result<Vec<(Resource<LockspaceResource>, String)>> {
        let spaces = self.ctx.spaces.iter().enumerate();
        Ok(spaces
            .map(|(at, (path, _))| (Resource::new_own(at as u32), path.clone()))
            .collect())
    }
}

/// The traits of one of the two sets of bindings, which differ in what may wait.
macro_rules! translate {
    ($types:path, { $($acquire:item)* }) => {
        const _: () = {
            use $types as types;

            impl From<types::Mode> for Mode {
                fn from(mode: types::Mode) -> Mode {
                    match mode {
                        types::Mode::Shared => Mode::Shared,
                        types::Mode::Exclusive => Mode::Exclusive,
                    }
                }
            }

            impl From<Mode> for types::Mode {
                fn from(mode: Mode) -> types::Mode {
                    match mode {
                        Mode::Shared => types::Mode::Shared,
                        Mode::Exclusive => types::Mode::Exclusive,
                    }
                }
            }

            impl From<Error> for types::ErrorCode {
                /// Details stay here: they may name what a guest must not
                /// learn.
                fn from(error: Error) -> types::ErrorCode {
                    tracing::debug!(target: "clasp", %error, "answered");
                    match error.kind() {
                        ErrorKind::WouldBlock => types::ErrorCode::WouldBlock,
                        ErrorKind::TimedOut => types::ErrorCode::TimedOut,
                        ErrorKind::Deadlock => types::ErrorCode::Deadlock,
                        ErrorKind::Access => types::ErrorCode::Access,
                        ErrorKind::NotPermitted => types::ErrorCode::NotPermitted,
                        ErrorKind::NoEntry => types::ErrorCode::NoEntry,
                        ErrorKind::InvalidName => types::ErrorCode::InvalidName,
                        ErrorKind::NotAFile => types::ErrorCode::NotAFile,
                        ErrorKind::LimitExceeded => types::ErrorCode::LimitExceeded,
                        ErrorKind::Unavailable => types::ErrorCode::Unavailable,
                        ErrorKind::Unsupported => types::ErrorCode::Unsupported,
                        ErrorKind::Lost => types::ErrorCode::Lost,
                        ErrorKind::Io => types::ErrorCode::Io,
                    }
                }
            }

            impl types::Host for LocksCtxView<'_> {}

            impl types::HostLockspace for LocksCtxView<'_> {
                fn open(
                    &mut self,
                    space: Resource<LockspaceResource>,
                    name: String,
                ) -> Result<Result<Resource<LockResource>, types::ErrorCode>> {
                    Ok(LocksCtxView::open(self, &space, &name).map_err(Into::into))
                }

                fn drop(&mut self, _: Resource<LockspaceResource>) -> Result<()> {
                    Ok(())
                }
            }

            impl types::HostLock for LocksCtxView<'_> {
                fn name(&mut self, lock: Resource<LockResource>) -> Result<String> {
                    Ok(self.table.get(&lock)?.0.name().to_owned())
                }

                $($acquire)*

                fn start_acquire(
                    &mut self,
                    lock: Resource<LockResource>,
                    mode: types::Mode,
                    timeout: Option<u64>,
                ) -> Result<Result<Resource<FutureGuardResource>, types::ErrorCode>> {
                    let timeout = timeout.map(Duration::from_nanos);
                    let future = LocksCtxView::start_acquire(self, &lock, mode.into(), timeout)?;
                    Ok(future.map_err(Into::into))
                }

                fn drop(&mut self, lock: Resource<LockResource>) -> Result<()> {
                    self.table.delete(lock)?;
                    Ok(())
                }
            }

            impl types::HostFutureGuard for LocksCtxView<'_> {
                fn subscribe(
                    &mut self,
                    future: Resource<FutureGuardResource>,
                ) -> Result<Resource<DynPollable>> {
                    LocksCtxView::subscribe(self, &future)
                }

                fn get(
                    &mut self,
                    future: Resource<FutureGuardResource>,
                ) -> Result<Option<Result<Result<Resource<GuardResource>, types::ErrorCode>, ()>>>
                {
                    let outcome = LocksCtxView::get(self, &future)?;
                    Ok(outcome.map(|once| once.map(|guard| guard.map_err(Into::into))))
                }

                fn drop(&mut self, future: Resource<FutureGuardResource>) -> Result<()> {
                    self.table.delete(future)?;
                    Ok(())
                }
            }

            impl types::HostGuard for LocksCtxView<'_> {
                fn mode(&mut self, guard: Resource<GuardResource>) -> Result<types::Mode> {
                    Ok(self.table.get(&guard)?.0.mode().into())
                }

                fn release(
                    &mut self,
                    guard: Resource<GuardResource>,
                ) -> Result<Result<(), types::ErrorCode>> {
                    let guard = self.table.delete(guard)?;
                    Ok(guard.0.release().map_err(Into::into))
                }

                fn drop(&mut self, guard: Resource<GuardResource>) -> Result<()> {
                    self.table.delete(guard)?;
                    Ok(())
                }
            }
        };
    };
}

translate!(super::bindings::types, {
    async fn try_acquire(
        &mut self,
        lock: Resource<LockResource>,
        mode: types::Mode,
    ) -> Result<Result<Resource<GuardResource>, types::ErrorCode>> {
        let guard = self
            .table
            .get(&lock)?
            .0
            .try_acquire_async(mode.into())
            .await;
        Ok(self.guard(guard).map_err(Into::into))
    }

    async fn acquire(
        &mut self,
        lock: Resource<LockResource>,
        mode: types::Mode,
        timeout: Option<u64>,
    ) -> Result<Result<Resource<GuardResource>, types::ErrorCode>> {
        let timeout = timeout.map(Duration::from_nanos);
        let guard = self.table.get(&lock)?.0.acquire(mode.into(), timeout).await;
        Ok(self.guard(guard).map_err(Into::into))
    }
});

translate!(super::bindings::sync::types, {
    fn try_acquire(
        &mut self,
        lock: Resource<LockResource>,
        mode: types::Mode,
    ) -> Result<Result<Resource<GuardResource>, types::ErrorCode>> {
        let guard = self.table.get(&lock)?.0.try_acquire(mode.into());
        Ok(self.guard(guard).map_err(Into::into))
    }

    fn acquire(
        &mut self,
        lock: Resource<LockResource>,
        mode: types::Mode,
        timeout: Option<u64>,
    ) -> Result<Result<Resource<GuardResource>, types::ErrorCode>> {
        let timeout = timeout.map(Duration::from_nanos);
        let lock = &self.table.get(&lock)?.0;
        let guard = lock.acquire_blocking(mode.into(), timeout);
        Ok(self.guard(guard).map_err(Into::into))
    }
});
