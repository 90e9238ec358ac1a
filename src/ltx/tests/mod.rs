//! Tests against a simple model, and tests of the rules that every good file keeps.

mod model;
mod rules;

use std::collections::BTreeMap;

use super::*;
use crate::base::clock::Millis;
use crate::base::{PageSize, Pgno, Txid};

/// Pages by number: the content of a file.
type Pages = BTreeMap<u32, Vec<u8>>;

fn size(bytes: u32) -> PageSize {
    PageSize::new(bytes).unwrap()
}

fn page(n: u32) -> Pgno {
    Pgno::new(n).unwrap()
}

fn header(page_size: PageSize, commit: u32, min: u64, max: u64) -> Header {
    let timestamp = Millis(1_000_000 + max.cast_signed());
    Header::new(page_size, commit, (Txid(min), Txid(max)), timestamp, WalRange::default())
}

fn lend(pages: &Pages) -> impl ExactSizeIterator<Item = (Pgno, &[u8])> {
    pages.iter().map(|(&n, bytes)| (page(n), &bytes[..]))
}

/// Decodes a stream that is cut into pieces of the lengths in `cuts`, over and over.
fn stream(bytes: &[u8], cuts: &[usize]) -> Result<(Header, Pages, Trailer), LtxError> {
    let (mut decoder, mut header, mut pages) = (Decoder::new(), None, Pages::new());
    let (mut rest, mut cuts) = (bytes, cuts.iter().cycle());
    while !rest.is_empty() {
        let (mut input, after) = rest.split_at((*cuts.next().unwrap()).clamp(1, rest.len()));
        rest = after;
        loop {
            match decoder.step(&mut input)? {
                Step::NeedInput => break,
                Step::Header => header = decoder.header().copied(),
                Step::Page(n) => drop(pages.insert(n.get(), decoder.page().to_vec())),
            }
        }
    }
    let trailer = decoder.finish()?;
    Ok((header.unwrap(), pages, trailer))
}

/// Decodes by the index, `frames` frames at a time.
fn ranges(bytes: &[u8], frames: usize) -> Result<(Header, Pages, Trailer), LtxError> {
    let tail = match Tail::parse(bytes.len() as u64, bytes)? {
        TailState::Parsed(tail) => tail,
        TailState::NeedMore(n) => panic!("{n} of {} bytes wanted", bytes.len()),
    };
    let mut check = FileCheck::new(bytes.first_chunk().unwrap())?;
    let (header, mut pages) = (*check.header(), Pages::new());
    for entries in tail.index.chunks(frames) {
        let sink = |n: Pgno, bytes: &[u8]| drop(pages.insert(n.get(), bytes.to_vec()));
        check.add(&decode_frames(&header, bytes, 0, entries, sink)?)?;
    }
    let trailer = check.finish(&tail)?;
    Ok((header, pages, trailer))
}

/// Decodes in order, one frame at a time, without the index.
fn in_order(bytes: &[u8], piece: usize) -> Result<(Header, Pages, Trailer), LtxError> {
    let cut = || LtxError::Truncated { len: bytes.len() as u64, part: "pages" };
    let mut check = FileCheck::new(bytes.first_chunk().ok_or_else(cut)?)?;
    let (header, mut pages) = (*check.header(), Pages::new());
    let mut walk = FrameWalk::new(&header);
    loop {
        let rest = &bytes[walk.offset() as usize..];
        match walk.step(rest)? {
            Next::Frame(entry) => {
                let sink = |n: Pgno, page: &[u8]| drop(pages.insert(n.get(), page.to_vec()));
                check.add(&decode_frames(&header, rest, entry.offset, &[entry], sink)?)?;
            }
            Next::Need(n) => {
                assert!(n > rest.len());
                return Err(cut());
            }
            Next::End => break,
        }
    }
    let mut end = FileEnd::new(&walk);
    for piece in bytes[walk.offset() as usize..].chunks(piece) {
        end.push(piece);
    }
    let trailer = check.finish_in_order(end)?;
    Ok((header, pages, trailer))
}

fn merge(files: &[Vec<u8>]) -> Result<(Header, Pages), LtxError> {
    let sources = files.iter().map(|f| LtxReader::new(&f[..])).collect::<Result<Vec<_>, _>>()?;
    let mut merge = Merge::new(sources)?;
    let mut pages = Pages::new();
    while let Some((n, bytes)) = merge.next_page()? {
        pages.insert(n.get(), bytes.to_vec());
    }
    Ok((*merge.header(), pages))
}
