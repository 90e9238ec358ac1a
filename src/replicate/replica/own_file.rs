//! Adopts an upload of ours that was stored, but whose answer never came because lsfast was killed
//! in between.
//!
//! Its pages are read back and hashed, so that neither it nor, if it was the first image, the whole
//! database is uploaded again. Hashes made from what the store holds are right whichever program
//! stored it.

use std::io;

use tokio::task::spawn_blocking;

use crate::base::{LtxId, Pgno, limits};
use crate::ltx::{FileCheck, HEADER_LEN, Header, IndexEntry, LtxError, PartialCheck, decode_frames};
use crate::replicate::remote::{RemoteError, state_error, tail_of};
use crate::replicate::state::page_hashes::{PageHashes, hash_page};
use crate::replicate::state::record::Local;
use crate::replicate::state::{Point, print_of};
use crate::store::Store;
use crate::wal::format;

/// Treats the object after the durable point, which is of an upload of ours, as acknowledged.
/// `Ok(false)` if the object or its index cannot be read.
///
/// # Errors
/// [`RemoteError`] if the store fails, the object is damaged, or the local state cannot be written.
pub async fn adopt(store: &dyn Store, local: &mut Local) -> Result<bool, RemoteError> {
    let (intended, txid) = (local.state().intended, local.state().durable.txid.next());
    let id = LtxId::raw(txid);
    let Some(entry) = store.head(id).await? else { return Ok(false) };
    let Some(tail) = tail_of(store, id, entry.size).await? else { return Ok(false) };
    let head = store.get(id, 0..HEADER_LEN as u64).await?;
    let damaged = |source| RemoteError::Ltx { url: store.url().to_owned(), id, source };
    let head = head.first_chunk().ok_or(LtxError::Truncated { len: head.len() as u64, part: "header" });
    let mut check = head.and_then(FileCheck::new).map_err(damaged)?;
    let header = *check.header();

    let (hashes, is_new) = match local.hashes() {
        Some(hashes) => (hashes.clone(), false),
        None => (local.begin_hashes().map_err(state_error)?, true),
    };
    if !is_new {
        local.begin_hashes_of(txid).map_err(state_error)?;
        hashes.shrink(header.commit).map_err(state_error)?;
    }
    for entries in parts(&tail.index) {
        let part = read_part(store, id, &header, entries, &hashes).await?;
        check.add(&part).map_err(damaged)?;
    }
    check.finish(&tail).map_err(damaged)?;

    let size = header.page_size;
    let same = intended.txid == txid
        && header.wal.salts == intended.pos.salts
        && header.wal.end() == format::frame_end(size, intended.pos.frame)
        && header.commit == intended.size_pages;
    let pos = if same { intended.pos } else { local.state().durable.pos };
    let print = print_of(&header);
    // Entries from before the batch may be gone already, but the file has the checksum.
    let checksum = header.checksum;
    let point = Point { txid, pos, size_pages: header.commit, print, checksum };
    local.not_before(header.timestamp, store.now());
    if is_new { local.acknowledge_image(point, hashes) } else { local.acknowledge(point, []) }
        .map_err(state_error)?;
    Ok(true)
}

/// Adjacent frames, as many as one request may read; at least one.
fn parts(index: &[IndexEntry]) -> impl Iterator<Item = &[IndexEntry]> {
    let mut rest = index;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let count =
            rest.iter().take_while(|e| e.end() - first.offset <= limits::GET_PART_BYTES).count().max(1);
        let (part, after) = rest.split_at(count);
        rest = after;
        Some(part)
    })
}

