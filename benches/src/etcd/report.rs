//! The report on locks on servers.

use super::results::{Pair, Results};
use crate::report::table;
use anyhow::Result;
use std::fmt::Write;

pub(super) fn text(results: &Results) -> Result<String> {
    let machine = &results.machine;
    let mut text = String::new();
    writeln!(
        text,
        "# Benchmark results on etcd\n\n\
         `cargo xtask bench --on etcd` wrote this page from one run on {} x {}, {} GiB, {}, with \
         the data of the servers on {}. All servers and hosts were on this one machine, so only \
         ratios within a table are reliable. clasp {}.{}\n\n\
         `etcd` is clasp on three members of etcd. `etcd-recipe` is the mutex of etcd's Go client \
         library, written in Rust with the same client as clasp, on the same members. `redis` is \
         the lock of redis-py, which polls every 100 ms, on one Redis without a log. `postgres` is \
         `pg_advisory_lock` through psycopg on one PostgreSQL. Each host is a process of its own. \
         The locks of Redis and PostgreSQL are in the memory of one server: they do not survive \
         its loss, and a lock costs no write to a disk.\n\n\
         The deletion of one key takes {:.2} ms on the idle cluster (p99 {:.2}).",
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
        results.delete_p50,
        results.delete_p99,
    )?;
    let pair = |pair: &Pair| vec![pair.way.clone(), format!("{:.2}", pair.milliseconds)];
    table(
        &mut text,
        "Acquire and release, without contention",
        &["way", "ms"],
        results.pairs.iter().map(pair).collect(),
    )?;
    table(
        &mut text,
        "The command `true` under a lock, from start to end",
        &["command", "ms"],
        results.commands.iter().map(pair).collect(),
    )?;
    let ratio = |time: f64, delete: Option<f64>| {
        delete.map_or("-".into(), |delete| format!("{:.2}", time / delete))
    };
    table(
        &mut text,
        "Time from a release to the turn of a waiting host, ms, and relative to the deletion of \
         one key at the same time",
        &[
            "way",
            "p50",
            "of a deletion",
            "p99",
            "of a deletion",
            "samples",
        ],
        results
            .hand_over
            .iter()
            .map(|h| {
                vec![
                    h.way.clone(),
                    format!("{:.2}", h.p50),
                    ratio(h.p50, h.delete_p50),
                    format!("{:.2}", h.p99),
                    ratio(h.p99, h.delete_p50),
                    h.samples.to_string(),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "Hosts that request one lock continuously; waits in ms",
        &[
            "hosts",
            "way",
            "turns/s",
            "p50",
            "p99",
            "fewest turns",
            "most",
            "overlaps",
        ],
        results
            .turns
            .iter()
            .map(|t| {
                vec![
                    t.hosts.to_string(),
                    t.way.clone(),
                    format!("{:.0}", t.per_second),
                    format!("{:.1}", t.wait_p50),
                    format!("{:.1}", t.wait_p99),
                    t.fewest.to_string(),
                    t.most.to_string(),
                    t.overlaps.to_string(),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "Owners in few hosts that request one lock continuously",
        &["hosts", "owners in each", "turns/s"],
        results
            .inside
            .iter()
            .map(|i| {
                vec![
                    i.hosts.to_string(),
                    i.owners_each.to_string(),
                    format!("{:.0}", i.per_second),
                ]
            })
            .collect(),
    )?;
    Ok(text)
}
