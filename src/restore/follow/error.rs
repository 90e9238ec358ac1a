//! What can end a follower, or hold it up.

use std::io;
use std::path::PathBuf;

use crate::base::{LtxId, PageSize, Pgno, Txid};
use crate::ltx::LtxError;
use crate::restore::RestoreError;
use crate::store::StoreError;

/// Why a database is not followed (any more). What it holds is one whole state all the same.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// the first restore failed
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// the store failed
    #[error(transparent)]
    Store(#[from] StoreError),
    /// a stored file is no good
    #[error("{id} of {url} cannot be applied: {cause}; `lsfast verify {url}` says what else is damaged")]
    Corrupt {
        /// Which.
        id: LtxId,
        /// Where.
        url: String,
        /// What is wrong with it.
        #[source]
        cause: LtxError,
    },
    /// a file does not lead on from the position
    #[error("{id} does not follow TXID {position}: its header says {min} to {max}")]
    Order {
        /// Which.
        id: LtxId,
        /// Where the database is.
        position: Txid,
        /// By the header.
        min: Txid,
        /// By the header.
        max: Txid,
    },
    /// a replica of something else, without an image
    #[error(
        "{url} has another history than the one that {path} is in at TXID {position}, and no whole image to begin with: \
         `lsfast verify {url}` says what is missing"
    )]
    OtherHistory {
        /// Where.
        url: String,
        /// The database.
        path: PathBuf,
        /// Where it is.
        position: Txid,
    },
    /// files that nothing leads to
    #[error(
        "nothing at {url} leads on from TXID {position}, but there is {next}: `lsfast verify {url}` says what is missing"
    )]
    Hole {
        /// Where.
        url: String,
        /// Where the database is.
        position: Txid,
        /// The first file after it.
        next: LtxId,
    },
    /// new pages that no file has
    #[error(
        "the files up to TXID {txid} make the database grow to {pages} pages, but page {missing} is in none of them"
    )]
    Missing {
        /// The newest of them.
        file: LtxId,
        /// Where they would lead to.
        txid: Txid,
        /// Pages then.
        pages: u32,
        /// The first that is not there.
        missing: Pgno,
    },
    /// pages of another size
    #[error(
        "{path} has pages of {found} bytes and the replica has pages of {expected}: a database cannot change that while \
         it is open; stop its readers and restore it again with --force"
    )]
    PageSize {
        /// The database.
        path: PathBuf,
        /// Its own.
        found: PageSize,
        /// Those of the replica.
        expected: PageSize,
    },
    /// somebody else has written
    #[error(
        "{path} has been changed by somebody else since TXID {txid} was applied, so nothing more can be: if the change is \
         to be kept, copy the database first; then restore it again with --force"
    )]
    Changed {
        /// The database.
        path: PathBuf,
        /// Its position.
        txid: Txid,
    },
    /// the database has gone
    #[error(
        "{path} has been removed or replaced while it was followed, so nobody can see what is applied: start anew"
    )]
    Gone {
        /// The database.
        path: PathBuf,
    },
    /// there is a database that was never followed
    #[error(
        "{path} exists and is not a followed database (it has no position): name another file with -o, or replace it with \
         --force"
    )]
    NotFollowed {
        /// The database.
        path: PathBuf,
    },
    /// a replica without TXIDs
    #[error("{url} was written by Litestream 0.3 and cannot be followed; {path} has its newest state")]
    Legacy {
        /// Where.
        url: String,
        /// What was restored.
        path: PathBuf,
    },
    /// somebody else follows it
    #[error("{path} is followed already, by {by}: stop that first, or name another file with -o")]
    Followed {
        /// The database.
        path: PathBuf,
        /// By whom.
        by: String,
    },
    /// the follower does not give way
    #[error(
        "{by} follows {path} and has not stopped for {seconds} s although it was asked to: stop it, then try again"
    )]
    DoesNotStop {
        /// The database.
        path: PathBuf,
        /// By whom.
        by: String,
        /// How long was waited.
        seconds: u64,
    },
    /// SQLite refuses
    #[error("SQLite cannot {what} {path}: {cause}")]
    Sqlite {
        /// What was tried.
        what: &'static str,
        /// The database.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: rusqlite::Error,
    },
    /// the integrity check fails
    #[error(
        "{path} fails SQLite's integrity check ({finding}) and stays as it is: restore it again with --force"
    )]
    Integrity {
        /// The database.
        path: PathBuf,
        /// The first finding.
        finding: String,
    },
    /// SQLite was built without what is needed
    #[error(
        "this lsfast cannot follow: its SQLite was built without sqlite_dbpage; build it with \
         LIBSQLITE3_FLAGS=-DSQLITE_ENABLE_DBPAGE_VTAB, as the .cargo/config.toml of the sources does"
    )]
    NoDbpage,
    /// a file beside the database
    #[error("cannot {what} {path}: {cause}")]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// the work was cut off
    #[error("interrupted")]
    Interrupted,
}

impl FollowError {
    /// Whether it is of no use to try again.
    pub(super) fn is_final(&self) -> bool {
        !matches!(
            self,
            FollowError::Restore(_)
                | FollowError::Store(_)
                | FollowError::Corrupt { .. }
                | FollowError::Order { .. }
                | FollowError::OtherHistory { .. }
                | FollowError::Hole { .. }
                | FollowError::Missing { .. }
                | FollowError::Sqlite { .. }
                | FollowError::File { .. }
                | FollowError::Interrupted
        )
    }
}
