//! The report on semaphores.

use super::Results;
use crate::report::table;
use anyhow::Result;
use std::fmt::Write;

pub(super) fn text(results: &Results) -> Result<String> {
    let machine = &results.machine;
    let mut text = String::new();
    writeln!(
        text,
        "# Benchmark results of semaphores\n\n\
         `cargo xtask bench --of semaphores` wrote this page from one run on {} x {}, {} GiB, {}, \
         with files on {}. Only ratios within a table are reliable. clasp {}.{}\n\n\
         `engine-posix-fair` is an exclusive lock of clasp, and `permits` a semaphore of clasp, \
         both natively and in the order `fair`. `pool` is a file for each permit, locked with \
         flock: it tries all, and waits for one of them. `portalocker` is the \
         `NamedBoundedSemaphore` of that library for Python, which polls every 0.25 s. Neither \
         has an order. Each participant is a process of its own.",
        machine.processors,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
        machine.file_system,
        machine.clasp,
        if results.quick {
            " **A quick run, too short to rely on.**"
        } else {
            ""
        },
    )?;
    table(
        &mut text,
        "Acquire and release, without contention",
        &["permits", "way", "ns", "of the lock"],
        results
            .pairs
            .iter()
            .map(|pair| {
                vec![
                    pair.permits.to_string(),
                    pair.way.clone(),
                    format!("{:.0}", pair.nanoseconds),
                    format!("{:.2}", pair.ratio),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "Time from the release of a permit to the turn of a waiting process, us; all other \
         permits are held",
        &["permits", "way", "p50", "p50 of the lock", "p99", "samples"],
        results
            .wakes
            .iter()
            .map(|wake| {
                vec![
                    wake.permits.to_string(),
                    wake.way.clone(),
                    format!("{:.1}", wake.p50),
                    format!("{:.2}", wake.ratio),
                    format!("{:.1}", wake.p99),
                    wake.samples.to_string(),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "16 processes that request a permit continuously, and hold it for 2 ms; waits in ms",
        &[
            "permits",
            "way",
            "turns/s",
            "p50",
            "p99",
            "fewest turns",
            "most",
            "at once",
        ],
        results
            .turns
            .iter()
            .map(|turns| {
                vec![
                    turns.permits.to_string(),
                    turns.way.clone(),
                    format!("{:.0}", turns.per_second),
                    format!("{:.2}", turns.wait_p50 / 1e3),
                    format!("{:.2}", turns.wait_p99 / 1e3),
                    turns.fewest.to_string(),
                    turns.most.to_string(),
                    turns.at_once.to_string(),
                ]
            })
            .collect(),
    )?;
    Ok(text)
}
