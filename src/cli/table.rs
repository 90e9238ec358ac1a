//! Tables on the terminal: a heading, and columns as wide as what is in them.

use std::fmt;

/// Rows of text.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    to_the_right: [bool; N],
}

impl<const N: usize> Table<N> {
    pub(super) fn new(heading: [&str; N]) -> Table<N> {
        Table { rows: vec![heading.map(str::to_owned)], to_the_right: [false; N] }
    }

    pub(super) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let space = " ".repeat(widths[i] - cell.chars().count());
                let gap = if i == 0 { "" } else { "  " };
                if self.to_the_right[i] {
                    line += &format!("{gap}{space}{cell}");
                } else {
                    line += &format!("{gap}{cell}{space}");
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
