//! LTX files as Litestream 0.5.15 to 0.5.17 and an independent encoder wrote them
//! (`formats/ltx.md`).

use lsfast::base::clock::Millis;
use lsfast::base::{Level, LtxId, Pgno, Salts, Txid};
use lsfast::ltx::{Header, LtxError, WalRange, encode_file};
use serde_json::Value;

use crate::support::ltx_file::{LtxFile, image, lend, merge, ranges, stream};
use crate::support::vectors::{
    list, number, sha256, text, {self},
};

/// A file of the manifest: where it is, what the manifest says, its bytes.
struct Vector<'a> {
    dir: &'a str,
    entry: &'a Value,
    bytes: Vec<u8>,
}

impl Vector<'_> {
    fn id(&self) -> LtxId {
        let mut parts = text(self.entry, "path").rsplit('/');
        let name = parts.next().expect("a path has a name");
        let level = parts.next().and_then(|l| l.parse().ok()).expect("a path has a level");
        LtxId::parse_file_name(Level::new(level).unwrap(), name).expect("the name of an LTX file")
    }
}

/// Every file of every replica, by replica.
fn replicas(manifest: &Value) -> Vec<(&Value, Vec<Vector<'_>>)> {
    let replicas: Vec<_> = list(manifest, "v05")
        .iter()
        .map(|replica| {
            let dir = text(replica, "dir");
            let files = list(replica, "files");
            let read = |entry| {
                let bytes = vectors::read(&format!("{dir}/{}", text(entry, "path")));
                Vector { dir, entry, bytes }
            };
            (replica, files.iter().map(read).collect())
        })
        .collect();
    assert_eq!(replicas.len(), 8, "the manifest names eight replicas");
    replicas
}

/// The smallest file of a replica, and the smallest one with LZ4 frames, if there is any.
fn smallest<'a, 'v>(files: &'a [Vector<'v>]) -> impl Iterator<Item = &'a Vector<'v>> {
    let of = |payload| {
        let files = files.iter().filter(move |f| text(f.entry, "page_payload") == payload);
        files.min_by_key(|f| f.bytes.len())
    };
    of("lz4-block").into_iter().chain(of("lz4-frame")).filter(|f| f.bytes.len() < 8000)
}

fn expected_header(entry: &Value) -> Header {
    assert_eq!(number(entry, "flags"), 2);
    let n32 = |key| u32::try_from(number(entry, key)).expect("32 bits");
    Header {
        page_size: lsfast::base::PageSize::new(n32("page_size")).unwrap(),
        commit: n32("commit"),
        min: Txid(number(entry, "min_txid")),
        max: Txid(number(entry, "max_txid")),
        timestamp: Millis(number(entry, "timestamp").cast_signed()),
        wal: WalRange {
            offset: number(entry, "wal_offset"),
            size: number(entry, "wal_size"),
            salts: Salts { one: n32("salt1"), two: n32("salt2") },
        },
        node_id: number(entry, "node"),
        no_checksum: true,
        pre_apply: 0,
        checksum: None,
    }
}

#[test]
fn every_file_reads_in_every_way_as_the_manifest_says() {
    let manifest = vectors::manifest();
    let mut legacy = 0;
    for file in replicas(&manifest).iter().flat_map(|(_, files)| files) {
        let (entry, what) = (file.entry, format!("{}/{}", file.dir, text(file.entry, "path")));
        assert_eq!(sha256(&file.bytes), text(entry, "sha256"), "{what}");
        let read = stream(&file.bytes, usize::MAX).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(read.header, expected_header(entry), "{what}");
        assert_eq!((read.header.min, read.header.max), (file.id().min, file.id().max), "{what}");
        assert_eq!(read.pages.len() as u64, number(entry, "pages"), "{what}");
        let checksum = format!("{:016x}", read.trailer.file_checksum);
        assert_eq!(checksum, text(entry, "file_checksum"), "{what}");
        assert_eq!(read.header.to_bytes()[..], file.bytes[..100], "{what}");
        legacy += u32::from(file.bytes[100 + 4..100 + 6] == [0, 0]);
        for piece in [1, 7, 4096] {
            assert_eq!(stream(&file.bytes, piece).unwrap(), read, "{what} in pieces of {piece}");
        }
        for frames in [1, 3, usize::MAX] {
            assert_eq!(ranges(&file.bytes, frames).unwrap(), read, "{what} in ranges of {frames}");
        }
    }
    assert!(legacy >= 10, "only {legacy} files with LZ4 frames");
}

#[test]
fn what_is_read_can_be_written_and_read_again() {
    let manifest = vectors::manifest();
    for file in replicas(&manifest).iter().flat_map(|(_, files)| files) {
        let read = stream(&file.bytes, usize::MAX).unwrap();
        let again = encode_file(&read.header, lend(&read.pages)).unwrap();
        for reread in [stream(&again, usize::MAX).unwrap(), ranges(&again, 5).unwrap()] {
            assert_eq!((reread.header, &reread.pages), (read.header, &read.pages), "{:?}", file.id());
        }
    }
}

