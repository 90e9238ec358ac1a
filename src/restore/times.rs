//! When states were stored, with as few requests as it takes.
//!
//! The time of a state is that of the header of the file that ends with it. A listing has only the time of the upload,
//! which for a merged file is up to its level's interval later, and for a directory that was copied means nothing. So
//! headers are read, 100 bytes each, but only where they decide: TXIDs are given in the order of time, so a wanted time
//! is found by bisection, beginning where the times of the uploads say. A list of times (`ltx::times`) that covers a
//! TXID replaces the headers of all that it covers by one request.
//!
//! A clock that was set back makes times ambiguous; the search then ends at one of the places where the wanted time
//! was passed.

use std::collections::BTreeMap;

use super::RestoreError;
use super::fetch::Object;
use crate::base::clock::Millis;
use crate::base::{Txid, limits};
use crate::ltx::{HEADER_LEN, Header, LtxError, TimesId, times};
use crate::store::{Entry, ErrorKind, Listing, SideId, Store};

/// The times of the states of one replica, as far as anybody asked.
pub(super) struct Times<'a> {
    store: &'a dyn Store,
    /// One file for each TXID that a file ends at, in ascending order; of several the one on the lowest level, whose
    /// time is that of the state (that of a full image may be later).
    ends: Vec<Entry>,
    /// Lists not read yet, with their sizes.
    lists: Vec<(TimesId, u64)>,
    known: BTreeMap<Txid, Millis>,
    requests: u64,
}

impl<'a> Times<'a> {
    pub(super) fn new(store: &'a dyn Store, listing: &Listing) -> Times<'a> {
        let mut ends = listing.files.clone();
        ends.sort_unstable_by_key(|e| (e.id.max, e.id.level, e.id.min));
        ends.dedup_by_key(|e| e.id.max);
        let lists = listing.sides.iter().filter_map(|side| match side.id {
            SideId::Times(id) if side.size <= limits::TIMES_BYTES => Some((id, side.size)),
            _ => None,
        });
        Times { store, ends, lists: lists.collect(), known: BTreeMap::new(), requests: 0 }
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// The last TXID that a file ends at, of those made strictly before `time`.
    pub(super) async fn last_before(&mut self, time: Millis) -> Result<Option<Txid>, RestoreError> {
        // All ends below `low` were made before the time, none from `high` on.
        let (mut low, mut high) = (0, self.ends.len());
        // Uploads come later than what they upload.
        let guess = self.ends.iter().filter(|e| e.modified < time).count();
        let mut first = [guess, guess.wrapping_sub(1)].into_iter();
        while low < high {
            let at = first.next().filter(|at| (low..high).contains(at)).unwrap_or(low.midpoint(high));
            if self.of(at).await? < time { low = at + 1 } else { high = at }
        }
        Ok(low.checked_sub(1).map(|last| self.ends[last].id.max))
    }

    /// When the state at a TXID was stored, at which a file ends.
    pub(super) async fn at(&mut self, txid: Txid) -> Result<Option<Millis>, RestoreError> {
        match self.ends.binary_search_by_key(&txid, |e| e.id.max) {
            Ok(at) => self.of(at).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Of some TXIDs, the files whose headers must be read, after the lists have been.
    pub(super) async fn unknown(&mut self, txids: &[Txid]) -> Result<Vec<Entry>, RestoreError> {
        let mut unknown = Vec::new();
        for txid in txids {
            let Ok(at) = self.ends.binary_search_by_key(txid, |e| e.id.max) else { continue };
            if self.listed(*txid).await?.is_none() {
                unknown.push(self.ends[at]);
            }
        }
        Ok(unknown)
    }

    /// Takes a header that somebody else has read.
    pub(super) fn learn(&mut self, header: &Header) {
        self.requests += 1;
        self.known.insert(header.max, header.timestamp);
    }

    async fn of(&mut self, at: usize) -> Result<Millis, RestoreError> {
        let entry = self.ends[at];
        if let Some(time) = self.listed(entry.id.max).await? {
            return Ok(time);
        }
        let header = header(self.store, &entry).await?;
        self.learn(&header);
        Ok(header.timestamp)
    }

    /// What is known, or stands in a list.
    async fn listed(&mut self, txid: Txid) -> Result<Option<Millis>, RestoreError> {
        while !self.known.contains_key(&txid)
            && let Some(list) = self.lists.iter().position(|(id, _)| (id.min..=id.max).contains(&txid))
        {
            let (id, size) = self.lists.swap_remove(list);
            self.read_list(id, size).await?;
        }
        Ok(self.known.get(&txid).copied())
    }

    /// What a list says. One that is damaged, or gone, says nothing: the headers do.
    async fn read_list(&mut self, id: TimesId, size: u64) -> Result<(), RestoreError> {
        self.requests += 1;
        let bytes = match Object::Times(id).get(self.store, 0..size).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        match times::decode(id, &bytes) {
            Ok(entries) => {
                let ends = &self.ends;
                let is_end = |t: &Txid| ends.binary_search_by_key(t, |e| e.id.max).is_ok();
                self.known.extend(entries.into_iter().filter(|(t, _)| is_end(t)));
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

/// The header of a file, which must be what its name says.
pub(super) async fn header(store: &dyn Store, entry: &Entry) -> Result<Header, RestoreError> {
    let (object, url) = (entry.id, || store.url().to_owned());
    let bytes = store.get(object, 0..HEADER_LEN as u64).await.map_err(|e| match e.kind() {
        ErrorKind::NotFound => RestoreError::Vanished { object: Object::Ltx(object), url: url() },
        _ => e.into(),
    })?;
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
