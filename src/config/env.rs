//! The environment as a value, so that tests and `explain` see exactly what the program sees.

use std::collections::BTreeMap;
use std::fmt;

/// Environment variables, taken once at start.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// From names and values, as `std::env::vars()` gives them.
    pub fn new<N: Into<String>, V: Into<String>>(vars: impl IntoIterator<Item = (N, V)>) -> Env {
        Env(vars.into_iter().map(|(n, v)| (n.into(), v.into())).collect())
    }

    /// The value without the white space around it (a key pasted with its newline is a common accident); `None` if
    /// the variable is unset or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|v| v.trim()).filter(|v| !v.is_empty())
    }

    /// The first of `names` that is set, with its name.
    #[must_use]
    pub fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &str)> {
        names.iter().find_map(|n| self.get(n).map(|v| (*n, v)))
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
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
