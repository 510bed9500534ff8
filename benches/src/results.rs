//! What one run has found.

use crate::{hung, inhost, machine::Machine, statistics::Contention, waits};
use serde::{Deserialize, Serialize};

/// All that was found in one run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    pub(crate) uncontended: Vec<Pair>,
    pub(crate) spaced: Vec<Pair>,
    pub(crate) steps: Vec<Step>,
    pub(crate) instructions: Vec<Instructions>,
    pub(crate) hand_over: Vec<HandOver>,
    pub(crate) contention: Vec<Contended>,
    pub(crate) foreign: Vec<Foreign>,
    pub(crate) readers_and_writer: Vec<ReadersAndWriter>,
    pub(crate) in_host: Vec<InHost>,
    #[serde(default)]
    pub(crate) waits: Vec<Waits>,
    pub(crate) hung: Vec<Hung>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) start: Option<Start>,
    pub(crate) existing: Vec<Existing>,
}

/// Acquire and release of a lock that no other process wants.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) family: String,
    pub(crate) way: String,
    pub(crate) nanoseconds: f64,
    /// To the same system calls made natively; the median of the rounds.
    pub(crate) ratio: f64,
    /// Of what it takes beyond the system calls, to what another version takes.
    pub(crate) of_other: Option<f64>,
}

/// What is done with a lock while it is held.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) step: String,
    pub(crate) way: String,
    pub(crate) nanoseconds: f64,
    /// To the same system calls made natively; the median of the rounds.
    pub(crate) ratio: f64,
}

/// Of a pair in user space.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Instructions {
    pub(crate) way: String,
    pub(crate) each: f64,
}

/// Two competitors for a lock of a host, without and with another that hangs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hung {
    pub(crate) kind: String,
    pub(crate) without: hung::Found,
    pub(crate) beside: hung::Found,
}

/// From the release of one process to the turn of another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandOver {
    pub(crate) way: String,
    /// What the holder does after its release.
    pub(crate) holder: String,
    pub(crate) samples: usize,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Contended {
    pub(crate) way: String,
    pub(crate) processes: usize,
    pub(crate) hold_us: u64,
    pub(crate) found: Contention,
}

/// A program that knows nothing of clasp beside three busy guests.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Foreign {
    pub(crate) foreign: String,
    pub(crate) beside: String,
    pub(crate) foreign_turns: usize,
    pub(crate) other_turns: Vec<usize>,
    pub(crate) foreign_worst_ms: f64,
    pub(crate) violations: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadersAndWriter {
    pub(crate) way: String,
    pub(crate) reader_turns: usize,
    pub(crate) writer_turns: usize,
    pub(crate) writer_worst_ms: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InHost {
    pub(crate) who: String,
    pub(crate) mode: String,
    pub(crate) count: usize,
    pub(crate) found: inhost::Found,
}

/// Requests of one guest of WASI 0.3.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waits {
    pub(crate) count: u32,
    pub(crate) found: waits::Found,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) waiters: usize,
    pub(crate) bytes_each: f64,
}

/// Until `clasp run` has run a guest, or `clasp lock` a command, in milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    /// Nothing compiled before.
    pub(crate) cold_ms: f64,
    /// The guest was compiled before.
    pub(crate) warm_ms: f64,
    /// The same component by the least that starts it with wasmtime, compiled before.
    pub(crate) bare_ms: f64,
    /// `clasp lock FILE true`.
    pub(crate) lock_ms: f64,
    /// `flock FILE true`.
    pub(crate) flock_ms: f64,
}

/// Programs in C that call `fcntl`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Existing {
    pub(crate) what: String,
    pub(crate) who: String,
    /// For one pair or transaction, of all processes together.
    pub(crate) microseconds: f64,
    /// To the first of the same comparison; the median of the rounds.
    pub(crate) ratio: f64,
}
