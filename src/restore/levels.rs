//! Whether the levels of a replica have one history, told by the checksums in their headers.
//!
//! # Overview
//!
//! Files of several levels may end at the same TXID, and each says which checksum the database had
//! then. If two differ, the levels *clash* there: one file is of another database, or the replica
//! holds two histories, as after level 0 was replaced by that of a fork of the database. Names and
//! CRCs do not show that.
//!
//! A fork never joins its origin again. So the last such TXID at or before a state tells whether
//! the levels had one history until then, and if that is an earlier one, the next after it tells
//! whether they still had. This takes the headers of two or three files, 100 bytes each.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use super::damage::{self, Damaged};
use super::{RestoreError, times};
use crate::base::{DatabaseChecksum, LtxId, Txid};
use crate::store::{Entry, Store};

/// How many TXIDs are looked at, in each direction, until one has two files with checksums. Files
/// of Litestream have none.
const LOOKS: usize = 3;

/// A TXID after which files of two levels have different checksums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    pub txid: Txid,
    /// The different checksums, each with the files that have it, the lowest level first. At least
    /// two.
    pub sides: Vec<(DatabaseChecksum, Vec<LtxId>)>,
}

/// The TXIDs at which files of several levels end.
pub(super) struct Levels<'a> {
    store: &'a dyn Store,
    ends: BTreeMap<Txid, Vec<Entry>>,
    /// What the headers of files that end at a TXID said.
    known: Mutex<BTreeMap<Txid, Sides>>,
    requests: AtomicU64,
}

/// The checksums of files that end at one TXID, each with the files that have it.
type Sides = Vec<(DatabaseChecksum, Vec<LtxId>)>;

impl<'a> Levels<'a> {
    pub(super) fn new(store: &'a dyn Store, files: &[Entry], damaged: &Damaged) -> Levels<'a> {
        let mut ends: BTreeMap<Txid, Vec<Entry>> = BTreeMap::new();
        for file in damaged.sound(files) {
            ends.entry(file.id.max).or_default().push(file);
        }
        ends.retain(|_, files| files.len() > 1);
        ends.values_mut().for_each(|files| files.sort_unstable_by_key(|e| (e.id.level, e.id.min)));
        Levels { store, ends, known: Mutex::default(), requests: AtomicU64::new(0) }
    }

    /// Where the levels clash so that the state at `wanted` may be one of either history.
    ///
    /// # Errors
    /// An error of the store. A file that cannot be read says nothing.
    pub(super) async fn clash(&self, wanted: Txid) -> Result<Option<Clash>, RestoreError> {
        let mut silent = 0;
        for (&txid, files) in self.ends.range(..=wanted).rev().take(LOOKS) {
            let sides = self.sides(txid, files).await?;
            match sides.len() {
                0 => silent += 1,
                1 if txid == wanted => return Ok(None),
                1 => break,
                _ => return Ok(Some(Clash { txid, sides })),
            }
        }
        for (&txid, files) in self.ends.range(wanted.next()..).take(LOOKS - silent) {
            let sides = self.sides(txid, files).await?;
            if !sides.is_empty() {
                return Ok((sides.len() > 1).then_some(Clash { txid, sides }));
            }
        }
        Ok(None)
    }

    /// The last TXID before `clash` at which the levels agree.
    ///
    /// # Errors
    /// An error of the store.
    pub(super) async fn last_agreement(&self, clash: Txid) -> Result<Option<Txid>, RestoreError> {
        let before: Vec<(&Txid, &Vec<Entry>)> = self.ends.range(..clash).collect();
        let (mut low, mut high, mut found) = (0, before.len(), None);
        while low < high {
            let at = low.midpoint(high);
            let (txid, files) = before[at];
            if self.sides(*txid, files).await?.len() == 1 {
                (low, found) = (at + 1, Some(*txid));
            } else {
                high = at;
            }
        }
        Ok(found)
    }

    /// The checksums in the headers of files that end at one TXID. None if fewer than two of them
    /// have one.
    async fn sides(&self, txid: Txid, files: &[Entry]) -> Result<Sides, RestoreError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sides) = known().get(&txid) {
            return Ok(sides.clone());
        }
        let sides = self.read_sides(files).await?;
        known().insert(txid, sides.clone());
        Ok(sides)
    }

    async fn read_sides(&self, files: &[Entry]) -> Result<Sides, RestoreError> {
        let mut sides = Sides::new();
        for file in files {
            self.requests.fetch_add(1, Relaxed);
            let sum = match times::header(self.store, file).await {
                Ok(header) => header.checksum,
                Err(e) if damage::fault(&e).is_some() || damage::moved(&e).is_some() => None,
                Err(e) => return Err(e),
            };
            let Some(sum) = sum else {
                // Without a checksum of the lowest level, as of Litestream's, little can be told.
                if sides.is_empty() {
                    break;
                }
                continue;
            };
            match sides.iter_mut().find(|(other, _)| *other == sum) {
                Some((_, files)) => files.push(file.id),
                None => sides.push((sum, vec![file.id])),
            }
        }
        let told: usize = sides.iter().map(|(_, files)| files.len()).sum();
        Ok(if told < 2 { Vec::new() } else { sides })
    }
}

/// Logs that the levels clash at the state that a command shows but does not restore. Returns the
/// number of requests.
///
/// # Errors
/// An error of the store.
pub(super) async fn warn_of_clash(
    store: &dyn Store,
    files: &[Entry],
    wanted: Txid,
) -> Result<u64, RestoreError> {
    let levels = Levels::new(store, files, &Damaged::of_listing(files));
    if let Some(Clash { txid, sides }) = levels.clash(wanted).await?
        && let [(one_sum, one), (other_sum, other), ..] = &sides[..]
    {
        tracing::warn!(
            replica = store.url(), %txid, one = %one[0], %one_sum, other = %other[0], %other_sum,
            "two files have different checksums of the database after one TXID; a restore refuses states that may be of two histories"
        );
    }
    Ok(levels.requests.into_inner())
}
