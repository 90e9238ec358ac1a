//! Whether a replica holds two histories of its database.
//!
//! Where levels clash ([`Levels`]), each checksum is a claim. A file of another database under the
//! right name has a claim that no files make true: it is left out, like a damaged file. If several
//! claims are true, each is a state that some database had, and no file says which one is wanted.
//! Then nothing is restored. The exception is a state that files after the clash make alone, as
//! after a batch with all pages.
//!
//! The files are read for that only if levels clash.

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
use crate::store::{Entry, Store};

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
    let levels = Levels::new(&**store, files, damaged);
    let Some(Clash { txid, sides }) = levels.clash(wanted).await? else { return Ok(Vec::new()) };
    tracing::warn!(
        replica = store.url(), %txid, one = %sides[0].1[0], other = %sides[1].1[0],
        "two files have different checksums of the database after one TXID; reading what leads to each"
    );
    if txid < wanted && is_made_after(store, files, damaged, (txid, wanted)).await? {
        return Ok(Vec::new());
    }
    let mut true_sides = Vec::new();
    for side in &sides {
        let mut without = damaged.clone();
        let others = sides.iter().filter(|s| s.0 != side.0).flat_map(|(_, files)| files);
        others.for_each(|id| _ = without.add(*id, "it is of another history".to_owned()));
        if makes(store, files, &without, txid).await? == Some(side.0) {
            true_sides.push(side);
        }
    }
    match true_sides[..] {
        [] => Ok(Vec::new()),
        [(sum, _)] => {
            let why = format!("no files lead to the checksum that it has, and others lead to {sum}");
            let odd = sides.iter().filter(|s| s.0 != *sum).flat_map(|(_, files)| files);
            Ok(odd.map(|id| (*id, why.clone())).collect())
        }
        [one, other, ..] => Err(RestoreError::TwoHistories {
            url: store.url().to_owned(),
            txid,
            one: (one.1[0], one.0),
            other: (other.1[0], other.0),
            agree: levels.last_agreement(txid).await?,
        }),
    }
}

/// Whether files that begin after `clash` have all pages of the state at `wanted`.
async fn is_made_after(
    store: &Arc<dyn Store>,
    files: &[Entry],
    damaged: &Damaged,
    (clash, wanted): (Txid, Txid),
) -> Result<bool, RestoreError> {
    let Ok(mut chain) = damaged.plan(files, Goal::Txid(wanted)) else { return Ok(false) };
    chain.retain(|e| e.id.min > clash);
    match read(store, &chain).await {
        Ok(_) => Ok(!chain.is_empty()),
        Err(RestoreError::Store(e)) => Err(e.into()),
        Err(_) => Ok(false),
    }
}

/// The checksum of the state at `txid`, if files make one that its last file agrees with.
async fn makes(
    store: &Arc<dyn Store>,
    files: &[Entry],
    damaged: &Damaged,
    txid: Txid,
) -> Result<Option<DatabaseChecksum>, RestoreError> {
    let (mut bad, mut doubts, mut other) = (damaged.clone(), Doubts::default(), None);
    loop {
        let planned = other.take().map_or_else(|| bad.plan(files, Goal::Txid(txid)), Ok);
        let Ok(chain) = planned else { return Ok(None) };
        match read(store, &chain).await {
            Ok(sum) => return Ok(Some(sum)),
            Err(e @ (RestoreError::Checksum { .. } | RestoreError::MissingPage { .. })) => {
                match doubts.other_plan(e, &chain, files, &bad) {
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
async fn read(store: &Arc<dyn Store>, chain: &[Entry]) -> Result<DatabaseChecksum, RestoreError> {
    let pace = Pace::new(None, Meter::default());
    let (mut pages, mut newest) = (Pages::default(), None);
    for entry in chain.iter().rev() {
        let (checked, with) = file::check(store, *entry, &pace, Some(pages)).await?;
        pages = with.unwrap_or_default();
        newest = newest.or(Some(checked?.header));
    }
    let Some(newest) = newest else { return Err(RestoreError::Interrupted) };
    let (url, txid, found) = (store.url().to_owned(), newest.max, pages.sum);
    match (pages.claims.as_ref().and_then(Claims::missing), newest.checksum) {
        (Some(missing), _) => Err(RestoreError::MissingPage { missing, commit: newest.commit, url }),
        (None, Some(expected)) if expected != found => {
            Err(RestoreError::Checksum { url, txid, expected, found })
        }
        _ => Ok(found),
    }
}
