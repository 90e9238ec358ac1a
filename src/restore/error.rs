//! What can go wrong with a restore, each as one line that says what to do.

use std::io;
use std::path::PathBuf;

use super::fetch::Object;
use super::plan::PlanError;
use crate::base::clock::Millis;
use crate::base::{LtxId, PageSize, Pgno};
use crate::legacy::{ApplyError, LegacyError, LegacyName};
use crate::ltx::LtxError;
use crate::store::StoreError;

/// Why there is no restored database. The output is as it was, unless a message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// the store failed
    #[error(transparent)]
    Store(#[from] StoreError),
    /// nothing was replicated there
    #[error(
        "no replica at {url}: it holds no LTX files and no generations of Litestream 0.3; check the URL, or wait for \
         the first upload"
    )]
    Empty {
        /// Where.
        url: String,
    },
    /// that state cannot be had
    #[error("cannot restore from {url}: {cause}")]
    Plan {
        /// Where.
        url: String,
        /// Why.
        #[source]
        cause: PlanError,
    },
    /// a time before the first state
    #[error("no state of {wanted} is there: the earliest that {url} can restore is of {earliest}")]
    TooEarly {
        /// Where.
        url: String,
        /// The wanted time.
        wanted: Millis,
        /// Time of the earliest state.
        earliest: Millis,
    },
    /// a TXID of a replica that has none
    #[error(
        "{url} holds generations of Litestream 0.3 only, which have no TXIDs: use --timestamp, or --generation and \
         --index"
    )]
    NoTxids {
        /// Where.
        url: String,
    },
    /// that state of a replica of Litestream 0.3 cannot be had
    #[error("cannot restore from {url}: {cause}")]
    Legacy {
        /// Where.
        url: String,
        /// Why.
        #[source]
        cause: LegacyError,
    },
    /// a file of Litestream 0.3 is damaged, or those before it are missing
    #[error("{object} of {url} cannot be used ({cause}): restore an earlier state, or another generation")]
    LegacyFile {
        /// Which.
        object: LegacyName,
        /// Where.
        url: String,
        /// In what way.
        #[source]
        cause: ApplyError,
    },
    /// a planned object has gone
    #[error(
        "{object} of {url} was removed while this restore ran, as happens when old files are merged: run it again"
    )]
    Vanished {
        /// Which.
        object: Object,
        /// Where.
        url: String,
    },
    /// an object is damaged
    #[error(
        "{object} of {url} is damaged ({cause}): restore an earlier state, or repair the replica with a new image"
    )]
    Corrupt {
        /// Which.
        object: LtxId,
        /// Where.
        url: String,
        /// In what way.
        #[source]
        cause: LtxError,
    },
    /// one object cannot be read
    #[error("{cause}")]
    Unreadable {
        /// Which.
        object: LtxId,
        /// Where.
        url: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// an object is shorter than the listing said
    #[error(
        "{object} of {url} ends after {found} bytes, but the listing said {expected}: run the restore again"
    )]
    Short {
        /// Which.
        object: Object,
        /// Where.
        url: String,
        /// Size by the listing.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// an object is not what its name says
    #[error("{object} of {url} holds TXIDs {found}: it was renamed or misplaced; restore an earlier state")]
    Misnamed {
        /// Which.
        object: LtxId,
        /// Where.
        url: String,
        /// TXIDs of the header.
        found: String,
    },
    /// page sizes differ
    #[error(
        "{object} of {url} has pages of {found} bytes, newer files have {expected}: two databases were replicated to \
         this place; restore a state before or give each its own place"
    )]
    PageSize {
        /// Which.
        object: LtxId,
        /// Where.
        url: String,
        /// Of this file.
        found: PageSize,
        /// Of the newer ones.
        expected: PageSize,
    },
    /// no file has a page
    #[error(
        "page {missing} of {commit} is in none of the files at {url} that could hold it (nonsequential page numbers): the \
         replica is incomplete; restore an earlier state, or repair it with a new image"
    )]
    MissingPage {
        /// The first such page.
        missing: Pgno,
        /// Pages of the database.
        commit: u32,
        /// Where.
        url: String,
    },
    /// something is where the database shall be
    #[error("{path} exists: remove it or choose another output, or use --force to replace the database")]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// a directory, or something else that no database can be
    #[error("{path} is not a file: name the database file itself, such as {path}/app.db")]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// links that lead nowhere
    #[error(
        "{path} cannot be the output: its symbolic links lead in a circle; remove them or name another file"
    )]
    LinkCircle {
        /// The output.
        path: PathBuf,
    },
    /// a link that another user has made
    #[error(
        "{path} is a symbolic link of {owner} to {target}, where {owner} may not write, and is not followed: if it is right, \
         name {target} itself"
    )]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// The user who made it.
        owner: String,
    },
    /// somebody has put another file where this one was written
    #[error(
        "{path} was replaced by another program while the restore wrote it: nothing was installed; restore to a directory that \
         others cannot write to"
    )]
    Exchanged {
        /// The temporary file.
        path: PathBuf,
    },
    /// not enough room
    #[error(
        "no room for {path}: {need} bytes are needed, and {free} bytes are free there; make room, or restore to another disk"
    )]
    NoRoom {
        /// The output.
        path: PathBuf,
        /// Bytes of the database, or those that it grows by.
        need: u64,
        /// Bytes that may be written.
        free: u64,
    },
    /// the database to be replaced is open
    #[error("{path} is in use by {by}: stop it first; it is not replaced, not even with --force")]
    InUse {
        /// The database.
        path: PathBuf,
        /// Who.
        by: String,
    },
    /// the database to be replaced cannot be brought to rest
    #[error("cannot close the log of the old {path} before it is replaced: {cause}; it is as it was")]
    Settle {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        cause: rusqlite::Error,
    },
    /// a file could not be written
    #[error("cannot {what} {path}: {cause}")]
    Output {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// no room
    #[error(
        "cannot write {path}: the disk, the quota or the file size limit is used up ({cause}); {need} bytes are needed"
    )]
    Full {
        /// Which file.
        path: PathBuf,
        /// Bytes of the whole database.
        need: u64,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// SQLite finds the restored database damaged
    #[error(
        "the restored database fails SQLite's integrity check ({finding}) and is discarded; the replica holds what was \
         replicated, so the source is likely damaged too: restore an earlier state, or use --integrity-check none"
    )]
    Integrity {
        /// The first finding.
        finding: String,
    },
    /// the replica cannot be compared with its database
    #[error(transparent)]
    Compare(#[from] super::CompareError),
    /// the work was cut off
    #[error("the restore was interrupted; nothing has been changed")]
    Interrupted,
}

impl RestoreError {
    /// Whether the wanted state is lost: files that it needs are damaged or missing, and nothing
    /// covers them.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            RestoreError::Plan {
                cause: PlanError::Damaged { .. } | PlanError::Gap { .. } | PlanError::NoImage { .. },
                ..
            } | RestoreError::Corrupt { .. }
                | RestoreError::Misnamed { .. }
                | RestoreError::MissingPage { .. }
                | RestoreError::Unreadable { .. }
        )
    }

    /// An error while writing the output, sorted.
    pub(super) fn output(
        what: &'static str,
        path: &std::path::Path,
        need: u64,
        cause: io::Error,
    ) -> RestoreError {
        let path = path.to_owned();
        if crate::io::durable::is_full(&cause) {
            RestoreError::Full { path, need, cause }
        } else {
            RestoreError::Output { what, path, cause }
        }
    }
}
