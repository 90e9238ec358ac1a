//! Whether each batch makes the state whose checksum it has.
//!
//! # Why
//!
//! A batch of a fork of the database, under the right name, is whole, and its checksum was that of
//! some database. Where no other level has a file that ends with it, no two checksums differ. Only
//! the batches after it tell: the pages that they lead to make other checksums than they have.
//!
//! # How
//!
//! The hash of each page is known from a state that files lead to. Each batch of level 0 exchanges
//! the hashes of its pages, which makes the checksum of the next state. This takes the files of one
//! state twice, and [`VERIFY_CHAIN_PAGES`](limits::VERIFY_CHAIN_PAGES) hashes of memory at most.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::file::{self, Checked, Pages};
use super::stream::{Meter, Pace};
use crate::base::{DatabaseChecksum, Level, LtxId, Pgno, Txid, limits};
use crate::restore::RestoreError;
use crate::restore::blocking::join_error;
use crate::restore::claims::Claims;
use crate::restore::damage::Damaged;
use crate::restore::plan::Goal;
use crate::restore::times;
use crate::store::{Entry, Store};

/// Batches that do not make the state whose checksum they have.
#[derive(Debug, Default)]
pub(super) struct Broken {
    /// The states that are not made.
    pub(super) states: BTreeSet<Txid>,
    /// The first of each run of such states, with the batch before it, if there is one.
    pub(super) first: Vec<(Txid, Option<Txid>)>,
}

/// The hashes of all pages after a batch.
#[derive(Default)]
struct Known {
    hashes: Vec<u64>,
    sum: DatabaseChecksum,
}

impl Known {
    /// Exchanges the hashes of the pages of a batch, after which the database has `commit` pages.
    fn apply(&mut self, commit: u32, pages: &[(Pgno, u64)]) {
        let commit = commit as usize;
        for cut in self.hashes.drain(commit.min(self.hashes.len())..) {
            self.sum.toggle(cut);
        }
        // A page without a hash, such as the lock page, has 0, which toggles nothing.
        self.hashes.resize(commit, 0);
        for (pgno, hash) in pages {
            if let Some(known) = self.hashes.get_mut(pgno.index()) {
                self.sum.toggle(*known);
                self.sum.toggle(*hash);
                *known = *hash;
            }
        }
    }
}

/// Follows the batches of level 0, with what was read of each.
///
/// # Errors
/// An error of the store.
pub(super) async fn broken(
    store: &Arc<dyn Store>,
    files: &[Entry],
    damaged: &Damaged,
) -> Result<Broken, RestoreError> {
    let mut raw: Vec<Entry> = damaged.sound(files);
    raw.retain(|e| e.id.level == Level::RAW && e.id.min == e.id.max);
    raw.sort_unstable_by_key(|e| e.id.min);
    let pace = Arc::new(Pace::new(None, Meter::default()));
    let (mut found, mut known): (Broken, Option<Known>) = Default::default();
    let mut ahead = VecDeque::new();
    let mut waiting = raw.into_iter();
    let (mut before, mut is_broken, mut attempts): (Option<Txid>, bool, u32) = Default::default();
    loop {
        while ahead.len() < limits::VERIFY_FILES
            && let Some(entry) = waiting.next()
        {
            let (store, pace) = (Arc::clone(store), Arc::clone(&pace));
            ahead.push_back(tokio::spawn(async move {
                let pages = Pages { list: Some(Vec::new()), ..Pages::default() };
                (entry, file::check(&store, entry, &pace, Some(pages)).await)
            }));
        }
        let Some(next) = ahead.pop_front() else { return Ok(found) };
        let (entry, checked) = next.await.map_err(join_error)?;
        let txid = entry.id.max;
        let (checked, pages) = checked?;
        let checked = match checked {
            Ok(checked) => checked,
            Err(e @ RestoreError::Store(_)) => return Err(e),
            // Damaged since, or removed: the next begins again.
            Err(_) => {
                known = None;
                continue;
            }
        };
        if before.is_none_or(|before| before.next() != txid) || known.is_none() {
            is_broken = false;
            known = match damaged.plan(files, Goal::Txid(Txid(txid.0 - 1))) {
                _ if txid == Txid(1) => Some(Known::default()),
                Ok(_) if attempts == limits::VERIFY_ATTEMPTS => return Ok(found),
                Ok(chain) => {
                    attempts += 1;
                    base(store, &chain, &pace).await?
                }
                Err(_) => None,
            };
        }
        before = Some(txid);
        let Some(known) = &mut known else { continue };
        known.apply(checked.header.commit, &pages.and_then(|p| p.list).unwrap_or_default());
        let Some(expected) = checked.header.checksum else { continue };
        if expected == known.sum {
            is_broken = false;
            continue;
        }
        found.states.insert(txid);
        if !std::mem::replace(&mut is_broken, true) && found.first.len() < limits::VERIFY_FINDINGS {
            let before = Txid(txid.0 - 1);
            found.first.push((txid, (before.0 > 0).then_some(before)));
        }
    }
}

/// The hashes of the state that a plan leads to; `None` if the plan does not make it, or the state
/// is too large.
async fn base(
    store: &Arc<dyn Store>,
    chain: &[Entry],
    pace: &Arc<Pace>,
) -> Result<Option<Known>, RestoreError> {
    let Some(last) = chain.last() else { return Ok(None) };
    match times::header(&**store, last).await {
        Ok(header) if header.checksum.is_some() && header.commit <= limits::VERIFY_CHAIN_PAGES => {}
        Ok(_) => return Ok(None),
        Err(e @ RestoreError::Store(_)) => return Err(e),
        Err(_) => return Ok(None),
    }
    let mut pages = Pages { hashes: Some(Vec::new()), ..Pages::default() };
    let mut newest: Option<Checked> = None;
    for entry in chain.iter().rev() {
        let (checked, with) = file::check(store, *entry, pace, Some(pages)).await?;
        pages = with.unwrap_or_default();
        let checked = match checked {
            Ok(checked) => checked,
            Err(e @ RestoreError::Store(_)) => return Err(e),
            Err(_) => return Ok(None),
        };
        newest = newest.or(Some(checked));
    }
    let is_whole = pages.claims.as_ref().and_then(Claims::missing).is_none();
    let makes = |checked: Checked| checked.header.checksum.is_some_and(|sum| sum == pages.sum);
    Ok(newest.filter(|n| is_whole && makes(*n)).map(|n| {
        let mut hashes = pages.hashes.unwrap_or_default();
        hashes.resize(n.header.commit as usize, 0);
        Known { hashes, sum: pages.sum }
    }))
}

/// The message about the batch with which such a run begins.
pub(super) fn sentence((txid, before): (Txid, Option<Txid>)) -> String {
    let id = LtxId::raw(txid);
    let others = before.map_or_else(String::new, |before| format!(", or {}", LtxId::raw(before)));
    format!(
        "the pages that lead to TXID {txid} make another checksum than {id} has: {id}{others} is of another database or \
         another time, and states from there on may not be restorable"
    )
}
