//! When states were stored, found out with as few requests as possible.
//!
//! # Overview
//!
//! The time of a state is in the header of the file that ends with it. A listing has only the time
//! of the upload. For a merged file that is later by up to the interval of its level, and for a
//! copied directory it means nothing. So headers are read, 100 bytes each, but only where they
//! decide. TXIDs ascend with time, so a wanted time is found by bisection, which starts where the
//! upload times point. One list of times (`ltx::times`) replaces the headers of all TXIDs that it
//! covers.
//!
//! # Failure
//!
//! A clock that was set back makes times ambiguous; the search then ends at one of the places where
//! the wanted time was passed. A time in the future comes from a clock that was wrong for a while.
//! The states after it were stored later, so their times bound it from above.
//!
//! If a header cannot be read, that of another file that ends at the same TXID replaces it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::RestoreError;
use super::damage::{self, Damaged};
use super::object::Object;
use crate::base::clock::Millis;
use crate::base::{DatabaseChecksum, LtxId, Txid, limits};
use crate::ltx::{HEADER_LEN, Header, LtxError, TimesId, times};
use crate::store::{Entry, ErrorKind, Listing, SideId, Store};

/// The times of the states of one replica, read on demand.
pub(super) struct Times<'a> {
    store: &'a dyn Store,
    /// Sorted by the TXID that they end at, then by level. Of several files that end at a TXID, the
    /// one on the lowest level has the time of the state; that of a full image may be later.
    files: Vec<Entry>,
    /// For each TXID that a file ends at, in ascending order: those files, as a range in `files`.
    ends: Vec<Range<usize>>,
    /// Lists not read yet, with their sizes in bytes.
    lists: Vec<(TimesId, u64)>,
    /// Times read from headers and lists.
    known: BTreeMap<Txid, Millis>,
    /// Checksums of the database, from the headers that were read.
    sums: BTreeMap<Txid, DatabaseChecksum>,
    requests: u64,
    /// No state was stored later than this: the current time plus the tolerated clock difference.
    latest: Millis,
    /// Whether a time after `latest` has been logged.
    future_said: bool,
}

impl<'a> Times<'a> {
    pub(super) fn new(store: &'a dyn Store, listing: &Listing) -> Times<'a> {
        let latest = Millis(store.now().0.saturating_add(limits::CLOCK_AHEAD.as_millis() as i64));
        let (files, ends, lists) = (Vec::new(), Vec::new(), Vec::new());
        let (known, sums) = (BTreeMap::new(), BTreeMap::new());
        let mut times =
            Times { store, files, ends, lists, known, sums, requests: 0, latest, future_said: false };
        times.relist(listing);
        times
    }

    /// Takes a listing that shows more. Times that are known stay known.
    pub(super) fn relist(&mut self, listing: &Listing) {
        let mut files = listing.files.clone();
        files.sort_unstable_by_key(|e| (e.id.max, e.id.level, e.id.min));
        let mut ends: Vec<Range<usize>> = Vec::new();
        for (at, file) in files.iter().enumerate() {
            match ends.last_mut() {
                Some(end) if files[end.start].id.max == file.id.max => end.end = at + 1,
                _ => ends.push(at..at + 1),
            }
        }
        let lists = listing.sides.iter().filter_map(|side| match side.id {
            SideId::Times(id) if side.size <= limits::TIMES_BYTES => Some((id, side.size)),
            _ => None,
        });
        (self.lists, self.files, self.ends) = (lists.collect(), files, ends);
    }

    /// Forgets the times that were read.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Whether a time in the future was found.
    pub(super) fn had_future(&self) -> bool {
        self.future_said
    }

    /// The first TXID after `txid` that a file ends at.
    pub(super) fn end_after(&self, txid: Txid) -> Option<Txid> {
        let at = self.ends.partition_point(|end| self.files[end.start].id.max <= txid);
        (at < self.ends.len()).then(|| self.txid(at))
    }

    /// Number of requests made.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    fn txid(&self, at: usize) -> Txid {
        self.files[self.ends[at].start].id.max
    }

    fn find(&self, txid: Txid) -> Option<usize> {
        self.ends.binary_search_by_key(&txid, |end| self.files[end.start].id.max).ok()
    }

    /// The last TXID at which a file made strictly before `time` ends.
    pub(super) async fn last_before(
        &mut self,
        time: Millis,
        damaged: &mut Damaged,
    ) -> Result<Option<Txid>, RestoreError> {
        // All ends below `low` were made before `time`, and none from `high` on.
        let (mut low, mut high) = (0, self.ends.len());
        // An upload is later than the state that it stores, so this guess is low if it is wrong.
        let guess = self.ends.iter().filter(|end| self.files[end.start].modified < time).count();
        let mut first = [guess, guess.wrapping_sub(1)].into_iter();
        while low < high {
            let at = first.next().filter(|at| (low..high).contains(at)).unwrap_or(low.midpoint(high));
            if self.of(at, damaged).await? < time { low = at + 1 } else { high = at }
        }
        Ok(low.checked_sub(1).map(|last| self.txid(last)))
    }

    /// When the state at `txid` was stored; `None` if no file ends there.
    pub(super) async fn at(
        &mut self,
        txid: Txid,
        damaged: &mut Damaged,
    ) -> Result<Option<Millis>, RestoreError> {
        match self.find(txid) {
            Some(at) => self.of(at, damaged).await.map(Some),
            None => Ok(None),
        }
    }

