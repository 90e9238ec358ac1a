//! Parts of HTML: escaped text, times, curves.

use std::fmt::Write as _;

use super::samples::Sample;

/// Text for the content of an element, or for an attribute in double quotes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// A time in RFC 3339, shown in UTC until the script makes it local.
pub(super) fn time(rfc3339: &str) -> String {
    let text = rfc3339.replace('T', " ").replace('Z', " UTC");
    format!("<time datetime=\"{}\">{}</time>", escape(rfc3339), escape(&text))
}

/// A value for the query of a URL.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~/".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

/// A word of a shell command.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A curve of the samples from zero to their maximum, or to `least` if that is larger. Empty with
/// fewer than two samples, or if all of them are zero.
pub(super) fn curve(samples: &[Sample], value: impl Fn(&Sample) -> f32, least: f32, title: &str) -> String {
    const WIDTH: f32 = 160.0;
    const HEIGHT: f32 = 24.0;
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return String::new() };
    let span = last.at - first.at;
    if span <= 0.0 || samples.iter().all(|s| value(s) <= 0.0) {
        return String::new();
    }
    let top = samples.iter().map(&value).fold(least, f32::max);
    let place = |s: &Sample| ((s.at - first.at) / span * WIDTH, HEIGHT - value(s) / top * HEIGHT);
    let mut points = String::new();
    for (i, s) in samples.iter().enumerate() {
        let (x, y) = place(s);
        // A flat stretch is its two ends.
        let is_flat = |j: Option<usize>| {
            j.and_then(|j| samples.get(j)).is_some_and(|other| (place(other).1 - y).abs() < 0.05)
        };
        if !(is_flat(i.checked_sub(1)) && is_flat(i.checked_add(1))) {
            let _ = write!(points, "{x:.0},{y:.1} ");
        }
    }
    format!(
        "<svg class=spark viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=none role=img><title>{}</title>\
         <polyline points=\"0,{HEIGHT} {points}{WIDTH},{HEIGHT}\"></polyline></svg>",
        escape(title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_named_is_text() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!(encode("/a b/ü&=.db"), "/a%20b/%C3%BC%26%3D.db");
        assert_eq!(quoted("s3://b/a-b_1.db"), "s3://b/a-b_1.db");
        assert_eq!(quoted("s3://b/it's?x=1&y"), "'s3://b/it'\\''s?x=1&y'");
    }

    #[test]
    fn a_curve_stays_in_its_box() {
        let sample = |at: f32, lag: f32| Sample { at, lag, wal: 0.0 };
        let svg = curve(&[sample(0.0, 0.0), sample(10.0, 2.0), sample(40.0, 4.0)], |s| s.lag, 1.0, "lag");
        assert!(svg.contains("<polyline points=\"0,24 0,24.0 40,12.0 160,0.0 160,24\">"), "{svg}");
        let flat: Vec<_> = (0..90u8).map(|n| sample(f32::from(n), 0.5)).collect();
        let svg = curve(&flat, |s| s.lag, 1.0, "lag");
        assert!(svg.contains("<polyline points=\"0,24 0,12.0 160,12.0 160,24\">"), "{svg}");
        assert_eq!(curve(&[sample(0.0, 1.0)], |s| s.lag, 1.0, "lag"), "");
    }
}
