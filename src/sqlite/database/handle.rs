//! The open database: its files, its connection, and the checkpoints that lsfast runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};

use super::connect::{CONNECT_AGAIN, bare, connect_within, read_once};
use super::file_id::FileId;
use super::open_error::OpenError;
use crate::base::{PageSize, limits};
use crate::io::File;
use crate::io::link::target_of;
use crate::sqlite::header::{DbHeader, HeaderError};
use crate::wal::index::LOCK_DMS;
use crate::wal::shm::{LockKind, Shm, fault};

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

/// First byte and length of the range that a connection in WAL mode locks shared on the database
/// file (SHARED).
const SHARED_FIRST: u64 = 0x4000_0002;
const SHARED_BYTES: u64 = 510;

/// First byte and length of the range that a connection locks for exclusive access to the database
/// file: PENDING, RESERVED and all bytes of SHARED.
const ALONE_FIRST: u64 = 0x4000_0000;
const ALONE_BYTES: u64 = SHARED_FIRST - ALONE_FIRST + SHARED_BYTES;

/// Message of the error after another program cut the wal-index while our connection had it mapped.
/// The result of the connection's work is not valid then.
const CUT: &str = "another program cut the wal-index meanwhile";

/// A database in WAL mode, held open.
#[derive(Debug)]
pub struct Database {
    shm: Arc<Shm>,
    wal: File,
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) page_size: PageSize,
    switched: bool,
}

/// Whether locks show that another process has the database open. In WAL mode every connection
/// holds such a lock; otherwise it does only during a transaction.
///
/// This opens and closes the files, which drops all POSIX locks of this process on them. So no
/// connection of this process may have the database open.
///
/// # Errors
/// Any I/O error, except that a missing file counts as not in use.
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

/// Whether the header of a database file says that the file is longer than `len` bytes, so that
/// more is still to be written.
///
/// # Errors
/// Any I/O error of the read. As for [`is_in_use`], no connection of this process may have the
/// database open.
pub fn says_it_is_longer(path: &Path, len: u64) -> io::Result<bool> {
    let mut head = [0; 100];
    let have = File::open(path)?.pread(&mut head, 0)?;
    Ok(DbHeader::parse(path, &head[..have]).is_ok_and(|header| {
        let pages = u64::from(header.size_pages.unwrap_or(0));
        pages * u64::from(header.page_size.get()) > len
    }))
}

/// Whether the header of a database file says that it is in WAL mode, so that a WAL may belong to
/// it.
///
/// # Errors
/// As for [`says_it_is_longer`].
pub fn may_have_wal(path: &Path) -> io::Result<bool> {
    let mut head = [0; 100];
    let have = File::open(path)?.pread(&mut head, 0)?;
    Ok(DbHeader::parse(path, &head[..have]).is_ok_and(|header| header.is_wal()))
}

