//! Errors of a restore. Each message is one line that says what to do.

use std::io;
use std::path::{Path, PathBuf};

use super::object::Object;
use super::plan::PlanError;
use crate::base::clock::Millis;
use crate::base::{DatabaseChecksum, LtxId, PageSize, Pgno, Txid};
use crate::legacy::{ApplyError, LegacyError, LegacyName};
use crate::ltx::LtxError;
use crate::store::StoreError;

/// Why a restore failed. The output is unchanged unless the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store returned an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The replica is empty.
    #[error(
        "no replica at {url}: it holds no LTX files and no generations of Litestream 0.3; check the URL, or wait for \
         the first upload"
    )]
    Empty {
        /// URL of the replica.
        url: String,
    },
    /// No plan leads to the wanted state.
    #[error("cannot restore from {url}: {cause}")]
    Plan {
        /// URL of the replica.
        url: String,
        /// The underlying error.
        #[source]
        cause: PlanError,
    },
    /// The wanted time is before the first state.
    #[error("no state of {wanted} is there: the earliest that {url} can restore is of {earliest}")]
    TooEarly {
        /// URL of the replica.
        url: String,
        /// The wanted time.
        wanted: Millis,
        /// Time of the earliest state.
        earliest: Millis,
    },
    /// A TXID was given, but the replica holds only Litestream 0.3, which has none.
    #[error(
        "{url} holds generations of Litestream 0.3 only, which have no TXIDs: use --timestamp, or --generation and \
         --index"
    )]
    NoTxids {
        /// URL of the replica.
        url: String,
    },
    /// The wanted state of a Litestream 0.3 replica cannot be restored.
    #[error("cannot restore from {url}: {cause}")]
    Legacy {
        /// URL of the replica.
        url: String,
        /// The underlying error.
        #[source]
        cause: LegacyError,
    },
    /// A file of Litestream 0.3 is damaged, or files before it are missing.
    #[error("{object} of {url} cannot be used ({cause}): restore an earlier state, or another generation")]
    LegacyFile {
        /// The file.
        object: LegacyName,
        /// URL of the replica.
        url: String,
        /// The damage that was found.
        #[source]
        cause: ApplyError,
    },
    /// A file of the plan has been removed since the listing.
    #[error(
        "{object} of {url} was removed while the replica was being read, as happens when old files are merged: run it again"
    )]
    Vanished {
        /// The file.
        object: Object,
        /// URL of the replica.
        url: String,
    },
    /// The content of an LTX file is damaged.
    #[error(
        "{object} of {url} is damaged ({cause}): restore an earlier state, or repair the replica with a new image"
    )]
    Corrupt {
        /// The file.
        object: LtxId,
        /// URL of the replica.
        url: String,
        /// The damage that was found.
        #[source]
        cause: LtxError,
    },
    /// The store reports that the content of one LTX file is wrong.
    #[error("{cause}")]
    Unreadable {
        /// The file.
        object: LtxId,
        /// URL of the replica.
        url: String,
        /// The underlying error.
        #[source]
        cause: StoreError,
    },
    /// A file is shorter than the listing said.
    #[error(
        "{object} of {url} ends after {found} bytes, but the listing said {expected}: run the restore again"
    )]
    Short {
        /// The file.
        object: Object,
        /// URL of the replica.
        url: String,
        /// Size in the listing, in bytes.
        expected: u64,
        /// Offset at which the file ends, in bytes.
        found: u64,
    },
    /// The header of a file has other TXIDs than its name.
    #[error("{object} of {url} holds TXIDs {found}: it was renamed or misplaced; restore an earlier state")]
    Misnamed {
        /// The file.
        object: LtxId,
        /// URL of the replica.
        url: String,
        /// TXIDs in the header, as `MIN-MAX`.
        found: String,
    },
    /// The page size of a file differs from that of newer files.
    #[error(
        "{object} of {url} has pages of {found} bytes, newer files have {expected}: two databases were replicated to \
         this place; restore a state before or give each its own place"
    )]
    PageSize {
        /// The file.
        object: LtxId,
        /// URL of the replica.
        url: String,
        /// Page size of this file.
        found: PageSize,
        /// Page size of the newer files.
        expected: PageSize,
    },
    /// No file of the plan has an image of a page.
    #[error(
        "page {missing} of {commit} is in none of the files at {url} that could hold it (nonsequential page numbers): the \
         replica is incomplete; restore an earlier state, or repair it with a new image"
    )]
    MissingPage {
        /// The first such page.
        missing: Pgno,
        /// Number of pages in the database.
        commit: u32,
        /// URL of the replica.
        url: String,
    },
    /// The pages of the state are not those that were committed.
    #[error(
        "the state of TXID {txid} at {url} is not the one that was committed: its files make a database with checksum \
         {found}, and the newest of them says {expected}, so at least one of them is of another database or another time \
         (lsfast verify {url} looks for it); restore an earlier state, or have lsfast repair store a new image of the \
         database"
    )]
    Checksum {
        /// URL of the replica.
        url: String,
        /// The last TXID of the state.
        txid: Txid,
        /// Checksum in the header of the newest file.
        expected: DatabaseChecksum,
        /// Checksum of the pages in the files.
        found: DatabaseChecksum,
    },
    /// Files of two histories of the database lead to the wanted state, or to states around it.
    #[error(
        "{url} holds two histories: after TXID {txid} the database has checksum {} by {}, and {} by {}, and both can be made \
         of its files; {}",
        .one.1, .one.0, .other.1, .other.0, choose_history(.agree.as_ref())
    )]
    TwoHistories {
        /// URL of the replica.
        url: String,
        /// The TXID at which the files end.
        txid: Txid,
        /// A file and its checksum.
        one: (LtxId, DatabaseChecksum),
        /// A file of the other history, and its checksum.
        other: (LtxId, DatabaseChecksum),
        /// The last TXID before `txid` at which the files of all levels agree.
        agree: Option<Txid>,
    },
    /// A file exists at the path of the output, and `force` is not set.
    #[error("{path} exists: remove it or choose another output, or use --force to replace the database")]
    Exists {
        /// The existing file: the output, or a WAL, wal-index or journal next to it.
        path: PathBuf,
    },
    /// The path is that of a directory or another file type that cannot be a database.
    #[error("{path} is not a file: name the database file itself, such as {path}/app.db")]
    NotAFile {
        /// The path that was refused.
        path: PathBuf,
    },
    /// The symbolic links of the output lead in a circle.
    #[error(
        "{path} cannot be the output: its symbolic links lead in a circle; remove them or name another file"
    )]
    LinkCircle {
        /// The path of the output.
        path: PathBuf,
    },
    /// The output is a symbolic link of another user that leads where that user may not write.
    #[error(
        "{path} is a symbolic link of {owner} to {target}, where {owner} may not write, and is not followed: if it is right, \
         name {target} itself"
    )]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// The target of the link.
        target: PathBuf,
        /// The user who owns the link.
        owner: String,
    },
    /// Another program replaced the temporary file during the restore.
    #[error(
        "{path} was replaced by another program while the restore wrote it: nothing was installed; restore to a directory that \
         others cannot write to"
    )]
    Exchanged {
        /// The temporary file.
        path: PathBuf,
    },
    /// The file system has less free space than the database needs.
    #[error(
        "no room for {path}: {need} bytes are needed, and {free} bytes are free there; make room, or restore to another disk"
    )]
    NoRoom {
        /// The path of the output.
        path: PathBuf,
        /// Length of the database in bytes, or the bytes by which it grows.
        need: u64,
        /// Free bytes.
        free: u64,
    },
    /// A process has the database open that is to be replaced.
    #[error("{path} is in use by {by}: stop it first; it is not replaced, not even with --force")]
    InUse {
        /// The path of the database.
        path: PathBuf,
        /// The process, as a phrase.
        by: String,
    },
    /// The database has a WAL or a journal, so its file is not the whole database.
    #[error("{}", unsettled(.path, .beside, *.wal))]
    Unsettled {
        /// The path of the database.
        path: PathBuf,
        /// The WAL or the journal.
        beside: PathBuf,
        /// Whether it is a WAL.
        wal: bool,
    },
    /// The file that is to become a state of the replica is not a database.
    #[error("{cause}: nothing was changed; -o OUT --force replaces {path} whatever it is")]
    NotADatabase {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it, with its name.
        cause: String,
    },
    /// Another program changed or replaced the database while pages were fetched for it.
    #[error(
        "{path} was changed by another program meanwhile: nothing was written; stop that program and try again"
    )]
    Changed {
        /// The path of the database.
        path: PathBuf,
    },
    /// What was read back from the database is not the wanted state.
    #[error(
        "{path} did not become what was written to it: what is read back has checksum {found}, the wanted state {expected}; \
         it was rolled back and is as before; check the disk"
    )]
    Unproven {
        /// The path of the database.
        path: PathBuf,
        /// Checksum of the wanted state.
        expected: DatabaseChecksum,
        /// Checksum of the file.
        found: DatabaseChecksum,
    },
    /// The database has pages of two states and a journal.
    #[error(
        "cannot {what} {path} ({cause}): do not remove {path}-journal; SQLite brings {path} back to what it was when it is \
         opened next"
    )]
    HalfDone {
        /// The operation, as a verb.
        what: &'static str,
        /// The path of the database.
        path: PathBuf,
        /// The error.
        cause: String,
    },
    /// SQLite cannot checkpoint and close the old database.
    #[error("cannot close the WAL of the old {path} before it is replaced: {cause}; it is as it was")]
    Settle {
        /// The path of the old database.
        path: PathBuf,
        /// The underlying error.
        #[source]
        cause: rusqlite::Error,
    },
    /// An operation on a file failed.
    #[error("cannot {what} {path}: {cause}")]
    Output {
        /// The operation, as a verb.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The underlying error.
        #[source]
        cause: io::Error,
    },
    /// The disk, the quota or the file size limit is used up.
    #[error(
        "cannot write {path}: the disk, the quota or the file size limit is used up ({cause}); {need} bytes are needed"
    )]
    Full {
        /// The file that could not be written.
        path: PathBuf,
        /// Length of the whole database in bytes.
        need: u64,
        /// The error of the write.
        #[source]
        cause: io::Error,
    },
    /// SQLite's integrity check fails on the restored database.
    #[error(
        "the restored database fails SQLite's integrity check ({finding}) and is discarded; the replica holds what was \
         replicated, so the source is likely damaged too: restore an earlier state, or use --integrity-check none"
    )]
    Integrity {
        /// The first finding of the check.
        finding: String,
    },
    /// The replica cannot be compared with its database.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The restore was cut off before its end.
    #[error("the restore was interrupted; nothing has been changed")]
    Interrupted,
}

