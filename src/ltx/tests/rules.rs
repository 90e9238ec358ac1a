//! Single rules of the format, each broken once.

use super::*;
use crate::base::DatabaseChecksum;
use crate::ltx::decode::page_checksum;

#[test]
fn header_rules() {
    let good = header(size(4096), 7, 2, 5);
    assert_eq!(Header::parse(&good.to_bytes()).unwrap(), good);
    let broken = |at: usize, bytes: &[u8]| {
        let mut header = good.to_bytes();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        Header::parse(&header)
    };
    assert!(matches!(broken(0, b"LTX2"), Err(LtxError::Magic { found }) if &found == b"LTX2"));
    assert!(matches!(broken(7, &[3]), Err(LtxError::HeaderFlags(3))));
    assert!(matches!(broken(4, &[0x80]), Err(LtxError::HeaderFlags(0x8000_0002))));
    assert!(matches!(broken(8, &[0, 0, 0, 1]), Err(LtxError::PageSize(1))));
    assert!(matches!(broken(8, &[0, 2, 0, 0]), Err(LtxError::PageSize(0x2_0000))));
    assert!(matches!(broken(23, &[0]), Err(LtxError::TxidRange { .. })));
    assert!(matches!(broken(23, &[6]), Err(LtxError::TxidRange { .. })));
    assert!(matches!(broken(47, &[1]), Err(LtxError::PreApply(1))));
    assert!(matches!(broken(48, &[0x80]), Err(LtxError::WalRange { .. })));
    assert!(matches!(broken(56, &[0x80]), Err(LtxError::WalRange { .. })));
    assert!(matches!(broken(63, &[1]), Err(LtxError::WalRange { offset: 0, size: 1 })));
    assert!(matches!(broken(64, &[1]), Err(LtxError::WalRange { .. })));
    assert!(matches!(broken(71, &[1]), Err(LtxError::WalRange { .. })));
    assert_eq!(broken(80, &[0xff; 20]).unwrap(), good, "reserved bytes are ignored");
    let known = Header { checksum: Some(DatabaseChecksum(7)), ..good };
    assert_eq!(Header::parse(&known.to_bytes()).unwrap(), known);
    // A header that announces database checksums.
    assert!(matches!(broken(7, &[0]), Err(LtxError::PreApply(0))));
    let with = Header { no_checksum: false, pre_apply: CHECKSUM_FLAG, ..good };
    assert_eq!(Header::parse(&with.to_bytes()).unwrap(), with);
    let snapshot = Header { min: Txid(1), ..with };
    assert!(matches!(Header::parse(&snapshot.to_bytes()), Err(LtxError::PreApply(CHECKSUM_FLAG))));
}

#[test]
fn page_checksums_of_the_vectors() {
    let sum = |pages: &[(u32, u8, usize)]| {
        pages.iter().fold(CHECKSUM_FLAG, |sum, &(n, fill, len)| {
            CHECKSUM_FLAG | (sum ^ page_checksum(page(n), &vec![fill; len]))
        })
    };
    assert_eq!(sum(&[]), 0x8000_0000_0000_0000);
    assert_eq!(sum(&[(1, 0x31, 512)]), 0xeb1a_9992_3104_4ddd);
    assert_eq!(sum(&[(1, 0x81, 1024), (2, 0x82, 1024), (3, 0x83, 1024)]), 0x8a24_9272_ad9f_7dea);
    assert_eq!(sum(&[(1, 1, 512), (2, 2, 512), (3, 3, 512)]), 0xefff_ffff_ecd9_9000);
    let filled = [0x78; 4096];
    let large =
        (1..=262_155).filter(|&n| n != 262_145).fold(0, |sum, n| sum ^ page_checksum(page(n), &filled));
    assert_eq!(large | CHECKSUM_FLAG, 0xc19b_668c_3766_62c7);
}

