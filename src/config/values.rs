//! Small values in the form that people write.

use super::quirks::{Checksum, SignPayload};

/// A boolean, in the spellings of YAML and of Go.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "t" | "yes" | "y" | "on" => Some(true),
        "false" | "0" | "f" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

pub(super) fn parse_sign_payload(text: &str) -> Result<SignPayload, &'static str> {
    match text {
        "auto" => Ok(SignPayload::Auto),
        "always" => Ok(SignPayload::Always),
        "never" => Ok(SignPayload::Never),
        other => match parse_bool(other) {
            Some(true) => Ok(SignPayload::Always),
            Some(false) => Ok(SignPayload::Never),
            None => Err("auto, always or never"),
        },
    }
}

pub(super) fn parse_checksum(text: &str) -> Result<Checksum, &'static str> {
    match text {
        "crc32" => Ok(Checksum::Crc32),
        "none" => Ok(Checksum::None),
        _ => Err("crc32 or none"),
    }
}

pub(super) fn parse_concurrency(text: &str) -> Result<u32, &'static str> {
    match text.trim().parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("a number from 1 up"),
    }
}

/// A size in bytes: `5242880`, `5MB` (of 1000), `5MiB` (of 1024), `1.5 GB`, `10M`.
pub(super) fn parse_size(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "a size such as 16MB or 16MiB";
    let text = text.trim();
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = (&text[..at], text[at..].trim().to_ascii_lowercase());
    let unit: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return Err(EXPECTED),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit).ok_or(EXPECTED);
    }
    match number.parse::<f64>() {
        Ok(n) if n.is_finite() && n * unit as f64 <= (1u64 << 53) as f64 => Ok((n * unit as f64) as u64),
        _ => Err(EXPECTED),
    }
}

/// Parses a rate in bytes per second, in the units of a size.
///
/// # Errors
/// A phrase that says what is expected.
pub fn parse_rate(text: &str) -> Result<u64, &'static str> {
    match parse_size(text) {
        Ok(rate) if rate > 0 => Ok(rate),
        _ => Err("a number of bytes a second above 0, such as 8MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("5242880", 5_242_880),
            ("5MB", 5_000_000),
            ("5MiB", 5_242_880),
            (" 1.5 GB ", 1_500_000_000),
            ("10M", 10_000_000),
            ("64kib", 65_536),
            ("0", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MB", "-5MB", "5 parsecs", "1.2.3MB", "99999999999TB", "nan", "1e9"] {
            parse_size(bad).expect_err(bad);
        }
    }

    #[test]
    fn yes_and_no() {
        for (text, value) in [("TRUE", Some(true)), ("no", Some(false)), (" 1", Some(true)), ("maybe", None)]
        {
            assert_eq!(parse_bool(text), value, "{text}");
        }
        assert_eq!(parse_sign_payload("false"), Ok(SignPayload::Never));
        assert_eq!((parse_rate("8MiB"), parse_rate("0").is_err()), (Ok(8 << 20), true));
        assert_eq!(parse_concurrency("0"), Err("a number from 1 up"));
    }
}
