//! Which state of the replica a database file is.
//!
//! The header of a file of the replica has the checksum of the database after it, so the state
//! whose checksum is that of the file is the one. Headers are read in the order in which they are
//! likely to fit: the wanted state, the newest one, then those stored near the time at which the
//! database file was written.
//!
//! A database that went on without its replica is no state of it. Where its page hashes are known
//! as of some state ([`Hint`]), the pages that differ from them are known too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::local::Local;
use crate::base::clock::Millis;
use crate::base::pages::PageSet;
use crate::base::{Pgno, Txid, limits};
use crate::ltx::Header;
use crate::restore::damage::{self, Damaged};
use crate::restore::{self, RestoreError, Survey, Until, read_header};
use crate::store::{Entry, Store};

/// Headers that are read first, together: of the wanted state, the newest one, and the hint.
const LIKELY: usize = 3;

/// Headers of states near the time of the file that are read before all of a large replica is
/// listed.
const NEAR: usize = 4 * limits::HEADERS_AT_ONCE;

/// The hashes of all pages of the database as of a state.
#[derive(Debug, Clone)]
pub struct Hint {
    /// The state.
    pub txid: Txid,
    /// Hash of each page in the database checksum, that of page 1 first.
    pub hashes: Vec<u64>,
}

/// A state of the replica that the file is, except for some pages.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) txid: Txid,
    /// Pages of the file that differ from that state.
    pub(super) changed: PageSet,
}

/// What is listed when candidates are chosen: more where the file is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// The newest states, and that of the hint.
    Likely,
    /// The states stored near the time at which the file was written.
    Near,
    Everything,
}

/// Finds the state; `None` if the file is none that is known. Lists what it needs for that.
pub(super) async fn find(
    store: &Arc<dyn Store>,
    survey: &mut Survey,
    damaged: &mut Damaged,
    local: &Local,
    wanted: Txid,
    hint: Option<&Hint>,
) -> Result<Option<Base>, RestoreError> {
    let mut seen = BTreeSet::new();
    for look in [Look::Likely, Look::Near, Look::Everything] {
        let was_whole = survey.is_whole();
        match look {
            Look::Likely => {
                survey.extend_to_newest(&**store).await?;
                if let Some(hint) = hint {
                    survey.cover(&**store, Txid(hint.txid.0.saturating_sub(1)), hint.txid).await?;
                }
            }
            Look::Near if was_whole => continue,
            Look::Near => near(store, survey, damaged, local).await?,
            Look::Everything => survey.complete(&**store).await?,
        }
        let files = &survey.listing().files;
        let mut ends = candidates(files, damaged, local, wanted, hint);
        ends.retain(|e| !seen.contains(&e.id.max));
        ends.truncate(match look {
            Look::Likely => LIKELY,
            Look::Near => NEAR,
            Look::Everything => limits::DELTA_HEADERS - seen.len(),
        });
        for chunk in ends.chunks(limits::HEADERS_AT_ONCE) {
            seen.extend(chunk.iter().map(|e| e.id.max));
            let headers = headers(store, chunk).await?;
            let is_it = |h: &&Header| {
                (h.checksum, h.commit, h.page_size) == (Some(local.sum), local.pages, local.page_size)
            };
            if let Some(header) = headers.iter().find(is_it) {
                return Ok(Some(Base { txid: header.max, changed: PageSet::default() }));
            }
            if look == Look::Likely
                && let Some(hint) = hint
                && let Some(header) = headers.iter().find(|h| h.max == hint.txid)
                && let Some(changed) = differing(local, hint, header)
            {
                return Ok(Some(Base { txid: hint.txid, changed }));
            }
        }
    }
    Ok(None)
}

/// Lists the states stored near the time at which the file was written.
async fn near(
    store: &Arc<dyn Store>,
    survey: &mut Survey,
    damaged: &mut Damaged,
    local: &Local,
) -> Result<(), RestoreError> {
    let time = Until::Before(Millis(local.modified_ms()));
    match restore::choose_sound(store, survey, time.into(), damaged).await {
        // The file is older than the replica, or its time cannot be reached: no state is near it.
        Ok(_) | Err(RestoreError::TooEarly { .. } | RestoreError::Plan { .. }) => Ok(()),
        Err(e) if damage::fault(&e).is_some() || damage::moved(&e).is_some() => Ok(()),
        Err(e) => Err(e),
    }
}

/// One file for each state, in the order in which their headers are worth reading.
fn candidates(
    files: &[Entry],
    damaged: &Damaged,
    local: &Local,
    wanted: Txid,
    hint: Option<&Hint>,
) -> Vec<Entry> {
    let mut ends: BTreeMap<Txid, Entry> = BTreeMap::new();
    for entry in files.iter().filter(|e| !damaged.has(e.id)) {
        let end = ends.entry(entry.id.max).or_insert(*entry);
        if entry.id.level < end.id.level {
            *end = *entry;
        }
    }
    let newest = ends.keys().next_back().copied();
    let first = [Some(wanted), newest, hint.map(|h| h.txid)];
    let mut order: Vec<Entry> = first.into_iter().flatten().filter_map(|txid| ends.remove(&txid)).collect();
    let mut others: Vec<Entry> = ends.into_values().collect();
    let written = local.modified_ms();
    others.sort_by_key(|e| (e.modified.0.abs_diff(written), std::cmp::Reverse(e.id.max)));
    order.extend(others);
    order
}

/// Reads headers at the same time. Those of damaged and vanished files are left out.
async fn headers(store: &Arc<dyn Store>, entries: &[Entry]) -> Result<Vec<Header>, RestoreError> {
    let mut under_way = JoinSet::new();
    for entry in entries {
        let (store, entry) = (Arc::clone(store), *entry);
        under_way.spawn(async move { read_header(&*store, &entry).await });
    }
    let mut headers = Vec::new();
    while let Some(done) = under_way.join_next().await {
        match done.map_err(|_| RestoreError::Interrupted)? {
            Ok(header) => headers.push(header),
            Err(e) if damage::fault(&e).is_some() || damage::moved(&e).is_some() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(headers)
}

/// The pages of the file that differ from the hint; `None` if the hint is not of this state.
fn differing(local: &Local, hint: &Hint, header: &Header) -> Option<PageSet> {
    let hashes = hint.hashes.get(..header.commit as usize)?;
    let lock = header.page_size.lock_page();
    let mut sum = 0;
    let mut changed = PageSet::default();
    for (pgno, hash) in (1..).filter_map(Pgno::new).zip(hashes).filter(|(pgno, _)| *pgno != lock) {
        sum ^= hash;
        if local.hash(pgno) != Some(*hash) {
            changed.insert(pgno);
        }
    }
    let is_of_state = header.checksum.is_some_and(|c| c.0 == sum) && header.page_size == local.page_size;
    is_of_state.then_some(changed)
}
