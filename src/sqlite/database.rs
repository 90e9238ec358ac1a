//! One live database, opened the way that its owner does not notice.
//!
//! [`Database`] owns everything that touches the database file and its wal-index. What keeps the
//! log alive are two shared locks that any connection in WAL mode has: on the database file, so
//! that nobody else is the last to close, and on the wal-index, so that nobody takes it for one
//! left behind. They are open file description locks: they belong to our descriptors, and
//! no other descriptor that is closed takes them away. SQLite itself opens the database first, and
//! later only where it has something to do.

mod connect;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};

use connect::{bare, connect_within, read_once};

use super::header::{DbHeader, HeaderError};
use super::shm::{LockKind, Shm, fault};
use super::walindex::LOCK_DMS;
use crate::base::PageSize;
use crate::io::File;
use crate::io::link::target_of;

/// Where a connection in WAL mode locks the database file as a reader, and how many bytes.
const SHARED_FIRST: u64 = 0x4000_0002;
const SHARED_BYTES: u64 = 510;

/// What a connection locks that wants the database file for itself alone: PENDING, RESERVED and all
/// of the readers' bytes.
const ALONE_FIRST: u64 = 0x4000_0000;
const ALONE_BYTES: u64 = SHARED_FIRST - ALONE_FIRST + SHARED_BYTES;

/// Another program cut the wal-index while a connection of our own had it mapped. What the
/// connection did is void.
const CUT: &str = "another program cut the wal-index meanwhile";

/// How long the opening waits for locks of others before it calls them permanent.
const OPEN_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The wait before it is tried again.
const CONNECT_AGAIN: Duration = Duration::from_millis(5);

/// Why a database can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file (yet).
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// It is not a database.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Something that is not a plain file.
    #[error("{0} is a {1}, not a database file: name the database itself")]
    NotAFile(PathBuf, &'static str),
    /// The operating system forbids it.
    #[error(
        "no permission to open {path}: lsfast must be able to read and write the database and create files in its directory \
         (run it as the user of the application): {source}"
    )]
    Permission {
        /// What could not be opened.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another connection holds the database alone.
    #[error(
        "{0} stays locked by another process: lsfast can't follow a database that is used with locking_mode=EXCLUSIVE or held in one \
         long exclusive transaction; set locking_mode=NORMAL in the application"
    )]
    Locked(PathBuf),
    /// It can't be put into WAL mode.
    #[error("{path} can't be switched to WAL mode: SQLite keeps journal_mode={mode}")]
    NotWal {
        /// The database.
        path: PathBuf,
        /// The mode that it stays in.
        mode: String,
    },
    /// An error of the operating system.
    #[error("cannot open {path}: {source}")]
    Io {
        /// What could not be opened.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An error of SQLite.
    #[error("cannot open {path}: {source}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
}

impl OpenError {
    /// Whether waiting for the application to make the database may help.
    #[must_use]
    pub fn is_too_early(&self) -> bool {
        matches!(self, OpenError::Missing(_) | OpenError::Header(HeaderError::Empty { .. }))
    }
}

/// Which file a path means: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

