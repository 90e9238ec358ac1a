//! The state folder of a database, and the positions in it; the top of [`state`](super) has the
//! format.
//!
//! # Order of writes
//!
//! The two slots are written alternately. A torn write damages only one slot, and the other still
//! has the previous state.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::unanswered::Unanswered;
use crate::base::clock::Millis;
use crate::base::crc64::crc64;
use crate::base::fields::Fields;
use crate::base::{DatabaseChecksum, FrameNo, PageSize, Salts, Txid};
use crate::io::link::target_of;
use crate::io::{File, OnDemand, Private, durable, read_small, with_advice};
use crate::ltx::Header;
use crate::sqlite::database::{FileId, Stamp};
use crate::wal::checksum::Sum;
use crate::wal::tail::WalPos;

const NAME: &str = "state";
const SLOT_BYTES: usize = 512;
const MAGIC: [u8; 8] = *b"LSFSTATE";
const VERSION: u32 = 1;
/// Permissions of the files in the folder: page hashes reveal something about the content.
const MODE: u32 = 0o600;

/// A position that a replica reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    /// The last batch; 0 if there is none.
    pub txid: Txid,
    /// Where the batch ends in the WAL; default if that is not known.
    pub pos: WalPos,
    /// Pages in the database after it.
    pub size_pages: u32,
    /// Identifies the batch's object in the store (see [`print_of`]); 0 if not known.
    pub print: u64,
    /// Checksum of the database after the batch; `None` if it is not known.
    pub checksum: Option<DatabaseChecksum>,
}

/// Identifies an object by its header, without the database checksum, which is not known before the
/// upload of a large batch. Never 0.
#[must_use]
pub fn print_of(header: &Header) -> u64 {
    crc64(&Header { checksum: None, ..*header }.to_bytes()).max(1)
}

/// The stored state of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Bytes in a page.
    pub page_size: PageSize,
    /// Boot id of the host when the state was written.
    pub boot: [u8; 16],
    /// Device and inode of the database file.
    pub db: FileId,
    /// Up to here the store has answered (I1).
    pub durable: Point,
    /// The end of the upload that is, or was, under way. Its checksum is not kept.
    pub intended: Point,
    /// Seed of the page hashes.
    pub seed: u64,
    /// TXID for which the page hashes were last flushed to disk; 0 for never.
    pub hashes_synced: Txid,
    /// Newest timestamp written to a header.
    pub timestamp: Millis,
    /// Print of the object for which the page hashes were last flushed to disk.
    pub print_synced: u64,
    /// Stamp of the database file after SQLite's last write; default if not known.
    pub stamp: Stamp,
    /// Uploads to the TXID after the durable one that may still arrive.
    pub unanswered: Unanswered,
}

/// The state folder of a database, locked for this process.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    _lock: File,
}

/// Name of the lock file in the state folder.
pub const LOCK: &str = "lock";

/// Name of the socket in the state folder.
pub const SOCKET: &str = "socket";

impl Drop for Home {
    fn drop(&mut self) {
        // The lock is still held, so the socket is not that of the next process. If this process
        // serves no socket, there is none to remove.
        let _ = home_folder(&self.dir).open().and_then(|home| home.remove(SOCKET));
    }
}

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process holds the lock.
    #[error("another lsfast already follows {0}: stop it first (it holds the lock {1})")]
    Taken(PathBuf, PathBuf),
    /// An I/O error in the folder.
    #[error("cannot keep state in {path}: {source}")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Path of the file that requests a full image of the replica with this folder.
#[must_use]
pub fn image_wish(replica: &Path) -> PathBuf {
    replica.with_extension("image")
}

/// The state folder of a database, next to the file that its name leads to.
#[must_use]
pub fn home_of(db: &Path) -> PathBuf {
    let db = &target_of(db);
    let name = db.file_name().unwrap_or_default().to_string_lossy();
    durable::directory_of(db).join(format!(".{name}-lsfast"))
}

/// A handle that opens files in a database's state folder without following links.
#[must_use]
pub fn home_folder(dir: &Path) -> Private {
    Private::new(dir, 1)
}

/// A handle that opens files in a replica's folder without following links.
#[must_use]
pub fn replica_folder(dir: &Path) -> Private {
    Private::new(dir, 2)
}

