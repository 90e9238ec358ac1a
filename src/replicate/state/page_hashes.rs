//! A hash of each page as the replica has it, in a file of the state folder.
//!
//! # Overview
//!
//! When frames of the WAL were missed, the pages that differ from their hash are those that the
//! replica lacks.
//!
//! # Order of writes
//!
//! An entry is written only after the store has answered for the page. So a stale entry costs an
//! upload and never hides a change.
//!
//! # Format
//!
//! The file begins with the TXID that it belongs to (8 bytes) and `LSFPAGES`. An array of 16-byte
//! entries follows: XXH3-128 of page 1, 2, ... with the seed of the state file, little-endian. An
//! entry of 0, or beyond the end, means "not known". Files of earlier versions lack the first 16
//! bytes.
//!
//! A file that belongs to another TXID than the state next to it is a copy from another time. It
//! could hide a page that has got its old content back since then, so such a file is ignored
//! entirely.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::replica_folder;
use crate::base::pages::PageSet;
use crate::base::{Pgno, Txid, limits};
use crate::io::durable::{self, temporary_beside};
use crate::io::{File, OnDemand};

const ENTRY_BYTES: usize = 16;
const MAGIC: [u8; 8] = *b"LSFPAGES";
const NAME: &str = "pages";
/// Name of a new file until it is complete.
const NEW: &str = "pages.new";
const MODE: u32 = 0o600;

/// Most entries in one write.
const RUN_MAX: usize = 4096;

/// The page hashes of one replica.
#[derive(Debug, Clone)]
pub struct PageHashes {
    file: Arc<OnDemand>,
    seed: u64,
    /// Entries before that of page 1: one for TXID and magic, or none in a file of an earlier
    /// version.
    before: u64,
}

/// XXH3-128 of a page.
#[must_use]
pub fn hash_page(seed: u64, page: &[u8]) -> u128 {
    xxh3_128_with_seed(page, seed)
}

impl PageHashes {
    /// Opens the page hashes in the folder of a replica. Returns also the TXID that they belong to;
    /// `None` in a file of an earlier version. A missing file is created, empty.
    ///
    /// # Errors
    /// Any I/O error of opening or reading the file.
    pub fn of(dir: &Path, seed: u64) -> io::Result<(PageHashes, Option<Txid>)> {
        let file = Arc::new(OnDemand::new(replica_folder(dir), NAME, MODE));
        let mut head = [0; ENTRY_BYTES];
        let have = file.get()?.pread(&mut head, 0)?;
        let (txid, magic) = head.split_first_chunk().expect("an entry is longer than a TXID");
        let bound = (have == ENTRY_BYTES && *magic == MAGIC).then(|| Txid(u64::from_le_bytes(*txid)));
        Ok((PageHashes { file, seed, before: u64::from(bound.is_some()) }, bound))
    }

    /// Creates an empty file next to the present one. The caller fills it, then puts it in place
    /// with [`PageHashes::into_place`].
    ///
    /// # Errors
    /// Any I/O error of creating or writing the file.
    pub fn begin_new(dir: &Path, seed: u64) -> io::Result<PageHashes> {
        let folder = replica_folder(dir);
        let file = folder.open()?.create_anew(NEW, MODE)?;
        let file = Arc::new(OnDemand::new(folder, NEW, MODE).opened(file));
        let hashes = PageHashes { file, seed, before: 1 };
        hashes.bind(Txid(0))?;
        Ok(hashes)
    }

    /// Puts a file from [`PageHashes::begin_new`] in place of the present one.
    ///
    /// # Errors
    /// Any I/O error of the rename.
    pub fn into_place(self, dir: &Path) -> io::Result<PageHashes> {
        replica_folder(dir).open()?.rename(NEW, NAME)?;
        Ok(PageHashes { file: Arc::new(self.file.renamed(NAME)), ..self })
    }

    /// Notes that the hashes belong to this TXID from now on.
    ///
    /// # Errors
    /// Any I/O error of the write.
    pub fn bind(&self, txid: Txid) -> io::Result<()> {
        if self.before == 0 {
            return Ok(());
        }
        let mut head = [0; ENTRY_BYTES];
        head[..8].copy_from_slice(&txid.0.to_le_bytes());
        head[8..].copy_from_slice(&MAGIC);
        self.file.get()?.pwrite_all(&head, 0)
    }

