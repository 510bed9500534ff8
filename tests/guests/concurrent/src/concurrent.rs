//! A guest of WASI 0.3 that does as a test says; see `tests/wit/actor.wit`.

use clasp_guest::{
    ErrorKind, NotConverted,
    aio::{
        InterProcessGuard, InterProcessLock, InterProcessPermit, InterProcessReadGuard,
        InterProcessReaderWriterLock, InterProcessSemaphore, InterProcessWriteGuard,
    },
    bindings::p3::{
        flock,
        preopens::get_lockspaces,
        ranges::RangeOwner,
        types::{ErrorCode, Guard as LockGuard, Lock, Lockspace, Mode},
    },
};
use futures::{
    FutureExt,
    channel::oneshot,
    future::{Either, LocalBoxFuture, Shared, select},
};
use std::{
    cell::RefCell,
    fs,
    rc::Rc,
    task::Poll,
    time::{Duration, SystemTime},
};

wit_bindgen::generate!({ path: "../../wit", world: "concurrent" });

use exports::clasp::tests::concurrent_commands::Guest;

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

type Outcome = Result<u32, String>;

/// What a request for a range gives.
const NO_GUARD: u32 = u32::MAX;

type Ending = Shared<LocalBoxFuture<'static, Option<Outcome>>>;

/// A call that is under way.
struct Request {
    outcome: Ending,
    /// Whether the guard was handed over, or the error.
    collected: bool,
    /// Dropping it has the call cancelled.
    cancel: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct State {
    spaces: Option<Rc<Vec<(Lockspace, String)>>>,
    locks: Vec<Option<Rc<Opened>>>,
    guards: Vec<Option<Rc<Held>>>,
    requests: Vec<Option<Request>>,
    ranges: Vec<Option<Rc<RangeOwner>>>,
    semaphores: Vec<Rc<InterProcessSemaphore>>,
    permits: Vec<Option<Rc<InterProcessPermit>>>,
    /// Exclusive locks are taken by the two classes of the SDK in turn.
    turn: bool,
}

thread_local!(static STATE: RefCell<State> = RefCell::default());

fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    STATE.with(|state| f(&mut state.borrow_mut()))
}

fn spaces() -> Rc<Vec<(Lockspace, String)>> {
    with(|s| Rc::clone(s.spaces.get_or_insert_with(|| Rc::new(get_lockspaces()))))
}

fn lock(at: u32) -> Rc<Opened> {
    with(|s| Rc::clone(s.locks[at as usize].as_ref().expect("the lock is closed")))
}

fn guard(at: u32) -> Rc<Held> {
    with(|s| Rc::clone(s.guards[at as usize].as_ref().expect("used up")))
}

fn ranges(at: u32) -> Rc<RangeOwner> {
    with(|s| Rc::clone(s.ranges[at as usize].as_ref().expect("used up")))
}

fn semaphore(at: u32) -> Rc<InterProcessSemaphore> {
    with(|s| Rc::clone(&s.semaphores[at as usize]))
}

fn permit(at: u32) -> Rc<InterProcessPermit> {
    with(|s| Rc::clone(s.permits[at as usize].as_ref().expect("used up")))
}

fn push_permit(permit: InterProcessPermit) -> u32 {
    with(|s| push(&mut s.permits, Rc::new(permit)))
}

fn take_guard(at: u32) -> Held {
    let guard = with(|s| take(&mut s.guards, at));
    Rc::into_inner(guard).expect("no call has it")
}

fn push_guard(held: Held) -> u32 {
    with(|s| push(&mut s.guards, Rc::new(held)))
}

fn push<T>(list: &mut Vec<Option<T>>, item: T) -> u32 {
    list.push(Some(item));
    list.len() as u32 - 1
}

fn take<T>(list: &mut [Option<T>], at: u32) -> T {
    list[at as usize].take().expect("used up")
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
        match &*guard($guard) {
            Held::Plain(guard) => guard.$method().await.map_err(sdk_name),
            Held::Read(guard) => guard.$method().await.map_err(sdk_name),
            Held::Write(guard) => guard.$method().await.map_err(sdk_name),
            Held::Raw(guard) => guard.$method().await.map_err(name),
        }
    };
}

