//! The tables of a state.
//!
//! `sqlite_schema` is the table with root page 1. Each row has five columns: type, name, name of
//! the table, root page, SQL.

use super::describe::Describer;
use super::{BtreeError, Encoding, State, Table, Value, Walk, parse_record};

/// Tables, indexes, views and triggers of a schema. A larger schema is an error.
const ENTRIES_MAX: usize = 200_000;

/// One row of `sqlite_schema`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// `table`, `index`, `view` or `trigger`.
    pub kind: String,
    pub name: String,
    /// The table that it belongs to.
    pub table: String,
    /// Its root page; 0 if it has none.
    pub root: u32,
    /// The statement that created it. `None` for indexes that SQLite made by itself.
    pub sql: Option<String>,
}

/// The tables of a state, and whatever else is in its schema.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// All rows of `sqlite_schema`, in their order.
    pub entries: Vec<Entry>,
    /// The tables with a b-tree, in the order of their entries, but for `sqlite_schema` itself.
    pub tables: Vec<Table>,
}

impl Schema {
    /// Reads the schema of a state. `known` is that of a neighbouring state, which is used again if
    /// it is the same.
    ///
    /// # Errors
    /// [`BtreeError`], if a page of it is damaged or could not be had.
    pub fn read(state: &State<'_>, known: Option<&Schema>) -> Result<Schema, BtreeError> {
        let entries = read_entries(state)?;
        if let Some(known) = known.filter(|known| known.entries == entries) {
            return Ok(known.clone());
        }
        let mut describer = Describer::default();
        let mut tables = Vec::new();
        for entry in entries.iter().filter(|e| e.kind == "table" && e.root > 1) {
            let Some(sql) = &entry.sql else { continue };
            let mut table = describer.describe(&entry.name, sql);
            table.root = entry.root;
            let own = |e: &&Entry| e.kind == "trigger" && e.table.eq_ignore_ascii_case(&entry.name);
            table.triggers = entries.iter().filter(own).map(|e| e.name.clone()).collect();
            tables.push(table);
        }
        Ok(Schema { entries, tables })
    }

    /// The table of this name, compared as SQLite does.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|t| t.name.eq_ignore_ascii_case(name))
    }
}

fn read_entries(state: &State<'_>) -> Result<Vec<Entry>, BtreeError> {
    let mut entries = Vec::new();
    if state.page_count() == 0 {
        return Ok(entries);
    }
    let mut walk = Walk::new(*state, 1);
    while let Some(row) = walk.next_row()? {
        if entries.len() >= ENTRIES_MAX {
            return Err(BtreeError::Schema(format!("it has more than {ENTRIES_MAX} entries")));
        }
        let payload = row.payload(state)?;
        let values = parse_record(&payload).ok_or(BtreeError::damaged(row.page, "a record is damaged"))?;
        let [kind, name, table, root, sql, ..] = &values[..] else {
            return Err(BtreeError::damaged(row.page, "a row of the schema has too few columns"));
        };
        entries.push(Entry {
            kind: text(state.encoding, kind),
            name: text(state.encoding, name),
            table: text(state.encoding, table),
            root: match root {
                Value::Integer(n) => u32::try_from(*n).unwrap_or(0),
                _ => 0,
            },
            sql: matches!(sql, Value::Text(_)).then(|| text(state.encoding, sql)),
        });
    }
    Ok(entries)
}

fn text(encoding: Encoding, value: &Value<'_>) -> String {
    match value {
        Value::Text(bytes) => encoding.decode_lossy(bytes),
        _ => String::new(),
    }
}