#[test]
fn higher_levels_are_the_merge_of_level_0() {
    let manifest = vectors::manifest();
    let mut compared = 0;
    for (_, files) in replicas(&manifest) {
        let raw: Vec<_> = files.iter().filter(|f| f.id().level == Level::RAW).collect();
        for file in files.iter().filter(|f| f.id().level > Level::RAW) {
            let id = file.id();
            let inputs: Vec<_> =
                raw.iter().filter(|f| id.min <= f.id().min && f.id().max <= id.max).collect();
            if inputs.len() as u64 != id.max.0 - id.min.0 + 1 {
                continue; // pruned
            }
            let inputs: Vec<_> = inputs.iter().map(|f| &f.bytes[..]).collect();
            let (header, pages) = merge(&inputs).unwrap();
            let expected = stream(&file.bytes, usize::MAX).unwrap();
            assert_eq!(pages, expected.pages, "{}/{id:?}", file.dir);
            if id.level != Level::SNAPSHOT {
                assert_eq!(header, expected.header, "{}/{id:?}", file.dir);
            }
            compared += 1;
        }
    }
    assert!(compared >= 20, "only {compared} files compared");
}

#[test]
fn plans_restore_the_image_that_litestream_restored() {
    let manifest = vectors::manifest();
    let mut restored = 0;
    for (replica, files) in replicas(&manifest) {
        for restore in list(replica, "restores") {
            let plan: Vec<_> = list(restore, "plan")
                .iter()
                .map(|path| files.iter().find(|f| Some(text(f.entry, "path")) == path.as_str()).unwrap())
                .map(|f| &f.bytes[..])
                .collect();
            let (header, pages) = merge(&plan).unwrap();
            assert!(header.is_snapshot());
            let image = image(header.page_size, header.commit, &pages);
            assert_eq!(sha256(&image), text(restore, "sha256"), "{} {restore}", text(replica, "dir"));
            restored += 1;
        }
    }
    assert!(restored >= 140, "only {restored} restores");
}

#[test]
fn database_checksums_are_verified() {
    let manifest = vectors::manifest();
    for entry in list(&manifest, "ltx_checksum_files") {
        let bytes = vectors::read(text(entry, "path"));
        let read = stream(&bytes, usize::MAX).unwrap();
        assert_eq!(read, ranges(&bytes, 1).unwrap());
        assert!(!read.header.no_checksum);
        assert_eq!(format!("{:016x}", read.header.pre_apply), text(entry, "pre"));
        assert_eq!(format!("{:016x}", read.trailer.post_apply), text(entry, "post"));
        if read.header.is_snapshot() {
            let image = image(read.header.page_size, read.header.commit, &read.pages);
            assert_eq!(sha256(&image), text(entry, "sha256"));
            // A wrong one, under a file checksum that is right.
            let wrong = with_post_apply(&bytes, read.trailer.post_apply ^ 1);
            for result in [stream(&wrong, usize::MAX), ranges(&wrong, 2)] {
                let computed = read.trailer.post_apply;
                assert!(
                    matches!(result, Err(LtxError::PostApply { computed: c, .. }) if c == computed),
                    "{result:?}"
                );
            }
        }
    }
}

/// The same file with another post-apply checksum and the file checksum that belongs to it.
fn with_post_apply(bytes: &[u8], post_apply: u64) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let at = out.len() - 16;
    out[at..at + 8].copy_from_slice(&post_apply.to_be_bytes());
    let Err(LtxError::FileChecksum { computed, .. }) = stream(&out, usize::MAX) else {
        panic!("the file checksum covers the post-apply checksum")
    };
    out[at + 8..].copy_from_slice(&computed.to_be_bytes());
    out
}

#[test]
fn the_worked_example_comes_out_of_our_encoder() {
    let bytes = vectors::read("v05/p4096/ltx/0/0000000000000002-0000000000000002.ltx");
    assert_eq!(bytes.len(), 191);
    let LtxFile { header, pages, trailer } = stream(&bytes, usize::MAX).unwrap();
    assert_eq!(
        (header.commit, header.wal.end(), trailer.file_checksum),
        (7, 32 + 4120, 0xdce6_c492_1b1e_f304)
    );
    assert_eq!(pages.keys().copied().collect::<Vec<_>>(), [6]);
    let ours = encode_file(&header, lend(&pages)).unwrap();
    // The compressor is free in its choice; the rest of the bytes is not.
    assert_eq!(ours[..0x6a], bytes[..0x6a]);
    let payload = u32::from_be_bytes(ours[0x6a..0x6e].try_into().unwrap()) as usize;
    let rest = &ours[0x6e + payload..];
    assert_eq!(rest[..6], [0; 6]);
    assert_eq!(rest[6..10], [6, 100, 10 + payload as u8, 0]);
    assert_eq!(rest[10..26], [[0, 0, 0, 0, 0, 0, 0, 4], [0; 8]].concat());
    assert_eq!(rest.len(), 34);
    if payload == 47 {
        assert_eq!(
            rest[26..],
            trailer.file_checksum.to_be_bytes(),
            "same lengths, same pages, same checksum"
        );
    }
}

