//! Checks that the replica still holds what was stored there.
//!
//! # What is checked, and when
//!
//! At the start, and whenever there is reason for doubt, the pipeline lists the replica, and
//! [`resume::decide`] judges the object at the durable point. In between, a check is one small
//! request: for the header of an object whose print is known.
//!
//! - Before the next upload after an outage, after the process was stopped (SIGSTOP, a suspended
//!   host), and after [`PAUSE`] without uploads ([`PAUSE_LOCAL`] for a directory). The upload waits
//!   for the answer, so that it does not continue another history.
//! - Next to uploads, at most every [`limits::LINEAGE_EVERY`]: one object, the newest image, and in
//!   turn the last file of each level. The uploads do not wait for these.
//! - At the stop, once all uploads are answered: the durable point, and the files of the newest
//!   state, by a listing of a directory, or by one page of a listing of a bucket if something was
//!   stored in this run. What that page does not show is the newest image, by a HEAD.
//!
//! # The anchor
//!
//! An upload proves nothing about what it is put on, and its own object is ours in any case. So the
//! object that is checked is the *anchor*: the durable point of the last check. If it is ours, so
//! is everything before it, and the present durable point becomes the anchor.
//!
//! A replica without uploads makes no request before the stop. If a check fails, the reason is
//! logged, and the replica begins again as at the start of the process: from the WAL, with a
//! comparison, or with an image.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::background::Background;
use super::error::ReplicaError;
use super::resume::{self, Decision, Mismatch, Start};
use super::task::Replica;
use super::vigil::{Blind, Finding};
use crate::base::{Level, LtxId, Txid, limits};
use crate::ltx::Header;
use crate::replicate::history::{Feed, Stored};
use crate::replicate::outage::down;
use crate::replicate::remote::{RemoteError, header_of};
use crate::replicate::state::Point;
use crate::store::{ErrorKind, Store, StoreError};

/// Time without an upload after which the next upload waits for a check.
const PAUSE: Duration = limits::LINEAGE_EVERY;

/// The same for a replica in a directory, where a check costs next to nothing.
const PAUSE_LOCAL: Duration = Duration::from_secs(1);

/// Longest time of the check at the stop, and half of what is left of the shutdown at most.
const CHECK_AT_STOP: Duration = Duration::from_secs(5);

/// How many times a replica is made good at the stop before it ends with an error instead.
const HEALS_AT_STOP: u32 = 2;

/// Checks the anchor, and the durable point too if `both` or if the anchor cannot be asked for:
/// `None`, or why the replica is not what was stored there.
async fn prove(
    store: &dyn Store,
    history: &Feed,
    (anchor, durable): (Point, Point),
    both: bool,
) -> Result<Option<Finding>, RemoteError> {
    // The history deletes old files.
    let asked = |p: &Point| p.txid != Txid(0) && p.txid != durable.txid && history.has(LtxId::raw(p.txid));
    if asked(&anchor) {
        let found = Finding::at(true, resume::confirm(store, &anchor).await?);
        if !both && found.is_none() || found.is_some() && asked(&anchor) {
            return Ok(found);
        }
    }
    Ok(Finding::at(false, resume::confirm(store, &durable).await?))
}

/// Why a stored file is not as it was stored, if the store says so.
async fn missed(store: &dyn Store, history: &Feed, file: Stored) -> Result<Option<Finding>, StoreError> {
    let id = file.id;
    let reason = match store.head(id).await? {
        None => format!("{id}, which was stored, is not there any more"),
        Some(entry) if entry.size != file.size => {
            format!("{id} has {} bytes, but {} were stored", entry.size, file.size)
        }
        Some(_) => return Ok(None),
    };
    let what = Mismatch { reason, stranger: false };
    Ok(history.has(id).then_some(Finding { what, below: true }))
}

/// Checks files, as a part of the check next to uploads.
async fn missed_of(
    store: &dyn Store,
    history: &Feed,
    files: Vec<Stored>,
) -> Result<Option<Finding>, RemoteError> {
    for file in files {
        if let Some(finding) = missed(store, history, file).await? {
            return Ok(Some(finding));
        }
    }
    Ok(None)
}

