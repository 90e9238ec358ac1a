//! SQL that turns one state into another, and back.
//!
//! The script is for the `sqlite3` program, on a database that applications go on using. Each
//! changed table has two tables in `temp`: `lsfast_from_N` has the rows as they have to be now,
//! `lsfast_to_N` the same rows as they become. They are filled before the transaction begins. So it
//! holds the write lock for a few statements only:
//!
//! 1. The guard lists the rows that are not as they have to be, and stops if there are any.
//! 2. The rows of `from` are deleted from each table, then those of `to` are inserted. So no unique
//!    key can collide in between, whatever the order of tables.
//! 3. The number of changed rows is compared with the number in the script: a trigger that ran
//!    would show.
//! 4. Foreign keys are checked: there must not be more violations than before.
//!
//! # Triggers and foreign keys
//!
//! The rows that triggers and cascades changed are in the difference. So neither may run again:
//! triggers are turned off for the connection, and foreign keys are not enforced row by row but
//! checked before the commit. A cascade would delete rows that are newer than the difference.
//!
//! # Stopping
//!
//! A check is an INSERT into a table with a CHECK constraint, whose name is the message. `.bail on`
//! ends the program at the first error, which rolls the transaction back.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::diff::{Diff, Keyed, Owned, RowChange, RowValues, TableDiff};
use super::literal::{identifier, literal, string};
use crate::base::count;
use crate::view::btree::{Encoding, Stored};

/// Which of the two states the database is in, and which one it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the older state to the newer one.
    Apply,
    /// From the newer state back to the older one, for the rows that differ.
    Undo,
}

/// What the head of a script says.
pub struct Labels {
    /// The database or replica.
    pub database: String,
    /// The older state.
    pub old: String,
    /// The newer state.
    pub new: String,
    /// What differs and is not part of the script.
    pub left_out: Vec<String>,
}

/// Bytes of values in one INSERT statement of a script, after which the next one begins.
const STATEMENT_BYTES: usize = 64 << 10;

/// Conflicts that a script lists before it stops.
const CONFLICTS_SHOWN: usize = 20;

/// The script, or what keeps it from being written.
///
/// # Errors
/// A message, if a table's rows cannot be named.
pub fn script(diff: &Diff, direction: Direction, labels: &Labels) -> Result<String, String> {
    let tables: Vec<&TableDiff> = diff.tables.iter().filter(|t| !t.table.is_internal()).collect();
    let mut out = head(&tables, direction, labels);
    if tables.is_empty() {
        return Ok(out + "-- No row differs.\n");
    }
    let parts: Vec<Part<'_>> = tables
        .iter()
        .enumerate()
        .map(|(i, table)| Part::new(diff.encoding, table, i + 1, direction))
        .collect::<Result<_, _>>()?;
    let checked = checked_tables(diff, &tables);
    for part in &parts {
        part.stage(&mut out);
    }
    begin(&mut out, &checked);
    for part in &parts {
        part.guard(&mut out);
    }
    stop_at_conflicts(&mut out);
    let changes: usize = parts.iter().map(|p| p.from.len() + p.to.len()).sum();
    out += "\nINSERT INTO temp.lsfast_start SELECT total_changes();\n";
    for part in &parts {
        part.delete(&mut out);
    }
    for part in &parts {
        part.insert(&mut out);
    }
    let _ = writeln!(
        out,
        "INSERT INTO temp.lsfast_check_triggers\n  SELECT total_changes() - n - 1 - {changes} FROM temp.lsfast_start;"
    );
    if !checked.is_empty() {
        let _ = writeln!(
            out,
            "INSERT INTO temp.lsfast_check_foreign_keys\n  SELECT max(0, {} - n) FROM temp.lsfast_foreign_keys;",
            violations(&checked)
        );
    }
    if direction == Direction::Apply {
        sequences(&mut out, diff);
    }
    out += "COMMIT;\n";
    Ok(out)
}

