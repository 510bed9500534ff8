//! A guest that does as a test says; see `tests/wit/actor.wit`.

use clasp_guest::bindings::{
    flock,
    preopens::get_lockspaces,
    ranges::RangeOwner,
    types::{ErrorCode, FutureGuard, Guard as LockGuard, Lock, Lockspace, Mode},
};
use clasp_guest::{
    ErrorKind, InterProcessGuard, InterProcessLock, InterProcessPermit, InterProcessReadGuard,
    InterProcessReaderWriterLock, InterProcessSemaphore, InterProcessWriteGuard, NotConverted,
    Request,
};
use std::{
    cell::RefCell,
    fs,
    time::{Duration, SystemTime},
};

wit_bindgen::generate!({ path: "../wit", world: "actor" });

use exports::clasp::tests::commands::Guest;

enum Opened {
    Sdk(InterProcessLock, InterProcessReaderWriterLock),
    Raw(Lock),
}

#[allow(dead_code, reason = "held for their drop")]
enum Held {
    Plain(InterProcessGuard),
    Read(InterProcessReadGuard),
    Write(InterProcessWriteGuard),
    Raw(LockGuard),
}

#[derive(Default)]
struct State {
    spaces: Vec<(Lockspace, String)>,
    locks: Vec<Option<Opened>>,
    guards: Vec<Option<Held>>,
    requests: Vec<Option<FutureGuard>>,
    ranges: Vec<Option<RangeOwner>>,
    semaphores: Vec<InterProcessSemaphore>,
    permits: Vec<Option<InterProcessPermit>>,
    permit_requests: Vec<Option<Request<InterProcessPermit>>>,
    /// Exclusive locks are taken by the two classes of the SDK in turn.
    turn: bool,
}

impl State {
    fn space(&mut self, at: u32) -> &Lockspace {
        if self.spaces.is_empty() {
            self.spaces = get_lockspaces();
        }
        &self.spaces[at as usize].0
    }

    fn ranges(&self, at: u32) -> &RangeOwner {
        self.ranges[at as usize].as_ref().expect("used up")
    }
}

thread_local!(static STATE: RefCell<State> = RefCell::default());

fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    STATE.with(|state| f(&mut state.borrow_mut()))
}

fn push<T>(list: &mut Vec<Option<T>>, item: T) -> u32 {
    list.push(Some(item));
    list.len() as u32 - 1
}

fn take<T>(list: &mut [Option<T>], at: u32) -> T {
    list[at as usize].take().expect("used up")
}

fn permit<R>(at: u32, f: impl FnOnce(&InterProcessPermit) -> R) -> R {
    with(|s| f(s.permits[at as usize].as_ref().expect("used up")))
}

fn mode(exclusive: bool) -> Mode {
    if exclusive {
        Mode::Exclusive
    } else {
        Mode::Shared
    }
}

fn name(code: ErrorCode) -> String {
    match code {
        ErrorCode::Timeout => "timeout",
        ErrorCode::Deadlock => "deadlock",
        ErrorCode::Access => "access",
        ErrorCode::ReadOnly => "read-only",
        ErrorCode::NotPermitted => "not-permitted",
        ErrorCode::FamilyMismatch => "family-mismatch",
        ErrorCode::NoEntry => "no-entry",
        ErrorCode::InvalidName => "invalid-name",
        ErrorCode::IsDirectory => "is-directory",
        ErrorCode::NotAFile => "not-a-file",
        ErrorCode::Quota => "quota",
        ErrorCode::Unavailable => "unavailable",
        ErrorCode::Unsupported => "unsupported",
        ErrorCode::Closed => "closed",
        ErrorCode::Replaced => "replaced",
        ErrorCode::Lost => "lost",
        ErrorCode::Io => "io",
        ErrorCode::Other(_) => "other",
    }
    .into()
}

