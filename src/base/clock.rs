//! Wall-clock time in the form of the file formats.

use std::time::{SystemTime, UNIX_EPOCH};

use super::limits;

/// Milliseconds since 1970-01-01 UTC, as in an LTX header. Negative before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub i64);

impl Millis {
    /// The present time of the system clock.
    #[must_use]
    pub fn now() -> Millis {
        Millis::from_system(SystemTime::now())
    }

    /// Converts the standard library's time. Times before 1970 become negative.
    #[must_use]
    pub fn from_system(t: SystemTime) -> Millis {
        match t.duration_since(UNIX_EPOCH) {
            Ok(d) => Millis(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            Err(e) => Millis(i64::try_from(e.duration().as_millis()).map_or(i64::MIN, |m| -m)),
        }
    }

    /// Converts to the standard library's time.
    #[must_use]
    pub fn to_system(self) -> SystemTime {
        let d = std::time::Duration::from_millis(self.0.unsigned_abs());
        if self.0 >= 0 { UNIX_EPOCH + d } else { UNIX_EPOCH - d }
    }

    /// This time, or that of an earlier file if it is later. So times do not go back after the
    /// clock was set back a little. An `earlier` that is far ahead is a clock error, and is
    /// ignored.
    #[must_use]
    pub fn not_before(self, earlier: Millis) -> Millis {
        if earlier.is_ahead_of(self) { self } else { self.max(earlier) }
    }

    /// Whether this time is so far ahead of `now` ([`limits::CLOCK_AHEAD`]) that a clock must be
    /// wrong.
    #[must_use]
    pub fn is_ahead_of(self, now: Millis) -> bool {
        self.0.saturating_sub(now.0) > i64::try_from(limits::CLOCK_AHEAD.as_millis()).unwrap_or(i64::MAX)
    }

    /// RFC 3339 in UTC with at most three decimals and without trailing zeros
    /// (`2026-11-21T21:14:10.8Z`). Litestream's object metadata has this form.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => t.to_string(),
            Err(_) => format!("{} ms", self.0),
        }
    }

    /// Parses RFC 3339 with any UTC offset.
    #[must_use]
    pub fn parse_rfc3339(s: &str) -> Option<Millis> {
        s.parse::<jiff::Timestamp>().ok().map(|t| Millis(t.as_millisecond()))
    }
}

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_form() {
        assert_eq!(Millis(1_795_295_650_801).to_rfc3339(), "2026-11-21T21:14:10.801Z");
        assert_eq!(Millis(1_795_295_650_800).to_rfc3339(), "2026-11-21T21:14:10.8Z");
        assert_eq!(Millis(1_795_295_650_000).to_rfc3339(), "2026-11-21T21:14:10Z");
        assert_eq!(Millis::parse_rfc3339("2026-11-21T22:14:10.8+01:00"), Some(Millis(1_795_295_650_800)));
        assert_eq!(Millis::parse_rfc3339("yesterday"), None);
    }
}
