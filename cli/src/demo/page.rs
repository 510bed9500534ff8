//! The result as a page for a browser: one file, complete, without scripts.

use super::{ACCOUNTS, result::Phase};
use anyhow::{Result, anyhow};
use plotters::{coord::Shift, prelude::*};
use std::{error::Error, fmt::Write, thread::available_parallelism};

const TEMPLATE: &str = include_str!("page.html");

/// Width and height of a plot.
const SIZE: (u32, u32) = (900, 320);

const LABELS: (&str, i32) = ("sans-serif", 14);

const BAD: RGBColor = RGBColor(0xb0, 0x00, 0x20);
const GOOD: RGBColor = RGBColor(0x00, 0x66, 0x2b);
/// Of movers, auditors, and programs that are no guests.
const KINDS: [RGBColor; 3] = [
    RGBColor(0x1f, 0x5f, 0xa8),
    RGBColor(0xb3, 0x5c, 0x00),
    RGBColor(0x5b, 0x2a, 0x86),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

pub(super) fn render(phases: &[Phase; 2]) -> Result<String> {
    let [without, with] = phases;
    let values = [
        ("processes", with.processes.len().to_string()),
        ("accounts", ACCOUNTS.to_string()),
        ("seconds", with.seconds.to_string()),
        ("result", result_rows(without, with)?),
        ("lost", plot(|area| lost(area, phases))?),
        ("operations", plot(|area| operations(area, with))?),
        ("waits", plot(|area| waits(area, with))?),
        ("process_rows", process_rows(with)?),
        ("version", env!("CARGO_PKG_VERSION").into()),
        (
            "system",
            format!("{} ({})", std::env::consts::OS, std::env::consts::ARCH),
        ),
        (
            "cores",
            available_parallelism().map_or("?".into(), |n| n.to_string()),
        ),
    ];
    let mut page = TEMPLATE.to_owned();
    for (name, value) in values {
        page = page.replace(&format!("{{{{{name}}}}}"), &value);
    }
    Ok(page)
}

fn result_rows(without: &Phase, with: &Phase) -> Result<String> {
    let mut rows = String::new();
    for (row, ((name, first), (_, second))) in
        without.rows().into_iter().zip(with.rows()).enumerate()
    {
        // The first row is the speed, which is neither good nor bad.
        let class = |phase: &Phase| match row {
            0 => "",
            _ if phase.is_clean() => "good",
            _ => "bad",
        };
        let (one, two) = (class(without), class(with));
        writeln!(
            rows,
            "<tr><td>{name}</td><td class=\"{one}\">{first}</td><td class=\"{two}\">{second}</td></tr>"
        )?;
    }
    Ok(rows)
}

fn process_rows(phase: &Phase) -> Result<String> {
    let mut rows = String::new();
    for process in &phase.processes {
        let [median, worst] = process.waits();
        writeln!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{median}</td><td>{worst}</td></tr>",
            process.name, process.report.operations
        )?;
    }
    Ok(rows)
}

/// A plot as SVG.
fn plot(draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let mut drawn = draw(&area);
        if drawn.is_ok() {
            drawn = area.present().map_err(Into::into);
        }
        drawn.map_err(|error| anyhow!("cannot draw a plot: {error}"))?;
    }
    Ok(text)
}

