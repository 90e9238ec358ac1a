//! Paging of a listing: where the next page begins, and whether the listing ends.
//!
//! # Overview
//!
//! The standard way is a flag that there is more, and a token for the next page. Some stores set
//! the flag and send no token. Then the next page begins after the last key: with `start-after`, or
//! with `marker` where the store knows only version 1 of the request.
//!
//! Some stores leave the flag out of the last page, or out of every page. Then a page that names
//! where the next one begins, or has as many keys as a page may have, is not the last.
//!
//! # Failure
//!
//! Tokens may form a cycle or never end, a page may name fewer keys than it counts, and a page that
//! was announced may be empty. A truncated listing looks like an older state of the replica, so the
//! result is either every page or an error.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use tokio::time::Instant;

use super::encode::decode_key;
use super::xml::ListPage;
use crate::base::limits;

/// Objects of a page if the request names no number.
pub(super) const PAGE_KEYS: usize = 1_000;

/// Where a page begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Begin {
    /// Begins at the first key.
    #[default]
    First,
    /// Begins at the store's continuation token.
    Token(String),
    /// Begins after this key (`start-after`).
    After(String),
    /// Begins after this key, in version 1 of the request (`marker`).
    Marker(String),
}

/// State of a listing over the pages read so far.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    prefix: &'a str,
    begin: Begin,
    /// The greatest key so far.
    last: Option<String>,
    /// Hashes of the tokens seen. The hash is kept because a token may have any length.
    tokens: HashSet<u64>,
    hasher: RandomState,
    pages: usize,
    idle: usize,
    /// Whether the store itself has said that the page asked for exists.
    announced: bool,
    started: Instant,
}

/// Whether further pages follow.
pub(super) fn goes_on(page: &ListPage) -> bool {
    let full = page.max_keys.filter(|max| *max > 0).map_or(PAGE_KEYS as u64, |max| max.min(PAGE_KEYS as u64));
    page.truncated.unwrap_or_else(|| names_next(page) || page.entries.len() as u64 >= full)
}

/// Whether the page names where the next one begins.
fn names_next(page: &ListPage) -> bool {
    page.token.is_some() || page.marker.is_some()
}

/// How many keys the page lacks by its own count. A count that is too small does no harm.
pub(super) fn lacks(page: &ListPage) -> u64 {
    page.key_count.unwrap_or(0).saturating_sub(page.entries.len() as u64)
}

impl Pages<'_> {
    /// Starts a listing below `prefix`.
    pub(super) fn new(prefix: &str) -> Pages<'_> {
        Pages {
            prefix,
            begin: Begin::First,
            last: None,
            tokens: HashSet::new(),
            hasher: RandomState::new(),
            pages: 0,
            idle: 0,
            announced: false,
            started: Instant::now(),
        }
    }

    /// Begins after a key.
    pub(super) fn after(mut self, key: String) -> Self {
        self.begin = Begin::After(key.clone());
        self.last = Some(key);
        self
    }

    /// Whether the keys of the page that was asked for come in order, and after those before.
    pub(super) fn is_in_order(&self, page: &ListPage) -> bool {
        let keys: Vec<String> = page.entries.iter().map(|e| self.decoded(&e.key, page.url_encoded)).collect();
        keys.is_sorted() && keys.first().is_none_or(|first| Some(first) > self.last.as_ref())
    }

    /// The greatest key so far.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Where the next page begins.
    pub(super) fn begin(&self) -> &Begin {
        &self.begin
    }

    /// Takes a page. Returns true if another one follows. `new` tells whether the page named an
    /// object that no earlier page named; it is called only if the keys do not grow.
    ///
    /// # Errors
    /// Why the rest of the listing cannot be read.
    pub(super) fn next(&mut self, page: &ListPage, new: impl FnOnce() -> bool) -> Result<bool, String> {
        if page.grouped {
            return Err("the store groups keys by their beginning, which it was not asked to".into());
        }
        let keys: Vec<String> = page.entries.iter().map(|e| self.decoded(&e.key, page.url_encoded)).collect();
        let greatest = keys.iter().max();
        let grows = greatest > self.last.as_ref();
        if lacks(page) > 0 {
            return Err(format!(
                "it is cut: the store counts {} keys in a page that names {}",
                page.key_count.unwrap_or(0),
                keys.len()
            ));
        }
        if self.announced && page.truncated.is_none() && keys.is_empty() && !names_next(page) {
            return Err("it is cut: the store says that there is more, and then answers with nothing".into());
        }
        if !goes_on(page) {
            return Ok(false);
        }
        self.announced = page.truncated == Some(true) || names_next(page);
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
                // Continuing after the last key is complete only if the keys are in order.
                if !keys.is_sorted() {
                    return Err(stuck());
                }
                let marks = matches!(self.begin, Begin::Marker(_));
                Ok(if marks { Begin::Marker(last.clone()) } else { Begin::After(last.clone()) })
            }
            // The store does not know `start-after`.
            (Begin::After(after), _) => Ok(Begin::Marker(after.clone())),
            _ => Err(stuck()),
        }
    }

    /// The decoded key. Stores differ in what they encode, and some announce an encoding that they
    /// do not apply.
    fn decoded(&self, key: &str, url_encoded: bool) -> String {
        let mut readings = readings(key, url_encoded);
        let first = readings.next().unwrap_or_default();
        if first.starts_with(self.prefix) {
            return first;
        }
        readings.find(|r| r.starts_with(self.prefix)).unwrap_or(first)
    }
}

