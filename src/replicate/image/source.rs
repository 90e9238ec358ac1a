//! The pages of a live database as of one captured commit.
//!
//! While a pin is held, neither the database file nor the WAL's frames up to the mark change. So a
//! page is its newest frame that is not yet in the database file, or otherwise what the database
//! file has.
//!
//! The page number of a frame is in the frame's header, and in the wal-index too. The wal-index is
//! asked for frames that were not proven, because their headers may be damaged. It is also asked
//! where the WAL has more frames than a table in memory may hold.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{FrameNo, PageSize, Pgno, Salts, limits};
use crate::io::File;
use crate::replicate::pending::Mark;
use crate::sqlite::database::Database;
use crate::wal::format::{self, FrameHeader};

/// Most frames in one table, which takes some 1 MiB. Beyond that the wal-index is asked, one range
/// of pages at a time.
const TABLE_FRAMES: u32 = 1 << 16;

/// Pages of one range: 4 MiB of frame numbers.
const RANGE_PAGES: u32 = 1 << 20;

/// Ranges kept at once. Readers go through the pages in order, and several of them are a little
/// apart.
const RANGES: usize = 2;

/// Page numbers read from the wal-index at once.
const NUMBERS_AT_ONCE: u32 = 1 << 16;

/// How long a wal-index header may stay invalid. A writer publishes it in less than a microsecond
/// if it is not stopped in between.
const HEADER_WAIT: Duration = Duration::from_millis(100);

/// A readable state of a database. Keeps the database's descriptors open.
#[derive(Debug)]
pub struct PageSource {
    db: Arc<Database>,
    frames: Frames,
    mark: Mark,
    size_pages: u32,
}

/// The newest frame of each page that is not in the database file.
#[derive(Debug)]
enum Frames {
    Table(HashMap<Pgno, FrameNo>),
    Ranges {
        /// The first frame that is not in the database file.
        first: FrameNo,
        /// The most recently used ranges, newest first.
        known: Mutex<Vec<Arc<Range>>>,
    },
}

/// The newest frame of each page in one range; 0 for a page without one.
#[derive(Debug)]
struct Range {
    number: u32,
    frames: Vec<u32>,
}

impl PageSource {
    /// The state at `mark`, under a pin. Reads the headers of the frames that are not in the
    /// database file. Blocks: not for the loop.
    ///
    /// # Errors
    /// Any I/O error, or `InvalidData` if the WAL is not as it was captured.
    pub fn new(db: &Arc<Database>, mark: &Mark) -> io::Result<PageSource> {
        let copied = match db.shm().checkpoint_info().n_backfill {
            // No checksum covers nBackfill. If it is beyond the WAL's end it is wrong, and reading
            // all frames gives the right pages in any case.
            copied if copied > mark.pos.frame => FrameNo(0),
            copied => copied,
        };
        let mut source = PageSource {
            db: Arc::clone(db),
            frames: Frames::Table(HashMap::new()),
            mark: *mark,
            size_pages: mark.size_pages,
        };
        if source.size_pages == 0 {
            let pages = db.file().len()? / u64::from(db.page_size().get());
            source.size_pages = u32::try_from(pages).map_err(io::Error::other)?;
        }
        // If everything is copied, the WAL may start over at any time, and is not needed. If it has
        // just started over, everything had been copied before. (The new salts are published before
        // nBackfill is set to 0.)
        if copied < mark.pos.frame && current_salts(db)? == mark.pos.salts {
            let first = FrameNo(copied.0 + 1);
            source.frames = if mark.pos.frame.0 - copied.0 > TABLE_FRAMES {
                Frames::Ranges { first, known: Mutex::default() }
            } else {
                Frames::Table(source.table(first, mark)?)
            };
        }
        Ok(source)
    }

    fn table(&self, first: FrameNo, mark: &Mark) -> io::Result<HashMap<Pgno, FrameNo>> {
        let mut frames = HashMap::new();
        // Frames that were not proven come first: capture continued after them.
        let proven = first.max(FrameNo(mark.by_index.0.saturating_add(1)));
        self.numbers(first, FrameNo(proven.0 - 1), |pgno, frame| {
            frames.insert(pgno, frame);
        })?;
        self.headers(proven, mark, |pgno, frame| {
            frames.insert(pgno, frame);
        })?;
        Ok(frames)
    }