impl FileId {
    /// Of an open file.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of(file: &std::fs::File) -> io::Result<FileId> {
        let m = file.metadata()?;
        Ok(FileId { dev: m.dev(), ino: m.ino() })
    }

    /// Of whatever the path names now; `None` if nothing, also where a directory of the path is
    /// none.
    ///
    /// # Errors
    /// What the operating system says otherwise.
    pub fn at(path: &Path) -> io::Result<Option<FileId>> {
        match std::fs::metadata(path) {
            Ok(m) => Ok(Some(FileId { dev: m.dev(), ino: m.ino() })),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A database in WAL mode, held open.
#[derive(Debug)]
pub struct Database {
    shm: Arc<Shm>,
    wal: File,
    file: File,
    path: PathBuf,
    page_size: PageSize,
    switched: bool,
}

/// Whether another process has the database open, as far as its locks show: always in WAL mode,
/// otherwise in a transaction.
///
/// Opens and closes the files, so that no connection of this process may have them open.
///
/// # Errors
/// The operating system; a file that is not there is not in use.
pub fn is_in_use(path: &Path) -> io::Result<bool> {
    for (path, from, len) in [(path, ALONE_FIRST, ALONE_BYTES), (&sibling(path, "-shm"), LOCK_DMS, 1)] {
        match File::open(path) {
            Ok(file) if file.locked_by(from, len)?.is_some() => return Ok(true),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

/// Whether the header of a database file says that the file is longer than `len` bytes, so that the
/// rest is still to come.
///
/// # Errors
/// As [`is_in_use`], with the same condition.
pub fn says_it_is_longer(path: &Path, len: u64) -> io::Result<bool> {
    let mut head = [0; 100];
    let have = File::open(path)?.pread(&mut head, 0)?;
    Ok(DbHeader::parse(path, &head[..have]).is_ok_and(|header| {
        let pages = u64::from(header.size_pages.unwrap_or(0));
        pages * u64::from(header.page_size.get()) > len
    }))
}

/// `PATH` with a suffix, as SQLite names the files beside a database.
#[must_use]
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Database {
    /// Opens `path`: checks that it is a database, puts it into WAL mode if need be, and stays in
    /// it as a reader that holds no snapshot. Waits up to five seconds for locks of others.
    ///
    /// # Errors
    /// [`OpenError`], each variant with what to do.
    pub fn open(path: &Path) -> Result<Database, OpenError> {
        Database::open_within(path, OPEN_BUSY_TIMEOUT)
    }

    /// As [`open`](Database::open), with another time to wait.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_within(path: &Path, busy: Duration) -> Result<Database, OpenError> {
        let give_up = Instant::now() + busy;
        loop {
            match Database::open_once(path, give_up.saturating_duration_since(Instant::now())) {
                // The wal-index was cut meanwhile, or is too short still.
                Err(OpenError::Io { source, .. })
                    if source.kind() == io::ErrorKind::UnexpectedEof && Instant::now() < give_up =>
                {
                    std::thread::sleep(CONNECT_AGAIN);
                }
                done => return done,
            }
        }
    }

    fn open_once(path: &Path, busy: Duration) -> Result<Database, OpenError> {
        let io_error = |source: io::Error, path: &Path| match source.kind() {
            io::ErrorKind::NotFound => OpenError::Missing(path.to_owned()),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpenError::Permission { path: path.to_owned(), source }
            }
            _ => OpenError::Io { path: path.to_owned(), source },
        };
        // SQLite has the other files next to the one that a link leads to.
        let path = &target_of(path);
        let kind = std::fs::metadata(path).map_err(|e| io_error(e, path))?.file_type();
        if !kind.is_file() {
            return Err(OpenError::NotAFile(
                path.to_owned(),
                if kind.is_dir() { "directory" } else { "special file" },
            ));
        }
        let file = File::open_rw(path).map_err(|e| io_error(e, path))?;
        check_header(&file, path)?;
        let sqlite_error = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked(path.to_owned()),
            // SQLite does not say that the process may open no more files.
            Some(ErrorCode::CannotOpen) if let Err(source) = File::open_directory(Path::new("/")) => {
                OpenError::Io { path: path.to_owned(), source }
            }
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                OpenError::Permission { path: path.to_owned(), source: io::Error::other(source) }
            }
            Some(ErrorCode::NotADatabase) => HeaderError::Magic { file: path.to_owned() }.into(),
            _ => OpenError::Sqlite { path: path.to_owned(), source },
        };
        let (connected, cut) = fault::survive_in(None, || connect_within(path, busy, sqlite_error))
            .map_err(|e| io_error(e, path))?;
        let (conn, switched) = connected?;
        if cut {
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, CUT);
            return Err(OpenError::Io { path: sibling(path, "-shm"), source });
        }
        let page_size: u32 = conn.query_row("PRAGMA page_size", [], |r| r.get(0)).map_err(sqlite_error)?;
        let page_size = PageSize::new(page_size)
            .map_err(|e| OpenError::Io { path: path.to_owned(), source: io::Error::other(e) })?;
        let shm_path = sibling(path, "-shm");
        let shm = Shm::open(&shm_path).map_err(|e| io_error(e, &shm_path))?;
        let wal_path = sibling(path, "-wal");
        let wal = File::open_rw_itself(&wal_path).map_err(|e| io_error(e, &wal_path))?;
        // Nobody can be in the way while our connection holds the same.
        let held = file.share_range(SHARED_FIRST, SHARED_BYTES).map_err(|e| io_error(e, path))?
            && shm.try_lock(LOCK_DMS, LockKind::Shared).map_err(|e| io_error(e, &shm_path))?;
        if !held {
            return Err(OpenError::Locked(path.to_owned()));
        }
        drop(conn);
        Ok(Database { shm: Arc::new(shm), wal, file, path: path.to_owned(), page_size, switched })
    }

    /// The path of its file: where a link leads, if it was opened by one.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in a page.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Whether opening had to switch it to WAL mode.
    #[must_use]
    pub fn was_switched(&self) -> bool {
        self.switched
    }

    /// The mapped wal-index.
    #[must_use]
    pub fn shm(&self) -> &Arc<Shm> {
        &self.shm
    }

    /// The log file.
    #[must_use]
    pub fn wal(&self) -> &File {
        &self.wal
    }

    /// The database file. Its descriptor holds a lock: keep the [`Database`] alive as long as this.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the paths still name the files that were opened.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn is_same(&self) -> io::Result<bool> {
        Ok(FileId::at(&self.path)? == Some(FileId::of(self.file.std())?)
            && FileId::at(&sibling(&self.path, "-wal"))? == Some(FileId::of(self.wal.std())?)
            && FileId::at(self.shm.path())? == Some(FileId::of(self.shm.file())?))
    }

    /// Runs a checkpoint by a connection of its own; never waits for anybody. `Ok(false)` if
    /// somebody was in the way.
    ///
    /// Blocks for as long as copying the pages takes: not for the loop.
    ///
    /// # Errors
    /// What SQLite says, other than "busy".
    pub fn checkpoint(&self, mode: CheckpointMode) -> Result<bool, rusqlite::Error> {
        ran(self.connection().and_then(|conn| run(&conn, mode)))
    }

    /// As [`checkpoint`](Database::checkpoint), broken off after `limit`: then it has copied
    /// nothing that counts. What is under way in the operating system (a flush) is waited for.
    ///
    /// # Errors
    /// What SQLite says, other than "busy": "interrupted" when it was broken off.
    pub fn checkpoint_within(&self, mode: CheckpointMode, limit: Duration) -> Result<bool, rusqlite::Error> {
        let conn = match self.connection() {
            Ok(conn) => conn,
            Err(e) => return ran(Err(e)),
        };
        let interrupt = conn.get_interrupt_handle();
        let (done, over) = mpsc::channel::<()>();
        std::thread::scope(|threads| {
            // Without that thread the checkpoint takes as long as it takes.
            _ = std::thread::Builder::new().spawn_scoped(threads, move || {
                if over.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                    interrupt.interrupt();
                }
            });
            let result = ran(run(&conn, mode));
            drop(done);
            result
        })
    }

    /// Lets SQLite read the database once, which makes it rebuild a damaged wal-index header.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn touch(&self) -> Result<(), rusqlite::Error> {
        self.connection().map(drop)
    }

    /// A connection that has read the database once and changes nothing by itself.
    fn connection(&self) -> Result<Connection, rusqlite::Error> {
        // A connection goes by the path. Where that names another file by now, it would be that file's.
        if FileId::at(&self.path).ok().flatten() != FileId::of(self.file.std()).ok() {
            return Err(failure(ffi::SQLITE_CANTOPEN, "the path names another file"));
        }
        uncut(None, || {
            let conn = bare(&self.path, Duration::ZERO)?;
            read_once(&conn)?;
            Ok(conn)
        })
    }

    /// Whether another process has the database open in WAL mode.
    ///
    /// # Errors
    /// The operating system.
    pub fn is_in_use(&self) -> io::Result<bool> {
        self.shm.held_by_other(LOCK_DMS)
    }

    /// After [`Shm::leave`]: takes the database and its wal-index for us alone. `Ok(false)` if
    /// another process has either open.
    ///
    /// # Errors
    /// The operating system.
    pub fn have_alone(&self) -> io::Result<bool> {
        Ok(self.shm.have_alone()? && self.file.have_range(ALONE_FIRST, ALONE_BYTES)?)
    }

    /// Lets go of all locks for good. The descriptors stay, for what is still to be read.
    ///
    /// # Errors
    /// The operating system.
    pub fn leave(&self) -> io::Result<()> {
        self.shm.leave()?;
        self.shm.unlock(LOCK_DMS)?;
        self.file.unlock_range(ALONE_FIRST, ALONE_BYTES)
    }
}

