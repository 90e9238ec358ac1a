//! The database of a standby, accessed through SQLite.
//!
//! # Overview
//!
//! One connection holds the write lock of the database, except for a moment between two
//! transactions. Other writers get `SQLITE_BUSY`. Pages are written through `sqlite_dbpage`, so
//! locking, WAL, checkpoints and recovery are those of SQLite, and readers need no knowledge of a
//! standby.
//!
//! SQLite would do four things that harm a program that writes pages. Each is prevented:
//!
//! - A new schema cookie on page 1 makes the next statement read the schema, from pages half of
//!   which are new. So page 1 is written last, and the same statement shortens the file.
//! - The connection keeps what it has parsed from a page when the bytes of the page are replaced.
//!   So its cache is emptied after each transaction.
//! - With `auto_vacuum=FULL`, SQLite would move pages at the end of a transaction. Preparing (not
//!   running) `PRAGMA auto_vacuum=2` tells the connection that vacuuming is incremental.
//! - The header says which journal the database has. It is made to say WAL, whatever a file says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::FollowError;
use super::checksum::Checksum;
use super::files::{FOLLOW_MODE, position_path};
use super::lineage::Made;
use super::mark::{self, Mark, TXID_MAX};
use crate::base::checksum::page_hash;
use crate::base::{DatabaseChecksum, PageSize, Pgno, Txid, limits};
use crate::io::{File, Folder};
use crate::restore::RestoreError;
use crate::sqlite::database::{FileId, sibling};

/// How long SQLite waits for a lock of another connection.
const BUSY: Duration = Duration::from_secs(5);

const READ: &str = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
const WRITE: &str = "INSERT INTO sqlite_dbpage(pgno, data) VALUES (?1, ?2)";
/// Writes page 1, and ends the file before the page that follows. It is one statement for the
/// reason given at the top of the module.
const WRITE_LAST: &str = "INSERT INTO sqlite_dbpage(pgno, data) VALUES (1, ?1), (?2, NULL)";
const VACUUM_BY_HAND: &str = "PRAGMA auto_vacuum=2";

/// Byte range in page 1 of the two bytes that say which journal the database has; 2 means WAL.
const JOURNAL: std::ops::Range<usize> = 18..20;

/// The database of a standby, which no other program may write to.
#[derive(Debug)]
pub(super) struct Replica {
    path: PathBuf,
    db: Connection,
    /// Whether the write lock is held.
    held: bool,
    version: i64,
    mark: Mark,
    /// That of the present state.
    checksum: Checksum,
    /// Length of the database in pages.
    pages: u32,
    page_size: PageSize,
    position_file: Option<File>,
    /// Identity of the file that was opened.
    id: Option<FileId>,
    /// Length of the WAL in bytes at which the next attempt is made to empty it.
    trim_at: u64,
}

