//! Parses times as people write them.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp, ToSpan as _, Zoned};

use super::zone;
use crate::base::clock::Millis;

/// The accepted forms, for messages and help.
pub(super) const FORMS: &str = "write 2026-11-21T14:03:00Z, 2026-11-21T14:03:00+01:00, \"2026-11-21 14:03\", \
                                \"yesterday 14:03\", 14:03 (the last four in the local time zone), \"2h30m ago\" or 2h30m, now, or \
                                seconds since 1970";

/// Parses a time; without a zone, in the local one.
pub(super) fn parse(text: &str) -> Result<Millis, String> {
    match zone::local() {
        Ok(zone) => parse_at(text, &Timestamp::now().to_zoned(zone)),
        // Not every form needs the local zone.
        Err(e) => match parse_at(text, &Timestamp::now().to_zoned(TimeZone::UTC)) {
            Ok(millis) if says_its_zone(text) => Ok(millis),
            Ok(_) => Err(e),
            Err(other) => Err(other),
        },
    }
}

/// Whether a time means the same in every zone.
fn says_its_zone(text: &str) -> bool {
    let text = text.trim();
    text.parse::<Timestamp>().is_ok()
        || text.parse::<Zoned>().is_ok()
        || text.ends_with("ago")
        || text == "now"
        || text.parse::<Span>().is_ok()
        || unix(text).is_some()
}

/// Parses a time relative to `now`, whose time zone is the local one.
fn parse_at(text: &str, now: &Zoned) -> Result<Millis, String> {
    let text = text.trim();
    let found = if text == "now" {
        Some(now.timestamp())
    } else if let Some(unix) = unix(text) {
        Some(unix)
    } else if let Ok(timestamp) = text.parse::<Timestamp>() {
        Some(timestamp)
    } else if let Ok(zoned) = text.parse::<Zoned>() {
        Some(zoned.timestamp())
    } else if text.ends_with("ago") {
        let span = text.parse::<Span>().map_err(|_| format!("{text:?} is not a time: {FORMS}"))?;
        now.checked_add(span).ok().map(|z| z.timestamp())
    } else if let Some(ago) = text.parse::<Span>().ok().filter(|span| !span.is_negative()) {
        now.checked_sub(ago).ok().map(|z| z.timestamp())
    } else {
        civil(text, now).map(|civil| zoned(text, civil, now.time_zone())).transpose()?
    };
    let timestamp = found.ok_or_else(|| format!("{text:?} is not a time: {FORMS}"))?;
    // States have times in milliseconds. Rounding up makes "strictly before" a part of a
    // millisecond include all of it.
    let millis = timestamp.as_millisecond();
    let cut = timestamp.as_nanosecond() > i128::from(millis) * 1_000_000;
    Ok(Millis(millis + i64::from(cut)))
}

/// Parses seconds since 1970, with or without a fraction. Fewer than nine digits could be a time of
/// day or a year.
fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !(9..=11).contains(&seconds.len()) || !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanos).ok()
}

/// Parses `DATE`, `DATE TIME`, `TIME`, `today TIME` or `yesterday TIME`.
fn civil(text: &str, now: &Zoned) -> Option<DateTime> {
    if let Ok(at) = text.parse::<DateTime>() {
        return Some(at);
    }
    let (day, time) = match text.split_once(' ') {
        Some(("today", time)) => (now.date(), time),
        Some(("yesterday", time)) => (now.date().checked_sub(1.day()).ok()?, time),
        Some((day, time)) => (day.parse::<Date>().ok()?, time),
        None => (now.date(), text),
    };
    let time = time.trim();
    // Without a colon, "14" and "1403" would be times.
    time.contains(':').then(|| time.parse::<Time>().ok()).flatten().map(|time| day.to_datetime(time))
}

fn zoned(text: &str, civil: DateTime, zone: &TimeZone) -> Result<Timestamp, String> {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => {
            ambiguous.unambiguous().map_err(|e| format!("{text:?} is not a time here: {e}"))
        }
        AmbiguousOffset::Gap { before, after } => Err(format!(
            "{text:?} does not exist here, because the clocks go forward then: write it with its offset, {civil}{before} \
             or {civil}{after}"
        )),
        AmbiguousOffset::Fold { before, after } => Err(format!(
            "{text:?} comes twice here, because the clocks go back then: write it with its offset, {civil}{before} for the \
             first or {civil}{after} for the second"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 02:20:11 in a zone one hour ahead of UTC, with summer time.
    fn now() -> Zoned {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        "2026-11-22T01:20:11Z".parse::<Timestamp>().unwrap().to_zoned(zone)
    }

    #[test]
    fn every_form() {
        for (text, utc) in [
            ("2026-11-21T14:03:00Z", "2026-11-21T14:03:00Z"),
            ("2026-11-21t14:03:00.25z", "2026-11-21T14:03:00.25Z"),
            ("2026-11-21 14:03:00+02:00", "2026-11-21T12:03:00Z"),
            ("2026-11-21T14:03:00.0000001Z", "2026-11-21T14:03:00.001Z"),
            ("2026-11-21 14:03", "2026-11-21T13:03:00Z"),
            ("2026-07-21 14:03:05", "2026-07-21T12:03:05Z"),
            ("2026-11-21T14:03:05.5", "2026-11-21T13:03:05.5Z"),
            ("2026-11-21", "2026-11-20T23:00:00Z"),
            ("yesterday 14:03", "2026-11-21T13:03:00Z"),
            ("today 01:00:30", "2026-11-22T00:00:30Z"),
            ("01:00", "2026-11-22T00:00:00Z"),
            ("2h ago", "2026-11-21T23:20:11Z"),
            ("1h 30m ago", "2026-11-21T23:50:11Z"),
            ("2 days ago", "2026-11-20T01:20:11Z"),
            ("now", "2026-11-22T01:20:11Z"),
            ("10m", "2026-11-22T01:10:11Z"),
            ("2h30m", "2026-11-21T22:50:11Z"),
            ("2 days", "2026-11-20T01:20:11Z"),
            ("1795295650", "2026-11-21T21:14:10Z"),
            ("1795295650.5", "2026-11-21T21:14:10.5Z"),
        ] {
            assert_eq!(parse_at(text, &now()).unwrap().to_rfc3339(), utc, "{text}");
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "soon",
            "14",
            "1403",
            "-2h",
            "tomorrow 14:03",
            "2026-13-01",
            "ago",
            "25:00",
            "12345678",
            "1795295650x",
        ] {
            let e = parse_at(text, &now()).unwrap_err();
            assert!(e.contains("is not a time: write "), "{text}: {e}");
        }
    }

    #[test]
    fn hours_that_come_twice_or_never() {
        let e = parse_at("2026-10-25 02:30", &now()).unwrap_err();
        assert!(
            e.contains("comes twice") && e.contains("T02:30:00+02 ") && e.contains("T02:30:00+01 "),
            "{e}"
        );
        let e = parse_at("2026-03-29 02:30", &now()).unwrap_err();
        assert!(e.contains("does not exist") && e.contains("write it with its offset"), "{e}");
        let parsed = parse_at("2026-10-25T02:30:00+02", &now()).unwrap();
        assert_eq!(parsed.to_rfc3339(), "2026-10-25T00:30:00Z", "as the message writes it");
        assert!(parse_at("2026-10-25 02:30+01:00", &now()).is_ok());
    }
}
