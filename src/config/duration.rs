//! Durations in the form that people write: `30s`, `1m30s`, `1.5h`, `500ms`, `24h`. `0` needs no
//! unit.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text does not have the form of a duration.
    #[error("`{0}` is not a duration: write a number with a unit, as in 500ms, 30s, 1m30s or 24h")]
    Form(String),
    /// The duration is negative.
    #[error("`{0}` is negative: a duration here is 0 or more")]
    Negative(String),
}

/// Parses a duration.
///
/// # Errors
/// [`DurationError`] if `text` is not a duration, or is negative.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    let signed: jiff::SignedDuration =
        trimmed.parse().map_err(|_| DurationError::Form(String::from(trimmed)))?;
    Duration::try_from(signed).map_err(|_| DurationError::Negative(String::from(trimmed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("1s", 1_000),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            (" 2m ", 120_000),
            ("1.5h", 5_400_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        for text in ["", "30", "s", "1 fortnight", "1s1", "--1s"] {
            let e = parse_duration(text).expect_err(text);
            assert!(e.to_string().contains("1m30s"), "{e}");
        }
        let e = parse_duration("-1s").expect_err("negative");
        assert_eq!(e, DurationError::Negative(String::from("-1s")));
    }
}
