//! Random schemas and histories: at each TXID that can be restored, SQLite sees the same through a
//! view as in the file that was stored.

use std::path::Path;
use std::sync::Arc;

use lsfast::base::clock::Millis;
use lsfast::base::{Level, LtxId, PageSize, Pgno, Txid};
use lsfast::ltx::{Header, WalRange, encode_file};
use lsfast::store::{FileStore, PutOptions, Store};
use lsfast::view::vfs::Mount;
use lsfast::view::{self, At, Pages, Replica};
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};

/// Writes the files of a history as a replicator does.
struct Writer {
    store: Arc<FileStore>,
    runtime: tokio::runtime::Runtime,
    page_size: PageSize,
    /// The database after each TXID, from 0 on.
    images: Vec<Vec<u8>>,
}

impl Writer {
    fn put(&self, level: u32, min: u64, max: u64) {
        let id = LtxId::new(Level::new(level).expect("a level"), Txid(min), Txid(max)).expect("an id");
        let (old, new) = (&self.images[min as usize - 1], &self.images[max as usize]);
        let size = self.page_size.bytes();
        // A file that begins at TXID 1 has all pages.
        let is_changed =
            |at: usize, page: &[u8]| min == 1 || old.get(at * size..(at + 1) * size) != Some(page);
        let changed = new.chunks(size).enumerate().filter(|(at, page)| is_changed(*at, page));
        let pages: Vec<_> =
            changed.map(|(at, page)| (Pgno::new(at as u32 + 1).expect("a page"), page)).collect();
        let created = Millis(1_000 * max as i64);
        let commit = (new.len() / size) as u32;
        let header =
            Header::new(self.page_size, commit, (Txid(min), Txid(max)), created, WalRange::default());
        let body = encode_file(&header, pages).expect("a file");
        let options = PutOptions { created, create_only: false };
        self.runtime.block_on(self.store.put(id, vec![body.into()], options)).expect("stored");
    }
}

fn create(path: &Path, random: &mut fastrand::Rng) -> (Connection, PageSize) {
    let page_size = 512 << random.u32(0..8);
    let db = Connection::open(path).expect("a database");
    let encoding = ["UTF-8", "UTF-16le", "UTF-16be"][random.usize(0..3)];
    db.execute_batch(&format!(
        "PRAGMA page_size = {page_size}; PRAGMA encoding = '{encoding}'; PRAGMA auto_vacuum = {};
         PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF;",
        random.u32(0..3)
    ))
    .expect("pragmas");
    let tables = [
        "CREATE TABLE a(id INTEGER PRIMARY KEY, x TEXT, y BLOB); CREATE INDEX ax ON a(x);",
        "CREATE TABLE b(k TEXT, n INTEGER, y BLOB, PRIMARY KEY(k, n)) WITHOUT ROWID;",
        "CREATE TABLE c(x, y, z AS (x || y), w AS (length(y)) STORED); CREATE INDEX cz ON c(z, w);",
        "CREATE TABLE d(what TEXT); CREATE TABLE e(x UNIQUE, y);
         CREATE TRIGGER de AFTER INSERT ON e BEGIN INSERT INTO d VALUES ('e ' || new.x); END;",
        "CREATE VIEW v AS SELECT count(*) AS n FROM sqlite_schema;",
    ];
    tables.iter().for_each(|sql| {
        if random.u8(0..4) > 0 {
            db.execute_batch(sql).expect(sql);
        }
    });
    (db, PageSize::new(page_size).expect("a page size"))
}

/// The names of all tables and views.
fn tables(db: &Connection) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name";
    let mut names = db.prepare(sql).expect("the schema");
    names.query_map([], |row| row.get(0)).expect("names").map(|name| name.expect("a name")).collect()
}

