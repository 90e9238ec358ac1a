//! Why a database is not followed.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::replicate::replica::ReplicaError;
use crate::replicate::state::HomeError;
use crate::sqlite::database::{FileId, OpenError};
use crate::store::{ErrorKind, is_file_limit};
use crate::wal::tail::TailError;

/// Why a database cannot be followed, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Opening the database failed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The state folder next to the database cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Reading the WAL failed.
    #[error("{db}: {source}")]
    Tail {
        /// The database.
        db: PathBuf,
        /// The cause.
        source: TailError,
    },
    /// An I/O error outside the WAL.
    #[error("{db}: {source}")]
    Io {
        /// The database.
        db: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The last replica of the database has ended with an error.
    #[error("{db}: {source}")]
    Replica {
        /// The database.
        db: PathBuf,
        /// Why the last one ended.
        source: ReplicaError,
    },
    /// The stop came while the database was still waited for.
    #[error("not everything is stored: {0} never came, so that nothing of it is stored")]
    NeverCame(PathBuf),
    /// The database was removed, and its last commits could not be stored.
    #[error("not everything is stored: {0} was removed or replaced before its last commits could be stored")]
    LastCommits(PathBuf),
    /// The database was to be stopped alone, and its last commits could not be stored in time.
    #[error(
        "not everything of {0} could be stored in the time of --shutdown-timeout. Nothing is lost: it is stored when the database is replicated again"
    )]
    OutOfTime(PathBuf),
    /// The database does not exist, and `--once` does not wait for it.
    #[error("{0} does not exist: there is nothing to replicate")]
    Missing(PathBuf),
    /// Two databases have the same replica.
    #[error("{db}: {url} is the replica of {other} already: give each database a replica of its own")]
    SharedPlace {
        /// The database.
        db: PathBuf,
        /// The database that has the replica already.
        other: PathBuf,
        /// URL of the replica.
        url: String,
    },
    /// The file is already followed under another name.
    #[error("{db} is the same file as {other}, which is followed already: name it once")]
    Same {
        /// The database.
        db: PathBuf,
        /// Its other name.
        other: PathBuf,
    },
    /// A link in a directory that is watched with the rights of root leads out of it, or to a file
    /// of another user than that of the link.
    #[error(
        "{db} is reached by a link that leads out of {root}, or to a file of another user than the link's: with the rights of root, such links in a \
         watched directory are not followed. Name the database itself under dbs, or run lsfast as the user who owns it"
    )]
    Outside {
        /// The file that the link leads to.
        db: PathBuf,
        /// The watched directory.
        root: PathBuf,
    },
}

impl FollowError {
    /// Whether this process, or the host, has no file descriptor left.
    pub(in crate::replicate) fn is_file_limit(&self) -> bool {
        self.io().is_some_and(is_file_limit)
            || matches!(self, FollowError::Replica { source: ReplicaError::Store(e), .. } if e.is_file_limit())
    }

    /// The I/O error among the causes, if there is one.
    fn io(&self) -> Option<&io::Error> {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(e) = cause {
            match e.downcast_ref::<io::Error>() {
                Some(e) => return Some(e),
                None => cause = e.source(),
            }
        }
        None
    }

    /// Whether the cause may pass by itself or by an administrator's work, and another try does no
    /// harm.
    pub(in crate::replicate) fn is_worth_another_try(&self) -> bool {
        match self {
            FollowError::Replica { source, .. } => !matches!(
                source,
                ReplicaError::Store(e) if e.kind() == ErrorKind::Conflict
            ),
            FollowError::Missing(_)
            | FollowError::NeverCame(_)
            | FollowError::LastCommits(_)
            | FollowError::OutOfTime(_)
            | FollowError::SharedPlace { .. } => false,
            FollowError::Same { .. }
            | FollowError::Outside { .. }
            | FollowError::Open(_)
            | FollowError::Home(_)
            | FollowError::Tail { .. }
            | FollowError::Io { .. } => true,
        }
    }

    /// Whether a process that follows only this database should end with the error instead of
    /// waiting: the named database cannot be followed as it is, and the user should know.
    pub(in crate::replicate) fn is_definite(&self) -> bool {
        match self {
            FollowError::Open(e) => matches!(
                e,
                OpenError::Header(_)
                    | OpenError::NotAFile(..)
                    | OpenError::NotWal { .. }
                    | OpenError::Permission { .. }
            ),
            FollowError::Home(HomeError::Io { source, .. }) | FollowError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
            }
            FollowError::Tail { .. } | FollowError::Replica { .. } => false,
            FollowError::Home(HomeError::Taken(..))
            | FollowError::Missing(_)
            | FollowError::NeverCame(_)
            | FollowError::LastCommits(_)
            | FollowError::OutOfTime(_)
            | FollowError::Same { .. }
            | FollowError::SharedPlace { .. }
            | FollowError::Outside { .. } => true,
        }
    }

    /// Whether a process that follows only this database has nothing left to do: its store refuses
    /// it, or another process holds the database.
    pub(in crate::replicate) fn is_final(&self) -> bool {
        match self {
            FollowError::Replica { source, .. } => {
                !matches!(source, ReplicaError::Ltx(_) | ReplicaError::Worker(_) | ReplicaError::CaptureEnded)
            }
            FollowError::Home(HomeError::Taken(..)) => true,
            _ => false,
        }
    }

    /// Whether the error may hold for a moment only, while the file is being created. A second look
    /// tells it from the other definite errors.
    pub(in crate::replicate) fn is_fleeting(&self) -> bool {
        matches!(
            self,
            FollowError::Open(OpenError::Header(_) | OpenError::Permission { .. })
                | FollowError::Io { .. }
                | FollowError::Home(HomeError::Io { .. })
        )
    }

    /// Of [`FollowError::Same`]: whether the other name still leads to the file.
    pub(in crate::replicate) fn still_same(&self, id: FileId) -> bool {
        matches!(self, FollowError::Same { other, .. } if FileId::at(other).is_ok_and(|now| now == Some(id)))
    }

    /// Whether the file is simply not a database, as many files in a directory are not.
    pub(in crate::replicate) fn is_no_database(&self) -> bool {
        matches!(self, FollowError::Open(OpenError::Header(_) | OpenError::NotAFile(..)))
    }
}

/// Turns an I/O error outside the WAL into one of this database.
pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> FollowError + use<> {
    let db = path.to_owned();
    move |source| FollowError::Io { db: db.clone(), source }
}
