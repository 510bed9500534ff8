//! Turns: when a process asked for a lock, got it, and began to release it.

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

/// One acquisition. Times are nanoseconds of the machine's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) asked: u64,
    pub(crate) got: u64,
    pub(crate) left: u64,
}

/// Now, on the clock that all processes of a machine share, in nanoseconds.
pub(crate) fn now() -> u64 {
    // The system has this clock, so that the call cannot fail.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    time.map_or(0, |time| time.as_nanos() as u64)
}

/// What takes longer than this leaves the processor to others; nanoseconds.
const LONG: u64 = 2_000_000;

/// Lets time pass. A short time keeps the processor busy, since the scheduler could not
/// keep it.
pub(crate) fn pass(from: u64, length: u64) -> u64 {
    let mut time = from;
    while time < from + length {
        if length < LONG {
            std::hint::spin_loop();
        } else {
            thread::park_timeout(Duration::from_nanos(from + length - time));
        }
        time = now();
    }
    time
}

/// Writes turns as a child does: three numbers each, of eight bytes, the least
/// first. Python writes the same.
pub(crate) fn write(turns: &[Turn], mut to: impl Write) -> Result<()> {
    let mut bytes = Vec::with_capacity(turns.len() * 24);
    for turn in turns {
        for time in [turn.asked, turn.got, turn.left] {
            bytes.extend(time.to_le_bytes());
        }
    }
    Ok(to.write_all(&bytes)?)
}

/// Reads what [`write()`] wrote, to the end.
pub(crate) fn read(mut from: impl Read) -> Result<Vec<Turn>> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    let number = |bytes: &[u8], at: usize| -> Result<u64> {
        let bytes = bytes.get(at..at + 8).context("a turn was cut short")?;
        Ok(u64::from_le_bytes(bytes.try_into()?))
    };
    bytes
        .chunks(24)
        .map(|turn| {
            Ok(Turn {
                asked: number(turn, 0)?,
                got: number(turn, 8)?,
                left: number(turn, 16)?,
            })
        })
        .collect()
}