/// The same name, for an error of the SDK.
fn sdk_name(error: clasp_guest::Error) -> String {
    match error.kind() {
        ErrorKind::Timeout => "timeout",
        ErrorKind::Deadlock => "deadlock",
        ErrorKind::Access => "access",
        ErrorKind::ReadOnly => "read-only",
        ErrorKind::NotGranted => "not-granted",
        ErrorKind::NotPermitted => "not-permitted",
        ErrorKind::FamilyMismatch => "family-mismatch",
        ErrorKind::NoEntry => "no-entry",
        ErrorKind::InvalidName => "invalid-name",
        ErrorKind::IsDirectory => "is-directory",
        ErrorKind::NotAFile => "not-a-file",
        ErrorKind::Quota => "quota",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Closed => "closed",
        ErrorKind::Replaced => "replaced",
        ErrorKind::Lost => "lost",
        ErrorKind::Io => "io",
        _ => return error.to_string(),
    }
    .into()
}

/// Why a lock was not converted.
fn refusal<G>(refused: &NotConverted<G>) -> String {
    refused
        .error()
        .cloned()
        .map_or_else(|| "taken".into(), sdk_name)
}

/// Calls a method that all kinds of guards have, by its names in the SDK and in the
/// interface.
macro_rules! on_guard {
    ($guard:expr, $method:ident) => {
        with(
            |s| match s.guards[$guard as usize].as_ref().expect("used up") {
                Held::Plain(guard) => guard.$method().map_err(sdk_name),
                Held::Read(guard) => guard.$method().map_err(sdk_name),
                Held::Write(guard) => guard.$method().map_err(sdk_name),
                Held::Raw(guard) => guard.$method().map_err(name),
            },
        )
    };
}

struct Actor;

impl Guest for Actor {
    fn open(path: String) -> Result<u32, String> {
        let lock = InterProcessLock::new(&path).map_err(sdk_name)?;
        let rw = InterProcessReaderWriterLock::new(&path).map_err(sdk_name)?;
        assert_eq!(lock.path().to_str(), Some(path.as_str()));
        Ok(with(|s| push(&mut s.locks, Opened::Sdk(lock, rw))))
    }

    fn open_raw(space: u32, lock: String) -> Result<u32, String> {
        with(|s| {
            let lock = s.space(space).open(&lock).map_err(name)?;
            Ok(push(&mut s.locks, Opened::Raw(lock)))
        })
    }

    fn open_flock(space: u32, lock: String) -> Result<u32, String> {
        with(|s| {
            let lock = flock::open(s.space(space), &lock).map_err(name)?;
            Ok(push(&mut s.locks, Opened::Raw(lock)))
        })
    }

    fn open_ranges(space: u32, file: String) -> Result<u32, String> {
        with(|s| {
            let ranges = RangeOwner::open(s.space(space), &file).map_err(name)?;
            Ok(push(&mut s.ranges, ranges))
        })
    }

    fn same_ranges(ranges: u32, other: u32) -> bool {
        with(|s| s.ranges(ranges).is_same(s.ranges(other)))
    }

    fn try_range(ranges: u32, exclusive: bool, start: u64, len: u64) -> Result<bool, String> {
        with(|s| s.ranges(ranges).try_set(mode(exclusive), start, len)).map_err(name)
    }

    fn set_range(
        ranges: u32,
        exclusive: bool,
        start: u64,
        len: u64,
        timeout: Option<u32>,
    ) -> Result<(), String> {
        let timeout = timeout.map(|ms| u64::from(ms) * 1_000_000);
        with(|s| s.ranges(ranges).set(mode(exclusive), start, len, timeout)).map_err(name)
    }

    fn unlock_range(ranges: u32, start: u64, len: u64) -> Result<(), String> {
        with(|s| s.ranges(ranges).unlock(start, len)).map_err(name)
    }

    fn test_range(
        ranges: u32,
        exclusive: bool,
        start: u64,
        len: u64,
    ) -> Result<Option<(bool, u64, u64)>, String> {
        let found = with(|s| s.ranges(ranges).test(mode(exclusive), start, len));
        let found = found.map_err(name)?;
        Ok(found.map(|found| (found.mode == Mode::Exclusive, found.start, found.len)))
    }

    fn drop_ranges(ranges: u32) {
        drop(with(|s| take(&mut s.ranges, ranges)));
    }

    fn close(lock: u32) {
        drop(with(|s| take(&mut s.locks, lock)));
    }

