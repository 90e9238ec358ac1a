//! Errors of reading pages on demand.

use std::io;
use std::path::PathBuf;

use crate::base::Txid;
use crate::restore::RestoreError;

/// Why a page or a state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The store or a file failed, or the state cannot be reached.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The state is one of Litestream 0.3.
    #[error(
        "the state at {url} was stored by Litestream 0.3, whose files have no page index: restore it with lsfast restore \
         and read the restored database"
    )]
    Legacy {
        /// URL of the replica.
        url: String,
    },
    /// A page beyond the end of the database was asked for.
    #[error("page {number} is beyond the end of the database, which has {count} pages at TXID {txid}")]
    NoPage {
        /// The page number.
        number: u32,
        /// Pages of the database.
        count: u32,
        /// TXID of the state.
        txid: Txid,
    },
    /// A file has no image of the page.
    #[error("page {number} did not change in the files of TXIDs {txids}")]
    NotChanged {
        /// The page number.
        number: u32,
        /// The TXIDs of the file, as `MIN-MAX`.
        txids: String,
    },
    /// The files between two states leave a gap.
    #[error(
        "{url} no longer has the files that lead from TXID {from} to TXID {to}: they end at {reached}; choose states that \
         lsfast points lists"
    )]
    NoHistory {
        /// URL of the replica.
        url: String,
        /// The earlier state.
        from: Txid,
        /// The later state.
        to: Txid,
        /// The last TXID before the gap.
        reached: Txid,
    },
    /// A parameter of a URI is missing or wrong, or the replica cannot be opened as it says.
    #[error("{0}")]
    Parameter(String),
    /// SQLite refuses the file system.
    #[error("SQLite refuses to register the file system of replicas (code {0})")]
    Register(i32),
    /// The folder for what was read cannot be used.
    #[error("the cache folder {dir} cannot be created: {cause}", dir = dir.display())]
    Folder {
        /// Path of the folder.
        dir: PathBuf,
        /// The underlying error.
        #[source]
        cause: io::Error,
    },
    /// The threads that do the requests cannot be started.
    #[error("the threads for requests cannot be started: {0}")]
    Driver(#[source] io::Error),
}
