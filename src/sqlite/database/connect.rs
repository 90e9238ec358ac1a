//! SQLite connections that change nothing by themselves.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::open_error::OpenError;

/// Wait between two attempts to connect to a locked database, or to open one whose wal-index was
/// cut.
pub(super) const CONNECT_AGAIN: Duration = Duration::from_millis(5);

/// Connects, and retries for at most `busy` while the database is locked. SQLite's own busy timeout
/// does not cover every case. Where it would have to wait while it holds a lock itself, it gives up
/// at once. An example is the switch to WAL mode while a writer is active.
pub(super) fn connect_within(
    path: &Path,
    busy: Duration,
    sqlite_error: impl Fn(rusqlite::Error) -> OpenError,
) -> Result<(Connection, bool), OpenError> {
    let give_up = Instant::now() + busy;
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        match connect(path, left, &sqlite_error) {
            Err(OpenError::Locked(_)) if !left.is_zero() => std::thread::sleep(left.min(CONNECT_AGAIN)),
            done => return done,
        }
    }
}

fn connect(
    path: &Path,
    busy: Duration,
    sqlite_error: impl Fn(rusqlite::Error) -> OpenError,
) -> Result<(Connection, bool), OpenError> {
    let conn = bare(path, busy).map_err(&sqlite_error)?;
    let mode = |sql: &str| -> Result<String, OpenError> {
        conn.query_row(sql, [], |r| r.get(0)).map_err(&sqlite_error)
    };
    let mut switched = false;
    if mode("PRAGMA journal_mode")? != "wal" {
        let now = mode("PRAGMA journal_mode=WAL")?;
        if now != "wal" {
            return Err(OpenError::NotWal { path: path.to_owned(), mode: now });
        }
        switched = true;
    }
    // From its first read on, a connection in WAL mode holds SHARED on the database file and has
    // the wal-index open.
    read_once(&conn).map_err(&sqlite_error)?;
    Ok((conn, switched))
}

/// Opens a connection that changes nothing by itself: it runs no automatic checkpoint, and closing
/// it leaves the WAL alone.
pub(super) fn bare(path: &Path, busy: Duration) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(busy)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "cache_size", 8)?;
    Ok(conn)
}

pub(super) fn read_once(conn: &Connection) -> Result<(), rusqlite::Error> {
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get::<_, i64>(0)).map(drop)
}
