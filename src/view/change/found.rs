//! The two states that are compared, and where rows that differ are reported.

use super::differ::{self, Defaults};
use super::pairs::Pair;
use crate::view::btree::{BtreeError, Row, Schema, State};

/// The two states.
pub struct Sides<'a> {
    /// The older one.
    pub old: State<'a>,
    /// Its tables.
    pub old_schema: &'a Schema,
    /// The newer one.
    pub new: State<'a>,
    /// Its tables.
    pub new_schema: &'a Schema,
}

/// What may be read to find the row of a changed overflow page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// The pointer map only; what it does not tell is counted as not attributed.
    Map,
    /// The rows of all tables.
    Read,
}

/// Called for each row that differs: the pair, the older row, the newer one.
pub type Report<'a> = dyn FnMut(Pair, Option<&Row>, Option<&Row>) -> Result<(), BtreeError> + 'a;

/// Where rows that differ are reported.
pub(super) struct Found<'a> {
    pub(super) pair: Pair,
    defaults: Option<(Pair, Defaults, Defaults)>,
    sink: &'a mut Report<'a>,
}

impl<'a> Found<'a> {
    /// Reports to `sink`. The pair is set before each table.
    pub(super) fn new(sink: &'a mut Report<'a>) -> Found<'a> {
        Found { pair: Pair { old: None, new: None }, defaults: None, sink }
    }

    pub(super) fn report(&mut self, old: Option<&Row>, new: Option<&Row>) -> Result<(), BtreeError> {
        (self.sink)(self.pair, old, new)
    }

    /// As [`differ::same_row`], for rows of the current pair.
    pub(super) fn same(
        &mut self,
        sides: &Sides<'_>,
        old: &Row,
        new: &Row,
    ) -> Result<Option<bool>, BtreeError> {
        if old.same_cell(new) {
            return Ok((old.cell.overflow == 0).then_some(true));
        }
        let (Some(a), Some(b)) = self.pair.tables(sides.old_schema, sides.new_schema) else {
            return Ok(Some(false));
        };
        if self.defaults.as_ref().is_none_or(|(pair, ..)| *pair != self.pair) {
            let of = |state: &State<'_>, table| Defaults::of(table, state.encoding);
            self.defaults = Some((self.pair, of(&sides.old, a), of(&sides.new, b)));
        }
        let Some((_, before, after)) = &self.defaults else { return Ok(Some(false)) };
        differ::same_row((&sides.old, a, old, before), (&sides.new, b, new, after))
    }

    /// Whether two rows are the same, overflow pages included.
    pub(super) fn same_whole(&mut self, sides: &Sides<'_>, old: &Row, new: &Row) -> Result<bool, BtreeError> {
        match self.same(sides, old, new)? {
            Some(same) => Ok(same),
            None => Ok(old.payload(&sides.old)? == new.payload(&sides.new)?),
        }
    }
}
