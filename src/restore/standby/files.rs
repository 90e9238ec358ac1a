//! The files that are kept next to the database of a standby.

use std::path::{Path, PathBuf};

use crate::sqlite::database::sibling;

/// Mode of these files.
pub(super) const FOLLOW_MODE: u32 = 0o600;

/// Path of the file in which Litestream keeps the position.
pub(super) fn position_path(database: &Path) -> PathBuf {
    sibling(database, "-txid")
}
