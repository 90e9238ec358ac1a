//! Random histories: the rows that are found are those that SQLite itself sees as different, and
//! the scripts turn one state into the other.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;

use super::{Direction, Effort, Labels, Pair, Sides, compare, diff, script};
use crate::view::btree::{BtreeError, Row, Schema, Source, State};

/// The pages of a database file.
pub(super) struct Image {
    page_size: usize,
    pages: Vec<Arc<[u8]>>,
}

impl Image {
    pub(super) fn read(path: &Path) -> Image {
        let bytes = fs::read(path).unwrap();
        let page_size = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65536,
            n => usize::from(n),
        };
        Image { page_size, pages: bytes.chunks(page_size).map(Arc::from).collect() }
    }

    /// As the frames of a WAL tell it: what was freed without being written is not among them.
    pub(super) fn changed(&self, new: &Image) -> Vec<u32> {
        let differs = |i: &usize| self.pages.get(*i) != Some(&new.pages[*i]);
        (0..new.pages.len()).filter(differs).map(|i| u32::try_from(i).unwrap() + 1).collect()
    }

    fn write(&self, path: &Path) {
        fs::write(path, self.pages.iter().flat_map(|p| p.iter().copied()).collect::<Vec<u8>>()).unwrap();
    }
}

impl Source for Image {
    fn page_size(&self) -> usize {
        self.page_size
    }

    fn page_count(&self) -> u32 {
        u32::try_from(self.pages.len()).unwrap()
    }

    fn page(&self, number: u32) -> Result<Arc<[u8]>, BtreeError> {
        Ok(Arc::clone(&self.pages[number as usize - 1]))
    }
}

/// The rows of each table by rowid or primary key, as text.
type Rows = BTreeMap<String, String>;
type Dump = HashMap<String, Rows>;

fn column(db: &Connection, sql: &str, name: &str) -> Vec<String> {
    let mut statement = db.prepare(sql).unwrap();
    statement.query_map([name], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
}

pub(super) fn show(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Real(n) => format!("R{:x}", n.to_bits()),
        value => format!("{value:?}"),
    }
}

fn dump(path: &Path) -> Dump {
    let db = Connection::open(path).unwrap();
    let sql =
        "SELECT name FROM pragma_table_list WHERE schema = ?1 AND type = 'table' AND name NOT LIKE 'sqlite%'";
    let mut all = Dump::new();
    for name in column(&db, sql, "main") {
        let without_rowid = "SELECT name FROM pragma_table_list WHERE name = ?1 AND wr";
        let mut key = vec!["rowid".to_owned()];
        if !column(&db, without_rowid, &name).is_empty() {
            key = column(&db, "SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk", &name);
        }
        let stored = column(&db, "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden IN (0, 3)", &name);
        let sql = format!("SELECT {}, {} FROM {name}", key.join(", "), stored.join(", "));
        let mut statement = db.prepare(&sql).unwrap();
        let width = statement.column_count();
        let mut found = statement.query([]).unwrap();
        let mut rows = Rows::new();
        while let Some(row) = found.next().unwrap() {
            // The collations of table d.
            let equal = |i: usize| match row.get_ref(i).unwrap() {
                ValueRef::Text(text) if name == "d" && i == 0 => {
                    String::from_utf8_lossy(text).trim_end_matches(' ').to_owned()
                }
                ValueRef::Text(text) if name == "d" => String::from_utf8_lossy(text).to_ascii_lowercase(),
                value => show(value),
            };
            let values: Vec<String> = (key.len()..width).map(|i| show(row.get_ref(i).unwrap())).collect();
            rows.insert((0..key.len()).map(equal).collect::<Vec<_>>().join("|"), values.join("|"));
        }
        all.insert(name, rows);
    }
    all
}

fn counts(old: &Rows, new: &Rows) -> [usize; 3] {
    let inserted = new.keys().filter(|k| !old.contains_key(*k)).count();
    let updated = old.iter().filter(|(k, v)| new.get(*k).is_some_and(|w| w != *v)).count();
    [inserted, updated, old.keys().filter(|k| !new.contains_key(*k)).count()]
}

