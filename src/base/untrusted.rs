//! Makes text from a store, a network or another program safe for a terminal, a log and a status.
//!
//! Such text may contain escape sequences that change a terminal's title or contents. It may
//! contain line breaks that fake a log line, and marks that reverse the direction of the text that
//! follows. Every character that does not print as itself becomes `\u{...}`, and the result is one
//! line. It is for people: no program parses it back.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::limits;

/// One line of at most [`limits::UNTRUSTED_CHARS`] characters. Each run of spaces and line breaks
/// becomes one space.
#[must_use]
pub fn quote(text: &str) -> String {
    line(text, limits::UNTRUSTED_CHARS)
}

/// One line of at most `chars_max` characters, which ends in an ellipsis if it was cut. Each run of
/// spaces and line breaks becomes one space. The time depends on the length of the result, not on
/// that of `text`.
#[must_use]
pub fn line(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    let mut left = chars_max;
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = !out.is_empty();
            continue;
        }
        let mut shown = Shown::of(c);
        let needs = shown.len() + usize::from(gap);
        if needs > left {
            // The ellipsis replaces the last character.
            if left == 0 {
                out.pop();
            }
            out.push('\u{2026}');
            return out;
        }
        left -= needs;
        if std::mem::take(&mut gap) {
            out.push(' ');
        }
        shown.push_to(&mut out);
    }
    out
}

/// The whole text, with an escape for each character that does not print as itself. For names that
/// the reader has to recognise, such as the key of an object.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| Shown::of(c).push_to(&mut out));
    Cow::Owned(out)
}

/// Whole lines just before they are written. Line breaks and tabs stay; every other character that
/// does not print as itself becomes `\uXXXX`, so JSON remains valid. This is the last guard, for
/// text that was not quoted before.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    let stays = |b: u8| matches!(b, b' ' | b'\n' | b'\t') || b.is_ascii_graphic();
    if text.bytes().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if u8::try_from(c).is_ok_and(stays) || (!c.is_ascii() && prints(c)) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a `String` can't fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    Cow::Owned(out)
}

/// How one character is shown.
enum Shown {
    Itself(char),
    Escape(std::char::EscapeUnicode),
    Short(char),
}

impl Shown {
    fn of(c: char) -> Shown {
        match c {
            ' ' => Shown::Itself(c),
            '\n' => Shown::Short('n'),
            '\r' => Shown::Short('r'),
            '\t' => Shown::Short('t'),
            c if c.is_ascii_graphic() => Shown::Itself(c),
            c if c.is_ascii() || !prints(c) => Shown::Escape(c.escape_unicode()),
            c => Shown::Itself(c),
        }
    }

    fn len(&self) -> usize {
        match self {
            Shown::Itself(_) => 1,
            Shown::Short(_) => 2,
            Shown::Escape(escape) => escape.len(),
        }
    }

    fn push_to(&mut self, out: &mut String) {
        match self {
            Shown::Itself(c) => out.push(*c),
            Shown::Short(c) => out.extend(['\\', *c]),
            Shown::Escape(escape) => out.extend(escape),
        }
    }
}

/// Whether a character that is not ASCII prints as itself. Control, format and space characters do
/// not, nor do unassigned ones. The table is that of the standard library, for its `Debug` of text.
fn prints(c: char) -> bool {
    // The table counts blank letters as letters.
    let blank = matches!(c, '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}');
    // The standard library escapes a combining mark only at the beginning of text, so it follows a
    // letter here.
    let mut pair = [0; 8];
    pair[0] = b'x';
    let len = 1 + c.encode_utf8(&mut pair[1..]).len();
    let pair = std::str::from_utf8(&pair[..len]).unwrap_or_default();
    !blank && pair.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prints_stays_as_it_is() {
        for text in ["all is well", "it's \"so\" \\o/", "tä/ü 日本 e\u{301} \u{1f600}", ""] {
            assert_eq!(quote(text), text);
            assert_eq!(escape(text), text);
        }
        assert_eq!(quote("  502\r\n\tBad \u{a0} Gateway\n"), "502 Bad Gateway");
        assert_eq!(escape("a\nb\tc\r"), "a\\nb\\tc\\r");
    }

    #[test]
    fn nothing_moves_the_terminal() {
        assert_eq!(quote("X\x1b]0;owned\x07\nall is well"), "X\\u{1b}]0;owned\\u{7} all is well");
        let controls = (0..0x20).chain(0x7f..0xa0);
        // Direction marks, invisible characters, line separators, blank letters, tags, and
        // unassigned characters.
        let marks = [
            0xad, 0x61c, 0x115f, 0x180e, 0x200b, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202e,
            0x2060, 0x2066, 0x2069, 0x3164, 0xfeff, 0xfff9, 0xe0041, 0xf0000, 0x10ffff,
        ];
        for code in controls.chain(marks) {
            let c = char::from_u32(code).unwrap();
            for text in [quote(&format!("a{c}b")), escape(&format!("a{c}b")).into_owned()] {
                assert!(!text.contains(c) && !text.chars().any(char::is_control), "{code:x}: {text}");
            }
        }
    }

    #[test]
    fn lines_stay_lines_and_json_stays_json() {
        assert_eq!(lines("one\n\ttwo: tä\n"), "one\n\ttwo: tä\n");
        assert_eq!(lines("a\x1b[31m\r\u{9b}\u{202e}b"), "a\\u001b[31m\\u000d\\u009b\\u202eb");
        let json = serde_json::json!({ "says": "\u{9b}\u{e0041}\x7f\x1b" }).to_string();
        let (safe, back) =
            (lines(&json), |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert!(safe.is_ascii() && back(&safe) == back(&json), "{safe}");
    }

    #[test]
    fn it_is_cut_where_told() {
        assert_eq!(line("abc", 3), "abc");
        assert_eq!(line("abcd", 3), "ab\u{2026}");
        assert_eq!(line("ab \x1b", 3), "ab\u{2026}");
        assert_eq!(quote(&"x".repeat(5_000_000)).chars().count(), limits::UNTRUSTED_CHARS);
        for max in 1..20 {
            assert!(line("a\x1b b\u{202e}c   d ee", max).chars().count() <= max, "{max}");
        }
    }
}
