//! What the turns of several processes say.

use crate::turns::Turn;
use serde::{Deserialize, Serialize};

/// The value below which a part of the sorted values lies.
pub(crate) fn quantile(sorted: &[u64], part: f64) -> u64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or(0)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Several processes that want one lock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Contention {
    /// Turns in a second, of all.
    pub(crate) per_second: f64,
    /// From asking to getting, in microseconds.
    pub(crate) wait_p50: f64,
    pub(crate) wait_p99: f64,
    pub(crate) wait_p999: f64,
    pub(crate) wait_worst: f64,
    /// How often others had the lock while one waited, at most.
    pub(crate) most_overtaken: usize,
    /// How often one other had it while one waited, at most.
    pub(crate) most_overtaken_by_one: usize,
    /// Turns of one process in a row, at most.
    pub(crate) longest_run: usize,
    /// Turns that overlap though one is exclusive. Anything but 0 is a bug.
    pub(crate) violations: usize,
    /// Turns of each process.
    pub(crate) turns: Vec<usize>,
}

/// Evaluates exclusive turns of several processes.
pub(crate) fn contention(logs: &[Vec<Turn>]) -> Contention {
    let mut all: Vec<(usize, Turn)> = logs
        .iter()
        .enumerate()
        .flat_map(|(who, turns)| turns.iter().map(move |turn| (who, *turn)))
        .collect();
    all.sort_by_key(|(_, turn)| turn.got);
    let begin = all.iter().map(|(_, t)| t.asked).min().unwrap_or(0);
    let end = all.iter().map(|(_, t)| t.left).max().unwrap_or(0);
    let mut waits: Vec<u64> = all.iter().map(|(_, t)| t.got - t.asked).collect();
    waits.sort_unstable();

    let (mut overtaken, mut by_one, mut run, mut longest) = (0, 0, 0, 0);
    for (at, (who, turn)) in all.iter().enumerate() {
        let mut counts = vec![0; logs.len()];
        // Those that got it after this one had asked and before it got it.
        for (other, earlier) in all[..at].iter().rev() {
            if earlier.got < turn.asked {
                break;
            }
            counts[*other] += 1;
        }
        overtaken = overtaken.max(counts.iter().sum());
        by_one = by_one.max(counts.iter().copied().max().unwrap_or(0));
        run = if at > 0 && all[at - 1].0 == *who {
            run + 1
        } else {
            1
        };
        longest = longest.max(run);
    }
    let us = |ns: u64| ns as f64 / 1e3;
    Contention {
        per_second: all.len() as f64 * 1e9 / (end - begin).max(1) as f64,
        wait_p50: us(quantile(&waits, 0.5)),
        wait_p99: us(quantile(&waits, 0.99)),
        wait_p999: us(quantile(&waits, 0.999)),
        wait_worst: us(waits.last().copied().unwrap_or(0)),
        most_overtaken: overtaken,
        most_overtaken_by_one: by_one,
        longest_run: longest,
        violations: all.windows(2).filter(|w| w[1].1.got < w[0].1.left).count(),
        turns: logs.iter().map(Vec::len).collect(),
    }
}

/// How long it took from a release of the holder to the waiter's turn, in
/// microseconds, sorted: from the first release after the waiter asked.
pub(crate) fn hand_overs(holder: &[Turn], waiter: &[Turn]) -> Vec<u64> {
    let mut latencies: Vec<u64> = waiter
        .iter()
        .filter_map(|turn| {
            let next = holder.partition_point(|held| held.left < turn.asked);
            // Only where the holder had the lock when the waiter asked.
            let held = holder.get(next).filter(|held| held.got < turn.asked)?;
            turn.got.checked_sub(held.left)
        })
        .collect();
    latencies.sort_unstable();
    latencies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(asked: u64, got: u64, left: u64) -> Turn {
        Turn { asked, got, left }
    }

    #[test]
    fn order_and_overlap_are_counted() {
        let logs = [
            vec![turn(0, 1, 10), turn(11, 12, 20), turn(21, 22, 30)],
            vec![turn(2, 31, 40)],
        ];
        let found = contention(&logs);
        assert_eq!(found.most_overtaken, 2);
        assert_eq!((found.longest_run, found.violations), (3, 0));
        assert_eq!(found.turns, [3, 1]);
        let overlap = contention(&[vec![turn(0, 1, 10)], vec![turn(0, 9, 12)]]);
        assert_eq!(overlap.violations, 1);
    }

    #[test]
    fn a_hand_over_counts_from_the_first_release_after_asking() {
        let holder = [turn(0, 1, 10), turn(11, 12, 20)];
        let waiter = [turn(5, 22, 23)];
        assert_eq!(hand_overs(&holder, &waiter), [12]);
        // It asked while the lock was free.
        assert!(hand_overs(&holder, &[turn(11, 22, 23)]).is_empty());
    }

    #[test]
    fn quantiles() {
        let values: Vec<u64> = (0..=100).collect();
        assert_eq!(quantile(&values, 0.5), 50);
        assert_eq!(quantile(&values, 0.999), 100);
        assert_eq!(quantile(&[], 0.5), 0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