    fn acquire(lock: u32, exclusive: bool, timeout: Option<u32>) -> Result<u32, String> {
        let timeout = timeout.map(|ms| Duration::from_millis(ms.into()));
        with(|s| {
            s.turn = !s.turn;
            let held = match (&s.locks[lock as usize], exclusive, timeout) {
                (Some(Opened::Raw(lock)), ..) => lock
                    .acquire(mode(exclusive), timeout.map(|t| t.as_nanos() as u64))
                    .map(Held::Raw)
                    .map_err(name),
                (Some(Opened::Sdk(_, rw)), false, None) => {
                    rw.read().map(Held::Read).map_err(sdk_name)
                }
                (Some(Opened::Sdk(_, rw)), false, Some(t)) => {
                    rw.read_timeout(t).map(Held::Read).map_err(sdk_name)
                }
                (Some(Opened::Sdk(lock, _)), true, None) if s.turn => {
                    lock.acquire().map(Held::Plain).map_err(sdk_name)
                }
                (Some(Opened::Sdk(lock, _)), true, Some(t)) if s.turn => {
                    lock.acquire_timeout(t).map(Held::Plain).map_err(sdk_name)
                }
                (Some(Opened::Sdk(_, rw)), true, None) => {
                    rw.write().map(Held::Write).map_err(sdk_name)
                }
                (Some(Opened::Sdk(_, rw)), true, Some(t)) => {
                    rw.write_timeout(t).map(Held::Write).map_err(sdk_name)
                }
                (None, ..) => panic!("the lock is closed"),
            }?;
            Ok(push(&mut s.guards, held))
        })
    }

    fn try_acquire(lock: u32, exclusive: bool) -> Result<u32, String> {
        with(|s| {
            s.turn = !s.turn;
            let held = match (&s.locks[lock as usize], exclusive) {
                (Some(Opened::Raw(lock)), _) => {
                    let guard = lock.try_acquire(mode(exclusive)).map_err(name)?;
                    guard.map(Held::Raw)
                }
                (Some(Opened::Sdk(_, rw)), false) => {
                    rw.try_read().map_err(sdk_name)?.map(Held::Read)
                }
                (Some(Opened::Sdk(lock, _)), true) if s.turn => {
                    lock.try_acquire().map_err(sdk_name)?.map(Held::Plain)
                }
                (Some(Opened::Sdk(_, rw)), true) => {
                    rw.try_write().map_err(sdk_name)?.map(Held::Write)
                }
                (None, _) => panic!("the lock is closed"),
            };
            let held = held.ok_or("taken")?;
            Ok(push(&mut s.guards, held))
        })
    }

    fn release(guard: u32) -> Result<(), String> {
        match with(|s| take(&mut s.guards, guard)) {
            Held::Plain(guard) => guard.release().map_err(sdk_name),
            Held::Read(guard) => guard.release().map_err(sdk_name),
            Held::Write(guard) => guard.release().map_err(sdk_name),
            Held::Raw(guard) => LockGuard::release(guard).map_err(name),
        }
    }

    fn check(guard: u32) -> Result<(), String> {
        on_guard!(guard, check)
    }

    fn touch(guard: u32) -> Result<(), String> {
        on_guard!(guard, touch)
    }

    fn is_exclusive(guard: u32) -> bool {
        with(
            |s| match s.guards[guard as usize].as_ref().expect("used up") {
                Held::Plain(_) | Held::Write(_) => true,
                Held::Read(_) => false,
                Held::Raw(guard) => guard.mode() == Mode::Exclusive,
            },
        )
    }

    fn downgrade(guard: u32) -> Result<(), String> {
        let (held, result) = match with(|s| take(&mut s.guards, guard)) {
            Held::Write(guard) => match guard.downgrade() {
                Ok(guard) => (Held::Read(guard), Ok(())),
                Err(refused) => {
                    let result = Err(refusal(&refused));
                    (Held::Write(refused.into_guard()), result)
                }
            },
            Held::Raw(guard) => {
                let result = guard.downgrade().map_err(name);
                (Held::Raw(guard), result)
            }
            Held::Plain(_) | Held::Read(_) => panic!("take it otherwise"),
        };
        with(|s| s.guards[guard as usize] = Some(held));
        result
    }

