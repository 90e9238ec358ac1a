//! A folder that keeps what was read from a replica for later runs.
//!
//! # Layout
//!
//! Objects are kept in blocks of [`VIEW_BLOCK_BYTES`](limits::VIEW_BLOCK_BYTES), each in a file:
//!
//! ```text
//! DIR/REPLICA/LEVEL-MIN-MAX-SIZE-MODIFIED/BLOCK
//! ```
//!
//! A file ends with a CRC-32 of its content and of what it is: identity of the replica, name and
//! version of the object, and number of the block. A block with another CRC is not used and is
//! read again. An object that was replaced has another size or time, so it has blocks of its own.
//!
//! # Several processes
//!
//! A block is written under a temporary name and then renamed, so a reader finds a whole block or
//! none. Two processes that write the same block write the same bytes.
//!
//! # Bound
//!
//! When a folder is opened, and again after many writes, the blocks that were not used for the
//! longest time are deleted until the rest is below
//! [`VIEW_FOLDER_BYTES`](limits::VIEW_FOLDER_BYTES).
//! A folder that cannot be written, or a full disk, is no error: reading goes on without it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};

use crate::base::{LtxId, limits};
use crate::io::{self, File};
use crate::store::{BoxFuture, Entry, Forward, Listed, Listing, Part, Result, Store};

/// Bytes of the CRC at the end of a block's file.
const CRC_LEN: usize = 4;

/// Age of the last use that is noted again. Noting each use would write to the disk too often.
const USE_NOTED: Duration = Duration::from_secs(3600);

/// A store whose reads are kept in a folder.
#[derive(Debug)]
pub(super) struct KeepingStore {
    inner: Arc<dyn Store>,
    /// The versions of the objects, by the last listing.
    listed: Mutex<HashMap<LtxId, Entry>>,
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    identity: String,
    /// Bytes written since the bound was enforced.
    written: AtomicU64,
    names: AtomicU64,
}

/// One version of an object.
#[derive(Debug, Clone, Copy)]
struct Version(Entry);

impl KeepingStore {
    /// Keeps what is read from `inner` in `dir`, which is created.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub(super) fn new(inner: Arc<dyn Store>, dir: &Path) -> std::io::Result<KeepingStore> {
        io::durable::create_dir_all_with(dir, 0o700)?;
        let identity = inner.identity();
        let (written, names) = (AtomicU64::new(0), AtomicU64::new(0));
        let folder = Arc::new(Folder { dir: dir.to_owned(), identity, written, names });
        trim(dir, limits::VIEW_FOLDER_BYTES);
        Ok(KeepingStore { inner, listed: Mutex::default(), folder })
    }

    async fn read(&self, version: Version, range: Range<u64>) -> Result<Bytes> {
        let block = limits::VIEW_BLOCK_BYTES;
        let (first, last) = (range.start / block, (range.end - 1) / block);
        let folder = Arc::clone(&self.folder);
        let kept = move || (first..=last).map(|n| folder.read(version, n)).collect::<Vec<_>>();
        let mut blocks = tokio::task::spawn_blocking(kept).await.unwrap_or_default();
        blocks.resize(usize::try_from(last - first + 1).unwrap_or(0), None);
        let mut at = 0;
        while at < blocks.len() {
            let missing = blocks[at..].iter().take_while(|kept| kept.is_none()).count();
            if missing == 0 {
                at += 1;
                continue;
            }
            let start = (first + at as u64) * block;
            let end = (start + missing as u64 * block).min(version.0.size);
            let mut bytes = self.inner.get(version.0.id, start..end).await?;
            let is_whole = bytes.len() as u64 == end - start;
            for (n, place) in (first + at as u64..).zip(&mut blocks[at..at + missing]) {
                let part = bytes.split_to(bytes.len().min(block as usize));
                if is_whole {
                    self.folder.write_behind(version, n, part.clone());
                }
                *place = Some(part);
            }
            at += missing;
        }
        let mut joined = BytesMut::new();
        blocks.into_iter().flatten().for_each(|part| joined.extend_from_slice(&part));
        let joined = joined.freeze();
        let from = ((range.start - first * block) as usize).min(joined.len());
        let to = ((range.end - first * block) as usize).min(joined.len());
        Ok(joined.slice(from..to))
    }
}

