//! A value together with the place where it was set.

use std::fmt;
use std::sync::Arc;

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The replica URL.
    Url,
    /// A flag on the command line.
    Flag(&'static str),
    /// An environment variable.
    Env(&'static str),
    /// A line of the config file.
    File {
        /// Path of the file.
        path: Arc<str>,
        /// Line, from 1.
        line: u32,
    },
    /// The host name of the endpoint.
    Endpoint,
    /// The rules for the provider of this name.
    Provider(&'static str),
    /// The value was not set anywhere.
    Default,
}

impl Origin {
    /// Whether the user wrote this value for this replica, so that no better guess may replace it.
    /// An environment variable does not count: hosts of AWS set `AWS_REGION` by themselves.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        matches!(self, Origin::Url | Origin::Flag(_) | Origin::File { .. } | Origin::Endpoint)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Url => f.write_str("the replica URL"),
            Origin::Flag(name) => write!(f, "the flag --{name}"),
            Origin::Env(name) => write!(f, "the environment ({name})"),
            Origin::File { path, line } => write!(f, "the config file ({path}:{line})"),
            Origin::Endpoint => f.write_str("the name of the endpoint"),
            Origin::Provider(name) => write!(f, "what {name} needs"),
            Origin::Default => f.write_str("the default"),
        }
    }
}

/// A value and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value itself.
    pub value: T,
    /// Where the value was set.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// Combines a value with its origin.
    pub const fn new(value: T, origin: Origin) -> Sourced<T> {
        Sourced { value, origin }
    }

    /// Converts the value and keeps the origin.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Sourced<U> {
        Sourced { value: change(self.value), origin: self.origin }
    }
}