    /// Those files of `txids` whose headers have to be read because no list has their times.
    pub(super) async fn unknown(
        &mut self,
        txids: &[Txid],
        damaged: &Damaged,
    ) -> Result<Vec<Entry>, RestoreError> {
        let mut unknown = Vec::new();
        for txid in txids {
            let Some(at) = self.find(*txid) else { continue };
            if self.listed(*txid).await?.is_none() {
                unknown.extend(self.files[self.ends[at].clone()].iter().find(|e| !damaged.has(e.id)));
            }
        }
        Ok(unknown)
    }

    /// Whether the header of file `id` has the time of the state that the file ends with.
    pub(super) fn is_first(&self, id: LtxId) -> bool {
        self.find(id.max).is_some_and(|at| self.files[self.ends[at].start].id == id)
    }

    /// Whether a time cannot be right because it is in the future.
    pub(super) fn is_future(&self, time: Millis) -> bool {
        time > self.latest
    }

    /// Takes a header that the caller has read.
    pub(super) fn learn(&mut self, header: &Header) {
        self.requests += 1;
        self.known.insert(header.max, header.timestamp);
        self.sums.extend(header.checksum.map(|sum| (header.max, sum)));
    }

    /// The checksum of a state, if a header that was read has it.
    pub(super) fn checksum(&self, txid: Txid) -> Option<DatabaseChecksum> {
        self.sums.get(&txid).copied()
    }

    /// The time of a state. A time in the future cannot be right: a state was stored no later than
    /// the states after it, and no later than now.
    async fn of(&mut self, at: usize, damaged: &mut Damaged) -> Result<Millis, RestoreError> {
        let own = self.stored(at, damaged).await?;
        if own <= self.latest {
            return Ok(own);
        }
        if !std::mem::replace(&mut self.future_said, true) {
            tracing::warn!(
                replica = self.store.url(), txid = %self.txid(at), time = %own,
                "a file says that it was made in the future, so a clock was wrong; the files after it say when it was \
                 made at the latest"
            );
        }
        let mut time = Millis(self.latest.0.saturating_sub(limits::CLOCK_AHEAD.as_millis() as i64));
        for next in (at + 1..self.ends.len()).take(limits::CLOCK_WITNESSES) {
            let later = self.stored(next, damaged).await?;
            if later <= self.latest {
                time = time.min(later);
                break;
            }
        }
        let uploaded = self.files[self.ends[at].start].modified;
        Ok(if uploaded <= self.latest { time.min(uploaded) } else { time })
    }

    /// The time in a list or a header, unchecked.
    async fn stored(&mut self, at: usize, damaged: &mut Damaged) -> Result<Millis, RestoreError> {
        let end = self.ends[at].clone();
        let txid = self.txid(at);
        if let Some(time) = self.listed(txid).await? {
            return Ok(time);
        }
        for n in end.clone() {
            let entry = self.files[n];
            if damaged.has(entry.id) {
                continue;
            }
            match header(self.store, &entry).await {
                Ok(header) => {
                    self.learn(&header);
                    return Ok(header.timestamp);
                }
                Err(e) => match damage::fault(&e) {
                    Some((id, why)) => {
                        damaged.add(id, why);
                    }
                    // Another file that ends at this TXID serves as well.
                    None if damage::moved(&e).is_some() && n + 1 < end.end => {}
                    None => return Err(e),
                },
            }
        }
        // No header is readable, so the upload time is the only time left.
        let uploaded = self.files[end.start].modified;
        self.known.insert(txid, uploaded);
        Ok(uploaded)
    }

    /// The time of `txid` if it is known or a list has it.
    async fn listed(&mut self, txid: Txid) -> Result<Option<Millis>, RestoreError> {
        while !self.known.contains_key(&txid)
            && let Some(list) = self.lists.iter().position(|(id, _)| (id.min..=id.max).contains(&txid))
        {
            let (id, size) = self.lists.swap_remove(list);
            self.read_list(id, size).await?;
        }
        Ok(self.known.get(&txid).copied())
    }

    /// Reads a list. A damaged or missing list is not an error: headers are read instead.
    async fn read_list(&mut self, id: TimesId, size: u64) -> Result<(), RestoreError> {
        self.requests += 1;
        let bytes = match Object::Times(id).get(self.store, 0..size).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        match times::decode(id, &bytes) {
            Ok(entries) => {
                let ends: Vec<_> = entries.into_iter().filter(|(t, _)| self.find(*t).is_some()).collect();
                self.known.extend(ends);
            }
            Err(e) => tracing::warn!(
                replica = self.store.url(),
                list = %SideId::Times(id),
                error = %e,
                "a list of times cannot be used; headers are read instead"
            ),
        }
        Ok(())
    }
}

/// Reads the header of a file and checks that its TXIDs are those of the name.
pub(crate) async fn header(store: &dyn Store, entry: &Entry) -> Result<Header, RestoreError> {
    let (object, url) = (entry.id, || store.url().to_owned());
    let bytes = store.get(object, 0..HEADER_LEN as u64).await;
    let bytes = bytes.map_err(|e| damage::of_read(store, Object::Ltx(object), e))?;
    let header = match bytes.first_chunk() {
        Some(bytes) => Header::parse(bytes),
        None => Err(LtxError::Truncated { len: bytes.len() as u64, part: "header" }),
    };
    let header = header.map_err(|cause| RestoreError::Corrupt { object, url: url(), cause })?;
    if (header.min, header.max) != (object.min, object.max) {
        let found = format!("{}-{}", header.min, header.max);
        return Err(RestoreError::Misnamed { object, url: url(), found });
    }
    Ok(header)
}
