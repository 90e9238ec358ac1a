//! Flags as users of Litestream write them: one dash before a long name, and `=true` behind a switch.
//!
//! `-config FILE`, `-if-replica-exists` and `-once=true` mean what `--config FILE`, `--if-replica-exists` and `--once` mean. Only whole names
//! that the program knows are rewritten; everything behind `--` is left alone.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use clap::{ArgAction, Command};

/// What is known of a long flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It stands alone.
    Switch,
    /// A value belongs to it.
    Value,
}

/// Rewrites the arguments of `command`.
pub(super) fn normalise(command: &Command, args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let known = long_flags(command);
    let mut out = Vec::new();
    let mut args = args.into_iter();
    // The program's own name.
    out.extend(args.next());
    let mut is_value = false;
    while let Some(arg) = args.next() {
        if std::mem::take(&mut is_value) {
            out.push(arg);
            continue;
        }
        if arg == "--" {
            out.push(arg);
            out.extend(args);
            return out;
        }
        let Some(flag) = Flag::read(&arg, &known) else {
            out.push(arg);
            continue;
        };
        is_value = flag.kind == Kind::Value && flag.value.is_none();
        out.extend(flag.written());
    }
    out
}

struct Flag<'a> {
    name: &'a str,
    kind: Kind,
    value: Option<&'a OsStr>,
}

impl<'a> Flag<'a> {
    fn read(arg: &'a OsStr, known: &BTreeMap<String, Kind>) -> Option<Flag<'a>> {
        let bytes = arg.as_encoded_bytes();
        let end = bytes.iter().position(|b| *b == b'=').unwrap_or(bytes.len());
        // What stands before the equals sign is compared with known names only: ASCII.
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let name = head.strip_prefix("--").or_else(|| head.strip_prefix('-'))?;
        // `-o` is a short flag.
        let kind = *known.get(name).filter(|_| name.len() > 1)?;
        let value = bytes.get(end + 1..).map(OsStr::from_bytes);
        Some(Flag { name, kind, value })
    }

    fn written(&self) -> Option<OsString> {
        let mut text = OsString::from(format!("--{}", self.name));
        match (self.kind, self.value) {
            (Kind::Switch, Some(value)) if is_one_of(value, &["true", "1", "t"]) => {}
            (Kind::Switch, Some(value)) if is_one_of(value, &["false", "0", "f"]) => return None,
            // Anything else is an error that clap words.
            (_, Some(value)) => {
                text.push("=");
                text.push(value);
            }
            (_, None) => {}
        }
        Some(text)
    }
}

fn is_one_of(value: &OsStr, words: &[&str]) -> bool {
    words.iter().any(|w| value.eq_ignore_ascii_case(w))
}

/// All long flags of a command and of those below it.
fn long_flags(command: &Command) -> BTreeMap<String, Kind> {
    let mut known = BTreeMap::from([("help".to_owned(), Kind::Switch), ("version".to_owned(), Kind::Switch)]);
    let mut todo = vec![command];
    while let Some(command) = todo.pop() {
        for arg in command.get_arguments() {
            let alone = matches!(
                arg.get_action(),
                ArgAction::SetTrue
                    | ArgAction::SetFalse
                    | ArgAction::Count
                    | ArgAction::Help
                    | ArgAction::Version
            );
            let kind = if alone { Kind::Switch } else { Kind::Value };
            let names = arg.get_long_and_visible_aliases().into_iter().flatten();
            known.extend(names.map(|name| (name.to_owned(), kind)));
        }
        todo.extend(command.get_subcommands());
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn rewritten(line: &str) -> String {
        let args = line.split(' ').map(OsString::from);
        let out = normalise(&super::super::Cli::command(), args);
        out.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_dash_is_enough_for_a_long_name() {
        for (line, expected) in [
            (
                "lsfast restore -o out.db -if-replica-exists s3://b/p",
                "lsfast restore -o out.db --if-replica-exists s3://b/p",
            ),
            ("lsfast restore -if-replica-exists=true x", "lsfast restore --if-replica-exists x"),
            ("lsfast restore -if-replica-exists=false x", "lsfast restore x"),
            ("lsfast restore --if-replica-exists=maybe x", "lsfast restore --if-replica-exists=maybe x"),
            ("lsfast replicate -log-level=debug a.db", "lsfast replicate --log-level=debug a.db"),
            ("lsfast replicate -log-level debug a.db", "lsfast replicate --log-level debug a.db"),
            ("lsfast -version", "lsfast --version"),
            // Not known, or not a flag at all.
            ("lsfast restore -zzz x", "lsfast restore -zzz x"),
            ("lsfast restore -o -force x", "lsfast restore -o --force x"),
            ("lsfast restore -- -force", "lsfast restore -- -force"),
            // The value of a flag is left alone, whatever it looks like.
            ("lsfast restore -output -force x", "lsfast restore --output -force x"),
            ("lsfast restore --output -force x", "lsfast restore --output -force x"),
        ] {
            assert_eq!(rewritten(line), expected, "{line}");
        }
    }
}
