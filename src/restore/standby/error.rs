//! Errors that end a standby, or hold it up.

use std::io;
use std::path::PathBuf;

use crate::base::{DatabaseChecksum, LtxId, PageSize, Pgno, Txid};
use crate::ltx::LtxError;
use crate::restore::RestoreError;
use crate::store::StoreError;

/// Why a database is not followed, or no longer. It holds one complete state nevertheless.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The first restore failed.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The store returned an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The content of a stored file is damaged.
    #[error("{id} of {url} cannot be applied: {cause}; `lsfast verify {url}` says what else is damaged")]
    Corrupt {
        /// The file.
        id: LtxId,
        /// URL of the replica.
        url: String,
        /// The damage that was found.
        #[source]
        cause: LtxError,
    },
    /// A file does not lead on from the position of the database.
    #[error("{id} does not follow TXID {position}: its header says {min} to {max}")]
    Order {
        /// The file.
        id: LtxId,
        /// Position of the database.
        position: Txid,
        /// First TXID in the header.
        min: Txid,
        /// Last TXID in the header.
        max: Txid,
    },
    /// The files do not make the state that was committed.
    #[error(
        "{file} of {url} does not make the state that was committed: after it the database would have checksum {found}, and \
         the file says {expected}; it is of another database or another time, or the state of TXID {position} is: `lsfast verify \
         {url}` looks for it"
    )]
    Checksum {
        /// URL of the replica.
        url: String,
        /// The newest of the files that were applied together.
        file: LtxId,
        /// The oldest of them.
        oldest: LtxId,
        /// Position of the database.
        position: Txid,
        /// Checksum in the header of `file`.
        expected: DatabaseChecksum,
        /// Checksum of the pages.
        found: DatabaseChecksum,
    },
    /// The replica has another history than the database, and no image to start from.
    #[error(
        "{url} has another history than the one that {path} is in at TXID {position}, and no whole image to begin with: \
         `lsfast verify {url}` says what is missing"
    )]
    OtherHistory {
        /// URL of the replica.
        url: String,
        /// Path of the database.
        path: PathBuf,
        /// Position of the database.
        position: Txid,
    },
    /// No file leads on from the position, although later files exist.
    #[error(
        "nothing at {url} leads on from TXID {position}, but there is {next}: `lsfast verify {url}` says what is missing"
    )]
    Hole {
        /// URL of the replica.
        url: String,
        /// Position of the database.
        position: Txid,
        /// The first file after the position.
        next: LtxId,
    },
    /// The database would grow by a page that no file has.
    #[error(
        "the files up to TXID {txid} make the database grow to {pages} pages, but page {missing} is in none of them"
    )]
    Missing {
        /// The newest of the files.
        file: LtxId,
        /// The last TXID of the files.
        txid: Txid,
        /// Length of the database after them, in pages.
        pages: u32,
        /// The first page that is in none of them.
        missing: Pgno,
    },
    /// The replica has another page size than the database.
    #[error(
        "{path} has pages of {found} bytes and the replica has pages of {expected}: a database cannot change that while \
         it is open; stop its readers and restore it again with --force"
    )]
    PageSize {
        /// Path of the database.
        path: PathBuf,
        /// Page size of the database.
        found: PageSize,
        /// Page size of the replica.
        expected: PageSize,
    },
    /// Another program has written to the database.
    #[error(
        "{path} has been changed by another program since TXID {txid} was applied, so nothing more can be: if the change is \
         to be kept, copy the database first; then restore it again with --force"
    )]
    Changed {
        /// Path of the database.
        path: PathBuf,
        /// Position of the database.
        txid: Txid,
    },
    /// The database file has been removed or replaced.
    #[error(
        "{path} has been removed or replaced while it was followed, so readers cannot see what is applied: run this command again"
    )]
    Gone {
        /// Path of the database.
        path: PathBuf,
    },
    /// A database exists at the path, but was never followed.
    #[error(
        "{path} is not a standby: it has no position in a replica. `lsfast restore -f` makes a standby with another name, or \
         replaces this file with --force"
    )]
    NotFollowed {
        /// Path of the database.
        path: PathBuf,
    },
    /// The replica was written by Litestream 0.3 and has no TXIDs.
    #[error("{url} was written by Litestream 0.3 and cannot be followed; {path} has its newest state")]
    Legacy {
        /// URL of the replica.
        url: String,
        /// Path of the restored database.
        path: PathBuf,
    },
    /// Another process follows the database.
    #[error("{path} is followed already, by {by}: stop that first, or name another file with -o")]
    Followed {
        /// Path of the database.
        path: PathBuf,
        /// The process, as a phrase.
        by: String,
    },
    /// The process that follows the database did not stop in time.
    #[error(
        "{by} follows {path} and has not stopped for {seconds} s although it was asked to: stop it, then try again"
    )]
    DoesNotStop {
        /// Path of the database.
        path: PathBuf,
        /// The process, as a phrase.
        by: String,
        /// How long this process has waited, in seconds.
        seconds: u64,
    },
    /// SQLite returned an error.
    #[error("SQLite cannot {what} {path}: {cause}")]
    Sqlite {
        /// The operation, as a verb.
        what: &'static str,
        /// Path of the database.
        path: PathBuf,
        /// The error of SQLite.
        #[source]
        cause: rusqlite::Error,
    },
    /// The integrity check before a promotion fails.
    #[error(
        "{path} fails SQLite's integrity check ({finding}) and stays as it is: restore it again with --force"
    )]
    Integrity {
        /// Path of the database.
        path: PathBuf,
        /// The first finding of the check.
        finding: String,
    },
    /// This build of SQLite has no `sqlite_dbpage`.
    #[error(
        "this lsfast cannot follow: its SQLite was built without sqlite_dbpage; build lsfast \
         without LIBSQLITE3_SYS_USE_PKG_CONFIG, with the SQLite of its own sources"
    )]
    NoDbpage,
    /// An operation on a file next to the database failed.
    #[error("cannot {what} {path}: {cause}")]
    File {
        /// The operation, as a verb.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The error of the operation.
        #[source]
        cause: io::Error,
    },
    /// The work was cut off before its end.
    #[error("interrupted")]
    Interrupted,
}

impl FollowError {
    /// Whether a retry is pointless.
    pub(super) fn is_final(&self) -> bool {
        !matches!(
            self,
            FollowError::Restore(_)
                | FollowError::Store(_)
                | FollowError::Corrupt { .. }
                | FollowError::Order { .. }
                | FollowError::Checksum { .. }
                | FollowError::OtherHistory { .. }
                | FollowError::Hole { .. }
                | FollowError::Missing { .. }
                | FollowError::Sqlite { .. }
                | FollowError::File { .. }
                | FollowError::Interrupted
        )
    }
}
