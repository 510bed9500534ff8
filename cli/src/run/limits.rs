//! Bounds on a guest: its memory and its time.

use crate::output::say;
use clasp_host::LocksHandle;
use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};
use wasmtime::{Engine, ResourceLimiter};

/// The exit code after a timeout, which is that of timeout(1).
pub(super) const TIMED_OUT: u8 = 124;

/// How long a guest that was stopped may take to end. A host function that waits for
/// something else than a lock, such as for input, does not see the interruption.
const GRACE: Duration = Duration::from_millis(500);

/// A number of bytes, with K, M or G for its powers of 1024.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let advice = || "write a number of bytes, such as 65536, 512K, 64M or 1G".to_owned();
    let (number, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = number.parse().map_err(|_| advice())?;
    number.checked_mul(1 << shift).ok_or_else(advice)
}

/// What a table needs for each of its elements, at most.
const ELEMENT: usize = 16;

/// The memory of a guest: all its linear memories and tables together.
pub(super) struct Memory {
    most: usize,
    used: usize,
    /// What the growth under way adds, which may yet fail.
    growth: usize,
}

impl Memory {
    pub(super) fn new(most: Option<usize>) -> Memory {
        Memory {
            most: most.unwrap_or(usize::MAX),
            used: 0,
            growth: 0,
        }
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let growth = desired.saturating_sub(current);
        self.growth = 0;
        if growth > self.most.saturating_sub(self.used) {
            return false;
        }
        self.used += growth;
        self.growth = growth;
        true
    }

    fn failed(&mut self) {
        self.used -= std::mem::take(&mut self.growth);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(ELEMENT);
        Ok(self.grow(bytes(current), bytes(desired)))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed();
        Ok(())
    }
}

/// The end of a guest's time.
pub(super) struct Deadline {
    ended: Sender<()>,
    thread: Option<JoinHandle<bool>>,
}

impl Deadline {
    /// Stops the guest after `timeout`: its waits for locks end, and its code traps.
    pub(super) fn new(timeout: Duration, engine: &Engine, locks: LocksHandle) -> Deadline {
        let (ended, has_ended) = mpsc::channel();
        let engine = engine.clone();
        let watch = move || stop(timeout, &engine, &locks, &has_ended);
        Deadline {
            ended,
            thread: thread::Builder::new().spawn(watch).ok(),
        }
    }

    /// The guest has ended; answers whether it was stopped.
    pub(super) fn end(self) -> bool {
        drop(self.ended);
        self.thread
            .is_some_and(|thread| thread.join().unwrap_or(false))
    }
}

fn stop(timeout: Duration, engine: &Engine, locks: &LocksHandle, ended: &Receiver<()>) -> bool {
    let passes = |time| ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
    if !passes(timeout) {
        return false;
    }
    engine.increment_epoch();
    locks.close();
    if passes(GRACE) {
        say!("stopped by --timeout; the guest was in a call that cannot be interrupted");
        std::process::exit(TIMED_OUT.into());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{Memory, size};

    #[test]
    fn memory_is_counted_as_a_whole() {
        let mut memory = Memory::new(Some(100));
        assert!(memory.grow(0, 60));
        assert!(memory.grow(0, 30), "a second memory");
        assert!(!memory.grow(30, 50));
        memory.failed();
        assert!(memory.grow(30, 40), "the denied growth is not counted");
        memory.failed();
        assert!(memory.grow(30, 40), "nor is one that failed later");
        assert!(!memory.grow(40, 41));
        assert!(Memory::new(None).grow(0, 1 << 40));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("512K"), Ok(512 << 10));
        assert_eq!(size("64m"), Ok(64 << 20));
        assert_eq!(size("1G"), Ok(1 << 30));
        for wrong in ["", "M", "1.5G", "-1", "1T", "99999999999G", "é"] {
            assert!(size(wrong).unwrap_err().contains("64M"), "{wrong}");
        }
    }
}
