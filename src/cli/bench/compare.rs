//! Compares the restored database with the original.

use std::path::Path;

use anyhow::Context as _;

use super::watch::Bytes;
use crate::base::checksum::page_hash;
use crate::base::{DatabaseChecksum, PageSize, Pgno};
use crate::io::File;

/// Number of pages that differ, including pages that only one file has.
///
/// Checkpoints the WAL of `database` first; no other connection may use it any more. `sum` is the
/// checksum of the restored database: if that of the database equals it, no page has to be
/// compared.
pub(super) fn differing_pages(
    database: &Path,
    restored: &Path,
    size: PageSize,
    sum: Option<DatabaseChecksum>,
    read: &Bytes,
) -> anyhow::Result<usize> {
    let connection = rusqlite::Connection::open(database).context("the database cannot be opened again")?;
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0))?;
    anyhow::ensure!(busy == 0, "the WAL of the database cannot be written back: another process uses it");
    connection.close().map_err(|(_, e)| e)?;
    if sum.is_some() && sum == Some(checksum(database, size, read).context("the database cannot be read")?) {
        return Ok(0);
    }
    compare(database, restored, size, read).context("the databases cannot be compared")
}

fn checksum(path: &Path, size: PageSize, read: &Bytes) -> std::io::Result<DatabaseChecksum> {
    let file = File::open(path)?;
    read.plan(file.len()?);
    let pages = u32::try_from(file.len()? / u64::from(size.get())).unwrap_or(u32::MAX);
    let (mut sum, mut page) = (DatabaseChecksum::default(), vec![0; size.bytes()]);
    for pgno in (1..=pages).filter_map(Pgno::new).filter(|p| *p != size.lock_page()) {
        file.pread_exact(&mut page, pgno.offset(size))?;
        read.add(page.len());
        sum.toggle(page_hash(pgno, &page));
    }
    Ok(sum)
}

fn compare(left: &Path, right: &Path, size: PageSize, read: &Bytes) -> std::io::Result<usize> {
    let (left, right) = (File::open(left)?, File::open(right)?);
    let bytes = size.bytes();
    let pages = |file: &File| file.len().map(|len| len.div_ceil(bytes as u64));
    let (left_pages, right_pages) = (pages(&left)?, pages(&right)?);
    let (mut a, mut b) = (vec![0; bytes], vec![0; bytes]);
    read.plan(left.len()?.min(right.len()?));
    let mut differing = usize::try_from(left_pages.abs_diff(right_pages)).unwrap_or(usize::MAX);
    for page in 0..left_pages.min(right_pages) {
        left.pread_exact(&mut a, page * bytes as u64)?;
        right.pread_exact(&mut b, page * bytes as u64)?;
        differing += usize::from(a != b);
        read.add(bytes);
    }
    Ok(differing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_that_differs_counts() {
        let size = PageSize::new(512).expect("a page size");
        let dir = std::env::temp_dir().join(format!("lsfast-bench-compare-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a folder");
        let (left, right) = (dir.join("left"), dir.join("right"));
        let mut bytes = vec![7; 512 * 4];
        std::fs::write(&left, &bytes).expect("a file");
        std::fs::write(&right, &bytes).expect("a file");
        assert_eq!(compare(&left, &right, size, &Bytes::default()).expect("files"), 0);
        assert_eq!(
            checksum(&left, size, &Bytes::default()).expect("a file"),
            DatabaseChecksum::of(size, &bytes)
        );
        bytes[512] = 8;
        bytes[512 * 4 - 1] = 8;
        bytes.extend([7; 512]);
        std::fs::write(&right, &bytes).expect("a file");
        assert_eq!(compare(&left, &right, size, &Bytes::default()).expect("files"), 3);
        std::fs::remove_dir_all(&dir).expect("a folder");
    }
}
