//! Durations as percentiles, and the words around them.

use std::time::Duration;

use serde::Serialize;

/// Durations of one kind, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Summary {
    /// How many were measured.
    pub(super) count: usize,
    /// Half of them took this long or less.
    pub(super) p50_us: u64,
    /// 95 of 100.
    pub(super) p95_us: u64,
    /// 99 of 100.
    pub(super) p99_us: u64,
    /// The longest.
    pub(super) max_us: u64,
}

impl Summary {
    /// Of durations in any order; `None` of none.
    pub(super) fn of(durations: &[Duration]) -> Option<Summary> {
        let mut sorted: Vec<u64> =
            durations.iter().map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)).collect();
        sorted.sort_unstable();
        let max_us = *sorted.last()?;
        // The nearest rank: a value that was measured, never one in between.
        let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        Some(Summary { count: sorted.len(), p50_us: rank(50), p95_us: rank(95), p99_us: rank(99), max_us })
    }

    /// One row of the table: [`HEADING`] stands above it.
    pub(super) fn row(&self, name: &str) -> String {
        let [p50, p95, p99, max] = [self.p50_us, self.p95_us, self.p99_us, self.max_us].map(ms);
        format!("{name:<20}{:>8}{p50:>12}{p95:>12}{p99:>12}{max:>12}", self.count)
    }
}

/// What stands above rows.
pub(super) const HEADING: &str =
    "                       count         p50         p95         p99         max";

/// Microseconds as milliseconds, with as many digits as mean something.
fn ms(us: u64) -> String {
    let value = us as f64 / 1000.0;
    let digits = match us {
        0..10_000 => 3,
        10_000..100_000 => 2,
        _ => 1,
    };
    format!("{value:.digits$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let of = |us: &[u64]| Summary::of(&us.iter().map(|u| Duration::from_micros(*u)).collect::<Vec<_>>());
        assert_eq!(of(&[]), None);
        let one = of(&[7]).expect("a value");
        assert_eq!((one.p50_us, one.p95_us, one.p99_us, one.max_us), (7, 7, 7, 7));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        let s = of(&hundred).expect("values");
        assert_eq!((s.count, s.p50_us, s.p95_us, s.p99_us, s.max_us), (100, 50, 95, 99, 100));
        let two = of(&[10, 20]).expect("values");
        assert_eq!((two.p50_us, two.p95_us), (10, 20));
    }

    #[test]
    fn rows_stand_under_their_heading() {
        let row = Summary { count: 12, p50_us: 1_234, p95_us: 45_678, p99_us: 1_234_567, max_us: 9_999_999 }
            .row("raw PUT");
        assert_eq!(row.len(), HEADING.len());
        assert!(row.contains("1.234 ms") && row.contains("45.68 ms") && row.contains("1234.6 ms"), "{row}");
    }
}
