//! Durations as percentiles, and their table.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most durations that are kept of one kind. At this number every second one is dropped,
/// repeatedly; the longest is remembered separately.
const SAMPLES_MAX: usize = 1 << 20;

/// Durations of one kind, in the order of measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Samples {
    kept_ns: Vec<u64>,
    /// One of this many durations is kept.
    each: u64,
    kept_max: usize,
    count: u64,
    max_ns: u64,
}

impl Default for Samples {
    fn default() -> Samples {
        Samples::keeping(SAMPLES_MAX)
    }
}

impl Samples {
    fn keeping(kept_max: usize) -> Samples {
        Samples { kept_ns: Vec::new(), each: 1, kept_max, count: 0, max_ns: 0 }
    }

    pub(super) fn push(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.max_ns = self.max_ns.max(ns);
        if self.count.is_multiple_of(self.each) {
            self.kept_ns.push(ns);
        }
        self.count += 1;
        if self.kept_ns.len() >= self.kept_max {
            let mut even = false;
            self.kept_ns.retain(|_| {
                even = !even;
                even
            });
            self.each *= 2;
        }
    }

    /// Adds the durations of another turn.
    pub(super) fn append(&mut self, other: &Samples) {
        let (count, max_ns) = (self.count + other.count, self.max_ns.max(other.max_ns));
        // Both sides must keep the same fraction, so the side that dropped fewer drops more.
        while self.each < other.each {
            let mut even = false;
            self.kept_ns.retain(|_| {
                even = !even;
                even
            });
            self.each *= 2;
        }
        let step = usize::try_from(self.each / other.each).unwrap_or(usize::MAX);
        self.kept_ns.extend(other.kept_ns.iter().step_by(step));
        (self.count, self.max_ns) = (count, max_ns);
    }

    /// Number of measured durations.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The kept durations, the shortest first.
    pub(super) fn sorted_ns(&self) -> Vec<u64> {
        let mut sorted = self.kept_ns.clone();
        sorted.sort_unstable();
        sorted
    }

    /// The percentiles; `None` without durations.
    pub(super) fn summary(&self) -> Option<Summary> {
        let sorted = self.sorted_ns();
        let last = sorted.len().checked_sub(1)?;
        // Nearest rank: always a measured value, never an interpolated one.
        let rank = |per_mille: usize| {
            let at = (sorted.len() * per_mille).div_ceil(1_000).max(1) - 1;
            sorted[at.min(last)] / 1_000
        };
        Some(Summary {
            count: self.count,
            p50_us: rank(500),
            p90_us: rank(900),
            p95_us: rank(950),
            p99_us: rank(990),
            p999_us: rank(999),
            max_us: self.max_ns / 1_000,
        })
    }
}

/// Percentiles of durations of one kind, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Number of measured durations.
    pub(super) count: u64,
    /// 50th percentile.
    pub(super) p50_us: u64,
    /// 90th percentile.
    pub(super) p90_us: u64,
    /// 95th percentile.
    pub(super) p95_us: u64,
    /// 99th percentile.
    pub(super) p99_us: u64,
    /// 99.9th percentile.
    pub(super) p999_us: u64,
    /// The longest duration.
    pub(super) max_us: u64,
}

impl Summary {
    /// One row of the table below [`HEADING`].
    pub(super) fn row(&self, name: &str) -> String {
        let values = [self.p50_us, self.p90_us, self.p95_us, self.p99_us, self.p999_us, self.max_us];
        let cells: String = values.into_iter().map(|us| format!("{:>9}", ms(us))).collect();
        format!("{name:<18}{:>8}{cells}", self.count)
    }
}

/// Heading of the table, in 80 columns.
pub(super) const HEADING: &str =
    "ms                   count      p50      p90      p95      p99    p99.9      max";

/// Microseconds as milliseconds, with the significant digits.
pub(super) fn ms(us: u64) -> String {
    let value = us as f64 / 1000.0;
    let digits = match us {
        0..10_000 => 3,
        10_000..100_000 => 2,
        _ => 1,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(us: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        us.into_iter().for_each(|us| samples.push(Duration::from_micros(us)));
        samples
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        assert_eq!(of([]).summary(), None);
        let one = of([7]).summary().expect("a value");
        assert_eq!((one.p50_us, one.p90_us, one.p999_us, one.max_us), (7, 7, 7, 7));
        let s = of((1..=1_000).rev()).summary().expect("values");
        assert_eq!((s.count, s.p50_us, s.p90_us, s.p95_us), (1_000, 500, 900, 950));
        assert_eq!((s.p99_us, s.p999_us, s.max_us), (990, 999, 1_000));
        let two = of([10, 20]).summary().expect("values");
        assert_eq!((two.p50_us, two.p95_us), (10, 20));
    }

    #[test]
    fn what_is_dropped_changes_neither_count_nor_maximum() {
        let mut samples = Samples::keeping(64);
        for us in 0..10_000 {
            samples.push(Duration::from_micros(if us == 5_001 { 70_000 } else { us % 100 }));
        }
        assert!(samples.kept_ns.len() < 64 && samples.each > 1);
        let s = samples.summary().expect("values");
        assert_eq!((s.count, s.max_us), (10_000, 70_000));
        assert!((30..70).contains(&s.p50_us), "{s:?}");
    }

    #[test]
    fn turns_weigh_as_much_as_they_have_values() {
        let mut first = of([1; 30]);
        first.append(&of([9; 70]));
        let s = first.summary().expect("values");
        assert_eq!((s.count, s.p50_us, s.max_us), (100, 9, 9));
        // One side had to drop samples: each kept one counts for more.
        let mut thinned = Samples::keeping(16);
        (0..64).for_each(|_| thinned.push(Duration::from_micros(5)));
        let mut few = of([1; 10]);
        few.append(&thinned);
        let s = few.summary().expect("values");
        assert_eq!((s.count, s.p50_us, s.p999_us), (74, 5, 5));
        assert!(few.kept_ns.len() < 20, "{few:?}");
    }

    #[test]
    fn rows_stand_under_their_heading() {
        let row = Summary {
            count: 1_234_567,
            p50_us: 1_234,
            p90_us: 12_345,
            p95_us: 45_678,
            p99_us: 1_234_567,
            p999_us: 9_999_999,
            max_us: 59_999_999,
        }
        .row("commit -> stored");
        assert_eq!((row.len(), HEADING.len()), (80, 80));
        for cell in ["1234567", " 1.234", " 12.35", " 45.68", " 1234.6", " 60000.0"] {
            assert!(row.contains(cell), "{row}");
        }
    }
}
