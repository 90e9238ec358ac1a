//! The database file that is to become a state of the replica.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::base::checksum::page_hash;
use crate::base::{DatabaseChecksum, PageSize, Pgno, limits};
use crate::io::{File, durable};
use crate::restore::{LOCK_BYTES, RestoreError, Target};
use crate::sqlite::header::{DbHeader, HEADER_BYTES};

/// An existing database that no other process uses, locked, with the hash of each of its pages.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) page_size: PageSize,
    /// Number of pages.
    pub(super) pages: u32,
    /// Hash of each page, that of page 1 first; 0 for the lock page.
    pub(super) hashes: Vec<u64>,
    /// Checksum of the whole file.
    pub(super) sum: DatabaseChecksum,
    /// What `fstat` said before the file was read.
    stat: Metadata,
}

/// The file, or why it cannot be changed page by page.
#[derive(Debug)]
pub(super) enum Opened {
    Ready(Box<Local>),
    /// The reason, as a clause.
    Odd(String),
}

impl Local {
    /// Locks and reads the file. Blocks its thread.
    pub(super) fn open(target: &Target) -> Result<Opened, RestoreError> {
        let path = target.path().to_owned();
        let failed = |what| move |e| RestoreError::output(what, target.path(), 0, e);
        let file = File::open_rw_itself(&path).map_err(failed("open"))?;
        let (from, len) = LOCK_BYTES;
        if !file.have_range(from, len).map_err(failed("lock"))? {
            let by = file.locked_by(from, len).ok().flatten();
            return Err(RestoreError::InUse { path, by: by.unwrap_or_else(|| "another process".to_owned()) });
        }
        let stat = file.metadata().map_err(failed("look at"))?;
        settled(&path)?;
        let mut head = vec![0; HEADER_BYTES];
        let have = file.pread(&mut head, 0).map_err(failed("read"))?;
        head.truncate(have);
        let header = DbHeader::parse(&path, &head)
            .map_err(|cause| RestoreError::NotADatabase { path: path.clone(), cause: cause.to_string() })?;
        let (page_size, bytes) = (header.page_size, u64::from(header.page_size.get()));
        let whole = stat.len().is_multiple_of(bytes).then(|| u32::try_from(stat.len() / bytes).ok());
        let Some(pages) = whole.flatten() else {
            let why =
                format!("its length of {} bytes is not a number of pages of {page_size} bytes", stat.len());
            return Ok(Opened::Odd(why));
        };
        if stat.nlink() > 1 {
            // SQLite finds a journal by the name under which it opens the file.
            return Ok(Opened::Odd(
                "it has a second name, under which a journal would not be found".to_owned(),
            ));
        }
        let hashes = hashes(&file, page_size, pages).map_err(failed("read"))?;
        let sum = DatabaseChecksum(hashes.iter().fold(0, |sum, hash| sum ^ hash));
        Ok(Opened::Ready(Box::new(Local { file, path, page_size, pages, hashes, sum, stat })))
    }

    /// Hash of a page; `None` beyond the end.
    pub(super) fn hash(&self, pgno: Pgno) -> Option<u64> {
        self.hashes.get(pgno.index()).copied()
    }

    /// Modification time, in milliseconds since 1970.
    pub(super) fn modified_ms(&self) -> i64 {
        self.stat.mtime().saturating_mul(1000).saturating_add(self.stat.mtime_nsec() / 1_000_000)
    }

    /// Fails if the file was changed or replaced since it was read, or got a journal or a WAL.
    pub(super) fn is_unchanged(&self) -> Result<(), RestoreError> {
        let failed = |e| RestoreError::output("look at", &self.path, 0, e);
        // The time of modification can be set back, that of the change of the inode cannot.
        let of =
            |m: &Metadata| (m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        let now = self.file.metadata().map_err(failed)?;
        let named = std::fs::symlink_metadata(&self.path).map_err(failed)?;
        if of(&now) != of(&self.stat) || of(&named) != of(&self.stat) {
            return Err(RestoreError::Changed { path: self.path.clone() });
        }
        settled(&self.path)
    }

    /// A file next to the database.
    pub(super) fn sibling(&self, suffix: &str) -> PathBuf {
        sibling(&self.path, suffix)
    }

    /// Mode, owner and group of the file.
    pub(super) fn stat(&self) -> &Metadata {
        &self.stat
    }

    /// The directory of the database.
    pub(super) fn folder(&self) -> &Path {
        durable::directory_of(&self.path)
    }
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}

/// Fails if the file is not the whole database: a WAL has transactions that are not in it yet, or a
/// journal has pages that SQLite would roll back.
fn settled(path: &Path) -> Result<(), RestoreError> {
    let wal = sibling(path, "-wal");
    if length(&wal)? > 0 {
        return Err(RestoreError::Unsettled { path: path.to_owned(), beside: wal, wal: true });
    }
    let journal = sibling(path, "-journal");
    if length(&journal)? > 0 {
        // SQLite leaves a journal that begins with zeros where `journal_mode` is PERSIST.
        let file =
            File::open_itself(&journal).map_err(|e| RestoreError::output("look at", &journal, 0, e))?;
        let mut first = [0];
        let have = file.pread(&mut first, 0).map_err(|e| RestoreError::output("read", &journal, 0, e))?;
        if have == 1 && first != [0] {
            return Err(RestoreError::Unsettled { path: path.to_owned(), beside: journal, wal: false });
        }
    }
    Ok(())
}

/// Length of a file, 0 if it is missing.
fn length(path: &Path) -> Result<u64, RestoreError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(RestoreError::output("look at", path, 0, e)),
    }
}

fn hashes(file: &File, page_size: PageSize, pages: u32) -> io::Result<Vec<u64>> {
    let lock = page_size.lock_page();
    let per_read = (limits::RESTORE_WRITE_BYTES / page_size.bytes()).max(1);
    let mut buffer = vec![0; per_read * page_size.bytes()];
    let mut hashes = Vec::with_capacity(pages as usize);
    while hashes.len() < pages as usize {
        let count = per_read.min(pages as usize - hashes.len());
        let bytes = &mut buffer[..count * page_size.bytes()];
        file.pread_exact(bytes, hashes.len() as u64 * u64::from(page_size.get()))?;
        for page in bytes.chunks_exact(page_size.bytes()) {
            let pgno = Pgno::new(hashes.len() as u32 + 1).unwrap_or(Pgno::FIRST);
            hashes.push(if pgno == lock { 0 } else { page_hash(pgno, page) });
        }
    }
    Ok(hashes)
}