fn transaction(db: &Connection, random: &mut fastrand::Rng, n: u64) {
    db.execute_batch("BEGIN").expect("begin");
    for _ in 0..random.usize(1..30) {
        let len = if random.u8(0..8) == 0 { random.usize(1_000..20_000) } else { random.usize(0..300) };
        let body: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
        let (key, text) = (random.i64(0..400), format!("text {}", random.u32(0..1_000)));
        let statement = match random.u32(0..10) {
            0..=2 => "INSERT OR REPLACE INTO a VALUES (?1, ?2, ?3)",
            3..=4 => "INSERT OR REPLACE INTO b VALUES (?2, ?1, ?3)",
            5 => "INSERT INTO c VALUES (?2, ?3)",
            6 => "INSERT OR IGNORE INTO e VALUES (?1, ?2 || length(?3))",
            7 => "DELETE FROM a WHERE id BETWEEN ?1 AND ?1 + 40 AND ?2 <> '' AND ?3 IS NOT NULL",
            8 => "UPDATE b SET y = ?3 WHERE n < ?1 AND k > ?2",
            _ => "DELETE FROM c WHERE length(y) > ?1 + length(?2) AND ?3 IS NOT NULL",
        };
        // Not every schema has every table.
        if let Ok(mut statement) = db.prepare_cached(statement) {
            statement.execute((key, text, body)).expect("a statement");
        }
    }
    if random.u8(0..6) == 0 {
        db.execute_batch(&format!("CREATE TABLE extra{n}(x); INSERT INTO extra{n} VALUES ({n})"))
            .expect("a table");
    }
    db.execute_batch("COMMIT").expect("commit");
    match random.u8(0..8) {
        0 => db.execute_batch("VACUUM").expect("vacuum"),
        1 => db.execute_batch("PRAGMA incremental_vacuum(5)").expect("incremental vacuum"),
        _ => {}
    }
}

/// All rows of all tables, in an order of their own.
fn content(db: &Connection) -> Vec<(String, Vec<Vec<Value>>)> {
    let of = |name: String| {
        let mut statement = db.prepare(&format!("SELECT * FROM \"{name}\"")).expect("a table");
        let columns = statement.column_count();
        // A text may hold any bytes.
        let value = |row: &rusqlite::Row<'_>, at| {
            Ok(match row.get_ref(at)? {
                ValueRef::Text(bytes) => Value::Blob(bytes.to_vec()),
                other => other.try_into().expect("not a text"),
            })
        };
        let rows =
            statement.query_map([], |row| (0..columns).map(|at| value(row, at)).collect()).expect("rows");
        let rows = rows.collect::<rusqlite::Result<Vec<Vec<Value>>>>().expect("rows");
        (name, rows)
    };
    tables(db).into_iter().map(of).collect()
}

fn history(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("db");
    let (db, page_size) = create(&path, &mut random);
    let store = Arc::new(FileStore::new(dir.path().join("replica")));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let mut writer = Writer { store: Arc::clone(&store), runtime, page_size, images: vec![Vec::new()] };
    let last = random.u64(6..16);
    let mut merged = 1;
    for n in 1..=last {
        transaction(&db, &mut random, n);
        writer.images.push(std::fs::read(&path).expect("the database"));
        writer.put(0, n, n);
        if n == 1 || random.u8(0..6) == 0 {
            writer.put(9, 1, n);
        }
        if n > merged + 1 && random.u8(0..4) == 0 {
            writer.put(1, merged + 1, n);
            // Some of the merged files stay, some are removed.
            for raw in merged + 1..n {
                if random.bool() {
                    let id =
                        LtxId::new(Level::new(0).expect("a level"), Txid(raw), Txid(raw)).expect("an id");
                    writer.runtime.block_on(store.delete(&[id])).expect("deleted");
                }
            }
            merged = n;
        }
    }
    drop(db);
    let replica = Replica::new(store).expect("threads");
    let mut seen = 0;
    for n in 1..=last {
        let at = if n == last { At::Newest } else { At::Txid(Txid(n)) };
        let Ok(mut snapshot) = view::open(&replica, at) else { continue };
        let image = &writer.images[n as usize];
        let pages: Vec<u8> =
            (1..=snapshot.page_count()).flat_map(|n| snapshot.page(n).expect("a page").to_vec()).collect();
        assert!(pages == *image, "seed {seed}: the pages of TXID {n} differ");
        let restored = dir.path().join("restored");
        std::fs::write(&restored, image).expect("written");
        let restored = Connection::open(restored).expect("the restored database");
        let mount = Mount::new(&replica, at).expect("a mount");
        let viewed = mount.connect().expect("a connection");
        assert_eq!(content(&viewed), content(&restored), "seed {seed}: TXID {n}");
        let check: String =
            viewed.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
        assert_eq!(check, "ok", "seed {seed}: TXID {n}");
        seen += 1;
    }
    assert!(seen >= 2, "seed {seed}: only {seen} of {last} states can be restored");
}

#[test]
fn every_state_of_random_histories() {
    (0..24).for_each(history);
}
