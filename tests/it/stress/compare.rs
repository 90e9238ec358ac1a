//! Whether two databases are the same: by content as `.dump` sees it, and page by page.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};

/// Schema and rows: a line for each object, and for each table the number and the hash of its rows
/// in order.
pub fn dump(db: &Connection) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut schema = db.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2")?;
    let objects: Vec<(String, String, Option<String>)> =
        schema.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect::<Result<_, _>>()?;
    for (kind, name, sql) in objects {
        lines.push(format!("{kind} {name}: {}", sql.unwrap_or_default()));
        if kind == "table" {
            let (rows, hash) = rows(db, &name).with_context(|| format!("table {name}"))?;
            lines.push(format!("{name}: {rows} rows, {hash}"));
        }
    }
    Ok(lines)
}

fn rows(db: &Connection, table: &str) -> anyhow::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut count = 0;
    let mut select = db.prepare(&format!("SELECT rowid, * FROM \"{table}\" ORDER BY rowid"))?;
    let columns = select.column_count();
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        count += 1;
        for column in 0..columns {
            let (kind, bytes) = match row.get_ref(column)? {
                ValueRef::Null => (0u8, Vec::new()),
                ValueRef::Integer(i) => (1, i.to_le_bytes().to_vec()),
                ValueRef::Real(f) => (2, f.to_bits().to_le_bytes().to_vec()),
                ValueRef::Text(t) => (3, t.to_vec()),
                ValueRef::Blob(b) => (4, b.to_vec()),
            };
            hash.update([kind]);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
    }
    Ok((count, hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()))
}

/// Pages on the freelist that SQLite need not write: their content means nothing.
fn free_leaves(db: &[u8], page_size: usize) -> BTreeSet<usize> {
    let field = |at: usize| u32::from_be_bytes(db[at..at + 4].try_into().expect("4 bytes")) as usize;
    let mut leaves = BTreeSet::new();
    let mut trunk = field(32);
    while trunk != 0 {
        let at = (trunk - 1) * page_size;
        leaves.extend((0..field(at + 4)).map(|i| field(at + 8 + 4 * i)));
        trunk = field(at);
    }
    leaves
}

/// Page by page. Both databases must be checkpointed and closed.
pub fn pages(source: &Path, restored: &Path, page_size: usize) -> anyhow::Result<()> {
    let (a, b) = (fs::read(source)?, fs::read(restored)?);
    ensure!(a.len() == b.len(), "the source has {} bytes, the restored database {}", a.len(), b.len());
    let free = free_leaves(&a, page_size);
    let differing: Vec<usize> = (1..=a.len() / page_size)
        .filter(|no| !free.contains(no))
        .filter(|no| {
            let range = (no - 1) * page_size..no * page_size;
            a[range.clone()] != b[range]
        })
        .collect();
    ensure!(differing.is_empty(), "pages that differ: {differing:?}");
    Ok(())
}
