//! `clasp demo`, and its report in a browser.
#![allow(missing_docs, reason = "tests")]
#![cfg(target_os = "linux")]

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What the test looks for, unless `CLASP_BROWSER` names another.
const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// Added to the report: the page measures itself, and says what it found.
const MEASURE: &str = r##"
<pre id="measured"></pre>
<script>
  const page = document.documentElement;
  const inside = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
  const plots = [...document.querySelectorAll("figure svg")].map(svg => {
    const frame = svg.getBoundingClientRect();
    const labels = [...svg.querySelectorAll("text")];
    return {
      height: frame.height,
      drawn: svg.querySelectorAll("polyline, rect").length,
      cut: labels.filter(l => !inside(l.getBoundingClientRect(), frame)).map(l => l.textContent.trim()),
    };
  });
  const cells = [...document.querySelectorAll("#result tbody tr")].map(r => r.innerText.split("\t"));
  document.getElementById("measured").textContent =
    JSON.stringify({ width: page.clientWidth, needs: page.scrollWidth, plots, cells });
</script>
"##;

/// Guests with SQLite and, if there is one, the SQLite of Python.
#[test]
fn a_database_loses_nothing_with_locks() {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/ledger-sqlite.wasm");
    if !guest.is_file() && std::env::var_os("CI").is_none() {
        eprintln!("the guest with SQLite is not built: its demo is not run");
        return;
    }
    let mut demo = Command::new(env!("CARGO_BIN_EXE_clasp"));
    demo.args(["demo", "--with", "sqlite", "--seconds", "0.5", "--json"]);
    let phases: Value = serde_json::from_str(&printed(demo.args(["--python", "python3"]))).unwrap();
    let with = &phases[1]["end"];
    assert_eq!(
        (&with["lost_updates"], &with["wrong_audits"]),
        (&0.into(), &0.into())
    );
    assert_eq!(with["money"], phases[1]["money_before"]);
    assert!(with["transfers"].as_u64().unwrap() > 0);
    let processes = phases[1]["processes"].as_array().unwrap();
    assert!(processes.iter().all(|process| process["operations"] != 0));
}

#[test]
fn the_report_is_right_in_a_browser() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.html");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_clasp"));
    demo.args(["demo", "--seconds", "0.5", "--json", "--report"]);
    let json = printed(demo.arg(&report));

    let phases: Value = serde_json::from_str(&json).unwrap();
    let with = &phases[1];
    assert_eq!(with["locked"], true);
    assert_eq!(with["end"]["lost_updates"], 0);
    assert_eq!(with["end"]["wrong_audits"], 0);
    assert_eq!(with["end"]["money"], with["money_before"]);
    let samples = with["samples"].as_array().unwrap();
    assert!(samples.iter().all(|sample| sample["lost_updates"] == 0));
    assert!(with["end"]["transfers"].as_u64().unwrap() > 0);
    let processes = with["processes"].as_array().unwrap();
    for process in processes {
        let waits = process["waits"].as_array().unwrap();
        let counted: u64 = waits.iter().filter_map(Value::as_u64).sum();
        assert_eq!(process["operations"], counted, "{process}");
    }

    let page = fs::read_to_string(&report).unwrap();
    assert!(!page.contains("{{"), "a value is missing: {page}");
    let Some(browser) = browser() else {
        // CI has one; without, the page is checked as text alone.
        assert!(
            std::env::var_os("CI").is_none(),
            "no browser: install chromium, or name one with CLASP_BROWSER"
        );
        eprintln!("no browser on the path: the report is not looked at; install chromium");
        return;
    };
    let end = page.rfind("</body>").unwrap();
    let measuring = directory.path().join("measuring.html");
    fs::write(
        &measuring,
        format!("{}{MEASURE}{}", &page[..end], &page[end..]),
    )
    .unwrap();
    for width in [1000, 500] {
        let found = measured(&browser, &measuring, width, directory.path());
        assert!(
            found["needs"].as_u64() <= found["width"].as_u64(),
            "wider than the window: {found}"
        );
        let plots = found["plots"].as_array().unwrap();
        assert_eq!(plots.len(), 3, "{found}");
        for plot in plots {
            assert!(plot["height"].as_f64().unwrap() > 100.0, "{found}");
            assert!(plot["drawn"].as_u64().unwrap() > 1, "{found}");
            assert_eq!(plot["cut"], Value::Array(Vec::new()), "{found}");
        }
        assert_eq!(found["cells"][1][0], "lost updates", "{found}");
        let transfers = &with["end"]["transfers"];
        assert_eq!(found["cells"][1][2], format!("0 of {transfers}"), "{found}");
    }
}

/// What a program prints that succeeds.
fn printed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn browser() -> Option<PathBuf> {
    if let Some(browser) = std::env::var_os("CLASP_BROWSER") {
        return Some(browser.into());
    }
    let path = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&path)
        .flat_map(|directory| BROWSERS.map(|name| directory.join(name)));
    programs.find(|program| program.is_file())
}

/// What the page says of itself in a window of this width.
fn measured(browser: &Path, page: &Path, width: u32, directory: &Path) -> Value {
    let mut command = Command::new(browser);
    command
        // CI runs as root, which a browser refuses with its sandbox.
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--window-size={width},1600"))
        .arg(format!(
            "--user-data-dir={}",
            directory.join("user").display()
        ))
        .arg(format!("file://{}", page.display()));
    let text = printed(&mut command);
    let (_, rest) = text.split_once("<pre id=\"measured\">").unwrap();
    let (found, _) = rest.split_once("</pre>").unwrap();
    serde_json::from_str(&found.replace("&lt;", "<").replace("&amp;", "&")).unwrap()
}