impl Replica {
    /// Opens the database and proves that no other program has changed it. A database without a
    /// mark gets one, with `made` as the time of its state and `checksum` as its checksum. Blocks
    /// its thread.
    pub(super) fn open(
        path: &Path,
        made: Option<Made>,
        checksum: Option<DatabaseChecksum>,
    ) -> Result<Replica, FollowError> {
        let db = connect(path)?;
        let failed = |cause| FollowError::Sqlite { what: "read", path: path.to_owned(), cause };
        let page_size = db.query_row("PRAGMA page_size", [], |r| r.get::<_, u32>(0)).map_err(failed)?;
        let page_size = PageSize::new(page_size).map_err(|_| not_followed(path))?;
        let mark = Mark { txid: Txid(0), made: None, sum: 0 };
        let path = path.to_owned();
        let id = FileId::at(&path).map_err(|cause| FollowError::File {
            what: "look at",
            path: path.clone(),
            cause,
        })?;
        let mut replica = Replica {
            path,
            db,
            held: false,
            version: 0,
            mark,
            checksum: Checksum::default(),
            pages: 0,
            page_size,
            position_file: None,
            id,
            trim_at: limits::FOLLOW_LOG_BYTES,
        };
        replica.lock()?;
        replica.version = replica.data_version()?;
        replica.pages = replica.page_count()?;
        let noted = replica.read(Pgno::FIRST)?.and_then(|page| Mark::of(&page));
        let sum;
        (sum, replica.checksum) = replica.sum()?;
        match noted {
            Some(noted) if noted.sum != sum => {
                Err(FollowError::Changed { path: replica.path, txid: noted.txid })
            }
            Some(noted) => {
                replica.mark = noted;
                replica.note_position()?;
                Ok(replica)
            }
            // The database comes from a restore, or Litestream has followed it.
            None => {
                let txid = position_beside(&replica.path)?.ok_or_else(|| not_followed(&replica.path))?;
                replica.mark = Mark { txid, made, sum };
                checksum.iter().for_each(|whole| replica.checksum.learn(*whole));
                let page = replica.read(Pgno::FIRST)?.ok_or_else(|| not_followed(&replica.path))?;
                replica.write_last(page, replica.pages)?;
                replica.batch("write to", "COMMIT")?;
                replica.settle()?;
                Ok(replica)
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn txid(&self) -> Txid {
        self.mark.txid
    }

    /// When the current state was made.
    pub(super) fn made(&self) -> Option<Made> {
        self.mark.made
    }

    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// Takes the checksum of the present state, if it is not known since the restart.
    pub(super) fn learn(&mut self, whole: DatabaseChecksum) {
        self.checksum.learn(whole);
    }

    /// Takes the write lock, if it is not held, and checks that no other program has written in the
    /// meantime.
    pub(super) fn lock(&mut self) -> Result<(), FollowError> {
        if self.held {
            return Ok(());
        }
        self.batch("lock", "BEGIN IMMEDIATE")?;
        self.held = true;
        let proven = self.prove();
        if proven.is_err() {
            self.roll_back();
        }
        proven
    }

    /// Checks that nothing has changed since the lock was released.
    fn prove(&mut self) -> Result<(), FollowError> {
        let version = self.data_version()?;
        if self.pages == 0 || version == self.version {
            return Ok(());
        }
        // A checkpoint that emptied the WAL also changes the version.
        if self.page_count()? != self.pages || self.sum()?.0 != self.mark.sum {
            return Err(FollowError::Changed { path: self.path.clone(), txid: self.mark.txid });
        }
        self.version = version;
        Ok(())
    }

    /// Starts to apply files. Without [`Apply::finish`] the database stays as it is.
    pub(super) fn apply(&mut self) -> Result<Apply<'_>, FollowError> {
        self.lock()?;
        Ok(Apply { sum: self.mark.sum, checksum: self.checksum, first: None, done: false, replica: self })
    }

    fn read(&self, pgno: Pgno) -> Result<Option<Vec<u8>>, FollowError> {
        let mut statement = self.db.prepare_cached(READ).map_err(|e| self.failed("read", e))?;
        let page = statement.query_row([pgno.get()], |row| row.get(0)).optional();
        page.map_err(|e| self.failed("read", e))
    }

    /// The share of a page in the sum and its hash (0 if there is no such page), and whether the
    /// page equals `with`.
    fn compare(&self, pgno: Pgno, with: &[u8]) -> Result<(u64, u64, bool), FollowError> {
        let mut statement = self.db.prepare_cached(READ).map_err(|e| self.failed("read", e))?;
        let found = statement.query_row([pgno.get()], |row| {
            let page = row.get_ref(0)?.as_blob()?;
            Ok((mark::share(pgno, page), page_hash(pgno, page), page == with))
        });
        Ok(found.optional().map_err(|e| self.failed("read", e))?.unwrap_or((0, 0, false)))
    }

    /// The sum of all pages, and the checksum of all but the first.
    fn sum(&self) -> Result<(u64, Checksum), FollowError> {
        let lock = self.page_size.lock_page();
        let sum = || {
            let mut statement = self.db.prepare("SELECT pgno, data FROM sqlite_dbpage")?;
            let mut rows = statement.query([])?;
            let (mut sum, mut checksum) = (0, Checksum::default());
            while let Some(row) = rows.next()? {
                if let Some(pgno) = Pgno::new(row.get(0)?).filter(|p| *p != lock) {
                    let page = row.get_ref(1)?.as_blob()?;
                    sum ^= mark::share(pgno, page);
                    checksum.toggle(pgno, page);
                }
            }
            Ok((sum, checksum))
        };
        sum().map_err(|e| self.failed("read", e))
    }

    /// Writes page 1 with the mark, and sets the length.
    fn write_last(&self, mut page: Vec<u8>, pages: u32) -> Result<(), FollowError> {
        page[JOURNAL].fill(2);
        self.mark.put(&mut page);
        self.write_first_page(&page, pages)
    }

    fn write_first_page(&self, page: &[u8], pages: u32) -> Result<(), FollowError> {
        // Preparing suffices and lasts until the end of the transaction: see the top of the module.
        drop(self.db.prepare(VACUUM_BY_HAND).map_err(|e| self.failed("write to", e))?);
        let written =
            self.db.prepare_cached(WRITE_LAST).and_then(|mut s| s.execute((page, i64::from(pages) + 1)));
        written.map(|_| ()).map_err(|e| self.failed("write to", e))
    }

    /// Finishes a commit: empties the cache of parsed pages, notes the position, and begins the
    /// next transaction.
    fn settle(&mut self) -> Result<(), FollowError> {
        self.held = false;
        self.batch("read", "PRAGMA shrink_memory")?;
        self.pages = self.page_count()?;
        self.note_position()?;
        self.lock()
    }

    /// Rolls back what was written since the last commit, whatever the state of the transaction.
    fn roll_back(&mut self) {
        // After a full disk SQLite has already rolled back by itself.
        let _ = self.db.execute_batch("ROLLBACK");
        let _ = self.db.execute_batch("PRAGMA shrink_memory");
        self.held = false;
    }

    /// Empties a WAL that readers have kept from starting over, if that is possible now.
    pub(super) fn trim_log(&mut self) -> Result<(), FollowError> {
        if self.log_bytes() < self.trim_at {
            return Ok(());
        }
        self.roll_back();
        // Readers of old states may prevent it; that is not an error.
        let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        self.trim_at = (self.log_bytes() * 2).max(limits::FOLLOW_LOG_BYTES);
        self.lock()
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(sibling(&self.path, "-wal")).map_or(0, |m| m.len())
    }

    /// Refuses to write if the path no longer has the file that was opened.
    pub(super) fn still_there(&self) -> Result<(), FollowError> {
        match FileId::at(&self.path) {
            Ok(id) if id == self.id => Ok(()),
            Ok(_) => Err(FollowError::Gone { path: self.path.clone() }),
            Err(cause) => Err(FollowError::File { what: "look at", path: self.path.clone(), cause }),
        }
    }

    /// Writes the position to the file where Litestream looks for it. The mark is authoritative.
    fn note_position(&mut self) -> Result<(), FollowError> {
        let path = position_path(&self.path);
        let file = match self.position_file.take() {
            Some(file) => Ok(file),
            None => Folder::open_beside(&path, Some(FOLLOW_MODE)),
        };
        let noted = file.and_then(|file| {
            file.pwrite_all(format!("{}\n", self.mark.txid).as_bytes(), 0)?;
            Ok(file)
        });
        self.position_file = Some(noted.map_err(|cause| FollowError::File { what: "write", path, cause })?);
        Ok(())
    }

    fn data_version(&self) -> Result<i64, FollowError> {
        self.db.query_row("PRAGMA data_version", [], |r| r.get(0)).map_err(|e| self.failed("read", e))
    }

    fn page_count(&self) -> Result<u32, FollowError> {
        self.db.query_row("PRAGMA page_count", [], |r| r.get(0)).map_err(|e| self.failed("read", e))
    }

    fn batch(&self, what: &'static str, sql: &str) -> Result<(), FollowError> {
        self.db.execute_batch(sql).map_err(|e| self.failed(what, e))
    }

    fn failed(&self, what: &'static str, cause: rusqlite::Error) -> FollowError {
        FollowError::Sqlite { what, path: self.path.clone(), cause }
    }

    /// Checks the database, clears the mark, and leaves an ordinary database. Returns its last
    /// position.
    pub(super) fn promote(self) -> Result<Txid, FollowError> {
        let check = "PRAGMA integrity_check(1)";
        let finding: String =
            self.db.query_row(check, [], |r| r.get(0)).map_err(|e| self.failed("check", e))?;
        if finding != "ok" {
            return Err(FollowError::Integrity { path: self.path, finding });
        }
        let txid = self.mark.txid;
        let mut page = self.read(Pgno::FIRST)?.ok_or_else(|| not_followed(&self.path))?;
        mark::clear(&mut page);
        self.write_first_page(&page, self.pages)?;
        self.batch("write to", "COMMIT")?;
        // Readers may keep the checkpoint from completing.
        let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let path = position_path(&self.path);
        std::fs::remove_file(&path).map_err(|cause| FollowError::File { what: "remove", path, cause })?;
        Ok(txid)
    }
}

/// Files that are being applied, from the newest to the oldest: the first image of a page counts.
#[derive(Debug)]
pub(super) struct Apply<'a> {
    replica: &'a mut Replica,
    sum: u64,
    checksum: Checksum,
    /// The new page 1.
    first: Option<Vec<u8>>,
    done: bool,
}

impl Apply<'_> {
    /// Refuses files of another page size.
    pub(super) fn page_size_is(&self, expected: PageSize) -> Result<(), FollowError> {
        let (path, found) = (self.replica.path.clone(), self.replica.page_size);
        if found == expected { Ok(()) } else { Err(FollowError::PageSize { path, found, expected }) }
    }

