//! Which files a restore uses.
//!
//! 1. The plan begins with the last image of level 9, ordered by minimum and then maximum TXID. Its
//!    maximum TXID is the first position.
//! 2. The next file comes from levels 8 to 0. Candidates are the files that follow the position
//!    (`min <= position + 1`) and reach beyond it. The one that reaches furthest wins; among equals
//!    the one that begins earlier, then the higher level, then the older file.
//! 3. Step 2 repeats until no file fits.
//!
//! If a TXID is wanted, only files that end at or before it take part, and the plan must end
//! exactly there. A wanted time is first turned into a TXID: that of the last batch made strictly
//! before it (`times`). The plan then gets as near to that TXID as it can. Without either, a file
//! beyond a gap is an error.
//!
//! Litestream instead uses only the files that were made before the wanted time. The result differs
//! only for full images: an image made after that time can hold a state before it. lsfast uses such
//! an image, Litestream does not.

use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid};
use crate::store::Entry;

/// Selects a state by TXID or by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// The newest state.
    #[default]
    Newest,
    /// The state that ends with this TXID.
    Txid(Txid),
    /// The newest state that was stored strictly before this time.
    Before(Millis),
}

/// Where a plan has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// At the last file.
    Newest,
    /// Exactly at this TXID.
    Txid(Txid),
    /// At this TXID, or as near before it as the files allow.
    UpTo(Txid),
}

/// Why no plan leads to the wanted state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The listing has no LTX files.
    #[error("there are no LTX files")]
    Empty,
    /// No file begins at TXID 1, so there is no image to start from.
    #[error("the first image is missing: the oldest file is {oldest}, and a restore must begin at TXID 1")]
    NoImage {
        /// The file that begins first.
        oldest: LtxId,
    },
    /// Files after a gap cannot be reached.
    #[error(
        "the files are non-contiguous: they reach TXID {reached}, and {next} comes after a gap; restoring only to \
         {reached} is possible by asking for that TXID, or with --salvage"
    )]
    Gap {
        /// The last TXID before the gap.
        reached: Txid,
        /// The first file after the gap.
        next: LtxId,
    },
    /// No chain of files ends at the wanted TXID.
    #[error("TXID {wanted} is not available: {nearest}")]
    Txid {
        /// The wanted TXID.
        wanted: Txid,
        /// The state that can be restored instead, as a clause.
        nearest: String,
    },
    /// A damaged file is needed and no other file covers its TXIDs.
    #[error(
        "TXID {wanted} cannot be restored: {file} is damaged ({why}), and no other file covers it; {}",
        instead(.reached)
    )]
    Damaged {
        /// The TXID of the wanted state.
        wanted: Txid,
        /// The damaged file.
        file: LtxId,
        /// The damage, as a clause.
        why: String,
        /// The newest state before it that can be restored; 0 if there is none.
        reached: Txid,
    },
}

impl PlanError {
    /// Whether files that the state needs are damaged or missing.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, PlanError::Damaged { .. } | PlanError::Gap { .. } | PlanError::NoImage { .. })
    }
}

/// Advice for the case that files are damaged.
fn instead(reached: &Txid) -> String {
    match *reached {
        Txid(0) => "no state before it can be restored; `lsfast repair` stores what the database still has"
            .to_owned(),
        reached => format!(
            "`lsfast repair` stores what the database still has; the newest state before the damage is TXID {reached}, \
             which --txid {reached} or --salvage restores"
        ),
    }
}

/// Makes the plan: files in the order in which they build on each other. It is never empty.
///
/// # Errors
/// [`PlanError`], with the reason why the wanted state cannot be restored.
pub fn plan(entries: &[Entry], goal: Goal) -> Result<Vec<Entry>, PlanError> {
    if entries.is_empty() {
        return Err(PlanError::Empty);
    }
    let fits = |e: &&Entry| match goal {
        Goal::Newest => true,
        Goal::Txid(wanted) | Goal::UpTo(wanted) => e.id.max <= wanted,
    };
    let chain = chain(entries.iter().filter(fits));
    let Some(reached) = chain.last().map(|e| e.id.max) else {
        return Err(no_image(entries, goal));
    };
    match goal {
        Goal::Txid(wanted) if reached != wanted => {
            if let Some(next) = lost_after(entries, reached, wanted) {
                return Err(PlanError::Gap { reached, next });
            }
            Err(PlanError::Txid { wanted, nearest: format!("the nearest state before it is {reached}") })
        }
        Goal::Newest => match entries.iter().map(|e| e.id).filter(|id| id.max > reached).min_by_key(order) {
            Some(next) => Err(PlanError::Gap { reached, next }),
            None => Ok(chain),
        },
        Goal::Txid(_) | Goal::UpTo(_) => Ok(chain),
    }
}