impl Home {
    /// Creates the folder of `db` if it does not exist, and locks it.
    ///
    /// # Errors
    /// [`HomeError::Taken`] if another process holds the lock; [`HomeError::Io`] if the folder or
    /// lock cannot be created.
    pub fn take(db: &Path, dir: PathBuf) -> Result<Home, HomeError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Io { path, source }
        };
        durable::create_dir_all(durable::directory_of(&dir)).map_err(io_error(&dir))?;
        // Root may use the folder of the user who owns the database.
        let owner = std::fs::metadata(db).ok().map(|m| m.uid());
        let home = home_folder(&dir).make(owner).map_err(io_error(&dir))?;
        let path = dir.join(LOCK);
        let lock = home.open_or_create(LOCK, MODE).map_err(with_advice).map_err(io_error(&path))?;
        match lock.std().try_lock() {
            Ok(()) => Ok(Home { dir, _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(HomeError::Taken(db.to_owned(), path)),
            Err(std::fs::TryLockError::Error(e)) => Err(io_error(&path)(e)),
        }
    }

    /// Path of the state folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of the folder of one replica, which is created if it does not exist.
    ///
    /// # Errors
    /// [`HomeError::Io`] if the folder cannot be created.
    pub fn replica(&self, identity: &str) -> Result<PathBuf, HomeError> {
        let dir = self.dir.join(folder_of(identity));
        let made = replica_folder(&dir).make(std::fs::metadata(&self.dir).ok().map(|m| m.uid()));
        made.map_err(|source| HomeError::Io { path: dir.clone(), source })?;
        Ok(dir)
    }
}

/// Name of the file in the folder of a replica that has its URL.
const URL: &str = "url";

/// Bytes of the file with the URL. A longer one is not read.
const URL_BYTES: u64 = 64 << 10;

/// Notes the URL of a replica in its folder, for commands that are given the database alone. If
/// that fails they have to be given the URL.
pub fn note_url(replica: &Path, url: &str) {
    let noted = || -> io::Result<()> {
        let folder = replica_folder(replica).open()?;
        if folder.read_small(URL, URL_BYTES).is_ok_and(|before| before == url.as_bytes()) {
            return Ok(());
        }
        folder.write(URL, url.as_bytes(), MODE)
    };
    if let Err(e) = noted() {
        tracing::debug!(folder = %replica.display(), error = %e, "the URL of the replica cannot be noted");
    }
}

/// The URL that was noted in the folder of a replica.
#[must_use]
pub fn noted_url(replica: &Path) -> Option<String> {
    let url = replica_folder(replica).open().and_then(|folder| folder.read_small(URL, URL_BYTES));
    String::from_utf8(url.ok()?).ok()
}

/// URLs of the replicas that were noted in the state folder of a database, the one with the newest
/// state first.
#[must_use]
pub fn noted_replicas(home: &Path) -> Vec<String> {
    let names = home_folder(home).open().and_then(|folder| folder.names()).unwrap_or_default();
    let mut noted: Vec<(Option<Millis>, String)> = Vec::new();
    for name in names {
        let dir = home.join(&name);
        let Some(url) = noted_url(&dir) else { continue };
        let time = read_state(&dir).ok().flatten().map(|state| state.timestamp);
        noted.push((time, url));
    }
    noted.sort_by(|a, b| b.cmp(a));
    noted.into_iter().map(|(_, url)| url).collect()
}

/// Name of the folder of a replica: a hash of the replica's identity.
#[must_use]
pub fn folder_of(identity: &str) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(identity.as_bytes()))
}