/// Reads one part and notes the hashes of its pages.
async fn read_part(
    store: &dyn Store,
    id: LtxId,
    header: &Header,
    entries: &[IndexEntry],
    hashes: &PageHashes,
) -> Result<PartialCheck, RemoteError> {
    let (from, to) = (entries[0].offset, entries[entries.len() - 1].end());
    let bytes = store.get(id, from..to).await?;
    let (header, entries, hashes) = (*header, entries.to_vec(), hashes.clone());
    let work = move || {
        let mut found: Vec<(Pgno, u128)> = Vec::with_capacity(entries.len());
        let seed = hashes.seed();
        let part = decode_frames(&header, &bytes, from, &entries, |pgno, page| {
            found.push((pgno, hash_page(seed, pgno, page)));
        });
        hashes.write(found).map(|()| part)
    };
    let part = spawn_blocking(work).await.map_err(io::Error::other).and_then(|r| r).map_err(state_error)?;
    part.map_err(|source| RemoteError::Ltx { url: store.url().to_owned(), id, source })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::clock::Millis;
    use crate::base::{DatabaseChecksum, FrameNo, PageSize, Salts, Txid};
    use crate::ltx::{WalRange, encode_file};
    use crate::replicate::replica::resume::{Start, decide, look};
    use crate::sqlite::database::FileId;
    use crate::store::PutOptions;
    use crate::store::file::FileStore;
    use crate::wal::checksum::Sum;
    use crate::wal::tail::WalPos;

    const SALTS: Salts = Salts { one: 1, two: 2 };

    fn page_size() -> PageSize {
        PageSize::new(512).unwrap()
    }

    fn page(no: u32, version: u8) -> Vec<u8> {
        let mut page = vec![version; 512];
        page[..4].copy_from_slice(&no.to_be_bytes());
        page
    }

    fn open(dir: &Path) -> Local {
        Local::open(dir.to_path_buf(), page_size(), FileId { dev: 1, ino: 1 }).unwrap()
    }

    /// The point of a batch that ends with this frame.
    fn point(txid: u64, frame: u32, size_pages: u32) -> Point {
        let pos = WalPos { salts: SALTS, frame: FrameNo(frame), sum: Sum(3, 4) };
        Point { txid: Txid(txid), pos, size_pages, ..Point::default() }
    }

    /// Stores pages, all of one version, as a batch whose header names `point`.
    async fn stored(store: &FileStore, point: Point, pages: &[u32], version: u8) {
        let end = format::frame_end(page_size(), point.pos.frame);
        let wal = WalRange { offset: 32, size: end - 32, salts: point.pos.salts };
        let header = Header::new(page_size(), point.size_pages, (point.txid, point.txid), Millis(1), wal);
        let header = Header { checksum: point.checksum, ..header };
        let pages: Vec<_> = pages.iter().map(|&no| (Pgno::new(no).unwrap(), page(no, version))).collect();
        let file = encode_file(&header, pages.iter().map(|(no, page)| (*no, &page[..]))).unwrap();
        let options = PutOptions { created: Millis(1), create_only: true };
        store.put(LtxId::raw(point.txid), vec![file.into()], options).await.unwrap();
    }

    /// How a new process resumes, and its state.
    async fn next_start(store: &FileStore, dir: &Path, log: Result<(), String>) -> (Start, Local) {
        let remote = look(store, true).await.unwrap();
        let mut local = open(dir);
        let decision = decide(store, &remote.0, &mut local, &log, page_size()).await.unwrap();
        (decision.start, local)
    }

    /// The durable point without its print, which must be known.
    fn known(local: &Local) -> Point {
        let durable = local.state().durable;
        assert_ne!(durable.print, 0);
        Point { print: 0, ..durable }
    }

    fn hashes(local: &Local, pages: &[(u32, u8)]) {
        let hashes = local.hashes().unwrap();
        for &(no, version) in pages {
            let pgno = Pgno::new(no).unwrap();
            let expected = hash_page(hashes.seed(), pgno, &page(no, version));
            assert_eq!(hashes.read(pgno, 1).unwrap(), [expected], "page {no}");
        }
    }

    /// lsfast was killed after the store had the first image and before it got the answer. The next
    /// start uploaded the whole database again, for lack of page hashes.
    #[tokio::test]
    async fn the_first_image_is_not_stored_twice() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path().join("replica"));
        let image = point(1, 7, 3);
        open(dir.path()).intend(image).unwrap();
        stored(&store, image, &[1, 2, 3], 1).await;
        let (start, local) = next_start(&store, dir.path(), Err("new".into())).await;
        assert_eq!(start, Start::Repair("new".into()));
        assert_eq!(known(&local), image);
        hashes(&local, &[(1, 1), (2, 1), (3, 1)]);
    }

    /// The same with a batch: its pages counted as changed, and a repair stored them again.
    #[tokio::test]
    async fn a_batch_without_an_answer_is_not_stored_twice() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path().join("replica"));
        stored(&store, point(1, 7, 4), &[1, 2, 3, 4], 1).await;
        let mut local = open(dir.path());
        let begun = local.begin_hashes().unwrap();
        let of_image =
            (1..=4).filter_map(Pgno::new).map(|no| (no, hash_page(local.seed(), no, &page(no.get(), 1))));
        begun.write(of_image).unwrap();
        local.acknowledge_image(point(1, 7, 4), begun).unwrap();
        // The database shrinks to three pages.
        let batch = Point { checksum: Some(DatabaseChecksum(5)), ..point(2, 9, 3) };
        local.intend(batch).unwrap();
        stored(&store, batch, &[1, 3], 2).await;

        let (start, local) = next_start(&store, dir.path(), Ok(())).await;
        assert_eq!((start, known(&local)), (Start::Follow, batch));
        hashes(&local, &[(1, 2), (2, 1), (3, 2)]);
        assert_eq!(local.hashes().unwrap().read(Pgno::new(4).unwrap(), 1).unwrap(), [0]);
        drop(local);
        assert_eq!(known(&open(dir.path())), batch);
    }

    /// lsfast was killed while it wrote the hashes of a batch; then the store lost that batch. Its
    /// pages would look stored.
    #[tokio::test]
    async fn hashes_of_a_batch_that_is_gone_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path().join("replica"));
        stored(&store, point(1, 7, 1), &[1], 1).await;
        let mut local = open(dir.path());
        let begun = local.begin_hashes().unwrap();
        begun.write([(Pgno::FIRST, 7)]).unwrap();
        local.acknowledge_image(point(1, 7, 1), begun).unwrap();
        local.intend(point(2, 9, 1)).unwrap();
        let (start, _) = next_start(&store, dir.path(), Ok(())).await;
        assert_eq!(start, Start::Follow, "the upload never came to the store");
        local.begin_hashes_of(Txid(2)).unwrap();
        let (start, local) = next_start(&store, dir.path(), Ok(())).await;
        assert!(matches!(&start, Start::Image(why) if why.contains("was stored before")), "{start:?}");
        assert!(local.hashes().is_none());
    }

    /// The store holds an earlier attempt of the same batch, or another program's: its content is
    /// known, but the WAL has to be followed from the old position.
    #[tokio::test]
    async fn another_batch_of_that_number_does_not_move_the_position() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path().join("replica"));
        open(dir.path()).intend(point(1, 9, 2)).unwrap();
        stored(&store, point(1, 7, 2), &[1, 2], 1).await;
        let (_, local) = next_start(&store, dir.path(), Err("new".into())).await;
        assert_eq!(known(&local), Point { pos: WalPos::default(), ..point(1, 9, 2) });
        hashes(&local, &[(1, 1), (2, 1)]);
    }

    #[test]
    fn parts_are_neighbours_and_not_too_large() {
        let entry = |no: u32, offset: u64, len: u64| IndexEntry {
            pgno: Pgno::new(no).unwrap(),
            offset,
            len: len as _,
        };
        let third = limits::GET_PART_BYTES / 3 + 1;
        let index: Vec<_> = (0..5).map(|i| entry(i + 1, 100 + u64::from(i) * third, third)).collect();
        let lengths: Vec<_> = parts(&index).map(<[_]>::len).collect();
        assert_eq!(lengths, [2, 2, 1]);
        let large = [entry(1, 100, 2 * limits::GET_PART_BYTES)];
        assert_eq!(parts(&large).count(), 1);
        assert_eq!(parts(&[]).count(), 0);
    }
}
