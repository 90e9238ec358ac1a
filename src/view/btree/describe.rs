//! Lets SQLite itself say what a CREATE TABLE statement means.
//!
//! The statement is written into the schema of a database in memory, which SQLite then reads as it
//! reads any schema: nothing is executed, and functions and collations that only the application
//! has are no errors.

use rusqlite::{Connection, params};

use super::{Affinity, Collation, Column, ForeignKey, Key, KeyColumn, Stored, Table};

/// Describes tables, one after the other.
#[derive(Default)]
pub(super) struct Describer {
    memory: Option<Connection>,
}

impl Describer {
    /// The table that the statement creates. Its columns are empty if SQLite refuses the statement.
    pub(super) fn describe(&mut self, name: &str, sql: &str) -> Table {
        self.try_describe(name, sql).unwrap_or_else(|_| {
            // What the refused statement left behind must not reach the next one.
            self.memory = None;
            Table {
                name: name.to_owned(),
                root: 0,
                sql: sql.to_owned(),
                columns: Vec::new(),
                fields: Vec::new(),
                key: None,
                rowid_column: None,
                rowid_name: None,
                primary_key: Vec::new(),
                foreign_keys: Vec::new(),
                triggers: Vec::new(),
            }
        })
    }

    fn try_describe(&mut self, name: &str, sql: &str) -> rusqlite::Result<Table> {
        let db = match self.memory.take() {
            Some(db) => db,
            None => {
                let db = Connection::open_in_memory()?;
                db.execute_batch("CREATE TABLE placeholder(x); PRAGMA writable_schema = ON;")?;
                db
            }
        };
        let db = self.memory.insert(db);
        db.execute("UPDATE sqlite_schema SET name = ?1, tbl_name = ?1, sql = ?2", params![name, sql])?;
        db.execute_batch("PRAGMA writable_schema = RESET; PRAGMA writable_schema = ON;")?;
        read(db, name, sql)
    }
}

/// A column as `PRAGMA table_xinfo` lists it.
struct Listed {
    column: Column,
    key_place: u32,
}

fn read(db: &Connection, name: &str, sql: &str) -> rusqlite::Result<Table> {
    let listed: Vec<Listed> = db
        .prepare_cached("SELECT name, type, dflt_value, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?
        .query_map([name], |row| {
            let declared: String = row.get(1)?;
            let column = Column {
                name: row.get(0)?,
                affinity: affinity(&declared),
                stored: match row.get(4)? {
                    2 => Stored::No,
                    3 => Stored::Computed,
                    _ => Stored::Yes,
                },
                default: row.get(2)?,
                declared,
            };
            Ok(Listed { column, key_place: row.get(3)? })
        })?
        .collect::<rusqlite::Result<_>>()?;
    if listed.is_empty() {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    let key_index: Option<String> = db
        .prepare_cached("SELECT name FROM pragma_index_list(?1) WHERE origin = 'pk'")?
        .query_map([name], |row| row.get(0))?
        .next()
        .transpose()?;
    let mut primary_key: Vec<usize> = (0..listed.len()).filter(|i| listed[*i].key_place > 0).collect();
    primary_key.sort_by_key(|i| listed[*i].key_place);
    let columns: Vec<Column> = listed.into_iter().map(|l| l.column).collect();
    let without_rowid = db
        .prepare_cached("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1")?
        .query_row([name], |row| row.get::<_, bool>(0))?;
    let mut fields: Vec<usize> = (0..columns.len()).filter(|i| columns[*i].stored != Stored::No).collect();
    let mut key = None;
    if without_rowid {
        let index = key_index.as_deref().ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let stored = stored_columns(db, index)?;
        fields = stored.iter().map(|s| s.0).collect();
        key = Some(Key { columns: stored.into_iter().filter_map(|s| s.1).collect() });
    }
    // A primary key without an index is the rowid under another name.
    let alias = (!without_rowid && key_index.is_none()).then(|| primary_key.first().copied()).flatten();
    let taken = |word: &&&str| columns.iter().any(|c| c.name.eq_ignore_ascii_case(word));
    let rowid_name = ["rowid", "_rowid_", "oid"].iter().find(|word| !taken(word)).copied();
    Ok(Table {
        name: name.to_owned(),
        root: 0,
        sql: sql.to_owned(),
        fields,
        key,
        rowid_column: alias,
        rowid_name: rowid_name.filter(|_| !without_rowid),
        primary_key,
        foreign_keys: db
            .prepare_cached("SELECT DISTINCT \"table\" FROM pragma_foreign_key_list(?1)")?
            .query_map([name], |row| Ok(ForeignKey { parent: row.get(0)? }))?
            .collect::<rusqlite::Result<_>>()?,
        triggers: Vec::new(),
        columns,
    })
}

/// The columns of a record of a table without rowids, in their order; those of its key with the
/// order of the key.
fn stored_columns(db: &Connection, index: &str) -> rusqlite::Result<Vec<(usize, Option<KeyColumn>)>> {
    db.prepare_cached("SELECT cid, \"desc\", coll, key FROM pragma_index_xinfo(?1) ORDER BY seqno")?
        .query_map([index], |row| {
            let collation: Option<String> = row.get(2)?;
            let column = KeyColumn {
                collation: match collation.unwrap_or_default().to_ascii_uppercase().as_str() {
                    "BINARY" | "" => Collation::Binary,
                    "NOCASE" => Collation::NoCase,
                    "RTRIM" => Collation::RightTrim,
                    _ => Collation::Foreign,
                },
                descending: row.get(1)?,
            };
            let place = usize::try_from(row.get::<_, i64>(0)?);
            let place = place.map_err(|_| rusqlite::Error::QueryReturnedNoRows)?;
            Ok((place, row.get::<_, bool>(3)?.then_some(column)))
        })?
        .collect()
}

/// The affinity of a declared type, as SQLite derives it: the first rule that fits.
fn affinity(declared: &str) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if !has(&["INT"]) && !has(&["CHAR", "CLOB", "TEXT"]) && !has(&["BLOB"]) && has(&["REAL", "FLOA", "DOUB"])
    {
        Affinity::Real
    } else {
        Affinity::Other
    }
}
