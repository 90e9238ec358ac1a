//! The rows that differ, with their values.

use std::collections::HashMap;

use super::compare::compare;
use super::differ::{Defaults, Values};
use super::found::{Effort, Sides};
use super::pairs::{Pair, SchemaChange, pair_tables, schema_changes};
use crate::view::btree::{BtreeError, Encoding, Row, State, Table, Value};

/// A value that is kept. Text has the encoding of the database.
#[derive(Debug, Clone, PartialEq)]
pub enum Owned {
    Null,
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text, which may be invalid in the encoding of the database.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl From<&Value<'_>> for Owned {
    fn from(value: &Value<'_>) -> Owned {
        match value {
            Value::Null => Owned::Null,
            Value::Integer(n) => Owned::Integer(*n),
            Value::Real(n) => Owned::Real(*n),
            Value::Text(bytes) => Owned::Text(bytes.to_vec()),
            Value::Blob(bytes) => Owned::Blob(bytes.to_vec()),
        }
    }
}

/// A row in one state.
#[derive(Debug, Clone, PartialEq)]
pub struct RowValues {
    /// Its rowid; 0 in a table without rowids.
    pub rowid: i64,
    /// The values of all columns of the table. Columns that are not stored are NULL.
    pub values: Vec<Owned>,
}

/// A row that differs: inserted, deleted, or updated.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChange {
    /// The row in the older state.
    pub old: Option<RowValues>,
    /// The row in the newer state.
    pub new: Option<RowValues>,
}

/// What names a row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyed {
    /// The columns of the primary key.
    Primary,
    /// A rowid that no column shows.
    Rowid,
}

/// The rows of a table that differ.
#[derive(Debug, Clone)]
pub struct TableDiff {
    /// The table in the newer state. In the older one it has the same columns.
    pub table: Table,
    /// What names its rows.
    pub keyed: Keyed,
    /// The rows, in order of their keys, but for those found by their overflow pages.
    pub rows: Vec<RowChange>,
}

/// How two states differ.
#[derive(Debug, Clone)]
pub struct Diff {
    /// How text is stored.
    pub encoding: Encoding,
    /// The tables with rows that differ.
    pub tables: Vec<TableDiff>,
    /// Tables in both states whose columns differ, and which were not compared.
    pub not_compared: Vec<String>,
    /// The names of all tables of both states.
    pub known_tables: Vec<String>,
    /// How the schema differs.
    pub schema: Vec<SchemaChange>,
    /// All tables in the newer state that refer to another one, with the tables they refer to.
    pub references: Vec<(String, Vec<String>)>,
    /// Whether whole tables were compared, because most pages changed.
    pub wide: bool,
    /// Changed pages that may hold parts of rows, and whose rows were not found.
    pub unclear: usize,
}

