//! A guest that does as a test says; see `tests/wit/actor.wit`.

use clasp_guest::bindings::{
    preopens::get_lockspaces,
    types::{ErrorCode, FutureGuard, Guard as LockGuard, Lock, Lockspace, Mode},
};
use clasp_guest::{InterProcessGuard, InterProcessReadGuard, InterProcessReaderWriterLock};
use clasp_guest::{InterProcessLock, InterProcessWriteGuard};
use std::{cell::RefCell, fs, time::Duration};

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
    /// Exclusive locks are taken by the two classes of the SDK in turn.
    turn: bool,
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

fn mode(exclusive: bool) -> Mode {
    if exclusive {
        Mode::Exclusive
    } else {
        Mode::Shared
    }
}

fn name(code: ErrorCode) -> String {
    match code {
        ErrorCode::WouldBlock => "would-block",
        ErrorCode::TimedOut => "timed-out",
        ErrorCode::Deadlock => "deadlock",
        ErrorCode::Access => "access",
        ErrorCode::NotPermitted => "not-permitted",
        ErrorCode::NoEntry => "no-entry",
        ErrorCode::InvalidName => "invalid-name",
        ErrorCode::NotAFile => "not-a-file",
        ErrorCode::LimitExceeded => "limit-exceeded",
        ErrorCode::Unavailable => "unavailable",
        ErrorCode::Unsupported => "unsupported",
        ErrorCode::Lost => "lost",
        ErrorCode::Io => "io",
        ErrorCode::Other(_) => "other",
    }
    .into()
}

/// The name of the one method that says yes.
fn sdk_name(error: clasp_guest::Error) -> String {
    let names = [
        (error.is_timed_out(), "timed-out"),
        (error.is_deadlock(), "deadlock"),
        (error.is_access(), "access"),
        (error.is_not_permitted(), "not-permitted"),
        (error.is_no_entry(), "no-entry"),
        (error.is_invalid_name(), "invalid-name"),
        (error.is_not_a_file(), "not-a-file"),
        (error.is_limit_exceeded(), "limit-exceeded"),
        (error.is_unavailable(), "unavailable"),
        (error.is_unsupported(), "unsupported"),
        (error.is_lost(), "lost"),
        (error.is_io(), "io"),
    ];
    let mut yes = names.iter().filter(|(yes, _)| *yes).map(|(_, name)| *name);
    let (name, more) = (yes.next(), yes.next());
    assert!(more.is_none(), "{error} is both {name:?} and {more:?}");
    name.map_or_else(|| error.to_string(), str::to_owned)
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
            if s.spaces.is_empty() {
                s.spaces = get_lockspaces();
            }
            let lock = s.spaces[space as usize].0.open(&lock).map_err(name)?;
            Ok(push(&mut s.locks, Opened::Raw(lock)))
        })
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
                    Some(Held::Raw(lock.try_acquire(mode(exclusive)).map_err(name)?))
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
            let held = held.ok_or("would-block")?;
            Ok(push(&mut s.guards, held))
        })
    }

    fn release(guard: u32) -> Result<(), String> {
        match with(|s| take(&mut s.guards, guard)) {
            Held::Plain(guard) => guard.release().map_err(sdk_name),
            Held::Read(guard) => guard.release().map_err(sdk_name),
            Held::Write(guard) => guard.release().map_err(sdk_name),
            Held::Raw(guard) => {
                guard.mode();
                LockGuard::release(guard).map_err(name)
            }
        }
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
            let pollables = [request.subscribe(), request.subscribe()];
            pollables[0].block();
            assert!(pollables[1].ready());
        });
        Self::get(request).expect("a pollable was ready too early")
    }

    fn drop_request_before_pollable(request: u32) {
        let request = with(|s| take(&mut s.requests, request));
        let pollable = request.subscribe();
        drop(request);
        pollable.block();
    }

    fn drop_request(request: u32) {
        drop(with(|s| take(&mut s.requests, request)));
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
