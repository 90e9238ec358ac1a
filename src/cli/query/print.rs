//! Rows as a table, as JSON and as comma-separated values.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use rusqlite::types::ValueRef;
use rusqlite::{Row, Rows};

use crate::base::{limits, untrusted};
use crate::cli::report::{self, OutputError};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Table,
    Json,
    Csv,
}

/// Why rows were not printed.
pub(super) enum PrintError {
    Sql(rusqlite::Error),
    Output(OutputError),
}

impl From<rusqlite::Error> for PrintError {
    fn from(e: rusqlite::Error) -> PrintError {
        PrintError::Sql(e)
    }
}

impl From<OutputError> for PrintError {
    fn from(e: OutputError) -> PrintError {
        PrintError::Output(e)
    }
}

/// Prints all rows of one statement.
pub(super) fn rows(names: &[String], mut rows: Rows<'_>, format: Format) -> Result<(), PrintError> {
    let mut table = Table::new(names);
    let mut out = String::new();
    let mut count = 0usize;
    if format == Format::Csv {
        record(&mut out, names.iter().map(String::as_str));
    }
    while let Some(row) = rows.next()? {
        count += 1;
        match format {
            Format::Table => table.add(cells(row, names.len())?),
            Format::Json => json(&mut out, names, row)?,
            Format::Csv => record(&mut out, cells(row, names.len())?.iter().map(|cell| cell.text.as_str())),
        }
        if count.is_multiple_of(limits::QUERY_ROWS) {
            table.flush(&mut out);
            write(&mut out, format)?;
        }
    }
    if count > 0 || format == Format::Csv {
        table.flush(&mut out);
    }
    Ok(write(&mut out, format)?)
}

/// Values for other programs are written as they are, unless they go to a terminal.
fn write(out: &mut String, format: Format) -> Result<(), OutputError> {
    let text = std::mem::take(out);
    match format {
        Format::Csv if !std::io::stdout().is_terminal() => report::print_bytes(text.as_bytes()),
        _ => report::print_text(&text),
    }
}

struct Cell {
    text: String,
    is_number: bool,
}

fn cells(row: &Row<'_>, columns: usize) -> rusqlite::Result<Vec<Cell>> {
    let of = |at| {
        Ok(match row.get_ref(at)? {
            ValueRef::Null => Cell { text: String::new(), is_number: true },
            ValueRef::Integer(n) => Cell { text: n.to_string(), is_number: true },
            ValueRef::Real(n) => Cell { text: real(n), is_number: true },
            ValueRef::Text(text) => {
                Cell { text: String::from_utf8_lossy(text).into_owned(), is_number: false }
            }
            ValueRef::Blob(bytes) => Cell { text: format!("X'{}'", hex(bytes)), is_number: false },
        })
    };
    (0..columns).map(of).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, b| {
        // Writing to a `String` can't fail.
        _ = write!(text, "{b:02x}");
        text
    })
}

/// A number as SQL reads it again.
fn real(n: f64) -> String {
    match n {
        n if n.is_infinite() => if n > 0.0 { "9e999" } else { "-9e999" }.to_owned(),
        n => format!("{n:?}"),
    }
}

fn json(out: &mut String, names: &[String], row: &Row<'_>) -> rusqlite::Result<()> {
    for (at, name) in names.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        out.push_str(&quoted(name));
        out.push(':');
        match row.get_ref(at)? {
            ValueRef::Null => out.push_str("null"),
            ValueRef::Integer(n) => out.push_str(&n.to_string()),
            ValueRef::Real(n) => out.push_str(&real(n)),
            ValueRef::Text(text) => out.push_str(&quoted(&String::from_utf8_lossy(text))),
            ValueRef::Blob(bytes) => out.push_str(&quoted(&hex(bytes))),
        }
    }
    out.push_str("}\n");
    Ok(())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One record of comma-separated values, as RFC 4180 has it but for the line end.
fn record<'a>(out: &mut String, fields: impl Iterator<Item = &'a str>) {
    for (at, field) in fields.enumerate() {
        if at > 0 {
            out.push(',');
        }
        if field.contains(['"', ',', '\n', '\r']) {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    out.push('\n');
}

/// Aligned columns. The rows of one flush decide about their widths.
struct Table {
    names: Vec<String>,
    rows: Vec<Vec<Cell>>,
    widths: Vec<usize>,
    has_head: bool,
}

impl Table {
    fn new(names: &[String]) -> Table {
        let names: Vec<String> = names.iter().map(|name| untrusted::escape(name).into_owned()).collect();
        let widths = names.iter().map(|name| name.chars().count()).collect();
        Table { names, rows: Vec::new(), widths, has_head: false }
    }

    fn add(&mut self, mut row: Vec<Cell>) {
        for (cell, width) in row.iter_mut().zip(&mut self.widths) {
            cell.text = untrusted::escape(&cell.text).into_owned();
            *width = (*width).max(cell.text.chars().count());
        }
        self.rows.push(row);
    }

    fn flush(&mut self, out: &mut String) {
        if self.rows.is_empty() {
            return;
        }
        let right: Vec<bool> =
            (0..self.names.len()).map(|at| self.rows.iter().all(|row| row[at].is_number)).collect();
        let mut line = |cells: &[&str]| {
            let mut text = String::new();
            for (at, cell) in cells.iter().enumerate() {
                let width = self.widths[at];
                _ = if right[at] {
                    write!(text, "{cell:>width$}  ")
                } else {
                    write!(text, "{cell:<width$}  ")
                };
            }
            out.push_str(text.trim_end());
            out.push('\n');
        };
        if !std::mem::replace(&mut self.has_head, true) {
            line(&self.names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        for row in &self.rows {
            line(&row.iter().map(|cell| cell.text.as_str()).collect::<Vec<_>>());
        }
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_comma_separated_values() {
        let mut out = String::new();
        record(&mut out, ["a", "b,c", "d\"e", "", "f\ng"].into_iter());
        assert_eq!(out, "a,\"b,c\",\"d\"\"e\",,\"f\ng\"\n");
    }

    #[test]
    fn a_table_aligns_numbers_to_the_right() {
        let mut table = Table::new(&["id".into(), "name".into()]);
        let number = |text: &str| Cell { text: text.into(), is_number: true };
        let name = |text: &str| Cell { text: text.into(), is_number: false };
        table.add(vec![number("1"), name("a")]);
        table.add(vec![number("1000"), name("b\x1b[2J")]);
        let mut out = String::new();
        table.flush(&mut out);
        assert_eq!(out, "  id  name\n   1  a\n1000  b\\u{1b}[2J\n");
    }

    #[test]
    fn numbers_are_read_again_as_they_were() {
        for n in [0.1, 1e300, -2.5e-8, 3.0, f64::MAX] {
            assert_eq!(real(n).parse(), Ok(n));
        }
        assert_eq!((real(f64::INFINITY), real(f64::NEG_INFINITY)), ("9e999".into(), "-9e999".into()));
    }
}
