//! The engine, in this process.
//!
//! A wait blocks a component in a host, and a thread here. Therefore each thread has a
//! separate owner, and opens a lock for itself when it first uses it. A guard that is
//! sent to another thread still counts as held by the thread that acquired it.

mod semaphore;

pub(crate) use semaphore::*;

use super::Mode;
use crate::error::{Cause, ErrorKind};
use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{self as engine, Grant, Limits, LockManager, Owner, file::FileSpace};
use std::{
    cell::OnceCell,
    collections::HashMap,
    fmt,
    path::{Component, Path},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread::{self, ThreadId},
    time::{Duration, SystemTime},
};

/// The owner of a thread, and what ends with the thread.
struct Local {
    owner: Arc<Owner>,
    alive: Arc<()>,
}

thread_local!(static LOCAL: OnceCell<Local> = const { OnceCell::new() });

fn with_local<R>(f: impl FnOnce(&Local) -> R) -> R {
    let make = || {
        let current = thread::current();
        let label = match current.name() {
            Some(name) => format!("thread {name}"),
            None => format!("{:?}", current.id()),
        };
        Local {
            owner: Arc::new(LockManager::global().labelled_owner(&label, limits())),
            alive: Arc::new(()),
        }
    };
    LOCAL.with(|local| f(local.get_or_init(make)))
}

/// A program that runs natively may use what the system gives it.
pub(crate) fn limits() -> Limits {
    Limits::default()
        .open_locks(usize::MAX)
        .created_locks(usize::MAX)
        .held_locks(usize::MAX)
        .waiting_requests(usize::MAX)
        .waiter_threads(usize::MAX)
}

/// The directory of a lock, and its name there.
pub(crate) fn locate(path: &str) -> Result<(Grant, String), Cause> {
    let climbs = |part| part == Component::ParentDir;
    if path.ends_with('/') || path.ends_with("/.") || path.contains('\0') {
        return Err(ErrorKind::InvalidName.into());
    }
    let path = Path::new(path);
    let name = path.file_name().and_then(|name| name.to_str());
    let name = match name {
        Some(name) if !path.components().any(climbs) => name.to_owned(),
        _ => return Err(ErrorKind::InvalidName.into()),
    };
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let dir = Dir::open_ambient_dir(parent.unwrap_or(Path::new(".")), ambient_authority())?;
    Ok((Grant::new(FileSpace::new(dir).into_space()), name))
}

impl From<Mode> for engine::Mode {
    fn from(mode: Mode) -> engine::Mode {
        match mode {
            Mode::Shared => engine::Mode::Shared,
            Mode::Exclusive => engine::Mode::Exclusive,
        }
    }
}

impl From<engine::Error> for Cause {
    fn from(error: engine::Error) -> Cause {
        let kind = match error.kind() {
            engine::ErrorKind::Timeout => ErrorKind::Timeout,
            engine::ErrorKind::Deadlock => ErrorKind::Deadlock,
            engine::ErrorKind::Access => ErrorKind::Access,
            engine::ErrorKind::ReadOnly => ErrorKind::ReadOnly,
            engine::ErrorKind::NotPermitted => ErrorKind::NotPermitted,
            engine::ErrorKind::FamilyMismatch => ErrorKind::FamilyMismatch,
            engine::ErrorKind::NoEntry => ErrorKind::NoEntry,
            engine::ErrorKind::InvalidName => ErrorKind::InvalidName,
            engine::ErrorKind::IsDirectory => ErrorKind::IsDirectory,
            engine::ErrorKind::NotAFile => ErrorKind::NotAFile,
            engine::ErrorKind::Quota => ErrorKind::Quota,
            engine::ErrorKind::Unavailable | engine::ErrorKind::WouldBlock => {
                ErrorKind::Unavailable
            }
            engine::ErrorKind::Unsupported => ErrorKind::Unsupported,
            engine::ErrorKind::Closed => ErrorKind::Closed,
            engine::ErrorKind::Replaced => ErrorKind::Replaced,
            engine::ErrorKind::Lost => ErrorKind::Lost,
            engine::ErrorKind::Io => ErrorKind::Io,
        };
        match error.detail() {
            Some(_) => Cause::new(kind, error.to_string()),
            None => kind.into(),
        }
    }
}

/// What each thread opens for itself.
struct PerThread<T>(Mutex<HashMap<ThreadId, Opened<T>>>);

/// What one thread has opened.
struct Opened<T> {
    lock: Arc<T>,
    owner: Arc<Owner>,
    thread: Weak<()>,
}

impl<T> Default for PerThread<T> {
    fn default() -> PerThread<T> {
        PerThread(Mutex::default())
    }
}

