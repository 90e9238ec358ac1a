//! The command line of `--exec`: split into words as a shell does, and run without one.
//!
//! Outside quotes, this module finds what only a shell can do. Another command (`&&`, `||`, `|`,
//! `;`) is an error, because it would never run. Litestream drops a redirection and everything
//! after it. A redirection at the end is therefore left out here too, with a warning, so that its
//! users' commands keep working. Variables reach the program as they are written, as with
//! Litestream.

use std::process::Command;

/// A parsed command line.
#[derive(Debug)]
pub(super) struct Line {
    /// The program and its arguments.
    pub(super) command: Command,
    /// Warnings of what a shell would have done and lsfast does not do.
    pub(super) warnings: Vec<String>,
}

/// A part of the line that needs a shell.
#[derive(Debug, PartialEq, Eq)]
enum Special {
    /// An operator, and the byte where it begins.
    Operator(usize, String),
    /// A variable or a command substitution.
    Expansion(String),
}

/// Parses the command line.
///
/// # Errors
/// One line that says what is wrong with it.
pub(super) fn read(line: &str) -> anyhow::Result<Line> {
    let mut warnings = Vec::new();
    let mut text = line;
    for special in specials(line) {
        match special {
            Special::Operator(at, operator) => {
                let (before, rest) = line.split_at(at);
                if !is_harmless(rest) {
                    anyhow::bail!(
                        "--exec {line:?}: {operator} needs a shell, and the command is started without one: write \
                         sh -c \"...\" around it, or put {operator} in quotes if it is part of an argument"
                    );
                }
                warnings.push(format!(
                    "--exec {line:?}: {rest:?} needs a shell and is left out; to have it, write sh -c \"exec ...\""
                ));
                text = before;
                break;
            }
            Special::Expansion(what) => warnings.push(format!(
                "--exec {line:?}: {what} reaches the program as it is written, since no shell replaces it; to have it replaced, \
                 write sh -c \"exec ...\""
            )),
        }
    }
    let words = shell_words::split(text).map_err(|_| {
        anyhow::anyhow!("--exec {line:?}: a quote is not closed; write the command as for a shell")
    })?;
    let Some((program, arguments)) = words.split_first() else {
        anyhow::bail!("--exec names no command; write for example --exec 'myapp --port 8080'");
    };
    if program.split_once('=').is_some_and(|(name, _)| is_name(name)) {
        anyhow::bail!(
            "--exec {line:?}: a variable before the command needs a shell; write env {program} and the command"
        );
    }
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(Line { command, warnings })
}

/// All parts that need a shell, up to the first operator.
fn specials(line: &str) -> Vec<Special> {
    let mut found = Vec::new();
    let mut chars = line.char_indices().peekable();
    let (mut single, mut double) = (false, false);
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if !double => single = !single,
            _ if single => {}
            '\\' => _ = chars.next(),
            '"' => double = !double,
            '$' | '`' => found.extend(expansion(&line[at..]).map(Special::Expansion)),
            _ if double => {}
            '&' | '|' | ';' | '<' | '>' | '(' | ')' => {
                let twice = chars.peek().is_some_and(|(_, next)| *next == c && !matches!(c, '(' | ')'));
                // The descriptor number belongs to its redirection.
                let digits = line[..at].bytes().rev().take_while(u8::is_ascii_digit).count();
                let alone = line[..at - digits].chars().next_back().is_none_or(char::is_whitespace);
                let at = if matches!(c, '<' | '>') && alone { at - digits } else { at };
                found.push(Special::Operator(at, c.to_string().repeat(1 + usize::from(twice))));
                return found;
            }
            _ => {}
        }
    }
    found
}