    fn try_upgrade(guard: u32) -> Result<bool, String> {
        let (held, result) = match with(|s| take(&mut s.guards, guard)) {
            Held::Read(guard) => match guard.try_upgrade() {
                Ok(guard) => (Held::Write(guard), Ok(true)),
                Err(refused) => {
                    let result = match refused.error() {
                        None => Ok(false),
                        Some(_) => Err(refusal(&refused)),
                    };
                    (Held::Read(refused.into_guard()), result)
                }
            },
            Held::Raw(guard) => {
                let result = guard.try_upgrade().map_err(name);
                (Held::Raw(guard), result)
            }
            Held::Plain(_) | Held::Write(_) => panic!("take it otherwise"),
        };
        with(|s| s.guards[guard as usize] = Some(held));
        result
    }

    fn fencing_token(guard: u32) -> Result<u64, String> {
        with(
            |s| match s.guards[guard as usize].as_ref().expect("used up") {
                Held::Plain(guard) => guard.fencing_token().map_err(sdk_name),
                Held::Write(guard) => guard.fencing_token().map_err(sdk_name),
                Held::Raw(guard) => guard.fencing_token().map_err(name),
                Held::Read(_) => panic!("take it raw"),
            },
        )
    }

    fn last_touched(lock: u32) -> Result<Option<u64>, String> {
        let seconds = |at: SystemTime| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH);
            since.expect("after 1970").as_secs()
        };
        with(|s| match s.locks[lock as usize].as_ref().expect("closed") {
            Opened::Raw(lock) => {
                let touched = lock.last_touched().map_err(name)?;
                Ok(touched.map(|at| at.seconds))
            }
            Opened::Sdk(lock, rw) => {
                let touched = lock.last_touched().map_err(sdk_name)?;
                assert_eq!(touched, rw.last_touched().map_err(sdk_name)?);
                Ok(touched.map(seconds))
            }
        })
    }

    fn is_lost(guard: u32) -> Result<bool, String> {
        with(
            |s| match s.guards[guard as usize].as_ref().expect("used up") {
                Held::Raw(guard) => Ok(guard.subscribe().map_err(name)?.ready()),
                _ => panic!("take it raw"),
            },
        )
    }

    fn wait_for_loss(guard: u32) -> String {
        let pollable = with(
            |s| match s.guards[guard as usize].as_ref().expect("used up") {
                Held::Raw(guard) => guard.subscribe().expect("room"),
                _ => panic!("take it raw"),
            },
        );
        pollable.block();
        Self::check(guard).expect_err("it is held")
    }

    fn drop_guard_before_pollable(guard: u32) {
        let Held::Raw(guard) = with(|s| take(&mut s.guards, guard)) else {
            panic!("take it raw");
        };
        let pollable = guard.subscribe().expect("room");
        assert!(!pollable.ready());
        drop(guard);
        pollable.block();
    }

    fn drop_guard(guard: u32) {
        drop(with(|s| take(&mut s.guards, guard)));
    }

    fn start(lock: u32, exclusive: bool, timeout: Option<u32>) -> Result<u32, String> {
        with(|s| {
            let Some(Opened::Raw(lock)) = &s.locks[lock as usize] else {
                panic!("open it raw");
            };
            let timeout = timeout.map(|ms| u64::from(ms) * 1_000_000);
            let request = lock.start_acquire(mode(exclusive), timeout).map_err(name)?;
            Ok(push(&mut s.requests, request))
        })
    }

    fn get(request: u32) -> Option<Result<u32, String>> {
        with(|s| {
            let outcome = s.requests[request as usize].as_ref()?.get()?;
            Some(match outcome {
                Ok(guard) => guard
                    .map(|guard| push(&mut s.guards, Held::Raw(guard)))
                    .map_err(name),
                Err(()) => Err("taken".into()),
            })
        })
    }

    fn wait(request: u32) -> Result<u32, String> {
        with(|s| {
            let request = s.requests[request as usize].as_ref().expect("dropped");
            let pollables = [(); 2].map(|()| request.subscribe().expect("room"));
            pollables[0].block();
            assert!(pollables[1].ready());
        });
        Self::get(request).expect("a pollable was ready too early")
    }

    fn drop_request_before_pollable(request: u32) {
        let request = with(|s| take(&mut s.requests, request));
        let pollable = request.subscribe().expect("room");
        drop(request);
        pollable.block();
    }

    fn drop_request(request: u32) {
        drop(with(|s| take(&mut s.requests, request)));
    }

    fn open_semaphore(path: String, permits: u32) -> Result<u32, String> {
        let semaphore = InterProcessSemaphore::new(&path, permits).map_err(sdk_name)?;
        assert_eq!(semaphore.path().to_str(), Some(path.as_str()));
        assert_eq!(semaphore.permits(), permits);
        with(|s| {
            s.semaphores.push(semaphore);
            Ok(s.semaphores.len() as u32 - 1)
        })
    }

    fn try_permits(semaphore: u32, count: u32) -> Result<u32, String> {
        with(|s| {
            let semaphore = &s.semaphores[semaphore as usize];
            let permit = semaphore.try_acquire_many(count).map_err(sdk_name)?;
            Ok(push(&mut s.permits, permit.ok_or("taken")?))
        })
    }

    fn acquire_permits(semaphore: u32, count: u32, timeout: Option<u32>) -> Result<u32, String> {
        let timeout = timeout.map(|ms| Duration::from_millis(ms.into()));
        with(|s| {
            let semaphore = &s.semaphores[semaphore as usize];
            let permit = match (count, timeout) {
                (1, None) => semaphore.acquire(),
                (1, Some(timeout)) => semaphore.acquire_timeout(timeout),
                (count, None) => semaphore.acquire_many(count),
                (count, Some(timeout)) => semaphore.acquire_many_timeout(count, timeout),
            };
            Ok(push(&mut s.permits, permit.map_err(sdk_name)?))
        })
    }

    fn numbers(at: u32) -> Vec<u32> {
        permit(at, |permit| {
            let numbers = permit.numbers();
            assert_eq!(numbers.first(), Some(&permit.number()));
            numbers
        })
    }

    fn check_permit(at: u32) -> Result<(), String> {
        permit(at, |permit| permit.check().map_err(sdk_name))
    }

    fn permit_token(at: u32) -> Result<u64, String> {
        permit(at, |permit| permit.fencing_token().map_err(sdk_name))
    }

    fn wait_for_permit_loss(at: u32) -> String {
        permit(at, |permit| permit.pollable().expect("room")).block();
        Self::check_permit(at).expect_err("it is held")
    }

    fn release_permit(at: u32) -> Result<(), String> {
        let permit = with(|s| take(&mut s.permits, at));
        permit.release().map_err(sdk_name)
    }

    fn drop_permit(at: u32) {
        drop(with(|s| take(&mut s.permits, at)));
    }

    fn start_permits(semaphore: u32, count: u32, timeout: Option<u32>) -> Result<u32, String> {
        let timeout = timeout.map(|ms| Duration::from_millis(ms.into()));
        with(|s| {
            let semaphore = &s.semaphores[semaphore as usize];
            let request = semaphore.start_acquire(count, timeout).map_err(sdk_name)?;
            Ok(push(&mut s.permit_requests, request))
        })
    }

    fn get_permits(request: u32) -> Option<Result<u32, String>> {
        with(|s| {
            let outcome = s.permit_requests[request as usize].as_mut()?.get()?;
            Some(match outcome {
                Ok(permit) => Ok(push(&mut s.permits, permit)),
                Err(error) => Err(sdk_name(error)),
            })
        })
    }

    fn wait_for_permits(request: u32) -> Result<u32, String> {
        let pollable = with(|s| {
            let request = s.permit_requests[request as usize].as_ref();
            request.expect("dropped").pollable().expect("room")
        });
        pollable.block();
        Self::get_permits(request).expect("a pollable was ready too early")
    }

    fn drop_permit_request(request: u32) {
        drop(with(|s| take(&mut s.permit_requests, request)));
    }

    fn spaces() -> Vec<String> {
        get_lockspaces().into_iter().map(|(_, path)| path).collect()
    }

    fn increment(path: String) -> Result<u64, String> {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let next = text.trim().parse().unwrap_or(0) + 1;
        fs::write(&path, format!("{next}")).map_err(|error| error.to_string())?;
        Ok(next)
    }

    fn write_file(path: String, text: String) -> Result<(), String> {
        fs::write(path, text).map_err(|error| error.to_string())
    }

    fn change_dir(path: String) -> Result<(), String> {
        std::env::set_current_dir(path).map_err(|error| error.to_string())
    }

    fn trap() {
        std::process::abort();
    }
}

export!(Actor);
