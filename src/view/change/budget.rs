//! A bound on the pages that are read.

use std::cell::Cell;
use std::sync::Arc;

use crate::view::btree::{BtreeError, Source};

/// Pages of a source, up to a number of them.
pub struct Budgeted<'a> {
    source: &'a dyn Source,
    max: u64,
    left: Cell<u64>,
}

impl<'a> Budgeted<'a> {
    /// Lets `max` pages be read. A page that is read again counts again.
    #[must_use]
    pub fn new(source: &'a dyn Source, max: u64) -> Budgeted<'a> {
        Budgeted { source, max, left: Cell::new(max) }
    }
}

impl Source for Budgeted<'_> {
    fn page_size(&self) -> usize {
        self.source.page_size()
    }

    fn page_count(&self) -> u32 {
        self.source.page_count()
    }

    fn page(&self, number: u32) -> Result<Arc<[u8]>, BtreeError> {
        let left = self.left.get().checked_sub(1).ok_or(BtreeError::TooMuch(self.max))?;
        self.left.set(left);
        self.source.page(number)
    }

    fn soon(&self, numbers: &[u32]) {
        self.source.soon(numbers);
    }
}
