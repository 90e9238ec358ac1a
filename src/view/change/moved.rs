//! The pages of a tree whose rows may differ between two states.

use std::collections::HashSet;

use super::locate::{Owners, Tree};
use crate::view::btree::{BtreeError, State};

/// One side of a tree: what is known of it in one state.
pub(super) struct Side<'a> {
    pub(super) state: &'a State<'a>,
    pub(super) owners: &'a Owners,
    pub(super) tree: Option<Tree>,
    pub(super) root: u32,
}

/// The pages of a tree that were written, left or joined it, on one side.
struct Members {
    /// Changed pages of the tree.
    changed: Vec<u32>,
    /// Children of all interior pages that were looked at, and the root.
    children: HashSet<u32>,
    /// Unchanged pages that were looked at.
    opened: HashSet<u32>,
}

impl Members {
    fn new(side: &Side<'_>) -> Result<Members, BtreeError> {
        let mut members = Members { changed: Vec::new(), children: HashSet::new(), opened: HashSet::new() };
        let Some(tree) = side.tree else { return Ok(members) };
        members.children.insert(side.root);
        members.changed = side.owners.pages(tree);
        for number in &members.changed {
            members.children.extend(side.state.btree(*number)?.children()?);
        }
        Ok(members)
    }

    /// Looks at unchanged pages of this side that are not on the `other` one. Returns whether there
    /// were any.
    fn open(
        &mut self,
        state: &State<'_>,
        other: &Members,
        changed: &HashSet<u32>,
        also: &HashSet<u32>,
    ) -> Result<bool, BtreeError> {
        let alone = |n: &&u32| !changed.contains(n) && (!other.children.contains(n) || also.contains(n));
        let mut next: Vec<u32> =
            self.children.iter().filter(alone).copied().filter(|n| !self.opened.contains(n)).collect();
        next.sort_unstable();
        state.soon(&next);
        for number in &next {
            self.opened.insert(*number);
            self.children.extend(state.btree(*number)?.children()?);
        }
        Ok(!next.is_empty())
    }
}

/// The moved pages of a tree in the older and in the newer state. Empty on a side without the tree.
///
/// # Errors
/// [`BtreeError`], if one of them is damaged or could not be had.
pub(super) fn moved(
    old: &Side<'_>,
    new: &Side<'_>,
    changed: &HashSet<u32>,
) -> Result<(Vec<u32>, Vec<u32>), BtreeError> {
    let (mut before, mut after) = (Members::new(old)?, Members::new(new)?);
    // What was opened on one side because the other one did not seem to have it is opened on both
    // if it turns out to be on both: then what is below it cancels out.
    loop {
        let more = before.open(old.state, &after, changed, &after.opened)?;
        if !(after.open(new.state, &before, changed, &before.opened)? || more) {
            break;
        }
    }
    let only = |own: &Members, other: &Members| {
        let mut pages = own.changed.clone();
        let alone = |n: &&u32| !changed.contains(n) && !other.children.contains(n);
        pages.extend(own.children.iter().filter(alone));
        pages
    };
    Ok((only(&before, &after), only(&after, &before)))
}
