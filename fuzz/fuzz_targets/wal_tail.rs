//! Any bytes as a live WAL under the reader that follows it: published frames, what is being
//! committed, the rest of an old
//! generation. No panic, no frame beyond the limit, and reading in pieces gives the same
//! position as reading at once.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use lsfast::base::{FrameNo, Salts};
use lsfast::io::File;
use lsfast::wal::index::{CheckpointInfo, HEADERS_BYTES, LEAD_BYTES, WalIndexHeader};
use lsfast::wal::checksum::{self, Sum};
use lsfast::wal::format::WalHeader;
use lsfast::wal::tail::{Ahead, Found, Tail, WalPos};

mod support;

thread_local! {
    static WAL: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// A file without a name, emptied for each input.
fn wal_file(bytes: &[u8]) -> File {
    WAL.with_borrow_mut(|kept| {
        let file = kept.get_or_insert_with(|| {
            let path = std::env::temp_dir().join(format!("lsfast-fuzz-{}", std::process::id()));
            let file = File::create_new(&path, 0o600).expect("a file in the temporary folder");
            let _ = std::fs::remove_file(&path);
            file
        });
        file.std().set_len(0).expect("an empty file");
        file.pwrite_all(bytes, 0).expect("room for some KiB");
        file.clone()
    })
}

/// Reads up to `limit` in pieces; returns the position and the frames taken.
fn read(wal: &File, header: &WalHeader, limit: FrameNo, piece: usize) -> (WalPos, u64, bool) {
    let mut tail = Tail::new(wal.clone(), header.page_size, header.salts);
    let mut commits = 0;
    let found = |commits: &mut u64, what: Found<'_>| {
        if let Found::Committed(n, run) = what {
            *commits += u64::from(n);
            assert!(run.last() <= limit);
        }
    };
    loop {
        match tail.read_to(limit, piece, |what| found(&mut commits, what)) {
            Ok(true) => return (tail.pos(), commits, true),
            Ok(false) => {}
            Err(_) => return (tail.pos(), commits, false),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [choice, limit, piece, rest @ ..] = input else { return };
    let Some((index, wal)) = rest.split_first_chunk::<LEAD_BYTES>() else { return };
    let (mut index, mut wal) = (*index, wal.to_vec());
    if choice % 2 == 1 {
        support::repair_wal(&mut wal);
        let sum = checksum::plain(cfg!(target_endian = "big"), Sum::ZERO, &index[..40]);
        index[40..44].copy_from_slice(&sum.0.to_ne_bytes());
        index[44..48].copy_from_slice(&sum.1.to_ne_bytes());
        index.copy_within(..48, 48);
    }
    let lead: &[u8; HEADERS_BYTES] = index.first_chunk().expect("a longer piece");
    let published = WalIndexHeader::parse(lead);
    let _ = CheckpointInfo::parse(index.last_chunk().expect("a longer piece"));

    let Ok(header) = WalHeader::parse(&wal) else { return };
    let file = wal_file(&wal);
    let limit = FrameNo(u32::from(*limit));
    let piece = 1 + usize::from(*piece) * 256;
    let whole = read(&file, &header, limit, usize::MAX);
    let pieces = read(&file, &header, limit, piece);
    assert_eq!((whole.0, whole.2), (pieces.0, pieces.2));

    let mut tail = Tail::new(file.clone(), header.page_size, header.salts);
    let _ = tail.read_to(whole.0.frame, usize::MAX, |_| {});
    if let Ok(published) = published {
        let _ = tail.check_published(&published);
    }
    let _ = tail.stands();
    let _ = tail.is_followed();
    let _ = tail.peek(1 + usize::from(choice / 2), |run| run.last());
    let new = Salts { one: header.salts.one.wrapping_add(1), two: u32::from(*choice) };
    let ahead = Ahead::read(&file, header.page_size, tail.last(), 4096).expect("a file that can be read");
    let _ = tail.walk_on(new, Some(&ahead).filter(|_| choice % 4 > 1), |_| {});
});