/// Compares two states. `changed` has at least all pages that differ and exist in both; `name` is
/// the table to compare, all if `None`.
///
/// # Errors
/// [`BtreeError`], if a page is damaged or could not be had.
pub fn diff(sides: &Sides<'_>, changed: &[u32], name: Option<&str>) -> Result<Diff, BtreeError> {
    let (old_schema, new_schema) = (sides.old_schema, sides.new_schema);
    let tables = |pair: &Pair| match pair.tables(old_schema, new_schema) {
        (Some(old), Some(new)) => Some((old, new)),
        _ => None,
    };
    let named = |table: &Table| name.is_none_or(|name| table.name.eq_ignore_ascii_case(name));
    let comparable = |pair: &Pair| tables(pair).is_some_and(|(old, new)| named(new) && old.same_columns(new));
    let not_compared = pair_tables(old_schema, new_schema)
        .iter()
        .filter_map(tables)
        .filter(|(old, new)| named(new) && !old.same_columns(new))
        .map(|(_, new)| new.name.clone())
        .collect();
    let mut found: HashMap<usize, Vec<RowChange>> = HashMap::new();
    let mut defaults: HashMap<usize, (Defaults, Defaults)> = HashMap::new();
    let mut keep = |pair: Pair, old: Option<&Row>, new: Option<&Row>| {
        let (Some((old_table, new_table)), Some(i)) = (tables(&pair), pair.new) else { return Ok(()) };
        let (before, after) = defaults.entry(i).or_insert_with(|| {
            (Defaults::of(old_table, sides.old.encoding), Defaults::of(new_table, sides.new.encoding))
        });
        let old = old.map(|row| values(&sides.old, old_table, row, before)).transpose()?;
        let new = new.map(|row| values(&sides.new, new_table, row, after)).transpose()?;
        found.entry(i).or_default().push(RowChange { old, new });
        Ok(())
    };
    let outcome = compare(sides, changed, Effort::Read, &comparable, &mut keep)?;
    let mut diffs: Vec<(usize, TableDiff)> =
        found.into_iter().map(|(i, rows)| (i, keyed(new_schema.tables[i].clone(), rows))).collect();
    diffs.sort_by_key(|(i, _)| *i);
    let parents = |t: &Table| t.foreign_keys.iter().map(|key| key.parent.clone()).collect::<Vec<_>>();
    Ok(Diff {
        encoding: sides.new.encoding,
        tables: diffs.into_iter().map(|(_, diff)| diff).filter(|diff| !diff.rows.is_empty()).collect(),
        not_compared,
        known_tables: old_schema.tables.iter().chain(&new_schema.tables).map(|t| t.name.clone()).collect(),
        schema: schema_changes(old_schema, new_schema),
        references: new_schema.tables.iter().map(|t| (t.name.clone(), parents(t))).collect(),
        wide: outcome.pages.is_none(),
        unclear: outcome.pages.map_or(0, |pages| pages.unclear),
    })
}

fn values(state: &State<'_>, table: &Table, row: &Row, defaults: &Defaults) -> Result<RowValues, BtreeError> {
    let payload = row.payload(state)?;
    let values = Values::read(table, row, &payload, defaults)?;
    Ok(RowValues { rowid: row.cell.rowid, values: values.0.iter().map(Owned::from).collect() })
}

/// Names the rows by the primary key if the table has one: a row that was replaced under another
/// rowid becomes an update.
fn keyed(table: Table, rows: Vec<RowChange>) -> TableDiff {
    if table.key.is_some() || table.rowid_column.is_some() {
        return TableDiff { table, keyed: Keyed::Primary, rows };
    }
    // SQLite allows NULL in a primary key, and then it names no row.
    let named = |row: &RowValues| table.primary_key.iter().all(|i| row.values[*i] != Owned::Null);
    let all_named = rows.iter().flat_map(|r| r.old.iter().chain(&r.new)).all(named);
    if table.primary_key.is_empty() || !all_named {
        return TableDiff { table, keyed: Keyed::Rowid, rows };
    }
    let key = |row: &RowValues| {
        let values: Vec<&Owned> = table.primary_key.iter().map(|i| &row.values[*i]).collect();
        format!("{values:?}")
    };
    let mut merged: Vec<RowChange> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for change in rows {
        for (row, is_new) in [(change.old, false), (change.new, true)] {
            let Some(row) = row else { continue };
            let at = *places.entry(key(&row)).or_insert_with(|| {
                merged.push(RowChange { old: None, new: None });
                merged.len() - 1
            });
            if is_new {
                merged[at].new = Some(row);
            } else {
                merged[at].old = Some(row);
            }
        }
    }
    TableDiff { table, keyed: Keyed::Primary, rows: merged }
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is in the newer state only.
    Inserted,
    /// It is in both, with other values.
    Updated,
    /// It is in the older state only.
    Deleted,
}

impl RowChange {
    /// What happened to the row.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match (&self.old, &self.new) {
            (None, _) => Kind::Inserted,
            (Some(_), Some(_)) => Kind::Updated,
            (Some(_), None) => Kind::Deleted,
        }
    }
}

impl Diff {
    /// Leaves out rows to which something else happened, and tables without others.
    pub fn retain(&mut self, kind: Kind) {
        for table in &mut self.tables {
            table.rows.retain(|row| row.kind() == kind);
        }
        self.tables.retain(|table| !table.rows.is_empty());
    }
}

impl TableDiff {
    /// Rows inserted, updated and deleted.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for row in &self.rows {
            counts[row.kind() as usize] += 1;
        }
        counts
    }
}
