//! Accepts flags as users of Litestream write them: one dash before a long name, and `=true` after
//! a switch.
//!
//! `-config FILE`, `-if-replica-exists` and `-once=true` mean `--config FILE`,
//! `--if-replica-exists` and `--once`. Only whole names of known flags are rewritten; everything
//! after `--` stays as it is.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Command};

use crate::config::{connection_path, database_path};

/// Parses an argument that is the path of a database, also as a connection string:
/// `sqlite:///PATH`, or SQLite's `file:PATH`.
pub(super) fn database() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|arg| match arg.to_str().and_then(database_path) {
        Some(path) if path.is_empty() => Err(NO_PATH),
        Some(path) => Ok(PathBuf::from(path)),
        None if arg.is_empty() => Err(NO_PATH),
        None => Ok(PathBuf::from(arg)),
    })
}

/// Parses an argument that is the path of a database or the URL of a replica. `sqlite:///PATH` is
/// the path of a database.
pub(super) fn database_or_url(arg: &str) -> Result<String, &'static str> {
    match connection_path(arg).unwrap_or(arg) {
        "" => Err(NO_PATH),
        path => Ok(path.to_owned()),
    }
}

const NO_PATH: &str = "the path of the database is missing";

/// Whether a long flag takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The flag has no value.
    Switch,
    /// The flag takes a value.
    Value,
}

/// Rewrites the arguments of `command`.
pub(super) fn normalise(command: &Command, args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let known = long_flags(command);
    let mut out = Vec::new();
    let mut args = args.into_iter();
    // The name of the program.
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
        // Known names are ASCII, so a name that is not UTF-8 is unknown.
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
            // clap reports any other value as an error.
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

/// All long flags of a command and of its subcommands.
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
            // A value that may be left out is only in the word of its flag: `--json=litestream`.
            let kind = if alone || arg.is_require_equals_set() { Kind::Switch } else { Kind::Value };
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

    #[test]
    fn a_database_is_named_by_its_path_or_by_a_connection_string() {
        let command = Command::new("x").arg(clap::Arg::new("db").value_parser(database()));
        let read = |arg: &str| {
            let matches = command.clone().try_get_matches_from(["x", arg]).ok()?;
            matches.get_one::<PathBuf>("db").map(|p| p.display().to_string())
        };
        for (arg, path) in [
            ("app.db", "app.db"),
            ("/data/app.db", "/data/app.db"),
            ("sqlite:///data/app.db", "/data/app.db"),
            ("sqlite:////data/app.db?mode=rwc", "/data/app.db"),
            ("sqlite3:///data/app.db#x", "/data/app.db"),
            ("sqlite://data/app.db", "data/app.db"),
            ("sqlite:app.db", "app.db"),
            ("file:app.db?cache=shared", "app.db"),
            ("file:///data/my%20app.db", "/data/my app.db"),
            ("file://localhost/data/app.db", "/data/app.db"),
            ("notes:app.db", "notes:app.db"),
            ("./sqlite:app.db", "./sqlite:app.db"),
        ] {
            assert_eq!(read(arg).as_deref(), Some(path), "{arg}");
        }
        assert_eq!((read("sqlite://"), read("")), (None, None));
        // Here the path may name a directory.
        assert_eq!(database_or_url("file:///data/replica").unwrap(), "file:///data/replica");
        assert_eq!(database_or_url("sqlite:///data/app.db").unwrap(), "/data/app.db");
    }

    use clap::CommandFactory as _;

    fn rewritten(line: &str) -> String {
        let args = line.split(' ').map(OsString::from);
        let out = normalise(&crate::cli::args::Cli::command(), args);
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
            ("lsfast ltx -json -level all x", "lsfast ltx --json --level all x"),
            ("lsfast ltx -json=litestream -level all x", "lsfast ltx --json=litestream --level all x"),
            ("lsfast ltx -json=false x", "lsfast ltx x"),
            // Unknown, or not a flag.
            ("lsfast restore -zzz x", "lsfast restore -zzz x"),
            ("lsfast restore -o -force x", "lsfast restore -o --force x"),
            ("lsfast restore -- -force", "lsfast restore -- -force"),
            // The value of a flag is never rewritten.
            ("lsfast restore -output -force x", "lsfast restore --output -force x"),
            ("lsfast restore --output -force x", "lsfast restore --output -force x"),
        ] {
            assert_eq!(rewritten(line), expected, "{line}");
        }
    }
}
