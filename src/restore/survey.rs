//! What a replica holds, as far as it has to be known.
//!
//! # Overview
//!
//! A day of commits may be 86,400 files on level 0, and all but the last few are in files of higher
//! levels, too. So only a small replica, which one request shows, is listed as a whole. Of a larger
//! one the *coarse* levels, 2 to 9, are listed first. A plan from these alone ends at a TXID, and
//! from there on levels 0 and 1 are listed (a *stretch*). For a state in the past the stretch ends
//! there.
//!
//! # Why no state is older than it should be
//!
//! - Level-0 files have one TXID each. A plan takes none of them where a file of a higher level
//!   leads at least as far. So the plan is the one that a whole listing gives.
//! - The newest level-0 file is never deleted (I4). So the last stretch has the newest TXID, unless
//!   a file of a higher level goes beyond it, and those are listed.
//! - Whatever is odd leads to a whole listing: a plan that does not reach the newest file, a
//!   stretch without any level-0 file, level-0 files with several TXIDs, files of Litestream 0.3.
//!   So does every error that a plan from a part would give.
//! - The levels are listed before the stretch of level 0. A file that is merged and deleted in
//!   between leaves a gap, never an older end.

use super::damage::Damaged;
use super::plan::{self, Goal};
use super::spans::Spans;
use crate::base::{Level, Txid};
use crate::store::{Entry, Listed, Listing, Part, SideId, Store, StoreError};

/// The last TXID that there could be.
const END: Txid = Txid(u64::MAX);

/// Result of a listing.
type Result<T> = std::result::Result<T, StoreError>;

/// What a replica holds, as far as it is listed.
#[derive(Debug, Default)]
pub struct Survey {
    listing: Listing,
    /// Where levels 0 and 1 are listed.
    raw: Spans,
    first: Spans,
    /// From here on everything is listed.
    from: Txid,
}

impl Survey {
    /// Everything.
    ///
    /// # Errors
    /// Those of the listing.
    pub async fn whole(store: &dyn Store) -> Result<Survey> {
        Ok(Survey::of_all(store.list_all().await?))
    }

    /// The survey that a whole listing is.
    pub(super) fn of_all(listing: Listing) -> Survey {
        Survey { listing, raw: Spans::all(), first: Spans::all(), from: Txid(0) }
    }

    /// What the newest state needs, and everything about the last `back` TXIDs before it.
    ///
    /// # Errors
    /// Those of the listing.
    pub async fn newest(store: &dyn Store, back: u64) -> Result<Survey> {
        let mut survey = Survey::coarse(store, false).await?;
        if !survey.is_whole() {
            let reach = survey.reached(END);
            let from = if back == 0 { reach } else { survey.reached(Txid(reach.0.saturating_sub(back))) };
            survey.tail(store, from, back == 0).await?;
        }
        Ok(survey)
    }

    /// What a process needs that goes on with the replica: all levels above level 0, of level 0
    /// what they do not cover, and the oldest files.
    ///
    /// # Errors
    /// Those of the listing.
    pub async fn to_go_on(store: &dyn Store) -> Result<Survey> {
        let mut survey = Survey::coarse(store, true).await?;
        if survey.is_whole() {
            return Ok(survey);
        }
        let merged = survey.of_level(1).map(|e| e.id.max).max().unwrap_or_default();
        let from = survey.reached(END).min(merged);
        survey.tail(store, from, true).await?;
        // Damage may need any of the files.
        if !Damaged::of_listing(&survey.listing.files).is_empty() {
            survey.complete(store).await?;
        }
        Ok(survey)
    }

    /// What the state at a TXID needs.
    ///
    /// # Errors
    /// Those of the listing.
    pub(super) async fn at(store: &dyn Store, txid: Txid) -> Result<Survey> {
        let mut survey = Survey::coarse(store, false).await?;
        if survey.is_whole() {
            return Ok(survey);
        }
        let reach = survey.reached(txid);
        // Is there a newer state?
        if survey.listing.files.iter().all(|e| e.id.max <= txid) {
            survey.tail(store, reach, true).await?;
        } else if reach == Txid(0) {
            survey.complete(store).await?;
        } else {
            survey.cover(store, reach, txid).await?;
        }
        Ok(survey)
    }

    /// All levels above level 0, and the oldest files of level 0.
    ///
    /// # Errors
    /// Those of the listing.
    pub(super) async fn levels(store: &dyn Store) -> Result<Survey> {
        Survey::coarse(store, true).await
    }

