//! Expands `$NAME` and `${NAME}` in values.
//!
//! A name begins with a letter or an underscore and continues with letters, digits and underscores.
//! `$$` before a name or a brace stands for one dollar sign. Every other dollar sign stays as it
//! is, so most passwords need no escaping.

use super::error::Problem;
use crate::config::Env;

/// Expands the variables of a value. `secret` keeps text that may be part of a password out of the
/// error.
pub(super) fn expand(text: &str, key: &'static str, secret: bool, env: &Env) -> Result<String, Problem> {
    if !text.contains('$') {
        return Ok(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$').filter(|e| starts_variable(e)) {
            out.push('$');
            let take = if escaped.starts_with('{') { 1 } else { name_length(escaped) };
            out.push_str(&escaped[..take]);
            rest = &escaped[take..];
            continue;
        }
        let (braced, name_at) = match after.strip_prefix('{') {
            Some(inner) => (true, inner),
            None => (false, after),
        };
        let length = name_length(name_at);
        if length == 0 {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, behind) = name_at.split_at(length);
        rest = match (braced, behind.strip_prefix('}')) {
            (true, Some(behind)) => behind,
            (true, None) => return Err(Problem::Form { key }),
            (false, _) => behind,
        };
        match env.raw(name) {
            Some(value) => out.push_str(value),
            // I7: `pa$word` may be a password. `${WORD}` and a lone `$WORD` are meant as variables.
            None if secret && !braced && name.len() + 1 != text.len() => {
                return Err(Problem::UnsetInSecret { key });
            }
            None => return Err(Problem::Unset { key, name: name.to_owned() }),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether a value uses the environment.
pub(super) fn has_variable(text: &str) -> bool {
    text.split('$').skip(1).any(starts_variable)
}

fn starts_variable(text: &str) -> bool {
    name_length(text.strip_prefix('{').unwrap_or(text)) > 0
}

/// Length in bytes of the name that `text` begins with.
fn name_length(text: &str) -> usize {
    let fits = |(i, b): (usize, u8)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit());
    text.bytes().enumerate().take_while(|c| fits(*c)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_dollars() {
        let env = Env::new([("A", "x"), ("B_1", "$A"), ("EMPTY", "")]);
        for (text, expected) in [
            ("plain", "plain"),
            ("$A", "x"),
            ("${A}", "x"),
            ("a${A}b$A-$A.", "axbx-x."),
            // The value of a variable is not expanded again.
            ("$B_1", "$A"),
            ("[$EMPTY]", "[]"),
            ("p$5word", "p$5word"),
            ("p$", "p$"),
            ("p$$", "p$$"),
            ("p$$9", "p$$9"),
            ("$$A", "$A"),
            ("$${A}", "${A}"),
            ("$$$A", "$$A"),
            ("$-{}${}", "$-{}${}"),
            ("ü$Aü", "üxü"),
        ] {
            assert_eq!(expand(text, "path", false, &env), Ok(expected.to_owned()), "{text}");
        }
        let unset = |key, name: &str| Err(Problem::Unset { key, name: name.to_owned() });
        assert_eq!(expand("$NO", "path", false, &env), unset("path", "NO"));
        assert_eq!(expand("x${NO}", "password", true, &env), unset("password", "NO"));
        assert_eq!(expand("$NO", "password", true, &env), unset("password", "NO"));
        assert_eq!(
            expand("pa$word", "password", true, &env),
            Err(Problem::UnsetInSecret { key: "password" })
        );
        assert_eq!(expand("${A:-b}", "path", false, &env), Err(Problem::Form { key: "path" }));
        assert_eq!(expand("${A", "path", false, &env), Err(Problem::Form { key: "path" }));
    }

    #[test]
    fn what_takes_from_the_environment() {
        for (text, yes) in [("$A", true), ("x${A}", true), ("p$5", false), ("p$$", false), ("", false)] {
            assert_eq!(has_variable(text), yes, "{text}");
        }
    }
}
