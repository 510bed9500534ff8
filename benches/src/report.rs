//! The report: results as JSON, tables for people, plots.

use crate::results::{Pair, Results};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::{fmt::Write, fs, path::Path};

pub(crate) fn write(results: &Results, directory: &Path) -> Result<()> {
    let mut json = serde_json::to_string_pretty(results)?;
    json.push('\n');
    fs::write(directory.join("results.json"), json)?;
    let text = tables(results)?;
    println!("{text}");
    fs::write(directory.join("README.md"), text)?;
    plots(results, directory).map_err(|error| anyhow!("cannot plot: {error}"))
}

/// A table with a title, unless it would be empty.
pub(crate) fn table(
    text: &mut String,
    title: &str,
    head: &[&str],
    rows: Vec<Vec<String>>,
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n## {title}\n\n| {} |", head.join(" | "))?;
    writeln!(text, "|{}", "---|".repeat(head.len()))?;
    for row in rows {
        writeln!(text, "| {} |", row.join(" | "))?;
    }
    Ok(())
}

fn pair(pair: &Pair) -> Vec<String> {
    vec![
        pair.family.clone(),
        pair.way.clone(),
        format!("{:.0}", pair.nanoseconds),
        format!("{:.2}", pair.ratio),
        pair.of_other.map_or(String::new(), |r| format!("{r:.2}")),
    ]
}

