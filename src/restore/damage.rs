//! Files of a replica that cannot be used, and plans that avoid them.
//!
//! A listing shows only that a file is too short to be an LTX file. All other damage is found when
//! a file is read. A reader notes the damage and plans again: any other file that covers the same
//! TXIDs serves as well, on whatever level. A state is lost only if no other file covers its TXIDs,
//! and the error then names the file that is needed. An older state never replaces the wanted one
//! unless the caller asked for that.
//!
//! A plan begins with a file that begins at TXID 1. A later file with all pages is as good, such as
//! the batch that a start stores where it finds damage. Names do not show it, so such files are
//! looked for (`bases`) only if there is no other plan.

use std::collections::{BTreeMap, BTreeSet};

use super::RestoreError;
use super::object::Object;
use super::plan::{self, Goal, PlanError};
use crate::base::{LtxId, Txid};
use crate::ltx::index::FILE_LEN_MIN;
use crate::store::{Entry, ErrorKind, Store};

/// Files that cannot be used, each with the reason as a clause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damaged {
    files: BTreeMap<LtxId, String>,
    /// Files with all pages that do not begin at TXID 1.
    bases: BTreeSet<LtxId>,
}

impl Damaged {
    /// The damage that a listing shows: files too short to be LTX files.
    #[must_use]
    pub fn of_listing(files: &[Entry]) -> Damaged {
        let short = files.iter().filter(|e| e.size < FILE_LEN_MIN);
        let why = |e: &Entry| match e.size {
            0 => "it is empty, or not a file".to_owned(),
            n => format!("it has only {n} bytes"),
        };
        Damaged { files: short.map(|e| (e.id, why(e))).collect(), bases: BTreeSet::new() }
    }

    /// Notes a damaged file. True if it was not known yet.
    pub fn add(&mut self, id: LtxId, why: String) -> bool {
        self.files.insert(id, why).is_none()
    }

    /// Forgets a file, because a file of that name is sound now.
    pub fn remove(&mut self, id: LtxId) {
        self.files.remove(&id);
    }

    /// Whether this file is known to be damaged.
    #[must_use]
    pub fn has(&self, id: LtxId) -> bool {
        self.files.contains_key(&id)
    }

    /// Whether no damage is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The damaged files, each with the reason.
    pub fn iter(&self) -> impl Iterator<Item = (&LtxId, &str)> {
        self.files.iter().map(|(id, why)| (id, why.as_str()))
    }

    /// Those of `files` that are not known to be damaged.
    #[must_use]
    pub fn sound(&self, files: &[Entry]) -> Vec<Entry> {
        files.iter().filter(|e| !self.has(e.id)).copied().collect()
    }

    /// Adds a file with all pages, from which a plan may begin. True if it was not known yet.
    pub fn add_base(&mut self, id: LtxId) -> bool {
        self.bases.insert(id)
    }

    /// The files with all pages that were found.
    pub fn bases(&self) -> impl Iterator<Item = LtxId> {
        self.bases.iter().copied()
    }

    /// Like [`plan::plan`], without the damaged files. The plan still has to end where a plan from
    /// all files would end.
    ///
    /// # Errors
    /// [`PlanError::Damaged`] if only a damaged file leads to the wanted state, otherwise those of
    /// [`plan::plan`].
    pub fn plan(&self, files: &[Entry], goal: Goal) -> Result<Vec<Entry>, PlanError> {
        if self.is_empty() && self.bases.is_empty() {
            return plan::plan(files, goal);
        }
        let wanted = match goal {
            Goal::Newest => files.iter().map(|e| e.id.max).max(),
            Goal::Txid(txid) => Some(txid),
            Goal::UpTo(_) => plan::plan(files, goal)?.last().map(|e| e.id.max),
        };
        let Some(wanted) = wanted else { return Err(PlanError::Empty) };
        let best = plan::plan(&self.sound(files), Goal::UpTo(wanted)).unwrap_or_default();
        let reached = best.last().map(|e| e.id.max);
        if reached == Some(wanted) {
            return Ok(best);
        }
        let is_base = |e: &&Entry| self.bases.contains(&e.id) && e.id.max <= wanted && !self.has(e.id);
        let bases = files.iter().filter(is_base);
        if let Some(plan) = bases
            .filter_map(|base| plan::from_base(&self.sound(files), *base, wanted))
            .max_by_key(|p| p[0].id.max)
        {
            return Ok(plan);
        }
        // If all files together do not lead there, the damage is not the reason.
        plan::plan(files, goal)?;
        let after = reached.unwrap_or_default();
        let needed = self.files.iter().filter(|(id, _)| (after < id.max) && id.max <= wanted);
        let lost = needed.min_by_key(|(id, _)| (id.min.max(after), id.min, id.max, id.level));
        match lost.or_else(|| self.files.iter().next()) {
            Some((id, why)) => Err(PlanError::Damaged {
                wanted,
                file: *id,
                why: why.clone(),
                reached: reached.unwrap_or(Txid(0)),
            }),
            None => Err(PlanError::Empty),
        }
    }
}

/// The damaged file and the damage, if the error is about the content of one LTX file.
#[must_use]
pub fn fault(e: &RestoreError) -> Option<(LtxId, String)> {
    match e {
        RestoreError::Corrupt { object, cause, .. } => Some((*object, cause.to_string())),
        RestoreError::Misnamed { object, found, .. } => {
            Some((*object, format!("it holds TXIDs {found}: it was renamed or misplaced")))
        }
        RestoreError::Unreadable { object, cause, .. } => Some((*object, cause.to_string())),
        RestoreError::PageSize { object, found, expected, .. } => Some((
            *object,
            format!("it has pages of {found} bytes, newer files have {expected}: it is of another database"),
        )),
        _ => None,
    }
}

