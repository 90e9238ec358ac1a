//! Values as SQL literals that any SQLite reads back exactly.

use super::diff::Owned;
use crate::base::untrusted;
use crate::view::btree::Encoding;

/// Characters that do not print in a text that is still written as quoted parts.
const CONTROLS_MAX: usize = 50;

/// A name in double quotes.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text as a literal.
#[must_use]
pub fn string(text: &str) -> String {
    literal(Encoding::Utf8, &Owned::Text(text.as_bytes().to_vec()))
}

/// A value as a literal.
#[must_use]
pub fn literal(encoding: Encoding, value: &Owned) -> String {
    match value {
        Owned::Null => "NULL".to_owned(),
        // The digits alone would be read as a floating-point number.
        Owned::Integer(i64::MIN) => "(-9223372036854775807-1)".to_owned(),
        Owned::Integer(n) => n.to_string(),
        Owned::Real(n) => real(*n),
        Owned::Blob(bytes) => format!("x'{}'", hex(bytes)),
        Owned::Text(bytes) => encoding
            .decode(bytes)
            .and_then(|text| quoted(&text))
            .unwrap_or_else(|| format!("CAST(x'{}' AS TEXT)", hex(bytes))),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// Whether a character is written as a number: the `sqlite3` program reads its input by lines and
/// drops carriage returns, and a terminal obeys others.
fn is_hidden(c: char) -> bool {
    !(c == ' ' || c.is_ascii_graphic())
        && (c.is_control() || untrusted::lines(c.encode_utf8(&mut [0; 4])).starts_with('\\'))
}

/// Text in quotes, with `char(N)` for what does not print. `None` for text that SQLite would not
/// read back.
fn quoted(text: &str) -> Option<String> {
    let controls = text.chars().filter(|c| is_hidden(*c)).count();
    // SQLite replaces the two noncharacters when it converts to UTF-16.
    if controls > CONTROLS_MAX || text.contains(['\0', '\u{fffe}', '\u{ffff}', '\u{feff}']) {
        return None;
    }
    if controls == 0 {
        return Some(format!("'{}'", text.replace('\'', "''")));
    }
    let mut parts: Vec<String> = Vec::new();
    for part in text.split_inclusive(is_hidden) {
        let control = part.chars().next_back().filter(|c| is_hidden(*c));
        let plain = control.map_or(part, |c| &part[..part.len() - c.len_utf8()]);
        if !plain.is_empty() {
            parts.push(format!("'{}'", plain.replace('\'', "''")));
        }
        parts.extend(control.map(|c| format!("char({})", u32::from(c))));
    }
    Some(format!("({})", parts.join("||")))
}

/// Digits that every version of SQLite converts without a rounding error of its own.
const DIGITS_MAX: usize = 15;

/// The largest power of ten that is exact as a floating-point number.
const POWER_MAX: i32 = 22;

/// A floating-point number: its shortest decimal form if that is short, because every version of
/// SQLite reads it back exactly, otherwise the product of an integer and powers of two.
fn real(n: f64) -> String {
    if n.is_infinite() {
        return if n > 0.0 { "9e999" } else { "-9e999" }.to_owned();
    }
    let text = format!("{n:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let fraction = digits.split_once('.').map_or(0, |(_, f)| f.len());
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    let power =
        exponent.parse::<i32>().unwrap_or(i32::MAX).saturating_sub(i32::try_from(fraction).unwrap_or(0));
    if count <= DIGITS_MAX && power.abs() <= POWER_MAX && !is_near_half(digits, power) {
        return format!("{n:?}");
    }
    product(n)
}

/// Whether the number lies so close to the middle between two floating-point numbers that a
/// conversion by way of 64 bits may round to the wrong one.
fn is_near_half(digits: &str, power: i32) -> bool {
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    let Ok(number) = digits.parse::<u128>() else { return true };
    if number == 0 {
        return false;
    }
    let scale = 10u128.pow(power.unsigned_abs());
    // 64 significant bits of the exact number, and whether there are more.
    let (bits, rest) = if power >= 0 {
        let Some(all) = number.checked_mul(scale) else { return true };
        let extra = (128 - all.leading_zeros()).saturating_sub(64);
        (all >> extra, all & ((1 << extra) - 1) != 0)
    } else {
        let shift = number.leading_zeros();
        let quotient = (number << shift) / scale;
        let extra = (128 - quotient.leading_zeros()).saturating_sub(64);
        (quotient >> extra, true)
    };
    let bits = bits << (bits.leading_zeros() - 64);
    let low = bits & 0x7ff;
    rest && (0x3fe..=0x402).contains(&low)
}

/// An integer below 2^53 and powers of two, each of which is exact, as is each step.
fn product(n: f64) -> String {
    const STEP: i32 = 52;
    const TWO_52: &str = "4503599627370496.0";
    let bits = n.abs().to_bits();
    let (field, fraction) = (i32::try_from(bits >> 52).unwrap_or(0), bits & ((1 << 52) - 1));
    let (mut mantissa, mut power) =
        if field == 0 { (fraction, -1074) } else { (fraction | 1 << 52, field - 1075) };
    while mantissa != 0 && mantissa.is_multiple_of(2) {
        mantissa /= 2;
        power += 1;
    }
    let mut text = format!("{}{mantissa}.0", if n.is_sign_negative() { "-" } else { "" });
    let sign = if power < 0 { '/' } else { '*' };
    let mut left = power.abs();
    while left > 0 {
        let step = left.min(STEP);
        if step == STEP {
            text += &format!("{sign}{TWO_52}");
        } else {
            text += &format!("{sign}{}.0", 1u64 << step);
        }
        left -= step;
    }
    format!("({text})")
}
