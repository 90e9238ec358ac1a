//! Parameters of a replica URL, in camelCase or with hyphens.

use super::error::ConfigError;
use super::text::{decode, shown};
use super::values::parse_bool;

/// Every known parameter, as documented.
pub(super) const NAMES: [&str; 14] = [
    "endpoint",
    "region",
    "force-path-style",
    "skip-verify",
    "ca-cert",
    "sign-payload",
    "checksum",
    "require-content-md5",
    "storage-class",
    "part-size",
    "concurrency",
    "sse-kms-key-id",
    "requester-pays",
    "expected-bucket-owner",
];

/// How many letters may differ between a mistyped name and the suggested one.
const DISTANCE_MAX: usize = 3;

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
            let known = NAMES.into_iter().find(|n| fold(n) == fold(name));
            let Some(known) = known else {
                let (url, name) = (shown(url), name.to_owned());
                return Err(ConfigError::Parameter { nearest: nearest(&name), url, name });
            };
            found.0.retain(|(n, _)| *n != known);
            found.0.push((known, value));
        }
        Ok(found)
    }

    /// The value of a parameter; `None` if it is missing or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| *n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// A boolean parameter.
    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match parse_bool(text) {
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError::Value {
                what: format!("parameter {name}"),
                value: text.to_owned(),
                expected: "true or false",
            }),
        }
    }
}

/// The common form of `force-path-style`, `forcePathStyle` and `force_path_style`.
fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
}

fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(NAMES, name)
}

/// The known name that was probably meant by `name`.
pub(super) fn nearest_of<'n>(names: impl IntoIterator<Item = &'n str>, name: &str) -> Option<&'n str> {
    let name = fold(name);
    names
        .into_iter()
        .map(|n| (distance(&fold(n), &name), n))
        .min()
        .filter(|(d, n)| *d <= DISTANCE_MAX && *d * 2 <= n.len())
        .map(|(_, n)| n)
}

/// Number of letters to insert, remove or replace between `a` and `b` (Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_and_suggestions() {
        let q = Query::parse("forcePathStyle=true&skip-verify&endpoint=http%3A%2F%2Fx%3A1&region=", "s3://b")
            .unwrap();
        assert_eq!(q.flag("force-path-style").unwrap(), Some(true));
        assert_eq!(q.flag("skip-verify").unwrap(), Some(true));
        assert_eq!(q.get("endpoint"), Some("http://x:1"));
        assert_eq!(q.get("region"), None);
        let e = Query::parse("endpiont=x", "s3://b/p?endpiont=x").unwrap_err().to_string();
        assert_eq!(e, r#"replica URL "s3://b/p": unknown parameter "endpiont"; did you mean "endpoint"?"#);
        let e = Query::parse("zzz=x", "s3://b").unwrap_err().to_string();
        assert!(e.contains("known are endpoint, region"), "{e}");
        let e =
            Query::parse("skipVerify=maybe", "s3://b").unwrap().flag("skip-verify").unwrap_err().to_string();
        assert_eq!(e, r#"parameter skip-verify: "maybe" is not true or false"#);
    }
}