/// The file, if the error says that it is missing or shorter than its listing.
#[must_use]
pub fn moved(e: &RestoreError) -> Option<(LtxId, &'static str)> {
    match e {
        RestoreError::Vanished { object: Object::Ltx(id), .. } => {
            Some((*id, "it is listed, but is not there"))
        }
        RestoreError::Short { object: Object::Ltx(id), .. } => {
            Some((*id, "it is shorter than its listing says"))
        }
        _ => None,
    }
}

/// Turns a store's error into one about a file: wrong content and a missing file have their own
/// variants, everything else passes through. A refused request is not damage, even if it concerns
/// only one file: the file may be sound, so the error ends the command.
#[must_use]
pub fn of_read(store: &dyn Store, object: Object, e: crate::store::StoreError) -> RestoreError {
    let url = || store.url().to_owned();
    match (e.kind(), object) {
        (ErrorKind::NotFound, _) => RestoreError::Vanished { object, url: url() },
        (ErrorKind::Corrupt, Object::Ltx(object)) => {
            RestoreError::Unreadable { object, url: url(), cause: e }
        }
        _ => e.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::Level;
    use crate::base::clock::Millis;

    fn entry(level: u32, min: u64, max: u64) -> Entry {
        let id = LtxId::new(Level::new(level).unwrap(), Txid(min), Txid(max)).unwrap();
        Entry { id, size: FILE_LEN_MIN, modified: Millis(0) }
    }

    fn without(files: &[Entry]) -> Damaged {
        Damaged {
            files: files.iter().map(|e| (e.id, "it is cut".to_owned())).collect(),
            bases: BTreeSet::new(),
        }
    }

    #[test]
    fn another_level_covers_what_is_damaged() {
        let files =
            [entry(9, 1, 1), entry(0, 2, 2), entry(0, 3, 3), entry(0, 4, 4), entry(1, 2, 3), entry(9, 1, 4)];
        // Without the newest image; then without the compacted file too, so that only raw files
        // follow the older image.
        let damaged = without(&files[5..]);
        assert_eq!(damaged.plan(&files, Goal::Newest).unwrap(), [files[0], files[4], files[3]]);
        let damaged = without(&files[4..]);
        assert_eq!(damaged.plan(&files, Goal::Newest).unwrap(), [files[0], files[1], files[2], files[3]]);
        // The other way round: only the newest image is sound.
        let damaged = without(&files[..5]);
        assert_eq!(damaged.plan(&files, Goal::Newest).unwrap(), [files[5]]);
        assert!(matches!(damaged.plan(&files, Goal::Txid(Txid(3))), Err(PlanError::Damaged { .. })));
    }

    #[test]
    fn an_older_state_is_not_taken_for_the_newest() {
        let files = [entry(9, 1, 1), entry(0, 2, 2), entry(0, 3, 3)];
        let damaged = without(&files[2..]);
        let e = damaged.plan(&files, Goal::Newest).unwrap_err();
        let file = files[2].id;
        assert_eq!(
            e,
            PlanError::Damaged { wanted: Txid(3), file, why: "it is cut".into(), reached: Txid(2) }
        );
        assert_eq!(damaged.plan(&files, Goal::UpTo(Txid(9))), Err(e));
        assert_eq!(damaged.plan(&files, Goal::UpTo(Txid(2))).unwrap(), files[..2]);
        // With two damaged files, the error names the one that is needed first.
        let damaged = without(&files[1..]);
        let e = damaged.plan(&files, Goal::Newest).unwrap_err();
        assert!(matches!(e, PlanError::Damaged { file, reached: Txid(1), .. } if file == files[1].id), "{e}");
    }

    #[test]
    fn what_is_empty_is_known_by_the_listing() {
        let mut files = [entry(9, 1, 1), entry(0, 2, 2), entry(0, 3, 3)];
        files[2].size = 0;
        let damaged = Damaged::of_listing(&files);
        assert_eq!(damaged.iter().collect::<Vec<_>>(), [(&files[2].id, "it is empty, or not a file")]);
    }

    proptest! {
        /// Whatever is damaged, a plan reaches the wanted state with sound files alone. It fails
        /// only if sound files do not lead there.
        #[test]
        fn all_or_an_error(
            files in proptest::collection::btree_set((0u32..=9, 1u64..12, 0u64..6), 1..30),
            bad in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let files: Vec<Entry> = files.iter().map(|&(l, min, more)| entry(l, min, min + more)).collect();
            let damaged = without(&bad.iter().map(|i| *i.get(&files)).collect::<Vec<_>>());
            let newest = files.iter().map(|e| e.id.max).max();
            let sound = damaged.sound(&files);
            let possible = plan::plan(&sound, Goal::Newest).is_ok_and(|p| p.last().map(|e| e.id.max) == newest);
            match damaged.plan(&files, Goal::Newest) {
                Ok(p) => {
                    prop_assert_eq!(p.last().map(|e| e.id.max), newest);
                    prop_assert!(p.iter().all(|e| !damaged.has(e.id)));
                }
                Err(e) => prop_assert!(!possible, "{}", e),
            }
        }
    }
}