/// What a shell would replace at the beginning of `text`.
fn expansion(text: &str) -> Option<String> {
    let rest = text.strip_prefix('$');
    let inner = rest.map_or("`", |r| r.strip_prefix('{').unwrap_or(r));
    let name: String = inner.chars().take_while(|c| *c == '_' || c.is_ascii_alphanumeric()).collect();
    match inner.chars().next()? {
        '`' => Some("`...`".to_owned()),
        '(' => Some("$(...)".to_owned()),
        c if c == '_' || c.is_ascii_alphanumeric() => Some(format!("${name}")),
        _ => None,
    }
}

/// Whether a shell would run the same program with the same arguments without this rest:
/// redirections, or a last `&` or `;`.
fn is_harmless(mut rest: &str) -> bool {
    loop {
        rest = rest.trim();
        if matches!(rest, "" | "&" | ";") {
            return true;
        }
        let operator = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let operator = operator.strip_prefix('&').unwrap_or(operator);
        let Some(target) = [">>", ">&", ">|", ">", "<"].iter().find_map(|o| operator.strip_prefix(o)) else {
            return false;
        };
        let target = target.trim_start();
        let end = target.find(|c: char| c.is_whitespace() || ">;&".contains(c)).unwrap_or(target.len());
        if end == 0 || target[..end].contains(['|', '<', '(', ')', '"', '\'', '\\', '$', '`']) {
            return false;
        }
        rest = &target[end..];
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> (Vec<String>, usize) {
        let Line { command, warnings } = read(line).unwrap();
        let all = std::iter::once(command.get_program()).chain(command.get_args());
        (all.map(|w| w.to_string_lossy().into_owned()).collect(), warnings.len())
    }

    #[test]
    fn a_command_is_read_as_by_a_shell() {
        for (line, expected) in [
            ("app --name 'two words'", &["app", "--name", "two words"][..]),
            ("app 'a && b' \"c | d\" e\\;f", &["app", "a && b", "c | d", "e;f"]),
            ("sh -c 'a > \"$x\"'", &["sh", "-c", "a > \"$x\""]),
            ("app \"it's\" -p=5$ '$5'", &["app", "it's", "-p=5$", "$5"]),
            ("app --set a=b", &["app", "--set", "a=b"]),
        ] {
            assert_eq!(words(line), (expected.iter().map(|w| (*w).to_owned()).collect(), 0), "{line}");
        }
        let error = |line| read(line).unwrap_err().to_string();
        assert!(error("  ").contains("names no command"));
        assert!(error("app 'x").contains("a quote is not closed"));
        assert!(error("PORT=80 app").contains("write env PORT=80"));
    }

    #[test]
    fn a_second_command_is_refused() {
        for (line, operator) in [
            ("migrate && serve", "&&"),
            ("migrate&&serve", "&&"),
            ("serve || true", "||"),
            ("serve | tee log", "|"),
            ("migrate ; serve", ";"),
            ("migrate & serve", "&"),
            ("serve > log && other", ">"),
            ("serve 2>&1 | tee log", ">"),
            ("serve > log --more", ">"),
            ("(serve)", "("),
            ("serve < $(ls)", "<"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(
                error.contains(&format!(": {operator} needs a shell")) && error.contains("sh -c"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_litestream_leaves_out_is_left_out_and_what_it_leaves_alone_is_left_alone() {
        for line in [
            "serve 80 > log",
            "serve 80 >>log 2>&1",
            "serve 80 2>&1",
            "serve 80 &",
            "serve 80;",
            "serve 80 &>log",
        ] {
            assert_eq!(words(line), (vec!["serve".into(), "80".into()], 1), "{line}");
        }
        // These digits are a descriptor number.
        assert_eq!(words("serve 80>log").0, ["serve"]);
        assert_eq!(words("serve x80>log").0, ["serve", "x80"]);
        for (line, word) in
            [("serve $PORT", "$PORT"), ("serve \"${PORT}x\"", "${PORT}x"), ("serve `id`", "`id`")]
        {
            let (found, warnings) = words(line);
            assert_eq!(found, ["serve", word]);
            assert!(warnings > 0, "{line}");
        }
    }
}
