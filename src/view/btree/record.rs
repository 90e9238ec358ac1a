//! The values of a row.
//!
//! A record is the length of its header as a varint, one varint for each value (its serial type),
//! then the values:
//!
//! | serial type | value |
//! |---|---|
//! | 0 | NULL |
//! | 1 to 6 | integer of 1, 2, 3, 4, 6, 8 bytes, big-endian, signed |
//! | 7 | IEEE 754 number of 8 bytes, big-endian |
//! | 8, 9 | the integers 0 and 1 |
//! | 12 and above, even | blob of (N - 12) / 2 bytes |
//! | 13 and above, odd | text of (N - 13) / 2 bytes |

use super::page::varint;

/// A value of a row. Text has the encoding of the database.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Null,
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text, which may be invalid in the encoding of the database.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
}

impl Value<'_> {
    /// Whether the values are the same in type and in each bit.
    #[must_use]
    pub fn same(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }
}

/// The values of a record, or `None` if it is damaged.
#[must_use]
pub fn parse_record(record: &[u8]) -> Option<Vec<Value<'_>>> {
    let (header, mut at) = varint(record, 0)?;
    let header = usize::try_from(header).ok().filter(|n| *n >= at && *n <= record.len())?;
    let types = &record[..header];
    let mut values = Vec::new();
    let mut body = header;
    while at < header {
        let (serial, n) = varint(types, at)?;
        at += n;
        let (value, n) = value(serial, record.get(body..)?)?;
        body += n;
        values.push(value);
    }
    Some(values)
}

/// The value of a serial type at the beginning of `bytes`, and its length.
fn value(serial: u64, bytes: &[u8]) -> Option<(Value<'_>, usize)> {
    let integer = |n: usize| {
        let bytes = bytes.get(..n)?;
        let first = if bytes[0] >= 0x80 { -1 } else { 0 };
        Some((Value::Integer(bytes.iter().fold(first, |v, b| v << 8 | i64::from(*b))), n))
    };
    match serial {
        0 => Some((Value::Null, 0)),
        1..=4 => integer(usize::try_from(serial).ok()?),
        5 => integer(6),
        6 => integer(8),
        7 => {
            let bits = u64::from_be_bytes(*bytes.first_chunk()?);
            let number = f64::from_bits(bits);
            // SQLite reads NaN as NULL.
            Some((if number.is_nan() { Value::Null } else { Value::Real(number) }, 8))
        }
        8 | 9 => Some((Value::Integer(i64::from(serial == 9)), 0)),
        10 | 11 => None,
        _ => {
            let n = usize::try_from((serial - 12) / 2).ok()?;
            let bytes = bytes.get(..n)?;
            Some((if serial.is_multiple_of(2) { Value::Blob(bytes) } else { Value::Text(bytes) }, n))
        }
    }
}
