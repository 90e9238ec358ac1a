//! The way through the pages of a listing: where the next one begins, and whether the whole ever
//! ends.
//!
//! The standard is a flag that there is more, and a token for it. Some stores set the flag and give
//! no token; then the next page begins after the last key (`start-after`, or `marker` where the
//! store speaks the first version only). Tokens may also lead in a circle, or for ever on. A
//! listing that was cut short looks like an older state of the replica, so that there is no third
//! way: every page, or an error.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use tokio::time::Instant;

use super::encode::decode_key;
use super::xml::ListPage;
use crate::base::limits;

/// Objects of a page where the request names no number.
const PAGE_KEYS: usize = 1_000;

/// Where a page begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Begin {
    /// At the first key.
    #[default]
    First,
    /// Where the store says.
    Token(String),
    /// After this key.
    After(String),
    /// The same in the first version of the request.
    Marker(String),
}

/// What is known of the pages so far.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    prefix: &'a str,
    begin: Begin,
    /// The greatest key.
    last: Option<String>,
    /// The tokens, as hashes: a store may make them as long as it likes.
    tokens: HashSet<u64>,
    hasher: RandomState,
    pages: usize,
    idle: usize,
    started: Instant,
}

impl Pages<'_> {
    /// Of a listing below `prefix`.
    pub(super) fn new(prefix: &str) -> Pages<'_> {
        Pages {
            prefix,
            begin: Begin::First,
            last: None,
            tokens: HashSet::new(),
            hasher: RandomState::new(),
            pages: 0,
            idle: 0,
            started: Instant::now(),
        }
    }

    /// Where the page to ask for begins.
    pub(super) fn begin(&self) -> &Begin {
        &self.begin
    }

    /// Takes a page; true if there is another one. `new` tells whether the page named an object
    /// that no page before it did; it is asked only if the keys do not grow.
    ///
    /// # Errors
    /// Why the rest of the listing cannot be had.
    pub(super) fn next(&mut self, page: &ListPage, new: impl FnOnce() -> bool) -> Result<bool, String> {
        if page.grouped {
            return Err("the store groups keys by their beginning, which it was not asked to".into());
        }
        let keys: Vec<String> = page.entries.iter().map(|e| self.decoded(&e.key, page.url_encoded)).collect();
        let greatest = keys.iter().max();
        let grows = greatest > self.last.as_ref();
        let full = page.token.is_some() || keys.len() >= PAGE_KEYS;
        if !page.truncated.unwrap_or(full) {
            return Ok(false);
        }
        self.pages += 1;
        if !grows && !new() {
            self.idle += 1;
        }
        if self.pages >= limits::LIST_PAGES || self.idle >= limits::LIST_IDLE_PAGES {
            return Err(format!(
                "it has no end: after {} pages, {} of them without anything new, the store still has more",
                self.pages, self.idle
            ));
        }
        if self.started.elapsed() >= limits::LIST_TIME {
            return Err(format!("it has no end after {}s", limits::LIST_TIME.as_secs()));
        }
        let begin = self.following(page, &keys, grows)?;
        if grows {
            self.last = greatest.cloned();
        }
        self.begin = begin;
        Ok(true)
    }

    fn following(&mut self, page: &ListPage, keys: &[String], grows: bool) -> Result<Begin, String> {
        if let Some(token) = &page.token {
            if !self.tokens.insert(self.hasher.hash_one(token)) {
                return Err("the store leads from page to page in a circle".into());
            }
            return Ok(Begin::Token(token.clone()));
        }
        let marker = page.marker.as_ref().map(|m| self.decoded(m, page.url_encoded));
        if let Some(marker) = marker.filter(|m| grows && self.last.as_ref().is_none_or(|l| m > l)) {
            return Ok(Begin::Marker(marker));
        }
        let stuck = || "the store says that there is more, and not where it begins".to_owned();
        match (&self.begin, keys.last()) {
            (_, None) => Err(stuck()),
            (_, Some(last)) if grows => {
                // After the last key comes what is missing only where keys come in order.
                if !keys.is_sorted() {
                    return Err(stuck());
                }
                let marks = matches!(self.begin, Begin::Marker(_));
                Ok(if marks { Begin::Marker(last.clone()) } else { Begin::After(last.clone()) })
            }
            // It does not know `start-after`.
            (Begin::After(after), _) => Ok(Begin::Marker(after.clone())),
            _ => Err(stuck()),
        }
    }

    /// A key as it is. Stores differ in what they encode, and some say that they did and did not.
    fn decoded(&self, key: &str, url_encoded: bool) -> String {
        let mut readings = readings(key, url_encoded);
        let first = readings.next().unwrap_or_default();
        if first.starts_with(self.prefix) {
            return first;
        }
        readings.find(|r| r.starts_with(self.prefix)).unwrap_or(first)
    }
}

