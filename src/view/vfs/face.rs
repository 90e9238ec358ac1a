//! What SQLite asks of a file that it can only read.

use std::fmt;

/// A database file that SQLite reads.
///
/// An error has no text here: SQLite knows only a number. The file keeps the text for the pragma
/// that asks for it.
pub trait DatabaseFile: Send {
    /// Bytes of the file.
    ///
    /// # Errors
    /// [`Failed`], if the state cannot be opened.
    fn size(&mut self) -> Result<u64, Failed>;

    /// Fills `out` with the bytes from `offset` on, all of which lie in the file.
    ///
    /// # Errors
    /// [`Failed`], if a page cannot be read.
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), Failed>;

    /// A transaction begins.
    ///
    /// # Errors
    /// [`Failed`], if the state cannot be opened.
    fn begin(&mut self) -> Result<(), Failed>;

    /// The transaction has ended.
    fn end(&mut self);

    /// Answers `PRAGMA name` or `PRAGMA name = value`.
    fn pragma(&mut self, name: &str, value: Option<&str>) -> Answer;
}

/// SQLite gets an I/O error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// The answer to a pragma.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The pragma is SQLite's own, or unknown.
    Unknown,
    /// One row with one text.
    Text(String),
    /// An error with its message.
    Error(String),
}

/// Opens database files by the names in `file:NAME?parameter=value`.
pub trait Opener: Send + Sync + fmt::Debug {
    /// Opens a file. `parameter` returns the value of a parameter of the URI.
    ///
    /// # Errors
    /// [`Failed`]: SQLite cannot open the database.
    fn open(
        &self,
        name: &str,
        parameter: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Box<dyn DatabaseFile>, Failed>;
}
