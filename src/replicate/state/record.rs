//! The state of one replica next to the database: the point it has reached, and the hashes of its
//! pages.
//!
//! # Order of writes
//!
//! ```text
//! intend: the state has the intended point, then the upload begins
//! acknowledge: the store has answered; TXID of the page hashes, the hashes, then the durable point
//! ```
//!
//! # Failure and crash
//!
//! After a crash of the process all of this is exact. After a crash of the host the state goes back
//! to the last flush ([`Local::sync`]), and its position in the WAL is dropped. Page hashes that do
//! not belong to the state are ignored.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::next_checksum::NextChecksum;
use super::page_hashes::{PageHashes, published};
use super::unanswered::Unanswered;
use crate::base::clock::Millis;
use crate::base::{DatabaseChecksum, PageSize, Pgno, Txid};
use crate::io::durable::directory_of;
use crate::io::{Engine, Folder};
use crate::replicate::state::{self, Point, State, StateFile, boot_id, home_folder};
use crate::sqlite::database::{FileId, Stamp};

/// Permissions of the file that requests a full image.
const WISH_MODE: u32 = 0o600;

/// How often page hashes and state are flushed to disk while they change, so that a crash of the
/// host costs little.
const SYNC_EVERY: Duration = Duration::from_secs(30);

/// Notes that a checkpoint of this process has changed the database file from `before` to `now`,
/// after the last use of the state in `dir`. A state with another stamp than `before` is left
/// alone: the next start compares page hashes.
///
/// # Errors
/// Any I/O error of reading or writing the state.
pub fn note_checkpoint(dir: &Path, before: Stamp, now: Stamp) -> io::Result<()> {
    let (mut file, found) = StateFile::open(dir)?;
    match found {
        Some(state) if state.stamp == before => file.write(&State { stamp: now, ..state }),
        _ => Ok(()),
    }
}

/// State and page hashes of one replica.
#[derive(Debug)]
pub struct Local {
    dir: PathBuf,
    file: StateFile,
    hashes: Option<PageHashes>,
    /// The TXID that the page hashes belonged to when they were opened.
    hashes_of: Txid,
    state: State,
    /// The durable point of a state with another page size, if such a state was found.
    former: Option<Point>,
    synced_at: Instant,
}

impl Local {
    /// Opens state and hashes in `dir`. Without a valid state there are no hashes either.
    ///
    /// # Errors
    /// Any I/O error of opening or reading the state.
    pub fn open(dir: PathBuf, page_size: PageSize, db: FileId) -> io::Result<Local> {
        let (file, found) = StateFile::open(&dir)?;
        let fresh = State {
            page_size,
            boot: boot_id(),
            db,
            durable: Point::default(),
            intended: Point::default(),
            seed: fastrand::u64(..),
            hashes_synced: Txid(0),
            timestamp: Millis(0),
            print_synced: 0,
            stamp: Stamp::default(),
            unanswered: Unanswered::default(),
        };
        // A state without a durable point may still have a first image whose answer never came.
        let known = |s: &State| s.durable.txid != Txid(0) || s.intended.txid != Txid(0);
        let former = found.filter(|s| s.page_size != page_size && known(s)).map(|s| s.durable);
        let believed = found.filter(|s| s.page_size == page_size && known(s));
        // The page size has changed, and not what the store may still carry out.
        let unanswered = found.map(|s| s.still_unanswered()).unwrap_or_default();
        let mut state = believed.unwrap_or(State { unanswered, ..fresh });
        let newest = state.durable.txid.max(state.intended.txid);
        if state.boot != fresh.boot {
            // The host went down: only what had reached the disk counts, and the position in the
            // WAL does not.
            state.back_to_disk();
        }
        // Unreadable hashes count as none.
        let hashes = PageHashes::of(&dir, state.seed).ok().filter(|(hashes, of)| {
            // The hashes of the batch that was being acknowledged when the process or the host went
            // down are right, too.
            let belongs = of.is_some_and(|of| (state.durable.txid..=newest).contains(&of));
            belongs && state.durable.txid != Txid(0) && !hashes.is_empty().unwrap_or(true)
        });
        let (hashes, hashes_of) = match hashes {
            Some((hashes, of)) => (Some(hashes), of.unwrap_or_default()),
            None => (None, Txid(0)),
        };
        if hashes_of != state.durable.txid {
            // Some of the entries are of the next batch.
            state.durable.checksum = None;
        }
        if state.db != db {
            state.durable.pos = Point::default().pos;
        }
        (state.boot, state.db) = (fresh.boot, fresh.db);
        let local = Local { dir, file, hashes, hashes_of, state, former, synced_at: Instant::now() };
        local.rest();
        Ok(local)
    }

