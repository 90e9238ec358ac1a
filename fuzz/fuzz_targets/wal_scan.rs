//! Any bytes as a log, scanned whole and in pieces: no panic, and the same answer.
//!
//! With the first byte odd, checksums and salts are repaired first, so that the walk gets
//! beyond frame 1.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsfast::base::FrameNo;
use lsfast::sqlite::header::DbHeader;
use lsfast::wal::index::{HEADERS_BYTES, WalIndexHeader};
use lsfast::wal::format::{WalHeader, frame_bytes};
use lsfast::wal::frames::{Chain, End};

mod support;

/// The runs as (first frame, last frame, size), the position after the last valid frame, and
/// the end.
fn scan(log: &[u8], limit: FrameNo, piece: usize) -> Option<(Vec<(u32, u32, u32)>, Chain, End)> {
    let mut chain = Chain::start(&WalHeader::parse(log).ok()?);
    let (mut runs, mut begun) = (Vec::new(), None);
    loop {
        let rest = log.get(chain.offset() as usize..).unwrap_or_default();
        let piece = &rest[..piece.min(rest.len())];
        let mut scan = chain.scan(piece, limit);
        for run in &mut scan {
            let first = begun.take().unwrap_or(run.first().0);
            runs.push((first, run.last().0, run.size_pages));
            for (no, _, page) in run.frames() {
                assert_eq!(page.len(), chain.page_size.bytes());
                assert!(no <= limit);
            }
        }
        let scanned = scan.finish();
        if let Some((no, ..)) = scanned.open.clone().next() {
            begun.get_or_insert(no.0);
        }
        chain = scanned.after_valid;
        if piece.len() < rest.len() && matches!(scanned.end, End::NeedBytes { .. }) {
            continue;
        }
        return Some((runs, chain, scanned.end));
    }
}

fuzz_target!(|input: &[u8]| {
    let [choice, limit, frames, log @ ..] = input else { return };
    let mut log = log.to_vec();
    if choice % 2 == 1 {
        support::repair_wal(&mut log);
    }
    let limit = FrameNo(u32::from(*limit));
    let whole = scan(&log, limit, usize::MAX);
    if let Ok(header) = WalHeader::parse(&log) {
        let piece = frame_bytes(header.page_size) * (1 + usize::from(*frames) % 4) + usize::from(choice / 2);
        assert_eq!(scan(&log, limit, piece), whole);
    }
    if let Some(lead) = log.first_chunk::<HEADERS_BYTES>() {
        let _ = WalIndexHeader::parse(lead);
    }
    let _ = DbHeader::parse("fuzz".as_ref(), &log);
});
