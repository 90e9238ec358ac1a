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
//! state once more, and [`VERIFY_CHAIN_PAGES`](limits::VERIFY_CHAIN_PAGES) hashes of memory at
//! most. A sample of a replica is a run of its batches.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::file::{self, Checked, Pages};
use super::report::VerifyReport;
use super::stream::Pace;
use crate::base::{DatabaseChecksum, Level, LtxId, Pgno, Txid, limits};
use crate::restore::RestoreError;
use crate::restore::blocking::join_error;
use crate::restore::claims::Claims;
use crate::restore::damage::Damaged;
use crate::restore::plan::Goal;
use crate::restore::times;
use crate::store::{Entry, Store};

/// States that their files do not make.
#[derive(Debug, Default)]
pub(super) struct Broken {
    /// The TXIDs of these states.
    pub(super) states: BTreeSet<Txid>,
    /// The last file of the first of each run of such states, with the batch before it, if there is
    /// one.
    pub(super) first: Vec<(LtxId, Option<LtxId>)>,
}

impl Broken {
    fn add(&mut self, id: LtxId, before: Option<LtxId>, is_first: bool) {
        self.states.insert(id.max);
        if is_first && self.first.len() < limits::VERIFY_FINDINGS {
            self.first.push((id, before));
        }
    }
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

/// Whether a file is one batch of level 0.
pub(super) fn is_batch(entry: &Entry) -> bool {
    entry.id.level == Level::RAW && entry.id.min == entry.id.max
}

/// The batches of level 0 to follow: all, or a run of `percent` of them, chosen at random.
pub(super) fn batches(files: &[Entry], percent: u8) -> Vec<Entry> {
    let mut all: Vec<Entry> = files.iter().filter(|e| is_batch(e)).copied().collect();
    all.sort_unstable_by_key(|e| e.id.min);
    let wanted = (all.len() * usize::from(percent.min(100))).div_ceil(100);
    let skipped = fastrand::usize(0..=all.len() - wanted);
    all.drain(skipped..skipped + wanted).collect()
}

/// Reads the batches, follows them from state to state, and enters those that are not among `read`
/// into the report.
///
/// # Errors
/// An error of the store.
pub(super) async fn follow(
    store: &Arc<dyn Store>,
    files: &[Entry],
    mut batches: Vec<Entry>,
    (read, pace): (&BTreeSet<LtxId>, &Arc<Pace>),
    (report, bad): (&mut VerifyReport, &mut Damaged),
) -> Result<Broken, RestoreError> {
    let (mut found, mut known): (Broken, Option<Known>) = Default::default();
    let mut ahead = VecDeque::new();
    batches.retain(|e| !(read.contains(&e.id) && bad.has(e.id)));
    let mut waiting = batches.into_iter().peekable();
    let (mut before, mut is_broken): (Option<Txid>, bool) = Default::default();
    let (mut ahead_bytes, mut plans, mut attempts) = (0, 0, 0);
    loop {
        while ahead.len() < limits::VERIFY_FILES
            && let Some(entry) = waiting.next_if(|e| ahead.is_empty() || ahead_bytes + e.size <= AHEAD_BYTES)
        {
            ahead_bytes += entry.size;
            let (store, pace) = (Arc::clone(store), Arc::clone(pace));
            ahead.push_back(tokio::spawn(async move {
                let pages = Pages { list: Some(Vec::new()), ..Pages::default() };
                (entry, file::check(&store, entry, &pace, Some(pages)).await)
            }));
        }
        let Some(next) = ahead.pop_front() else { return Ok(found) };
        let (entry, checked) = next.await.map_err(join_error)?;
        ahead_bytes -= entry.size;
        let txid = entry.id.max;
        let (checked, pages) = checked?;
        let proven = checked.as_ref().ok().map(|checked| checked.header);
        match checked {
            Err(e @ RestoreError::Store(_)) => return Err(e),
            checked if !read.contains(&entry.id) => report.note(entry, checked, bad)?,
            _ => {}
        }
        // Where one is damaged or was removed meanwhile, the next begins again.
        let Some(header) = proven else {
            known = None;
            continue;
        };
        if before.is_none_or(|before| before.next() != txid) || known.is_none() {
            is_broken = false;
            known = None;
            if txid == Txid(1) {
                known = Some(Known::default());
            } else if header.checksum.is_some() && plans < PLANS && attempts < limits::VERIFY_ATTEMPTS {
                plans += 1;
                if let Ok(chain) = bad.plan(files, Goal::Txid(Txid(txid.0 - 1))) {
                    attempts += 1;
                    let base = base(store, &chain, pace).await?;
                    if let Some((_, Some(last))) = base {
                        is_broken = true;
                        found.add(last, None, true);
                    }
                    known = base.map(|(known, _)| known);
                }
            }
        }
        before = Some(txid);
        let (Some(now), Some(list)) = (&mut known, pages.and_then(|p| p.list)) else {
            known = None;
            continue;
        };
        if header.commit > limits::VERIFY_CHAIN_PAGES {
            known = None;
            continue;
        }
        now.apply(header.commit, &list);
        let Some(expected) = header.checksum else { continue };
        if expected == now.sum {
            is_broken = false;
            continue;
        }
        let before = (txid > Txid(1)).then(|| LtxId::raw(Txid(txid.0 - 1)));
        found.add(entry.id, before, !std::mem::replace(&mut is_broken, true));
    }
}

/// Bytes of batches that are read at once. A larger batch is read alone.
const AHEAD_BYTES: u64 = limits::RESTORE_PART_BYTES;

/// Plans that are made to find a state to begin with. Each looks at all files, and batches before
/// the first image have none.
const PLANS: u32 = 64;

/// The hashes of the pages that a plan leads to, and its last file if that has another checksum.
/// `None` if pages are missing, there is no checksum, or the state is too large.
async fn base(
    store: &Arc<dyn Store>,
    chain: &[Entry],
    pace: &Arc<Pace>,
) -> Result<Option<(Known, Option<LtxId>)>, RestoreError> {
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
    if pages.claims.as_ref().and_then(Claims::missing).is_some() {
        return Ok(None);
    }
    Ok(newest.map(|n| {
        let mut hashes = pages.hashes.unwrap_or_default();
        hashes.resize(n.header.commit as usize, 0);
        let differs = n.header.checksum.is_some_and(|sum| sum != pages.sum);
        (Known { hashes, sum: pages.sum }, differs.then_some(last.id))
    }))
}

/// The message about the file with which such a run begins.
pub(super) fn sentence((id, before): (LtxId, Option<LtxId>)) -> String {
    let others = before.map_or_else(String::new, |before| format!(", or {before}"));
    format!(
        "the pages that lead to TXID {} make another checksum than {id} has: {id}{others} is of another database or \
         another time, and states from there on may not be restorable",
        id.max
    )
}