/// Lost updates over time.
fn lost(area: &Area<'_>, phases: &[Phase; 2]) -> Drawn {
    let points = |phase: &Phase| -> Vec<(f64, f64)> {
        let samples = phase.samples.iter().filter(|s| s.at < phase.seconds);
        samples
            .chain([&phase.end])
            .map(|sample| (sample.at, sample.lost_updates as f64))
            .collect()
    };
    let most = phases.iter().map(|p| p.end.lost_updates).max().unwrap_or(0);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(32)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..phases[0].seconds, 0.0..(most as f64 * 1.1).max(1.0))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(1)
        .label_style(LABELS)
        .y_label_formatter(&|count| format!("{count:.0}"))
        .x_desc("seconds")
        .draw()?;
    for (phase, name, color) in [
        (&phases[0], "without locks", BAD),
        (&phases[1], "with locks", GOOD),
    ] {
        chart
            .draw_series(LineSeries::new(points(phase), color.stroke_width(3)))?
            .label(name)
            .legend(move |at| key(at, color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK.mix(0.2))
        .background_style(WHITE)
        .label_font(LABELS)
        .draw()?;
    Ok(())
}

/// A bar for each process.
fn operations(area: &Area<'_>, phase: &Phase) -> Drawn {
    let processes = &phase.processes;
    let most = processes.iter().map(|p| p.report.operations).max();
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(32)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (0..processes.len().saturating_sub(1)).into_segmented(),
            0..most.unwrap_or(0) + most.unwrap_or(0) / 10 + 1,
        )?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) => processes.get(*at).map_or("", |p| &p.name).to_owned(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(1)
        .label_style(LABELS)
        .x_labels(processes.len())
        .x_label_formatter(&name)
        .draw()?;
    chart.draw_series(processes.iter().enumerate().map(|(at, process)| {
        let corners = [
            (SegmentValue::Exact(at), 0),
            (SegmentValue::Exact(at + 1), process.report.operations),
        ];
        let mut bar = Rectangle::new(corners, KINDS[kind(process)].filled());
        bar.set_margin(0, 0, 12, 12);
        bar
    }))?;
    Ok(())
}

/// For each kind of process, the percentage of waits that were shorter than a time.
fn waits(area: &Area<'_>, phase: &Phase) -> Drawn {
    let counts = |wanted: usize| -> Vec<u64> {
        let mut counts = Vec::new();
        for process in phase.processes.iter().filter(|p| kind(p) == wanted) {
            let waits = &process.report.waits;
            counts.resize(counts.len().max(waits.len()), 0);
            for (sum, more) in counts.iter_mut().zip(waits) {
                *sum += more;
            }
        }
        counts
    };
    let kinds = [0, 1, 2].map(counts);
    let longest = kinds.iter().map(Vec::len).max().unwrap_or(0).max(2);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(32)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0..longest - 1, 0.0..101.0)?;
    chart
        .configure_mesh()
        .max_light_lines(1)
        .label_style(LABELS)
        .x_labels(12)
        .x_label_formatter(&|power| duration(*power))
        .y_label_formatter(&|percent| format!("{percent:.0} %"))
        .x_desc("wait")
        .draw()?;
    let names = ["movers (exclusive)", "auditors (shared)", "fasteners"];
    for ((counts, name), color) in kinds.iter().zip(names).zip(KINDS) {
        let all: u64 = counts.iter().sum();
        if all == 0 {
            continue;
        }
        let mut sum = 0;
        let points: Vec<_> = (0..longest)
            .map(|power| {
                sum += counts.get(power).unwrap_or(&0);
                (power, 100.0 * sum as f64 / all as f64)
            })
            .collect();
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(3)))?
            .label(name)
            .legend(move |at| key(at, color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK.mix(0.2))
        .background_style(WHITE)
        .label_font(LABELS)
        .draw()?;
    Ok(())
}

/// The place of a process in `KINDS`.
fn kind(process: &super::result::Process) -> usize {
    match process.audits {
        true => 1,
        false if process.name.starts_with("mover") => 0,
        false => 2,
    }
}

/// 2^`power` microseconds.
fn duration(power: usize) -> String {
    let micros = 2f64.powi(power as i32);
    match micros {
        _ if micros < 1e3 => format!("{micros} us"),
        _ if micros < 1e6 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.0} s", micros / 1e6),
    }
}

fn key((x, y): (i32, i32), color: RGBColor) -> PathElement<(i32, i32)> {
    PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3))
}
