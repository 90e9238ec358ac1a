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
//! The file begins with the TXID that it belongs to (8 bytes) and `LSFPAGE2`. An array of 16-byte
//! entries follows, for page 1, 2, ...: XXH3-64 of the page with the seed of the state file, and
//! the page's hash in the database checksum ([`base::checksum`](crate::base::checksum)), both
//! little-endian. A page is unchanged if both are equal. The seed is secret, so that pages cannot
//! be made up to look unchanged. An entry of 0, or beyond the end, means "not known". A file that
//! does not begin like this is ignored.
//!
//! A file that belongs to another TXID than the state next to it is a copy from another time. It
//! could hide a page that has got its old content back since then, so such a file is ignored
//! entirely.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::replica_folder;
use crate::base::checksum::page_hash;
use crate::base::pages::PageSet;
use crate::base::{Pgno, Txid, limits};
use crate::io::durable::{self, temporary_beside};
use crate::io::{File, OnDemand, explain_own};

const ENTRY_BYTES: usize = 16;
const MAGIC: [u8; 8] = *b"LSFPAGE2";
const NAME: &str = "pages";
/// Name of a new file until it is complete.
const NEW: &str = "pages.new";
const MODE: u32 = 0o600;

/// Entries that one read fetches where single ones are needed: those of pages close to each other
/// cost one call.
const WINDOW: usize = 256;

/// Most entries in one write.
const RUN_MAX: usize = 4096;

/// The page hashes of one replica.
#[derive(Debug, Clone)]
pub struct PageHashes {
    file: Arc<OnDemand>,
    seed: u64,
}

/// The entry of a page: its secret hash in the lower half, its published one in the upper half.
#[must_use]
pub fn hash_page(seed: u64, pgno: Pgno, page: &[u8]) -> u128 {
    entry(xxh3_64_with_seed(page, seed), page_hash(pgno, page))
}

/// An entry of both hashes of a page.
#[must_use]
pub fn entry(secret: u64, published: u64) -> u128 {
    u128::from(published) << 64 | u128::from(secret)
}

/// The hash of a page in the database checksum, from its entry.
#[must_use]
pub const fn published(entry: u128) -> u64 {
    (entry >> 64) as u64
}

impl PageHashes {
    /// Opens the page hashes in the folder of a replica. Returns also the TXID that they belong to;
    /// `None` if they are not to be used. A missing file is created, empty.
    ///
    /// # Errors
    /// Any I/O error of opening or reading the file.
    pub fn of(dir: &Path, seed: u64) -> io::Result<(PageHashes, Option<Txid>)> {
        let file = Arc::new(OnDemand::new(replica_folder(dir), NAME, MODE));
        let mut head = [0; ENTRY_BYTES];
        let have = file.get()?.pread(&mut head, 0)?;
        let (txid, magic) = head.split_first_chunk().expect("an entry is longer than a TXID");
        let bound = (have == ENTRY_BYTES && *magic == MAGIC).then(|| Txid(u64::from_le_bytes(*txid)));
        Ok((PageHashes { file, seed }, bound))
    }

    /// Creates an empty file next to the present one. The caller fills it, then puts it in place
    /// with [`PageHashes::into_place`].
    ///
    /// # Errors
    /// Any I/O error of creating or writing the file.
    pub fn begin_new(dir: &Path, seed: u64) -> io::Result<PageHashes> {
        let folder = replica_folder(dir);
        let made = folder.open()?.create_anew(NEW, MODE);
        let file = made.map_err(|e| explain_own(&dir.join(NEW), e))?;
        let file = Arc::new(OnDemand::new(folder, NEW, MODE).opened(file));
        let hashes = PageHashes { file, seed };
        hashes.bind(Txid(0))?;
        Ok(hashes)
    }

    /// Puts a file from [`PageHashes::begin_new`] in place of the present one.
    ///
    /// # Errors
    /// Any I/O error of the rename.
    pub fn into_place(self, dir: &Path) -> io::Result<PageHashes> {
        let renamed = replica_folder(dir).open()?.rename(NEW, NAME);
        renamed.map_err(|e| explain_own(&dir.join(NAME), e))?;
        Ok(PageHashes { file: Arc::new(self.file.renamed(NAME)), ..self })
    }

    /// Notes that the hashes belong to this TXID from now on.
    ///
    /// # Errors
    /// Any I/O error of the write.
    pub fn bind(&self, txid: Txid) -> io::Result<()> {
        let mut head = [0; ENTRY_BYTES];
        head[..8].copy_from_slice(&txid.0.to_le_bytes());
        head[8..].copy_from_slice(&MAGIC);
        self.file.get()?.pwrite_all(&head, 0)
    }

    /// Offset of an entry. TXID and magic take the place of one.
    const fn offset(page_index: u64) -> u64 {
        (page_index + 1) * ENTRY_BYTES as u64
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
        self.file.get()?.pread(&mut bytes, PageHashes::offset(first.index() as u64))?;
        let entry = |b: &[u8]| u128::from_le_bytes(b.try_into().expect("an entry has 16 bytes"));
        Ok(bytes.chunks_exact(ENTRY_BYTES).map(entry).collect())
    }

    /// Calls `f` with the entry of each of these pages, which ascend; 0 for one that is not known.
    ///
    /// # Errors
    /// Any I/O error of the reads.
    pub fn visit(&self, pages: impl Iterator<Item = Pgno>, mut f: impl FnMut(u128)) -> io::Result<()> {
        let file = self.file.get()?;
        let mut window = [0; WINDOW * ENTRY_BYTES];
        let mut known = 0..0;
        for pgno in pages {
            let index = pgno.index();
            if !known.contains(&index) {
                let have = file.pread(&mut window, PageHashes::offset(index as u64))?;
                window[have..].fill(0);
                known = index..index + WINDOW;
            }
            let at = (index - known.start) * ENTRY_BYTES;
            let entry = window[at..].first_chunk().expect("the window has whole entries");
            f(u128::from_le_bytes(*entry));
        }
        Ok(())
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
            Some(first) => self.file.get()?.pwrite_all(run, PageHashes::offset(first.index() as u64)),
            None => Ok(()),
        }
    }

    /// Removes the entries of pages above `size_pages`.
    ///
    /// # Errors
    /// Any I/O error of truncating the file.
    pub fn shrink(&self, size_pages: u32) -> io::Result<()> {
        let len = PageHashes::offset(u64::from(size_pages));
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
        Ok(self.file.get()?.len()? <= PageHashes::offset(0))
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
        let seen = |pages: &[u32]| {
            let mut entries = Vec::new();
            h.visit(pages.iter().map(|p| pg(*p)), |e| entries.push(e)).unwrap();
            entries
        };
        assert_eq!(seen(&[1, 2, 3, 9, 10, 5_000]), [0, 2, 3, 9, 0, 0]);
        h.write([(pg(300), 300), (pg(5_000), 5_000)]).unwrap();
        assert_eq!(seen(&[2, 257, 258, 300, 5_000, 5_001]), [2, 0, 0, 300, 5_000, 0]);
        h.shrink(2).unwrap();
        assert_eq!(h.read(pg(1), 10).unwrap(), [0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(seen(&[2, 3]), [2, 0]);
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
        let mut old = std::fs::read(dir.path().join("pages")).unwrap();
        old[8..16].copy_from_slice(b"LSFPAGES");
        std::fs::write(dir.path().join("pages"), old).unwrap();
        assert_eq!(PageHashes::of(dir.path(), 1).unwrap().1, None, "its entries are other hashes");
    }
}
