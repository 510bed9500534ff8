//! What the terminal shows while the processes work.

use super::result::Sample;
use crate::output::say;
use indicatif::{ProgressBar, ProgressStyle};

/// A view that is drawn over itself. Where the standard error is no terminal, it is a line
/// at the start.
pub(super) struct Live {
    bar: ProgressBar,
    /// Milliseconds.
    length: u64,
    money: u64,
}

impl Live {
    pub(super) fn start(title: &str, seconds: f64, money: u64) -> Live {
        let length = (seconds * 1e3) as u64;
        let bar = ProgressBar::new(length);
        let style = ProgressStyle::with_template("{prefix} {bar:40} {msg}")
            .map(|s| s.progress_chars("━╸ "));
        // The template is a constant.
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(format!("{title:<14}"));
        if bar.is_hidden() {
            say!("{title}: {seconds} seconds");
        }
        Live { bar, length, money }
    }

    /// Tells of what has happened.
    pub(super) fn tell(&self, what: &str) {
        self.bar.suspend(|| say!("{what}"));
    }

    pub(super) fn show(&self, sample: &Sample) {
        let Sample {
            transfers,
            audits,
            lost_updates,
            wrong_audits,
            money,
            ..
        } = sample;
        self.bar
            .set_position(((sample.at * 1e3) as u64).min(self.length));
        self.bar.set_message(format!(
            "{:.1} s\n  transfers {transfers:>9}   lost updates {lost_updates:>9}\n  \
             audits    {audits:>9}   wrong totals {wrong_audits:>9}\n  \
             money     {money:>9}   of           {:>9}",
            sample.at, self.money
        ));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
