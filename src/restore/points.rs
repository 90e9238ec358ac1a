//! Lists the states that can be restored.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::RestoreError;
use super::blocking::join_error;
use super::choose::{self, Choice, Files};
use super::damage::{self, Damaged};
use super::levels;
use super::object::Object;
use super::plan::Goal;
use super::survey::Survey;
use super::times::{self, Times};
use crate::base::clock::Millis;
use crate::base::{DatabaseChecksum, Level, Txid, limits};
use crate::legacy::{self, LegacyState};
use crate::store::{Entry, Listing, Store};

/// A state that can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// When the state was stored.
    pub created: Millis,
    /// Checksum of the database in that state; `None` if its file has none, or if a list of times
    /// made it needless to read the file's header.
    pub checksum: Option<DatabaseChecksum>,
    /// The name of the state.
    pub state: PointState,
    /// The files that a restore of it reads, in the order in which they build on each other. Empty
    /// for Litestream 0.3.
    pub files: Vec<Entry>,
    /// Number of files that a restore of it reads.
    pub file_count: usize,
    /// Total bytes of those files.
    pub bytes: u64,
}

/// Names a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointState {
    /// A state of LTX files, named by its TXID.
    Ltx {
        /// The last TXID of the state.
        txid: Txid,
        /// Level of the file that ends with it.
        level: Level,
    },
    /// A state of Litestream 0.3, named by generation and WAL.
    Legacy(LegacyState),
}

/// The newest `limit` states, newest last, and whether there are more.
///
/// Lists only what these states need, and takes one request of 100 bytes for each returned state
/// that no list of times covers.
///
/// # Errors
/// [`RestoreError`]; [`RestoreError::Empty`] if the replica holds no state.
pub async fn points(store: &Arc<dyn Store>, limit: usize) -> Result<(Vec<Point>, bool), RestoreError> {
    let mut gone = Damaged::default();
    for _ in 1..limits::RESTORE_LISTINGS {
        match list(store, limit, gone.clone()).await {
            Err(e) => {
                // The file was merged since the listing. If the listing is wrong, it is met again.
                let Some((id, why)) = damage::moved(&e) else { return Err(e) };
                gone.add(id, why.to_owned());
            }
            points => return points,
        }
    }
    list(store, limit, gone).await
}

/// As [`points`], for one listing. `gone` are files that are known to be missing.
async fn list(
    store: &Arc<dyn Store>,
    limit: usize,
    gone: Damaged,
) -> Result<(Vec<Point>, bool), RestoreError> {
    let limit = limit.clamp(1, limits::POINTS_MAX);
    // One more than `limit` tells whether there are more.
    let want = limit + 1;
    let mut survey = Survey::newest(&**store, want as u64).await?;
    let old = choose::legacy_files(survey.listing());
    if old.is_empty() && survey.listing().files.is_empty() {
        return Err(RestoreError::Empty { url: store.url().to_owned() });
    }
    legacy::warn_of_lost_times(&old, store.url());
    let mut damaged = Damaged::of_listing(&survey.listing().files);
    for (id, why) in gone.iter().filter(|(id, _)| survey.listing().files.iter().any(|e| e.id == **id)) {
        damaged.add(*id, why.to_owned());
    }
    let mut times = Times::new(&**store, survey.listing());
    let plans = loop {
        let plans = newest_plans(survey.listing(), survey.from(), &damaged, want);
        // Another file may replace a damaged one.
        let is_enough = survey.is_whole() || plans.len() == want && damaged.is_empty();
        if !is_enough {
            earlier(&mut survey, &**store, want, &damaged).await?;
            for (id, why) in Damaged::of_listing(&survey.listing().files).iter() {
                damaged.add(*id, why.to_owned());
            }
            times.relist(survey.listing());
            continue;
        }
        let txids: Vec<Txid> = plans.iter().filter_map(|p| p.last()).map(|e| e.id.max).collect();
        // An unreadable header counts as damage, so the plans are made again without that file.
        if !read_headers(store, &mut times, &txids, &mut damaged).await? {
            break plans;
        }
    };
    for (id, why) in damaged.iter() {
        tracing::warn!(file = %id, replica = store.url(), reason = why, "a file is damaged: states that need it are not listed");
    }
    if let Some(newest) = survey.listing().files.iter().map(|e| e.id.max).max() {
        levels::warn_of_clash(&**store, &survey.listing().files, newest).await?;
    }
    let mut points = Vec::new();
    for files in plans {
        let Some(last) = files.last().map(|e| e.id) else { continue };
        let created = times.at(last.max, &mut damaged).await?.unwrap_or_default();
        let state = PointState::Ltx { txid: last.max, level: last.level };
        let (file_count, bytes) = (files.len(), files.iter().map(|e| e.size).sum());
        let checksum = times.checksum(last.max);
        points.push(Point { created, checksum, state, files, file_count, bytes });
    }
    points.reverse();
    points.extend(legacy::states(&old).into_iter().rev().take(limit + 1).map(|state| Point {
        created: state.created,
        checksum: None,
        state: PointState::Legacy(state),
        files: Vec::new(),
        file_count: state.files,
        bytes: state.bytes,
    }));
    points.sort_by_key(|p| p.created);
    let more = points.len() > limit;
    points.drain(..points.len().saturating_sub(limit));
    Ok((points, more))
}