/// Notes how a check next to uploads has gone, and says whether the replica can be checked.
fn note_check(blind: &RefCell<Blind>, db: &str, url: &str, e: Option<&RemoteError>) {
    let Some(e) = e else {
        if let Some(time) = blind.borrow_mut().see() {
            let down = down(time);
            tracing::info!(db, replica = url, down, "the replica can be checked again");
        }
        return;
    };
    let failed = match e {
        RemoteError::Store(e) => blind.borrow_mut().fail(Some(e), Instant::now()),
        _ => blind.borrow_mut().fail(None, Instant::now()),
    };
    if let Some(time) = failed {
        let down = (time > Duration::ZERO).then(|| down(time));
        tracing::warn!(
            db, replica = url, error = %e, down,
            "cannot check whether the replica holds what was stored; uploads go on"
        );
    }
}

/// The first file that the newest state needs and that is not listed as it was stored, and whether
/// the listing tells of all of them. At a bucket this is one page: level 0 from the first such file
/// on, and then the other levels.
async fn lost(store: &dyn Store, history: &Feed) -> Result<(Option<Stored>, bool), StoreError> {
    let needed = history.newest_files();
    let raw = needed.iter().map(|s| s.id).filter(|id| id.level == Level::RAW);
    let Some(first) = raw.map(|id| id.min).min().or_else(|| needed.last().map(|s| s.id.max.next())) else {
        return Ok((None, false));
    };
    let Some(page) = store.list_page_after(Txid(first.0 - 1)).await? else { return Ok((None, false)) };
    let listed: HashMap<LtxId, u64> = page.files.iter().map(|e| (e.id, e.size)).collect();
    let is_lost = |s: &Stored| {
        page.last.is_none_or(|last| s.id <= last) && listed.get(&s.id) != Some(&s.size) && history.has(s.id)
    };
    Ok((needed.into_iter().find(is_lost), page.last.is_none()))
}

/// What was found when an upload met an object of its name.
enum Met {
    /// The replica below that object is not ours.
    Foreign(Finding),
    /// The object is a file with this header.
    File(Header),
}

/// The failure of an upload whose name is taken by an object that a read does not find.
fn gone_again(url: &str, id: LtxId) -> StoreError {
    let message = format!("{url}: {id} exists when it is written, and does not when it is read");
    StoreError::new(ErrorKind::Transient, message)
}

impl Replica {
    /// Before an upload: makes sure that it continues what was stored, if there is reason for
    /// doubt.
    ///
    /// # Errors
    /// [`ReplicaError::Doubt`] if it does not.
    pub(super) async fn still_ours(&mut self) -> Result<(), ReplicaError> {
        let found = self.vigil.found.borrow_mut().take();
        if let Some(found) = found {
            return Err(self.doubt(found));
        }
        let pause = if self.store.is_local() { PAUSE_LOCAL } else { PAUSE };
        if self.vigil.must_wait(pause) {
            // A store may answer this and refuse the upload that waits for it. So the answer does
            // not end an outage that began before: the backoff would begin again with each check.
            let failed_before = self.trouble.since.is_some();
            let found = loop {
                let begun = Instant::now();
                let points = (self.vigil.anchor.get(), self.local.state().durable);
                match prove(&*self.store, &self.history, points, true).await {
                    Ok(found) => break found,
                    Err(RemoteError::Store(e)) => self.wait_out(e, begun).await?,
                    Err(e) => return Err(e.into()),
                }
            };
            if !failed_before {
                self.works();
            }
            if let Some(found) = found {
                return Err(self.doubt(found));
            }
            self.vigil.arm(self.local.state().durable);
        } else if self.vigil.is_due() {
            self.check_aside();
        }
        Ok(())
    }

