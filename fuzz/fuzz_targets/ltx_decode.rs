//! Any bytes as an LTX file, read as a stream, in order and by the index: no panic, and the
//! same answer.
//!
//! With the first byte odd, checksums are repaired first, so that files get beyond them. What
//! the stream accepts, the
//! index may only refuse because of the index.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsfast::base::Pgno;
use lsfast::ltx::{
    Decoder, FileCheck, FileEnd, FrameWalk, Header, LtxError, Next, Step, Tail, TailState, Trailer,
    decode_frames, encode_file,
};

type Pages = Vec<(Pgno, Vec<u8>)>;

fn stream(bytes: &[u8], piece: usize) -> Result<(Header, Pages, Trailer), LtxError> {
    let (mut decoder, mut header, mut pages) = (Decoder::new(), None, Pages::new());
    for mut input in bytes.chunks(piece) {
        loop {
            match decoder.step(&mut input)? {
                Step::NeedInput => break,
                Step::Header => header = decoder.header().copied(),
                Step::Page(pgno) => pages.push((pgno, decoder.page().to_vec())),
            }
        }
        assert!(input.is_empty());
    }
    let trailer = decoder.finish()?;
    Ok((header.expect("a proven file has a header"), pages, trailer))
}

fn ranges(bytes: &[u8], frames: usize) -> Result<(Header, Pages, Trailer), LtxError> {
    let mut last = 0;
    let tail = loop {
        match Tail::parse(bytes.len() as u64, &bytes[bytes.len() - last..])? {
            TailState::Parsed(tail) => break tail,
            TailState::NeedMore(n) => {
                assert!(n as usize > last && n as usize <= bytes.len());
                last = n as usize;
            }
        }
    };
    let mut check = FileCheck::new(bytes.first_chunk().expect("a tail means a long file"))?;
    let (header, mut pages) = (*check.header(), Pages::new());
    for entries in tail.index.chunks(frames) {
        let sink = |pgno, page: &[u8]| pages.push((pgno, page.to_vec()));
        check.add(&decode_frames(&header, bytes, 0, entries, sink)?)?;
    }
    let trailer = check.finish(&tail)?;
    Ok((header, pages, trailer))
}

/// Reads in order, a frame at a time, without the index.
fn in_order(bytes: &[u8], piece: usize) -> Result<(Header, Pages, Trailer), LtxError> {
    let cut = || LtxError::Truncated { len: bytes.len() as u64, part: "pages" };
    let mut check = FileCheck::new(bytes.first_chunk().ok_or_else(cut)?)?;
    let (header, mut pages) = (*check.header(), Pages::new());
    let mut walk = FrameWalk::new(&header);
    loop {
        let rest = &bytes[walk.offset() as usize..];
        match walk.step(rest)? {
            Next::Frame(entry) => {
                let sink = |n: Pgno, page: &[u8]| pages.push((n, page.to_vec()));
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

/// Writes the checksums that the file should have.
fn repair(bytes: &mut [u8]) {
    for _ in 0..3 {
        let at = bytes.len().saturating_sub(16);
        match stream(bytes, usize::MAX) {
            Err(LtxError::FileChecksum { computed, .. }) => {
                bytes[at + 8..].copy_from_slice(&computed.to_be_bytes());
            }
            Err(LtxError::PostApply { computed, .. }) => {
                bytes[at..at + 8].copy_from_slice(&computed.to_be_bytes());
            }
            _ => return,
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [choice, cut, file @ ..] = input else { return };
    let mut file = file.to_vec();
    if choice % 2 == 1 {
        repair(&mut file);
    }
    let whole = stream(&file, usize::MAX);
    let pieces = stream(&file, 1 + usize::from(*cut));
    match (&whole, in_order(&file, 1 + usize::from(*cut))) {
        (Ok(whole), Ok(walked)) => assert_eq!(whole, &walked),
        (whole, walked) => assert!(whole.is_err() && walked.is_err(), "{whole:?}\n{walked:?}"),
    }
    let indexed = ranges(&file, 1 + usize::from(choice / 2));
    match (whole, pieces, indexed) {
        (Ok(whole), Ok(pieces), indexed) => {
            assert_eq!(whole, pieces);
            match indexed {
                Ok(indexed) => assert_eq!(whole, indexed),
                Err(e) => assert!(e.is_index_fault(), "{e}"),
            }
            let (header, pages, _) = whole;
            if header.no_checksum && header.commit != 0 {
                let lend = pages.iter().map(|(pgno, page)| (*pgno, &page[..]));
                let again = encode_file(&header, lend).expect("what was read can be written");
                assert_eq!(ranges(&again, 3).expect("what was written can be read").1, pages);
            }
        }
        (Err(_), Err(_), Err(_)) => {}
        (whole, pieces, indexed) => panic!("{whole:?}\n{pieces:?}\n{indexed:?}"),
    }
});