/// Reads the newest valid state in the folder of a replica, without locking it; `None` if there is
/// no valid one.
///
/// # Errors
/// Any I/O error except a missing file.
pub fn read_state(dir: &Path) -> io::Result<Option<State>> {
    match replica_folder(dir).open().and_then(|folder| folder.read_small(NAME, 2 * SLOT_BYTES as u64)) {
        Ok(bytes) => Ok(newest(&bytes).map(|(_, state)| state)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn newest(bytes: &[u8]) -> Option<(u64, State)> {
    bytes.chunks_exact(SLOT_BYTES).filter_map(decode).max_by_key(|(seq, _)| *seq)
}

/// Reads a state file; a slot that was believed is written and read again.
#[cfg(fuzzing)]
pub(crate) fn round_trip_for_fuzzing(bytes: &[u8]) {
    if let Some((sequence, state)) = newest(bytes) {
        assert_eq!(decode(&encode(sequence, &state)), Some((sequence, state)));
    }
}

/// The state file of one replica.
#[derive(Debug)]
pub struct StateFile {
    file: OnDemand,
    sequence: u64,
}

impl StateFile {
    /// Opens the state file of a replica. The state is `None` if there is no valid one.
    ///
    /// # Errors
    /// Any I/O error of opening or reading the file.
    pub fn open(dir: &Path) -> io::Result<(StateFile, Option<State>)> {
        let file = OnDemand::new(replica_folder(dir), NAME, MODE);
        let mut bytes = [0; 2 * SLOT_BYTES];
        let have = file.get()?.pread(&mut bytes, 0)?;
        let newest = newest(&bytes[..have]);
        let sequence = newest.as_ref().map_or(0, |(seq, _)| *seq);
        Ok((StateFile { file, sequence }, newest.map(|(_, state)| state)))
    }

    /// Writes the state to the older slot, without fsync.
    ///
    /// # Errors
    /// Any I/O error of the write.
    pub fn write(&mut self, state: &State) -> io::Result<()> {
        self.sequence += 1;
        let slot = self.sequence % 2 * SLOT_BYTES as u64;
        self.file.get()?.pwrite_all(&encode(self.sequence, state), slot)
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
}

/// The boot id of this host. Zeros if the kernel does not tell; then a reboot goes unnoticed.
#[must_use]
pub fn boot_id() -> [u8; 16] {
    let mut id = [0; 16];
    if let Ok(text) = read_small(Path::new("/proc/sys/kernel/random/boot_id"), 64) {
        let digits: Vec<u8> =
            text.iter().filter_map(|b| (*b as char).to_digit(16).map(|d| d as u8)).collect();
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
    }
    id
}

fn encode(sequence: u64, s: &State) -> [u8; SLOT_BYTES] {
    let mut out = Vec::with_capacity(SLOT_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&s.page_size.get().to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&s.boot);
    out.extend_from_slice(&s.db.dev.to_le_bytes());
    out.extend_from_slice(&s.db.ino.to_le_bytes());
    for p in [&s.durable, &s.intended] {
        out.extend_from_slice(&p.txid.0.to_le_bytes());
        for word in [p.pos.salts.one, p.pos.salts.two, p.pos.frame.0, p.size_pages, p.pos.sum.0, p.pos.sum.1]
        {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out.extend_from_slice(&s.seed.to_le_bytes());
    out.extend_from_slice(&s.hashes_synced.0.to_le_bytes());
    out.extend_from_slice(&s.timestamp.0.to_le_bytes());
    for word in [s.durable.print, s.intended.print, s.print_synced] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&s.stamp.modified.to_le_bytes());
    out.extend_from_slice(&s.stamp.len.to_le_bytes());
    let checksum = s.durable.checksum;
    for word in [0, u64::from(checksum.is_some()), checksum.unwrap_or_default().0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&s.stamp.changed.to_le_bytes());
    out.extend(s.unanswered.encode());
    out.resize(SLOT_BYTES - 8, 0);
    out.extend_from_slice(&crc64(&out).to_le_bytes());
    out.try_into().expect("a slot has a fixed size")
}

/// `None` if the TXID is one that no replica can have.
fn point(f: &mut Fields<'_>) -> Option<Point> {
    let txid = Txid::checked(f.le64())?;
    let salts = Salts { one: f.le32(), two: f.le32() };
    let frame = FrameNo(f.le32());
    let size_pages = f.le32();
    let sum = Sum(f.le32(), f.le32());
    Some(Point { txid, pos: WalPos { salts, frame, sum }, size_pages, ..Point::default() })
}

fn decode(slot: &[u8]) -> Option<(u64, State)> {
    let (body, crc) = slot.split_at_checked(SLOT_BYTES - 8)?;
    let mut f = Fields::new(body);
    if crc != crc64(body).to_le_bytes() || f.take() != MAGIC || f.le32() != VERSION {
        return None;
    }
    let page_size = PageSize::new(f.le32()).ok()?;
    let sequence = f.le64();
    let mut state = State {
        page_size,
        boot: f.take(),
        db: FileId { dev: f.le64(), ino: f.le64() },
        durable: point(&mut f)?,
        intended: point(&mut f)?,
        seed: f.le64(),
        hashes_synced: Txid::checked(f.le64())?,
        timestamp: Millis(f.le64().cast_signed()),
        print_synced: 0,
        stamp: Stamp::default(),
        unanswered: Unanswered::default(),
    };
    (state.durable.print, state.intended.print, state.print_synced) = (f.le64(), f.le64(), f.le64());
    state.stamp = Stamp { modified: f.le64().cast_signed(), len: f.le64(), changed: 0 };
    let (_unused, known, checksum) = (f.le64(), f.le64(), DatabaseChecksum(f.le64()));
    state.durable.checksum = (known == 1).then_some(checksum);
    state.stamp.changed = f.le64().cast_signed();
    state.unanswered = Unanswered::decode(&mut f)?;
    Some((sequence, state))
}

/// A state whose fields are all set.
#[cfg(test)]
pub(super) fn sample(txid: u64) -> State {
    let pos = WalPos { salts: Salts { one: 1, two: 2 }, frame: FrameNo(3), sum: Sum(4, 5) };
    let checksum = txid.is_multiple_of(2).then_some(DatabaseChecksum(17));
    let point = Point { txid: Txid(txid), pos, size_pages: 6, print: 13, checksum };
    let mut sample = State {
        page_size: PageSize::new(4096).unwrap(),
        boot: [7; 16],
        db: FileId { dev: 8, ino: 9 },
        durable: point,
        intended: Point { txid: Txid(txid + 1), checksum: None, ..point },
        seed: 10,
        hashes_synced: Txid(11),
        timestamp: Millis(-12),
        print_synced: 14,
        stamp: Stamp { modified: 15, len: 16, changed: 17 },
        unanswered: Unanswered::default(),
    };
    sample.intend(Point { print: 18, ..sample.intended });
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_write_leaves_the_state_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, none) = StateFile::open(dir.path()).unwrap();
        assert_eq!(none, None);
        for txid in 1..=5 {
            file.write(&sample(txid)).unwrap();
            assert_eq!(StateFile::open(dir.path()).unwrap().1, Some(sample(txid)));
            assert_eq!(read_state(dir.path()).unwrap(), Some(sample(txid)));
        }
        // The last write (sequence 5) went to the second slot; damage it as a torn write would.
        file.file().unwrap().pwrite_all(b"torn", SLOT_BYTES as u64 + 60).unwrap();
        assert_eq!(StateFile::open(dir.path()).unwrap().1, Some(sample(4)));
    }

    #[test]
    fn a_state_with_a_txid_that_no_replica_has_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = StateFile::open(dir.path()).unwrap();
        file.write(&sample(Txid::MAX.0 - 1)).unwrap();
        assert!(read_state(dir.path()).unwrap().is_some());
        for txid in [Txid::MAX.0, u64::MAX - 1] {
            let (mut file, _) = StateFile::open(dir.path()).unwrap();
            // Both slots.
            for _ in 0..2 {
                file.write(&sample(txid)).unwrap();
            }
            assert_eq!(read_state(dir.path()).unwrap(), None, "{txid:x}");
        }
    }

    /// The owner of a database's directory can put links there, even if root replicates the
    /// database.
    #[test]
    fn no_link_in_the_folder_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("app.db");
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "root only").unwrap();
        let home = home_of(&db);
        let replica = home.join(folder_of("x"));
        std::fs::create_dir_all(&replica).unwrap();
        for name in ["state", "pages", "pages.new"] {
            std::os::unix::fs::symlink(&victim, replica.join(name)).unwrap();
        }
        assert!(StateFile::open(&replica).is_err() && read_state(&replica).is_err());
        assert!(crate::replicate::state::page_hashes::PageHashes::of(&replica, 1).is_err());
        crate::replicate::state::page_hashes::PageHashes::begin_new(&replica, 1)
            .unwrap()
            .into_place(&replica)
            .unwrap();
        std::fs::remove_dir_all(&home).unwrap();
        std::os::unix::fs::symlink(dir.path(), &home).unwrap();
        let e = Home::take(&db, home).unwrap_err().to_string();
        assert!(e.contains("symbolic link"), "{e}");
        assert!(!dir.path().join("lock").exists());
        assert_eq!(std::fs::read(&victim).unwrap(), b"root only");
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("app.db");
        let first = Home::take(&db, home_of(&db)).unwrap();
        assert!(matches!(Home::take(&db, home_of(&db)), Err(HomeError::Taken(..))));
        drop(first);
        Home::take(&db, home_of(&db)).unwrap();
    }
}