/// The file that cannot be reached from `reached`, if that is why the state at `wanted` is lost: a
/// file ends there, or none of those before and after it covers it. A state before the end of the
/// first image is not lost: retention has removed the files that lead to it.
pub(super) fn lost_after(entries: &[Entry], reached: Txid, wanted: Txid) -> Option<LtxId> {
    let ids = || entries.iter().map(|e| e.id);
    let first = ids().filter(|id| id.min.0 == 1).map(|id| id.max).min()?;
    let newest = ids().map(|id| id.max).max()?;
    if wanted <= first || wanted > newest || wanted <= reached {
        return None;
    }
    let ends = ids().any(|id| id.max == wanted);
    let inside = ids().any(|id| id.min <= wanted && wanted <= id.max);
    let beyond = |id: &LtxId| id.min > reached.next();
    ids().filter(beyond).min_by_key(order).filter(|_| ends || !inside)
}

/// The plan for exactly `wanted` that begins with `base`, a file that has all pages.
pub(super) fn from_base(entries: &[Entry], base: Entry, wanted: Txid) -> Option<Vec<Entry>> {
    let later = entries.iter().filter(|e| e.id.min > base.id.max && e.id.max <= wanted);
    let files = go_on(Some(&base), later.collect());
    files.last().is_some_and(|e| e.id.max == wanted).then_some(files)
}

/// The longest unbroken chain by the rules at the top of the module.
fn chain<'a>(fitting: impl Iterator<Item = &'a Entry>) -> Vec<Entry> {
    let (images, others): (Vec<&Entry>, Vec<&Entry>) = fitting.partition(|e| e.id.level == Level::SNAPSHOT);
    let image = images.into_iter().filter(|e| e.id.min.0 == 1).max_by_key(|e| (e.id.min, e.id.max));
    go_on(image, others)
}

/// The longest unbroken chain that begins with `image`.
fn go_on<'a>(image: Option<&'a Entry>, mut others: Vec<&'a Entry>) -> Vec<Entry> {
    let mut chain: Vec<Entry> = image.into_iter().copied().collect();
    let mut position = image.map_or(Txid(0), |e| e.id.max);
    // As the position moves on, more files begin early enough and none stop doing so. So it
    // suffices to remember the best of them.
    others.sort_unstable_by_key(|e| std::cmp::Reverse(e.id.min));
    let rank = |e: &Entry| (e.id.max, std::cmp::Reverse(e.id.min), e.id.level, std::cmp::Reverse(e.modified));
    let mut best: Option<&Entry> = None;
    loop {
        while let Some(e) = others.pop_if(|e| e.id.min.0 <= position.0.saturating_add(1)) {
            best = best.into_iter().chain([e]).max_by_key(|e| rank(e));
        }
        match best {
            Some(e) if e.id.max > position => {
                chain.push(*e);
                position = e.id.max;
            }
            _ => return chain,
        }
    }
}

fn no_image(entries: &[Entry], goal: Goal) -> PlanError {
    let oldest = entries.iter().map(|e| e.id).min_by_key(order);
    match (goal, oldest) {
        (Goal::Txid(wanted) | Goal::UpTo(wanted), Some(oldest)) if oldest.min.0 == 1 => {
            let first = entries.iter().filter(|e| e.id.min.0 == 1).map(|e| e.id.max).min();
            let nearest = format!("the first state is {}", first.unwrap_or_default());
            PlanError::Txid { wanted, nearest }
        }
        (_, Some(oldest)) => PlanError::NoImage { oldest },
        (_, None) => PlanError::Empty,
    }
}