    /// Whether the file contains the TXID that it belongs to.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.before > 0
    }

    fn offset(&self, page_index: u64) -> u64 {
        (page_index + self.before) * ENTRY_BYTES as u64
    }

    /// The seed of the hashes.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The file, for an fsync.
    ///
    /// # Errors
    /// Any I/O error of opening the file again.
    pub fn file(&self) -> io::Result<File> {
        self.file.get()
    }

    /// Closes the file until it is needed again.
    pub fn rest(&self) {
        self.file.rest();
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// Any I/O error of truncating the file.
    pub fn forget(&self) -> io::Result<()> {
        self.file.get()?.std().set_len(0)
    }

    /// Reads the entries of `count` pages from `first` on; 0 for pages that are not known.
    ///
    /// # Errors
    /// Any I/O error of the read.
    pub fn read(&self, first: Pgno, count: usize) -> io::Result<Vec<u128>> {
        let mut bytes = vec![0; count * ENTRY_BYTES];
        self.file.get()?.pread(&mut bytes, self.offset(first.index() as u64))?;
        let entry = |b: &[u8]| u128::from_le_bytes(b.try_into().expect("an entry has 16 bytes"));
        Ok(bytes.chunks_exact(ENTRY_BYTES).map(entry).collect())
    }

    /// Writes entries in ascending order of pages; adjacent ones go out in one write.
    ///
    /// # Errors
    /// Any I/O error of the writes.
    pub fn write(&self, entries: impl IntoIterator<Item = (Pgno, u128)>) -> io::Result<()> {
        let mut run: Vec<u8> = Vec::new();
        let mut first: Option<Pgno> = None;
        for (pgno, hash) in entries {
            let next = first.map(|f| f.index() + run.len() / ENTRY_BYTES);
            if next != Some(pgno.index()) || run.len() >= RUN_MAX * ENTRY_BYTES {
                self.write_run(first, &run)?;
                run.clear();
                first = Some(pgno);
            }
            run.extend_from_slice(&hash.to_le_bytes());
        }
        self.write_run(first, &run)
    }

    fn write_run(&self, first: Option<Pgno>, run: &[u8]) -> io::Result<()> {
        match first {
            Some(first) => self.file.get()?.pwrite_all(run, self.offset(first.index() as u64)),
            None => Ok(()),
        }
    }

    /// Removes the entries of pages above `size_pages`.
    ///
    /// # Errors
    /// Any I/O error of truncating the file.
    pub fn shrink(&self, size_pages: u32) -> io::Result<()> {
        let len = self.offset(u64::from(size_pages));
        let file = self.file.get()?;
        if file.len()? > len {
            file.std().set_len(len)?;
        }
        Ok(())
    }

    /// Whether there are no entries.
    ///
    /// # Errors
    /// Any I/O error of reading the file's length.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.file.get()?.len()? <= self.offset(0))
    }
}

/// Hashes of a batch that is being uploaded. They count only once the store has answered for it.
///
/// Up to [`limits::BATCH_HASHES`] are kept in memory, then in a temporary file. If that file cannot
/// be written, as on a full disk, the pages are kept as "not known" instead: their next comparison
/// costs an upload.
#[derive(Debug)]
pub struct Gathered {
    dir: PathBuf,
    memory: Vec<(Pgno, u128)>,
    file: Option<durable::Pending>,
    in_file: u64,
    unknown: PageSet,
}

/// Bytes of one entry in the temporary file.
const GATHERED_BYTES: usize = 4 + ENTRY_BYTES;

