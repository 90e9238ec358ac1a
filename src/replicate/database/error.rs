//! Why a database is not followed.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::replicate::replica::ReplicaError;
use crate::replicate::state::HomeError;
use crate::sqlite::database::{FileId, OpenError};
use crate::store::{ErrorKind, is_file_limit};
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
    /// It was waited for until the end.
    #[error("not everything is stored: {0} never came, so that nothing of it is stored")]
    NeverCame(PathBuf),
    /// It was removed, and its last commits could not be stored.
    #[error("not everything is stored: {0} was removed or replaced before its last commits could be stored")]
    LastCommits(PathBuf),
    /// It is to be replicated once, and is not there.
    #[error("{0} does not exist: there is nothing to replicate")]
    Missing(PathBuf),
    /// Two databases with one replica.
    #[error("{db}: {url} is the replica of {other} already: give each database a replica of its own")]
    SharedPlace {
        /// The database.
        db: PathBuf,
        /// The one that was first.
        other: PathBuf,
        /// The replica.
        url: String,
    },
    /// Two names of one file.
    #[error("{db} is the same file as {other}, which is followed already: name it once")]
    Same {
        /// The database.
        db: PathBuf,
        /// Its other name.
        other: PathBuf,
    },
    /// A link, in a directory that is watched with the rights of root.
    #[error(
        "{db} leads out of {root}: with the rights of root, links in a watched directory are not followed out of it. Name the database itself \
         under dbs, or run lsfast as the user who owns it"
    )]
    Outside {
        /// The file.
        db: PathBuf,
        /// The directory.
        root: PathBuf,
    },
}

impl FollowError {
    /// Whether this process, or the host, has no file descriptor left.
    pub(in crate::replicate) fn is_file_limit(&self) -> bool {
        self.io().is_some_and(is_file_limit)
            || matches!(self, FollowError::Replica { source: ReplicaError::Store(e), .. } if e.is_file_limit())
    }

    /// What the operating system said, if it was that.
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

    /// Whether the cause may go away by itself or by the work of an administrator, with no harm
    /// done by another try.
    pub(in crate::replicate) fn is_worth_another_try(&self) -> bool {
        match self {
            FollowError::Replica { source, .. } => !matches!(
                source,
                ReplicaError::Store(e) if e.kind() == ErrorKind::Conflict
            ),
            FollowError::Missing(_)
            | FollowError::NeverCame(_)
            | FollowError::LastCommits(_)
            | FollowError::SharedPlace { .. } => false,
            FollowError::Same { .. }
            | FollowError::Outside { .. }
            | FollowError::Open(_)
            | FollowError::Home(_)
            | FollowError::Tail { .. }
            | FollowError::Io { .. } => true,
        }
    }

    /// Whether a process that was started for this one database had better end with it than wait:
    /// what was named can't be followed as it is, and who started lsfast should know.
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
            | FollowError::Same { .. }
            | FollowError::SharedPlace { .. }
            | FollowError::Outside { .. } => true,
        }
    }

    /// Whether a process that follows this one database has nothing left to do: its store refuses
    /// it, or another process has it.
    pub(in crate::replicate) fn is_final(&self) -> bool {
        match self {
            FollowError::Replica { source, .. } => {
                !matches!(source, ReplicaError::Ltx(_) | ReplicaError::Worker(_) | ReplicaError::CaptureEnded)
            }
            FollowError::Home(HomeError::Taken(..)) => true,
            _ => false,
        }
    }

    /// Whether it may look so for a moment only, while the file is being made: told from the other
    /// definite ones by a second look.
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

    /// Whether the file is just no database, as many files in a directory are not.
    pub(in crate::replicate) fn is_no_database(&self) -> bool {
        matches!(self, FollowError::Open(OpenError::Header(_) | OpenError::NotAFile(..)))
    }
}