    /// Page numbers of the frames from `first` to `last`, from the wal-index.
    fn numbers(&self, first: FrameNo, last: FrameNo, mut found: impl FnMut(Pgno, FrameNo)) -> io::Result<()> {
        let mut next = first.0;
        while next <= last.0 {
            let n = NUMBERS_AT_ONCE.min(last.0 - next + 1);
            let numbers = self.db.shm().page_numbers(FrameNo(next), n as usize)?;
            for (frame, number) in (next..).map(FrameNo).zip(numbers) {
                found(Pgno::new(number).ok_or_else(|| changed(frame))?, frame);
            }
            next += n;
        }
        Ok(())
    }

    /// Page numbers of the frames from `first` to the mark, from the frames' headers.
    fn headers(&self, first: FrameNo, mark: &Mark, mut found: impl FnMut(Pgno, FrameNo)) -> io::Result<()> {
        let frame_bytes = format::frame_bytes(self.page_size());
        let piece = (limits::TAIL_READ_BYTES / frame_bytes).max(1);
        let mut buffer = vec![0; piece * frame_bytes];
        let mut next = first.0;
        while next <= mark.pos.frame.0 {
            let n = piece.min((mark.pos.frame.0 - next + 1) as usize);
            let bytes = &mut buffer[..n * frame_bytes];
            self.db.wal().pread_exact(bytes, format::frame_offset(self.page_size(), FrameNo(next)))?;
            for (i, frame) in bytes.chunks_exact(frame_bytes).enumerate() {
                let header: &[u8; format::FRAME_HEADER_BYTES] = frame.first_chunk().expect("a whole frame");
                let header = FrameHeader::parse(header);
                let no = FrameNo(next + i as u32);
                match header.pgno {
                    Some(pgno) if header.salts == mark.pos.salts => found(pgno, no),
                    _ => return Err(changed(no)),
                }
            }
            next += n as u32;
        }
        Ok(())
    }

    /// The newest frame of a page, if it has one.
    fn frame_of(&self, pgno: Pgno) -> io::Result<Option<FrameNo>> {
        let (first, known) = match &self.frames {
            Frames::Table(frames) => return Ok(frames.get(&pgno).copied()),
            Frames::Ranges { first, known } => (*first, known),
        };
        let (number, place) = (pgno.get() / RANGE_PAGES, (pgno.get() % RANGE_PAGES) as usize);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let range = match known.iter().position(|r| r.number == number) {
            Some(at) => Arc::clone(&known[at]),
            None => {
                known.truncate(RANGES - 1);
                let range = Arc::new(self.range(number, first)?);
                known.insert(0, Arc::clone(&range));
                range
            }
        };
        drop(known);
        Ok(range.frames.get(place).copied().filter(|f| *f != 0).map(FrameNo))
    }

    fn range(&self, number: u32, first: FrameNo) -> io::Result<Range> {
        let mut frames = vec![0; RANGE_PAGES as usize];
        self.numbers(first, self.mark.pos.frame, |pgno, frame| {
            if pgno.get() / RANGE_PAGES == number {
                frames[(pgno.get() % RANGE_PAGES) as usize] = frame.0;
            }
        })?;
        Ok(Range { number, frames })
    }