fn head(tables: &[&TableDiff], direction: Direction, labels: &Labels) -> String {
    let line = |text: &str| text.replace(['\n', '\r'], " ");
    let what = match direction {
        Direction::Apply => "Repeats",
        Direction::Undo => "Takes back",
    };
    let mut out = format!("-- {what} what changed in {}\n", line(&labels.database));
    let _ = writeln!(out, "--   from {}\n--   to   {}", line(&labels.old), line(&labels.new));
    for table in tables {
        let [inserted, updated, deleted] = table.counts();
        let _ = writeln!(
            out,
            "-- {}: {inserted} inserted, {updated} updated, {deleted} deleted",
            line(&table.table.name)
        );
    }
    for text in &labels.left_out {
        let _ = writeln!(out, "-- NOT PART OF THIS SCRIPT: {}", line(text));
    }
    out += "-- Read it, then run it with the sqlite3 program, version 3.35 or newer:\n\
            --   sqlite3 APP.DB < SCRIPT.SQL\n\
            -- It changes nothing if one of these rows was changed again.\n\
            .bail on\n.timeout 10000\n";
    if tables.iter().any(|t| !t.table.triggers.is_empty()) {
        out += "-- What the triggers did is part of the difference, so they must not run again.\n\
                .dbconfig enable_trigger off\n";
    }
    out += "-- Foreign keys are checked before the commit. Cascades must not run.\n\
            PRAGMA foreign_keys = OFF;\n";
    out
}

/// The tables whose foreign keys may be violated by changed rows: changed ones that refer to
/// others, and those that refer to a changed one.
fn checked_tables(diff: &Diff, tables: &[&TableDiff]) -> Vec<String> {
    let changed = |name: &str| tables.iter().any(|t| t.table.name.eq_ignore_ascii_case(name));
    let checked: BTreeSet<String> = diff
        .references
        .iter()
        .filter(|(_, parents)| !parents.is_empty())
        .filter(|(child, parents)| changed(child) || parents.iter().any(|p| changed(p)))
        .map(|(child, _)| child.clone())
        .collect();
    checked.into_iter().collect()
}

fn violations(tables: &[String]) -> String {
    let counts: Vec<String> = tables
        .iter()
        .map(|t| format!("(SELECT count(*) FROM pragma_foreign_key_check({}))", string(t)))
        .collect();
    counts.join("\n    + ")
}

fn begin(out: &mut String, checked: &[String]) {
    *out += "\nCREATE TEMP TABLE lsfast_conflicts(conflict);\n\
        CREATE TEMP TABLE lsfast_start(n);\n\
        CREATE TEMP TABLE lsfast_check_rows(n,\n  \
        CONSTRAINT \"rows were changed again; nothing was changed\" CHECK (n = 0));\n\
        CREATE TEMP TABLE lsfast_check_triggers(n,\n  \
        CONSTRAINT \"a trigger ran; nothing was changed\" CHECK (n = 0));\n";
    if !checked.is_empty() {
        *out += "CREATE TEMP TABLE lsfast_check_foreign_keys(n,\n  \
            CONSTRAINT \"foreign keys would be violated; nothing was changed\" CHECK (n = 0));\n\
            CREATE TEMP TABLE lsfast_foreign_keys(n);\n";
        let _ = writeln!(out, "INSERT INTO temp.lsfast_foreign_keys\n  SELECT {};", violations(checked));
    }
    *out += "\nBEGIN IMMEDIATE;\n";
}

fn stop_at_conflicts(out: &mut String) {
    let _ = writeln!(
        out,
        "SELECT 'changed again: ' || conflict FROM temp.lsfast_conflicts LIMIT {CONFLICTS_SHOWN};\n\
         INSERT INTO temp.lsfast_check_rows SELECT count(*) FROM temp.lsfast_conflicts;"
    );
}

/// The largest values that AUTOINCREMENT has given. An undo leaves them: no key is given twice.
fn sequences(out: &mut String, diff: &Diff) {
    let is_it = |t: &&TableDiff| t.table.name.eq_ignore_ascii_case("sqlite_sequence");
    let Some(table) = diff.tables.iter().find(is_it) else { return };
    for row in &table.rows {
        for (row, is_new) in [(&row.old, false), (&row.new, true)] {
            let Some([name, value]) = row.as_ref().map(|r| &r.values[..]) else { continue };
            let (name, value) = (literal(diff.encoding, name), literal(diff.encoding, value));
            let _ = writeln!(out, "DELETE FROM main.sqlite_sequence WHERE name = {name};");
            if is_new {
                let _ = writeln!(out, "INSERT INTO main.sqlite_sequence VALUES ({name}, {value});");
            }
        }
    }
}

/// The name of a rowid in the tables of the script.
const ROWID: &str = "lsfast_rowid";

