//! Chooses the files that a restore of a generation reads.

use std::collections::BTreeMap;

use super::{Generation, LegacyName, WalIndex};
use crate::base::clock::Millis;

/// One file of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyFile {
    /// Name of the file.
    pub name: LegacyName,
    /// Compressed length in bytes.
    pub size: u64,
    /// When the file was uploaded. The format has no other time.
    pub modified: Millis,
}

/// Selects a state of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Want {
    /// The newest state.
    #[default]
    Newest,
    /// The state at the end of a WAL.
    Index(WalIndex),
    /// The newest state that was stored at this time or before it.
    At(Millis),
}

/// A snapshot and the segments that follow it without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyPlan {
    /// Generation of all files.
    pub generation: Generation,
    /// The database file to start with.
    pub snapshot: LegacyFile,
    /// The pieces of WALs, in order.
    pub segments: Vec<LegacyFile>,
    /// Whether no generation has a newer file.
    pub is_newest: bool,
}

impl LegacyPlan {
    /// All files in the order of reading.
    pub fn files(&self) -> impl Iterator<Item = &LegacyFile> {
        std::iter::once(&self.snapshot).chain(&self.segments)
    }

    /// When the state was stored.
    #[must_use]
    pub fn created(&self) -> Millis {
        self.segments.last().map_or(self.snapshot.modified, |s| s.modified)
    }

    /// Number of the WAL that the state belongs to.
    #[must_use]
    pub fn index(&self) -> WalIndex {
        self.segments.last().map_or(self.snapshot.name.index(), |s| s.name.index())
    }
}

/// Whether the files have lost their times. The format has no other times, and after a copy that
/// does not preserve them they mean nothing. Litestream uploads the segments of a generation in
/// order, about a second apart.
#[must_use]
pub fn times_are_lost(files: &[LegacyFile]) -> bool {
    let mut generations: BTreeMap<Generation, Vec<LegacyFile>> = BTreeMap::new();
    for file in files {
        generations.entry(file.name.generation()).or_default().push(*file);
    }
    generations.into_values().any(|files| {
        let mut segments: Vec<_> = files.iter().filter(|f| !f.name.is_snapshot()).collect();
        segments.sort_unstable_by_key(|f| f.name);
        let times = || files.iter().map(|f| f.modified.0);
        let span = times().max().unwrap_or(0).saturating_sub(times().min().unwrap_or(0));
        let steps = files.len() as i64 - 1;
        !segments.is_sorted_by_key(|f| f.modified)
            || (steps > 0 && span < steps.saturating_mul(FILES_APART_MS))
    })
}

/// Shortest plausible average distance between the files of a generation, in milliseconds. Files
/// that are closer together were copied, not replicated.
const FILES_APART_MS: i64 = 50;

/// Logs a warning if the files have lost their times.
pub fn warn_of_lost_times(files: &[LegacyFile], replica: &str) {
    if times_are_lost(files) {
        tracing::warn!(
            replica,
            "the files of Litestream 0.3 there seem to have been copied without their times, and have no others: which \
             state belongs to which time is not known; choose by --generation and --index"
        );
    }
}