impl Forward for KeepingStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn list_all<'a>(&'a self) -> BoxFuture<'a, Result<Listing>> {
        Box::pin(async move {
            let listing = self.inner.list_all().await?;
            let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
            *listed = listing.files.iter().map(|entry| (entry.id, *entry)).collect();
            Ok(listing)
        })
    }

    fn list_part<'a>(&'a self, part: Part) -> BoxFuture<'a, Result<Option<Listed>>> {
        Box::pin(async move {
            let found = self.inner.list_part(part).await?;
            let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
            if listed.len() > limits::VIEW_LISTED_MAX {
                listed.clear();
            }
            let files = found.iter().flat_map(|found| &found.listing.files);
            listed.extend(files.map(|entry| (entry.id, *entry)));
            Ok(found)
        })
    }

    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        let fits =
            |entry: &Entry| range.end <= entry.size && range.start + limits::VIEW_KEPT_BYTES_MIN <= range.end;
        match listed.filter(fits) {
            Some(entry) => Box::pin(self.read(Version(entry), range)),
            None => self.inner.get(id, range),
        }
    }
}

impl Folder {
    fn path(&self, Version(Entry { id, size, modified }): Version, block: u64) -> PathBuf {
        let replica = xxhash_rust::xxh3::xxh3_64(self.identity.as_bytes());
        let object = format!("{}-{}-{}-{size}-{}", id.level, id.min, id.max, modified.0);
        self.dir.join(format!("{replica:016x}")).join(object).join(format!("{block:x}"))
    }

    fn crc(&self, Version(Entry { id, size, modified }): Version, block: u64, bytes: &[u8]) -> [u8; CRC_LEN] {
        let what = format!("{}\n{id:?} {size} {} {block}\n", self.identity, modified.0);
        let mut crc = crc32fast::Hasher::new();
        crc.update(what.as_bytes());
        crc.update(bytes);
        crc.finalize().to_be_bytes()
    }

    /// A block that is kept and whole.
    fn read(&self, version: Version, block: u64) -> Option<Bytes> {
        let path = self.path(version, block);
        let start = block * limits::VIEW_BLOCK_BYTES;
        let len = version.0.size.checked_sub(start)?.min(limits::VIEW_BLOCK_BYTES);
        let mut bytes = io::read_small_itself(&path, limits::VIEW_BLOCK_BYTES + CRC_LEN as u64).ok()?;
        let crc = bytes.split_off(bytes.len().saturating_sub(CRC_LEN));
        if bytes.len() as u64 != len || crc != self.crc(version, block, &bytes) {
            _ = std::fs::remove_file(&path);
            return None;
        }
        note_use(&path);
        Some(bytes.into())
    }

    /// Writes a block on another thread. Nothing waits for it.
    fn write_behind(self: &Arc<Folder>, version: Version, block: u64, bytes: Bytes) {
        let folder = Arc::clone(self);
        drop(tokio::task::spawn_blocking(move || folder.write(version, block, &bytes)));
    }

    fn write(&self, version: Version, block: u64, bytes: &[u8]) -> Option<()> {
        let path = self.path(version, block);
        io::durable::create_dir_all_with(path.parent()?, 0o700).ok()?;
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{number}", std::process::id()));
        let file = File::create_new(&temporary, 0o600).ok()?;
        let crc = self.crc(version, block, bytes);
        let written = file
            .pwrite_all(bytes, 0)
            .and_then(|()| file.pwrite_all(&crc, bytes.len() as u64))
            .and_then(|()| std::fs::rename(&temporary, &path));
        if written.is_err() {
            _ = std::fs::remove_file(&temporary);
            return None;
        }
        let written = self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
        if written > limits::VIEW_FOLDER_BYTES / 16 {
            self.written.store(0, Ordering::Relaxed);
            trim(&self.dir, limits::VIEW_FOLDER_BYTES);
        }
        Some(())
    }
}

/// Notes that a block was used, so that it is not among the first to be deleted.
fn note_use(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    let used = file.std().metadata().and_then(|m| m.modified());
    if used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > USE_NOTED)) {
        _ = file.std().set_modified(SystemTime::now());
    }
}