    /// Checks before the first page is written that the file system has enough room. It counts only
    /// the bytes by which the database grows: which of the other pages differ is known only when
    /// they arrive.
    pub(super) fn has_room_for(&self, pages: u32) -> Result<(), FollowError> {
        let Replica { pages: now, page_size, path, position_file, .. } = &*self.replica;
        let need = u64::from(pages.saturating_sub(*now)) * u64::from(page_size.get());
        match position_file.as_ref().and_then(File::free_space) {
            Some(free) if free < need => Err(RestoreError::NoRoom { path: path.clone(), need, free }.into()),
            _ => Ok(()),
        }
    }

    /// Writes a page. Each page may be written once.
    pub(super) fn page(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), FollowError> {
        assert_eq!(page.len(), self.replica.page_size.bytes(), "pages have the size of the database's");
        let (old, old_hash, same) = self.replica.compare(pgno, page)?;
        if pgno == Pgno::FIRST {
            self.checksum.set_first(page);
            let mut page = page.to_vec();
            page[JOURNAL].fill(2);
            self.sum ^= old ^ mark::share(pgno, &page);
            self.first = Some(page);
            return Ok(());
        }
        // This happens if a full image is applied to a database that has most of its pages.
        if same {
            return Ok(());
        }
        self.sum ^= old ^ mark::share(pgno, page);
        self.checksum.toggle_hash(pgno, old_hash);
        self.checksum.toggle(pgno, page);
        let written = self.replica.db.prepare_cached(WRITE).and_then(|mut s| s.execute((pgno.get(), page)));
        written.map(|_| ()).map_err(|e| self.replica.failed("write to", e))
    }

