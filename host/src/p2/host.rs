//! The host functions: they translate between the guest's handles and the
//! engine, and decide nothing.

use super::bindings::preopens;
use crate::LocksCtxView;
use clasp_engine::{Acquire, Error, ErrorKind, Guard, Lock, Mode};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};
use wasmtime::{
    Result,
    component::{Resource, ResourceTable},
};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

/// The resource `lockspace`. It has no entry in the table: the handle's number
/// is the place of the grant in the context, so that a guest cannot fill the
/// table with handles that no quota counts.
#[derive(Debug)]
pub struct LockspaceResource;

/// The resource `lock`.
#[derive(Debug)]
pub struct LockResource(Lock);

/// The resource `guard`.
#[derive(Debug)]
pub struct GuardResource(Guard);

/// The resource `future-guard`.
#[derive(Debug)]
pub struct FutureGuardResource(Arc<Mutex<Request>>);

/// A request and, once it has ended, its outcome. A pollable that outlives its
/// `future-guard` shares it.
#[derive(Debug)]
enum Request {
    Waiting(Acquire),
    Ended(Result<Guard, Error>),
    Taken,
}

impl Request {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Request::Waiting(acquire) = self {
            match Pin::new(acquire).poll(cx) {
                Poll::Ready(outcome) => *self = Request::Ended(outcome),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

fn lock(request: &Mutex<Request>) -> MutexGuard<'_, Request> {
    request.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for FutureGuardResource {
    fn drop(&mut self) {
        // A pollable may live on, the request may not.
        let request = std::mem::replace(&mut *lock(&self.0), Request::Taken);
        drop(request);
    }
}

/// Ready when the request has ended or its `future-guard` is gone.
struct Ended(Arc<Mutex<Request>>);

#[wasmtime_wasi_io::async_trait]
impl Pollable for Ended {
    async fn ready(&mut self) {
        poll_fn(|cx| lock(&self.0).poll(cx)).await;
    }
}

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

/// The traits of one of the two sets of bindings, which differ in `acquire`
/// alone.
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

                fn try_acquire(
                    &mut self,
                    lock: Resource<LockResource>,
                    mode: types::Mode,
                ) -> Result<Result<Resource<GuardResource>, types::ErrorCode>> {
                    let guard = self.table.get(&lock)?.0.try_acquire(mode.into());
                    Ok(self.guard(guard).map_err(Into::into))
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
