//! ListObjectsV2, all pages.

use std::ops::ControlFlow;

use http::Method;

use super::Inner;
use super::encode::decode_key;
use super::request::Call;
use super::xml::{self, ListEntry};
use crate::base::{Level, LtxId, limits};
use crate::store::{Entry, ErrorKind, Result, Scope, StoreError};

impl Inner {
    /// Lists a level, or everything below the prefix by one listing.
    pub(super) async fn list(&self, scope: Scope) -> Result<Vec<Entry>> {
        let root = format!("{}/", self.location.prefix);
        let prefix = match scope {
            Scope::All => root.clone(),
            Scope::Level(level) => level_prefix(&root, level),
        };
        let mut entries = self.list_prefix(&prefix, &root).await?;
        let cleaned = clean(&root);
        if entries.is_empty() && cleaned != root {
            entries = self.list_cleaned(scope, &cleaned).await?;
        }
        entries.sort_unstable_by_key(|e| e.id);
        entries.dedup_by_key(|e| e.id);
        Ok(entries)
    }

    /// Some stores (SeaweedFS) drop empty parts of keys: what was put at `/0000/x` is listed as `0000/x`, and a listing
    /// below `/` is empty. On others `0000/x` is somebody else's object, so that one of those found has to answer to
    /// our name for it.
    async fn list_cleaned(&self, scope: Scope, root: &str) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        match scope {
            Scope::All if !root.is_empty() => entries = self.list_prefix(root, root).await?,
            // Below nothing lies the whole bucket.
            Scope::All => {
                for level in Level::all() {
                    entries.extend(self.list_prefix(&level_prefix(root, level), root).await?);
                }
            }
            Scope::Level(level) => entries = self.list_prefix(&level_prefix(root, level), root).await?,
        }
        match entries.first() {
            Some(first) if self.head(&self.key(first.id)).await?.is_none() => Ok(Vec::new()),
            _ => Ok(entries),
        }
    }

    /// All pages of one listing.
    async fn list_prefix(&self, prefix: &str, root: &str) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut token: Option<String> = None;
        loop {
            match self.list_page(prefix, root, token.as_deref(), &mut entries).await? {
                ControlFlow::Break(()) => return Ok(entries),
                ControlFlow::Continue(next) if token.as_ref() == Some(&next) => {
                    let bucket = &self.location.bucket;
                    let message =
                        format!("LIST s3://{bucket}/{prefix}: the store answers the same page again");
                    return Err(StoreError::new(ErrorKind::Corrupt, message));
                }
                ControlFlow::Continue(next) => token = Some(next),
            }
        }
    }

    async fn list_page(
        &self,
        prefix: &str,
        root: &str,
        token: Option<&str>,
        entries: &mut Vec<Entry>,
    ) -> Result<ControlFlow<(), String>> {
        let mut call = Call::new(Method::GET, None)
            .query("encoding-type", "url")
            .query("list-type", "2")
            .query("prefix", prefix);
        if let Some(token) = token {
            call = call.query("continuation-token", token);
        }
        // One page has up to 1,000 objects; it comes at the pace of a large answer.
        call.answer_bytes = limits::XML_BYTES as u64;
        let reply = self.run_bounded(&call, limits::XML_BYTES).await.map_err(|f| self.error(&call, f))?;
        let page = xml::list(&reply.body).map_err(|e| {
            let message = format!("LIST s3://{}/{prefix}: {e}", self.location.bucket);
            StoreError::new(ErrorKind::Corrupt, message).with_source(e)
        })?;
        entries.extend(page.entries.iter().filter_map(|e| entry(e, root, page.url_encoded)));
        Ok(page.next.map_or(ControlFlow::Break(()), ControlFlow::Continue))
    }
}

fn level_prefix(root: &str, level: Level) -> String {
    format!("{root}{:04x}/", level.get())
}

/// Without empty parts, and with a slash at its end unless nothing is left.
fn clean(root: &str) -> String {
    let parts: Vec<&str> = root.split('/').filter(|p| !p.is_empty()).collect();
    if parts.is_empty() { String::new() } else { parts.join("/") + "/" }
}

/// `ROOT` + `LLLL/NAME` as an entry; `None` for every other key.
///
/// Stores differ in what they encode, and some say that they did and did not. All keys of the answer begin with what
/// was asked for, so that whichever reading begins with it is the right one.
fn entry(listed: &ListEntry, root: &str, url_encoded: bool) -> Option<Entry> {
    let read = |key: &str| key.strip_prefix(root).and_then(ltx_name);
    let decoded = || {
        let of = |plus_is_space| read(&decode_key(&listed.key, plus_is_space));
        url_encoded.then(|| of(true).or_else(|| of(false))).flatten()
    };
    let id = decoded().or_else(|| read(&listed.key))?;
    Some(Entry { id, size: listed.size, modified: listed.modified })
}

/// `LLLL/NAME`
fn ltx_name(rest: &str) -> Option<LtxId> {
    let (level, name) = rest.split_once('/')?;
    if level.len() != 4 || level.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    LtxId::parse_file_name(Level::new(u32::from_str_radix(level, 16).ok()?).ok()?, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Millis;

    #[test]
    fn only_names_of_ltx_files_below_the_prefix() {
        let name = "0000000000000001-000000000000000a.ltx";
        let of = |key: String, root: &str, encoded: bool| {
            let listed = ListEntry { key, size: 7, modified: Millis(1) };
            entry(&listed, root, encoded).map(|e| (e.id.level.get(), e.id.min.0, e.id.max.0))
        };
        assert_eq!(of(format!("db/0009/{name}"), "db/", false), Some((9, 1, 10)));
        assert_eq!(of(format!("/0000/{name}"), "/", false), Some((0, 1, 10)));
        assert_eq!(of(format!("a%20b%2F/0001/{name}"), "a b//", true), Some((1, 1, 10)));
        assert_eq!(of(format!("a+b/0001/{name}"), "a b/", true), Some((1, 1, 10)));
        assert_eq!(of(format!("a+b%2F0001/{name}"), "a+b/", true), Some((1, 1, 10)));
        assert_eq!(of(format!("a%20/0001/{name}"), "a%20/", true), Some((1, 1, 10)));
        for key in [
            format!("db/9/{name}"),
            format!("db/000a/{name}"),
            format!("db/000A/{name}"),
            format!("db/+001/{name}"),
            format!("db/0000/x/{name}"),
            format!("db/0000/{name}.tmp"),
            format!("other/0000/{name}"),
            "db/generations/x".to_owned(),
            "db/".to_owned(),
        ] {
            assert_eq!(of(key.clone(), "db/", false), None, "{key}");
        }
    }

    #[test]
    fn roots_without_empty_parts() {
        for (root, cleaned) in [("/", ""), ("db/", "db/"), ("db//", "db/"), ("/a//b/", "a/b/"), ("//", "")] {
            assert_eq!(clean(root), cleaned);
        }
    }
}
