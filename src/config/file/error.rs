//! Errors of a config file.

use std::fmt;
use std::sync::Arc;

use serde_saphyr::Location;

use crate::config::error::ConfigError;
use crate::config::{Ambiguity, Origin};

/// A position in the file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl From<Location> for Mark {
    fn from(at: Location) -> Mark {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Mark { line: small(at.line()), column: small(at.column()) }
    }
}

/// A problem, with file, line and column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// Path of the file.
    pub path: Arc<str>,
    /// Line, from 1; 0 if the problem has no position.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// The problem itself.
    pub problem: Problem,
}

impl FileError {
    pub(super) fn new(path: &Arc<str>, at: Mark, problem: impl Into<Problem>) -> FileError {
        FileError { path: Arc::clone(path), line: at.line, column: at.column, problem: problem.into() }
    }

    /// The readings of an ambiguous URL, if that is the problem.
    #[must_use]
    pub fn ambiguity(&self) -> Option<&Ambiguity> {
        match &self.problem {
            Problem::Config(ConfigError::Ambiguous(ambiguity)) => Some(ambiguity),
            _ => None,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.problem),
            line => write!(f, "{}:{line}:{}: {}", self.path, self.column, self.problem),
        }
    }
}

impl std::error::Error for FileError {}

/// What is wrong. Values of secret keys are never part of it (I7).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The YAML parser failed.
    #[error("{0}")]
    Yaml(String),
    /// The key is unknown.
    #[error("unknown key {name}; {hint}")]
    UnknownKey {
        /// The key as written.
        name: String,
        /// The key that was probably meant, as a hint.
        hint: String,
    },
    /// The value has the wrong form, such as a list instead of a text.
    #[error("{key} needs {expected}")]
    Shape {
        key: &'static str,
        /// The form that is expected.
        expected: &'static str,
    },
    /// The value does not fit its key.
    #[error("{key}: {value:?} is not {expected}")]
    Value {
        key: &'static str,
        value: String,
        /// The values that are allowed.
        expected: String,
    },
    /// A variable is not set.
    #[error(
        "{key}: the variable {name} is not set; set it, or write $$ for a dollar sign, or give --no-expand-env for none \
         of this file to be expanded"
    )]
    Unset {
        key: &'static str,
        /// The variable.
        name: String,
    },
    /// A dollar sign in a secret is followed by the name of an unset variable. The name is not
    /// shown: it may be part of the secret.
    #[error(
        "{key}: a dollar sign is followed by the name of a variable that is not set; write $$ for a dollar sign, or give \
         --no-expand-env"
    )]
    UnsetInSecret { key: &'static str },
    /// `${NAME` is not closed by a brace.
    #[error(
        "{key}: write $NAME or ${{NAME}} for a variable, and $$ for a dollar sign; there are no other forms"
    )]
    Form { key: &'static str },
    /// A key that must not be ignored is not supported.
    #[error("{key}: {why}")]
    Refused {
        key: &'static str,
        /// The reason and the remedy.
        why: &'static str,
    },
    /// Keys exclude each other, or a key is missing.
    #[error("{0}")]
    Keys(&'static str),
    /// Two entries configure the same thing.
    #[error("{what} {name:?} is that of line {other} already; {advice}")]
    Twice {
        /// The kind of thing.
        what: &'static str,
        name: String,
        /// Line of the first entry.
        other: u32,
        /// The remedy.
        advice: &'static str,
    },
    /// The replica cannot be resolved.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A file that was named explicitly does not exist.
    #[error("there is no such file, though {0} names it")]
    Absent(Origin),
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}
