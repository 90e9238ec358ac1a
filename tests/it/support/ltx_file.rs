//! Whole LTX files in memory, read in each way that the library has.

use std::collections::BTreeMap;

use lsfast::base::{PageSize, Pgno};
use lsfast::ltx::{
    Decoder, FileCheck, Header, LtxError, LtxReader, Merge, PageSource, Step, Tail, TailState, Trailer,
    decode_frames,
};

/// Pages by number.
pub type Pages = BTreeMap<u32, Vec<u8>>;

/// A file that has been read and proven.
#[derive(Debug, Clone, PartialEq)]
pub struct LtxFile {
    pub header: Header,
    pub pages: Pages,
    pub trailer: Trailer,
}

/// Reads a stream that comes in pieces of `piece` bytes.
pub fn stream(bytes: &[u8], piece: usize) -> Result<LtxFile, LtxError> {
    let (mut decoder, mut header, mut pages) = (Decoder::new(), None, Pages::new());
    for mut input in bytes.chunks(piece) {
        loop {
            match decoder.step(&mut input)? {
                Step::NeedInput => break,
                Step::Header => header = decoder.header().copied(),
                Step::Page(pgno) => {
                    assert!(pages.insert(pgno.get(), decoder.page().to_vec()).is_none());
                }
            }
        }
        assert!(input.is_empty(), "input left although more was asked for");
    }
    let trailer = decoder.finish()?;
    Ok(LtxFile { header: header.expect("a proven file has a header"), pages, trailer })
}

/// Reads the end first, then ranges of `frames` frames, last range first.
pub fn ranges(bytes: &[u8], frames: usize) -> Result<LtxFile, LtxError> {
    let size = bytes.len() as u64;
    let mut last = 0;
    let tail = loop {
        match Tail::parse(size, &bytes[bytes.len() - last..])? {
            TailState::Parsed(tail) => break tail,
            TailState::NeedMore(n) => {
                assert!(n as usize > last && n <= size, "asks for {n} of {size} bytes, has {last}");
                last = n as usize;
            }
        }
    };
    let mut check = FileCheck::new(bytes.first_chunk().expect("a parsed tail means a long file"))?;
    let header = *check.header();
    let mut pages = Pages::new();
    let mut parts = Vec::new();
    for entries in tail.index.chunks(frames).rev() {
        let (from, to) = (entries[0].offset, entries[entries.len() - 1].end());
        let range = &bytes[from as usize..to as usize];
        parts.push(decode_frames(&header, range, from, entries, |pgno, page| {
            assert!(pages.insert(pgno.get(), page.to_vec()).is_none());
        })?);
    }
    for part in parts.iter().rev() {
        check.add(part)?;
    }
    let trailer = check.finish(&tail)?;
    Ok(LtxFile { header, pages, trailer })
}

/// Merges files in memory.
pub fn merge(files: &[&[u8]]) -> Result<(Header, Pages), LtxError> {
    let sources = files.iter().map(|f| LtxReader::new(*f)).collect::<Result<Vec<_>, _>>()?;
    let mut merge = Merge::new(sources)?;
    let mut pages = Pages::new();
    while let Some((pgno, page)) = merge.next_page()? {
        pages.insert(pgno.get(), page.to_vec());
    }
    let header = *merge.header();
    for source in merge.into_sources() {
        assert!(source.trailer().is_some(), "{:?} was not read to its end", source.header());
    }
    Ok((header, pages))
}

/// The database file that these pages make, the lock page as zeros.
pub fn image(page_size: PageSize, commit: u32, pages: &Pages) -> Vec<u8> {
    let mut image = Vec::with_capacity(commit as usize * page_size.bytes());
    for pgno in 1..=commit {
        match pages.get(&pgno) {
            Some(page) => image.extend_from_slice(page),
            None => {
                assert_eq!(Pgno::new(pgno), Some(page_size.lock_page()), "page {pgno} is missing");
                image.resize(image.len() + page_size.bytes(), 0);
            }
        }
    }
    image
}

/// As the encoder takes them.
pub fn lend(pages: &Pages) -> impl ExactSizeIterator<Item = (Pgno, &[u8])> {
    pages.iter().map(|(&n, page)| (Pgno::new(n).expect("pages count from 1"), &page[..]))
}
