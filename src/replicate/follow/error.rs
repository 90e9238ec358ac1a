//! Why a database is not followed.

use std::io;
use std::path::PathBuf;

use super::super::replica::ReplicaError;
use super::super::state::HomeError;
use crate::sqlite::database::OpenError;
use crate::wal::tail::TailError;

/// Why a database can't be followed (any more).
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The folder beside it.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its log can't be read.
    #[error("{db}: {source}")]
    Tail {
        /// The database.
        db: PathBuf,
        /// The cause.
        source: TailError,
    },
    /// The operating system.
    #[error("{db}: {source}")]
    Io {
        /// The database.
        db: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No replica of it goes on.
    #[error("{db}: {source}")]
    Replica {
        /// The database.
        db: PathBuf,
        /// Why the last one ended.
        source: ReplicaError,
    },
    /// It is to be replicated once, and is not there.
    #[error("{0} does not exist: there is nothing to replicate")]
    Missing(PathBuf),
    /// Two names of one file.
    #[error("{db} is the same file as {other}, which is followed already: name it once")]
    Same {
        /// The database.
        db: PathBuf,
        /// Its other name.
        other: PathBuf,
    },
}

impl FollowError {
    /// Whether the cause may go away by itself or by the work of an administrator, with no harm done by another try.
    pub(in crate::replicate) fn is_worth_another_try(&self) -> bool {
        match self {
            FollowError::Replica { source, .. } => !matches!(
                source,
                ReplicaError::Store(e) if e.kind() == crate::store::ErrorKind::Conflict
            ),
            FollowError::Missing(_) | FollowError::Same { .. } => false,
            FollowError::Open(_)
            | FollowError::Home(_)
            | FollowError::Tail { .. }
            | FollowError::Io { .. } => true,
        }
    }

    /// Whether the file is just no database, as many files in a directory are not.
    pub(in crate::replicate) fn is_no_database(&self) -> bool {
        matches!(self, FollowError::Open(OpenError::Header(_) | OpenError::NotAFile(..)))
    }
}