/// Every changed byte is noticed, unless it lies in a payload that still gives the same page.
#[test]
fn a_changed_byte_is_noticed() {
    let manifest = vectors::manifest();
    let mut changed = 0;
    let replicas = replicas(&manifest);
    for file in replicas.iter().flat_map(|(_, files)| smallest(files)) {
        let good = stream(&file.bytes, usize::MAX).unwrap();
        let mut bytes = file.bytes.clone();
        for at in 0..bytes.len() {
            for bits in [0x01, 0xff] {
                bytes[at] ^= bits;
                for read in [stream(&bytes, usize::MAX), ranges(&bytes, 4)].into_iter().flatten() {
                    assert_eq!(read, good, "{}: byte {at} ^ {bits:#x}", file.dir);
                    assert!(at > 105 && at < bytes.len() - 24, "byte {at} is no payload");
                }
                bytes[at] ^= bits;
                changed += 1;
            }
        }
    }
    assert!(changed > 2 * 1000, "only {changed} changes");
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let manifest = vectors::manifest();
    let replicas = replicas(&manifest);
    for file in replicas.iter().flat_map(|(_, files)| smallest(files)) {
        for len in 0..file.bytes.len() {
            let cut = &file.bytes[..len];
            assert!(stream(cut, usize::MAX).is_err(), "{} cut to {len}", file.dir);
            assert!(ranges(cut, usize::MAX).is_err(), "{} cut to {len}", file.dir);
        }
        let longer = [&file.bytes[..], &[0]].concat();
        assert!(stream(&longer, usize::MAX).is_err() && ranges(&longer, 9).is_err());
    }
}

/// Litestream restores files whose index is empty or wrong; so must we, by the stream.
#[test]
fn a_wrong_index_is_told_from_a_damaged_file() {
    let bytes = vectors::read("v05/p512/ltx/0/0000000000000001-0000000000000001.ltx");
    let good = stream(&bytes, usize::MAX).unwrap();
    let end = bytes.len() - 24;
    let index_len = u64::from_be_bytes(bytes[end..end + 8].try_into().unwrap()) as usize;
    let frames = &bytes[..end - index_len];
    let index = &bytes[end - index_len..end];
    let other_length = [&index[..2], &[index[2] + 1], &index[3..]].concat();
    let swapped = [&index[..index.len() - 1], &[1, 1, 1, 0]].concat();
    for wrong in [vec![], vec![0], vec![0, 0], vec![0x80; 40], other_length, swapped] {
        let mut file = frames.to_vec();
        file.extend_from_slice(&wrong);
        file.extend_from_slice(&(wrong.len() as u64).to_be_bytes());
        file.extend_from_slice(&[0; 16]);
        let Err(LtxError::FileChecksum { computed, .. }) = stream(&file, usize::MAX) else { panic!() };
        let at = file.len() - 8;
        file[at..].copy_from_slice(&computed.to_be_bytes());
        assert_eq!(stream(&file, usize::MAX).unwrap().pages, good.pages);
        let error = ranges(&file, 4).unwrap_err();
        assert!(error.is_index_fault(), "{error}");
    }
}

#[test]
fn pages_that_may_not_be_written_are_refused() {
    let bytes = vectors::read("v05/p512/ltx/0/0000000000000001-0000000000000001.ltx");
    let LtxFile { header, pages, .. } = stream(&bytes, usize::MAX).unwrap();
    let page = vec![0; 512];
    let one = |n| [(Pgno::new(n).unwrap(), &page[..])];
    let at_2 = Header { min: Txid(2), max: Txid(2), ..header };
    let lock = header.page_size.lock_page();

    assert!(matches!(encode_file(&Header { commit: 0, ..at_2 }, one(1)), Err(LtxError::CommitZero)));
    assert!(matches!(
        encode_file(&Header { no_checksum: false, ..header }, lend(&pages)),
        Err(LtxError::DatabaseChecksum)
    ));
    assert!(matches!(encode_file(&at_2, one(header.commit + 1)), Err(LtxError::PageBeyondCommit { .. })));
    let large = Header { commit: lock.get() + 1, ..at_2 };
    assert!(matches!(encode_file(&large, one(lock.get())), Err(LtxError::LockPage(p)) if p == lock));
    assert!(encode_file(&large, one(lock.get() + 1)).is_ok());
    assert!(matches!(encode_file(&at_2, [one(2), one(2)].concat()), Err(LtxError::PageOrder { .. })));
    assert!(matches!(
        encode_file(&at_2, [(Pgno::FIRST, &page[..511])]),
        Err(LtxError::PageLength { found: 511, .. })
    ));
    assert!(matches!(
        encode_file(&header, lend(&pages).skip(1)),
        Err(LtxError::SnapshotGap { missing: 1, .. })
    ));
    assert!(matches!(
        encode_file(&header, lend(&pages).take(10)),
        Err(LtxError::SnapshotGap { missing: 11, .. })
    ));
}
