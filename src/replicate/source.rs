//! The pages of a live database as of one captured commit.
//!
//! While a pin is held the database file does not change, and neither do the log's frames up to the mark; so a page is its newest frame that
//! is not yet in the database file, or else what the database file has.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::Mark;
use crate::base::{FrameNo, PageSize, Pgno, Salts, limits};
use crate::io::File;
use crate::sqlite::database::Database;
use crate::wal::format::{self, FrameHeader};

/// How long a header may be on its way. A writer needs less than a microsecond, if it is not stopped in between.
const HEADER_WAIT: Duration = Duration::from_millis(100);

/// A readable state of a database. Keeps the database open.
#[derive(Debug)]
pub struct PageSource {
    db: Arc<Database>,
    /// Newest frame of each page that is not in the database file.
    frames: HashMap<Pgno, FrameNo>,
    size_pages: u32,
}

impl PageSource {
    /// The state at `mark`, under a pin. Reads the frame headers that are not copied yet: not for the loop.
    ///
    /// # Errors
    /// The operating system, or `InvalidData` if the log is not as it was captured.
    pub fn new(db: &Arc<Database>, mark: &Mark) -> io::Result<PageSource> {
        let copied = db.shm().checkpoint_info().n_backfill;
        let mut source =
            PageSource { db: Arc::clone(db), frames: HashMap::new(), size_pages: mark.size_pages };
        if source.size_pages == 0 {
            let pages = db.file().len()? / u64::from(db.page_size().get());
            source.size_pages = u32::try_from(pages).map_err(io::Error::other)?;
        }
        // If everything is copied the log may start over at any time, and is not needed. If it just has (the salts are published before
        // nBackfill goes back to 0), everything was copied before.
        if copied < mark.pos.frame && current_salts(db)? == mark.pos.salts {
            source.index(FrameNo(copied.0 + 1), mark)?;
        }
        Ok(source)
    }

    fn index(&mut self, first: FrameNo, mark: &Mark) -> io::Result<()> {
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
                    Some(pgno) if header.salts == mark.pos.salts => drop(self.frames.insert(pgno, no)),
                    _ => return Err(changed(no)),
                }
            }
            next += n as u32;
        }
        Ok(())
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

    /// Turns `bytes`, read from the database file at page `first` (and `have` of them there), into the state: lays newer frames over
    /// it.
    ///
    /// # Errors
    /// The operating system, or a page that is neither in the file nor in the log.
    pub fn overlay(&self, first: Pgno, bytes: &mut [u8], have: usize) -> io::Result<()> {
        let len = self.page_size().bytes();
        for (i, page) in bytes.chunks_exact_mut(len).enumerate() {
            let pgno = Pgno::new(first.get() + i as u32).expect("page numbers go up from 1");
            if let Some(frame) = self.frames.get(&pgno) {
                self.read_frame(*frame, page)?;
            } else if (i + 1) * len > have && pgno != self.page_size().lock_page() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{pgno:?} of {} is neither in the database file nor in its log", self.size_pages),
                ));
            }
        }
        Ok(())
    }

    fn read_frame(&self, frame: FrameNo, page: &mut [u8]) -> io::Result<()> {
        let at = format::frame_offset(self.page_size(), frame) + format::FRAME_HEADER_BYTES as u64;
        self.db.wal().pread_exact(page, at)
    }

    /// The numbers of all pages but the lock page.
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
        format!("frame {} of the log is not the one that was captured", frame.0),
    )
}
