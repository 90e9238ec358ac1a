//! What can be wrong with a config file.

use std::fmt;
use std::sync::Arc;

use super::super::{Ambiguity, ConfigError, Origin};
use super::yaml::Mark;

/// A problem, with the file, the line and the column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The file.
    pub path: Arc<str>,
    /// From 1; 0 if the problem has no place.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What it is.
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

/// What is wrong. Values of secret keys are never part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The parser gave up.
    #[error("{0}")]
    Yaml(String),
    /// Nobody knows the key.
    #[error("unknown key {name}; {hint}")]
    UnknownKey {
        /// The key as written.
        name: String,
        /// What was probably meant.
        hint: String,
    },
    /// A list where a text belongs, or the like.
    #[error("{key} needs {expected}")]
    Shape {
        /// The key.
        key: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// A value that does not fit its key.
    #[error("{key}: {value:?} is not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        expected: String,
    },
    /// A variable that is not set.
    #[error(
        "{key}: the variable {name} is not set; set it, or write $$ for a dollar sign, or give --no-expand-env for none \
         of this file to be expanded"
    )]
    Unset {
        /// The key.
        key: &'static str,
        /// The variable.
        name: String,
    },
    /// A dollar sign within a secret. What follows is not named: it may be part of the secret.
    #[error(
        "{key}: a dollar sign is followed by the name of a variable that is not set; write $$ for a dollar sign, or give \
         --no-expand-env"
    )]
    UnsetInSecret {
        /// The key.
        key: &'static str,
    },
    /// `${NAME` with anything but a brace behind it.
    #[error(
        "{key}: write $NAME or ${{NAME}} for a variable, and $$ for a dollar sign; there are no other forms"
    )]
    Form {
        /// The key.
        key: &'static str,
    },
    /// A key that must not be passed over.
    #[error("{key}: {why}")]
    Refused {
        /// The key.
        key: &'static str,
        /// Why.
        why: &'static str,
    },
    /// Keys that do not go together, or one that is missing.
    #[error("{0}")]
    Keys(&'static str),
    /// Two entries for one thing.
    #[error("{what} {name:?} is that of line {other} already; {advice}")]
    Twice {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
        /// Where it stands first.
        other: u32,
        /// What to do.
        advice: &'static str,
    },
    /// The replica does not resolve.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A file that somebody named, and that is not there.
    #[error("there is no such file, though {0} names it")]
    Absent(Origin),
    /// A file that cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}
