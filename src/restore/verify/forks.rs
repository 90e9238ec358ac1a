//! Whether a replica holds two histories of its database.
//!
//! Where levels clash ([`Levels`]), each checksum is a claim. A file of another database under the
//! right name has a claim that no files make true: it is left out, like a damaged file. If several
//! claims are true, each is a state that some database had, and no file says which one is wanted.
//! Then nothing is restored. The exception is a state that files after the clash make alone, as
//! after a batch with all pages.
//!
//! The files are read for that only if levels clash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::file::{self, Pages};
use super::stream::{Meter, Pace};
use crate::base::{DatabaseChecksum, LtxId, Txid};
use crate::restore::RestoreError;
use crate::restore::claims::Claims;
use crate::restore::damage::{self, Damaged};
use crate::restore::doubt::Doubts;
use crate::restore::levels::{Clash, Levels};
use crate::restore::plan::Goal;
use crate::restore::times;
use crate::store::{Entry, Store};

/// Bytes of a replica that may be read in any case to judge which of its states a restore refuses.
const JUDGED_BYTES: u64 = 64 << 20;

/// Files that must not be used for the state at `wanted`, each with the reason.
///
/// # Errors
/// [`RestoreError::TwoHistories`], or an error of the store.
pub async fn odd_files(
    store: &Arc<dyn Store>,
    files: &[Entry],
    damaged: &Damaged,
    wanted: Txid,
) -> Result<Vec<(LtxId, String)>, RestoreError> {
    let mut judge = Judge::new(store, files, damaged);
    let Some(clash) = judge.levels.clash(wanted).await? else { return Ok(Vec::new()) };
    let Clash { txid, sides } = &clash;
    tracing::warn!(
        replica = store.url(), %txid, one = %sides[0].1[0], other = %sides[1].1[0],
        "two files have different checksums of the database after one TXID; reading what leads to each"
    );
    judge.odd_files(clash, wanted).await
}

/// Those of `states` that a restore would refuse, because they may be of two histories or because
/// their files do not make them. `doubted` are states that batches do not make; others with one
/// history are not read. States that are judged by reading files come newest first; those that are
/// left when [`JUDGED_BYTES`] or the length of all files is read are the second set.
///
/// # Errors
/// An error of the store.
pub(super) async fn refused(
    store: &Arc<dyn Store>,
    files: &[Entry],
    damaged: &Damaged,
    (states, doubted): (&[Txid], &BTreeSet<Txid>),
) -> Result<(BTreeSet<Txid>, BTreeSet<Txid>), RestoreError> {
    let mut judge = Judge::new(store, files, damaged);
    let budget = budget(files);
    let (mut refused, mut unjudged) = (BTreeSet::new(), BTreeSet::new());
    for txid in states {
        let clash = judge.levels.clash(*txid).await?;
        if clash.is_none() && !doubted.contains(txid) {
            continue;
        }
        if judge.meter.bytes() > budget {
            unjudged.insert(*txid);
        } else if !judge.makes(clash, *txid).await? {
            refused.insert(*txid);
        }
    }
    Ok((refused, unjudged))
}

/// Bytes that may be read to judge states.
fn budget(files: &[Entry]) -> u64 {
    JUDGED_BYTES.max(files.iter().map(|e| e.size).sum())
}

/// Finds out which of two neighbouring batches is of another history. `pairs` are batches whose
/// checksum is not that of the pages that lead to it, each with the batch before it, if there is
/// one. Returns the batches for which files of other levels tell it, each with the reason:
///
/// - the batch before, if after other files than that one the second makes its own checksum;
/// - the second, if other files lead to its TXID and to the checksum of one of them.
///
/// The first pairs are judged: those that are left when [`JUDGED_BYTES`] or the length of all files
/// is read are not.
///
/// # Errors
/// An error of the store.
pub(super) async fn odd_neighbours(
    store: &Arc<dyn Store>,
    files: &[Entry],
    damaged: &Damaged,
    pairs: &[(LtxId, Option<LtxId>)],
) -> Result<Vec<(LtxId, String)>, RestoreError> {
    let judge = Judge::new(store, files, damaged);
    let budget = budget(files);
    let mut odd = Vec::new();
    for (id, before) in pairs {
        if judge.meter.bytes() > budget {
            break;
        }
        let others = files.iter().map(|e| e.id).filter(|other| other.max == id.max && other != id);
        if let Some(before) = before {
            // The plan ends with `id`, and another file leads to it.
            let mut without = damaged.clone();
            others.clone().chain([*before]).for_each(|id| _ = without.add(id, String::new()));
            if judge.made_by(&without, id.max).await?.is_some() {
                odd.push((
                    *before,
                    format!(
                        "{id} makes another checksum than its own after this file, and its own after other files"
                    ),
                ));
                continue;
            }
        }
        let mut without = damaged.clone();
        without.add(*id, String::new());
        let Some(sum) = judge.made_by(&without, id.max).await? else { continue };
        let ends = files.iter().filter(|e| e.id.max == id.max && !without.has(e.id));
        for entry in ends {
            if times::header(&**store, entry).await.is_ok_and(|header| header.checksum == Some(sum)) {
                let why = "its pages do not make its own checksum, and other files lead to another state";
                odd.push((*id, why.to_owned()));
                break;
            }
        }
    }
    Ok(odd)
}

/// Judges the states of one replica by its checksums.
struct Judge<'a> {
    store: &'a Arc<dyn Store>,
    files: &'a [Entry],
    damaged: &'a Damaged,
    levels: Levels<'a>,
    /// For each clash that was read: the checksums that files lead to.
    made: BTreeMap<Txid, Vec<DatabaseChecksum>>,
    /// Counts the bytes that are read.
    meter: Meter,
}

