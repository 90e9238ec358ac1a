//! What changed between two states of a database, row by row, from the pages that changed.
//!
//! # Which rows differ
//!
//! The rows of a tree that differ between two states are in its *moved pages*: those that were
//! written between the states (the *changed* pages), and those that left or joined the tree without
//! being written, as SQLite does not write a page that it frees. A row that moved from one page to
//! another, because pages were split or merged, is in moved pages of both states, and compares
//! equal. So the rows of all moved pages of the tree are compared as two sorted lists.
//!
//! # Which tree a page is in
//!
//! A page does not say which tree it is in. For a changed page, the way from each possible root to
//! the page's first key is followed (`locate`): it ends at the page if and only if the page is in
//! that tree. So a page that only looks like one of a tree, such as a freed one, is never taken for
//! one. Pages that left or joined a tree are found by comparing the children of interior pages
//! (`moved`).
//!
//! # What is left over
//!
//! Overflow pages of rows that differ are known from their rows, free pages from the freelist. If
//! another page changed that may continue a row whose cell is unchanged, `overflow` finds the row:
//! by the pointer map, or by reading the rows of all tables, if the caller allows it. Whatever is
//! still not attributed is counted as such.
//!
//! If most pages changed, as after VACUUM, whole tables are compared (`whole`).

mod budget;
mod compare;
mod diff;
mod differ;
mod found;
mod keyed;
mod literal;
mod locate;
mod moved;
mod overflow;
mod pairs;
mod rowids;
mod script;
mod whole;

pub use budget::Budgeted;
pub use compare::{Outcome, PageCounts, compare};
pub use diff::{Diff, Keyed, Kind, Owned, RowChange, RowValues, TableDiff, diff};
pub use differ::{Defaults, Values, same_row};
pub use found::{Effort, Report, Sides};
pub use literal::{identifier, literal, string};
pub use pairs::{Pair, SchemaChange, pair_tables, schema_changes};
pub use script::{Direction, Labels, script};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod undo_tests;