const SCHEMA: &str = "
    CREATE TABLE a(id INTEGER PRIMARY KEY, x, y TEXT, z REAL, b BLOB);
    CREATE INDEX a_x ON a(x, y);
    CREATE TABLE b(x, y, z);
    CREATE TABLE c(k TEXT PRIMARY KEY, x, v AS (length(x)) VIRTUAL, w INT AS (x + 1) STORED, y);
    CREATE UNIQUE INDEX c_y ON c(k, y);
    CREATE TABLE d(x, k1 COLLATE NOCASE, y, k2 COLLATE RTRIM, v AS (y || '!'),
        PRIMARY KEY(k2 DESC, k1)) WITHOUT ROWID;
    CREATE INDEX d_x ON d(x);
    CREATE TABLE e(k PRIMARY KEY, v) WITHOUT ROWID;
    CREATE TABLE f(id INTEGER PRIMARY KEY AUTOINCREMENT, a INT REFERENCES a(id) ON DELETE CASCADE, n);
    CREATE TABLE happened(what, id);
    CREATE TRIGGER a_d AFTER DELETE ON a BEGIN INSERT INTO happened VALUES('deleted', old.id); END;
    CREATE TRIGGER a_u AFTER UPDATE ON a WHEN new.id % 3 = 0 BEGIN
        UPDATE f SET n = n + 1 WHERE a = new.id; END;";

const TABLES: [(&str, &[&str]); 6] = [
    ("a", &["x", "y", "z", "b"]),
    ("b", &["x", "y", "z"]),
    ("c", &["k", "x", "y"]),
    ("d", &["x", "k1", "y", "k2"]),
    ("e", &["k", "v"]),
    ("f", &["a", "n"]),
];

/// Statements by a seed.
struct Writer {
    random: fastrand::Rng,
    page_size: usize,
}

impl Writer {
    fn value(&mut self, column: &str) -> String {
        let random = &mut self.random;
        if column.starts_with('k') {
            return match random.u32(0..4) {
                0 => random.i32(0..60).to_string(),
                1 => format!("'k{}'", random.u32(0..80)),
                2 => format!("'K{} '", random.u32(0..80)),
                _ => format!("x'{:04x}'", random.u16(0..60)),
            };
        }
        match random.u32(0..13) {
            0 => "NULL".into(),
            1..=3 => random.i64(-5..5000).to_string(),
            4 => random.i64(..).to_string(),
            5 => format!("{:e}", f64::from_bits(random.u64(0..0x7ff0 << 48))),
            6 => format!("{}.25", random.i32(-50..50)),
            7 => format!("'it''s ' || char(10, 13) || '{}'", random.u32(0..1000)),
            8 => "CAST(x'41ff00d8' AS TEXT)".into(),
            9 => format!("randomblob({})", random.usize(0..40)),
            10 => format!("zeroblob({}) || 'ä€𝄞'", random.usize(0..30)),
            11 => "9e999".into(),
            _ => format!("randomblob({})", random.usize(1..self.page_size * 3)),
        }
    }

    fn row(&mut self, columns: &[&str]) -> String {
        format!("({})", columns.iter().map(|c| self.value(c)).collect::<Vec<_>>().join(", "))
    }