/// Why no plan leads to the wanted state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LegacyError {
    /// The listing has no files of Litestream 0.3.
    #[error("there are no generations of Litestream 0.3")]
    Empty,
    /// The wanted generation does not exist.
    #[error("there is no generation {wanted}: there are {there}")]
    NoGeneration {
        /// The wanted generation.
        wanted: Generation,
        /// The existing generations, as a list.
        there: String,
    },
    /// A generation has segments but no snapshot.
    #[error(
        "generation {0} has no snapshot, so nothing of it can be restored: choose another by --generation"
    )]
    NoSnapshot(Generation),
    /// The wanted WAL is before the first snapshot, or after the last file.
    #[error("generation {generation} has no state of index {wanted}: it has {first} to {last}")]
    NoIndex {
        generation: Generation,
        /// Number of the wanted WAL.
        wanted: WalIndex,
        /// The first WAL that can be restored.
        first: WalIndex,
        /// The last WAL that can be restored.
        last: WalIndex,
    },
    /// The wanted time is before the first snapshot.
    #[error("no state of {wanted} is there: the earliest is of {earliest}")]
    TooEarly {
        /// The wanted time.
        wanted: Millis,
        /// Time of the first snapshot.
        earliest: Millis,
    },
    /// A segment is missing.
    #[error(
        "generation {generation} has a gap: WAL segment {index}_{offset:08x} is missing, and {next} comes after it; \
         an earlier state can be restored with --index or --timestamp"
    )]
    Gap {
        generation: Generation,
        /// Number of the WAL that lacks a segment.
        index: WalIndex,
        /// Offset of the missing segment.
        offset: u64,
        /// The first file after the gap.
        next: LegacyName,
    },
}

/// Makes the plan.
///
/// Of several generations, the one with the newest file is chosen. Files that are too new for the
/// wanted time do not count.
///
/// # Errors
/// [`LegacyError`], with the reason why the wanted state cannot be restored.
pub fn plan(
    files: &[LegacyFile],
    generation: Option<Generation>,
    want: Want,
) -> Result<LegacyPlan, LegacyError> {
    let mut generations: BTreeMap<Generation, Vec<LegacyFile>> = BTreeMap::new();
    for file in files {
        generations.entry(file.name.generation()).or_default().push(*file);
    }
    if let Some(wanted) = generation {
        let there = generations.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if there.is_empty() {
            return Err(LegacyError::Empty);
        }
        generations.retain(|g, _| *g == wanted);
        if generations.is_empty() {
            return Err(LegacyError::NoGeneration { wanted, there });
        }
    }
    let in_time = |f: &LegacyFile| !matches!(want, Want::At(time) if f.modified > time);
    let newest = |files: &[LegacyFile]| files.iter().filter(|f| in_time(f)).map(|f| f.modified).max();
    let begun = |files: &[LegacyFile]| files.iter().any(|f| f.name.is_snapshot() && in_time(f));
    let candidates = generations.iter().filter(|(_, files)| !matches!(want, Want::At(_)) || begun(files));
    let Some((&generation, chosen)) = candidates.max_by_key(|(g, files)| (newest(files), **g)) else {
        return Err(too_early(files, want));
    };
    let plan = of_generation(generation, chosen, want)?;
    let end = plan.created();
    Ok(LegacyPlan { is_newest: files.iter().all(|f| f.modified <= end), ..plan })
}

fn too_early(files: &[LegacyFile], want: Want) -> LegacyError {
    let snapshots = files.iter().filter(|f| f.name.is_snapshot());
    match (want, snapshots.map(|f| f.modified).min(), files.first()) {
        (Want::At(wanted), Some(earliest), _) => LegacyError::TooEarly { wanted, earliest },
        (_, None, Some(file)) => LegacyError::NoSnapshot(file.name.generation()),
        _ => LegacyError::Empty,
    }
}

fn of_generation(
    generation: Generation,
    files: &[LegacyFile],
    want: Want,
) -> Result<LegacyPlan, LegacyError> {
    let snapshots = || files.iter().filter(|f| f.name.is_snapshot());
    let Some(first) = snapshots().map(|f| f.name.index()).min() else {
        return Err(LegacyError::NoSnapshot(generation));
    };
    let last = files.iter().map(|f| f.name.index()).max().expect("there are files");
    let snapshot = match want {
        Want::Newest => snapshots().max_by_key(|f| f.name.index()),
        Want::Index(k) if k > last => None,
        Want::Index(k) => snapshots().filter(|f| f.name.index() <= k).max_by_key(|f| f.name.index()),
        Want::At(time) => {
            snapshots().filter(|f| f.modified <= time).max_by_key(|f| (f.modified, f.name.index()))
        }
    };
    let Some(&snapshot) = snapshot else {
        return Err(match want {
            Want::Index(wanted) => LegacyError::NoIndex { generation, wanted, first, last },
            _ => too_early(files, want),
        });
    };
    let mut segments: Vec<LegacyFile> = files
        .iter()
        .filter(|f| !f.name.is_snapshot() && f.name.index() >= snapshot.name.index())
        .copied()
        .collect();
    segments.sort_unstable_by_key(|f| f.name);
    match want {
        Want::Newest => {}
        Want::Index(k) => segments.retain(|f| f.name.index() <= k),
        Want::At(time) => {
            let end = segments.iter().position(|f| f.modified > time).unwrap_or(segments.len());
            segments.truncate(end);
        }
    }
    check_order(generation, snapshot.name.index(), &segments)?;
    Ok(LegacyPlan { generation, snapshot, segments, is_newest: false })
}

