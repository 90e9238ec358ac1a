//! What the store holds, and how a replica resumes from there.
//!
//! # Overview
//!
//! [`decide`] compares three things: the newest object of the replica, the local state, and what
//! the WAL says about that state. The result is a [`Start`]: follow the WAL, compare page hashes,
//! compare the checksum of the whole database, or upload an image.
//!
//! # Failure and crash
//!
//! An upload whose answer was lost is adopted (`own_file`). Where the replica holds another
//! history, nothing known on this host is true of it, and only an image makes it this database
//! again.

use super::own_file;
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, PageSize, Pgno, Txid};
use crate::ltx::Header;
use crate::replicate::remote::{RemoteError, header_of, state_error, tail_of};
use crate::replicate::state::record::Local;
use crate::replicate::state::{Point, print_of};
use crate::restore::Survey;
use crate::store::{Entry, ErrorKind, Store, StoreError};

/// Most level-0 files that are read to learn which pages another program has changed. More would
/// cost as much as an image.
const CATCH_UP_FILES: u64 = 2_000;

/// What the store held at the first contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Newest TXID of all levels; 0 for an empty replica.
    pub newest: Txid,
    /// Newest TXID of level 0.
    pub newest_raw: Txid,
}

/// How a replica resumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The WAL proves that the pending pages are all that changed.
    Follow,
    /// Compare page hashes, for this reason.
    Repair(String),
    /// Read every page: if the database is the state after the batch with this header, nothing has
    /// to be stored. Why it is not known otherwise.
    Recognise(Header, String),
    /// Upload every page, for this reason.
    Image(String),
}

/// Lists the replica; of level 0, without `whole`, only what is not on higher levels, and the
/// oldest files.
///
/// # Errors
/// Any error of the listing, or a TXID that no replica can reach by counting.
pub async fn look(store: &dyn Store, whole: bool) -> Result<(Remote, Survey), StoreError> {
    let survey = if whole { Survey::whole(store).await? } else { Survey::to_go_on(store).await? };
    let entries = &survey.listing().files;
    let newest = |level: Option<Level>| {
        let of_level = |e: &&Entry| level.is_none_or(|l| e.id.level == l);
        entries.iter().filter(of_level).map(|e| e.id.max).max().unwrap_or_default()
    };
    if newest(None) > Txid::NEWEST_MAX {
        let message = format!(
            "{} has a file up to TXID {}, which no replica reaches by counting: remove that file, or give this database another \
             place",
            store.url(),
            newest(None)
        );
        return Err(StoreError::new(ErrorKind::Fatal, message));
    }
    let remote = Remote { newest: newest(None), newest_raw: newest(Some(Level::RAW)) };
    Ok((remote, survey))
}

/// What a request for one object has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// No request was made.
    NotAsked,
    /// A file with this header.
    File(Header),
    /// The object does not exist.
    Gone,
    /// The object is not a readable LTX file, for this reason.
    Damaged(String),
}

/// How a replica resumes, and whether another program may be writing to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// How the replica resumes.
    pub start: Start,
    /// The replica holds another history: the program that wrote it may still be running.
    pub stranger: bool,
    /// Files of the replica are damaged, missing or not ours. If every page is stored again, a full
    /// image on level 9 has to follow, because a restore would need those files to get to it.
    pub unsound: bool,
    /// The files of the replica have another page size than the database.
    pub resized: bool,
}

impl Decision {
    fn of(start: Start) -> Decision {
        Decision { start, stranger: false, unsound: false, resized: false }
    }

    fn unsound(start: Start, stranger: bool) -> Decision {
        Decision { start, stranger, unsound: true, resized: false }
    }

    fn image(reason: String) -> Decision {
        Decision::of(Start::Image(reason))
    }
}

/// Decides how to resume, and updates the local state to what the store holds. `continuity` is what
/// the WAL says about the local state: `Ok` if all changes since its durable point are pending.
///
/// The object at the durable point must be the one that was stored there. Then the page numbers of
/// everything after it are known, whichever program wrote it, and a comparison with the database
/// makes the replica this database again. Otherwise nothing known on this host is true of the
/// replica, and only an image can make it this database again.
///
/// # Errors
/// [`RemoteError`] if the store fails, page sizes differ, or the local state cannot be written.
pub async fn decide(
    store: &dyn Store,
    remote: &Remote,
    local: &mut Local,
    continuity: &Result<(), String>,
    page_size: PageSize,
) -> Result<Decision, RemoteError> {
    let state = *local.state();
    let durable = state.durable.txid;
    if remote.newest == Txid(0) {
        local.distrust();
        return Ok(Decision::image(match durable {
            Txid(0) => "the replica is empty".to_owned(),
            _ => format!("the replica is empty, but {durable} was stored there: its files were deleted"),
        }));
    }
    let newest = match remote.newest_raw == remote.newest {
        true => see(store, LtxId::raw(remote.newest_raw)).await?,
        false => Seen::NotAsked,
    };
    let file = match &newest {
        Seen::File(header) => Some(*header),
        Seen::Gone => return Ok(unusable(local, "it is not there any more")),
        Seen::Damaged(why) => return Ok(unusable(local, why)),
        Seen::NotAsked => None,
    };
    if let Some(header) = file {
        if header.page_size != page_size {
            return resized(store.url(), local, &header, page_size);
        }
        local.not_before(header.timestamp, store.now());
    }
    let at_durable = match durable {
        Txid(0) => Seen::NotAsked,
        _ if durable == remote.newest_raw && newest != Seen::NotAsked => newest,
        _ if state.durable.print != 0 && durable <= remote.newest => see(store, LtxId::raw(durable)).await?,
        _ => Seen::NotAsked,
    };
    let known = Known { store, remote, continuity, file };
    if let Some(Mismatch { reason, .. }) = foreign(&state.durable, &at_durable) {
        local.distrust();
        let start =
            if durable <= remote.newest { known.recognise(local, reason) } else { Start::Image(reason) };
        return Ok(Decision::unsound(start, true));
    }
    if let Some(decision) = known.adopt(local).await? {
        return Ok(decision);
    }
    known.by_position(local).await
}

