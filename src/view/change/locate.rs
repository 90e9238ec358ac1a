//! Finds the tree of each changed page in one state.

use std::collections::{HashMap, HashSet};

use crate::view::btree::{
    BtreeError, BtreePage, Kind, Row, Schema, State, find_key, find_rowid, parse_record,
};

/// A tree: `sqlite_schema`, or a table by its index in [`Schema::tables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Tree {
    /// `sqlite_schema`.
    Schema,
    Table(usize),
}

/// The changed pages of one state that are in trees of tables.
#[derive(Default)]
pub(super) struct Owners {
    /// The tree of each page.
    pub(super) tree: HashMap<u32, Tree>,
}

impl Owners {
    /// The pages of a tree, in order of their numbers.
    pub(super) fn pages(&self, tree: Tree) -> Vec<u32> {
        let mut pages: Vec<u32> = self.tree.iter().filter(|(_, t)| **t == tree).map(|(n, _)| *n).collect();
        pages.sort_unstable();
        pages
    }
}

/// Finds the tree of each of the `changed` pages.
///
/// # Errors
/// [`BtreeError`], if a page on the way to one is damaged or could not be had.
pub(super) fn locate(
    state: &State<'_>,
    schema: &Schema,
    changed: &HashSet<u32>,
) -> Result<Owners, BtreeError> {
    let mut locator = Locator {
        state,
        schema,
        wanted: changed,
        owners: Owners::default(),
        seen: HashSet::new(),
        walked: HashSet::new(),
        last: Tree::Schema,
    };
    if state.page_count() > 0 {
        locator.claim(Tree::Schema, 1)?;
    }
    for (i, table) in schema.tables.iter().enumerate() {
        locator.claim(Tree::Table(i), table.root)?;
    }
    let mut pages: Vec<u32> = changed.iter().copied().filter(|n| *n <= state.page_count()).collect();
    pages.sort_unstable();
    for number in pages {
        if !locator.owners.tree.contains_key(&number) {
            locator.search(number)?;
        }
    }
    Ok(locator.owners)
}

struct Locator<'a> {
    state: &'a State<'a>,
    schema: &'a Schema,
    wanted: &'a HashSet<u32>,
    owners: Owners,
    /// Interior pages whose children were looked at.
    seen: HashSet<u32>,
    /// Trees whose interior pages were all looked at.
    walked: HashSet<Tree>,
    /// The tree of the last page, which is likely that of the next one.
    last: Tree,
}

impl Locator<'_> {
    /// Notes a page of a tree, and its children and theirs, as far as they are wanted.
    fn claim(&mut self, tree: Tree, number: u32) -> Result<(), BtreeError> {
        let mut waiting = vec![number];
        while let Some(number) = waiting.pop() {
            if !self.wanted.contains(&number) || self.owners.tree.contains_key(&number) {
                continue;
            }
            let page = self.state.btree(number)?;
            self.owners.tree.insert(number, tree);
            if page.kind.is_interior() && self.seen.insert(number) {
                waiting.extend(page.children()?);
            }
        }
        Ok(())
    }

    fn claim_children(&mut self, tree: Tree, page: &BtreePage) -> Result<(), BtreeError> {
        if self.seen.insert(page.number) {
            for child in page.children()? {
                self.claim(tree, child)?;
            }
        }
        Ok(())
    }

    /// Follows the way to the page's first key in each tree that it may be in.
    fn search(&mut self, number: u32) -> Result<(), BtreeError> {
        // A page that is not valid is in no tree.
        let Ok(page) = self.state.btree(number) else { return Ok(()) };
        if page.cells() == 0 {
            return Ok(());
        }
        let Ok(row) = Row::of(&page, 0) else { return Ok(()) };
        let mut trees = vec![Tree::Schema];
        trees.extend((0..self.schema.tables.len()).map(Tree::Table));
        if let Some(at) = trees.iter().position(|t| *t == self.last) {
            trees.swap(0, at);
        }
        if page.kind.is_table() {
            let values = (page.kind == Kind::TableLeaf).then(|| values_at_least(&row)).flatten();
            for tree in trees {
                if self.may_hold(tree, values) && self.search_rowid(tree, number, row.cell.rowid)? {
                    return Ok(());
                }
            }
            return Ok(());
        }
        let Ok(payload) = row.payload(self.state) else { return Ok(()) };
        for tree in trees {
            if self.search_key(tree, number, &payload)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether rows with this number of values can be in the tree.
    fn may_hold(&self, tree: Tree, values: Option<usize>) -> bool {
        let Tree::Table(i) = tree else { return true };
        let table = &self.schema.tables[i];
        table.key.is_none() && (table.columns.is_empty() || values.is_none_or(|n| n <= table.fields.len()))
    }

    fn search_rowid(&mut self, tree: Tree, number: u32, rowid: i64) -> Result<bool, BtreeError> {
        let root = match tree {
            Tree::Schema => 1,
            Tree::Table(i) => self.schema.tables[i].root,
        };
        // A table that SQLite refused to describe may be one without rowids.
        if self.is_other_kind(root, true)? {
            return Ok(false);
        }
        let way = find_rowid(self.state, root, rowid, number)?;
        for page in &way.above {
            self.claim_children(tree, page)?;
        }
        self.found(tree, number)
    }

    fn search_key(&mut self, tree: Tree, number: u32, payload: &[u8]) -> Result<bool, BtreeError> {
        let Tree::Table(i) = tree else { return Ok(false) };
        let table = &self.schema.tables[i];
        let Some(key) = &table.key else { return Ok(false) };
        if self.is_other_kind(table.root, false)? {
            return Ok(false);
        }
        if !key.is_ordered() {
            return self.search_all(tree, table.root, number);
        }
        let Some(values) = parse_record(payload) else { return Ok(false) };
        if values.len() > table.fields.len() || values.len() < key.columns.len() {
            return Ok(false);
        }
        let way = find_key(self.state, table.root, key, &values, number)?;
        for page in &way.above {
            self.claim_children(tree, page)?;
        }
        self.found(tree, number)
    }

    fn is_other_kind(&self, root: u32, table: bool) -> Result<bool, BtreeError> {
        Ok(self.state.btree(root)?.kind.is_table() != table)
    }

    fn found(&mut self, tree: Tree, number: u32) -> Result<bool, BtreeError> {
        let found = self.owners.tree.get(&number) == Some(&tree);
        if found {
            self.last = tree;
        }
        Ok(found)
    }

    /// Looks at all interior pages of a tree whose order is not known.
    fn search_all(&mut self, tree: Tree, root: u32, number: u32) -> Result<bool, BtreeError> {
        if self.walked.insert(tree) {
            let mut waiting = vec![root];
            let mut known = HashSet::new();
            while let Some(number) = waiting.pop() {
                if !known.insert(number) {
                    return Err(BtreeError::damaged(number, "it has two parents"));
                }
                let page = self.state.btree(number)?;
                self.claim_children(tree, &page)?;
                let children = page.children()?;
                // All leaves of a tree are on the same level.
                if let Some(first) = children.first()
                    && self.state.btree(*first)?.kind.is_interior()
                {
                    waiting.extend(children);
                }
            }
        }
        self.found(tree, number)
    }
}

/// The number of values of a row, or `None` if its header is not in the page of its cell.
fn values_at_least(row: &Row) -> Option<usize> {
    if row.cell.overflow == 0 { parse_record(row.local()).map(|values| values.len()) } else { None }
}
