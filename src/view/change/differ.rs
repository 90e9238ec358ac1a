//! Whether two rows have the same values.

use std::cell::OnceCell;

use rusqlite::Connection;
use rusqlite::types::Value as Owned;

use crate::view::btree::{
    Affinity, BtreeError, Column, Encoding, Row, State, Stored, Table, Value, parse_record,
};

/// The values of a row by column, as SQL sees them. Columns that are not stored are NULL.
pub struct Values<'a>(pub Vec<Value<'a>>);

impl<'a> Values<'a> {
    /// Reads the values of a payload. `defaults` has the values of columns that were added after
    /// the row was written.
    ///
    /// # Errors
    /// [`BtreeError::Damaged`], if the payload is not a record.
    pub fn read(
        table: &Table,
        row: &Row,
        payload: &'a [u8],
        defaults: &'a Defaults,
    ) -> Result<Values<'a>, BtreeError> {
        let fields = parse_record(payload).ok_or(BtreeError::damaged(row.page, "a record is damaged"))?;
        let mut values = vec![Value::Null; table.columns.len()];
        for (i, column) in table.fields.iter().enumerate() {
            let value = match fields.get(i) {
                Some(value) => *value,
                None => defaults.value(*column),
            };
            values[*column] = match (value, table.columns[*column].affinity) {
                // Numbers without a fraction are stored as integers.
                #[allow(clippy::cast_precision_loss)]
                (Value::Integer(n), Affinity::Real) => Value::Real(n as f64),
                (value, _) => value,
            };
        }
        if let Some(column) = table.rowid_column {
            values[column] = Value::Integer(row.cell.rowid);
        }
        Ok(Values(values))
    }

    /// Whether all values are the same in type and in each bit.
    #[must_use]
    pub fn same(&self, other: &Values<'_>) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.same(b))
    }
}

/// The values of columns that older records lack.
pub struct Defaults {
    /// Type and default of each column that may be lacking.
    columns: Vec<Option<(String, String)>>,
    encoding: Encoding,
    values: OnceCell<Vec<Default>>,
}

/// A default, with text in the encoding of the database.
enum Default {
    Fixed(Value<'static>),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Defaults {
    /// The defaults of a table. SQLite allows only constants for a column that is added.
    #[must_use]
    pub fn of(table: &Table, encoding: Encoding) -> Defaults {
        let literal = |c: &Column| {
            let sql = c.default.clone().filter(|sql| c.stored == Stored::Yes && is_literal(sql))?;
            Some((c.declared.clone(), sql))
        };
        let columns = table.columns.iter().map(literal).collect();
        Defaults { columns, encoding, values: OnceCell::new() }
    }

    fn value(&self, column: usize) -> Value<'_> {
        let values = self.values.get_or_init(|| self.evaluate().unwrap_or_default());
        match values.get(column) {
            None => Value::Null,
            Some(Default::Fixed(value)) => *value,
            Some(Default::Text(bytes)) => Value::Text(bytes),
            Some(Default::Blob(bytes)) => Value::Blob(bytes),
        }
    }

    /// Lets SQLite evaluate the literals in columns of their types.
    fn evaluate(&self) -> rusqlite::Result<Vec<Default>> {
        let db = Connection::open_in_memory()?;
        let evaluate = |declared: &str, sql: &str| -> rusqlite::Result<Owned> {
            // The type decides the affinity; its arguments do not.
            let kind: String =
                declared.chars().take_while(|c| c.is_ascii_alphabetic() || matches!(c, ' ' | '_')).collect();
            db.execute_batch(&format!(
                "DROP TABLE IF EXISTS d; CREATE TABLE d(c \"{kind}\" DEFAULT {sql}); INSERT INTO d DEFAULT VALUES"
            ))?;
            db.query_row("SELECT c FROM d", [], |row| row.get(0))
        };
        let values = self.columns.iter().map(|column| {
            let Some((declared, sql)) = column else { return Ok(Default::Fixed(Value::Null)) };
            Ok(match evaluate(declared, sql)? {
                Owned::Null => Default::Fixed(Value::Null),
                Owned::Integer(n) => Default::Fixed(Value::Integer(n)),
                Owned::Real(n) => Default::Fixed(Value::Real(n)),
                Owned::Text(text) => Default::Text(encode(self.encoding, &text)),
                Owned::Blob(bytes) => Default::Blob(bytes),
            })
        });
        values.collect()
    }
}

fn encode(encoding: Encoding, text: &str) -> Vec<u8> {
    match encoding {
        Encoding::Utf8 => text.as_bytes().to_vec(),
        Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    }
}

/// Whether a default is one literal, so that evaluating it costs nothing.
fn is_literal(sql: &str) -> bool {
    let sql = sql.trim();
    let unsigned = sql.trim_start_matches(['+', '-']).trim_start();
    let quoted = |text: &str| {
        text.strip_prefix('\'')
            .and_then(|t| t.strip_suffix('\''))
            .is_some_and(|t| t.replace("''", "").find('\'').is_none())
    };
    let number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_'));
    let word = ["true", "false", "null"].iter().any(|w| sql.eq_ignore_ascii_case(w));
    number || word || quoted(sql) || sql.strip_prefix(['x', 'X']).is_some_and(quoted)
}

/// Whether two rows of the same table are the same. `None` if their cells are the same but refer to
/// overflow pages, which may differ.
///
/// # Errors
/// [`BtreeError`], if one of them is damaged, or its pages could not be had.
pub fn same_row(
    old: (&State<'_>, &Table, &Row, &Defaults),
    new: (&State<'_>, &Table, &Row, &Defaults),
) -> Result<Option<bool>, BtreeError> {
    let (a, b) = (old.2, new.2);
    if a.same_cell(b) {
        return Ok((a.cell.overflow == 0).then_some(true));
    }
    let (before, after) = (a.payload(old.0)?, b.payload(new.0)?);
    if before == after {
        return Ok(Some(true));
    }
    if !old.1.same_columns(new.1) {
        return Ok(Some(false));
    }
    let before = Values::read(old.1, a, &before, old.3)?;
    let after = Values::read(new.1, b, &after, new.3)?;
    Ok(Some(before.same(&after)))
}