impl<'a> Judge<'a> {
    fn new(store: &'a Arc<dyn Store>, files: &'a [Entry], damaged: &'a Damaged) -> Judge<'a> {
        let levels = Levels::new(&**store, files, damaged);
        Judge { store, files, damaged, levels, made: BTreeMap::new(), meter: Meter::default() }
    }

    /// Whether a restore to `wanted` would succeed.
    async fn makes(&mut self, clash: Option<Clash>, wanted: Txid) -> Result<bool, RestoreError> {
        let odd = match clash {
            Some(clash) => self.odd_files(clash, wanted).await,
            None => Ok(Vec::new()),
        };
        let odd = match odd {
            Err(RestoreError::TwoHistories { .. }) => return Ok(false),
            odd => odd?,
        };
        let mut without = self.damaged.clone();
        odd.into_iter().for_each(|(id, why)| _ = without.add(id, why));
        Ok(self.made_by(&without, wanted).await?.is_some())
    }

    /// Files that must not be used for the state at `wanted`, which the clash makes doubtful.
    async fn odd_files(&mut self, clash: Clash, wanted: Txid) -> Result<Vec<(LtxId, String)>, RestoreError> {
        let Clash { txid, sides } = clash;
        if txid < wanted && self.is_made_after(txid, wanted).await? {
            return Ok(Vec::new());
        }
        if !self.made.contains_key(&txid) {
            let made = self.made_sides(txid, &sides).await?;
            self.made.insert(txid, made);
        }
        let made = &self.made[&txid];
        let true_sides: Vec<_> = sides.iter().filter(|(sum, _)| made.contains(sum)).collect();
        match true_sides[..] {
            [] => Ok(Vec::new()),
            [(sum, _)] => {
                let why = format!("no files lead to the checksum that it has, and others lead to {sum}");
                let odd = sides.iter().filter(|s| s.0 != *sum).flat_map(|(_, files)| files);
                Ok(odd.map(|id| (*id, why.clone())).collect())
            }
            [one, other, ..] => Err(RestoreError::TwoHistories {
                url: self.store.url().to_owned(),
                txid,
                one: (one.1[0], one.0),
                other: (other.1[0], other.0),
                agree: self.levels.last_agreement(txid).await?,
            }),
        }
    }

    /// The checksums of a clash that files lead to.
    async fn made_sides(
        &self,
        txid: Txid,
        sides: &[(DatabaseChecksum, Vec<LtxId>)],
    ) -> Result<Vec<DatabaseChecksum>, RestoreError> {
        let mut made = Vec::new();
        for (sum, _) in sides {
            let mut without = self.damaged.clone();
            let others = sides.iter().filter(|s| s.0 != *sum).flat_map(|(_, files)| files);
            others.for_each(|id| _ = without.add(*id, "it is of another history".to_owned()));
            if self.made_by(&without, txid).await? == Some(*sum) {
                made.push(*sum);
            }
        }
        Ok(made)
    }

    /// Whether files that begin after `clash` have all pages of the state at `wanted`.
    async fn is_made_after(&self, clash: Txid, wanted: Txid) -> Result<bool, RestoreError> {
        let planned = self.damaged.plan(self.files, Goal::Txid(wanted));
        let Ok(mut chain) = planned else { return Ok(false) };
        chain.retain(|e| e.id.min > clash);
        match self.read(&chain).await {
            Ok(_) => Ok(!chain.is_empty()),
            Err(RestoreError::Store(e)) => Err(e.into()),
            Err(_) => Ok(false),
        }
    }

    /// The checksum of the state at `txid`, if files make one that its last file agrees with.
    async fn made_by(&self, damaged: &Damaged, txid: Txid) -> Result<Option<DatabaseChecksum>, RestoreError> {
        let (mut bad, mut doubts, mut other) = (damaged.clone(), Doubts::default(), None);
        loop {
            let planned = other.take().map_or_else(|| bad.plan(self.files, Goal::Txid(txid)), Ok);
            let Ok(chain) = planned else { return Ok(None) };
            match self.read(&chain).await {
                Ok(sum) => return Ok(Some(sum)),
                Err(e @ (RestoreError::Checksum { .. } | RestoreError::MissingPage { .. })) => {
                    match doubts.other_plan(e, &chain, self.files, &bad) {
                        Ok(plan) => other = Some(plan),
                        Err(_) => return Ok(None),
                    }
                }
                Err(e) => {
                    let Some((id, why)) = damage::fault(&e) else { return Err(e) };
                    if !bad.add(id, why) {
                        return Err(e);
                    }
                }
            }
        }
    }

    /// Reads a plan, and compares its pages with the checksum in its newest header.
    async fn read(&self, chain: &[Entry]) -> Result<DatabaseChecksum, RestoreError> {
        let pace = Pace::new(None, self.meter.clone());
        let (mut pages, mut newest) = (Pages::default(), None);
        for entry in chain.iter().rev() {
            let (checked, with) = file::check(self.store, *entry, &pace, Some(pages)).await?;
            pages = with.unwrap_or_default();
            newest = newest.or(Some(checked?.header));
        }
        let Some(newest) = newest else { return Err(RestoreError::Interrupted) };
        let (url, txid, found) = (self.store.url().to_owned(), newest.max, pages.sum);
        match (pages.claims.as_ref().and_then(Claims::missing), newest.checksum) {
            (Some(missing), _) => Err(RestoreError::MissingPage { missing, commit: newest.commit, url }),
            (None, Some(expected)) if expected != found => {
                Err(RestoreError::Checksum { url, txid, expected, found })
            }
            _ => Ok(found),
        }
    }
}
