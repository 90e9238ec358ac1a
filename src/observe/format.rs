//! The text format of Prometheus: heads, numbers, labels.

use std::fmt::Write as _;

use crate::base::clock::Millis;

pub(super) fn number(n: u64) -> f64 {
    n as f64
}

pub(super) fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// Seconds since 1970, as Prometheus has times.
pub(super) fn timestamp(at: Millis) -> f64 {
    at.0 as f64 / 1_000.0
}

pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Escapes the value of a label.
pub(super) fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
