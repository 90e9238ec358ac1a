//! A database with its replica, of which each commit becomes one raw file, without a replicator's
//! pace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use lsfast::base::clock::Millis;
use lsfast::base::{DatabaseChecksum, Level, LtxId, PageSize, Pgno, Txid};
use lsfast::ltx::{Header, LtxReader, Merge, WalRange, encode_file};
use lsfast::store::{FileStore, PutOptions, Store};
use rusqlite::Connection;

static WORLDS: AtomicI64 = AtomicI64::new(0);

/// Pages by number, from 1.
pub type Image = Vec<Vec<u8>>;

pub struct World {
    pub dir: tempfile::TempDir,
    pub source: Connection,
    pub store: Box<dyn Store>,
    url: String,
    pub txid: u64,
    pub page_size: u32,
    /// When its history began, in milliseconds.
    begun: i64,
    pub image: Image,
    /// Whether files have the checksum of the database.
    pub sealed: bool,
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// A source with pages of a size, and a table whose two columns always add up to nothing in
    /// all.
    pub fn new(page_size: u32) -> World {
        World::prepared(page_size, "")
    }

    pub fn prepared(page_size: u32, first: &str) -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let replica = dir.path().join("replica");
        let url = format!("file://{}", replica.display());
        World::made(dir, page_size, first, Box::new(FileStore::new(replica)), url)
    }

    /// With the replica in another place.
    pub fn at(store: impl Store + 'static, url: String) -> World {
        World::made(tempfile::tempdir().expect("a directory"), 4096, "", Box::new(store), url)
    }

    fn made(
        dir: tempfile::TempDir,
        page_size: u32,
        first: &str,
        store: Box<dyn Store>,
        url: String,
    ) -> World {
        let source = Connection::open(dir.path().join("source.db")).expect("a database");
        source.pragma_update(None, "page_size", page_size).expect("a page size");
        source
            .execute_batch(&format!(
                "{first}; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
                 CREATE TABLE ledger(id INTEGER PRIMARY KEY, plus INTEGER NOT NULL, minus INTEGER NOT NULL, pad BLOB);
                 CREATE INDEX ledger_by_plus ON ledger(plus);
                 CREATE TABLE pulse(n INTEGER);
                 INSERT INTO pulse VALUES (0);"
            ))
            .expect("tables");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        // One made after another in a test is of a later history.
        let begun = 1_790_000_000_000 + WORLDS.fetch_add(1, Ordering::Relaxed) * 1_000_000;
        let mut world = World {
            dir,
            source,
            store,
            url,
            txid: 0,
            page_size,
            begun,
            image: Vec::new(),
            sealed: true,
            runtime,
        };
        for id in 1..=50 {
            world.insert(id);
        }
        world.store_batch();
        world
    }

    fn insert(&self, id: i64) {
        self.source.execute("INSERT INTO ledger VALUES (?1, ?1, -?1, zeroblob(100))", [id]).expect("a row");
    }

    /// One transaction that moves an amount between rows far apart, so that it touches several
    /// pages.
    pub fn step(&self, random: &mut fastrand::Rng) {
        let amount = random.i64(1..1000);
        let max: i64 = self.source.query_row("SELECT max(id) FROM ledger", [], |r| r.get(0)).expect("a row");
        let (a, b) = (random.i64(1..=max), random.i64(1..=max));
        let tx = self.source.unchecked_transaction().expect("a transaction");
        tx.execute("UPDATE ledger SET plus = plus + ?2 WHERE id = ?1", [a, amount]).expect("an update");
        tx.execute("UPDATE ledger SET minus = minus - ?2 WHERE id = ?1", [b, amount]).expect("an update");
        // Rows that are not there take nothing: make up for it, so that the sum stays 0.
        let sum: i64 = tx.query_row("SELECT sum(plus + minus) FROM ledger", [], |r| r.get(0)).expect("a sum");
        tx.execute("UPDATE ledger SET plus = plus - ?1 WHERE id = 1", [sum]).expect("an update");
        match random.u32(0..20) {
            0..=2 => {
                tx.execute(
                    "INSERT INTO ledger VALUES (?1, 5, -5, randomblob(?2))",
                    [max + 1, random.i64(1..3000)],
                )
                .expect("a row");
            }
            3 => {
                tx.execute("DELETE FROM ledger WHERE id > 60 AND plus + minus = 0", []).expect("a delete");
            }
            _ => {}
        }
        tx.execute("UPDATE pulse SET n = n + 1", []).expect("a pulse");
        tx.commit().expect("a commit");
    }

    fn read_image(&self) -> Image {
        let mut statement = self.source.prepare("SELECT data FROM sqlite_dbpage").expect("dbpage");
        let pages = statement.query_map([], |r| r.get(0)).expect("pages");
        pages.collect::<Result<_, _>>().expect("pages")
    }

    /// Stores what has changed since the last time as the next raw file.
    pub fn store_batch(&mut self) -> LtxId {
        let image = self.read_image();
        let changed: BTreeMap<u32, &[u8]> = (1u32..)
            .zip(&image)
            .filter(|(n, page)| self.image.get(*n as usize - 1) != Some(page))
            .map(|(n, page)| (n, &page[..]))
            .collect();
        self.txid += 1;
        let id = LtxId::raw(Txid(self.txid));
        let commit = u32::try_from(image.len()).expect("few pages");
        let size = PageSize::new(self.page_size).expect("a page size");
        let made = Millis(self.begun + i64::try_from(self.txid).expect("small"));
        let mut header = Header::new(size, commit, (id.min, id.max), made, WalRange::default());
        header.checksum = self.sealed.then(|| DatabaseChecksum::of(size, &image.concat()));
        let pages = changed.into_iter().map(|(n, p)| (Pgno::new(n).expect("from 1"), p));
        let file = encode_file(&header, pages).expect("a file");
        self.put(id, file, made);
        self.image = image;
        id
    }

    fn put(&self, id: LtxId, file: Vec<u8>, created: Millis) {
        let options = PutOptions { created, create_only: true };
        self.runtime.block_on(self.store.put(id, vec![Bytes::from(file)], options)).expect("a put");
    }

    /// Merges raw files into one of a level, and removes them if that is wanted.
    pub fn compact(&self, level: u32, min: u64, max: u64, remove: bool) {
        let raw: Vec<LtxId> = (min..=max).map(|n| LtxId::raw(Txid(n))).collect();
        let files: Vec<Vec<u8>> =
            raw.iter().map(|id| std::fs::read(self.path(*id)).expect("a raw file")).collect();
        let sources = files.iter().map(|f| LtxReader::new(&f[..]).expect("a header")).collect();
        let mut merge = Merge::new(sources).expect("files that fit");
        let header = *merge.header();
        let mut pages = Vec::new();
        while let Some((pgno, page)) = merge.next_page().expect("a page") {
            pages.push((pgno, page.to_vec()));
        }
        let file = encode_file(&header, pages.iter().map(|(n, p)| (*n, &p[..]))).expect("a file");
        let id = LtxId::new(Level::new(level).expect("a level"), Txid(min), Txid(max)).expect("an id");
        self.put(id, file, header.timestamp);
        if remove {
            self.remove(&raw);
        }
    }

    /// Stores a full image of the newest state.
    pub fn put_image(&self) {
        let commit = u32::try_from(self.image.len()).expect("few pages");
        let size = PageSize::new(self.page_size).expect("a page size");
        let id = LtxId::new(Level::SNAPSHOT, Txid(1), Txid(self.txid)).expect("an id");
        let made = Millis(self.begun + i64::try_from(self.txid).expect("small"));
        let mut header = Header::new(size, commit, (id.min, id.max), made, WalRange::default());
        header.checksum = Some(DatabaseChecksum::of(size, &self.image.concat()));
        let pages = (1..).zip(&self.image).map(|(n, p)| (Pgno::new(n).expect("from 1"), &p[..]));
        self.put(id, encode_file(&header, pages).expect("a file"), made);
    }

    pub fn remove(&self, ids: &[LtxId]) {
        self.runtime.block_on(self.store.delete(ids)).expect("a deletion");
    }

    pub fn path(&self, id: LtxId) -> PathBuf {
        self.replica().join("ltx").join(id.level.to_string()).join(id.file_name())
    }

    pub fn replica(&self) -> PathBuf {
        self.dir.path().join("replica")
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn out(&self) -> PathBuf {
        self.dir.path().join("out.db")
    }

    /// The followed database has the pages of the source, but for what SQLite counts in the header
    /// and the mark.
    pub fn assert_same(&self, out: &Path) {
        let connection = super::reader(out);
        let mut statement = connection.prepare("SELECT data FROM sqlite_dbpage").expect("dbpage");
        let found: Image =
            statement.query_map([], |r| r.get(0)).expect("pages").collect::<Result<_, _>>().expect("pages");
        let mut expected = self.read_image();
        let mut found = found;
        assert_eq!(found.len(), expected.len(), "pages");
        for page in [&mut found[0], &mut expected[0]] {
            page[24..28].fill(0);
            page[72..100].fill(0);
        }
        let differ: Vec<usize> =
            (0..found.len()).filter(|&i| found[i] != expected[i]).map(|i| i + 1).collect();
        assert!(differ.is_empty(), "pages {differ:?} of {} differ", found.len());
    }
}
