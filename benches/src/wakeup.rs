//! The floor of a hand-over on this machine: one process wakes another and does
//! nothing else.
//!
//! The two pass a byte through pipes. A futex would be a little faster, but needs
//! memory that processes share, hence unsafe code, which benchmarks do not have.

use crate::turns::{now, pass};
use anyhow::{Context, Result};
use std::{
    io::{Read, Write, stdin, stdout},
    process::{Command, Stdio},
};

/// How long the one that wakes does something else in between, so that the other
/// is asleep; in nanoseconds.
const PAUSE: u64 = 300_000;

/// Nanoseconds from a wake-up until the other process runs.
pub(crate) fn measure(rounds: usize) -> Result<Vec<u64>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("echo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("piped")?;
    let mut output = child.stdout.take().context("piped")?;
    let mut found = Vec::with_capacity(rounds);
    let mut time = [0; 8];
    for _ in 0..rounds {
        let begun = pass(now(), PAUSE);
        input.write_all(&[0])?;
        output.read_exact(&mut time)?;
        found.push(u64::from_le_bytes(time).saturating_sub(begun));
    }
    drop(input);
    child.wait()?;
    Ok(found)
}

/// Answers each byte with the time at which it came.
pub(crate) fn echo() -> Result<()> {
    let (mut input, mut output) = (stdin().lock(), stdout().lock());
    let mut byte = [0];
    while input.read(&mut byte)? > 0 {
        output.write_all(&now().to_le_bytes())?;
        output.flush()?;
    }
    Ok(())
}
