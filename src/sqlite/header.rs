//! The header of a database file: the first 100 bytes of page 1, all fields big-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 16 | `SQLite format 3`, 0 |
//! | 16 | 2 | page size; 65536 is stored as 1 |
//! | 18 | 1 | format version for writing: 1 rollback journal, 2 WAL |
//! | 19 | 1 | format version for reading, likewise |
//! | 20 | 1 | unused bytes at the end of each page |
//! | 24 | 4 | change counter |
//! | 28 | 4 | size in pages, if it is not 0 and the change counter equals the field at 92 |
//! | 92 | 4 | change counter when the size was stored |

use std::path::{Path, PathBuf};

use crate::base::PageSize;
use crate::base::fields::Fields;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 100;

/// The first 16 bytes of every database file.
pub const MAGIC: [u8; 16] = *b"SQLite format 3\0";

/// Bytes between the format versions and the change counter: unused bytes at the end of each page,
/// and three fixed fractions.
const BEFORE_COUNTER: usize = 4;

/// Bytes between the size and the counter of its validity: 15 numbers that only SQLite needs.
const BEFORE_VALID_FOR: usize = 15 * 4;

/// Why a file is not a database that can be replicated. Each message begins with the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The file has no bytes: SQLite created it, and no transaction has committed yet.
    #[error("{} is empty: SQLite has made it, but nothing has been written to it yet", file.display())]
    Empty {
        /// The file, as the caller named it.
        file: PathBuf,
    },
    /// The file has some bytes, but fewer than the header.
    #[error("{} is not a SQLite database (it has only {found} bytes, the header takes 100)", file.display())]
    Short {
        /// The file, as the caller named it.
        file: PathBuf,
        /// Length of the file in bytes.
        found: usize,
    },
    /// The first 100 bytes are zeros, or all bytes of a shorter file.
    #[error("{} is not a SQLite database (it begins with zeros)", file.display())]
    Blank {
        /// The file, as the caller named it.
        file: PathBuf,
    },
    /// The first 16 bytes are not [`MAGIC`]. An encrypted database also ends here.
    #[error(
        "{} is not a SQLite database (its first 16 bytes are not the SQLite magic); an encrypted one can't be \
         followed",
        file.display()
    )]
    Magic {
        /// The file, as the caller named it.
        file: PathBuf,
    },
    /// The header's page size is not valid, so the header is damaged.
    #[error(
        "{} has page size {found} in its header, which is not a power of two from 512 to 65536: it is damaged",
        file.display()
    )]
    PageSize {
        /// The file, as the caller named it.
        file: PathBuf,
        /// The 16-bit value in the header.
        found: u16,
    },
    /// A format version in the header is unknown: a newer SQLite wrote it, or it is damaged.
    #[error(
        "{} has format versions {write}/{read}, only 1 and 2 are known: a newer SQLite wrote it, or it is damaged",
        file.display()
    )]
    Version {
        /// The file, as the caller named it.
        file: PathBuf,
        /// Format version for writing.
        write: u8,
        /// Format version for reading.
        read: u8,
    },
}

/// How commits reach the database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// Through a rollback journal. Such commits can't be replicated.
    Rollback,
    /// Through a WAL.
    Wal,
}

/// The header of a database file. In WAL mode it may be older than page 1 in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DbHeader {
    /// Bytes in a page.
    pub page_size: PageSize,
    /// Whether commits go through a rollback journal or a WAL.
    pub journal: Journal,
    /// Incremented by each transaction in rollback mode; seldom changes in WAL mode.
    pub change_counter: u32,
    /// Pages in the database. `None` if the field is out of date; then only the length of the file
    /// tells.
    pub size_pages: Option<u32>,
}

