//! The load that the benchmark's writer produces.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

/// Highest accepted rate, in commits a second. A higher one is a typing error, because no disk
/// reaches it.
const RATE_MAX: f64 = 1e6;

/// The rate of the commits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// A Poisson process of this many commits a second. Each commit has its own time, independent
    /// of the previous ones (an open loop).
    PerSecond(f64),
    /// One commit after another, as fast as possible (a closed loop).
    Max,
}

impl Rate {
    /// The rate for an average gap between commits.
    pub(super) fn of_gap(gap: Duration) -> Rate {
        if gap.is_zero() { Rate::Max } else { Rate::PerSecond(1.0 / gap.as_secs_f64()) }
    }
}

/// Parses `--rate`.
pub(super) fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    match text.parse::<f64>() {
        Ok(0.0) => Ok(Rate::Max),
        Ok(rate) if rate > 0.0 && rate <= RATE_MAX => Ok(Rate::PerSecond(rate)),
        _ => Err(format!("write commits a second, as in 100 or 0.5 (at most {RATE_MAX}), or `max`")),
    }
}

/// SQLite's `synchronous` of the writer's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Synchronous {
    /// Nothing is flushed.
    Off,
    /// The log is flushed when it is copied to the database.
    Normal,
    /// Each commit is flushed.
    Full,
}

impl Load {
    /// The command line flags for this load.
    pub(super) fn flags(&self) -> Vec<String> {
        let rate = match self.rate {
            Rate::PerSecond(rate) => rate.to_string(),
            Rate::Max => String::from("max"),
        };
        let flags =
            ["--rate", &rate, "--rows", &self.rows.to_string(), "--row-bytes", &self.row_bytes.to_string()];
        flags.into_iter().map(String::from).chain([format!("--synchronous={}", self.synchronous)]).collect()
    }
}

impl fmt::Display for Synchronous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Synchronous::Off => "off",
            Synchronous::Normal => "normal",
            Synchronous::Full => "full",
        })
    }
}

/// The load of the writer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    pub(super) rate: Rate,
    /// Rows of each transaction.
    pub(super) rows: u32,
    /// Size of a row, in bytes.
    pub(super) row_bytes: u32,
    pub(super) synchronous: Synchronous,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            Rate::PerSecond(rate) => write!(f, "{} commits a second at random times", round(rate))?,
            Rate::Max => f.write_str("commits as fast as they go")?,
        }
        let s = if self.rows == 1 { "" } else { "s" };
        write!(f, ", {} row{s} of {} bytes each, synchronous {}", self.rows, self.row_bytes, self.synchronous)
    }
}

/// Rounds to the significant digits.
pub(super) fn round(value: f64) -> String {
    let digits = match value {
        v if v >= 1_000.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_that_people_write() {
        for (text, rate) in [
            ("100", Rate::PerSecond(100.0)),
            ("0.5", Rate::PerSecond(0.5)),
            ("max", Rate::Max),
            ("0", Rate::Max),
        ] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for text in ["", "-1", "NaN", "inf", "1e9", "10/s", "fast"] {
            let e = parse_rate(text).expect_err(text);
            assert!(e.contains("100 or 0.5") && e.contains("max"), "{e}");
        }
        assert_eq!(Rate::of_gap(Duration::from_millis(50)), Rate::PerSecond(20.0));
        assert_eq!(Rate::of_gap(Duration::ZERO), Rate::Max);
    }

    #[test]
    fn numbers_keep_the_digits_that_mean_something() {
        let said: Vec<String> = [20.0, 0.5, 0.123, 33.333, 61_234.5, 100.0].into_iter().map(round).collect();
        assert_eq!(said, ["20", "0.5", "0.12", "33.3", "61234", "100"]);
    }
}