/// The plans of the newest `want` states from `from` on, the newest first.
fn newest_plans(listing: &Listing, from: Txid, damaged: &Damaged, want: usize) -> Vec<Vec<Entry>> {
    let mut ends: Vec<Txid> = listing.files.iter().map(|e| e.id.max).filter(|end| *end >= from).collect();
    ends.sort_unstable();
    ends.dedup();
    let plan = |txid: &Txid| damaged.plan(&listing.files, Goal::Txid(*txid)).ok();
    ends.iter().rev().filter_map(plan).take(want).collect()
}

/// Lists what was stored earlier, at least twice as many TXIDs each time.
async fn earlier(
    survey: &mut Survey,
    store: &dyn Store,
    want: usize,
    damaged: &Damaged,
) -> Result<(), RestoreError> {
    let newest = survey.listing().files.iter().map(|e| e.id.max).max().unwrap_or_default();
    let from = survey.from();
    let more = newest.0.saturating_sub(from.0).max(want as u64);
    let begin = survey.reached(Txid(from.0.saturating_sub(more)));
    if begin == Txid(0) || !damaged.is_empty() {
        survey.complete(store).await?;
    } else {
        survey.cover(store, begin, from).await?;
    }
    Ok(())
}

/// Reads the headers whose times no list has, several at the same time. True if a file turned out
/// to be damaged.
async fn read_headers(
    store: &Arc<dyn Store>,
    times: &mut Times<'_>,
    txids: &[Txid],
    damaged: &mut Damaged,
) -> Result<bool, RestoreError> {
    let mut waiting = times.unknown(txids, damaged).await?.into_iter();
    let mut under_way = JoinSet::new();
    let mut found = false;
    loop {
        while under_way.len() < limits::HEADERS_AT_ONCE
            && let Some(entry) = waiting.next()
        {
            let store = Arc::clone(store);
            under_way.spawn(async move { times::header(&*store, &entry).await });
        }
        match under_way.join_next().await {
            Some(header) => match header.map_err(join_error)? {
                Ok(header) => times.learn(&header),
                Err(e) => {
                    let Some((id, why)) = damage::fault(&e) else { return Err(e) };
                    found |= damaged.add(id, why);
                }
            },
            None => return Ok(found),
        }
    }
}

impl Choice {
    /// When the state was stored. May take one small request for LTX files.
    ///
    /// # Errors
    /// [`RestoreError`], if the header cannot be read.
    pub async fn created(&self, store: &dyn Store) -> Result<Millis, RestoreError> {
        match (self.created, &self.files) {
            (Some(created), _) => Ok(created),
            (None, Files::Legacy(plan)) => Ok(plan.created()),
            (None, Files::Ltx(files)) => {
                let last = files.last().ok_or(RestoreError::Interrupted)?;
                Ok(times::header(store, last).await?.timestamp)
            }
        }
    }
}

/// The name of an object as a listing of the replica shows it.
#[must_use]
pub fn object_name(object: &Object) -> String {
    match object {
        Object::Ltx(id) => format!("{}/{}", id.level, id.file_name()),
        Object::Legacy(name) => name.path(),
        Object::Times(id) => crate::store::SideId::Times(*id).path(),
    }
}
