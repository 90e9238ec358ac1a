//! Whether a database file is as only SQLite has left it.

use std::io;
use std::os::unix::fs::MetadataExt;

use super::handle::Database;
use crate::sqlite::header::DbHeader;

/// What changes when a file is written to: its modification time, in nanoseconds, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Since 1970; 0 if that is not known.
    pub modified: i64,
    /// In bytes.
    pub len: u64,
}

impl Stamp {
    /// Of an open file.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of(file: &std::fs::File) -> io::Result<Stamp> {
        let m = file.metadata()?;
        let modified = m.mtime().saturating_mul(1_000_000_000).saturating_add(m.mtime_nsec());
        Ok(Stamp { modified, len: m.len() })
    }
}

impl Database {
    /// Whole pages in the database file; 0 if it is empty, as one that is about to be copied over.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn size_pages(&self) -> io::Result<u64> {
        Ok(self.file.len()? / u64::from(self.page_size.get()))
    }

    /// Whether the file begins with the header of a database whose pages have another size, as
    /// after a copy over it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn is_resized(&self) -> io::Result<bool> {
        let mut head = [0; 100];
        let have = self.file.pread(&mut head, 0)?;
        // What is no header (yet) says nothing.
        Ok(DbHeader::parse(&self.path, &head[..have]).is_ok_and(|h| h.page_size != self.page_size))
    }
}