/// `PATH` with a suffix, as SQLite names the files next to a database (`-wal`, `-shm`).
#[must_use]
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Database {
    /// Opens `path`. Checks that it is a database, switches it to WAL mode if necessary, and keeps
    /// the locks of a reader that holds no snapshot. Waits up to five seconds for locks of others.
    ///
    /// # Errors
    /// [`OpenError`]; each message says what to do.
    pub fn open(path: &Path) -> Result<Database, OpenError> {
        Database::open_within(path, limits::OPEN_BUSY_TIMEOUT)
    }

    /// Like [`open`](Database::open), with `busy` as the time to wait for locks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_within(path: &Path, busy: Duration) -> Result<Database, OpenError> {
        let give_up = Instant::now() + busy;
        loop {
            match Database::open_once(path, give_up.saturating_duration_since(Instant::now())) {
                // The wal-index was cut meanwhile, or is still too short.
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
        // SQLite keeps the other files next to the target of a symbolic link.
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
            // SQLite does not report that the process has reached its limit of open files.
            Some(ErrorCode::CannotOpen) if let Err(source) = open_some() => {
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
        // No other lock can conflict while our own connection holds the same ones.
        let held = file.share_range(SHARED_FIRST, SHARED_BYTES).map_err(|e| io_error(e, path))?
            && shm.try_lock(LOCK_DMS, LockKind::Shared).map_err(|e| io_error(e, &shm_path))?;
        if !held {
            return Err(OpenError::Locked(path.to_owned()));
        }
        drop(conn);
        Ok(Database { shm: Arc::new(shm), wal, file, path: path.to_owned(), page_size, switched })
    }

    /// Path of the database file. If a symbolic link was opened, this is its target.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in a page.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Whether opening had to switch the database to WAL mode.
    #[must_use]
    pub fn was_switched(&self) -> bool {
        self.switched
    }

    /// The mapped wal-index.
    #[must_use]
    pub fn shm(&self) -> &Arc<Shm> {
        &self.shm
    }

    /// The WAL file.
    #[must_use]
    pub fn wal(&self) -> &File {
        &self.wal
    }

    /// The database file. Its descriptor holds a lock, so keep the [`Database`] alive while you use
    /// it.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the paths still name the three files that were opened.
    ///
    /// # Errors
    /// Any error of `stat`.
    pub fn is_same(&self) -> io::Result<bool> {
        Ok(FileId::at(&self.path)? == Some(FileId::of(self.file.std())?)
            && FileId::at(&sibling(&self.path, "-wal"))? == Some(FileId::of(self.wal.std())?)
            && FileId::at(self.shm.path())? == Some(FileId::of(self.shm.file())?)
            && !self.is_resized()?)
    }

    /// Runs a checkpoint in a connection of its own, without waiting for locks. `Ok(false)` if
    /// another connection was in the way.
    ///
    /// Blocks while the pages are copied, so it must not run on the event loop.
    ///
    /// # Errors
    /// Any error of SQLite other than "busy".
    pub fn checkpoint(&self, mode: CheckpointMode) -> Result<bool, rusqlite::Error> {
        ran(self.connection().and_then(|conn| run(&conn, mode)))
    }

    /// Like [`checkpoint`](Database::checkpoint), but interrupted after `limit`. An interrupted
    /// checkpoint publishes no copied frames. A system call in progress (a flush) is still waited
    /// for.
    ///
    /// # Errors
    /// Any error of SQLite other than "busy"; "interrupted" after `limit`.
    pub fn checkpoint_within(&self, mode: CheckpointMode, limit: Duration) -> Result<bool, rusqlite::Error> {
        let conn = match self.connection() {
            Ok(conn) => conn,
            Err(e) => return ran(Err(e)),
        };
        let interrupt = conn.get_interrupt_handle();
        let (done, over) = mpsc::channel::<()>();
        std::thread::scope(|threads| {
            // If this thread can't be started, the checkpoint has no time limit.
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

    /// Lets SQLite read the database once. If the wal-index header is damaged, SQLite rebuilds it.
    ///
    /// # Errors
    /// Any error of SQLite.
    pub fn touch(&self) -> Result<(), rusqlite::Error> {
        self.connection().map(drop)
    }

    /// Opens a connection, reads the database once, and changes nothing by itself.
    fn connection(&self) -> Result<Connection, rusqlite::Error> {
        // SQLite opens by path. If the path now names another file, the connection would be to that
        // file.
        if FileId::at(&self.path).ok().flatten() != FileId::of(self.file.std()).ok() {
            return Err(failure(ffi::SQLITE_CANTOPEN, "the path names another file"));
        }
        // A checkpoint would skip the frames that it does not find by the wal-index, and publish
        // them as copied. Without a valid header, SQLite rebuilds the wal-index first.
        if !self.shm.is_sound().unwrap_or(true) && !self.shm.invalidate().unwrap_or(false) {
            return Err(failure(ffi::SQLITE_BUSY, "the wal-index is damaged, and a writer uses it"));
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
    /// Any error of `fcntl`.
    pub fn is_in_use(&self) -> io::Result<bool> {
        self.shm.held_by_other(LOCK_DMS)
    }

    /// After [`Shm::leave`]: takes exclusive locks on the database and its wal-index. `Ok(false)`
    /// if another process has either open.
    ///
    /// # Errors
    /// Any other error of `fcntl`.
    pub fn have_alone(&self) -> io::Result<bool> {
        Ok(self.shm.have_alone()? && self.file.have_range(ALONE_FIRST, ALONE_BYTES)?)
    }

    /// Releases all locks for good. The descriptors stay open for reads that are still needed.
    ///
    /// # Errors
    /// Any error of `fcntl`.
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
        // It cuts the WAL itself, even if it read zeros in place of the page numbers of frames to
        // copy. A WAL that is cut too early would be worse than a process that ends.
        CheckpointMode::Truncate => uncut_result(fault::survive_truncation(conn, run)),
    }
}

fn ran(busy: Result<i64, rusqlite::Error>) -> Result<bool, rusqlite::Error> {
    match busy {
        Ok(busy) => Ok(busy == 0),
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The kind of checkpoint to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointMode {
    /// Copies as much as it can without waiting.
    Passive,
    /// Copies everything, then cuts the WAL to zero bytes.
    Truncate,
}

/// Runs `run`, in which SQLite uses a wal-index. Returns an error if another program cut the
/// wal-index meanwhile.
fn uncut<T>(
    conn: Option<&Connection>,
    run: impl FnOnce() -> Result<T, rusqlite::Error>,
) -> Result<T, rusqlite::Error> {
    uncut_result(fault::survive_in(conn, run))
}

fn uncut_result<T>(survived: io::Result<(Result<T, rusqlite::Error>, bool)>) -> Result<T, rusqlite::Error> {
    match survived {
        Ok((done, false)) => done,
        Ok((_, true)) => Err(failure(ffi::SQLITE_IOERR_SHMMAP, CUT)),
        Err(e) => Err(failure(ffi::SQLITE_IOERR_SHMMAP, &e.to_string())),
    }
}

fn failure(code: i32, text: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(text.to_owned()))
}

/// Opens as many files as a database needs: SQLite has closed its own when it reports the error.
fn open_some() -> io::Result<()> {
    let open = |_| File::open_directory(Path::new("/"));
    (0..limits::DATABASE_FILES).map(open).collect::<io::Result<Vec<_>>>().map(drop)
}

fn check_header(file: &File, path: &Path) -> Result<(), OpenError> {
    let mut head = [0; 100];
    let have = file.pread(&mut head, 0).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    DbHeader::parse(path, &head[..have]).map(drop).map_err(OpenError::Header)
}