/// The part of a script about one table.
struct Part<'a> {
    encoding: Encoding,
    diff: &'a TableDiff,
    number: usize,
    name: String,
    /// The name by which statements refer to a rowid that no column shows.
    rowid: Option<&'static str>,
    /// The columns that are stored and not computed.
    columns: Vec<usize>,
    /// The columns that name a row; none if the rowid does.
    key: Vec<usize>,
    from: Vec<&'a RowValues>,
    to: Vec<&'a RowValues>,
}

impl<'a> Part<'a> {
    fn new(
        encoding: Encoding,
        diff: &'a TableDiff,
        number: usize,
        direction: Direction,
    ) -> Result<Part<'a>, String> {
        let table = &diff.table;
        let side = |old: bool| -> Vec<&'a RowValues> {
            let of = |row: &'a RowChange| if old { row.old.as_ref() } else { row.new.as_ref() };
            diff.rows.iter().filter_map(of).collect()
        };
        let (from, to) = match direction {
            Direction::Apply => (side(true), side(false)),
            Direction::Undo => (side(false), side(true)),
        };
        let hidden = table.key.is_none() && table.rowid_column.is_none();
        if diff.keyed == Keyed::Rowid && table.rowid_name.is_none() {
            return Err(format!(
                "the rows of {} can't be named in SQL: it has no primary key, and its columns hide the rowid",
                table.name
            ));
        }
        let stored = |i: &usize| table.columns[*i].stored == Stored::Yes;
        Ok(Part {
            encoding,
            diff,
            number,
            name: identifier(&table.name),
            rowid: table.rowid_name.filter(|_| hidden),
            columns: (0..table.columns.len()).filter(stored).collect(),
            key: if diff.keyed == Keyed::Primary { table.primary_key.clone() } else { Vec::new() },
            from,
            to,
        })
    }

    fn column(&self, i: usize) -> String {
        identifier(&self.diff.table.columns[i].name)
    }

    fn names(&self, prefix: &str, columns: &[usize]) -> String {
        let names: Vec<String> = columns.iter().map(|i| format!("{prefix}{}", self.column(*i))).collect();
        names.join(", ")
    }

    /// Creates and fills the two tables.
    fn stage(&self, out: &mut String) {
        for (side, rows) in [("from", &self.from), ("to", &self.to)] {
            let rowid = self.rowid.map_or(String::new(), |_| format!("{ROWID}, "));
            let table = format!("lsfast_{side}_{}", self.number);
            let _ = writeln!(
                out,
                "\n-- {}: {} as {}\nCREATE TEMP TABLE {table}({rowid}{});",
                self.diff.table.name.replace(['\n', '\r'], " "),
                count(rows.len(), "row"),
                match (side, rows.len()) {
                    ("from", 1) => "it has to be now",
                    ("from", _) => "they have to be now",
                    (_, 1) => "it becomes",
                    _ => "they become",
                },
                self.names("", &self.columns),
            );
            let mut length = 0;
            for (i, row) in rows.iter().enumerate() {
                let values = self.values(row);
                if i == 0 || length > STATEMENT_BYTES {
                    *out += if i == 0 { "" } else { ";\n" };
                    let _ = write!(out, "INSERT INTO temp.{table} VALUES\n  ({values})");
                    length = 0;
                } else {
                    let _ = write!(out, ",\n  ({values})");
                }
                length += values.len();
            }
            *out += if rows.is_empty() { "" } else { ";\n" };
        }
        if self.from.is_empty() {
            return;
        }
        // The guard looks for rows by their keys.
        let keys = if self.key.is_empty() { ROWID.to_owned() } else { self.names("", &self.key) };
        let n = self.number;
        let _ = writeln!(out, "CREATE INDEX temp.lsfast_key_{n} ON lsfast_from_{n}({keys});");
    }

    fn values(&self, row: &RowValues) -> String {
        let mut values: Vec<String> = self.rowid.iter().map(|_| row.rowid.to_string()).collect();
        values.extend(
            self.columns.iter().map(|i| literal(self.encoding, row.values.get(*i).unwrap_or(&Owned::Null))),
        );
        values.join(", ")
    }

    /// `m` and another table have the same key. The column of `m` is first, for its collation.
    fn same_key(&self, other: &str) -> String {
        if self.key.is_empty() {
            return format!("m.{} = {other}.{ROWID}", self.rowid.unwrap_or("rowid"));
        }
        let equal: Vec<String> =
            self.key.iter().map(|i| format!("m.{0} = {other}.{0}", self.column(*i))).collect();
        equal.join(" AND ")
    }

    /// The key of a row of `f`, as text.
    fn key_text(&self) -> String {
        if self.key.is_empty() {
            return format!("'rowid ' || f.{ROWID}");
        }
        let texts: Vec<String> = self
            .key
            .iter()
            .map(|i| {
                let name = &self.diff.table.columns[*i].name;
                format!("{} || quote(f.{})", string(&format!("{name} ")), identifier(name))
            })
            .collect();
        texts.join(" || ', ' || ")
    }

    /// Lists the rows that are not as they have to be.
    fn guard(&self, out: &mut String) {
        let (n, table) = (self.number, &self.name);
        let what = string(&format!("{}: ", self.diff.table.name));
        let columns: Vec<String> = self.diff.table.columns.iter().map(|c| string(&c.name)).collect();
        let _ = writeln!(
            out,
            "INSERT INTO temp.lsfast_conflicts\n  SELECT {what} || 'its columns'\n  WHERE (SELECT count(*) FROM \
             pragma_table_xinfo({0}, 'main')) <> {1}\n    OR EXISTS (SELECT 1 FROM pragma_table_xinfo({0}, 'main') WHERE name NOT IN \
             ({2}));",
            string(&self.diff.table.name),
            columns.len(),
            columns.join(", "),
        );
        let same = |other: &str| {
            let of_column = |c: String| {
                format!("m.{c} IS {other}.{c} COLLATE BINARY AND typeof(m.{c}) = typeof({other}.{c})")
            };
            let all: Vec<String> = self.columns.iter().map(|i| of_column(self.column(*i))).collect();
            all.join("\n    AND ")
        };
        if !self.from.is_empty() {
            // A column of the key is compared too, because its collation may take different text
            // as equal.
            let _ = writeln!(
                out,
                "INSERT INTO temp.lsfast_conflicts\n  SELECT {what} || {} FROM temp.lsfast_from_{n} AS f\n  WHERE NOT \
                 EXISTS (SELECT 1 FROM main.{table} AS m WHERE {}\n    AND {});",
                self.key_text(),
                self.same_key("f"),
                same("f"),
            );
        }
        // A row without a primary key may get another rowid, so its rowid may be in use. An equal
        // row under it is the row itself, which has come back: a second run must not add it again.
        let taken = if self.key.is_empty() { format!("\n    AND {}", same("f")) } else { String::new() };
        if !self.to.is_empty() {
            let _ = writeln!(
                out,
                "INSERT INTO temp.lsfast_conflicts\n  SELECT {what} || {} FROM temp.lsfast_to_{n} AS f\n  WHERE EXISTS \
                 (SELECT 1 FROM main.{table} AS m WHERE {}{taken}\n    AND NOT EXISTS (SELECT 1 FROM temp.lsfast_from_{n} AS \
                 o WHERE {}));",
                self.key_text(),
                self.same_key("f"),
                self.same_key("o"),
            );
        }
    }

    fn delete(&self, out: &mut String) {
        if self.from.is_empty() {
            return;
        }
        let (n, table) = (self.number, &self.name);
        let (own, other) = match (&self.key[..], self.rowid) {
            ([], rowid) => (rowid.unwrap_or("rowid").to_owned(), ROWID.to_owned()),
            ([one], _) => (self.column(*one), self.column(*one)),
            (key, _) => (format!("({})", self.names("", key)), self.names("", key)),
        };
        let _ = writeln!(
            out,
            "DELETE FROM main.{table} WHERE {own} IN (SELECT {other} FROM temp.lsfast_from_{n});"
        );
    }

    fn insert(&self, out: &mut String) {
        if self.to.is_empty() {
            return;
        }
        let (n, table, columns) = (self.number, &self.name, self.names("", &self.columns));
        let Some(rowid) = self.rowid else {
            let _ = writeln!(
                out,
                "INSERT INTO main.{table}({columns})\n  SELECT {columns} FROM temp.lsfast_to_{n};"
            );
            return;
        };
        let taken = format!("EXISTS (SELECT 1 FROM main.{table} AS m WHERE m.{rowid} = t.{ROWID})");
        let _ = writeln!(
            out,
            "-- A row whose rowid was given to another row gets a new one.\n\
             INSERT INTO main.{table}({rowid}, {columns})\n  SELECT iif({taken}, NULL, t.{ROWID}), {}\n  FROM \
             temp.lsfast_to_{n} AS t ORDER BY {taken};",
            self.names("t.", &self.columns),
        );
    }
}