    /// Judges the object that an upload has met under its name. Another program writes to this
    /// replica, with two exceptions. If what was stored before is not ours any more, another
    /// replica was put in its place. If the object is one that was sent from here before, it has
    /// arrived late. A store that fails meanwhile is asked again: no object is judged unseen. `Ok`
    /// if the object is gone again, so that the upload may be repeated.
    ///
    /// # Errors
    /// The judgement, or that there is no time for another attempt.
    pub(super) async fn taken(&mut self, e: StoreError) -> Result<(), ReplicaError> {
        let points = (self.vigil.anchor.get(), self.local.state().durable);
        let id = LtxId::raw(self.local.state().intended.txid);
        let reason = loop {
            let begun = Instant::now();
            match self.look_at_taken(points, id).await {
                Ok(Met::Foreign(found)) => break self.doubt(found),
                Ok(Met::File(header)) if self.local.state().is_of_our_upload(&header) => {
                    break ReplicaError::Late(id.max);
                }
                Err(RemoteError::Store(failed)) if failed.kind() == ErrorKind::NotFound => {
                    return self.wait_out(gone_again(self.store.url(), id), begun).await;
                }
                Err(RemoteError::Store(failed)) if failed.kind() != ErrorKind::Corrupt => {
                    self.wait_out(failed, begun).await?;
                }
                Ok(Met::File(_)) | Err(_) => return Err(e.into()),
            }
        };
        // The pages of this upload are no longer pending.
        self.handoff.slot(self.index, |s| s.gap = Some(reason.to_string()));
        Err(reason)
    }

    async fn look_at_taken(&self, points: (Point, Point), id: LtxId) -> Result<Met, RemoteError> {
        match prove(&*self.store, &self.history, points, true).await? {
            Some(found) => Ok(Met::Foreign(found)),
            None => Ok(Met::File(header_of(&*self.store, id).await?)),
        }
    }

    fn doubt(&mut self, found: Finding) -> ReplicaError {
        let reason = found.what.reason.clone();
        self.vigil.graft = found.below.then_some(found.what);
        ReplicaError::Doubt(reason)
    }

    /// At the start: looks for a file that was exchanged below the newest one, which is ours.
    pub(super) async fn find_exchanged(&mut self) -> Result<(), ReplicaError> {
        if let Some(found) = self.exchanged_landmark().await? {
            tracing::warn!(
                db = %self.db_name(), replica = self.store.url(), reason = found.reason,
                "the replica has files that were not stored there; storing an image of the whole database"
            );
            self.vigil.graft = Some(found);
        }
        Ok(())
    }

    /// What to do after [`resume::decide`] has judged the newest object, if a check has found that
    /// it was put on something else than what was stored: every page is stored again, and a full
    /// image that needs no other file.
    pub(super) fn after_graft(&mut self, decision: Decision) -> Decision {
        let Some(graft) = self.vigil.graft.take() else { return decision };
        self.local.distrust();
        self.history.want_image();
        let decision = Decision { unsound: true, ..decision };
        match decision.start {
            Start::Image(_) => decision,
            _ => Decision { start: Start::Image(graft.reason), stranger: graft.stranger, ..decision },
        }
    }

    /// Checks the anchor and some files that a restore needs, next to the uploads.
    fn check_aside(&mut self) {
        let vigil = &mut self.vigil;
        (vigil.checked, vigil.turn) = (Instant::now(), vigil.turn + 1);
        let files = self.history.needed(vigil.turn);
        let (store, history, durable) =
            (Arc::clone(&self.store), Rc::clone(&self.history), self.local.state().durable);
        let (found, handoff, index) = (Rc::clone(&vigil.found), Rc::clone(&self.handoff), self.index);
        let (anchor, blind) = (Rc::clone(&vigil.anchor), Rc::clone(&vigil.blind));
        let blind_files = Rc::clone(&vigil.blind_files);
        let db = self.db_name().to_string();
        self.vigil.check = Background::spawn(async move {
            let proven = prove(&*store, &history, (anchor.get(), durable), false).await;
            note_check(&blind, &db, store.url(), proven.as_ref().err());
            if matches!(proven, Ok(None)) {
                anchor.set(durable);
            }
            let is_answered = proven.is_ok();
            let mut finding = proven.ok().flatten();
            if is_answered && finding.is_none() && blind_files.borrow().allows(Instant::now()) {
                let missed = missed_of(&*store, &history, files).await;
                note_check(&blind_files, &db, store.url(), missed.as_ref().err());
                finding = missed.ok().flatten();
            }
            if finding.is_some() {
                *found.borrow_mut() = finding;
                handoff.wake(index);
            }
        });
    }