/// Checks that no WAL is missing and that each one begins at its beginning. Whether the pieces of
/// one WAL join is seen only when they are read: names do not tell how long they are.
fn check_order(generation: Generation, first: WalIndex, segments: &[LegacyFile]) -> Result<(), LegacyError> {
    let mut due = Some(first);
    let mut present = None;
    for file in segments {
        let LegacyName::Segment { index, offset, .. } = file.name else { unreachable!("only segments") };
        if present == Some(index) {
            continue;
        }
        let gap = |index| Err(LegacyError::Gap { generation, index, offset: 0, next: file.name });
        match due {
            Some(due) if index != due => return gap(due),
            _ if offset != 0 => return gap(index),
            _ => (present, due) = (Some(index), index.next()),
        }
    }
    Ok(())
}

/// Every state that can be restored: one for each segment, and one for each snapshot without
/// segments. Each has the totals of its plan, without the files; oldest first. Files after a gap
/// have no state.
#[must_use]
pub fn states(files: &[LegacyFile]) -> Vec<LegacyState> {
    let mut sorted = files.to_vec();
    sorted.sort_unstable_by_key(|f| (f.name.generation(), f.name.index(), !f.name.is_snapshot(), f.name));
    let mut states: Vec<LegacyState> = Vec::new();
    let mut open: Option<LegacyState> = None;
    for file in sorted {
        let LegacyFile { name, size, modified } = file;
        let state = match (name, open) {
            (LegacyName::Snapshot { generation, index }, _) => {
                LegacyState { generation, index, offset: None, created: modified, bytes: size, files: 1 }
            }
            (LegacyName::Segment { generation, index, offset, .. }, Some(before))
                if before.generation == generation
                    && (before.index == index && (before.offset.is_some() || offset == 0)
                        || before.index.next() == Some(index) && offset == 0 && before.offset.is_some()) =>
            {
                let (bytes, files) = (before.bytes + size, before.files + 1);
                LegacyState { generation, index, offset: Some(offset), created: modified, bytes, files }
            }
            (LegacyName::Segment { .. }, _) => {
                open = None;
                continue;
            }
        };
        states.push(state);
        open = Some(state);
    }
    // If a snapshot's own WAL has segments, the snapshot is not a state of its own: it may have
    // some of their pages and not others.
    let begun: Vec<(Generation, WalIndex)> = files
        .iter()
        .filter(|f| !f.name.is_snapshot())
        .map(|f| (f.name.generation(), f.name.index()))
        .collect();
    states.retain(|s| s.offset.is_some() || !begun.contains(&(s.generation, s.index)));
    states.sort_by_key(|s| (s.created, s.generation, s.index, s.offset));
    states
}

/// A state that can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyState {
    /// Generation of the state.
    pub generation: Generation,
    /// Number of its WAL.
    pub index: WalIndex,
    /// Offset of its last segment; `None` for a snapshot alone.
    pub offset: Option<u64>,
    /// When the state was stored.
    pub created: Millis,
    /// Total bytes of the files that a restore of it reads.
    pub bytes: u64,
    /// Number of those files.
    pub files: usize,
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