fn order(id: &LtxId) -> (Txid, Txid, Level) {
    (id.min, id.max, id.level)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(level: u32, min: u64, max: u64, modified: i64) -> Entry {
        let id = LtxId::new(Level::new(level).unwrap(), Txid(min), Txid(max)).unwrap();
        Entry { id, size: 1, modified: Millis(modified) }
    }

    /// Makes every plan that the real Litestream made for the vectors, and refuses everything that
    /// it refused.
    #[test]
    fn plans_of_the_real_binary() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/manifest.json");
        let manifest: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(dir).unwrap()).unwrap();
        let mut checked = (0, 0);
        for replica in manifest["v05"].as_array().unwrap() {
            let entries: Vec<Entry> = replica["files"].as_array().unwrap().iter().map(listed).collect();
            for restore in replica["restores"].as_array().unwrap() {
                let goal = match (restore["txid"].as_u64(), restore["before_ms"].as_i64()) {
                    (Some(txid), _) => Goal::Txid(Txid(txid)),
                    (_, Some(time)) => Goal::UpTo(last_before(&entries, time).unwrap()),
                    _ => Goal::Newest,
                };
                let plan = plan(&entries, goal).unwrap();
                let names: Vec<String> =
                    plan.iter().map(|e| format!("ltx/{}/{}", e.id.level, e.id.file_name())).collect();
                let expected: Vec<&str> =
                    restore["plan"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
                if matches!(goal, Goal::UpTo(_)) {
                    // The plan may use another image; the state is the same.
                    let end = |name: &str| name[name.len() - 20..].to_owned();
                    assert_eq!(end(names.last().unwrap()), end(expected.last().unwrap()));
                } else {
                    assert_eq!(names, expected, "{} {goal:?}", replica["dir"]);
                }
                checked.0 += 1;
            }
            for txid in replica["unreachable_txids"].as_array().unwrap() {
                let goal = Goal::Txid(Txid(txid.as_u64().unwrap()));
                assert!(matches!(plan(&entries, goal), Err(PlanError::Txid { .. })), "{goal:?}");
                checked.1 += 1;
            }
            // Litestream refuses two times: one before the first state, one after the newest file.
            let refused = &replica["refused_before_ms"].as_array().unwrap()[0];
            assert_eq!(last_before(&entries, refused["before_ms"].as_i64().unwrap()), None);
            checked.1 += 1;
        }
        assert!(checked.0 > 100 && checked.1 > 8, "{checked:?}");
    }

    /// The last TXID at which a file below level 9 ends, among files made before `time`.
    fn last_before(entries: &[Entry], time: i64) -> Option<Txid> {
        let made = entries.iter().filter(|e| e.id.level != Level::SNAPSHOT && e.modified.0 < time);
        made.map(|e| e.id.max).max()
    }

    fn listed(file: &serde_json::Value) -> Entry {
        let path = file["path"].as_str().unwrap();
        let [_, level, name]: [&str; 3] = path.split('/').collect::<Vec<_>>().try_into().unwrap();
        let id = LtxId::parse_file_name(Level::new(level.parse().unwrap()).unwrap(), name).unwrap();
        Entry {
            id,
            size: file["size"].as_u64().unwrap(),
            modified: Millis(file["mtime_ms"].as_i64().unwrap()),
        }
    }

    #[test]
    fn an_empty_replica_a_missing_image_and_a_gap() {
        assert_eq!(plan(&[], Goal::Newest), Err(PlanError::Empty));
        let headless = [entry(0, 5, 5, 0), entry(0, 4, 4, 0)];
        assert_eq!(plan(&headless, Goal::Newest), Err(PlanError::NoImage { oldest: headless[1].id }));
        let gap = [entry(0, 1, 1, 0), entry(0, 2, 2, 0), entry(0, 5, 5, 0), entry(1, 4, 5, 0)];
        let e = plan(&gap, Goal::Newest).unwrap_err();
        assert_eq!(e, PlanError::Gap { reached: Txid(2), next: gap[3].id });
        assert_eq!(plan(&gap, Goal::Txid(Txid(2))).unwrap(), gap[..2]);
        let e = plan(&gap, Goal::Txid(Txid(4))).unwrap_err().to_string();
        assert_eq!(
            e,
            "TXID 0000000000000004 is not available: the nearest state before it is 0000000000000002"
        );
    }

    #[test]
    fn a_later_file_of_level_9_that_is_no_image_is_no_beginning() {
        let entries = [entry(9, 1, 3, 0), entry(9, 2, 4, 0), entry(0, 4, 4, 0)];
        assert_eq!(plan(&entries[..1], Goal::Newest).unwrap(), entries[..1]);
        assert_eq!(plan(&entries, Goal::Newest).unwrap(), [entries[0], entries[2]]);
    }

    #[test]
    fn the_largest_txid_does_not_overflow() {
        let entries = [entry(0, 1, Txid::MAX.0, 0)];
        assert_eq!(plan(&entries, Goal::Newest).unwrap(), entries);
    }

    /// A literal implementation of the rules at the top of the module.
    fn model(entries: &[Entry]) -> (Vec<Entry>, Txid) {
        let mut plan = Vec::new();
        let mut images: Vec<_> =
            entries.iter().filter(|e| e.id.level.get() == 9 && e.id.min.0 == 1).collect();
        images.sort_by_key(|e| (e.id.min, e.id.max));
        plan.extend(images.last().map(|e| **e));
        let mut position = plan.last().map_or(0, |e| e.id.max.0);
        loop {
            let mut best: Option<&Entry> = None;
            for e in entries.iter().filter(|e| e.id.level.get() != 9) {
                let fits = e.id.min.0 <= position + 1 && e.id.max.0 > position;
                let better = |b: &Entry| {
                    (e.id.max, u64::MAX - e.id.min.0, e.id.level, -e.modified.0)
                        > (b.id.max, u64::MAX - b.id.min.0, b.id.level, -b.modified.0)
                };
                if fits && best.is_none_or(better) {
                    best = Some(e);
                }
            }
            let Some(e) = best else { return (plan, Txid(position)) };
            position = e.id.max.0;
            plan.push(*e);
        }
    }

    proptest! {
        #[test]
        fn the_quick_way_is_the_written_way(
            files in proptest::collection::btree_set((0u32..=9, 1u64..20, 0u64..6), 1..40),
        ) {
            let entries: Vec<Entry> = files.iter().map(|&(l, min, more)| entry(l, min, min + more, 0)).collect();
            let (expected, reached) = model(&entries);
            match plan(&entries, Goal::Newest) {
                Ok(got) => prop_assert_eq!(got, expected),
                Err(PlanError::Gap { reached: r, next }) => {
                    prop_assert_eq!(r, reached);
                    prop_assert!(next.max > reached);
                }
                Err(PlanError::NoImage { .. }) => prop_assert!(expected.is_empty()),
                Err(e) => prop_assert!(false, "{e}"),
            }
        }
    }
}