/// The lock page at 1 GiB never appears; the numbering of a snapshot skips it.
#[test]
fn the_lock_page_is_left_out() {
    let page_size = PageSize::MAX;
    let (lock, commit) = (page_size.lock_page().get(), page_size.lock_page().get() + 2);
    let filled = vec![7; page_size.bytes()];
    let header = header(page_size, commit, 1, 1);
    let numbers = || (1..=commit).filter(|&n| n != lock);
    let file = encode_file(&header, numbers().map(|n| (page(n), &filled[..]))).unwrap();
    let mut reader = LtxReader::new(&file[..]).unwrap();
    for n in numbers() {
        assert_eq!(reader.advance().unwrap(), Some(page(n)));
        assert_eq!(reader.page(), filled);
    }
    assert_eq!(reader.advance().unwrap(), None);
    assert!(reader.trailer().is_some());

    // The database ends with the lock page or just before it.
    for commit in [lock, lock - 1] {
        let header = Header { commit, ..header };
        let (mut encoder, _) = Encoder::new(header).unwrap();
        let block = FrameBlock::encode(page_size, (1..lock).map(|n| (page(n), &filled[..]))).unwrap();
        encoder.push(block).unwrap();
        encoder.finish().unwrap();
    }
}

/// A file with the frames of `pages`, in that order, under a header that may not allow them. Its
/// checksums are zeros, so a reader that accepts the pages refuses the file checksum.
fn forged(header: &Header, pages: &[u32]) -> Vec<u8> {
    let lax = Header { min: Txid(2), max: Txid(2), commit: u32::MAX, ..*header };
    let filled = vec![1; header.page_size.bytes()];
    let mut file = header.to_bytes().to_vec();
    for &n in pages {
        let one = encode_file(&lax, [(page(n), &filled[..])]);
        let one = one.unwrap_or_else(|_| {
            let mut one = encode_file(&lax, [(page(1), &filled[..])]).unwrap();
            one[100..104].copy_from_slice(&n.to_be_bytes());
            one
        });
        let len = 10 + u32::from_be_bytes(one[106..110].try_into().unwrap()) as usize;
        file.extend_from_slice(&one[100..100 + len]);
    }
    file.extend_from_slice(&[0; 6]);
    file.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1]);
    file.extend_from_slice(&[0; 16]);
    file
}

#[test]
fn page_numbers_that_may_not_be() {
    let lock = size(65536).lock_page();
    let incremental = header(size(65536), lock.get() + 9, 2, 2);
    let read = |header: &Header, pages: &[u32]| stream(&forged(header, pages), &[5000]).unwrap_err();
    assert!(matches!(read(&incremental, &[3, 3]), LtxError::PageOrder { .. }));
    assert!(matches!(read(&incremental, &[3, 2]), LtxError::PageOrder { .. }));
    assert!(matches!(read(&incremental, &[3, lock.get()]), LtxError::LockPage(p) if p == lock));
    assert!(matches!(read(&incremental, &[lock.get() + 10]), LtxError::PageBeyondCommit { .. }));
    let snapshot = header(size(512), 3, 1, 4);
    assert!(matches!(read(&snapshot, &[1, 3]), LtxError::SnapshotGap { missing: 2, .. }));
    assert!(matches!(read(&snapshot, &[2, 3]), LtxError::SnapshotGap { missing: 1, .. }));
    assert!(matches!(read(&snapshot, &[1, 2]), LtxError::SnapshotGap { missing: 3, .. }));
    assert!(matches!(read(&snapshot, &[]), LtxError::SnapshotGap { missing: 1, .. }));
    // The files above have no other fault: with the right pages only the checksum is refused.
    assert!(matches!(read(&snapshot, &[1, 2, 3]), LtxError::FileChecksum { .. }));
}

#[test]
fn payloads_that_do_not_give_one_page() {
    let header = header(size(512), 9, 2, 2);
    let with_payload = |flags: u16, payload: &[u8]| {
        let mut file = header.to_bytes().to_vec();
        file.extend_from_slice(&3u32.to_be_bytes());
        file.extend_from_slice(&flags.to_be_bytes());
        if flags & 1 != 0 {
            file.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        }
        file.extend_from_slice(payload);
        file.extend_from_slice(&[0; 6 + 9 + 16]);
        stream(&file, &[usize::MAX]).unwrap_err()
    };
    let block = |len: usize| lz4_flex::block::compress(&vec![9; len]);
    assert!(matches!(with_payload(1, &block(512)), LtxError::FileChecksum { .. }));
    for bad in [block(511), block(513), vec![0xff; 100], vec![0]] {
        assert!(matches!(with_payload(1, &bad), LtxError::Payload { .. }), "{bad:?}");
    }
    assert!(matches!(with_payload(1, &[]), LtxError::PayloadLength { found: 0, .. }));
    assert!(matches!(with_payload(1, &[0; 600]), LtxError::PayloadLength { found: 600, max: 530, .. }));
    assert!(matches!(with_payload(2, &block(512)), LtxError::PageFlags { pgno: 3, flags: 2 }));

    assert!(matches!(with_payload(0, &lz4_frame(&[9; 512], true)), LtxError::FileChecksum { .. }));
    assert!(matches!(with_payload(0, &lz4_frame(&[9; 512], false)), LtxError::FileChecksum { .. }));
    for bad in [lz4_frame(&[9; 511], true), lz4_frame(&[9; 513], true), block(512)] {
        assert!(matches!(with_payload(0, &bad), LtxError::Payload { .. }), "{bad:?}");
    }
    let good = lz4_frame(&[9; 512], true);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let error = with_payload(0, &bad);
        assert!(!matches!(error, LtxError::FileChecksum { .. }), "byte {at}: {error}");
    }
}

