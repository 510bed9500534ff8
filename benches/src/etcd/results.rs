//! What was found on servers.

use crate::machine::Machine;
use serde::Serialize;

/// All that was found in one run. Times are milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    pub(super) machine: Machine,
    pub(super) quick: bool,
    /// One deletion of a key on the idle cluster.
    pub(super) delete_p50: f64,
    pub(super) delete_p99: f64,
    pub(super) pairs: Vec<Pair>,
    pub(super) commands: Vec<Pair>,
    pub(super) hand_over: Vec<HandOver>,
    pub(super) turns: Vec<Turns>,
    pub(super) inside: Vec<Inside>,
}

/// Acquire and release of a lock that nobody else wants.
#[derive(Debug, Serialize)]
pub(super) struct Pair {
    pub(super) way: String,
    pub(super) milliseconds: f64,
}

/// From the release of one host to the turn of another.
#[derive(Debug, Serialize)]
pub(super) struct HandOver {
    pub(super) way: String,
    pub(super) samples: usize,
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// One deletion of a key on the cluster meanwhile.
    pub(super) delete_p50: Option<f64>,
}

/// Processes that request one lock continuously.
#[derive(Debug, Serialize)]
pub(super) struct Turns {
    pub(super) way: String,
    pub(super) hosts: usize,
    pub(super) per_second: f64,
    pub(super) wait_p50: f64,
    pub(super) wait_p99: f64,
    pub(super) fewest: usize,
    pub(super) most: usize,
    pub(super) overlaps: usize,
}

/// Owners in few hosts that request one lock continuously.
#[derive(Debug, Serialize)]
pub(super) struct Inside {
    pub(super) hosts: usize,
    pub(super) owners_each: usize,
    pub(super) per_second: f64,
}
