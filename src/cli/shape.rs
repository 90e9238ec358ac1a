//! The shapes of JSON: lsfast's own, and that of Litestream for programs that read it.

use clap::ValueEnum;
use serde::Serialize;

use crate::base::clock::Millis;

/// A shape of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// All that lsfast knows.
    Lsfast,
    /// The fields of Litestream 0.5, and no others.
    Litestream,
}

/// As Litestream prints it: indented by two spaces.
pub(super) fn litestream(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

/// What Litestream calls the kind of a replica: `file` or `s3`.
pub(super) fn kind(url: &str) -> &str {
    url.split_once("://").map_or("file", |(scheme, _)| scheme)
}

/// A time in whole seconds.
pub(super) fn seconds(time: Millis) -> String {
    Millis(time.0 - time.0.rem_euclid(1_000)).to_rfc3339()
}

/// A size as Litestream writes it: `21 kB`, `2.1 MB`, `999 B`.
pub(super) fn size(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let power = (bytes.ilog10() / 3) as usize;
    // One decimal, rounded down after half of one is added.
    let value = (bytes as f64 / 1_000_f64.powi(power as i32) * 10.0 + 0.5).floor() / 10.0;
    let decimals = usize::from(value < 10.0);
    format!("{value:.decimals$} {}", units[power])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as Litestream's library writes it.
    #[test]
    fn sizes_kinds_and_times_are_written_as_by_litestream() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (82, "82 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (4_152, "4.2 kB"),
            (20_632, "21 kB"),
            (1_234_567, "1.2 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!((kind("s3://bucket/x"), kind("file:///r"), kind("/r")), ("s3", "file", "file"));
        assert_eq!(seconds(Millis(1_795_904_108_999)), "2026-11-28T22:15:08Z");
    }
}