/// The possible readings of a listed key, the likeliest first.
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
        // The same page again: the store may know only version 1 of the request.
        let same = page(&["p q/3", "p q/4"], Some(true), None);
        assert_eq!(walk(&mut pages, &same), Ok(Some(Begin::Marker("p q/4".into()))));
        let more = page(&["p q/5"], Some(true), None);
        assert_eq!(walk(&mut pages, &more), Ok(Some(Begin::Marker("p q/5".into()))));
        walk(&mut pages, &more).unwrap_err();

        let marked = ListPage { marker: Some("p/2".into()), ..page(&["p/1", "p/2"], Some(true), None) };
        assert_eq!(walk(&mut Pages::new("p/"), &marked), Ok(Some(Begin::Marker("p/2".into()))));
        // Unsorted keys: the position of the missing ones is unknown.
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
    fn a_cut_listing_is_an_error() {
        // Announced, and then nothing.
        let mut pages = Pages::new("p/");
        walk(&mut pages, &page(&["p/1"], Some(true), Some("a"))).unwrap();
        assert!(walk(&mut pages, &page(&[], None, None)).unwrap_err().contains("it is cut"));
        // Where the store says that this is the end, or lists more, it is the end.
        for last in [page(&[], Some(false), None), page(&["p/2"], None, None)] {
            let mut pages = Pages::new("p/");
            walk(&mut pages, &page(&["p/1"], Some(true), Some("a"))).unwrap();
            assert_eq!(walk(&mut pages, &last), Ok(None));
        }
        let counting = |count: u64| ListPage { key_count: Some(count), ..page(&["p/1"], Some(false), None) };
        assert!(walk(&mut Pages::new(""), &counting(2)).unwrap_err().contains("it is cut"));
        for count in [0, 1] {
            assert_eq!(walk(&mut Pages::new(""), &counting(count)), Ok(None));
        }
    }

    #[test]
    fn a_page_as_long_as_it_may_be_is_not_the_last() {
        let max = |keys: &[&str], max: u64, truncated: Option<bool>| ListPage {
            max_keys: Some(max),
            ..page(keys, truncated, None)
        };
        let mut pages = Pages::new("p/");
        let full = max(&["p/1", "p/2"], 2, None);
        assert_eq!(walk(&mut pages, &full), Ok(Some(Begin::After("p/2".into()))));
        // Nobody has said that there is more.
        assert_eq!(walk(&mut pages, &max(&[], 2, None)), Ok(None));
        for last in [max(&["p/1"], 2, None), max(&["p/1"], 0, None), max(&["p/1", "p/2"], 2, Some(false))] {
            assert_eq!(walk(&mut Pages::new("p/"), &last), Ok(None));
        }
        let marked = ListPage { marker: Some("p/1".into()), ..page(&["p/1"], None, None) };
        assert_eq!(walk(&mut Pages::new("p/"), &marked), Ok(Some(Begin::Marker("p/1".into()))));
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
        // Names in no order, all of them new.
        assert_eq!(endless(&|_| "same".into(), true), Some(limits::LIST_PAGES - 1));
        let grouped = ListPage { grouped: true, ..page(&[], None, None) };
        Pages::new("").next(&grouped, || false).unwrap_err();
    }
}
