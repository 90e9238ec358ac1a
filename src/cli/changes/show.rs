//! Rows and values for people and for programs.

use serde_json::{Value as Json, json};

use crate::base::untrusted;
use crate::view::btree::{Encoding, Stored, Table};
use crate::view::change::{Keyed, Owned, RowChange, RowValues, SchemaChange, TableDiff, literal};

/// Characters of a value that a person sees.
const VALUE_CHARS: usize = 60;

pub(super) fn schema_change(change: &SchemaChange) -> String {
    format!("{} {} {}", change.what, change.kind, change.name)
}

pub(super) fn schema_json(change: &SchemaChange) -> Json {
    json!({ "what": change.what, "kind": change.kind, "name": change.name })
}

/// The columns that a difference shows: those that are not computed.
fn columns(table: &Table) -> impl Iterator<Item = usize> + '_ {
    (0..table.columns.len()).filter(|i| table.columns[*i].stored == Stored::Yes)
}

/// `NAME=VALUE` of a column.
fn named(encoding: Encoding, table: &Table, row: &RowValues, column: usize) -> String {
    format!("{}={}", table.columns[column].name, short(encoding, &row.values[column]))
}

fn short(encoding: Encoding, value: &Owned) -> String {
    let text = literal(encoding, value);
    if text.chars().count() <= VALUE_CHARS { text } else { untrusted::line(&text, VALUE_CHARS) }
}

/// One line about a row: `-` deleted, `+` inserted, `~` updated, with what changed.
pub(super) fn row(encoding: Encoding, diff: &TableDiff, change: &RowChange) -> String {
    let table = &diff.table;
    let key = |row: &RowValues| match diff.keyed {
        Keyed::Rowid => format!("rowid={}", row.rowid),
        Keyed::Primary => {
            let parts: Vec<String> =
                table.primary_key.iter().map(|i| named(encoding, table, row, *i)).collect();
            parts.join(" ")
        }
    };
    let is_key = |i: &usize| diff.keyed == Keyed::Primary && table.primary_key.contains(i);
    let all = |row: &RowValues| {
        let others = columns(table).filter(|i| !is_key(i)).map(|i| named(encoding, table, row, i));
        std::iter::once(key(row)).chain(others).collect::<Vec<_>>().join("  ")
    };
    match (&change.old, &change.new) {
        (Some(old), None) => format!("- {}", all(old)),
        (None, Some(new)) => format!("+ {}", all(new)),
        (Some(old), Some(new)) => {
            let changes = columns(table).filter(|i| old.values[*i] != new.values[*i]).map(|i| {
                let (a, b) = (short(encoding, &old.values[i]), short(encoding, &new.values[i]));
                format!("{}: {a} -> {b}", table.columns[i].name)
            });
            std::iter::once(format!("~ {}", key(new))).chain(changes).collect::<Vec<_>>().join("  ")
        }
        (None, None) => String::new(),
    }
}

/// A row as one JSON object.
pub(super) fn row_json(encoding: Encoding, diff: &TableDiff, change: &RowChange) -> Json {
    let table = &diff.table;
    let what = match (&change.old, &change.new) {
        (None, _) => "insert",
        (Some(_), None) => "delete",
        (Some(_), Some(_)) => "update",
    };
    let all = |row: &RowValues| {
        let value = |i: usize| (table.columns[i].name.clone(), value_json(encoding, &row.values[i]));
        columns(table).map(value).collect::<serde_json::Map<_, _>>()
    };
    let mut line = json!({
        "table": table.name, "change": what, "old": change.old.as_ref().map(all), "new": change.new.as_ref().map(all),
    });
    if table.key.is_none() && table.rowid_column.is_none() {
        let rowid = |row: &Option<RowValues>| row.as_ref().map(|r| r.rowid);
        line["old_rowid"] = rowid(&change.old).into();
        line["new_rowid"] = rowid(&change.new).into();
    }
    line
}

/// Numbers and text as such; what JSON cannot say exactly as an object.
fn value_json(encoding: Encoding, value: &Owned) -> Json {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    match value {
        Owned::Null => Json::Null,
        Owned::Integer(n) => (*n).into(),
        Owned::Real(n) if n.is_finite() => (*n).into(),
        Owned::Real(_) => json!({ "real": literal(encoding, value) }),
        Owned::Text(bytes) => match encoding.decode(bytes) {
            Some(text) => text.into(),
            None => json!({ "text_hex": hex(bytes) }),
        },
        Owned::Blob(bytes) => json!({ "blob_hex": hex(bytes) }),
    }
}