    /// What one request shows. If that is not everything, the levels from 2 on, and level 1 if
    /// `first`.
    async fn coarse(store: &dyn Store, first: bool) -> Result<Survey> {
        let Some(Listed { listing, more }) = store.list_part(Part::Start).await? else {
            return Survey::whole(store).await;
        };
        if !more {
            return Ok(Survey::of_all(listing));
        }
        let mut survey = Survey::default();
        match listing.files.last() {
            Some(last) if last.id.level > Level::RAW => survey.raw = Spans::all(),
            Some(last) => survey.raw.add(Txid(0), last.id.min),
            None => {}
        }
        survey.listing = listing;
        let one = level(1);
        let (above, of_one) = match first {
            true => tokio::try_join!(
                store.list_part(Part::Above(one)),
                store.list_part(stretch(one, Txid(0), END))
            )?,
            false => (store.list_part(Part::Above(one)).await?, Some(Listed::default())),
        };
        let (Some(above), Some(of_one)) = (above, of_one) else { return Survey::whole(store).await };
        survey.take(above);
        survey.take(of_one);
        if first {
            survey.first = Spans::all();
        }
        let is_old = |side: &crate::store::SideEntry| matches!(side.id, SideId::Legacy(_));
        if survey.is_odd() || survey.listing.sides.iter().any(is_old) {
            survey.complete(store).await?;
        }
        Ok(survey)
    }

    /// What is listed.
    #[must_use]
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Everything that is listed.
    #[must_use]
    pub fn into_listing(self) -> Listing {
        self.listing
    }