impl Gathered {
    /// An empty set; a temporary file may be created in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Gathered {
        let (dir, unknown) = (dir.to_owned(), PageSet::default());
        Gathered { dir, memory: Vec::new(), file: None, in_file: 0, unknown }
    }

    /// Adds hashes of further pages, which must all be above those added before.
    pub fn take(&mut self, hashes: Vec<(Pgno, u128)>) {
        self.memory.extend(hashes);
        if self.memory.len() >= limits::BATCH_HASHES {
            if self.spill().is_err() {
                self.memory.iter().for_each(|(p, _)| self.unknown.insert(*p));
            }
            self.memory.clear();
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(durable::Pending::create(temporary_beside(&self.dir.join("hashes")), MODE)?),
        };
        let mut bytes = Vec::with_capacity(self.memory.len() * GATHERED_BYTES);
        for (pgno, hash) in &self.memory {
            bytes.extend_from_slice(&pgno.get().to_le_bytes());
            bytes.extend_from_slice(&hash.to_le_bytes());
        }
        file.file().pwrite_all(&bytes, self.in_file)?;
        self.in_file += bytes.len() as u64;
        Ok(())
    }

    /// Writes them to the replica's page hashes, after the store has answered for the batch.
    ///
    /// # Errors
    /// Any I/O error of reading the temporary file or writing the hashes.
    pub fn write_to(self, hashes: &PageHashes) -> io::Result<()> {
        hashes.write(self.unknown.iter().map(|p| (p, 0)))?;
        let mut at = 0;
        while let Some(file) = &self.file
            && at < self.in_file
        {
            let len = (self.in_file - at).min((limits::BATCH_HASHES * GATHERED_BYTES) as u64);
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            file.file().pread_exact(&mut bytes, at)?;
            hashes.write(bytes.chunks_exact(GATHERED_BYTES).filter_map(|b| {
                let (pgno, hash) = b.split_first_chunk::<4>()?;
                Some((Pgno::new(u32::from_le_bytes(*pgno))?, u128::from_le_bytes(hash.try_into().ok()?)))
            }))?;
            at += len;
        }
        hashes.write(self.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pg(n: u32) -> Pgno {
        Pgno::new(n).unwrap()
    }

    #[test]
    fn entries_come_back_and_a_shrink_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let (h, txid) = PageHashes::of(dir.path(), 1).unwrap();
        assert!(h.is_empty().unwrap() && txid.is_none());
        h.write([(pg(2), 2), (pg(3), 3), (pg(9), 9)]).unwrap();
        assert_eq!(h.read(pg(1), 10).unwrap(), [0, 2, 3, 0, 0, 0, 0, 0, 9, 0]);
        h.shrink(2).unwrap();
        assert_eq!(h.read(pg(1), 10).unwrap(), [0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn gathered_hashes_wait_in_a_file_beyond_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, _) = PageHashes::of(dir.path(), 1).unwrap();
        let n = 3 * limits::BATCH_HASHES as u32 + 5;
        let mut gathered = Gathered::new(dir.path());
        for first in (1..=n).step_by(1000) {
            gathered.take((first..(first + 1000).min(n + 1)).map(|i| (pg(i), u128::from(i))).collect());
            assert!(gathered.memory.capacity() < 2 * limits::BATCH_HASHES);
        }
        assert!(kept.is_empty().unwrap(), "nothing counts before the answer");
        gathered.write_to(&kept).unwrap();
        assert!(kept.read(pg(1), n as usize).unwrap().into_iter().eq((1..=n).map(u128::from)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the file is gone");
        let mut nowhere = Gathered::new(&dir.path().join("nowhere"));
        nowhere.take((1..=n).map(|i| (pg(i), 7)).collect());
        nowhere.take(vec![(pg(n + 1), 8)]);
        nowhere.write_to(&kept).unwrap();
        assert_eq!(kept.read(pg(n), 2).unwrap(), [0, 8], "what could not be kept is not known");
    }

    #[test]
    fn a_long_run_is_cut_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let h = PageHashes::begin_new(dir.path(), 1).unwrap();
        let n = RUN_MAX as u32 * 2 + 5;
        h.write((1..=n).map(|i| (pg(i), u128::from(i)))).unwrap();
        assert!(h.read(pg(1), n as usize).unwrap().into_iter().eq((1..=n).map(u128::from)));
    }

    #[test]
    fn a_file_says_which_txid_it_belongs_to_and_one_of_an_earlier_version_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let h = PageHashes::begin_new(dir.path(), 1).unwrap();
        assert!(h.is_empty().unwrap());
        h.write([(pg(1), 7), (pg(2), 8)]).unwrap();
        h.bind(Txid(5)).unwrap();
        h.into_place(dir.path()).unwrap();
        let (h, txid) = PageHashes::of(dir.path(), 1).unwrap();
        assert_eq!((txid, h.read(pg(1), 3).unwrap()), (Some(Txid(5)), vec![7, 8, 0]));
        h.shrink(1).unwrap();
        assert_eq!(h.read(pg(1), 2).unwrap(), [7, 0]);
        let old: Vec<u8> = [7u128, 8].iter().flat_map(|e| e.to_le_bytes()).collect();
        std::fs::write(dir.path().join("pages"), old).unwrap();
        let (h, txid) = PageHashes::of(dir.path(), 1).unwrap();
        assert_eq!((txid, h.read(pg(1), 3).unwrap()), (None, vec![7, 8, 0]));
        h.bind(Txid(5)).unwrap();
        assert_eq!(h.read(pg(1), 1).unwrap(), [7], "there is no room for it in such a file");
    }
}
