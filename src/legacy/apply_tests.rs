use std::io::Write;

use sha2::{Digest, Sha256};

use super::*;
use crate::base::clock::Millis;
use crate::legacy::{LegacyFile, Want, plan};

fn files_of(dir: &std::path::Path) -> (tempfile::TempDir, Apply, File) {
    let scratch = tempfile::tempdir_in(dir).unwrap();
    let database = File::create_new(&scratch.path().join("database"), 0o600).unwrap();
    let log = File::create_new(&scratch.path().join("log"), 0o600).unwrap();
    (scratch, Apply::new(database.clone(), log), database)
}

fn content(database: &File) -> Vec<u8> {
    let mut bytes = vec![0; database.len().unwrap() as usize];
    database.pread_exact(&mut bytes, 0).unwrap();
    bytes
}

fn pack(content: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Every restore that the real Litestream 0.3.13 made for the vectors, compared by hash.
#[test]
fn restores_of_the_real_binary() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let manifest = std::fs::read(root.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let mut checked = 0;
    for replica in manifest["v03"].as_array().unwrap() {
        let dir = root.join(replica["dir"].as_str().unwrap());
        let listed: Vec<LegacyFile> = replica["files"].as_array().unwrap().iter().map(listed).collect();
        for restore in replica["restores"].as_array().unwrap() {
            let generation = crate::legacy::Generation::parse(restore["generation"].as_str().unwrap());
            let want = match (restore["index"].as_u64(), restore["at_ns"].as_i64()) {
                (Some(n), _) => Want::Index(WalIndex::new(n as u32).unwrap()),
                (_, Some(ns)) => Want::At(Millis(ns / 1_000_000)),
                _ => Want::Newest,
            };
            let plan = plan(&listed, generation, want).unwrap();
            let (_scratch, mut apply, database) = files_of(&std::env::temp_dir());
            for file in plan.files() {
                let packed = std::fs::read(dir.join(file.name.path())).unwrap();
                match file.name.is_snapshot() {
                    true => apply.snapshot(&packed[..]).unwrap(),
                    false => apply.segment(file.name, &packed[..]).unwrap(),
                }
            }
            let applied = apply.finish().unwrap();
            let bytes = content(&database);
            assert_eq!(applied.bytes, bytes.len() as u64);
            let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hash, restore["sha256"].as_str().unwrap(), "{} {restore}", replica["dir"]);
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

fn listed(file: &serde_json::Value) -> LegacyFile {
    LegacyFile {
        name: LegacyName::parse(file["path"].as_str().unwrap()).unwrap(),
        size: file["size"].as_u64().unwrap(),
        modified: Millis(file["mtime_ms"].as_i64().unwrap()),
    }
}

const LOG: &str = "generations/d3d3966657cdb147/wal/00000000_";

fn vector(name: &str) -> (LegacyName, Vec<u8>) {
    let path = format!("{}/tests/vectors/v03/p65536/{name}", env!("CARGO_MANIFEST_DIR"));
    (LegacyName::parse(name).unwrap(), std::fs::read(path).unwrap())
}

fn begun() -> (tempfile::TempDir, Apply, File) {
    let (dir, mut apply, database) = files_of(&std::env::temp_dir());
    let (_, packed) = vector("generations/d3d3966657cdb147/snapshots/00000000.snapshot.lz4");
    apply.snapshot(&packed[..]).unwrap();
    (dir, apply, database)
}

#[test]
fn a_missing_piece_is_named_by_the_offsets_around_it() {
    let (_dir, mut apply, _) = begun();
    let (first, packed) = vector(&format!("{LOG}00000000.wal.lz4"));
    apply.segment(first, &packed[..]).unwrap();
    let (third, packed) = vector(&format!("{LOG}000a0110.wal.lz4"));
    let e = apply.segment(third, &packed[..]).unwrap_err();
    assert!(matches!(e, ApplyError::Gap { reached: 0x700c8, found: 0xa0110 }), "{e}");
}

#[test]
fn damaged_segments_are_refused() {
    let (name, packed) = vector(&format!("{LOG}00000000.wal.lz4"));
    let mut raw = Vec::new();
    Unpacked::new(&packed[..]).read_to_end(&mut raw).unwrap();
    let attempt = |raw: &[u8]| {
        let (_dir, mut apply, _) = begun();
        apply.segment(name, &pack(raw)[..]).and_then(|()| apply.finish().map(|a| a.bytes))
    };
    assert!(attempt(&raw).is_ok());
    // A WAL without frames changes nothing.
    assert_eq!(attempt(&raw[..32]).unwrap(), 262_144);
    assert_eq!(attempt(&raw[..20]).unwrap(), 262_144);
    let damaged = |at: usize, words: &str| {
        let mut raw = raw.clone();
        raw[at] ^= 1;
        let e = attempt(&raw).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    };
    damaged(0, "magic number");
    damaged(9, "checksum of the WAL's header");
    damaged(32 + 8, "it belongs to another WAL");
    damaged(32 + 24 + 100, "its checksum does not continue the chain");
    let e = attempt(&raw[..raw.len() - 1]).unwrap_err().to_string();
    assert!(e.contains("bytes into frame 7 of its WAL"), "{e}");
    // Without its commit mark the last frame does not count.
    assert!(attempt(&raw[..raw.len() - 65560]).is_ok());
}

#[test]
fn snapshots_that_are_no_databases() {
    for bytes in [
        &b"SQLite format 3\0"[..],
        &[0; 4096],
        &[b"SQLite format 3\0\x10\x00".as_slice(), &[0; 100]].concat(),
    ] {
        let (_dir, mut apply, _) = files_of(&std::env::temp_dir());
        assert!(matches!(apply.snapshot(&pack(bytes)[..]), Err(ApplyError::Damaged(_))));
    }
}

/// 3 pages, shrunk to 1 in one WAL, grown to 3 in the next with page 3 alone: page 2 must not
/// return.
#[test]
fn nothing_comes_back_from_before_a_shrink() {
    let (_dir, mut apply, database) = files_of(&std::env::temp_dir());
    let mut first = b"SQLite format 3\0\x02\x00".to_vec();
    first.resize(3 * 512, 7);
    apply.snapshot(&pack(&first)[..]).unwrap();
    apply.log = Some(log_of(0, &[(1, 1)], 1));
    apply.output.as_ref().unwrap().scratch.pwrite_all(&[9; 2 * 536], 32).unwrap();
    apply.end_log().unwrap();
    apply.log = Some(log_of(1, &[(3, 2)], 3));
    assert_eq!(apply.finish().unwrap().bytes, 3 * 512);
    let bytes = content(&database);
    assert_eq!(bytes, [[9; 512], [0; 512], [9; 512]].concat());
}

fn log_of(index: u32, pages: &[(u32, u32)], size: u32) -> Log {
    Log {
        index: WalIndex::new(index).unwrap(),
        len: 0,
        chain: None,
        committed: pages.iter().map(|&(p, f)| (Pgno::new(p).unwrap(), FrameNo(f))).collect(),
        open: Vec::new(),
        size: Some(size),
    }
}

#[test]
fn a_database_that_has_no_room_is_refused_before_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (_scratch, mut apply, database) = files_of(dir.path());
    let conn = rusqlite::Connection::open(dir.path().join("source")).unwrap();
    conn.execute_batch("PRAGMA page_size=65536; CREATE TABLE t(a)").unwrap();
    drop(conn);
    let mut bytes = std::fs::read(dir.path().join("source")).unwrap();
    // 16 TiB, more than the disk of any test machine has.
    bytes[PAGE_COUNT].copy_from_slice(&(1_u32 << 28).to_be_bytes());
    match apply.snapshot(&pack(&bytes)[..]).unwrap_err() {
        ApplyError::NoRoom { need, free } => assert!(need == 1 << 44 && free < need),
        e => panic!("{e}"),
    }
    assert_eq!(database.len().unwrap(), 0);
}
