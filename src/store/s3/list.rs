//! ListObjectsV2, all pages.

use std::ops::ControlFlow;

use http::Method;

use super::Inner;
use super::encode::decode_key;
use super::request::Call;
use super::xml::{self, ListEntry};
use crate::base::{Level, LtxId, limits};
use crate::store::{Entry, ErrorKind, Listing, Result, Scope, SideEntry, SideId, StoreError};

impl Inner {
    /// Lists a level, or everything below the prefix by one listing.
    pub(super) async fn list(&self, scope: Scope) -> Result<Vec<Entry>> {
        let Scope::Level(level) = scope else { return Ok(self.list_below(false).await?.files) };
        let root = self.root();
        let mut found = self.list_prefix(&level_prefix(&root, level), &root).await?;
        let cleaned = clean(&root);
        if found.files.is_empty() && cleaned != root {
            found = self.list_prefix(&level_prefix(&cleaned, level), &cleaned).await?;
            self.keep_own(&mut found).await?;
        }
        found.sort();
        Ok(found.files)
    }

    /// Lists everything below the prefix by one listing.
    pub(super) async fn list_all(&self) -> Result<Listing> {
        self.list_below(true).await
    }

    /// `sides`: whether what lies beside the files is worth further listings, where one does not have it.
    async fn list_below(&self, sides: bool) -> Result<Listing> {
        let root = self.root();
        let mut found = self.list_prefix(&root, &root).await?;
        let cleaned = clean(&root);
        if cleaned != root {
            if found.files.is_empty() {
                found = self.list_cleaned(&cleaned, sides).await?;
            }
            if sides {
                // Litestream 0.3 drops empty parts of its keys.
                let old = self.list_prefix(&format!("{cleaned}generations/"), &cleaned).await?;
                found.sides.extend(old.sides);
            }
        }
        found.sort();
        Ok(found)
    }

    fn root(&self) -> String {
        format!("{}/", self.location.prefix)
    }

    /// Some stores (SeaweedFS) drop empty parts of keys: what was put at `/0000/x` is listed as `0000/x`, and a listing
    /// below `/` is empty.
    async fn list_cleaned(&self, root: &str, sides: bool) -> Result<Listing> {
        let mut found = Listing::default();
        if root.is_empty() {
            // Below nothing lies the whole bucket.
            let levels = Level::all().map(|level| level_prefix(root, level));
            for folder in levels.chain(sides.then(|| "times/".to_owned())) {
                let part = self.list_prefix(&folder, root).await?;
                found.files.extend(part.files);
                found.sides.extend(part.sides);
            }
        } else {
            found = self.list_prefix(root, root).await?;
        }
        self.keep_own(&mut found).await?;
        Ok(found)
    }

    /// On stores that keep empty parts `0000/x` is somebody else's object, so that one of those found has to answer to
    /// our name for it.
    async fn keep_own(&self, found: &mut Listing) -> Result<()> {
        if let Some(first) = found.files.first()
            && self.head(&self.key(first.id)).await?.is_none()
        {
            *found = Listing::default();
        }
        Ok(())
    }

    /// All pages of one listing.
    async fn list_prefix(&self, prefix: &str, root: &str) -> Result<Listing> {
        let mut found = Listing::default();
        let mut token: Option<String> = None;
        loop {
            match self.list_page(prefix, root, token.as_deref(), &mut found).await? {
                ControlFlow::Break(()) => return Ok(found),
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
        found: &mut Listing,
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
        for listed in &page.entries {
            match name(listed, root, page.url_encoded) {
                Some(Name::Ltx(id)) => {
                    found.files.push(Entry { id, size: listed.size, modified: listed.modified });
                }
                Some(Name::Side(id)) => {
                    found.sides.push(SideEntry { id, size: listed.size, modified: listed.modified });
                }
                None => {}
            }
        }
        Ok(page.next.map_or(ControlFlow::Break(()), ControlFlow::Continue))
    }
}

fn level_prefix(root: &str, level: Level) -> String {
    format!("{root}{:04x}/", level.get())
}

/// Without empty parts, and with a slash at its end unless nothing is left.
pub(super) fn clean(root: &str) -> String {
    let parts: Vec<&str> = root.split('/').filter(|p| !p.is_empty()).collect();
    if parts.is_empty() { String::new() } else { parts.join("/") + "/" }
}

/// What a key below the root means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Ltx(LtxId),
    Side(SideId),
}

/// `ROOT` + a name that is known; `None` for every other key.
///
/// Stores differ in what they encode, and some say that they did and did not. All keys of the answer begin with what
/// was asked for, so that whichever reading begins with it is the right one.
fn name(listed: &ListEntry, root: &str, url_encoded: bool) -> Option<Name> {
    let below = |rest: &str| ltx_name(rest).map(Name::Ltx).or_else(|| SideId::parse(rest).map(Name::Side));
    let read = |key: &str| key.strip_prefix(root).and_then(below);
    let decoded = || {
        let of = |plus_is_space| read(&decode_key(&listed.key, plus_is_space));
        url_encoded.then(|| of(true).or_else(|| of(false))).flatten()
    };
    decoded().or_else(|| read(&listed.key))
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
            match super::name(&listed, root, encoded) {
                Some(Name::Ltx(id)) => Some((id.level.get(), id.min.0, id.max.0)),
                Some(Name::Side(id)) => panic!("{id} is no LTX file"),
                None => None,
            }
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
    fn what_lies_beside_the_files() {
        let of = |key: &str, encoded| {
            let listed = ListEntry { key: key.to_owned(), size: 7, modified: Millis(1) };
            name(&listed, "a b/", encoded)
        };
        let snapshot = "generations/c9576ca0d0b8b360/snapshots/00000001.snapshot.lz4";
        let times = "times/0000000000000001-000000000000012c.times";
        for path in [snapshot, times] {
            let side = SideId::parse(path).map(Name::Side);
            assert!(side.is_some());
            assert_eq!(of(&format!("a b/{path}"), false), side);
            assert_eq!(of(&format!("a+b%2F{}", path.replace('/', "%2F")), true), side);
            assert_eq!(of(path, false), None);
        }
    }

    #[test]
    fn roots_without_empty_parts() {
        for (root, cleaned) in [("/", ""), ("db/", "db/"), ("db//", "db/"), ("/a//b/", "a/b/"), ("//", "")] {
            assert_eq!(clean(root), cleaned);
        }
    }
}
