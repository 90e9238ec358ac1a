//! A distribution on the terminal, in buckets on a logarithmic scale.

use super::stats::ms;

/// Bounds of the buckets within each power of ten, times ten.
const FINE: [u64; 6] = [10, 15, 20, 30, 50, 70];
/// Bounds for a range that would need more than [`LINES_MAX`] lines with [`FINE`].
const COARSE: [u64; 3] = [10, 20, 50];
const LINES_MAX: usize = 24;
/// At the short end, values rarer than one in this many share the first bucket. The long end keeps
/// its buckets.
const FEW: usize = 200;
/// Length of the longest bar, in characters.
const BAR: usize = 44;

/// Lines of buckets with bars, at most 80 columns wide, for sorted durations in ns. No lines for no
/// durations.
pub(super) fn lines(sorted_ns: &[u64]) -> Vec<String> {
    let fine = buckets(sorted_ns, &FINE);
    let buckets = if fine.len() > LINES_MAX { buckets(sorted_ns, &COARSE) } else { fine };
    let most = buckets.iter().map(|b| b.count).max().unwrap_or(0);
    let line = |b: &Bucket| {
        let length = (b.count * BAR).div_ceil(most.max(1));
        let share = b.count as f64 / sorted_ns.len() as f64 * 100.0;
        // A dot distinguishes a nearly empty bucket from an empty one.
        let bar = if b.count * BAR < most { ".".repeat(b.count.min(1)) } else { "#".repeat(length) };
        format!("{:>9} {:>9} |{bar:<BAR$}{share:>6.1} %", ms(b.from_us), ms(b.to_us))
    };
    buckets.iter().map(line).collect()
}

#[derive(Debug, PartialEq)]
struct Bucket {
    from_us: u64,
    /// Exclusive: a value of this length belongs to the next bucket.
    to_us: u64,
    count: usize,
}

/// The buckets from the first to the last that is not empty. The shortest values, fewer than one in
/// [`FEW`], share the first one.
fn buckets(sorted_ns: &[u64], steps: &[u64]) -> Vec<Bucket> {
    let (Some(first), Some(last)) = (sorted_ns.first(), sorted_ns.last()) else { return Vec::new() };
    let powers = (0..14).map(|power| 10_u64.pow(power));
    // In us, from 1 on; shorter values are in the first bucket.
    let mut bounds: Vec<u64> = powers.flat_map(|p| steps.iter().map(move |s| s * p / 10)).collect();
    bounds.dedup();
    bounds[0] = 0;
    let begin = sorted_ns[sorted_ns.len() / FEW];
    let (mut found, mut lowest) = (Vec::new(), None);
    let mut rest = sorted_ns;
    for pair in bounds.windows(2) {
        let (from_us, to_us) = (pair[0], pair[1]);
        if to_us * 1_000 <= *first {
            continue;
        }
        let lowest = *lowest.get_or_insert(from_us);
        if to_us * 1_000 <= begin {
            continue;
        }
        let from_us = if found.is_empty() { lowest } else { from_us };
        if from_us * 1_000 > *last {
            break;
        }
        let count = rest.partition_point(|ns| *ns < to_us * 1_000);
        rest = &rest[count..];
        found.push(Bucket { from_us, to_us, count });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_one_bucket() {
        let us = |values: &[u64]| values.iter().map(|us| us * 1_000).collect::<Vec<_>>();
        assert!(lines(&[]).is_empty());
        let bucket = |from_us, to_us, count| Bucket { from_us, to_us, count };
        // A bound belongs to the bucket that begins with it.
        assert_eq!(
            buckets(&us(&[1_000, 1_499, 1_500, 2_500]), &FINE),
            [bucket(1_000, 1_500, 2), bucket(1_500, 2_000, 1), bucket(2_000, 3_000, 1)]
        );
        assert_eq!(buckets(&[0, 1], &FINE), [bucket(0, 2, 2)]);
        // A single very short value does not add empty lines.
        let lone: Vec<u64> = [2].into_iter().chain(std::iter::repeat_n(1_200, 999)).collect();
        assert_eq!(buckets(&us(&lone), &FINE), [bucket(2, 1_500, 1_000)]);
        let many: Vec<u64> = (0..5_000).map(|n| n * n * 1_000).collect();
        for steps in [&FINE[..], &COARSE] {
            assert_eq!(buckets(&many, steps).iter().map(|b| b.count).sum::<usize>(), many.len());
        }
    }

    #[test]
    fn lines_fit_the_terminal() {
        let wide: Vec<u64> = [2, 3_000, 59_999_999].iter().map(|us| us * 1_000).collect();
        let shown = lines(&wide);
        assert!(shown.len() <= LINES_MAX, "{shown:#?}");
        let many: Vec<u64> = std::iter::repeat_n(1_200_000, 9_999).chain([2_500_000]).collect();
        let shown = lines(&many);
        assert!(shown.iter().chain(&lines(&wide)).all(|l| l.len() <= 80), "{shown:#?}");
        assert_eq!(shown[0], format!("    1.000     1.500 |{} 100.0 %", "#".repeat(BAR)));
        assert_eq!(shown[1], format!("    1.500     2.000 |{}   0.0 %", " ".repeat(BAR)));
        assert_eq!(shown[2], format!("    2.000     3.000 |.{}   0.0 %", " ".repeat(BAR - 1)));
    }
}
