//! The golden data is what its manifest says it is: a vector changed by accident proves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// SHA-256 over names and bytes of the files below `wal/` and `checksum/`, in order of their names.
const OTHERS_SHA256: &str = "d4a370f629d896772478dc99227e06d8f00761c17e05aa43118bf301c8e165f6";

/// `tests/vectors`.
fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn check(path: &Path, entry: &Value) {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(sha256_hex(&bytes), entry["sha256"].as_str().expect("a hash"), "{}", path.display());
    if let Some(size) = entry["size"].as_u64() {
        assert_eq!(bytes.len() as u64, size, "{}", path.display());
    }
}

fn manifest() -> Value {
    let bytes = fs::read(dir().join("manifest.json")).expect("tests/vectors/manifest.json");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn list<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    v[key].as_array().unwrap_or_else(|| panic!("no list {key}"))
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap_or_else(|| panic!("no text {key}"))
}

#[test]
fn every_file_has_the_hash_of_the_manifest() {
    let manifest = manifest();
    let mut seen = BTreeSet::new();
    for format in ["v05", "v03"] {
        for replica in list(&manifest, format) {
            for file in list(replica, "files") {
                let path = dir().join(text(replica, "dir")).join(text(file, "path"));
                check(&path, file);
                seen.insert(path);
            }
        }
    }
    let mut waiting = vec![dir()];
    let mut others = BTreeSet::new();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if !seen.contains(&path) {
                others.insert(path);
            }
        }
    }
    // Logs, and LTX files with database checksums: the manifest has the hash of what they
    // decode to.
    let mut together = Sha256::new();
    for path in others.iter().filter(|p| !p.ends_with("manifest.json")) {
        let inside = path.strip_prefix(dir()).expect("below").to_str().expect("UTF-8");
        assert!(
            inside.starts_with("wal/") || inside.starts_with("checksum/"),
            "{inside} is not in the manifest"
        );
        together.update(inside);
        together.update(fs::read(path).expect("a vector"));
    }
    let together: String = together.finalize().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(together, OTHERS_SHA256, "a file below wal/ or checksum/ changed");
}

/// The manifest holds the hash of each database after SQLite's own recovery: SQLite is asked again.
#[test]
fn every_log_recovers_to_the_hash_of_the_manifest() {
    for wal in list(&manifest(), "wal") {
        let from = dir().join(text(wal, "dir"));
        let scratch = tempfile::tempdir().expect("a temporary folder");
        for name in ["db", "db-wal"] {
            fs::copy(from.join(name), scratch.path().join(name)).expect("a copy");
        }
        let db = scratch.path().join("db");
        let connection = rusqlite::Connection::open(&db).expect("open");
        let checkpoint: (i64, i64, i64) = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .expect("a checkpoint");
        assert_eq!(checkpoint.0, 0, "{}", from.display());
        drop(connection);
        check(&db, wal);
    }
}
