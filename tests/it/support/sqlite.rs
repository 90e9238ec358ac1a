//! Databases: made, written to at random by seed, and compared.

use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};

/// Makes a database in WAL mode with a page size and two tables, one with an index.
pub fn create(path: &Path, page_size: u32) -> Connection {
    let connection = Connection::open(path).expect("a new database");
    connection.pragma_update(None, "page_size", page_size).expect("a page size");
    let mode: String =
        connection.query_row("PRAGMA journal_mode=WAL", [], |r| r.get(0)).expect("a journal mode");
    assert_eq!(mode, "wal");
    connection
        .execute_batch(
            "PRAGMA synchronous=NORMAL;
             CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT NOT NULL, body BLOB);
             CREATE INDEX items_by_name ON items(name);
             CREATE TABLE log(at INTEGER, what TEXT);",
        )
        .expect("tables");
    let real: u32 = connection.query_row("PRAGMA page_size", [], |r| r.get(0)).expect("a page size");
    assert_eq!(real, page_size);
    connection
}

/// Opens a database that is there, as an application would.
pub fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("a database");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("a timeout");
    connection
}

/// Turns off automatic checkpoints, as Litestream's documentation advises.
///
/// Not for looks: when the log was checkpointed and restarted between two runs of `litestream
/// replicate -once`, 0.5.17 restores a database that fails SQLite's integrity check.
pub fn leave_checkpoints_to_litestream(connection: &Connection) {
    connection.pragma_update(None, "wal_autocheckpoint", 0).expect("a pragma");
}

/// A writer whose doings follow from its seed.
#[derive(Debug)]
pub struct Workload {
    random: fastrand::Rng,
}

impl Workload {
    /// The same seed does the same.
    pub fn new(seed: u64) -> Workload {
        Workload { random: fastrand::Rng::with_seed(seed) }
    }

    /// Runs `count` transactions: mostly small ones, some rolled back, some larger than SQLite's
    /// cache.
    pub fn run(&mut self, connection: &Connection, count: usize) {
        for _ in 0..count {
            self.transaction(connection);
        }
    }

    fn transaction(&mut self, connection: &Connection) {
        let statements = match self.random.u32(0..100) {
            0..=69 => 1,
            70..=94 => self.random.usize(2..20),
            _ => self.random.usize(100..400),
        };
        connection.execute_batch("BEGIN").expect("begin");
        for _ in 0..statements {
            self.statement(connection);
        }
        let end = if self.random.u32(0..10) == 0 { "ROLLBACK" } else { "COMMIT" };
        connection.execute_batch(end).expect(end);
    }

    fn statement(&mut self, connection: &Connection) {
        let id = self.random.i64(1..2_000);
        let done = match self.random.u32(0..10) {
            0..=4 => connection.execute(
                "INSERT OR REPLACE INTO items VALUES (?1, ?2, ?3)",
                (id, format!("name {}", self.random.u32(0..500)), self.body()),
            ),
            5..=6 => connection
                .execute("UPDATE items SET body = ?2 WHERE id >= ?1 AND id < ?1 + 3", (id, self.body())),
            7 => connection.execute("DELETE FROM items WHERE id >= ?1 AND id < ?1 + 5", [id]),
            _ => connection
                .execute("INSERT INTO log VALUES (?1, ?2)", (id, "x".repeat(self.random.usize(0..100)))),
        };
        done.expect("a statement");
    }

    fn body(&mut self) -> Vec<u8> {
        let length = match self.random.u32(0..20) {
            0 => self.random.usize(5_000..40_000),
            _ => self.random.usize(0..400),
        };
        // Half of them can be compressed.
        if self.random.bool() {
            vec![self.random.u8(..); length]
        } else {
            (0..length).map(|_| self.random.u8(..)).collect()
        }
    }
}

/// A hash of all that a reader can see: schema and rows, without the tables that Litestream adds
/// for itself.
pub fn dump_hash(path: &Path) -> String {
    let connection =
        Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).expect("a database");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("a timeout");
    let mut hash = Sha256::new();
    let foreign = r"NOT LIKE '\_litestream\_%' ESCAPE '\'";
    let mut tables = Vec::new();
    let schema = format!("SELECT type, name, sql FROM sqlite_schema WHERE tbl_name {foreign} ORDER BY name");
    let mut statement = connection.prepare(&schema).expect("the schema");
    let mut rows = statement.query([]).expect("the schema");
    while let Some(row) = rows.next().expect("a row") {
        let [kind, name, sql]: [Option<String>; 3] = [0, 1, 2].map(|i| row.get(i).expect("a text"));
        let (kind, name) = (kind.expect("a type"), name.expect("a name"));
        hash.update(format!("{kind} {name} {sql:?}\n"));
        if kind == "table" {
            tables.push(name);
        }
    }
    for table in tables {
        let mut statement =
            connection.prepare(&format!("SELECT rowid, * FROM \"{table}\" ORDER BY 1")).expect("a table");
        let columns = statement.column_count();
        let mut rows = statement.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            for i in 0..columns {
                add(&mut hash, row.get_ref(i).expect("a value"));
            }
        }
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn add(hash: &mut Sha256, value: ValueRef<'_>) {
    let (kind, bytes) = match value {
        ValueRef::Null => (0, Vec::new()),
        ValueRef::Integer(i) => (1, i.to_be_bytes().to_vec()),
        ValueRef::Real(f) => (2, f.to_bits().to_be_bytes().to_vec()),
        ValueRef::Text(t) => (3, t.to_vec()),
        ValueRef::Blob(b) => (4, b.to_vec()),
    };
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// The bytes of a database as its readers see it now: a copy of file and log, recovered by SQLite.
///
/// Nobody may write meanwhile. The copy is made by another process, because closing a descriptor of
/// a database drops the locks of all connections that this process has to it.
pub fn image(path: &Path) -> Vec<u8> {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let to = scratch.path().join("db");
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", path.display());
        if Path::new(&from).exists() {
            let done =
                Command::new("cp").arg(&from).arg(format!("{}{suffix}", to.display())).status().expect("cp");
            assert!(done.success(), "cp {from}");
        }
    }
    let connection = Connection::open(&to).expect("the copy");
    let busy: i64 =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0)).expect("a checkpoint");
    assert_eq!(busy, 0);
    drop(connection);
    std::fs::read(&to).expect("the copy")
}

/// Compares two images page by page; names the first pages that differ.
pub fn assert_same_pages(what: &str, left: &[u8], right: &[u8]) {
    let page_size = match u16::from_be_bytes([left[16], left[17]]) {
        1 => 65_536,
        n => usize::from(n),
    };
    assert_eq!(left.len() / page_size, right.len() / page_size, "{what}: number of pages");
    let differ: Vec<usize> = left
        .chunks(page_size)
        .zip(right.chunks(page_size))
        .enumerate()
        .filter(|(_, (l, r))| l != r)
        .map(|(i, _)| i + 1)
        .take(20)
        .collect();
    assert!(differ.is_empty() && left.len() == right.len(), "{what}: pages {differ:?} differ");
}

/// SQLite's own verdict.
pub fn assert_sound(path: &Path) {
    let connection = open(path);
    let verdict: String =
        connection.query_row("PRAGMA integrity_check", [], |r| r.get(0)).expect("an integrity check");
    assert_eq!(verdict, "ok", "{}", path.display());
}
