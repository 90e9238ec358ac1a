//! ListObjectsV2, over all pages.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use http::Method;

use super::call::{Call, Reply};
use super::failure::{Class, Failure};
use super::inner::Inner;
use super::optional_headers::may_be_refusal;
use super::pages::{Begin, Pages, goes_on, lacks, readings};
use super::web_page::unbelievable;
use super::xml::{self, ListEntry, ListPage};
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid, limits, untrusted};
use crate::store::api::{ListedPage, Result, Scope};
use crate::store::{Entry, ErrorKind, Listing, SideEntry, SideId, StoreError};

/// Longest object of a replica, in bytes (8.8 TB). More in a listing is an error, so that the total
/// of a listing fits into 64 bits.
const LISTED_BYTES: u64 = 1 << 43;
const _: () = assert!(LISTED_BYTES.checked_mul(limits::LIST_OBJECTS as u64).is_some(), "a sum can overflow");

impl Inner {
    /// Lists one level, or everything below the prefix with a single listing.
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
        self.note_listed(&found);
        Ok(found.files)
    }

    /// Lists everything below the prefix with a single listing.
    pub(super) async fn list_all(&self) -> Result<Listing> {
        self.list_below(true).await
    }

    /// `sides`: whether to make further listings for the side files (times, old generations) that
    /// the first listing does not contain.
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
        self.note_listed(&found);
        Ok(found)
    }

    /// One page of the objects after a level-0 file. `None` where the store may list this replica
    /// under another root.
    pub(super) async fn list_page_after(&self, after: Txid) -> Result<Option<ListedPage>> {
        let root = self.root();
        if clean(&root) != root {
            return Ok(None);
        }
        let mut begin = Begin::First;
        if after > Txid(0) {
            begin = Begin::After(self.key(LtxId::raw(after)));
        }
        let page = match self.list_page(&root, &begin).await {
            // A store that refuses `start-after` may still list everything.
            Err(e) if begin != Begin::First && !e.is_transient() => return Ok(None),
            page => page?,
        };
        if lacks(&page) > 0 {
            return Ok(None);
        }
        let mut found = Listing::default();
        take(&page, &root, &mut found).map_err(|why| self.unlistable(&root, &why))?;
        found.sort();
        let cut = goes_on(&page);
        let last = found.files.last().map(|e| e.id);
        match (cut, last) {
            // Keys in no order, or none of ours, tell nothing of what a cut page lacks.
            (true, None) => Ok(None),
            (cut, last) => Ok(Some(ListedPage { files: found.files, last: last.filter(|_| cut) })),
        }
    }

    /// Remembers that the store lists objects of this replica under their own names.
    pub(super) fn note_listed(&self, found: &Listing) {
        if let Some(last) = found.files.last() {
            self.listed.store(true, Ordering::Relaxed);
            *self.listed_last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last.id);
        }
    }

    pub(super) fn root(&self) -> String {
        format!("{}/", self.location.prefix)
    }

    /// Lists below the cleaned root. Some stores (SeaweedFS) drop empty parts of keys: an object
    /// that was put at `/0000/x` is listed as `0000/x`, and a listing below `/` is empty.
    async fn list_cleaned(&self, root: &str, sides: bool) -> Result<Listing> {
        let mut found = Listing::default();
        if root.is_empty() {
            // An empty root would list the whole bucket, so each folder is listed by itself.
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

    /// Keeps the objects found only if the first of them also answers to this replica's own key. On
    /// stores that keep empty parts, `0000/x` belongs to someone else.
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
        let broken = |why: &str| self.unlistable(prefix, why);
        let mut found = Listing::default();
        let mut pages = Pages::new(prefix);
        loop {
            let page = self.list_page(prefix, pages.begin()).await?;
            take(&page, root, &mut found).map_err(|why| broken(&why))?;
            let new = || {
                let named = page.entries.iter().filter(|e| name(e, root, page.url_encoded).is_some()).count();
                let before = found.len().saturating_sub(named);
                found.sort();
                found.len() > before
            };
            let more =
                pages.next(&page, new).map_err(|why| broken(&format!("the listing is not whole: {why}")))?;
            if found.len() > limits::LIST_OBJECTS {
                return Err(broken(&format!("it names more than {} objects", limits::LIST_OBJECTS)));
            }
            if !more {
                return Ok(found);
            }
        }
    }

    /// The error for a listing that cannot be read.
    pub(super) fn unlistable(&self, prefix: &str, why: &str) -> StoreError {
        StoreError::new(ErrorKind::Corrupt, format!("LIST s3://{}/{prefix}: {why}", self.location.bucket))
    }

    pub(super) async fn list_page(&self, prefix: &str, begin: &Begin) -> Result<ListPage> {
        let mut call = Call::new(Method::GET, None);
        if !matches!(begin, Begin::Marker(_)) {
            call = call.query("list-type", "2");
        }
        call = call.query("prefix", prefix);
        call = match begin {
            Begin::First => call,
            Begin::Token(token) => call.query("continuation-token", token),
            Begin::After(key) => call.query("start-after", key),
            Begin::Marker(key) => call.query("marker", key),
        };
        // One page has up to 1,000 objects, so the deadline is that of a large response.
        call.answer_bytes = limits::XML_BYTES as u64;
        let done = self.run_listing(&call).await;
        let reply = done.map_err(|f| self.error(&call, of_no_bucket(f)))?;
        if reply.body.trim_ascii().is_empty() {
            return Err(self.error(&call, unbelievable("empty", b"")));
        }
        xml::list(&reply.body).map_err(|e| {
            let message = format!("LIST s3://{}/{prefix}: {e}", self.location.bucket);
            StoreError::new(ErrorKind::Corrupt, message).with_source(e)
        })
    }
}

