//! File name patterns as in Go's `filepath.Match`: `*`, `?`, `[a-z]`, `[^a-z]`, and a backslash
//! before a character that stands for itself.

/// Checks that the pattern is well formed.
pub(super) fn check(pattern: &str) -> Result<(), &'static str> {
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' if rest.next().is_none() => return Err("a pattern: it ends with a backslash"),
            '[' if class(rest.as_str(), None).is_none() => return Err("a pattern: [ has no matching ]"),
            '/' => {
                return Err(
                    "a pattern: it is for file names, and holds a slash (recursive: true looks below)",
                );
            }
            '[' => rest = class(rest.as_str(), None).map_or("", |(_, after)| after).chars(),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the whole name matches. The work is bounded by the product of both lengths.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (mut p, mut n) = (pattern, name);
    // The pattern after the last star, and the part of the name that the star has not consumed yet.
    let mut star: Option<(&str, &str)> = None;
    loop {
        if let Some(after) = p.strip_prefix('*') {
            star = Some((after, n));
            p = after;
            continue;
        }
        match one(p, n) {
            Some((after, left)) => (p, n) = (after, left),
            None if p.is_empty() && n.is_empty() => return true,
            None => {
                let Some((after, left)) = star else { return false };
                let mut left = left.chars();
                if left.next().is_none() {
                    return false;
                }
                star = Some((after, left.as_str()));
                (p, n) = (after, left.as_str());
            }
        }
    }
}

/// Matches one character.
fn one<'p, 'n>(pattern: &'p str, name: &'n str) -> Option<(&'p str, &'n str)> {
    let mut p = pattern.chars();
    let mut n = name.chars();
    let (expected, found) = (p.next()?, n.next()?);
    let fits = match expected {
        '?' => true,
        '[' => {
            let (fits, after) = class(p.as_str(), Some(found))?;
            p = after.chars();
            fits
        }
        '\\' => p.next()? == found,
        c => c == found,
    };
    fits.then_some((p.as_str(), n.as_str()))
}

/// Parses a class after its `[`. Returns whether it contains `found`, and the rest after `]`.
/// `None` if the class does not end.
fn class(pattern: &str, found: Option<char>) -> Option<(bool, &str)> {
    let (negated, mut rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest.chars()),
        None => (false, pattern.chars()),
    };
    let mut fits = false;
    let mut first = true;
    loop {
        let mut low = rest.next()?;
        if low == ']' && !first {
            return Some((fits != negated, rest.as_str()));
        }
        first = false;
        if low == '\\' {
            low = rest.next()?;
        }
        let mut high = low;
        if let Some(behind) = rest.as_str().strip_prefix('-') {
            rest = behind.chars();
            high = rest.next()?;
            if high == '\\' {
                high = rest.next()?;
            }
        }
        fits |= found.is_some_and(|c| (low..=high).contains(&c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_matches() {
        for (pattern, name, yes) in [
            ("*.db", "a.db", true),
            ("*.db", "a.db.x", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbY", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "zx", true),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*.sqlite[3]", "a.sqlite3", true),
            ("ü*", "üb", true),
        ] {
            assert_eq!(matches(pattern, name), yes, "{pattern} {name}");
        }
        for bad in ["[a", "a\\", "a/b", "["] {
            check(bad).expect_err(bad);
        }
        check("*.db").unwrap();
        check("[a-z]*.db").unwrap();
        // Many stars do not take forever.
        assert!(!matches(&"*a".repeat(50), &"b".repeat(5_000)));
    }
}
