//! Compares the newest state of a replica with its source database, while that is in use.
//!
//! # Overview
//!
//! The comparison takes no lock and opens no connection, so the application does not notice it. The
//! header of the newest level-0 file says how far into the WAL the replica reaches. At that
//! position, the content of a page is its newest frame up to there. A page without such a frame is
//! read from the database file, unless a checkpoint may have copied a later frame there; those
//! pages are left out and counted. Frames up to a commit do not change until the WAL starts over.
//! Its header shows that, and then everything is read again.
//!
//! # Failure
//!
//! If the WAL is not the one that the replica names, it has started over after the replica's
//! position. Then the pages that have no frame in it are compared with the database file. If all
//! are equal, that proves as much; if not, nothing can be said. Without a WAL the file alone is the
//! database, and a difference may mean that the database has changed since.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use crate::base::checksum::page_hash;
use crate::base::{FrameNo, PageSize, Pgno, limits};
use crate::io::File;
use crate::ltx::Header;
use crate::restore::CompareError;
use crate::sqlite::database::{FileId, sibling};
use crate::wal::format::{self, HEADER_BYTES, WalHeader};
use crate::wal::frames::{Chain, UNLIMITED};

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Number of pages that were compared.
    pub pages: u64,
    /// Number of pages that were not compared, because the database has changed them since.
    pub left_out: u64,
    /// The first pages that differ.
    pub differ: Vec<Pgno>,
    /// Number of pages that differ.
    pub differ_count: u64,
    /// Whether the WAL contains the replica's position. If not, the database may have changed
    /// since.
    pub at_position: bool,
}

/// Compares the database with `hashes`, those of all pages of the state that `newest` ends. Blocks
/// its thread.
pub(super) fn compare(path: &Path, newest: &Header, hashes: &[u64]) -> Result<Compared, CompareError> {
    for _ in 0..limits::COMPARE_ATTEMPTS {
        if let Some(compared) = attempt(path, newest, hashes)? {
            return Ok(compared);
        }
    }
    Err(CompareError::Busy(limits::COMPARE_ATTEMPTS, path.to_owned()))
}

/// `None` if the WAL started over during the attempt.
fn attempt(path: &Path, newest: &Header, hashes: &[u64]) -> Result<Option<Compared>, CompareError> {
    let wal_path = sibling(path, "-wal");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| CompareError::Read { path, cause }
    };
    let file = File::open(path).map_err(failed(path))?;
    let mut log = Log::open(&wal_path, newest).map_err(failed(&wal_path))?;
    if let Some(found) = log.page_size().filter(|found| *found != newest.page_size) {
        return Err(CompareError::PageSize { path: path.to_owned(), found, expected: newest.page_size });
    }
    log.scan().map_err(failed(&wal_path))?;
    let mut suspects = Vec::new();
    let size = newest.page_size;
    let mut page = vec![0; size.bytes()];
    let lock = size.lock_page();
    let mut left_out = 0;
    for pgno in (1..=newest.commit).filter_map(Pgno::new).filter(|p| *p != lock) {
        if let Some(frame) = log.at.get(&pgno) {
            log.read(*frame, &mut page).map_err(failed(&wal_path))?;
        } else if log.later.contains(&pgno) {
            left_out += 1;
            continue;
        } else if file.pread(&mut page, pgno.offset(size)).map_err(failed(path))? < page.len() {
            suspects.push(pgno);
            continue;
        }
        if hashes.get(pgno.index()) != Some(&page_hash(pgno, &page)) {
            suspects.push(pgno);
        }
    }
    log.scan().map_err(failed(&wal_path))?;
    if !log.is_same(&wal_path).map_err(failed(&wal_path))? {
        return Ok(None);
    }
    let before = suspects.len();
    suspects.retain(|p| log.at.contains_key(p) || !log.later.contains(p));
    left_out += (before - suspects.len()) as u64;
    // A WAL that has started over holds commits that the replica stores only later, so a difference
    // proves nothing.
    if log.chain.is_some() && !log.has_position() && !suspects.is_empty() {
        return Err(CompareError::Moved { path: path.to_owned() });
    }
    let all = u64::from(newest.commit) - u64::from(lock.get() <= newest.commit);
    let mut compared = Compared {
        pages: all - left_out,
        left_out,
        differ_count: suspects.len() as u64,
        differ: suspects,
        at_position: log.has_position(),
    };
    // At its position the database has as many pages as the replica says.
    if log.size_at.is_some_and(|pages| pages != newest.commit) {
        compared.differ_count = compared.differ_count.max(1);
    }
    compared.differ.truncate(limits::COMPARE_FINDINGS);
    Ok(Some(compared))
}

