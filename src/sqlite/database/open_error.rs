//! Why a database cannot be opened.

use std::io;
use std::path::PathBuf;

use crate::sqlite::header::HeaderError;

/// Why a database can't be replicated.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file does not exist, perhaps only not yet.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// The header is not that of a supported database.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The path leads to a directory or a special file.
    #[error("{0} is a {1}, not a database file: name the database itself")]
    NotAFile(PathBuf, &'static str),
    /// The operating system refuses access to one of the files or to their directory.
    #[error(
        "no permission to open {path}: lsfast must be able to read and write the database and create files in its directory \
         (run it as the user of the application): {source}"
    )]
    Permission {
        /// The file that could not be opened.
        path: PathBuf,
        /// The error of the operating system or of SQLite.
        source: io::Error,
    },
    /// Another connection keeps a lock that excludes all others.
    #[error(
        "{0} stays locked by another process: lsfast can't follow a database that is used with locking_mode=EXCLUSIVE or held in one \
         long exclusive transaction; set locking_mode=NORMAL in the application"
    )]
    Locked(PathBuf),
    /// SQLite does not switch the database to WAL mode.
    #[error("{path} can't be switched to WAL mode: SQLite keeps journal_mode={mode}")]
    NotWal {
        /// The database file.
        path: PathBuf,
        /// The journal mode that the database stays in.
        mode: String,
    },
    /// Any other I/O error.
    #[error("cannot open {path}: {source}")]
    Io {
        /// The file that could not be opened.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Any other error of SQLite.
    #[error("cannot open {path}: {source}")]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
}

impl OpenError {
    /// Whether the application has still to create the database, so that waiting may help.
    #[must_use]
    pub fn is_too_early(&self) -> bool {
        matches!(self, OpenError::Missing(_) | OpenError::Header(HeaderError::Empty { .. }))
    }
}
