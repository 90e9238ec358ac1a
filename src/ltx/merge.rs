//! Merges several files into one stream of pages: the newest version of each page.
//!
//! Inputs are in TXID order. Each begins at most one TXID after the end of the one before (they may
//! overlap) and ends later. Pages above the last commit are left out. A page that a shrink in
//! between cut off does not return in its older version: when the database grew again, the file of
//! that transaction has the page.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Header, LtxError, WalRange};
use crate::base::Pgno;

/// A source of pages in ascending order, one at a time.
pub trait PageSource {
    /// Header of the file.
    fn header(&self) -> &Header;

    /// Moves to the next page. `None` means that there are no more pages and that the file is
    /// verified.
    ///
    /// # Errors
    /// Any damage of the file.
    fn advance(&mut self) -> Result<Option<Pgno>, LtxError>;

    /// The page of the last [`PageSource::advance`].
    fn page(&self) -> &[u8];
}

impl<S: PageSource + ?Sized> PageSource for Box<S> {
    fn header(&self) -> &Header {
        (**self).header()
    }

    fn advance(&mut self) -> Result<Option<Pgno>, LtxError> {
        (**self).advance()
    }

    fn page(&self) -> &[u8] {
        (**self).page()
    }
}

/// One input and the state of the merge in it.
struct Input<S> {
    source: S,
    /// Smallest commit from this input to the last. Later inputs have cut off its pages above that.
    ceiling: u32,
    last: Option<Pgno>,
}

/// A merge in progress. It holds one page per input.
pub struct Merge<S> {
    inputs: Vec<Input<S>>,
    header: Header,
    /// The next page of each input. The lowest page comes out first, and from its newest input.
    heads: BinaryHeap<Reverse<(Pgno, Reverse<usize>)>>,
    /// Index of the input whose page is lent out.
    lent: Option<usize>,
}

impl<S: PageSource> Merge<S> {
    /// Starts a merge of files in TXID order.
    ///
    /// # Errors
    /// There are no files, gaps between them or different page sizes, or an input fails.
    pub fn new(sources: Vec<S>) -> Result<Merge<S>, LtxError> {
        let header = merged_header(&sources)?;
        let mut ceiling = u32::MAX;
        let mut inputs: Vec<_> = sources
            .into_iter()
            .rev()
            .map(|source| {
                ceiling = ceiling.min(source.header().commit);
                Input { source, ceiling, last: None }
            })
            .collect();
        inputs.reverse();
        let heads = BinaryHeap::with_capacity(inputs.len());
        let mut merge = Merge { inputs, header, heads, lent: None };
        for i in 0..merge.inputs.len() {
            merge.advance(i)?;
        }
        Ok(merge)
    }

    /// Header of the merged file, ready for an encoder.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next page. Once this returns `None`, every input has been read to its end and is proven.
    ///
    /// # Errors
    /// Any damage of an input.
    pub fn next_page(&mut self) -> Result<Option<(Pgno, &[u8])>, LtxError> {
        if let Some(i) = self.lent.take() {
            self.advance(i)?;
        }
        while let Some(Reverse((pgno, Reverse(newest)))) = self.heads.pop() {
            while let Some(&Reverse((other, Reverse(older)))) = self.heads.peek()
                && other == pgno
            {
                self.heads.pop();
                self.advance(older)?;
            }
            if pgno.get() <= self.inputs[newest].ceiling {
                self.lent = Some(newest);
                return Ok(Some((pgno, self.inputs[newest].source.page())));
            }
            self.advance(newest)?;
        }
        Ok(None)
    }

    /// The inputs, in the given order.
    #[cfg(feature = "internals")]
    pub fn into_sources(self) -> impl Iterator<Item = S> {
        self.inputs.into_iter().map(|i| i.source)
    }

    fn advance(&mut self, i: usize) -> Result<(), LtxError> {
        let input = &mut self.inputs[i];
        if let Some(found) = input.source.advance()? {
            if let Some(last) = input.last
                && found <= last
            {
                return Err(LtxError::PageOrder { last, found });
            }
            input.last = Some(found);
            self.heads.push(Reverse((found, Reverse(i))));
        }
        Ok(())
    }
}

/// Checks that the inputs follow each other, and creates the header of the result.
fn merged_header<S: PageSource>(sources: &[S]) -> Result<Header, LtxError> {
    let (Some(first), Some(last)) = (sources.first(), sources.last()) else {
        return Err(LtxError::NothingToMerge);
    };
    for pair in sources.windows(2) {
        let (before, after) = (pair[0].header(), pair[1].header());
        if before.page_size != after.page_size {
            let (before, after) = (before.page_size.get(), after.page_size.get());
            return Err(LtxError::PageSizeChanges { before, after });
        }
        // I4: the TXIDs of the result are contiguous.
        if after.min.0 > before.max.0.saturating_add(1) || after.max <= before.max {
            return Err(LtxError::NotContiguous { previous: before.max, min: after.min, max: after.max });
        }
    }
    let (first, last) = (first.header(), last.header());
    let range = (first.min, last.max);
    let header = Header::new(first.page_size, last.commit, range, last.timestamp, WalRange::default());
    // The database after the merged file is the one after its last input.
    Ok(Header { checksum: last.checksum, ..header })
}