    /// Takes the pages out of the sums that the database loses when it gets this length. Call after
    /// all pages are written.
    pub(super) fn shorten(&mut self, pages: u32) -> Result<(), FollowError> {
        let lock = self.replica.page_size.lock_page();
        for pgno in (pages + 1..=self.replica.pages).filter_map(Pgno::new).filter(|p| *p != lock) {
            let (share, hash, _) = self.replica.compare(pgno, &[])?;
            self.sum ^= share;
            self.checksum.toggle_hash(pgno, hash);
        }
        Ok(())
    }

    /// The checksum of the state that [`Apply::finish`] commits.
    pub(super) fn checksum(&mut self) -> &mut Checksum {
        &mut self.checksum
    }

    /// Commits all pages at once. Call after [`Apply::shorten`].
    pub(super) fn finish(mut self, txid: Txid, made: Made, pages: u32) -> Result<(), FollowError> {
        let first = match self.first.take() {
            Some(page) => page,
            None => self.replica.read(Pgno::FIRST)?.ok_or_else(|| not_followed(&self.replica.path))?,
        };
        let before = self.replica.mark;
        self.replica.mark = Mark { txid, made: Some(made), sum: self.sum };
        let committed =
            self.replica.write_last(first, pages).and_then(|()| self.replica.batch("write to", "COMMIT"));
        if let Err(e) = committed {
            self.replica.mark = before;
            return Err(e);
        }
        self.done = true;
        self.replica.checksum = self.checksum;
        self.replica.settle()?;
        // I5: the state has exactly the pages that its files say.
        assert_eq!(self.replica.pages, pages, "the database is as long as its files say");
        self.replica.trim_log()
    }
}