fn run(conn: &Connection, mode: CheckpointMode) -> Result<i64, rusqlite::Error> {
    let sql = match mode {
        CheckpointMode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        CheckpointMode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    let run = || conn.query_row(sql, [], |r| r.get(0));
    match mode {
        CheckpointMode::Passive => uncut(Some(conn), run),
        // It cuts the WAL itself, also where it met zeros in place of what it should have copied before. Not
        // survived, then: a WAL that is cut too early is worse than a process that ends.
        CheckpointMode::Truncate => run(),
    }
}

fn ran(busy: Result<i64, rusqlite::Error>) -> Result<bool, rusqlite::Error> {
    match busy {
        Ok(busy) => Ok(busy == 0),
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Which checkpoint to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointMode {
    /// As much as can be copied without waiting.
    Passive,
    /// Everything, then cut the log to nothing.
    Truncate,
}

/// Runs what SQLite does with a wal-index; an error if another program cut that meanwhile.
fn uncut<T>(
    conn: Option<&Connection>,
    run: impl FnOnce() -> Result<T, rusqlite::Error>,
) -> Result<T, rusqlite::Error> {
    match fault::survive_in(conn, run) {
        Ok((done, false)) => done,
        Ok((_, true)) => Err(failure(ffi::SQLITE_IOERR_SHMMAP, CUT)),
        Err(e) => Err(failure(ffi::SQLITE_IOERR_SHMMAP, &e.to_string())),
    }
}

fn failure(code: i32, text: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(text.to_owned()))
}

fn check_header(file: &File, path: &Path) -> Result<(), OpenError> {
    let mut head = [0; 100];
    let have = file.pread(&mut head, 0).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    DbHeader::parse(path, &head[..have]).map(drop).map_err(OpenError::Header)
}

#[cfg(test)]
mod tests;