impl Inner {
    /// Sends a listing, with `encoding-type` unless the store refuses that. Names of a replica need
    /// no encoding, and its prefix rarely does.
    pub(super) async fn run_listing(&self, plain: &Call<'_>) -> std::result::Result<Reply, Failure> {
        let refused = &self.client.refused.encoding_type;
        if refused.load(Ordering::Relaxed) {
            return self.run_bounded(plain, limits::XML_BYTES).await;
        }
        let mut encoding = plain.clone();
        encoding.query.insert(0, ("encoding-type", "url".into()));
        match self.run_bounded(&encoding, limits::XML_BYTES).await {
            Err(failure) if may_be_refusal(&failure) => {
                // Only what succeeds without it was refused for it.
                let reply = self.run_bounded(plain, limits::XML_BYTES).await.ok();
                let Some(reply) = reply.filter(|r| xml::list(&r.body).is_ok()) else { return Err(failure) };
                if !refused.swap(true, Ordering::Relaxed) {
                    tracing::debug!(replica = %self.url, "the store refuses encoding-type: it is left out from now on");
                }
                Ok(reply)
            }
            done => done,
        }
    }
}

/// A listing asks for no object, and a store says which bucket does not exist. So any other 404 is
/// the answer of something else, such as a load balancer without its store, and an outage.
fn of_no_bucket(failure: Failure) -> Failure {
    match failure.class {
        Class::Final(ErrorKind::NotFound) => Failure { class: Class::Transient, ..failure },
        _ => failure,
    }
}

/// Takes the replica's objects from a page. Other keys belong to others.
///
/// # Errors
/// Which object of the replica is longer than any can be.
pub(super) fn take(page: &ListPage, root: &str, found: &mut Listing) -> std::result::Result<(), String> {
    // If the store does not say when an object was written, it counts as new, so that retention
    // keeps it.
    let now = Millis::now();
    for listed in &page.entries {
        let (size, modified) = (listed.size, listed.modified.unwrap_or(now));
        let Some(name) = name(listed, root, page.url_encoded) else { continue };
        if size > LISTED_BYTES {
            return Err(format!(
                "the store says that {} has {size} bytes, more than an object of a replica can have",
                untrusted::quote(&listed.key)
            ));
        }
        match name {
            Name::Ltx(id) => found.files.push(Entry { id, size, modified }),
            Name::Side(id) => found.sides.push(SideEntry { id, size, modified }),
        }
    }
    Ok(())
}

pub(super) fn level_prefix(root: &str, level: Level) -> String {
    format!("{root}{:04x}/", level.get())
}

/// The root without empty parts, and with a slash at its end unless nothing is left.
pub(super) fn clean(root: &str) -> String {
    let parts: Vec<&str> = root.split('/').filter(|p| !p.is_empty()).collect();
    if parts.is_empty() { String::new() } else { parts.join("/") + "/" }
}

/// The kind of object that a key below the root names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Ltx(LtxId),
    Side(SideId),
}

/// Parses `root` followed by a known name; `None` for every other key.
///
/// Stores differ in what they encode, and some announce an encoding that they do not apply. All
/// keys of the response begin with the requested prefix, so the reading that begins with it is the
/// right one.
fn name(listed: &ListEntry, root: &str, url_encoded: bool) -> Option<Name> {
    let below = |rest: &str| ltx_name(rest).map(Name::Ltx).or_else(|| SideId::parse(rest).map(Name::Side));
    readings(&listed.key, url_encoded).find_map(|key| key.strip_prefix(root).and_then(below))
}

/// Parses `LLLL/NAME`.
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

    #[test]
    fn only_names_of_ltx_files_below_the_prefix() {
        let name = "0000000000000001-000000000000000a.ltx";
        let of = |key: String, root: &str, encoded: bool| {
            let listed = ListEntry { key, size: 7, modified: Some(Millis(1)), ..ListEntry::default() };
            match crate::store::s3::list::name(&listed, root, encoded) {
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
    fn sizes_that_no_object_has() {
        let name = "0000000000000001-000000000000000a.ltx";
        let taken = |key: String, size: u64| {
            let entry = ListEntry { key, size, ..ListEntry::default() };
            let page = ListPage { entries: vec![entry], ..ListPage::default() };
            let mut found = Listing::default();
            take(&page, "db/", &mut found).map(|()| found.files.len())
        };
        let ours = format!("db/0001/{name}");
        assert_eq!(taken(ours.clone(), LISTED_BYTES), Ok(1));
        for size in [LISTED_BYTES + 1, 1 << 63, u64::MAX] {
            let why = taken(ours.clone(), size).unwrap_err();
            assert!(why.contains(&ours) && why.contains(&size.to_string()), "{why}");
        }
        // Objects of others have any size.
        assert_eq!(taken("db/film.mkv".to_owned(), u64::MAX), Ok(0));
    }

    #[test]
    fn what_lies_beside_the_files() {
        let of = |key: &str, encoded| {
            let listed =
                ListEntry { key: key.to_owned(), size: 7, modified: Some(Millis(1)), ..ListEntry::default() };
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
