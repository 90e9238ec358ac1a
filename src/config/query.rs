//! Parameters of a replica URL, in camelCase or with hyphens.

use super::error::ConfigError;
use super::names::{PARAMETERS, fold, nearest};
use super::text::{decode, shown};

/// Parameters by their documented names.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Parses the part of `url` after the question mark.
    pub(super) fn parse(query: &str, url: &str) -> Result<Query, ConfigError> {
        let mut found = Query::default();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
            let spaced = value.replace('+', " ");
            let value = decode(&spaced).ok_or_else(|| ConfigError::Escape(shown(url)))?;
            let known = PARAMETERS.into_iter().find(|n| fold(n) == fold(name));
            let Some(known) = known else {
                let (url, name) = (shown(url), name.to_owned());
                return Err(ConfigError::Parameter { nearest: nearest(&name), url, name });
            };
            // An empty one counts as missing, here too.
            if !value.is_empty() {
                found.0.retain(|(n, _)| *n != known);
                found.0.push((known, value));
            }
        }
        Ok(found)
    }

    /// The value of a parameter; `None` if it is missing or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_and_suggestions() {
        let q = Query::parse("forcePathStyle=true&skip-verify&endpoint=http%3A%2F%2Fx%3A1&region=", "s3://b")
            .unwrap();
        assert_eq!(q.get("force-path-style"), Some("true"));
        assert_eq!(q.get("skip-verify"), Some("true"));
        assert_eq!(q.get("endpoint"), Some("http://x:1"));
        assert_eq!(q.get("region"), None);
        // The readings of an ambiguous URL repeat its parameters after their own endpoint.
        let q = Query::parse("endpoint=https://h&endpoint=", "s3://b").unwrap();
        assert_eq!(q.get("endpoint"), Some("https://h"));
        let e = Query::parse("endpiont=x", "s3://b/p?endpiont=x").unwrap_err().to_string();
        assert_eq!(e, r#"replica URL "s3://b/p": unknown parameter "endpiont"; did you mean "endpoint"?"#);
        let e = Query::parse("zzz=x", "s3://b").unwrap_err().to_string();
        assert!(e.contains("known are endpoint, region"), "{e}");
    }
}