/// What a key of a listing can mean, the likeliest first.
pub(super) fn readings(key: &str, url_encoded: bool) -> impl Iterator<Item = String> {
    let decoded = [true, false].into_iter().map(|plus| decode_key(key, plus));
    let plain = std::iter::once(key.to_owned());
    let (first, last) = if url_encoded { (None, Some(plain)) } else { (Some(plain), None) };
    first.into_iter().flatten().chain(decoded).chain(last.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::s3::xml::ListEntry;

    fn page(keys: &[&str], truncated: Option<bool>, token: Option<&str>) -> ListPage {
        let entry = |k: &&str| ListEntry { key: (*k).to_owned(), size: 1, ..ListEntry::default() };
        ListPage {
            entries: keys.iter().map(entry).collect(),
            truncated,
            token: token.map(str::to_owned),
            ..ListPage::default()
        }
    }

    fn walk(pages: &mut Pages<'_>, page: &ListPage) -> Result<Option<Begin>, String> {
        Ok(pages.next(page, || false)?.then(|| pages.begin().clone()))
    }

    #[test]
    fn tokens_lead_on_but_not_in_a_circle() {
        let mut pages = Pages::new("p/");
        let token = |t: &str| Ok(Some(Begin::Token(t.to_owned())));
        assert_eq!(walk(&mut pages, &page(&["p/2", "p/1"], Some(true), Some("a"))), token("a"));
        assert_eq!(walk(&mut pages, &page(&[], Some(true), Some("b"))), token("b"));
        assert_eq!(walk(&mut pages, &page(&["p/0"], None, Some("c"))), token("c"));
        assert!(walk(&mut pages, &page(&["p/9"], Some(true), Some("a"))).unwrap_err().contains("circle"));
        assert_eq!(walk(&mut Pages::new(""), &page(&["p/2"], Some(false), Some("a"))), Ok(None));
        assert_eq!(walk(&mut Pages::new(""), &page(&[], None, None)), Ok(None));
    }

    #[test]
    fn without_a_token_it_goes_on_after_the_last_key() {
        let mut pages = Pages::new("p q/");
        let mut first = page(&["p%20q/1", "p%20q/2"], Some(true), None);
        first.url_encoded = true;
        assert_eq!(walk(&mut pages, &first), Ok(Some(Begin::After("p q/2".into()))));
        assert_eq!(
            walk(&mut pages, &page(&["p q/3", "p q/4"], Some(true), None)),
            Ok(Some(Begin::After("p q/4".into())))
        );
        // The same again: the store may know the first version of the request only.
        let same = page(&["p q/3", "p q/4"], Some(true), None);
        assert_eq!(walk(&mut pages, &same), Ok(Some(Begin::Marker("p q/4".into()))));
        let more = page(&["p q/5"], Some(true), None);
        assert_eq!(walk(&mut pages, &more), Ok(Some(Begin::Marker("p q/5".into()))));
        walk(&mut pages, &more).unwrap_err();

        let marked = ListPage { marker: Some("p/2".into()), ..page(&["p/1", "p/2"], Some(true), None) };
        assert_eq!(walk(&mut Pages::new("p/"), &marked), Ok(Some(Begin::Marker("p/2".into()))));
        // What is missing cannot be told.
        walk(&mut Pages::new(""), &page(&["p/2", "p/1"], Some(true), None)).unwrap_err();
        walk(&mut Pages::new(""), &page(&[], Some(true), None)).unwrap_err();
        // A full page that does not say whether it is the last.
        let keys: Vec<String> = (0..PAGE_KEYS).map(|n| format!("{n:04}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(
            walk(&mut Pages::new(""), &page(&keys, None, None)),
            Ok(Some(Begin::After("0999".into())))
        );
    }

    #[test]
    fn it_ends() {
        let endless = |key: &dyn Fn(usize) -> String, new: bool| {
            let mut pages = Pages::new("");
            (0..).find(|n| {
                let (key, token) = (key(*n), n.to_string());
                pages.next(&page(&[&key], Some(true), Some(&token)), || new).is_err()
            })
        };
        assert_eq!(endless(&|_| "same".into(), false), Some(limits::LIST_IDLE_PAGES));
        assert_eq!(endless(&|n| format!("{n:09}"), false), Some(limits::LIST_PAGES - 1));
        // Names that no order holds.
        assert_eq!(endless(&|_| "same".into(), true), Some(limits::LIST_PAGES - 1));
        let grouped = ListPage { grouped: true, ..page(&[], None, None) };
        Pages::new("").next(&grouped, || false).unwrap_err();
    }
}