    /// Bytes in a page.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.db.page_size()
    }

    /// Pages in the database.
    #[must_use]
    pub fn size_pages(&self) -> u32 {
        self.size_pages
    }

    /// The database file, for reading ahead of [`PageSource::overlay`].
    #[must_use]
    pub fn file(&self) -> &File {
        self.db.file()
    }

    /// Turns `bytes` into the state, by laying newer frames over them. They were read from the
    /// database file at page `first`; only the first `have` bytes were there.
    ///
    /// # Errors
    /// Any I/O error of reading the WAL, or a page that is neither in the file nor in the WAL.
    pub fn overlay(&self, first: Pgno, bytes: &mut [u8], have: usize) -> io::Result<()> {
        let len = self.page_size().bytes();
        for (i, page) in bytes.chunks_exact_mut(len).enumerate() {
            let pgno = Pgno::new(first.get() + i as u32).expect("page numbers go up from 1");
            if let Some(frame) = self.frame_of(pgno)? {
                self.read_frame(pgno, frame, page)?;
            } else if (i + 1) * len > have && pgno != self.page_size().lock_page() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{pgno:?} of {} is neither in the database file nor in its WAL", self.size_pages),
                ));
            }
        }
        Ok(())
    }

    fn read_frame(&self, pgno: Pgno, frame: FrameNo, page: &mut [u8]) -> io::Result<()> {
        let at = format::frame_offset(self.page_size(), frame);
        // The table of proven frames was made from their headers, so only ranges need this check.
        if frame > self.mark.by_index && matches!(self.frames, Frames::Ranges { .. }) {
            let mut bytes = [0; format::FRAME_HEADER_BYTES];
            self.db.wal().pread_exact(&mut bytes, at)?;
            let header = FrameHeader::parse(&bytes);
            if header.pgno != Some(pgno) || header.salts != self.mark.pos.salts {
                return Err(changed(frame));
            }
        }
        self.db.wal().pread_exact(page, at + format::FRAME_HEADER_BYTES as u64)
    }

    /// Numbers of all pages except the lock page, ascending.
    pub fn all_pages(&self) -> impl Iterator<Item = Pgno> + use<> {
        let lock = self.page_size().lock_page();
        (1..=self.size_pages).filter_map(Pgno::new).filter(move |p| *p != lock)
    }
}

fn current_salts(db: &Database) -> io::Result<Salts> {
    let give_up = Instant::now() + HEADER_WAIT;
    loop {
        match db.shm().header() {
            Ok(header) => return Ok(header.salts),
            Err(e) if Instant::now() > give_up => return Err(io::Error::new(io::ErrorKind::InvalidData, e)),
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn changed(frame: FrameNo) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("frame {} of the WAL is not the one that was captured", frame.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicate::database::attach::{Opened, open};

    /// Frame headers, ranges and the wal-index all give the pages that a checkpoint writes, even if
    /// the WAL has more frames than a table may hold.
    #[test]
    fn pages_by_headers_ranges_and_wal_index_are_those_of_a_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = rusqlite::Connection::open(&path).unwrap();
        app.execute_batch(
            "PRAGMA page_size=512; PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF; \
             PRAGMA cache_size=50; CREATE TABLE t(id INTEGER PRIMARY KEY, x)",
        )
        .unwrap();
        let fill = "INSERT OR REPLACE INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?1) \
             SELECT i, randomblob(400) FROM n";
        app.execute(fill, [3_000]).unwrap();
        let db = Arc::new(Database::open(&path).unwrap());
        for rows in [0, 80_000] {
            app.execute(fill, [rows]).unwrap();
            let Opened { guard, mark, .. } = open(&db, &[]).unwrap();
            assert_eq!(mark.pos.frame.0 > TABLE_FRAMES, rows > 0, "{:?}", mark.pos.frame);
            let by_index = [FrameNo(0), FrameNo(mark.pos.frame.0 / 2), mark.pos.frame];
            let read = by_index.map(|by_index| {
                let source = PageSource::new(&db, &Mark { by_index, ..mark }).unwrap();
                let mut bytes = vec![0; mark.size_pages as usize * 512];
                let have = db.file().pread(&mut bytes, 0).unwrap();
                source.overlay(Pgno::FIRST, &mut bytes, have).unwrap();
                bytes
            });
            drop(guard);
            // Its locks belong to the descriptor, which stays open.
            db.shm().unlock(crate::wal::index::LOCK_CKPT).unwrap();
            if rows > 0 {
                app.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
                let mut file = vec![0; mark.size_pages as usize * 512];
                db.file().pread_exact(&mut file, 0).unwrap();
                assert!(read.iter().all(|bytes| *bytes == file), "the pages are not those of the file");
            } else {
                assert!(read[0] == read[1] && read[1] == read[2]);
            }
        }
    }
}
