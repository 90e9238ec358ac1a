//! The environment as a value, so that tests and `explain` see exactly what the program sees.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Environment variables and the working directory, read once at start.
#[derive(Clone, Default)]
pub struct Env {
    vars: BTreeMap<String, String>,
    directory: Option<PathBuf>,
}

impl Env {
    /// Creates an environment from names and values, such as those of `std::env::vars()`.
    pub fn new<N: Into<String>, V: Into<String>>(vars: impl IntoIterator<Item = (N, V)>) -> Env {
        Env { vars: vars.into_iter().map(|(n, v)| (n.into(), v.into())).collect(), directory: None }
    }

    /// Sets the directory that relative paths refer to. Without one they stay relative.
    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Env {
        self.directory = Some(directory.into());
        self
    }

    /// Makes `path` absolute and removes `.` and `..`. A leading `~/` means the home directory, if
    /// there is one.
    #[must_use]
    pub fn absolute(&self, path: &Path) -> PathBuf {
        let at_home = match (path.strip_prefix("~"), self.get("HOME")) {
            (Ok(rest), Some(home)) => Some(Path::new(home).join(rest)),
            _ => None,
        };
        let path = at_home.as_deref().unwrap_or(path);
        let path = match &self.directory {
            Some(directory) => directory.join(path),
            None => path.to_path_buf(),
        };
        let mut clean = PathBuf::new();
        for part in path.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => {
                    let inside = clean.components().next_back();
                    match inside {
                        Some(Component::Normal(_)) => _ = clean.pop(),
                        Some(Component::RootDir) => {}
                        _ => clean.push(".."),
                    }
                }
                part => clean.push(part),
            }
        }
        clean
    }

    /// The value unchanged, even if it is empty.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// The value without surrounding white space (a key pasted with its newline is a common
    /// accident); `None` if the variable is unset or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(|v| v.trim()).filter(|v| !v.is_empty())
    }

    /// The first of `names` that is set, as name and value.
    #[must_use]
    pub fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &str)> {
        names.iter().find_map(|n| self.get(n).map(|v| (*n, v)))
    }
}

/// I7: shows names only, because values may be secrets.
impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.vars.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_unset_and_debug_shows_names_only() {
        let env = Env::new([("A", ""), ("B", " key\n"), ("C", "hush")]);
        assert_eq!(env.get("A"), None);
        assert_eq!(env.get("B"), Some("key"));
        assert_eq!(env.first(&["A", "B", "C"]), Some(("B", "key")));
        assert_eq!(format!("{env:?}"), r#"{"A", "B", "C"}"#);
    }
}
