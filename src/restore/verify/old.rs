//! Proves generations of Litestream 0.3.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report::VerifyReport;
use super::stream::{self, Pace, Parts};
use crate::legacy::{Apply, ApplyError, Generation, LegacyFile, Want, plan};
use crate::restore::RestoreError;
use crate::restore::object::{Object, Wanted};
use crate::store::Store;

/// The result for one generation.
pub(super) struct Proven {
    pub(super) generation: Generation,
    /// Length of its newest state in bytes, if that can be restored.
    pub(super) bytes: Option<u64>,
}

/// Reads all generations and adds damage to the report.
pub(super) async fn verify(
    store: &Arc<dyn Store>,
    files: &[LegacyFile],
    pace: &Pace,
    report: &mut VerifyReport,
) -> Result<Vec<Proven>, RestoreError> {
    let mut generations: BTreeMap<Generation, Vec<LegacyFile>> = BTreeMap::new();
    for file in files {
        generations.entry(file.name.generation()).or_default().push(*file);
    }
    let mut proven = Vec::new();
    for (generation, files) in generations {
        proven.push(Proven { generation, bytes: one(store, generation, &files, pace, report).await? });
    }
    Ok(proven)
}

async fn one(
    store: &Arc<dyn Store>,
    generation: Generation,
    files: &[LegacyFile],
    pace: &Pace,
    report: &mut VerifyReport,
) -> Result<Option<u64>, RestoreError> {
    let mut sorted = files.to_vec();
    sorted.sort_unstable_by_key(|f| (!f.name.is_snapshot(), f.name));
    let snapshots = sorted.iter().take_while(|f| f.name.is_snapshot()).count();
    let mut whole = true;
    // Each snapshot is proven on its own; the WALs are chained to the first one.
    let mut chain = None;
    for file in &sorted[..snapshots] {
        match apply(store, *file, Apply::prove(), pace, report).await? {
            Some(apply) => chain = chain.or(Some((file.name.index(), apply))),
            None => whole = false,
        }
    }
    let planned = plan(files, Some(generation), Want::Newest);
    if let (Err(e), Some(file)) = (&planned, sorted.first()) {
        report.damage(Object::Legacy(file.name), e.to_string());
    }
    let Some((first, mut state)) = chain else { return Ok(None) };
    for file in sorted[snapshots..].iter().filter(|f| f.name.index() >= first) {
        match apply(store, *file, state, pace, report).await? {
            Some(next) => state = next,
            // Later files cannot be joined to anything.
            None => return Ok(None),
        }
    }
    let applied = state.finish().ok();
    Ok(applied.map(|a| a.bytes).filter(|_| whole && planned.is_ok()))
}

/// Proves one file. Returns `None` if it is damaged, and adds the damage to the report.
async fn apply(
    store: &Arc<dyn Store>,
    file: LegacyFile,
    mut state: Apply,
    pace: &Pace,
    report: &mut VerifyReport,
) -> Result<Option<Apply>, RestoreError> {
    let work = move |parts: Parts| {
        let done = match file.name.is_snapshot() {
            true => state.snapshot(parts),
            false => state.segment(file.name, parts),
        };
        (state, done)
    };
    let ((state, done), fed) = stream::through(&**store, Wanted::from(&file), pace, work).await?;
    let object = Object::Legacy(file.name);
    match (fed, done) {
        (Err(RestoreError::Vanished { .. }), _) => {
            report.vanished += 1;
            return Ok(None);
        }
        (Err(e @ RestoreError::Short { .. }), _) => report.damage(object, e.to_string()),
        (Err(e), _) => return Err(e),
        (Ok(()), Err(e @ (ApplyError::Damaged(_) | ApplyError::Gap { .. } | ApplyError::Read(_)))) => {
            report.damage(object, e.to_string());
        }
        (Ok(()), Err(ApplyError::Write(_) | ApplyError::NoRoom { .. })) => {
            unreachable!("nothing is written")
        }
        (Ok(()), Ok(())) => {
            report.read += 1;
            report.bytes += file.size;
            return Ok(Some(state));
        }
    }
    report.read += 1;
    report.bytes += file.size;
    Ok(None)
}
