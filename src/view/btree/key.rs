//! The order of keys in an index b-tree, as SQLite compares them.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::{Encoding, Value};

/// How text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collation {
    /// Byte by byte.
    Binary,
    /// Like `Binary`, with ASCII letters in lower case.
    NoCase,
    /// Like `Binary`, without spaces at the end.
    RightTrim,
    /// A collation of the application. Its order is not known here.
    Foreign,
}

/// One column of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyColumn {
    /// How text is compared.
    pub collation: Collation,
    /// Whether larger values come first.
    pub descending: bool,
}

/// The key of an index b-tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its columns, which are the first ones of each record.
    pub columns: Vec<KeyColumn>,
}

impl Key {
    /// Whether the order in the b-tree is known.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.columns.iter().all(|c| c.collation != Collation::Foreign)
    }
}

/// Compares the first values of two records. A foreign collation compares like `Binary`.
#[must_use]
pub fn compare_keys(key: &Key, encoding: Encoding, a: &[Value<'_>], b: &[Value<'_>]) -> Ordering {
    for (i, column) in key.columns.iter().enumerate() {
        let (a, b) = (a.get(i).unwrap_or(&Value::Null), b.get(i).unwrap_or(&Value::Null));
        let order = compare(column.collation, encoding, a, b);
        if order != Ordering::Equal {
            return if column.descending { order.reverse() } else { order };
        }
    }
    Ordering::Equal
}

fn compare(collation: Collation, encoding: Encoding, a: &Value<'_>, b: &Value<'_>) -> Ordering {
    let class = |value: &Value<'_>| match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    };
    match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        (Value::Real(a), Value::Real(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (Value::Integer(a), Value::Real(b)) => integer_and_real(*a, *b),
        (Value::Real(a), Value::Integer(b)) => integer_and_real(*b, *a).reverse(),
        (Value::Text(a), Value::Text(b)) => text(collation, encoding, a, b),
        (Value::Blob(a), Value::Blob(b)) => a.cmp(b),
        _ => class(a).cmp(&class(b)),
    }
}

fn text(collation: Collation, encoding: Encoding, a: &[u8], b: &[u8]) -> Ordering {
    let utf8 = |bytes| match encoding {
        Encoding::Utf8 => Cow::Borrowed(bytes),
        _ => Cow::Owned(encoding.decode_lossy(bytes).into_bytes()),
    };
    match collation {
        Collation::Binary | Collation::Foreign => a.cmp(b),
        Collation::NoCase => {
            let (a, b) = (utf8(a), utf8(b));
            a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase))
        }
        Collation::RightTrim => {
            let (a, b) = (utf8(a), utf8(b));
            let trim = |bytes: &[u8]| bytes.iter().rposition(|b| *b != b' ').map_or(0, |n| n + 1);
            a[..trim(&a)].cmp(&b[..trim(&b)])
        }
    }
}

/// Compares exactly: most integers above 2^53 are not representable as a real.
fn integer_and_real(a: i64, b: f64) -> Ordering {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    if b >= BOUND {
        return Ordering::Less;
    }
    if b < -BOUND {
        return Ordering::Greater;
    }
    // In range, so the conversion cuts off the fraction and nothing more.
    #[allow(clippy::cast_possible_truncation)]
    let whole = b.trunc() as i64;
    a.cmp(&whole).then_with(|| 0.0f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal))
}