/// What is known of a replica that has files, the object at the durable point among them.
struct Known<'a> {
    store: &'a dyn Store,
    remote: &'a Remote,
    continuity: &'a Result<(), String>,
    /// The header of the newest file, if that is a raw one.
    file: Option<Header>,
}

impl Known<'_> {
    /// Without page hashes, the newest state may still be this database.
    fn recognise(&self, local: &Local, reason: String) -> Start {
        match self.file {
            Some(header) if header.checksum.is_some() && !local.wants_image() => {
                Start::Recognise(header, reason)
            }
            _ => Start::Image(reason),
        }
    }

    /// The replica ends at the durable point: the WAL tells what is new.
    fn by_wal(&self, local: &Local) -> Decision {
        match self.continuity {
            Ok(()) if local.hashes().is_some() => Decision::of(Start::Follow),
            Ok(()) => Decision::image("there are no page hashes".to_owned()),
            Err(reason) => Decision::of(Start::Repair(reason.clone())),
        }
    }

    /// If the newest file is a batch whose upload was begun here, but not acknowledged, takes it
    /// for stored.
    async fn adopt(&self, local: &mut Local) -> Result<Option<Decision>, RemoteError> {
        let (state, remote) = (*local.state(), self.remote);
        let durable = state.durable.txid;
        let is_next = remote.newest == durable.next();
        // Another program's batch may have the same TXID as ours.
        let is_ours = self.file.is_some_and(|h| state.is_of_our_upload(&h));
        if !(is_next && remote.newest_raw == remote.newest && is_ours) {
            return Ok(None);
        }
        match own_file::adopt(self.store, local).await {
            Ok(true) => Ok(Some(self.by_wal(local))),
            Ok(false) => Ok(None),
            Err(e) if e.is_about_one_file() => Ok(Some(unusable(local, &e.to_string()))),
            Err(e) => Err(e),
        }
    }

    /// Compares where the replica ends with what was stored from here.
    async fn by_position(&self, local: &mut Local) -> Result<Decision, RemoteError> {
        let remote = self.remote;
        let durable = local.state().durable.txid;
        if remote.newest < durable {
            let reason = format!("it ends at {}, but {durable} was stored before", remote.newest);
            local.distrust();
            // The other history may be shorter, and its writer alive: its TXIDs and ours would
            // never meet.
            return Ok(Decision::unsound(Start::Image(reason), true));
        }
        if local.hashes_of() > remote.newest {
            // The store had answered for a batch that is not there any more.
            local.distrust();
            let stored = local.hashes_of();
            let reason = format!("it ends at {}, but {stored} was stored before", remote.newest);
            return Ok(Decision::unsound(Start::Image(reason), false));
        }
        if local.hashes().is_none() {
            let reason = "there are no page hashes for it on this host".to_owned();
            return Ok(Decision::of(self.recognise(local, reason)));
        }
        if remote.newest == durable {
            return Ok(self.by_wal(local));
        }
        self.continued_by_another(local).await
    }

    /// Another program stored states after the durable point: the pages in its files are those
    /// that differ.
    async fn continued_by_another(&self, local: &mut Local) -> Result<Decision, RemoteError> {
        let (remote, durable) = (self.remote, local.state().durable);
        let Some(changes) = changed_since(self.store, durable.txid, remote).await? else {
            let newest = remote.newest;
            let reason = format!("it is at {newest}, and what changed since {} is not known", durable.txid);
            local.distrust();
            return Ok(Decision::of(self.recognise(local, reason)));
        };
        let point = Point {
            txid: remote.newest,
            size_pages: changes.size_pages,
            print: self.file.map_or(0, |h| print_of(&h)),
            // The next batch begins the WAL again: it does not continue where the other program's
            // files end.
            ..Point::default()
        };
        local.not_before(changes.timestamp, self.store.now());
        local
            .advance(point, &changes.pages, changes.size_pages_min.min(durable.size_pages))
            .map_err(state_error)?;
        let reason = format!("another program stored up to {} since {}", remote.newest, durable.txid);
        Ok(Decision::of(Start::Repair(reason)))
    }
}

