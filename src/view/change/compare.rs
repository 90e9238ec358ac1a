//! Compares two states of a database.

use std::collections::HashSet;

use super::found::{Effort, Found, Report, Sides};
use super::locate::{Owners, Tree, locate};
use super::moved::{self, Side};
use super::overflow::Unclear;
use super::pairs::{Pair, pair_tables};
use super::{keyed, rowids, whole};
use crate::view::btree::{BtreeError, BtreePage, Kind, Row, State, Table, free_pages, is_pointer_map};

/// How the changed pages of the newer state are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageCounts {
    /// All changed pages that exist in the newer state.
    pub all: usize,
    /// Pages of each pair's b-tree, in the order of [`Outcome::pairs`].
    pub tables: Vec<usize>,
    /// Pages of `sqlite_schema`.
    pub schema: usize,
    /// Pages of indexes.
    pub indexes: usize,
    /// Overflow pages.
    pub overflow: usize,
    /// Pages on the freelist.
    pub free: usize,
    /// Pages of the pointer map.
    pub pointer_map: usize,
    /// Pages whose use was not found.
    pub unattributed: usize,
    /// Those of them that may be overflow pages of changed rows that were not found.
    pub unclear: usize,
}

/// What a comparison found, apart from the rows.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The tables. The rows were reported with these.
    pub pairs: Vec<Pair>,
    /// How the changed pages are used. `None` if whole tables were compared.
    pub pages: Option<PageCounts>,
}

/// Reports each row that differs between two states. `changed` has at least all pages that differ
/// and exist in both. A table in one state only is not compared, but for a new one, whose rows are
/// reported. Pairs that `wanted` refuses are left out.
///
/// # Errors
/// [`BtreeError`], if a page is damaged or could not be had, or of `report`.
pub fn compare<'a>(
    sides: &'a Sides<'a>,
    changed: &[u32],
    effort: Effort,
    wanted: &dyn Fn(&Pair) -> bool,
    report: &'a mut Report<'a>,
) -> Result<Outcome, BtreeError> {
    let mut pairs = pair_tables(sides.old_schema, sides.new_schema);
    pairs.retain(wanted);
    let mut found = Found::new(report);
    if is_wide(sides, changed) {
        for pair in pairs.iter().filter(|pair| pair.new.is_some()) {
            found.pair = *pair;
            let (old, new) = pair.tables(sides.old_schema, sides.new_schema);
            whole::compare(sides, &mut found, old, new)?;
        }
        return Ok(Outcome { pairs, pages: None });
    }
    let changed = differing(sides, changed)?;
    let before = locate(&sides.old, sides.old_schema, &changed)?;
    let after = locate(&sides.new, sides.new_schema, &changed)?;
    let mut counts = PageCounts::default();
    let mut unclear = Unclear::new(classify(sides, &changed, &after, &mut counts)?);
    explain_indexes(sides, &changed, &after, &mut unclear, Chains::Changed)?;
    explain_schema(sides, &after, &mut unclear)?;
    for pair in pairs.iter().filter(|pair| pair.new.is_some()) {
        found.pair = *pair;
        narrow(sides, &mut found, &mut unclear, (&before, &after), &changed)?;
    }
    let free = if unclear.pages.is_empty() && counts.unattributed == 0 {
        HashSet::new()
    } else {
        free_pages(&sides.new)?
    };
    let is_free = unclear.pages.iter().filter(|n| free.contains(n)).count();
    unclear.pages.retain(|n| !free.contains(n));
    explain_indexes(sides, &changed, &after, &mut unclear, Chains::All)?;
    unclear.resolve(sides, &mut found, &pairs, effort)?;
    let stale = stale_pages(sides, &changed, &after)?;
    let stale_free = stale.iter().filter(|n| free.contains(n)).count();
    counts.free = is_free + stale_free;
    counts.overflow = unclear.explained;
    counts.unclear = unclear.pages.len();
    counts.unattributed = stale.len() - stale_free + counts.unclear;
    counts.tables =
        pairs.iter().map(|pair| pair.new.map_or(0, |i| after.pages(Tree::Table(i)).len())).collect();
    counts.schema = after.pages(Tree::Schema).len();
    Ok(Outcome { pairs, pages: Some(counts) })
}

/// Whether so much of the newer state changed that whole tables are compared.
fn is_wide(sides: &Sides<'_>, changed: &[u32]) -> bool {
    const SMALL: usize = 256;
    let here = changed.iter().filter(|n| **n <= sides.new.page_count()).count();
    here > SMALL && here > sides.new.page_count() as usize / 2
}

/// The pages of `changed` that do differ, or exist in one state only.
fn differing(sides: &Sides<'_>, changed: &[u32]) -> Result<HashSet<u32>, BtreeError> {
    let mut differing = HashSet::new();
    sides.old.soon(changed);
    sides.new.soon(changed);
    for number in changed {
        let in_both = *number <= sides.old.page_count().min(sides.new.page_count());
        if !in_both || sides.old.page(*number)? != sides.new.page(*number)? {
            differing.insert(*number);
        }
    }
    Ok(differing)
}