impl DbHeader {
    /// Reads the header from the first bytes of `file`. `bytes` may be longer than the header, and
    /// is shorter only if the file is.
    ///
    /// # Errors
    /// [`HeaderError`], whose message can be shown to the user as it is.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<DbHeader, HeaderError> {
        let name = || file.to_path_buf();
        if bytes.is_empty() {
            return Err(HeaderError::Empty { file: name() });
        }
        if bytes.iter().take(HEADER_BYTES).all(|b| *b == 0) {
            return Err(HeaderError::Blank { file: name() });
        }
        if bytes.first_chunk() != Some(&MAGIC) && bytes.len() >= MAGIC.len() {
            return Err(HeaderError::Magic { file: name() });
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(HeaderError::Short { file: name(), found: bytes.len() });
        };
        let mut fields = Fields::new(header);
        fields.skip(MAGIC.len());
        let (page_size, write, read) = (fields.be16(), fields.byte(), fields.byte());
        fields.skip(BEFORE_COUNTER);
        let (change_counter, size_pages) = (fields.be32(), fields.be32());
        fields.skip(BEFORE_VALID_FOR);
        let valid_for = fields.be32();
        let journal = match (write, read) {
            // SQLite itself decides by the version for reading, and treats 0 like 1.
            (0..=2, 0..=1) => Journal::Rollback,
            (0..=2, 2) => Journal::Wal,
            _ => return Err(HeaderError::Version { file: name(), write, read }),
        };
        Ok(DbHeader {
            page_size: PageSize::from_u16(page_size)
                .map_err(|_| HeaderError::PageSize { file: name(), found: page_size })?,
            journal,
            change_counter,
            size_pages: (size_pages != 0 && change_counter == valid_for).then_some(size_pages),
        })
    }

    /// Whether the database is in WAL mode.
    #[must_use]
    pub const fn is_wal(&self) -> bool {
        matches!(self.journal, Journal::Wal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(change: impl FnOnce(&mut [u8])) -> Result<DbHeader, String> {
        let mut bytes = vec![0u8; 512];
        bytes[..16].copy_from_slice(&MAGIC);
        bytes[16..20].copy_from_slice(&[16, 0, 2, 2]);
        bytes[27] = 9;
        bytes[31] = 3;
        bytes[95] = 9;
        change(&mut bytes);
        DbHeader::parse(Path::new("app.db"), &bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn fields() {
        let expected = DbHeader {
            page_size: PageSize::new(4096).unwrap(),
            journal: Journal::Wal,
            change_counter: 9,
            size_pages: Some(3),
        };
        assert_eq!(header(|_| {}), Ok(expected));
        assert!(expected.is_wal());
        let rollback = DbHeader { journal: Journal::Rollback, ..expected };
        assert_eq!(header(|b| b[18..20].fill(1)), Ok(rollback));
        assert!(!rollback.is_wal());
        assert_eq!(
            header(|b| b[16..18].copy_from_slice(&[0, 1])),
            Ok(DbHeader { page_size: PageSize::MAX, ..expected })
        );
        assert_eq!(header(|b| b[95] = 8), Ok(DbHeader { size_pages: None, ..expected }));
        assert_eq!(header(|b| b[31] = 0), Ok(DbHeader { size_pages: None, ..expected }));
    }

    #[test]
    fn messages_for_users() {
        assert_eq!(
            header(|b| b[0] = b's').unwrap_err(),
            "app.db is not a SQLite database (its first 16 bytes are not the SQLite magic); an encrypted one can't be \
             followed"
        );
        assert_eq!(
            header(|b| b[16..18].copy_from_slice(&[3, 0])).unwrap_err(),
            "app.db has page size 768 in its header, which is not a power of two from 512 to 65536: it is damaged"
        );
        assert_eq!(
            header(|b| b[19] = 3).unwrap_err(),
            "app.db has format versions 2/3, only 1 and 2 are known: a newer SQLite wrote it, or it is damaged"
        );
        let parse = |bytes: &[u8]| DbHeader::parse(Path::new("x"), bytes).unwrap_err().to_string();
        assert_eq!(parse(&[]), "x is empty: SQLite has made it, but nothing has been written to it yet");
        assert_eq!(parse(b"hello"), "x is not a SQLite database (it has only 5 bytes, the header takes 100)");
        assert_eq!(
            parse(b"hello, this is no database"),
            "x is not a SQLite database (its first 16 bytes are not the SQLite magic); an encrypted one can't be \
             followed"
        );
    }
}