/// An LZ4 frame like those of Litestream before 0.5.16.
fn lz4_frame(content: &[u8], checksum: bool) -> Vec<u8> {
    use std::io::Write;
    let info = lz4_flex::frame::FrameInfo::new()
        .block_mode(lz4_flex::frame::BlockMode::Independent)
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .content_checksum(checksum);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn merges_that_may_not_be() {
    let file = |min, max, page_size, commit: u32| {
        let filled = vec![max as u8; size(page_size).bytes()];
        encode_file(&header(size(page_size), commit, min, max), (1..=commit).map(|n| (page(n), &filled[..])))
            .unwrap()
    };
    let a = file(1, 3, 512, 4);
    assert!(matches!(merge(&[]), Err(LtxError::NothingToMerge)));
    assert!(matches!(merge(&[a.clone(), file(5, 6, 512, 4)]), Err(LtxError::NotContiguous { .. })));
    assert!(matches!(merge(&[a.clone(), file(2, 3, 512, 4)]), Err(LtxError::NotContiguous { .. })));
    assert!(matches!(merge(&[a.clone(), file(4, 4, 1024, 4)]), Err(LtxError::PageSizeChanges { .. })));
    let (header, pages) = merge(&[a, file(2, 5, 512, 2)]).unwrap();
    assert_eq!((header.min, header.max, header.commit), (Txid(1), Txid(5), 2));
    assert_eq!(pages.into_iter().collect::<Vec<_>>(), [(1, vec![5; 512]), (2, vec![5; 512])]);
}

/// A file that grows the database again must have the new pages. If it lacks one, that file is at
/// fault, and an old page that a shrink removed must not replace it.
#[test]
fn a_page_cut_off_does_not_come_back() {
    let page_size = size(512);
    let file = |txid, commit, numbers: &[u32]| {
        let filled = vec![txid as u8; 512];
        let header = header(page_size, commit, txid, txid);
        encode_file(&header, numbers.iter().map(|&n| (page(n), &filled[..]))).unwrap()
    };
    let files = [file(2, 9, &[1, 5, 8, 9]), file(3, 5, &[2]), file(4, 9, &[1, 9])];
    let (_, pages) = merge(&files).unwrap();
    let versions: Vec<_> = pages.iter().map(|(&n, bytes)| (n, bytes[0])).collect();
    assert_eq!(versions, [(1, 4), (2, 3), (5, 2), (9, 4)], "page 8 is gone");
}

/// A page that the merge never lends out is still read and proves its file.
#[test]
fn a_merge_reads_every_input_to_its_end() {
    let filled = vec![3; 512];
    let older = encode_file(&header(size(512), 9, 2, 2), [(page(9), &filled[..])]).unwrap();
    let newer = encode_file(&header(size(512), 4, 3, 3), [(page(1), &filled[..])]).unwrap();
    assert_eq!(merge(&[older.clone(), newer.clone()]).unwrap().1.len(), 1);
    let mut damaged = older;
    let at = damaged.len() - 1;
    damaged[at] ^= 1;
    assert!(matches!(merge(&[damaged, newer]), Err(LtxError::FileChecksum { .. })));
}

#[test]
fn blocks_out_of_order_are_refused() {
    let filled = vec![3; 512];
    let block = |n| FrameBlock::encode(size(512), [(page(n), &filled[..])]).unwrap();
    let (mut encoder, _) = Encoder::new(header(size(512), 9, 2, 2)).unwrap();
    encoder.push(block(4)).unwrap();
    assert!(matches!(encoder.push(block(4)), Err(LtxError::PageOrder { .. })));
    let (mut encoder, _) = Encoder::new(header(size(512), 3, 1, 1)).unwrap();
    encoder.push(block(1)).unwrap();
    assert!(matches!(encoder.finish(), Err(LtxError::SnapshotGap { missing: 2, .. })));
}

#[test]
fn ranges_out_of_order_are_refused() {
    let filled = vec![3; 512];
    let file = encode_file(&header(size(512), 9, 2, 2), (1..=4).map(|n| (page(n), &filled[..]))).unwrap();
    let TailState::Parsed(tail) = Tail::parse(file.len() as u64, &file).unwrap() else { panic!() };
    let check = FileCheck::new(file.first_chunk().unwrap()).unwrap();
    let part = |entries| decode_frames(check.header(), &file, 0, entries, |_, _| {}).unwrap();
    let (first, second) = (part(&tail.index[..2]), part(&tail.index[2..]));
    assert!(matches!(check.clone().add(&second), Err(LtxError::RangeOrder { .. })));
    let mut half = check.clone();
    half.add(&first).unwrap();
    assert!(matches!(half.clone().finish(&tail), Err(LtxError::RangeOrder { .. })));
    half.add(&second).unwrap();
    half.finish(&tail).unwrap();
}

#[test]
fn a_reader_that_failed_stays_failed() {
    let mut decoder = Decoder::new();
    assert!(decoder.step(&mut &[0; 100][..]).is_err());
    assert!(matches!(decoder.step(&mut &[0; 1][..]), Err(LtxError::AlreadyFailed)));
    assert!(matches!(decoder.finish(), Err(LtxError::AlreadyFailed)));
    assert!(matches!(LtxReader::new(&b"LTX"[..]), Err(LtxError::Truncated { len: 3, part: "header" })));
    assert!(matches!(LtxReader::new(&[][..]), Err(LtxError::Truncated { len: 0, .. })));
}

#[test]
fn a_checksum_that_comes_late_makes_the_same_file() {
    for (page_size, pages) in [(512, 1), (512, 2_000), (4096, 70), (65536, 3)] {
        let mut header = header(size(page_size), pages, 2, 2);
        let page = vec![7; page_size as usize];
        let encode = |header: &Header| {
            let numbers = (1..=pages).filter_map(Pgno::new);
            encode_file(header, numbers.map(|p| (p, &page[..]))).unwrap()
        };
        let mut late = encode(&header);
        for checksum in [DatabaseChecksum(7), DatabaseChecksum(u64::MAX)] {
            set_checksum(&mut late, &mut header, pages as usize, checksum);
            assert_eq!(header.checksum, Some(checksum));
            assert!(late == encode(&header), "{pages} pages of {page_size} bytes");
        }
    }
}

#[test]
fn an_index_that_went_through_a_file_is_the_same() {
    // More than twice the bound, at some eight bytes per page.
    let pages = 300_000;
    let (page, page_size) = (vec![7; 512], size(512));
    let numbers = || (1..=pages).filter_map(Pgno::new);
    let header = header(page_size, pages, 1, 1);
    let known = Header { checksum: Some(DatabaseChecksum(7)), ..header };
    let expected = encode_file(&known, numbers().map(|p| (p, &page[..]))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for place in [None, Some(dir.path().to_owned()), Some(dir.path().join("missing"))] {
        let there = place.as_ref().is_some_and(|p| p.exists());
        let (mut encoder, first) = Encoder::spilling(header, place).unwrap();
        let mut file = first.to_vec();
        // The header has to be replaced once all pages are known.
        file[..HEADER_LEN].fill(0);
        for chunk in numbers().collect::<Vec<_>>().chunks(10_000) {
            let block = FrameBlock::encode(page_size, chunk.iter().map(|p| (*p, &page[..]))).unwrap();
            file.extend_from_slice(&encoder.push(block).unwrap());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), usize::from(there));
        file[..HEADER_LEN].copy_from_slice(&encoder.set_checksum(DatabaseChecksum(7)));
        let mut ending = encoder.end().unwrap();
        while let Some(piece) = ending.piece().unwrap() {
            file.extend_from_slice(&piece);
        }
        assert!(file == expected && ending.size() == file.len() as u64);
        drop(ending);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the temporary file is gone");
    }
}
