//! Sizes of the files of a database.

use std::path::Path;

use crate::sqlite::database::sibling;

/// Sizes of the database file and the WAL, in bytes, without opening the files (see the rules of
/// `io`).
pub(super) fn sizes(path: &Path) -> (Option<u64>, Option<u64>) {
    let len = |path: &Path| std::fs::metadata(path).ok().map(|m| m.len());
    (len(path), len(&sibling(path, "-wal")))
}
