//! Aligned columns for people.

use crate::base::untrusted;

/// Lines with aligned columns below the names in `head`; the columns in `right` are right-aligned.
pub(super) fn table(head: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    // The values may come from a stranger.
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| untrusted::escape(cell).into_owned()).collect())
        .collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|i| rows.iter().map(|r| r[i].chars().count()).chain([head[i].len()]).max().unwrap_or(0))
        .collect();
    let line = |cells: Vec<&str>| {
        let mut line = String::new();
        for (i, cell) in cells.into_iter().enumerate() {
            let width = widths[i];
            line +=
                &if right.contains(&i) { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
        }
        line.truncate(line.trim_end().len());
        line
    };
    let rows = rows.iter().map(|r| line(r.iter().map(String::as_str).collect()));
    std::iter::once(line(head.to_vec())).chain(rows).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_aligned() {
        let rows =
            [vec!["a".into(), "10".into(), "x".into()], vec!["long".into(), "5".into(), String::new()]];
        let text = crate::cli::table::table(&["name", "size", "more"], &[1], &rows);
        assert_eq!(text, "name  size  more\na       10  x\nlong     5");
        let hostile = crate::cli::table::table(&["name"], &[], &[vec!["\x1b[2J\nx".into()]]);
        assert_eq!(hostile, "name\n\\u{1b}[2J\\nx");
    }
}