/// Compares the current pair by its moved pages.
fn narrow(
    sides: &Sides<'_>,
    found: &mut Found<'_>,
    unclear: &mut Unclear,
    owners: (&Owners, &Owners),
    changed: &HashSet<u32>,
) -> Result<(), BtreeError> {
    let pair = found.pair;
    let (old, new) = pair.tables(sides.old_schema, sides.new_schema);
    let root = |table: Option<&Table>| table.map_or(0, |t| t.root);
    let before =
        Side { state: &sides.old, owners: owners.0, tree: pair.old.map(Tree::Table), root: root(old) };
    let after =
        Side { state: &sides.new, owners: owners.1, tree: pair.new.map(Tree::Table), root: root(new) };
    let (old_pages, new_pages) = moved::moved(&before, &after, changed)?;
    if old_pages.is_empty() && new_pages.is_empty() {
        return Ok(());
    }
    let pages = (&old_pages[..], &new_pages[..]);
    match new.or(old).and_then(|t| t.key.as_ref()) {
        None => rowids::compare(sides, found, unclear, pages),
        Some(key) => keyed::compare(sides, found, unclear, key, pages),
    }
}

/// The changed pages of the newer state in no table: counts those of the pointer map and of
/// indexes, and returns those that may be overflow pages.
fn classify(
    sides: &Sides<'_>,
    changed: &HashSet<u32>,
    owners: &Owners,
    counts: &mut PageCounts,
) -> Result<HashSet<u32>, BtreeError> {
    let mut unclear = HashSet::new();
    for number in changed.iter().filter(|n| **n <= sides.new.page_count()) {
        counts.all += 1;
        if owners.tree.contains_key(number) {
            continue;
        }
        if is_pointer_map(&sides.new, *number) {
            counts.pointer_map += 1;
            continue;
        }
        match kind(&sides.new, *number)? {
            Some(kind) if !kind.is_table() => counts.indexes += 1,
            Some(_) => counts.unattributed += 1,
            None => _ = unclear.insert(*number),
        }
    }
    Ok(unclear)
}

/// What a page looks like, if it is a valid page of a b-tree with at least one cell.
fn kind(state: &State<'_>, number: u32) -> Result<Option<Kind>, BtreeError> {
    let page = BtreePage::parse(number, state.page(number)?, state.usable).ok();
    Ok(page.filter(|page| (0..page.cells()).all(|i| page.cell(i).is_ok())).map(|page| page.kind))
}

/// The changed pages that look like pages of tables, but are in none.
fn stale_pages(sides: &Sides<'_>, changed: &HashSet<u32>, owners: &Owners) -> Result<Vec<u32>, BtreeError> {
    let mut stale = Vec::new();
    for number in changed.iter().filter(|n| **n <= sides.new.page_count()) {
        if !owners.tree.contains_key(number)
            && !is_pointer_map(&sides.new, *number)
            && kind(&sides.new, *number)?.is_some_and(Kind::is_table)
        {
            stale.push(*number);
        }
    }
    Ok(stale)
}

/// Which overflow pages of index entries are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chains {
    /// Changed ones, as long as each is followed by a changed one.
    Changed,
    /// All of them: an overflow page that was freed and used again may have the same bytes as
    /// before, and then it counts as unchanged.
    All,
}

/// Takes the overflow pages of index entries out of `unclear`.
fn explain_indexes(
    sides: &Sides<'_>,
    changed: &HashSet<u32>,
    owners: &Owners,
    unclear: &mut Unclear,
    chains: Chains,
) -> Result<(), BtreeError> {
    for number in changed.iter().filter(|n| **n <= sides.new.page_count()) {
        if unclear.pages.is_empty() {
            break;
        }
        if owners.tree.contains_key(number) || kind(&sides.new, *number)?.is_none_or(Kind::is_table) {
            continue;
        }
        let page = sides.new.btree(*number)?;
        for i in 0..page.cells() {
            match chains {
                Chains::Changed => unclear.explain_index(&sides.new, page.cell(i)?.overflow)?,
                // A page that only looks like one of an index may refer to anything.
                Chains::All => _ = unclear.explain(sides, Some(&Row::of(&page, i)?)),
            }
        }
    }
    Ok(())
}

/// Takes the overflow pages of rows of `sqlite_schema` out of `unclear`.
fn explain_schema(sides: &Sides<'_>, owners: &Owners, unclear: &mut Unclear) -> Result<(), BtreeError> {
    for number in owners.pages(Tree::Schema) {
        let page = sides.new.btree(number)?;
        for i in 0..page.cells() {
            unclear.explain(sides, Some(&Row::of(&page, i)?))?;
        }
    }
    Ok(())
}