    /// Whether everything is listed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.raw.is_all() && self.first.is_all()
    }

    /// From this TXID on everything is listed.
    pub(super) fn from(&self) -> Txid {
        if self.is_whole() { Txid(0) } else { self.from }
    }

    /// The TXIDs of level 0 that are not listed, if there are any: first and last.
    #[must_use]
    pub fn gap(&self) -> Option<(Txid, Txid)> {
        self.raw.missing(Txid(0), END)
    }

    /// Lists everything, if that was not done.
    ///
    /// # Errors
    /// Those of the listing.
    pub async fn complete(&mut self, store: &dyn Store) -> Result<()> {
        if !self.is_whole() {
            *self = Survey::whole(store).await?;
        }
        Ok(())
    }

    /// How far the levels that are listed as a whole lead, at most up to `limit`; 0 if they have no
    /// image.
    pub(super) fn reached(&self, limit: Txid) -> Txid {
        let below = if self.first.is_all() { Level::RAW } else { level(1) };
        self.reached_above(below, limit)
    }

    /// How far the levels above this one lead.
    fn reached_above(&self, below: Level, limit: Txid) -> Txid {
        let above: Vec<Entry> = self.listing.files.iter().filter(|e| e.id.level > below).copied().collect();
        let files = Damaged::of_listing(&above).sound(&above);
        let plan = plan::plan(&files, Goal::UpTo(limit)).unwrap_or_default();
        plan.last().map(|e| e.id.max).unwrap_or_default()
    }

    /// Lists levels 0 and 1 from `from` on to their end. `few`: what level 1 covers need not be
    /// listed of level 0.
    ///
    /// # Errors
    /// Those of the listing.
    pub(super) async fn tail(&mut self, store: &dyn Store, from: Txid, few: bool) -> Result<()> {
        if from == Txid(0) {
            return self.complete(store).await;
        }
        let raw_from = self.raw.missing(from, END).map(|(from, _)| from);
        let first_page = async {
            match raw_from {
                Some(from) => {
                    let part = Part::Stretch { level: Level::RAW, from, to: END, once: true };
                    store.list_part(part).await
                }
                None => Ok(Some(Listed::default())),
            }
        };
        let begin = self.first_before(from);
        let first = async {
            match self.first.missing(begin, END) {
                Some((from, to)) => store.list_part(stretch(level(1), from, to)).await,
                None => Ok(Some(Listed::default())),
            }
        };
        let (first, raw) = tokio::try_join!(first, first_page)?;
        let (Some(first), Some(raw)) = (first, raw) else { return self.complete(store).await };
        self.first.add(begin, END);
        self.take(first);
        let mut known_from = from;
        let more = raw.more;
        let listed = raw.listing.files.last().map_or(from, |e| e.id.min);
        self.take(raw);
        if let Some(raw_from) = raw_from {
            self.raw.add(raw_from, if more { listed } else { END });
        }
        if more {
            let mut next = listed.next();
            if few {
                next = next.max(self.reached_above(Level::RAW, END));
            }
            if next > listed.next() {
                known_from = next;
            }
            let Some(rest) = store.list_part(stretch(Level::RAW, next, END)).await? else {
                return self.complete(store).await;
            };
            self.take(rest);
            self.raw.add(next, END);
        }
        self.from = known_from;
        let files = &self.listing.files;
        // I4: the newest level-0 file is there, at or after the end of what the levels cover.
        let has_newest = files.iter().any(|e| e.id.level == Level::RAW && e.id.max >= known_from);
        let is_sound = Damaged::of_listing(files).plan(files, Goal::Newest).is_ok();
        if !has_newest || !is_sound || self.is_odd() {
            self.complete(store).await?;
        }
        Ok(())
    }

    /// Lists what the newest state needs, if that was not done.
    ///
    /// # Errors
    /// Those of the listing.
    pub async fn extend_to_newest(&mut self, store: &dyn Store) -> Result<()> {
        if self.is_whole() || self.from() != Txid(0) {
            return Ok(());
        }
        let reached = self.reached(END);
        self.tail(store, reached, true).await
    }

    /// Lists what leads from the state at `from` to the one at `to` in few files: of levels 0 and 1
    /// the two ends, which the levels above do not cover.
    ///
    /// # Errors
    /// Those of the listing.
    pub async fn cover_ends(&mut self, store: &dyn Store, from: Txid, to: Txid) -> Result<()> {
        let merged = self.listing.files.iter().map(|e| e.id);
        let merged = merged.filter(|id| id.level > level(1) && id.level < Level::SNAPSHOT);
        let within: Vec<_> = merged.filter(|id| id.min > from && id.max <= to).collect();
        let begin = within.iter().map(|id| id.min).min();
        let end = within.iter().map(|id| id.max).max();
        let (Some(begin), Some(end)) = (begin, end) else { return self.cover(store, from, to).await };
        if begin > from.next() {
            self.cover(store, from, begin).await?;
        }
        if end < to { self.cover(store, end, to).await } else { Ok(()) }
    }

    /// Lists levels 0 and 1 from the state at `from`, where the levels from 2 on lead, to `to`.
    ///
    /// # Errors
    /// Those of the listing.
    pub async fn cover(&mut self, store: &dyn Store, from: Txid, to: Txid) -> Result<()> {
        let begin = self.first_before(from);
        let missing = [(Level::RAW, self.raw.missing(from, to)), (level(1), self.first.missing(begin, to))];
        let list = |(of, missing): (Level, Option<(Txid, Txid)>)| async move {
            match missing {
                Some((from, to)) => store.list_part(stretch(of, from, to)).await,
                None => Ok(Some(Listed::default())),
            }
        };
        let [raw, first] = missing;
        let (Some(raw), Some(first)) = tokio::try_join!(list(raw), list(first))? else {
            return self.complete(store).await;
        };
        self.take(raw);
        self.take(first);
        self.raw.add(from, to);
        self.first.add(begin, to);
        if self.from > from && to.0.saturating_add(1) >= self.from.0 {
            self.from = from;
        }
        if self.is_odd() { self.complete(store).await } else { Ok(()) }
    }

    /// Whether level 0 is listed from `from` to `to`.
    pub(super) fn covers(&self, from: Txid, to: Txid) -> bool {
        self.raw.missing(from, to).is_none()
    }

    /// The beginning of the file of levels 2 to 8 that ends last at or before `from`. Each of them
    /// is made of whole files of level 1, so no such file before it leads beyond `from`.
    fn first_before(&self, from: Txid) -> Txid {
        let merged = self.listing.files.iter().map(|e| e.id);
        let merged = merged.filter(|id| id.level > level(1) && id.level < Level::SNAPSHOT && id.max <= from);
        merged.max_by_key(|id| (id.max, std::cmp::Reverse(id.min))).map(|id| id.min).unwrap_or_default()
    }

    fn of_level(&self, n: u32) -> impl Iterator<Item = &Entry> {
        self.listing.files.iter().filter(move |e| e.id.level == level(n))
    }

    /// Whether a level-0 file has several TXIDs, so that the order of the names says less.
    fn is_odd(&self) -> bool {
        self.of_level(0).any(|e| e.id.min != e.id.max)
    }

    fn take(&mut self, listed: Listed) {
        self.listing.add(listed.listing);
    }
}

fn stretch(level: Level, from: Txid, to: Txid) -> Part {
    Part::Stretch { level, from, to, once: false }
}

fn level(n: u32) -> Level {
    Level::new(n).expect("a level")
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
