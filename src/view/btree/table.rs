//! What is known of a table.

use super::Key;

/// What SQLite converts the values of a column to, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// Floating-point numbers. Those without a fraction are stored as integers.
    Real,
    /// Any other.
    Other,
}

/// How a column is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// In the record.
    Yes,
    /// In the record, but computed from other columns.
    Computed,
    /// Not at all: it is computed when it is read.
    No,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// What values are converted to.
    pub affinity: Affinity,
    /// How it is stored.
    pub stored: Stored,
    /// The value in records that were written before the column was added, as SQL.
    pub default: Option<String>,
    /// The declared type.
    pub declared: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The table that it refers to.
    pub parent: String,
}

/// A table whose rows are in a b-tree of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// Its root page.
    pub root: u32,
    /// The statement that created it.
    pub sql: String,
    /// Its columns in the order of the statement. Empty if SQLite refused to describe it.
    pub columns: Vec<Column>,
    /// The column of each value of a record.
    pub fields: Vec<usize>,
    /// The key of the b-tree, for a table without rowids.
    pub key: Option<Key>,
    /// The column that is another name of the rowid.
    pub rowid_column: Option<usize>,
    /// A name by which statements can refer to the rowid.
    pub rowid_name: Option<&'static str>,
    /// The columns of the primary key in its order. Empty if the table has none.
    pub primary_key: Vec<usize>,
    pub foreign_keys: Vec<ForeignKey>,
    pub triggers: Vec<String>,
}

impl Table {
    /// Whether SQLite keeps the table for itself, such as `sqlite_sequence`.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
    }

    /// Whether rows of both can be compared column by column.
    #[must_use]
    pub fn same_columns(&self, other: &Table) -> bool {
        !self.columns.is_empty()
            && self.columns == other.columns
            && self.fields == other.fields
            && self.key == other.key
            && self.rowid_column == other.rowid_column
            && self.primary_key == other.primary_key
    }
}
