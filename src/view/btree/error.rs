//! Why a b-tree could not be read.

/// Why a b-tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtreeError {
    /// A page contradicts the file format of SQLite.
    #[error("page {page} of the database is damaged: {what}")]
    Damaged {
        page: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The page could not be had.
    #[error(transparent)]
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// SQLite refused to describe a table.
    #[error("the schema cannot be read: {0}")]
    Schema(String),
    /// More had to be read than the caller allows.
    #[error("more than {0} pages would have to be read")]
    TooMuch(u64),
}

impl BtreeError {
    /// The error of a page that contradicts the file format.
    #[must_use]
    pub fn damaged(page: u32, what: &'static str) -> BtreeError {
        BtreeError::Damaged { page, what }
    }
}