impl Drop for Apply<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.replica.roll_back();
        }
    }
}

fn not_followed(path: &Path) -> FollowError {
    FollowError::NotFollowed { path: path.to_owned() }
}

/// The position in the file next to a database; `None` if there is no such file.
pub(super) fn position_beside(database: &Path) -> Result<Option<Txid>, FollowError> {
    let path = position_path(database);
    let text = match crate::io::read_small_itself(&path, 64) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(FollowError::File { what: "read", path, cause }),
    };
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let txid = u64::from_str_radix(&text, 16).ok().filter(|n| text.len() == 16 && *n <= TXID_MAX.0);
    txid.map(|n| Some(Txid(n))).ok_or_else(|| not_followed(database))
}

/// The position in the file next to a database; does not open the database.
#[must_use]
pub fn noted_position(database: &Path) -> Option<Txid> {
    position_beside(database).ok().flatten()
}

/// Whether a database is a standby, by the file next to it or by its mark. The database must not be
/// open in this process.
pub(super) fn is_followed_file(path: &Path) -> Result<bool, FollowError> {
    if position_beside(path)?.is_some() {
        return Ok(true);
    }
    let Ok(db) = connect(path) else { return Ok(false) };
    let page: Result<Vec<u8>, _> = db.query_row(READ, [1], |row| row.get(0));
    Ok(page.is_ok_and(|page| Mark::of(&page).is_some()))
}

fn connect(path: &Path) -> Result<Connection, FollowError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        // `SQLITE_DBCONFIG_DEFENSIVE` would forbid writing pages.
        crate::restore::integrity::distrust(&db)?;
        db.busy_timeout(BUSY)?;
        let has: bool = db.query_row(
            "SELECT count(*) FROM pragma_module_list WHERE name = 'sqlite_dbpage'",
            [],
            |row| row.get(0),
        )?;
        if !has {
            return Ok(None);
        }
        db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
        db.execute_batch("PRAGMA synchronous=NORMAL")?;
        Ok(Some(db))
    };
    match open() {
        Ok(Some(db)) => Ok(db),
        Ok(None) => Err(FollowError::NoDbpage),
        Err(cause) => Err(FollowError::Sqlite { what: "open", path: path.to_owned(), cause }),
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