    fn statement(&mut self) -> String {
        let (table, columns) = TABLES[self.random.usize(0..TABLES.len())];
        let some = format!("abs(random()) % {} = 0", self.random.u32(1..30));
        match self.random.u32(0..21) {
            0..=6 => {
                let rows: Vec<String> = (0..self.random.usize(1..60)).map(|_| self.row(columns)).collect();
                let or = ["REPLACE", "IGNORE"][self.random.usize(0..2)];
                format!("INSERT OR {or} INTO {table}({}) VALUES {}", columns.join(", "), rows.join(", "))
            }
            7..=10 => {
                let column = columns[self.random.usize(0..columns.len())];
                format!("UPDATE OR IGNORE {table} SET {column} = {} WHERE {some}", self.value(column))
            }
            11 | 12 => {
                let (last, more) = (columns[columns.len() - 1], self.page_size);
                format!(
                    "UPDATE {table} SET {last} = CAST(substr({last}, 1, length({last}) - 3) || x'010203' AS BLOB)
                     WHERE typeof({last}) = 'blob' AND length({last}) > {more}"
                )
            }
            13 => format!("DELETE FROM {table} WHERE {some}"),
            14 => format!("DELETE FROM {table}{}", if self.random.bool() { " WHERE 0" } else { "" }),
            15 => {
                let table = ["a", "b", "c"][self.random.usize(0..3)];
                format!(
                    "UPDATE OR IGNORE {table} SET rowid = rowid + {} WHERE {some}",
                    self.random.u32(1..500)
                )
            }
            16 => {
                let kind = ["", "TEXT", "REAL", "INT"][self.random.usize(0..4)];
                let default = ["7", "'x'", "NULL", "1.5", "x'0102'"][self.random.usize(0..5)];
                format!("ALTER TABLE {table} ADD COLUMN n{} {kind} DEFAULT {default}", self.random.u32(..))
            }
            17 => "DROP TABLE IF EXISTS t; CREATE TABLE t(x, y PRIMARY KEY);
                   INSERT INTO t SELECT x, rowid FROM a"
                .into(),
            18 => "DROP INDEX IF EXISTS i; CREATE INDEX i ON b(y, x)".into(),
            19 => ["VACUUM", "PRAGMA incremental_vacuum(5)"][self.random.usize(0..2)].into(),
            _ => {
                let other = |c: &&str| {
                    if c.starts_with('k') { format!("{c} || random()") } else { (*c).to_owned() }
                };
                let from: Vec<String> = columns.iter().map(other).collect();
                format!(
                    "INSERT OR IGNORE INTO {table}({}) SELECT {} FROM {table} LIMIT 200",
                    columns.join(", "),
                    from.join(", ")
                )
            }
        }
    }
}

/// Runs a script as the `sqlite3` program does: the lines with a dot are its own commands.
pub(super) fn run_script(path: &Path, sql: &str) -> rusqlite::Result<()> {
    let db = Connection::open(path)?;
    let off = sql.lines().any(|line| line == ".dbconfig enable_trigger off");
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, !off)?;
    let mut plain = String::new();
    for line in sql.lines().filter(|line| !line.starts_with('.')) {
        let _ = writeln!(plain, "{line}");
    }
    db.execute_batch(&plain)
}

pub(super) fn labels() -> Labels {
    Labels { database: "db".into(), old: "then".into(), new: "now".into(), left_out: Vec::new() }
}