impl<T> PerThread<T> {
    /// That of this thread.
    fn get(
        &self,
        open: impl FnOnce(&Owner) -> Result<T, engine::Error>,
    ) -> Result<(Arc<T>, Arc<Owner>), Cause> {
        let mut by_thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = thread::current().id();
        if let Some(opened) = by_thread.get(&thread) {
            return Ok((Arc::clone(&opened.lock), Arc::clone(&opened.owner)));
        }
        // What belongs to threads that have ended is of no use.
        by_thread.retain(|_, opened| opened.thread.strong_count() > 0);
        with_local(|local| {
            let opened = Opened {
                lock: Arc::new(open(&local.owner)?),
                owner: Arc::clone(&local.owner),
                thread: Arc::downgrade(&local.alive),
            };
            let answer = (Arc::clone(&opened.lock), Arc::clone(&opened.owner));
            by_thread.insert(thread, opened);
            Ok(answer)
        })
    }
}

pub(crate) struct Lock {
    grant: Grant,
    name: String,
    by_thread: PerThread<engine::Lock>,
}

impl Lock {
    pub(crate) fn open(path: &str) -> Result<Lock, Cause> {
        let (grant, name) = locate(path)?;
        let lock = Lock {
            grant,
            name,
            by_thread: PerThread::default(),
        };
        lock.opened()?;
        Ok(lock)
    }

    /// The lock for this thread.
    fn opened(&self) -> Result<(Arc<engine::Lock>, Arc<Owner>), Cause> {
        let open = |owner: &Owner| owner.open(&self.grant, &self.name);
        self.by_thread.get(open)
    }

    pub(crate) fn try_acquire(&self, mode: Mode) -> Result<Option<Guard>, Cause> {
        let (lock, owner) = self.opened()?;
        match lock.try_acquire(mode.into()) {
            Ok(guard) => Ok(Some(Guard::new(guard, owner))),
            Err(error) if error.kind() == engine::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn acquire(&self, mode: Mode, timeout: Option<Duration>) -> Result<Guard, Cause> {
        let (lock, owner) = self.opened()?;
        let guard = lock.acquire_blocking(mode.into(), timeout)?;
        Ok(Guard::new(guard, owner))
    }

    pub(crate) fn last_touched(&self) -> Result<Option<SystemTime>, Cause> {
        Ok(self.opened()?.0.last_touched()?)
    }

    #[cfg(feature = "async")]
    pub(crate) fn start_acquire(
        &self,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<Request, Cause> {
        let (lock, owner) = self.opened()?;
        let acquire = lock.start_acquire(mode.into(), timeout)?;
        Ok(Request {
            acquire,
            taken: false,
            owner,
        })
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Guard {
    guard: engine::Guard,
    /// It holds for as long as its owner lives.
    _owner: Arc<Owner>,
}

impl Guard {
    fn new(guard: engine::Guard, owner: Arc<Owner>) -> Guard {
        Guard {
            guard,
            _owner: owner,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Cause> {
        Ok(self.guard.check()?)
    }

    pub(crate) fn downgrade(&mut self) -> Result<(), Cause> {
        Ok(self.guard.downgrade()?)
    }

    pub(crate) fn try_upgrade(&mut self) -> Result<bool, Cause> {
        Ok(self.guard.try_upgrade()?)
    }

    pub(crate) fn fencing_token(&self) -> Result<u64, Cause> {
        Ok(self.guard.token()?)
    }

    pub(crate) fn touch(&self) -> Result<(), Cause> {
        Ok(self.guard.touch()?)
    }

    pub(crate) fn release(self) -> Result<(), Cause> {
        Ok(self.guard.release()?)
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn lost(&self) -> Result<(), Cause> {
        self.guard.loss().await;
        Ok(())
    }
}

/// A request that was started.
#[cfg(feature = "async")]
#[derive(Debug)]
pub(crate) struct Request {
    acquire: engine::Acquire,
    /// Whether the outcome was given out, which happens once.
    taken: bool,
    owner: Arc<Owner>,
}

#[cfg(feature = "async")]
impl Request {
    pub(crate) fn get(&mut self) -> Option<Result<Guard, Cause>> {
        use std::{
            future::Future,
            pin::Pin,
            task::{Context, Poll, Waker},
        };

        if self.taken {
            return Some(Err(taken_before()));
        }
        if !self.acquire.is_ready() {
            return None;
        }
        match Pin::new(&mut self.acquire).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(self.ended(outcome)),
            Poll::Pending => None,
        }
    }

    #[cfg(feature = "wstd")]
    pub(crate) async fn wait(&mut self) -> Result<Guard, Cause> {
        if self.taken {
            return Err(taken_before());
        }
        let outcome = (&mut self.acquire).await;
        self.ended(outcome)
    }

    fn ended(&mut self, outcome: Result<engine::Guard, engine::Error>) -> Result<Guard, Cause> {
        self.taken = true;
        Ok(Guard::new(outcome?, Arc::clone(&self.owner)))
    }
}

#[cfg(feature = "async")]
fn taken_before() -> Cause {
    Cause::new(ErrorKind::Other, "the outcome was taken before")
}