/// The newest file has another page size than the database. If it is what this database stored
/// last, with or without an answer, its page size was changed; the user may say so, too.
fn resized(
    url: &str,
    local: &mut Local,
    newest: &Header,
    page_size: PageSize,
) -> Result<Decision, RemoteError> {
    let found = newest.page_size;
    let is_ours = |p: &Point| p.txid == newest.max && p.print != 0 && p.print == print_of(newest);
    let ours = local.former().is_some_and(is_ours) || local.state().is_of_our_upload(newest);
    if !ours && !local.wants_image() {
        return Err(RemoteError::PageSize { url: url.to_owned(), found, expected: page_size });
    }
    local.distrust();
    let reason =
        format!("its files have pages of {found} bytes, and the database has pages of {page_size} now");
    let decision = Decision::unsound(Start::Image(reason), false);
    Ok(Decision { resized: true, ..decision })
}

fn unusable(local: &mut Local, why: &str) -> Decision {
    local.distrust();
    Decision::unsound(Start::Image(format!("its newest file cannot be used: {why}")), false)
}

/// What is wrong with an object that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The finding, for messages.
    pub reason: String,
    /// Another program wrote the object that is there.
    pub stranger: bool,
}

/// Why the object at a durable point is not the one that was stored there; `None` if it is, or if
/// that cannot be told.
fn foreign(durable: &Point, seen: &Seen) -> Option<Mismatch> {
    let txid = durable.txid;
    let (reason, stranger) = match seen {
        Seen::File(header) if durable.print != 0 && print_of(header) != durable.print => {
            let at = header.timestamp.to_rfc3339();
            let found =
                format!("{txid} was written at {at}, which is not the {txid} that this database stored");
            (format!("it holds another history: {found}"), true)
        }
        Seen::File(Header { checksum: Some(there), .. })
            if durable.checksum.is_some_and(|here| here != *there) =>
        {
            let here = durable.checksum.unwrap_or_default();
            let found = format!("the database at {txid} has the checksum {there} there, and had {here} here");
            (format!("it holds another history: {found}"), true)
        }
        Seen::Gone => (format!("{txid}, which was stored, is not there any more"), false),
        Seen::Damaged(why) => (format!("{txid}, which was stored, can't be read any more: {why}"), false),
        Seen::File(_) | Seen::NotAsked => return None,
    };
    Some(Mismatch { reason, stranger })
}

/// Checks with one small request whether the object of a durable point is still there: `None`, or
/// why it is not.
///
/// # Errors
/// Any error of the request that does not concern this one object.
pub async fn confirm(store: &dyn Store, durable: &Point) -> Result<Option<Mismatch>, RemoteError> {
    if durable.txid == Txid(0) || durable.print == 0 {
        return Ok(None);
    }
    Ok(foreign(durable, &see(store, LtxId::raw(durable.txid)).await?))
}

async fn see(store: &dyn Store, id: LtxId) -> Result<Seen, RemoteError> {
    match header_of(store, id).await {
        Ok(header) => Ok(Seen::File(header)),
        Err(RemoteError::Store(e)) if e.kind() == ErrorKind::NotFound => Ok(Seen::Gone),
        Err(e) if e.is_about_one_file() => Ok(Seen::Damaged(e.to_string())),
        Err(e) => Err(e),
    }
}

/// What other programs stored.
struct Changes {
    pages: Vec<Pgno>,
    size_pages: u32,
    size_pages_min: u32,
    timestamp: Millis,
}

/// The pages in the level-0 files after `since`; `None` if they are not all readable, or too many.
async fn changed_since(
    store: &dyn Store,
    since: Txid,
    remote: &Remote,
) -> Result<Option<Changes>, RemoteError> {
    if remote.newest_raw != remote.newest || remote.newest.0 - since.0 > CATCH_UP_FILES {
        return Ok(None);
    }
    let mut changes =
        Changes { pages: Vec::new(), size_pages: 0, size_pages_min: u32::MAX, timestamp: Millis(0) };
    for txid in since.0 + 1..=remote.newest.0 {
        let id = LtxId::raw(Txid(txid));
        let Some(entry) = store.head(id).await? else { return Ok(None) };
        let header = match header_of(store, id).await {
            Ok(header) => header,
            Err(e) if e.is_about_one_file() => return Ok(None),
            Err(e) => return Err(e),
        };
        let Some(tail) = tail_of(store, id, entry.size).await? else { return Ok(None) };
        changes.pages.extend(tail.index.iter().map(|e| e.pgno));
        changes.size_pages = header.commit;
        changes.size_pages_min = changes.size_pages_min.min(header.commit);
        changes.timestamp = changes.timestamp.max(header.timestamp);
    }
    changes.pages.sort_unstable();
    changes.pages.dedup();
    Ok(Some(changes))
}