/// Compares two images with what SQLite says, and tries the scripts.
fn check(dir: &Path, what: &str, before: &(Image, Dump), after: &(Image, Dump), known: &mut Option<Schema>) {
    let changed = before.0.changed(&after.0);
    let (old, new) = (State::open(&before.0).unwrap(), State::open(&after.0).unwrap());
    let old_schema = Schema::read(&old, known.as_ref()).unwrap();
    let new_schema = Schema::read(&new, Some(&old_schema)).unwrap();
    let sides = Sides { old, old_schema: &old_schema, new, new_schema: &new_schema };
    let mut found: HashMap<String, [usize; 3]> = HashMap::new();
    let mut count = |pair: Pair, old: Option<&Row>, new: Option<&Row>| {
        let table = pair.tables(&old_schema, &new_schema).1.unwrap();
        let kind = if old.is_none() { 0 } else { 2 - usize::from(new.is_some()) };
        found.entry(table.name.clone()).or_default()[kind] += 1;
        Ok(())
    };
    let outcome = compare(&sides, &changed, Effort::Read, &|_| true, &mut count).unwrap();
    if let Some(pages) = &outcome.pages {
        let sum = pages.tables.iter().sum::<usize>() + pages.schema + pages.indexes + pages.overflow;
        assert_eq!(sum + pages.free + pages.pointer_map + pages.unattributed, pages.all, "{what}: {pages:?}");
    }
    for table in new_schema.tables.iter().filter(|t| !t.is_internal()) {
        let none = Rows::new();
        let expected = counts(before.1.get(&table.name).unwrap_or(&none), &after.1[&table.name]);
        // SQLite shows a column that was added in all rows.
        if old_schema.table(&table.name).is_none_or(|t| t.columns.len() == table.columns.len()) {
            let found = found.get(&table.name).copied().unwrap_or_default();
            assert_eq!(found, expected, "{what}: table {} {outcome:?}", table.name);
        }
    }
    let difference = diff(&sides, &changed, None).unwrap();
    for (direction, from, to) in [(Direction::Apply, before, after), (Direction::Undo, after, before)] {
        let copy = dir.join("copy.db");
        from.0.write(&copy);
        let sql = script(&difference, direction, &labels()).unwrap();
        run_script(&copy, &sql).unwrap_or_else(|e| panic!("{what}: {direction:?}: {e}"));
        let result = dump(&copy);
        for table in difference.tables.iter().filter(|t| !t.table.is_internal()) {
            let name = &table.table.name;
            assert!(result[name] == to.1[name], "{what}: {direction:?} of table {name}");
        }
    }
    *known = Some(new_schema);
}

#[test]
fn counts_and_scripts_are_right_in_random_histories() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let page_size = [512, 1024, 4096, 65536, 512, 4096][usize::try_from(seed).unwrap()];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let db = Connection::open(&path).unwrap();
        let (vacuum, encoding) = (random.u32(0..3), ["UTF-8", "UTF-16le", "UTF-16be"][random.usize(0..3)]);
        db.execute_batch(&format!(
            "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {vacuum}; PRAGMA encoding = '{encoding}';
             PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON; PRAGMA synchronous = OFF; {SCHEMA}"
        ))
        .unwrap();
        let mut writer = Writer { random, page_size: page_size.min(4096) };
        let mut before = (Image::read(&path), dump(&path));
        let mut known = None;
        for step in 0..16 {
            let mut done = Vec::new();
            for _ in 0..writer.random.usize(1..4) {
                let sql = writer.statement();
                // Some violate a constraint, which is part of a history.
                let result = db.execute_batch(&sql);
                done.push(format!("{} ({result:?})", sql.chars().take(80).collect::<String>()));
            }
            let after = (Image::read(&path), dump(&path));
            let what = format!("seed {seed}, step {step}, {page_size} {encoding} {vacuum}: {done:?}");
            check(dir.path(), &what, &before, &after, &mut known);
            before = after;
        }
    }
}

#[test]
fn damaged_pages_are_errors_and_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(&format!("PRAGMA page_size = 512; PRAGMA auto_vacuum = 1; {SCHEMA}")).unwrap();
    let mut writer = Writer { random: fastrand::Rng::with_seed(7), page_size: 512 };
    for _ in 0..40 {
        let _ = db.execute_batch(&writer.statement());
    }
    let before = Image::read(&path);
    for _ in 0..10 {
        let _ = db.execute_batch(&writer.statement());
    }
    let sound = Image::read(&path);
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pages = sound.pages.clone();
        for _ in 0..random.usize(1..20) {
            let i = random.usize(0..pages.len());
            let mut page = pages[i].to_vec();
            match random.u32(0..3) {
                0 => page = pages[random.usize(0..pages.len())].to_vec(),
                1 => (0..4).for_each(|_| page[random.usize(0..16)] = random.u8(..)),
                _ => (0..8).for_each(|_| page[random.usize(0..512)] = random.u8(..)),
            }
            pages[i] = page.into();
        }
        let after = Image { page_size: 512, pages };
        let changed: Vec<u32> = (1..=after.page_count()).filter(|_| random.bool()).collect();
        let (Ok(old), Ok(new)) = (State::open(&before), State::open(&after)) else { continue };
        let (Ok(old_schema), Ok(new_schema)) = (Schema::read(&old, None), Schema::read(&new, None)) else {
            continue;
        };
        let sides = Sides { old, old_schema: &old_schema, new, new_schema: &new_schema };
        let _ = diff(&sides, &changed, None);
    }
}