fn duration(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

fn nanos(ms: Option<u32>) -> Option<u64> {
    ms.map(|ms| u64::from(ms) * 1_000_000)
}

async fn acquire_raw(at: u32, exclusive: bool, timeout: Option<u32>) -> Outcome {
    let lock = lock(at);
    let Opened::Raw(lock) = &*lock else {
        panic!("open it raw");
    };
    let guard = lock.acquire(mode(exclusive), nanos(timeout)).await;
    Ok(push_guard(Held::Raw(guard.map_err(name)?)))
}

/// Leaves a call under way.
async fn start(call: impl Future<Output = Outcome> + 'static) -> Outcome {
    let mut call = Box::pin(call);
    let (cancel, cancelled) = oneshot::channel();
    let (done, outcome) = oneshot::channel();
    match futures::poll!(&mut call) {
        Poll::Ready(Err(error)) => return Err(error),
        Poll::Ready(ended) => drop(done.send(ended)),
        Poll::Pending => wit_bindgen::spawn_local(async move {
            if let Either::Left((ended, _)) = select(call, cancelled).await {
                let _ = done.send(ended);
            }
        }),
    }
    let request = Request {
        outcome: outcome.map(Result::ok).boxed_local().shared(),
        collected: false,
        cancel: Some(cancel),
    };
    Ok(with(|s| push(&mut s.requests, request)))
}

/// How a request ends, and whether that was handed over.
fn outcome(at: u32) -> (Ending, bool) {
    with(|s| {
        let request = s.requests[at as usize].as_ref().expect("dropped");
        (request.outcome.clone(), request.collected)
    })
}

fn collect(at: u32, ended: Option<Outcome>) -> Outcome {
    with(|s| s.requests[at as usize].as_mut().expect("dropped").collected = true);
    ended.expect("not cancelled")
}

struct Actor;

impl Guest for Actor {
    async fn open(path: String) -> Result<u32, String> {
        let lock = InterProcessLock::new(&path).await.map_err(sdk_name)?;
        let rw = InterProcessReaderWriterLock::new(&path)
            .await
            .map_err(sdk_name)?;
        assert_eq!(lock.path().to_str(), Some(path.as_str()));
        Ok(with(|s| push(&mut s.locks, Rc::new(Opened::Sdk(lock, rw)))))
    }

    async fn open_raw(space: u32, lock: String) -> Result<u32, String> {
        let lock = spaces()[space as usize].0.open(lock).await.map_err(name)?;
        Ok(with(|s| push(&mut s.locks, Rc::new(Opened::Raw(lock)))))
    }

    async fn open_flock(space: u32, lock: String) -> Result<u32, String> {
        let spaces = spaces();
        let lock = flock::open(&spaces[space as usize].0, lock)
            .await
            .map_err(name)?;
        Ok(with(|s| push(&mut s.locks, Rc::new(Opened::Raw(lock)))))
    }

    async fn open_ranges(space: u32, file: String) -> Result<u32, String> {
        let spaces = spaces();
        let ranges = RangeOwner::open(&spaces[space as usize].0, file)
            .await
            .map_err(name)?;
        Ok(with(|s| push(&mut s.ranges, Rc::new(ranges))))
    }

    fn same_ranges(one: u32, other: u32) -> bool {
        ranges(one).is_same(&ranges(other))
    }

    async fn try_range(at: u32, exclusive: bool, start: u64, len: u64) -> Result<bool, String> {
        ranges(at)
            .try_set(mode(exclusive), start, len)
            .await
            .map_err(name)
    }

    async fn set_range(
        at: u32,
        exclusive: bool,
        start: u64,
        len: u64,
        timeout: Option<u32>,
    ) -> Result<(), String> {
        let set = ranges(at);
        let set = set.set(mode(exclusive), start, len, nanos(timeout)).await;
        set.map_err(name)
    }

    async fn unlock_range(at: u32, start: u64, len: u64) -> Result<(), String> {
        ranges(at).unlock(start, len).await.map_err(name)
    }

    async fn test_range(
        at: u32,
        exclusive: bool,
        start: u64,
        len: u64,
    ) -> Result<Option<(bool, u64, u64)>, String> {
        let found = ranges(at)
            .test(mode(exclusive), start, len)
            .await
            .map_err(name)?;
        Ok(found.map(|found| (found.mode == Mode::Exclusive, found.start, found.len)))
    }

    fn drop_ranges(at: u32) {
        drop(with(|s| take(&mut s.ranges, at)));
    }

    fn close(at: u32) {
        drop(with(|s| take(&mut s.locks, at)));
    }

    async fn acquire(at: u32, exclusive: bool, timeout: Option<u32>) -> Result<u32, String> {
        let turn = with(|s| {
            s.turn = !s.turn;
            s.turn
        });
        let opened = lock(at);
        let Opened::Sdk(lock, rw) = &*opened else {
            return acquire_raw(at, exclusive, timeout).await;
        };
        let held = match (exclusive, timeout.map(duration)) {
            (false, None) => rw.read().await.map(Held::Read),
            (false, Some(t)) => rw.read_timeout(t).await.map(Held::Read),
            (true, None) if turn => lock.acquire().await.map(Held::Plain),
            (true, Some(t)) if turn => lock.acquire_timeout(t).await.map(Held::Plain),
            (true, None) => rw.write().await.map(Held::Write),
            (true, Some(t)) => rw.write_timeout(t).await.map(Held::Write),
        };
        Ok(push_guard(held.map_err(sdk_name)?))
    }

    async fn try_acquire(at: u32, exclusive: bool) -> Result<u32, String> {
        let turn = with(|s| {
            s.turn = !s.turn;
            s.turn
        });
        let held = match (&*lock(at), exclusive) {
            (Opened::Raw(lock), _) => {
                let guard = lock.try_acquire(mode(exclusive)).await.map_err(name)?;
                guard.map(Held::Raw)
            }
            (Opened::Sdk(_, rw), false) => rw.try_read().await.map_err(sdk_name)?.map(Held::Read),
            (Opened::Sdk(lock, _), true) if turn => {
                lock.try_acquire().await.map_err(sdk_name)?.map(Held::Plain)
            }
            (Opened::Sdk(_, rw), true) => rw.try_write().await.map_err(sdk_name)?.map(Held::Write),
        };
        Ok(push_guard(held.ok_or("taken")?))
    }

    async fn release(at: u32) -> Result<(), String> {
        match take_guard(at) {
            Held::Plain(guard) => guard.release().await.map_err(sdk_name),
            Held::Read(guard) => guard.release().await.map_err(sdk_name),
            Held::Write(guard) => guard.release().await.map_err(sdk_name),
            Held::Raw(guard) => LockGuard::release(guard).await.map_err(name),
        }
    }

    fn drop_guard(at: u32) {
        drop(take_guard(at));
    }

    async fn check(at: u32) -> Result<(), String> {
        on_guard!(at, check)
    }

    async fn touch(at: u32) -> Result<(), String> {
        on_guard!(at, touch)
    }

    fn is_exclusive(at: u32) -> bool {
        match &*guard(at) {
            Held::Plain(_) | Held::Write(_) => true,
            Held::Read(_) => false,
            Held::Raw(guard) => guard.mode() == Mode::Exclusive,
        }
    }

    async fn downgrade(at: u32) -> Result<(), String> {
        let (held, result) = match take_guard(at) {
            Held::Write(guard) => match guard.downgrade().await {
                Ok(guard) => (Held::Read(guard), Ok(())),
                Err(refused) => {
                    let result = Err(refusal(&refused));
                    (Held::Write(refused.into_guard()), result)
                }
            },
            Held::Raw(guard) => {
                let result = guard.downgrade().await.map_err(name);
                (Held::Raw(guard), result)
            }
            Held::Plain(_) | Held::Read(_) => panic!("take it otherwise"),
        };
        with(|s| s.guards[at as usize] = Some(Rc::new(held)));
        result
    }

    async fn try_upgrade(at: u32) -> Result<bool, String> {
        let (held, result) = match take_guard(at) {
            Held::Read(guard) => match guard.try_upgrade().await {
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
                let result = guard.try_upgrade().await.map_err(name);
                (Held::Raw(guard), result)
            }
            Held::Plain(_) | Held::Write(_) => panic!("take it otherwise"),
        };
        with(|s| s.guards[at as usize] = Some(Rc::new(held)));
        result
    }

    async fn fencing_token(at: u32) -> Result<u64, String> {
        match &*guard(at) {
            Held::Plain(guard) => guard.fencing_token().await.map_err(sdk_name),
            Held::Write(guard) => guard.fencing_token().await.map_err(sdk_name),
            Held::Raw(guard) => guard.fencing_token().await.map_err(name),
            Held::Read(_) => panic!("take it raw"),
        }
    }

    async fn last_touched(at: u32) -> Result<Option<u64>, String> {
        let seconds = |at: SystemTime| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH);
            since.expect("after 1970").as_secs()
        };
        match &*lock(at) {
            Opened::Raw(lock) => {
                let touched = lock.last_touched().await.map_err(name)?;
                Ok(touched.map(|at| at.seconds as u64))
            }
            Opened::Sdk(lock, rw) => {
                let touched = lock.last_touched().await.map_err(sdk_name)?;
                assert_eq!(touched, rw.last_touched().await.map_err(sdk_name)?);
                Ok(touched.map(seconds))
            }
        }
    }

    async fn is_lost(at: u32) -> Result<bool, String> {
        match &*guard(at) {
            Held::Raw(guard) => Ok(guard.lost().now_or_never().is_some()),
            _ => panic!("take it raw"),
        }
    }

    async fn wait_for_loss(at: u32) -> String {
        match &*guard(at) {
            Held::Plain(guard) => sdk_name(guard.lost().await),
            Held::Read(guard) => sdk_name(guard.lost().await),
            Held::Write(guard) => sdk_name(guard.lost().await),
            Held::Raw(guard) => name(guard.lost().await),
        }
    }

    async fn start(at: u32, exclusive: bool, timeout: Option<u32>) -> Result<u32, String> {
        start(acquire_raw(at, exclusive, timeout)).await
    }

    async fn start_range(at: u32, exclusive: bool, begin: u64, len: u64) -> Result<u32, String> {
        let ranges = ranges(at);
        start(async move {
            let set = ranges.set(mode(exclusive), begin, len, None).await;
            set.map(|()| NO_GUARD).map_err(name)
        })
        .await
    }

    async fn received() -> u32 {
        wit_bindgen::yield_async().await;
        with(|s| s.guards.len() as u32)
    }

    async fn settle(at: u32) {
        let (outcome, _) = outcome(at);
        outcome.await;
    }

    fn get(at: u32) -> Option<Result<u32, String>> {
        let (outcome, collected) = outcome(at);
        if collected {
            return Some(Err("taken".into()));
        }
        let ended = outcome.now_or_never()?;
        Some(collect(at, ended))
    }

    async fn wait(at: u32) -> Result<u32, String> {
        let (outcome, _) = outcome(at);
        collect(at, outcome.await)
    }

    async fn drop_request(at: u32) {
        let request = with(|s| take(&mut s.requests, at));
        drop(request.cancel);
        // A grant that came before the cancellation is not wanted either.
        if let Some(Ok(guard)) = request.outcome.await
            && !request.collected
            && guard != NO_GUARD
        {
            drop(take_guard(guard));
        }
    }

    async fn open_semaphore(path: String, permits: u32) -> Result<u32, String> {
        let opened = InterProcessSemaphore::new(&path, permits).await;
        let semaphore = opened.map_err(sdk_name)?;
        assert_eq!(semaphore.path().to_str(), Some(path.as_str()));
        assert_eq!(semaphore.permits(), permits);
        with(|s| {
            s.semaphores.push(Rc::new(semaphore));
            Ok(s.semaphores.len() as u32 - 1)
        })
    }

    async fn try_permits(at: u32, count: u32) -> Result<u32, String> {
        let tried = semaphore(at).try_acquire_many(count).await;
        let permit = tried.map_err(sdk_name)?;
        Ok(push_permit(permit.ok_or("taken")?))
    }

    async fn acquire_permits(at: u32, count: u32, timeout: Option<u32>) -> Result<u32, String> {
        let semaphore = semaphore(at);
        let permit = match (count, timeout.map(duration)) {
            (1, None) => semaphore.acquire().await,
            (1, Some(timeout)) => semaphore.acquire_timeout(timeout).await,
            (count, None) => semaphore.acquire_many(count).await,
            (count, Some(timeout)) => semaphore.acquire_many_timeout(count, timeout).await,
        };
        Ok(push_permit(permit.map_err(sdk_name)?))
    }

    fn numbers(at: u32) -> Vec<u32> {
        let permit = permit(at);
        let numbers = permit.numbers();
        assert_eq!(numbers.first(), Some(&permit.number()));
        numbers
    }

    async fn check_permit(at: u32) -> Result<(), String> {
        permit(at).check().await.map_err(sdk_name)
    }

    async fn permit_token(at: u32) -> Result<u64, String> {
        permit(at).fencing_token().await.map_err(sdk_name)
    }

    async fn wait_for_permit_loss(at: u32) -> String {
        sdk_name(permit(at).lost().await)
    }

    async fn release_permit(at: u32) -> Result<(), String> {
        let permit = Rc::into_inner(with(|s| take(&mut s.permits, at)));
        let permit = permit.expect("no call has it");
        permit.release().await.map_err(sdk_name)
    }

    fn drop_permit(at: u32) {
        drop(with(|s| take(&mut s.permits, at)));
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
