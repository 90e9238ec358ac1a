//! Whether a database file is as only SQLite has left it.

use std::io;
use std::os::unix::fs::MetadataExt;

use super::handle::Database;
use crate::sqlite::header::DbHeader;

/// What changes when a file is written to. Times are in nanoseconds since 1970; 0 if that is not
/// known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Modification time, which any program can set back.
    pub modified: i64,
    /// Length in bytes.
    pub len: u64,
    /// When the inode was last changed. No program can set it, but a new mode, owner or name
    /// changes it, too.
    pub changed: i64,
}

impl Stamp {
    /// Of an open file.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of(file: &std::fs::File) -> io::Result<Stamp> {
        let m = file.metadata()?;
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Ok(Stamp {
            modified: nanos(m.mtime(), m.mtime_nsec()),
            len: m.len(),
            changed: nanos(m.ctime(), m.ctime_nsec()),
        })
    }

    /// Whether the content may have changed since `before`, as far as `before` tells.
    #[must_use]
    pub fn differs(&self, before: &Stamp) -> bool {
        self.is_written(before) || before.changed != 0 && self.changed != before.changed
    }

    /// Whether the file was certainly written to since `before`.
    #[must_use]
    pub fn is_written(&self, before: &Stamp) -> bool {
        (self.modified, self.len) != (before.modified, before.len)
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
