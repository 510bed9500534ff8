//! Functions with attributes, in a component that was granted `data`.

use clasp_guest::{
    Error, ErrorKind, InterProcessLock, InterProcessReaderWriterLock, ReaderWriterLock,
    interprocess_locked, interprocess_read_locked, interprocess_write_locked, read_locked,
    write_locked,
};
use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

const PATH: &str = "data/a.lock";

#[interprocess_locked("data/a.lock")]
fn exclusive(by: &mut u32) -> Result<u32, Error> {
    *by += 1;
    Ok(*by)
}

#[interprocess_locked(PATH, timeout = "5ms")]
fn in_time() -> Result<(), Error> {
    Ok(())
}

#[interprocess_read_locked(PATH, timeout = "5ms")]
fn read_in_time() -> std::io::Result<()> {
    Ok(())
}

#[interprocess_read_locked(PATH, panic)]
fn shared() -> bool {
    // The reader is this component, so it may read again.
    let lock = InterProcessReaderWriterLock::new(PATH).unwrap();
    lock.try_write().unwrap().is_none() && lock.try_read().unwrap().is_some()
}

#[interprocess_write_locked(PATH, panic)]
fn written() -> bool {
    let lock = InterProcessReaderWriterLock::new(PATH).unwrap();
    lock.try_read().unwrap().is_none()
}

#[interprocess_locked("elsewhere/a.lock")]
fn not_granted() -> Result<(), Error> {
    unreachable!("it has no lock");
}

/// What an interface of a component exports.
#[interprocess_locked(PATH, timeout = PATIENCE, map_err = |error| error.to_string())]
fn as_text() -> Result<u32, String> {
    Ok(1)
}

const PATIENCE: Duration = Duration::from_millis(5);

type Outcome = Result<u32, Box<dyn std::error::Error>>;

/// A name for the type hides nothing.
#[interprocess_locked(PATH, crate = locks)]
fn by_alias() -> Outcome {
    Ok(2)
}

/// The crate by another name.
mod locks {
    pub(crate) use clasp_guest::*;
}

struct Named {
    file: &'static str,
}

impl Named {
    fn path(&self) -> String {
        format!("data/{}", self.file)
    }

    #[interprocess_locked(self.path(), timeout = patience)]
    fn run(&self, patience: Duration) -> Outcome {
        Ok(3)
    }
}

/// Arguments see the function's names, whatever they are, and can fail as its body can.
#[interprocess_locked(opened.path(), timeout = patience(lock)?)]
fn by_its_own_names(lock: &str, opened: &Named) -> Outcome {
    Ok(lock.len() as u32 + opened.file.len() as u32)
}

fn patience(text: &str) -> Result<Duration, clasp_guest::Error> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        // An error that is at hand.
        Err(_) => Err(InterProcessLock::new("..").unwrap_err()),
    }
}

struct Cache {
    lock: ReaderWriterLock,
    other: ReaderWriterLock,
    value: std::cell::Cell<u32>,
}

impl Cache {
    #[read_locked]
    async fn get(&self) -> u32 {
        assert!(self.lock.try_write().is_none());
        assert!(self.other.try_write().is_some());
        self.value.get()
    }

    #[write_locked(self.other)]
    async fn set(&self, value: u32) {
        assert!(self.other.try_read().is_none());
        assert!(self.lock.try_write().is_some());
        self.value.set(value);
    }
}

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the lock is free"),
    }
}

fn main() {
    let mut calls = 0;
    assert_eq!(exclusive(&mut calls).unwrap(), 1);
    assert_eq!(exclusive(&mut calls).unwrap(), 2);
    assert!(shared());
    assert!(written());
    assert!(in_time().is_ok());
    assert_eq!(as_text(), Ok(1));
    assert_eq!(by_alias().unwrap(), 2);
    assert_eq!(Named { file: "b.lock" }.run(PATIENCE).unwrap(), 3);

    let lock = InterProcessLock::new(PATH).unwrap();
    let guard = lock.acquire().unwrap();
    // This component holds it itself.
    assert_eq!(in_time().unwrap_err().kind(), ErrorKind::Deadlock);
    assert!(as_text().unwrap_err().contains(PATH));
    assert!(by_alias().is_err());
    let none = Named { file: "b.lock" };
    assert_eq!(by_its_own_names("10", &none).unwrap(), 8);
    let error = by_its_own_names("soon", &none).unwrap_err();
    assert!(error.to_string().contains("\"..\""), "{error}");
    let named = Named { file: "a.lock" };
    assert!(named.run(Duration::ZERO).is_err());
    let error = read_in_time().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Deadlock);
    assert!(error.to_string().contains(PATH), "{error}");
    drop(guard);

    let error = not_granted().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotGranted, "{error}");
    assert!(error.to_string().contains("\"data\""), "{error}");

    let cache = Cache {
        lock: ReaderWriterLock::default(),
        other: ReaderWriterLock::default(),
        value: 0.into(),
    };
    now(cache.set(7));
    assert_eq!(now(cache.get()), 7);
}