/// Why a database with a WAL or a journal is not changed, and what to do.
fn unsettled(path: &Path, beside: &Path, wal: bool) -> String {
    let (path, beside) = (path.display(), beside.display());
    let (what, statement, how) = if wal {
        let what = "may hold transactions that are not in the database file yet";
        (what, "PRAGMA wal_checkpoint(TRUNCATE)", "copies them")
    } else {
        let what = "is the journal of a transaction that was cut off";
        (what, "SELECT count(*) FROM sqlite_schema", "rolls it back")
    };
    format!(
        "{beside} {what}, so {path} is not changed: run sqlite3 {path} '{statement}', which {how}, and try again"
    )
}

/// Advice for a replica that holds two histories.
fn choose_history(agree: Option<&Txid>) -> String {
    let until = match agree {
        Some(txid) => format!("--txid {txid} or --salvage restores the last state in which they agree"),
        None => "there is no state in which they agree".to_owned(),
    };
    format!(
        "{until}; for a later one, move the files of the other history out of the replica, or have `lsfast repair` store an \
         image of the database"
    )
}

impl RestoreError {
    /// Whether the wanted state is lost: files that it needs are damaged or missing, and no other
    /// files cover them.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, RestoreError::Plan { cause, .. } if cause.is_loss())
            || matches!(
                self,
                RestoreError::Corrupt { .. }
                    | RestoreError::Misnamed { .. }
                    | RestoreError::PageSize { .. }
                    | RestoreError::MissingPage { .. }
                    | RestoreError::Checksum { .. }
                    | RestoreError::Unreadable { .. }
                    | RestoreError::TwoHistories { .. }
            )
    }

    /// Sorts an I/O error of the output: lack of space has its own variant. `need`: length of the
    /// whole database in bytes, or 0.
    pub(crate) fn output(what: &'static str, path: &Path, need: u64, cause: io::Error) -> RestoreError {
        let path = path.to_owned();
        if crate::io::durable::is_full(&cause) {
            RestoreError::Full { path, need, cause }
        } else {
            RestoreError::Output { what, path, cause }
        }
    }
}

/// Why no comparison was possible.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The database or its WAL cannot be read.
    #[error("cannot read {path} to compare it: {cause}")]
    Read {
        /// Path of the database or its WAL.
        path: PathBuf,
        /// The error of the read.
        #[source]
        cause: io::Error,
    },
    /// The page size of the WAL differs from that of the replica.
    #[error(
        "{path} is not the database of this replica: its pages have {found} bytes, those of the replica {expected}"
    )]
    PageSize {
        /// Path of the database.
        path: PathBuf,
        /// Page size in the WAL.
        found: PageSize,
        /// Page size of the replica.
        expected: PageSize,
    },
    /// Pages differ, but the WAL no longer contains the replica's position.
    #[error(
        "{path} cannot be compared: its WAL has started over since the newest state of the replica was stored; try again \
         when the replica has caught up"
    )]
    Moved {
        /// Path of the database.
        path: PathBuf,
    },
    /// The WAL started over during every attempt.
    #[error("{path} cannot be compared: its WAL started over {0} times meanwhile; try again when less is written", path = .1.display())]
    Busy(u32, PathBuf),
}