/// Deletes the blocks that were used last before all others, until at most nine tenths of the bound
/// are left.
fn trim(dir: &Path, bytes_max: u64) {
    let mut blocks: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for object in entries(dir).iter().flat_map(|replica| entries(replica)) {
        for path in entries(&object) {
            if let Ok(found) = std::fs::symlink_metadata(&path)
                && found.is_file()
            {
                blocks.push((found.modified().unwrap_or(SystemTime::UNIX_EPOCH), found.len(), path));
            }
        }
    }
    let mut bytes: u64 = blocks.iter().map(|(_, len, _)| len).sum();
    if bytes <= bytes_max {
        return;
    }
    blocks.sort_unstable_by_key(|(used, ..)| *used);
    for (_, len, path) in blocks {
        if bytes <= bytes_max / 10 * 9 {
            break;
        }
        if std::fs::remove_file(&path).is_ok() {
            bytes -= len;
            // Removes folders only if they are empty.
            path.parent().and_then(|object| std::fs::remove_dir(object).ok());
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Millis;
    use crate::base::{Level, Txid};
    use crate::store::{FileStore, PutOptions};

    /// A replica with one object of 200,000 bytes, and the folder.
    fn world(runtime: &tokio::runtime::Runtime) -> (tempfile::TempDir, LtxId, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let id = LtxId::new(Level::new(1).unwrap(), Txid(2), Txid(3)).unwrap();
        let mut random = fastrand::Rng::with_seed(5);
        let bytes: Vec<u8> = (0..200_000).map(|_| random.u8(..)).collect();
        let store = FileStore::new(dir.path().join("replica"));
        let options = PutOptions { created: Millis(1_000), create_only: false };
        runtime.block_on(store.put(id, vec![bytes.clone().into()], options)).unwrap();
        (dir, id, bytes)
    }

    fn keeping(dir: &Path) -> Arc<dyn Store> {
        let inner = Arc::new(FileStore::new(dir.join("replica")));
        Arc::new(KeepingStore::new(inner, &dir.join("cache")).unwrap())
    }

    fn blocks(dir: &Path) -> Vec<PathBuf> {
        let objects: Vec<_> = entries(&dir.join("cache")).iter().flat_map(|r| entries(r)).collect();
        let mut blocks: Vec<_> = objects.iter().flat_map(|o| entries(o)).collect();
        blocks.sort();
        blocks
    }

    #[test]
    fn what_was_read_is_there_for_the_next_run_and_damage_is_not_used() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let (dir, id, bytes) = world(&runtime);
        let store = keeping(dir.path());
        runtime.block_on(store.list_all()).unwrap();
        let ranges = [0..5_000, 60_000..140_000, 195_000..200_000, 65_536..131_072, 1..10];
        for range in ranges.clone() {
            let read = runtime.block_on(store.get(id, range.clone())).unwrap();
            assert_eq!(read, bytes[range.start as usize..range.end as usize], "{range:?}");
        }
        // The writes are behind.
        drop(runtime);
        assert_eq!(blocks(dir.path()).len(), 4);
        // The object is away, but its listing is known: the blocks are enough.
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let store = keeping(dir.path());
        runtime.block_on(store.list_all()).unwrap();
        std::fs::remove_dir_all(dir.path().join("replica")).unwrap();
        for range in &ranges[..4] {
            let read = runtime.block_on(store.get(id, range.clone())).unwrap();
            assert_eq!(read, bytes[range.start as usize..range.end as usize], "{range:?}");
        }
        assert!(runtime.block_on(store.get(id, 1..10)).is_err(), "a few bytes are not kept");
        // A changed byte, and a block under the name of another.
        let all = blocks(dir.path());
        let mut damaged = std::fs::read(&all[0]).unwrap();
        damaged[17] ^= 1;
        std::fs::write(&all[0], damaged).unwrap();
        std::fs::copy(&all[1], &all[2]).unwrap();
        for range in [0..5_000, 131_072..140_000] {
            assert!(runtime.block_on(store.get(id, range)).is_err(), "neither is used");
        }
        assert_eq!(blocks(dir.path()).len(), 2, "both are gone");
    }

    #[test]
    fn the_blocks_used_last_stay() {
        let dir = tempfile::tempdir().unwrap();
        let object = dir.path().join("r/o");
        std::fs::create_dir_all(&object).unwrap();
        for n in 0..10u64 {
            let path = object.join(n.to_string());
            std::fs::write(&path, [0; 100]).unwrap();
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 - n);
            File::open(&path).unwrap().std().set_modified(used).unwrap();
        }
        trim(dir.path(), 1_000);
        assert_eq!(entries(&object).len(), 10, "the bound is not exceeded");
        trim(dir.path(), 500);
        let mut left = entries(&object);
        left.sort();
        assert_eq!(left, [0, 1, 2, 3].map(|n| object.join(n.to_string())));
    }
}
