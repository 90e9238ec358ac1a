//! What a reader of pages offers.

use std::sync::Arc;

use super::ViewError;
use crate::base::Txid;
use crate::base::clock::Millis;
use crate::restore::Until;

/// One state of a database: pages by number.
pub trait Pages {
    /// Bytes of a page.
    fn page_size(&self) -> u32;

    /// Pages of the database.
    fn page_count(&self) -> u32;

    /// The page `number`, counted from 1. The page with SQLite's lock bytes is all zeros.
    ///
    /// # Errors
    /// [`ViewError`], if the page cannot be read or is beyond the end.
    fn page(&mut self, number: u32) -> Result<Arc<[u8]>, ViewError>;
}

/// Selects a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum At {
    /// The newest one.
    #[default]
    Newest,
    /// The newest one that was stored strictly before this time.
    Time(Millis),
    /// The one that ends with this TXID.
    Txid(Txid),
}

impl From<At> for Until {
    fn from(at: At) -> Until {
        match at {
            At::Newest => Until::Newest,
            At::Time(time) => Until::Before(time),
            At::Txid(txid) => Until::Txid(txid),
        }
    }
}