fn tables(results: &Results) -> Result<String> {
    let machine = &results.machine;
    let mut text = String::new();
    writeln!(
        text,
        "# Benchmark results\n\n\
         `cargo xtask bench` wrote this page from one run on {} x {}, {} GiB, {}, with lock files \
         on {}. Other programs ran on the machine at the same time, so only ratios within a \
         table are reliable. clasp {}, wasmtime {}.{}\n\n\
         `sync` and `async` are guests in a host with blocking or suspending functions, \
         `tasks` are tasks of a guest of WASI 0.3, `engine` is the engine without wasm. `native` is the system calls alone: lock, \
         fstat, unlock. `-plain` is wasmtime without support for concurrency. `fair` and \
         `kernel` are the order between hosts; `strict` is `fair` without a tenure: each host \
         in line gets one turn.",
        machine.processors,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
        machine.file_system,
        machine.clasp,
        machine.wasmtime,
        if results.quick {
            " **A quick run, too short to rely on.**"
        } else {
            ""
        }
    )?;
    table(
        &mut text,
        "Acquire and release, without contention",
        &[
            "family",
            "way",
            "ns",
            "of native",
            "overhead, relative to the other version",
        ],
        results.uncontended.iter().map(pair).collect(),
    )?;
    table(
        &mut text,
        "Acquire and release every 300 us, without contention",
        &["family", "way", "ns", "of native", ""],
        results.spaced.iter().map(pair).collect(),
    )?;
    table(
        &mut text,
        "Other operations of a holder (posix); `native` is one `fcntl`, and for the token \
         `fgetxattr` and `fsetxattr`",
        &["step", "way", "ns", "of native"],
        results
            .steps
            .iter()
            .map(|s| {
                vec![
                    s.step.clone(),
                    s.way.clone(),
                    format!("{:.0}", s.nanoseconds),
                    format!("{:.2}", s.ratio),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "Instructions in user space per acquisition and release (callgrind; flock, because \
         valgrind supports its calls)",
        &["way", "instructions"],
        results
            .instructions
            .iter()
            .map(|i| vec![i.way.clone(), format!("{:.0}", i.each)])
            .collect(),
    )?;
    table(
        &mut text,
        "Requests of one guest of WASI 0.3 that wait for one lock at the same time; how long a \
         cancelled one was still there",
        &[
            "requests",
            "bytes each",
            "threads",
            "grants/s",
            "cancelled behind a guest, us, p99",
            "behind a process",
        ],
        results
            .waits
            .iter()
            .map(|w| {
                vec![
                    w.count.to_string(),
                    format!("{:.0}", w.found.bytes_each),
                    w.found.threads.to_string(),
                    format!("{:.0}", w.found.per_second),
                    format!("{:.0}", w.found.queued_p99),
                    format!("{:.0}", w.found.kernel_p99),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "Two owners that compete for one lock in one host, without and beside another lock that \
         hangs",
        &[
            "host",
            "turns/s without",
            "beside",
            "ratio",
            "delay of a timeout of 5 ms, us, p90, without",
            "beside",
        ],
        results
            .hung
            .iter()
            .map(|h| {
                vec![
                    h.kind.clone(),
                    format!("{:.0}", h.without.per_second),
                    format!("{:.0}", h.beside.per_second),
                    format!("{:.2}", h.beside.per_second / h.without.per_second),
                    format!("{:.0}", h.without.late_p90),
                    format!("{:.0}", h.beside.late_p90),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "Time from a release to the turn of a waiting process, us",
        &["what the holder does next", "way", "p50", "p99", "samples"],
        results
            .hand_over
            .iter()
            .map(|h| {
                vec![
                    h.holder.clone(),
                    h.way.clone(),
                    format!("{:.1}", h.p50),
                    format!("{:.1}", h.p99),
                    h.samples.to_string(),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "Processes that request one lock continuously; waits in us",
        &[
            "processes",
            "hold us",
            "way",
            "turns/s",
            "p50",
            "p99",
            "p99.9",
            "worst",
            "overtaken",
            "by one",
            "longest run",
            "overlaps",
        ],
        results
            .contention
            .iter()
            .map(|c| {
                let f = &c.found;
                vec![
                    c.processes.to_string(),
                    c.hold_us.to_string(),
                    c.way.clone(),
                    format!("{:.0}", f.per_second),
                    format!("{:.0}", f.wait_p50),
                    format!("{:.0}", f.wait_p99),
                    format!("{:.0}", f.wait_p999),
                    format!("{:.0}", f.wait_worst),
                    f.most_overtaken.to_string(),
                    f.most_overtaken_by_one.to_string(),
                    f.longest_run.to_string(),
                    f.violations.to_string(),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "One other program beside three processes that request the lock continuously (holds of \
         100 us)",
        &[
            "other program",
            "beside",
            "its turns",
            "their turns",
            "its worst wait ms",
            "overlaps",
        ],
        results
            .foreign
            .iter()
            .map(|f| {
                vec![
                    f.foreign.clone(),
                    f.beside.clone(),
                    f.foreign_turns.to_string(),
                    format!("{:?}", f.other_turns),
                    format!("{:.1}", f.foreign_worst_ms),
                    f.violations.to_string(),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "Three overlapping readers and a writer",
        &[
            "way",
            "readers' turns",
            "writer's turns",
            "its worst wait ms",
        ],
        results
            .readers_and_writer
            .iter()
            .map(|r| {
                vec![
                    r.way.clone(),
                    r.reader_turns.to_string(),
                    r.writer_turns.to_string(),
                    format!("{:.1}", r.writer_worst_ms),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "One host: guests, guests with hand-written host functions over tokio's RwLock \
         (`by-hand`), futures of the engine, and tasks that use tokio's RwLock",
        &[
            "mode", "how many", "who", "grants/s", "fewest", "most", "threads",
        ],
        results
            .in_host
            .iter()
            .map(|i| {
                vec![
                    i.mode.clone(),
                    i.count.to_string(),
                    i.who.clone(),
                    format!("{:.0}", i.found.per_second),
                    i.found.fewest.to_string(),
                    i.found.most.to_string(),
                    i.found.threads.to_string(),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "Memory of a waiting request, without its store",
        &["waiters", "bytes each"],
        results
            .memory
            .iter()
            .map(|m| vec![m.waiters.to_string(), format!("{:.0}", m.bytes_each)])
            .collect(),
    )?;
    table(
        &mut text,
        "A small guest, from start to end; `wasmtime alone` is a minimal host without locks",
        &[
            "`clasp run`, component not in the cache, ms",
            "component in the cache, ms",
            "wasmtime alone, component in the cache, ms",
            "ratio",
        ],
        results
            .start
            .iter()
            .map(|s| {
                vec![
                    format!("{:.0}", s.cold_ms),
                    format!("{:.2}", s.warm_ms),
                    format!("{:.2}", s.bare_ms),
                    format!("{:.2}", s.warm_ms / s.bare_ms),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "A native command under a lock, from start to end",
        &["`clasp lock FILE true` ms", "`flock FILE true` ms", "ratio"],
        results
            .start
            .iter()
            .map(|s| {
                vec![
                    format!("{:.2}", s.lock_ms),
                    format!("{:.2}", s.flock_ms),
                    format!("{:.2}", s.lock_ms / s.flock_ms),
                ]
            })
            .collect(),
    )?;
    table(
        &mut text,
        "Programs in C that call `fcntl`: the same source as a guest and natively",
        &["what", "processes", "us for each", "ratio to the first"],
        results
            .existing
            .iter()
            .map(|e| {
                vec![
                    e.what.clone(),
                    e.who.clone(),
                    format!("{:.2}", e.microseconds),
                    format!("{:.2}", e.ratio),
                ]
            })
            .collect(),
    )?;
    Ok(text)
}

type Plotted = Result<(), Box<dyn std::error::Error>>;

fn plots(results: &Results, directory: &Path) -> Plotted {
    let pairs: Vec<_> = results
        .uncontended
        .iter()
        .map(|p| (p.way.clone(), p.nanoseconds / 1e3))
        .collect();
    bars(
        &directory.join("uncontended.svg"),
        "Acquire and release without contention, us",
        &pairs,
    )?;
    let busy: Vec<_> = results
        .hand_over
        .iter()
        .filter(|h| h.holder == "asks again at once")
        .map(|h| (h.way.clone(), h.p50))
        .collect();
    bars(
        &directory.join("hand-over.svg"),
        "From a release to the turn of a waiting process, if the holder requests the lock again \
         at once; p50, us",
        &busy,
    )?;
    let worst: Vec<_> = results
        .contention
        .iter()
        .filter(|c| c.processes == 4 && c.hold_us == 100)
        .map(|c| (c.way.clone(), c.found.wait_worst / 1e3))
        .collect();
    bars(
        &directory.join("worst-wait.svg"),
        "Worst wait of 4 processes that hold a lock for 100 us, ms",
        &worst,
    )?;
    lines(results, &directory.join("in-host.svg"))
}

/// Horizontal bars on a logarithmic scale.
fn bars(file: &Path, title: &str, values: &[(String, f64)]) -> Plotted {
    if values.is_empty() {
        return Ok(());
    }
    let height = 80 + 22 * values.len() as u32;
    let root = SVGBackend::new(file, (900, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = values.iter().map(|v| v.1).fold(1.0, f64::max) * 2.0;
    let least = values.iter().map(|v| v.1).fold(f64::MAX, f64::min) / 3.0;
    let least = least.max(1e-3);
    let count = values.len();
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(190)
        .build_cartesian_2d((least..most).log_scale(), (0..count).into_segmented())?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) => values
            .get(count.wrapping_sub(1).wrapping_sub(*at))
            .map_or_else(String::new, |v| v.0.clone()),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(count)
        .y_label_formatter(&name)
        .draw()?;
    chart.draw_series(values.iter().rev().enumerate().map(|(at, (way, value))| {
        let clasp = ["sync", "async", "engine"]
            .iter()
            .any(|w| way.starts_with(w));
        let color = if clasp { BLUE.mix(0.7) } else { BLACK.mix(0.4) };
        let corners = [
            (least, SegmentValue::Exact(at)),
            (*value, SegmentValue::Exact(at + 1)),
        ];
        let mut bar = Rectangle::new(corners, color.filled());
        bar.set_margin(3, 3, 0, 0);
        bar
    }))?;
    root.present()?;
    Ok(())
}

/// Grants per second by the number of guests.
fn lines(results: &Results, file: &Path) -> Plotted {
    let points = |who: &str| -> Vec<(f64, f64)> {
        results
            .in_host
            .iter()
            .filter(|i| i.mode == "exclusive" && i.who == who)
            .map(|i| (i.count as f64, i.found.per_second))
            .collect()
    };
    let all: Vec<f64> = results
        .in_host
        .iter()
        .filter(|i| i.mode == "exclusive")
        .map(|i| i.found.per_second)
        .collect();
    let Some(most) = all.iter().copied().reduce(f64::max) else {
        return Ok(());
    };
    let least = all.iter().copied().fold(f64::MAX, f64::min);
    let root = SVGBackend::new(file, (900, 450)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Exclusive grants per second, one host", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(
            (0.8..12_000.0).log_scale(),
            (least / 2.0..most * 2.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("guests or tasks on the lock")
        .draw()?;
    let lines = [
        ("tokio", BLACK),
        ("by-hand", GREEN),
        ("engine", RED),
        ("guests", BLUE),
    ];
    for (who, color) in lines {
        chart
            .draw_series(LineSeries::new(points(who), color.stroke_width(2)).point_size(3))?
            .label(who)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
    }
    chart.configure_series_labels().border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}