    /// At the stop, when everything is acknowledged: makes sure that the replica still holds it.
    /// Without this, objects that were deleted or exchanged since the last check would be called
    /// stored. A store that does not answer in time is no error, because it has acknowledged
    /// everything.
    ///
    /// # Errors
    /// [`ReplicaError::Doubt`] if the replica is not what was stored there, and
    /// [`ReplicaError::Unstored`] if it has been made good more than [`HEALS_AT_STOP`] times.
    pub(super) async fn still_ours_at_stop(&mut self) -> Result<(), ReplicaError> {
        let points = (self.vigil.anchor.get(), self.local.state().durable);
        let files = self.history.needed(self.vigil.turn);
        let check = async {
            let (store, history) = (&*self.store, &*self.history);
            let mut found = prove(store, history, points, true).await?;
            let mut is_whole = false;
            // Any file may be missing. A run that has stored nothing saves the request.
            if found.is_none() && (store.is_local() || self.vigil.wrote) {
                let (lost, whole) = lost(store, history).await?;
                is_whole = whole;
                if let Some(file) = lost {
                    // A listing may lag.
                    found = missed(store, history, file).await?;
                }
            }
            match files.first() {
                Some(file) if found.is_none() && !is_whole => Ok(missed(store, history, *file).await?),
                _ => Ok::<_, RemoteError>(found),
            }
        };
        // The rest of the time is for what a failed check leads to.
        let limit = self.deadline.time_left(2 * CHECK_AT_STOP) / 2;
        let problem = match tokio::time::timeout(limit, check).await {
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(found))) => {
                self.vigil.failed_at_stop += 1;
                if self.vigil.failed_at_stop <= HEALS_AT_STOP {
                    return Err(self.doubt(found));
                }
                let (url, reason) = (self.store.url(), found.what.reason);
                let message = format!("{url} does not keep what is stored there: {reason}");
                return Err(ReplicaError::Unstored(StoreError::new(ErrorKind::Corrupt, message)));
            }
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        tracing::warn!(
            db = %self.db_name(), replica = self.store.url(), problem,
            "everything was stored, but whether the replica still holds it could not be checked"
        );
        Ok(())
    }

    /// Whether a check next to uploads has found a reason for doubt.
    pub(super) fn is_doubted(&self) -> bool {
        self.vigil.found.borrow().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Millis;
    use crate::replicate::history::Cache;
    use crate::store::{FileStore, PutOptions};

    /// The history deletes files too: only one that it still counts on is missed.
    #[tokio::test]
    async fn a_file_that_is_gone_or_has_another_length_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path());
        let id = LtxId::raw(Txid(3));
        let put = async |bytes: &'static [u8]| {
            let options = PutOptions { created: Millis(1), create_only: false };
            store.put(id, vec![bytes.into()], options).await.unwrap();
        };
        put(&[7; 700]).await;
        let history = Feed::new(Cache::default().inventory());
        history.listed(&store.list_all().await.unwrap(), Millis(1));
        let [file] = history.landmarks()[..] else { panic!("one file") };
        let missed = async || missed(&store, &history, file).await.unwrap().map(|found| found.what.reason);
        assert_eq!(missed().await, None);
        put(&[7; 800]).await;
        assert!(missed().await.unwrap().contains("800 bytes"));
        store.delete(&[id]).await.unwrap();
        assert!(missed().await.unwrap().contains("not there any more"));
        history.forget();
        assert_eq!(missed().await, None);
    }
}