/// What one change did to table `t`.
fn counted(settings: &str, schema: &str, change: &str, effort: Effort) -> [usize; 3] {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(settings).unwrap();
    db.execute_batch(schema).unwrap();
    let before = Image::read(&path);
    db.execute_batch(change).unwrap();
    let after = Image::read(&path);
    let (old, new) = (State::open(&before).unwrap(), State::open(&after).unwrap());
    let (old_schema, new_schema) = (Schema::read(&old, None).unwrap(), Schema::read(&new, None).unwrap());
    let sides = Sides { old, old_schema: &old_schema, new, new_schema: &new_schema };
    let mut found = [0; 3];
    let mut count = |pair: Pair, old: Option<&Row>, new: Option<&Row>| {
        let is_t = pair.tables(&old_schema, &new_schema).1.unwrap().name == "t";
        found[if old.is_none() { 0 } else { 2 - usize::from(new.is_some()) }] += usize::from(is_t);
        Ok(())
    };
    let outcome = compare(&sides, &before.changed(&after), effort, &|_| true, &mut count).unwrap();
    assert!(outcome.pages.is_none_or(|p| p.unclear == 0), "{change}");
    found
}

#[test]
fn what_sqlite_does_not_write_is_found() {
    let small = "PRAGMA page_size = 512; PRAGMA auto_vacuum = 0";
    let full = "PRAGMA page_size = 512; PRAGMA auto_vacuum = 1";
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
        INSERT INTO t SELECT i, zeroblob(100) || i FROM n;";
    let table = format!("CREATE TABLE t(id INTEGER PRIMARY KEY, x); {rows}");
    let keyed = format!("CREATE TABLE t(id PRIMARY KEY, x) WITHOUT ROWID; {rows}");
    for settings in [small, full] {
        for schema in [&table, &keyed] {
            let counted = |change| counted(settings, schema, change, Effort::Map);
            // The root is written, and no other page of the tree.
            assert_eq!(counted("DELETE FROM t"), [0, 0, 4000], "{schema}");
            assert_eq!(counted("DELETE FROM t WHERE id BETWEEN 1000 AND 2000"), [0, 0, 1001], "{schema}");
            assert_eq!(counted("DELETE FROM t; INSERT INTO t VALUES (7, 1)"), [0, 1, 3999], "{schema}");
            assert_eq!(counted("DELETE FROM t WHERE id % 400 = 0"), [0, 0, 10], "{schema}");
            assert_eq!(counted("DELETE FROM t WHERE id % 2; UPDATE t SET x = 1 WHERE id = 2"), [0, 1, 2000]);
        }
    }
}

#[test]
fn a_changed_overflow_page_is_an_update_of_its_row() {
    let schema = "CREATE TABLE u(id INTEGER PRIMARY KEY, x); CREATE TABLE t(id INTEGER PRIMARY KEY, x);
        INSERT INTO t VALUES (1, zeroblob(5000)), (2, zeroblob(5000)), (3, 'x');";
    let tail = "UPDATE t SET x = CAST(zeroblob(4990) || x'01020304050607080910' AS BLOB) WHERE id = 2";
    let both = format!("{tail}; UPDATE t SET x = 'y' WHERE id = 3");
    let (none, full) = ("PRAGMA page_size = 512", "PRAGMA page_size = 512; PRAGMA auto_vacuum = 1");
    // By the pointer map, by reading the tables, and by the other row of a changed page.
    assert_eq!(counted(full, schema, tail, Effort::Map), [0, 1, 0]);
    assert_eq!(counted(none, schema, tail, Effort::Read), [0, 1, 0]);
    assert_eq!(counted(none, schema, &both, Effort::Map), [0, 2, 0]);
}
