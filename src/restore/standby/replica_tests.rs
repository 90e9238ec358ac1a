use super::*;
use crate::base::clock::Millis;
use crate::base::{Level, LtxId};
use crate::ltx::{Header, WalRange, encode_file};
use crate::restore::standby::apply::{Piece, apply};

fn made(ms: i64) -> Option<Made> {
    Some(Made { at: Millis(ms), exact: true })
}

/// Creates a database at TXID 1 with `page_size`, and returns its first page.
fn database(path: &Path, page_size: u32) -> Vec<u8> {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "page_size", page_size).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(100))")
        .unwrap();
    drop(db);
    std::fs::write(position_path(path), format!("{}\n", Txid(1))).unwrap();
    let mut page = vec![0; page_size as usize];
    File::open(path).unwrap().pread_exact(&mut page, 0).unwrap();
    page
}

/// Applies one file with `pages`.
fn apply_file(replica: &mut Replica, commit: u32, pages: &[(u32, Vec<u8>)]) {
    let txid = replica.txid().next();
    let time = Millis(i64::try_from(txid.0).unwrap());
    let header = Header::new(replica.page_size, commit, (txid, txid), time, WalRange::default());
    let pages = pages.iter().map(|(n, page)| (Pgno::new(*n).unwrap(), &page[..]));
    let bytes = encode_file(&header, pages).unwrap().into();
    let id = LtxId::new(Level::RAW, txid, txid).unwrap();
    let piece = Piece { bytes, is_last: true, hold: None };
    apply(replica, "nowhere", &[id], std::iter::once(piece)).unwrap();
    assert_eq!((replica.txid(), replica.pages(), replica.made()), (txid, commit, made(time.0)));
}

/// The page that contains SQLite's lock bytes is in no file and does not count in the sum. The
/// database grows and shrinks across it.
#[test]
fn a_database_grows_and_shrinks_across_the_lock_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut first = database(&path, 65_536);
    let lock = PageSize::MAX.lock_page().get();
    let small = lock - 2;
    // Sparse: a gigabyte that takes no space.
    first[28..32].copy_from_slice(&small.to_be_bytes());
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &first, 0).unwrap();
    file.set_len(u64::from(small) * 65_536).unwrap();
    drop(file);

    let mut replica = Replica::open(&path, made(1), None).unwrap();
    assert_eq!((replica.pages(), replica.txid()), (small, Txid(1)));
    let empty = replica.mark.sum;
    let filled = |n: u32| (n, vec![u8::try_from(n % 251).unwrap(); 65_536]);
    let large = lock + 3;
    let mut page = first.clone();
    page[28..32].copy_from_slice(&large.to_be_bytes());
    let mut pages = vec![(1, page)];
    pages.extend((small + 1..=large).filter(|n| *n != lock).map(filled));
    apply_file(&mut replica, large, &pages);
    for n in [lock - 1, lock + 1, large] {
        assert_eq!(replica.read(Pgno::new(n).unwrap()).unwrap(), Some(filled(n).1), "page {n}");
    }
    let mut page = first.clone();
    page[28..32].copy_from_slice(&lock.to_be_bytes());
    // The last page of the database is the lock page itself.
    apply_file(&mut replica, lock, &[(1, page)]);
    apply_file(&mut replica, small, &[(1, first)]);
    assert_eq!(replica.mark.sum, empty, "what was cut off counts no more");
    drop(replica);
    // Opening reads all pages, and their sum is that of the mark.
    let replica = Replica::open(&path, None, None).unwrap();
    assert_eq!((replica.pages(), replica.mark.sum, replica.made()), (small, empty, made(4)));
}

/// A WAL that readers keep from starting over is emptied as soon as they allow it.
#[test]
fn a_long_log_is_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let first = database(&path, 4096);
    let mut replica = Replica::open(&path, made(1), None).unwrap();
    replica.db.busy_timeout(Duration::from_millis(1)).unwrap();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = || reader.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, u32>(0)).unwrap();
    assert_eq!(count(), 1);

    let page = |n: u8| (3, vec![n; 4096]);
    let grown = |pages: u32| {
        let mut page = first.clone();
        page[28..32].copy_from_slice(&pages.to_be_bytes());
        (1, page)
    };
    apply_file(&mut replica, 3, &[grown(3), page(1)]);
    // The attempt fails. The next one waits until the WAL has doubled and reached its usual bound.
    replica.trim_at = 1;
    apply_file(&mut replica, 3, &[page(2)]);
    assert_ne!(replica.log_bytes(), 0);
    assert_eq!(replica.trim_at, limits::FOLLOW_LOG_BYTES);
    assert_eq!(count(), 1);
    apply_file(&mut replica, 3, &[page(3)]);
    assert_ne!(replica.log_bytes(), 0);
    // The reader ends. After the checkpoint the write lock is held again.
    reader.execute_batch("COMMIT").unwrap();
    replica.trim_at = 1;
    apply_file(&mut replica, 3, &[page(4)]);
    assert_eq!(replica.log_bytes(), 0);
    assert!(replica.held);
    apply_file(&mut replica, 3, &[page(5)]);
    assert_eq!(replica.read(Pgno::new(3).unwrap()).unwrap(), Some(page(5).1));
    assert_eq!(replica.sum().unwrap().0, replica.mark.sum);
    let e = reader.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
    assert_eq!(e.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
}

#[test]
fn what_there_is_no_room_for_is_refused_before_the_first_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let first = database(&path, 65_536);
    let mut replica = Replica::open(&path, made(1), None).unwrap();
    // The schema came from a store and is not trusted.
    let trusted = rusqlite::config::DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA;
    assert!(!replica.db.db_config(trusted).unwrap());
    let before = replica.pages();
    let header = Header::new(replica.page_size, before, (Txid(2), Txid(2)), Millis(2), WalRange::default());
    let mut bytes = encode_file(&header, [(Pgno::FIRST, &first[..])]).unwrap();
    // 8 TiB, more than the disk of any test machine has.
    bytes[12..16].copy_from_slice(&(1_u32 << 27).to_be_bytes());
    let piece = Piece { bytes: bytes.into(), is_last: true, hold: None };
    let id = LtxId::raw(Txid(2));
    let e = apply(&mut replica, "nowhere", &[id], std::iter::once(piece)).unwrap_err();
    assert!(matches!(&e, FollowError::Restore(RestoreError::NoRoom { .. })), "{e}");
    assert_eq!((replica.txid(), replica.pages()), (Txid(1), before));
}
