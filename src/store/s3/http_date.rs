//! Dates in headers.

use std::time::SystemTime;

/// Parses a date such as `Sat, 21 Nov 2026 23:17:31 GMT`.
pub(in crate::store) fn http_date(text: &str) -> Option<SystemTime> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(SystemTime::from(zoned))
}