/// The committed part of the WAL next to the database.
struct Log {
    file: Option<File>,
    header: [u8; HEADER_BYTES],
    chain: Option<Chain>,
    /// The last frame that the replica has, if this is the WAL that it names.
    position: Option<FrameNo>,
    /// Newest frame of each page up to the position.
    at: HashMap<Pgno, FrameNo>,
    /// Pages with frames after the position.
    later: HashSet<Pgno>,
    /// Length of the database in pages at the position.
    size_at: Option<u32>,
}

impl Log {
    fn open(path: &Path, newest: &Header) -> io::Result<Log> {
        let file = match File::open_itself(path) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let mut header = [0; HEADER_BYTES];
        let have = file.as_ref().map_or(Ok(0), |f| f.pread(&mut header, 0))?;
        let parsed = WalHeader::parse(&header[..have]).ok();
        let position = parsed.filter(|h| h.salts == newest.wal.salts).map(|h| {
            let end = newest.wal.offset.saturating_add(newest.wal.size).saturating_sub(HEADER_BYTES as u64);
            FrameNo(u32::try_from(end / format::frame_bytes(h.page_size) as u64).unwrap_or(u32::MAX))
        });
        let chain = parsed.as_ref().map(Chain::start);
        let (at, later) = (HashMap::new(), HashSet::new());
        Ok(Log { file, header, chain, position, at, later, size_at: None })
    }

    fn page_size(&self) -> Option<PageSize> {
        self.chain.map(|c| c.page_size)
    }

    /// Takes the transactions that were committed since the last scan.
    fn scan(&mut self) -> io::Result<()> {
        let (Some(file), Some(mut chain)) = (&self.file, self.chain) else { return Ok(()) };
        let frame_bytes = format::frame_bytes(chain.page_size);
        let mut buffer = vec![0; (limits::TAIL_READ_BYTES / frame_bytes).max(1) * frame_bytes];
        let position = self.position.unwrap_or(FrameNo(0));
        // Frames since the last commit.
        let mut open: Vec<(FrameNo, Pgno)> = Vec::new();
        loop {
            let have = file.pread(&mut buffer, chain.offset())?;
            let mut scan = chain.scan(&buffer[..have], UNLIMITED);
            for run in scan.by_ref() {
                open.extend(run.frames().map(|(no, pgno, _)| (no, pgno)));
                for (no, pgno) in open.drain(..) {
                    if no <= position {
                        self.at.insert(pgno, no);
                    } else {
                        self.later.insert(pgno);
                    }
                }
                if run.last() == position {
                    self.size_at = Some(run.size_pages);
                }
                self.chain = Some(run.end);
            }
            let scanned = scan.finish();
            open.extend(scanned.open.map(|(no, pgno, _)| (no, pgno)));
            if scanned.after_valid.next == chain.next {
                return Ok(());
            }
            chain = scanned.after_valid;
        }
    }

    /// Whether the replica's position is the end of a transaction in this WAL, or its beginning.
    fn has_position(&self) -> bool {
        self.position == Some(FrameNo(0)) || self.size_at.is_some()
    }

    fn read(&self, frame: FrameNo, page: &mut [u8]) -> io::Result<()> {
        let (Some(file), Some(size)) = (&self.file, self.page_size()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        file.pread_exact(page, format::frame_offset(size, frame) + format::FRAME_HEADER_BYTES as u64)
    }

    /// Whether the path still has the same WAL and it has not started over.
    fn is_same(&self, path: &Path) -> io::Result<bool> {
        let now = FileId::at(path)?;
        let Some(file) = &self.file else { return Ok(now.is_none()) };
        let mut header = [0; HEADER_BYTES];
        file.pread(&mut header, 0)?;
        Ok(header == self.header && now == Some(FileId::of(file.std())?))
    }
}