    /// The durable point of a state with another page size, which this one replaces.
    #[must_use]
    pub fn former(&self) -> Option<&Point> {
        self.former.as_ref()
    }

    /// Forgets the checksum of the durable point unless the page hashes make it; reads all of them.
    /// With one changed bit in them, a restore would refuse all later states.
    pub fn prove_checksum(&mut self) {
        let durable = &self.state.durable;
        let (Some(expected), Some(hashes)) = (durable.checksum, &self.hashes) else { return };
        let lock_page = self.state.page_size.lock_page();
        let pages = (0..durable.size_pages).filter_map(|n| Pgno::new(n + 1)).filter(|p| *p != lock_page);
        let mut sum = DatabaseChecksum::default();
        let read = hashes.visit(pages, |entry| sum.toggle(published(entry)));
        if read.is_err() || sum != expected {
            tracing::debug!(state = %self.dir.display(), "the page hashes are damaged; the next comparison or image makes the checksum known again");
            self.state.durable.checksum = None;
        }
    }

    /// Folder of the replica's state.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether `lsfast reset` requested a full image.
    #[must_use]
    pub fn wants_image(&self) -> bool {
        self.wish(|home, name| home.inode(name).map(drop))
    }

    /// Requests a full image of the next start.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn wish_for_image(&self) -> io::Result<()> {
        let wish = state::image_wish(&self.dir);
        let (Some(home), Some(name)) = (wish.parent(), wish.file_name().and_then(|n| n.to_str())) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        home_folder(home).open()?.create_anew(name, WISH_MODE).map(drop)
    }

    /// Whether `lsfast reset` requested a full image. Withdraws the request.
    pub fn take_wish_for_image(&self) -> bool {
        self.wish(|home, name| home.inode(name).and_then(|_| home.remove(name)))
    }

    /// Asks about, or removes, the file of such a request.
    fn wish(&self, ask: impl FnOnce(&Folder, &str) -> io::Result<()>) -> bool {
        let wish = state::image_wish(&self.dir);
        let name = wish.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        home_folder(directory_of(&wish)).open().is_ok_and(|home| ask(&home, name).is_ok())
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Notes the database file's stamp after SQLite's last write. It is written with the next
    /// state.
    pub fn note_stamp(&mut self, stamp: Stamp) {
        self.state.stamp = stamp;
    }

    /// The page hashes; `None` if none are known.
    #[must_use]
    pub fn hashes(&self) -> Option<&PageHashes> {
        self.hashes.as_ref()
    }

    /// The TXID that the page hashes belonged to at the start. If it is after the durable one,
    /// entries may be of a batch that was being acknowledged.
    #[must_use]
    pub fn hashes_of(&self) -> Txid {
        self.hashes_of
    }

    /// The checksum of the database after the next batch, to which the pages of that batch are
    /// given; `None` if it cannot be known.
    #[must_use]
    pub fn next_checksum(&self, size_pages: u32) -> Option<NextChecksum> {
        let durable = &self.state.durable;
        let (sum, hashes) = (durable.checksum?, self.hashes.clone()?);
        let sizes = (durable.size_pages, size_pages);
        Some(NextChecksum::of_batch(sum, hashes, self.state.page_size, sizes))
    }

    /// The timestamp for a header that is written now. It never decreases, unless an earlier one
    /// was in the future.
    pub fn next_timestamp(&mut self, now: Millis) -> Millis {
        let before = self.state.timestamp;
        self.state.timestamp = now.not_before(before);
        if before.is_ahead_of(now) {
            tracing::warn!(
                state = %self.dir.display(), time = %before, now = %now,
                "the last batch is dated in the future: the clock was wrong, or was set back; new batches have the present time"
            );
        }
        self.state.timestamp
    }

    /// Raises the timestamp to that of a newer file in the store, so that later headers are not
    /// before it. A timestamp in the future is ignored.
    pub fn not_before(&mut self, timestamp: Millis, now: Millis) {
        if timestamp.is_ahead_of(now) {
            tracing::warn!(
                state = %self.dir.display(), time = %timestamp, now = %now,
                "the newest file of the replica is dated in the future: the clock of its writer was wrong; new batches \
                 have the present time"
            );
        } else {
            self.state.timestamp = self.state.timestamp.max(timestamp);
        }
    }

    /// Notes the point of a batch before its upload. One of the same TXID that it replaces may
    /// still arrive.
    ///
    /// # Errors
    /// Any I/O error of writing the state.
    pub fn intend(&mut self, point: Point) -> io::Result<()> {
        self.state.intend(point);
        self.file.write(&self.state)
    }

    /// Called before page hashes are changed for the batch `txid`, other than by
    /// [`Local::acknowledge`]: until that batch is acknowledged, they belong to no state.
    ///
    /// # Errors
    /// Any I/O error of writing the TXID.
    pub fn begin_hashes_of(&mut self, txid: Txid) -> io::Result<()> {
        self.state.durable.checksum = None;
        self.hashes.as_ref().map_or(Ok(()), |hashes| hashes.bind(txid))
    }

    /// Notes that the store has answered for `point` (I1). `pages` are the hashes of its pages, in
    /// ascending order.
    ///
    /// # Errors
    /// Any I/O error of writing hashes or state.
    pub fn acknowledge(
        &mut self,
        point: Point,
        pages: impl IntoIterator<Item = (Pgno, u128)>,
    ) -> io::Result<()> {
        if let Some(hashes) = &self.hashes {
            hashes.bind(point.txid)?;
            if point.size_pages < self.state.durable.size_pages {
                hashes.shrink(point.size_pages)?;
            }
            hashes.write(pages)?;
        }
        self.state.settle(point);
        self.file.write(&self.state)
    }

    /// Creates an empty set of hashes, to be filled while an image is uploaded.
    ///
    /// # Errors
    /// Any I/O error of creating the file.
    pub fn begin_hashes(&self) -> io::Result<PageHashes> {
        PageHashes::begin_new(&self.dir, self.state.seed)
    }

    /// The seed of the page hashes.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.state.seed
    }

    /// Notes that the store has answered for an image, whose hashes were filled in since
    /// [`Local::begin_hashes`].
    ///
    /// # Errors
    /// Any I/O error of writing hashes or state.
    pub fn acknowledge_image(&mut self, point: Point, hashes: PageHashes) -> io::Result<()> {
        // Between these two steps the hashes are newer than the state, which only makes the next
        // start look further.
        hashes.bind(point.txid)?;
        self.hashes = Some(hashes.into_place(&self.dir)?);
        (self.state.hashes_synced, self.state.print_synced) = (Txid(0), 0);
        self.acknowledge(point, [])
    }

    /// Notes that another program has taken the replica on to `point`: the hashes of these pages
    /// are no longer right.
    ///
    /// # Errors
    /// Any I/O error of writing hashes or state.
    pub fn advance(&mut self, point: Point, pages: &[Pgno], size_pages_min: u32) -> io::Result<()> {
        if let Some(hashes) = &self.hashes {
            hashes.write(pages.iter().map(|p| (*p, 0)))?;
            hashes.shrink(size_pages_min)?;
            hashes.bind(point.txid)?;
        }
        self.state.settle(point);
        self.file.write(&self.state)
    }

    /// Discards the page hashes: only a full image makes them known again.
    pub fn distrust(&mut self) {
        if let Some(hashes) = self.hashes.take() {
            // Truncating a file works even on a full disk. If it fails, as at the limit of open
            // files, the new seed makes all stale entries invalid. It is written with the next
            // state; until then the old position also counts.
            let _ = hashes.forget();
            self.state.seed = fastrand::u64(..);
        }
        (self.state.hashes_synced, self.state.print_synced) = (Txid(0), 0);
    }

    /// When the next flush to disk is due; `None` if nothing has changed since the last.
    #[must_use]
    pub fn sync_due(&self) -> Option<Instant> {
        let changed = self.hashes.is_some() && self.state.hashes_synced != self.state.durable.txid;
        changed.then(|| self.synced_at + SYNC_EVERY)
    }

    /// Flushes hashes and state to disk.
    ///
    /// # Errors
    /// Any I/O error of the flush.
    pub async fn sync(&mut self, engine: &Engine) -> io::Result<()> {
        self.synced_at = Instant::now();
        let Some(hashes) = &self.hashes else { return Ok(()) };
        engine.sync_data(&hashes.file()?).await?;
        let durable = self.state.durable;
        (self.state.hashes_synced, self.state.print_synced) = (durable.txid, durable.print);
        self.file.write(&self.state)?;
        engine.sync_data(&self.file.file()?).await?;
        self.rest();
        Ok(())
    }

    /// Closes the files until something is to be written again.
    fn rest(&self) {
        self.file.rest();
        self.hashes.iter().for_each(PageHashes::rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicate::state::page_hashes::hash_page;
    use crate::replicate::state::read_state;

    /// A header from the future, left by a wrong clock or another writer, once passed its time on
    /// to each later batch.
    #[test]
    fn a_time_from_the_future_is_not_gone_on_from() {
        let dir = tempfile::tempdir().unwrap();
        let (size, db) = (PageSize::new(4096).unwrap(), FileId { dev: 1, ino: 1 });
        let mut local = Local::open(dir.path().to_owned(), size, db).unwrap();
        let (now, minute) = (Millis(1_795_295_650_000), 60_000);
        let at = |minutes: i64| Millis(now.0 + minutes * minute);
        local.not_before(at(4), now);
        assert_eq!(local.next_timestamp(now), at(4), "clocks that differ a little do not make times go back");
        local.not_before(at(1_000_000), now);
        assert_eq!(local.next_timestamp(at(5)), at(5));
        // The clock itself was wrong for a while.
        assert_eq!(local.next_timestamp(at(1_000_000)), at(1_000_000));
        assert_eq!(local.next_timestamp(at(6)), at(6));
        assert_eq!(local.next_timestamp(at(2)), at(6));
    }

    /// A copy of the state folder from a backup may have page hashes of another time.
    #[test]
    fn hashes_of_another_txid_count_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let (size, db) = (PageSize::new(512).unwrap(), FileId { dev: 1, ino: 1 });
        let open = || Local::open(dir.path().to_owned(), size, db).unwrap();
        let point = |txid| Point { txid: Txid(txid), size_pages: 1, ..Point::default() };
        let pages = dir.path().join("pages");
        let mut local = open();
        let begun = local.begin_hashes().unwrap();
        begun.write([(Pgno::FIRST, hash_page(1, Pgno::FIRST, &[1; 512]))]).unwrap();
        local.acknowledge_image(point(1), begun).unwrap();
        let old = std::fs::read(&pages).unwrap();
        for txid in [2, 3] {
            local.acknowledge(point(txid), [(Pgno::FIRST, hash_page(1, Pgno::FIRST, &[2; 512]))]).unwrap();
        }
        assert!(open().hashes.is_some());
        std::fs::write(&pages, old).unwrap();
        assert!(open().hashes.is_none());
    }

    /// A process or host that goes down while a batch is acknowledged leaves page hashes of that
    /// batch next to the state before it. A checksum made from both would be wrong.
    #[test]
    fn a_checksum_counts_only_with_the_hashes_of_its_own_point() {
        let dir = tempfile::tempdir().unwrap();
        let (size, db) = (PageSize::new(512).unwrap(), FileId { dev: 1, ino: 1 });
        let open = || Local::open(dir.path().to_owned(), size, db).unwrap();
        let entry = |fill| hash_page(1, Pgno::FIRST, &[fill; 512]);
        let point = |txid, fill| {
            let checksum = Some(DatabaseChecksum::of(size, &[fill; 512]));
            Point { txid: Txid(txid), size_pages: 1, checksum, ..Point::default() }
        };
        let next = |local: &Local, fill| {
            let mut next = local.next_checksum(1)?;
            next.take(&[(Pgno::FIRST, entry(fill))]);
            Some(next.finish())
        };
        let mut local = open();
        assert_eq!(next(&local, 1), None, "nothing is known yet");
        let begun = local.begin_hashes().unwrap();
        begun.write([(Pgno::FIRST, entry(1))]).unwrap();
        local.acknowledge_image(point(1, 1), begun).unwrap();
        assert_eq!(next(&local, 2), Some(point(2, 2).checksum));
        local.acknowledge(point(2, 2), [(Pgno::FIRST, entry(2))]).unwrap();
        local.intend(point(3, 3)).unwrap();
        assert_eq!(next(&open(), 4), Some(point(4, 4).checksum), "killed before the answer");

        let files = || ["state", "pages"].map(|name| std::fs::read(dir.path().join(name)).unwrap());
        let put = |state: &[u8], pages: &[u8]| {
            std::fs::write(dir.path().join("state"), state).unwrap();
            std::fs::write(dir.path().join("pages"), pages).unwrap();
        };
        // One changed bit in the published half of an entry.
        let [state, pages] = files();
        for (at, proven) in [(None, true), (Some(16 + 8), false), (Some(16), true)] {
            let mut changed = pages.clone();
            at.into_iter().for_each(|at: usize| changed[at] ^= 4);
            put(&state, &changed);
            let mut local = open();
            local.prove_checksum();
            assert_eq!(next(&local, 4).is_some(), proven, "{at:?}");
        }
        put(&state, &pages);
        let [before, _] = files();
        local.begin_hashes_of(Txid(3)).unwrap();
        assert_eq!(next(&local, 4), None, "the hashes are about to change");
        let [_, bound] = files();
        local.acknowledge(point(3, 3), [(Pgno::FIRST, entry(3))]).unwrap();
        let [after, written] = files();
        for pages in [&bound, &written] {
            put(&before, pages);
            let local = open();
            assert!(local.hashes().is_some() && local.hashes_of() == Txid(3));
            assert_eq!(next(&local, 4), None, "killed before the state");
        }
        put(&after, &written);
        assert_eq!(next(&open(), 4), Some(point(4, 4).checksum));
        // Another boot: the kernel wrote state and hashes when it liked.
        let mut state = read_state(dir.path()).unwrap().unwrap();
        (state.boot, state.hashes_synced) = ([9; 16], Txid(3));
        StateFile::open(dir.path()).unwrap().0.write(&state).unwrap();
        let local = open();
        assert!(local.hashes().is_some() && next(&local, 4).is_none(), "the host went down");
    }

    #[test]
    fn hashes_that_could_not_be_removed_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (size, db) = (PageSize::new(4096).unwrap(), FileId { dev: 1, ino: 1 });
        let mut local = Local::open(dir.path().to_owned(), size, db).unwrap();
        let point = Point { txid: Txid(1), size_pages: 1, ..Point::default() };
        let begun = local.begin_hashes().unwrap();
        begun.write([(Pgno::FIRST, 7)]).unwrap();
        local.acknowledge_image(point, begun).unwrap();
        let (before, file) = (local.seed(), std::fs::read(dir.path().join("pages")).unwrap());
        local.distrust();
        // Simulates a failed truncation; then the next batch is stored.
        std::fs::write(dir.path().join("pages"), file).unwrap();
        local.acknowledge(Point { txid: Txid(2), ..point }, []).unwrap();
        drop(local);
        assert_ne!(Local::open(dir.path().to_owned(), size, db).unwrap().seed(), before);
    }
}
