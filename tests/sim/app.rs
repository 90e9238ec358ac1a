//! The application: a process with SQLite that does what it is told, one line at a time.
//!
//! While lsfast runs it may be told to pause where it calls the operating system: then it says so,
//! and goes on when it is told to. So the two work at the same time, in an order that the seed
//! decides.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use fastrand::Rng;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use xxhash_rust::xxh3::Xxh3;

use super::{clock, disk, processes, threads};

/// This process is an application.
static IS_ONE: AtomicBool = AtomicBool::new(false);
/// When it pauses.
static PAUSES: Mutex<Option<Pauses>> = Mutex::new(None);

/// Most pauses of one statement.
const PAUSES_MAX: u32 = 12;

/// What an application asks to be allowed, instead of an answer.
#[derive(Debug, Clone, Copy)]
pub enum Pause {
    /// To go on.
    Point,
    /// To have slept.
    Sleep(Duration),
}

/// Where an application pauses.
#[derive(Debug)]
struct Pauses {
    /// By chance, at this many of a thousand calls.
    chance: Option<(Rng, u16)>,
    left: u32,
    input: BufReader<UnixStream>,
}

/// What the application answers when it has done something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The database after each commit; the last one is the present state.
    pub states: Vec<State>,
    /// Bytes of the WAL.
    pub wal: u64,
    /// How long it slept, by the clock of the simulation.
    pub slept: Duration,
}

/// One state of the database: how many transactions are committed, and a hash of all pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub commits: u64,
    pub hash: u64,
}

/// The application, from outside.
pub struct App {
    process: u32,
    pub lines: BufReader<UnixStream>,
}

impl App {
    pub fn start() -> App {
        let (process, stream) = processes::start_app();
        let mut app = App { process, lines: BufReader::new(stream) };
        // What SQLite takes for random, such as salts of the WAL.
        let seed = fastrand::u32(1..1 << 30);
        ask_alone(&mut app, &format!("random {seed}")).expect("an application");
        if let Some(notes) = disk::notes() {
            ask_alone(&mut app, &format!("disk {}", notes.display())).expect("an application");
        }
        app
    }

    /// Ends as by SIGKILL: nothing is closed.
    pub fn kill(self) {
        processes::kill_app(self.process);
    }

    /// Tells it something.
    pub fn tell(&mut self, line: &str) -> Result<(), String> {
        writeln!(self.lines.get_mut(), "{line}").map_err(|e| format!("{line}: {e}"))
    }

    /// Waits for the answer, or for what it asks. Nothing else runs meanwhile.
    pub fn hear(&mut self, slept: Duration) -> Result<Result<Answer, Pause>, String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => return Err("the application has ended".to_owned()),
            Err(e) => return Err(e.to_string()),
            Ok(_) => {}
        }
        threads::steps();
        match line.trim().split_once(' ') {
            Some(("pause", _)) => Ok(Err(Pause::Point)),
            Some(("sleep", nanos)) => {
                Ok(Err(Pause::Sleep(Duration::from_nanos(nanos.parse().unwrap_or_default()))))
            }
            _ => Answer::read(&line).map(|answer| Ok(Answer { slept, ..answer })),
        }
    }
}

impl Answer {
    /// Reads `ok WAL` and, for each state, `COMMITS HASH`; or returns what went wrong.
    pub fn read(line: &str) -> Result<Answer, String> {
        let number = |w: &str| w.parse::<u64>().map_err(|_| line.trim().to_owned());
        let numbers = line.trim().strip_prefix("ok ").ok_or_else(|| line.trim().to_owned())?;
        let numbers = numbers.split(' ').map(number).collect::<Result<Vec<u64>, String>>()?;
        let states = numbers[1..].chunks_exact(2).map(|s| State { commits: s[0], hash: s[1] });
        Ok(Answer { states: states.collect(), wal: numbers[0], slept: Duration::ZERO })
    }
}

/// What a standby writes otherwise in the first page: the counters of SQLite, and its own mark.
const OF_THE_FILE: [std::ops::Range<usize>; 2] = [24..28, 72..100];

/// The state of an open database: each byte of each page, the free ones included.
pub fn state_of(connection: &Connection) -> rusqlite::Result<State> {
    let commits = connection.query_row("SELECT n FROM meta", [], |r| r.get::<_, i64>(0))?;
    let mut hash = Xxh3::new();
    let mut pages = connection.prepare_cached("SELECT data FROM sqlite_dbpage('main') ORDER BY pgno")?;
    let mut rows = pages.query([])?;
    if let Some(row) = rows.next()? {
        let mut first: Vec<u8> = row.get(0)?;
        OF_THE_FILE.into_iter().for_each(|bytes| first[bytes].fill(0));
        hash.update(&first);
    }
    while let Some(row) = rows.next()? {
        hash.update(row.get_ref(0)?.as_blob_or_null().ok().flatten().unwrap_or_default());
    }
    Ok(State { commits: commits.unsigned_abs(), hash: hash.digest() })
}

/// The process itself.
pub fn main(stream: UnixStream) {
    IS_ONE.store(true, Relaxed);
    let mut output = stream.try_clone().expect("a socket");
    *clock::lock(&PAUSES) = Some(Pauses { chance: None, left: 0, input: BufReader::new(stream) });
    let mut open: Option<Open> = None;
    loop {
        let mut line = String::new();
        let read = clock::lock(&PAUSES).as_mut().map_or(Ok(0), |p| p.input.read_line(&mut line));
        if !matches!(read, Ok(1..)) {
            return;
        }
        let line = pausing(line.trim());
        let done = obey(line, &mut open);
        set_pauses(None);
        let answer = match done {
            Ok(()) => match open.as_mut().map(Open::answer) {
                Some(Ok(answer)) => answer,
                Some(Err(e)) => format!("error: {line}: {e}"),
                None => "ok 0".to_owned(),
            },
            Err(e) => format!("error: {line}: {e:?}"),
        };
        if writeln!(output, "{answer}").is_err() {
            return;
        }
    }
}

/// Begins to pause as a line that begins with `@SEED,CHANCE` says. Returns the rest of it.
fn pausing(line: &str) -> &str {
    let Some((how, rest)) = line.strip_prefix('@').and_then(|l| l.split_once(' ')) else { return line };
    let (seed, chance) = how.split_once(',').unwrap_or_default();
    set_pauses(
        seed.parse().ok().zip(chance.parse().ok()).map(|(seed, chance)| (Rng::with_seed(seed), chance)),
    );
    rest
}

fn set_pauses(chance: Option<(Rng, u16)>) {
    if let Some(pauses) = clock::lock(&PAUSES).as_mut() {
        (pauses.chance, pauses.left) = (chance, PAUSES_MAX);
    }
}

/// Whether this process is an application.
pub fn is_one() -> bool {
    IS_ONE.load(Relaxed)
}

/// A place at which an application may pause.
pub fn point() {
    if !is_one() {
        return;
    }
    if let Some(pauses) = clock::lock(&PAUSES).as_mut()
        && pauses.left > 0
        && pauses.chance.as_mut().is_some_and(|(rng, chance)| rng.u16(..1000) < *chance)
    {
        pauses.left -= 1;
        pauses.ask("pause now");
    }
}

/// Sleeps by the clock of the simulation, if this process is an application.
pub fn sleeps(nanos: i64) -> bool {
    if is_one()
        && let Some(pauses) = clock::lock(&PAUSES).as_mut()
    {
        pauses.ask(&format!("sleep {nanos}"));
    }
    is_one()
}

impl Pauses {
    fn ask(&mut self, what: &str) {
        let mut line = String::new();
        let _ = writeln!(self.input.get_mut(), "{what}").and_then(|()| self.input.read_line(&mut line));
    }
}

/// An open database.
pub struct Open {
    pub(super) path: String,
    pub(super) connection: Connection,
    /// How long it waits for locks.
    pub(super) busy_ms: u64,
    /// A connection that holds an old snapshot.
    reader: Option<Connection>,
    /// A transaction is open that will be committed, or rolled back.
    held: Option<bool>,
    /// States since the last answer.
    states: Vec<State>,
}

fn obey(line: &str, open: &mut Option<Open>) -> rusqlite::Result<()> {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
    if let Some(open) =
        open.as_mut().filter(|_| !["open", "close", "other", "random", "disk"].contains(&words[0]))
    {
        open.end_held()?;
    }
    match (words[0], open.as_mut()) {
        ("open", _) => {
            *open = None;
            *open = Some(Open::new(words[1], number(2), number(3), number(4), number(5))?);
        }
        ("close", _) => *open = None,
        ("random", _) => seed_sqlite(number(1)),
        ("disk", _) => disk::start(Path::new(words[1])),
        ("other", Some(o)) => {
            let other = Connection::open_with_flags(words[1], OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            o.states.push(state_of(&other)?);
        }
        (_, None) => return Err(rusqlite::Error::InvalidQuery),
        ("txn", Some(o)) => o.transaction(&mut Rng::with_seed(number(1)))?,
        ("burst", Some(o)) => {
            let mut rng = Rng::with_seed(number(1));
            for _ in 0..number(2) {
                o.transaction(&mut rng)?;
            }
        }
        ("large", Some(o)) => o.large(number(1))?,
        ("hold", Some(o)) => o.hold(number(1))?,
        ("unproven", Some(o)) => o.unproven(number(1))?,
        ("index", Some(o)) => o.damage_index(number(1))?,
        ("vacuum", Some(o)) => o.connection.execute_batch("VACUUM")?,
        ("checkpoint", Some(o)) => {
            // It may find another checkpoint at work, and says so in its row.
            let sql = format!("PRAGMA wal_checkpoint({})", words[1]);
            o.connection.query_row(&sql, [], |r| r.get::<_, i64>(0))?;
        }
        ("reader", Some(o)) => {
            o.reader = None;
            if number(1) == 1 {
                let reader = Connection::open(&o.path)?;
                reader.execute_batch("BEGIN; SELECT count(*) FROM t")?;
                o.reader = Some(reader);
            }
        }
        _ => {}
    }
    Ok(())
}

impl Open {
    fn new(
        path: &str,
        page_size: u64,
        autocheckpoint: u64,
        synchronous: u64,
        busy_ms: u64,
    ) -> rusqlite::Result<Open> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_millis(busy_ms))?;
        if !Path::new(path).metadata().is_ok_and(|m| m.len() > 0) {
            connection.execute_batch(&format!("PRAGMA page_size={page_size}"))?;
        }
        connection.execute_batch(&format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA cache_size=20; \
             PRAGMA wal_autocheckpoint={autocheckpoint}"
        ))?;
        // A new database, or one whose first commit was lost in a power failure.
        let has: Option<i64> = connection
            .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'meta'", [], |r| r.get(0))
            .optional()?;
        if has.is_none() {
            connection.execute_batch(
                "BEGIN; CREATE TABLE meta(n INTEGER); INSERT INTO meta VALUES(0); \
                 CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB); COMMIT",
            )?;
        }
        Ok(Open { path: path.to_owned(), connection, busy_ms, reader: None, held: None, states: Vec::new() })
    }

    fn answer(&mut self) -> rusqlite::Result<String> {
        if self.held.is_none() {
            self.states.push(state_of(&self.connection)?);
        }
        let wal = std::fs::metadata(format!("{}-wal", self.path)).map_or(0, |m| m.len());
        let mut answer = format!("ok {wal}");
        self.states.drain(..).for_each(|s| answer += &format!(" {} {}", s.commits, s.hash));
        Ok(answer)
    }

    /// One transaction of any kind. No error of SQLite is expected: nothing else writes.
    fn transaction(&mut self, rng: &mut Rng) -> rusqlite::Result<()> {
        let run = |sql: &str| self.connection.execute_batch(sql);
        run(if rng.bool() { "BEGIN IMMEDIATE" } else { "BEGIN" })?;
        for _ in 0..rng.u32(1..=4) {
            self.statement(rng)?;
        }
        if rng.u8(..10) == 0 {
            run("SAVEPOINT s")?;
            for _ in 0..rng.u32(1..=20) {
                self.statement(rng)?;
            }
            run(if rng.bool() { "ROLLBACK TO s" } else { "RELEASE s" })?;
        }
        if rng.u8(..100) < 3 {
            // Other structure of the database, and another schema in its first page.
            let has: Option<i64> = self
                .connection
                .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'i'", [], |r| r.get(0))
                .optional()?;
            run(if has.is_some() { "DROP INDEX i" } else { "CREATE INDEX i ON t(substr(x, 1, 9))" })?;
        }
        if rng.u8(..10) == 0 {
            return run("ROLLBACK");
        }
        run("UPDATE meta SET n = n + 1; COMMIT")?;
        self.states.push(state_of(&self.connection)?);
        Ok(())
    }

    /// Begins a transaction of more pages than the cache has, and leaves it open.
    fn hold(&mut self, seed: u64) -> rusqlite::Result<()> {
        let rng = &mut Rng::with_seed(seed);
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..rng.u32(1..60) {
            self.statement(rng)?;
        }
        self.held = Some(rng.u8(..3) > 0);
        Ok(())
    }

    /// Begins a transaction with this many pages, and leaves it open.
    fn large(&mut self, pages: u64) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        self.connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
             INSERT INTO t(id, x) SELECT 1000 + i, randomblob(65000) FROM n",
            [pages.cast_signed()],
        )?;
        self.held = Some(true);
        Ok(())
    }

    /// Ends a transaction that is open.
    fn end_held(&mut self) -> rusqlite::Result<()> {
        match self.held.take() {
            None => Ok(()),
            Some(false) => self.connection.execute_batch("ROLLBACK"),
            Some(true) => self.commit(),
        }
    }

    /// Counts and commits the open transaction.
    pub(super) fn commit(&mut self) -> rusqlite::Result<()> {
        self.connection.execute_batch("UPDATE meta SET n = n + 1; COMMIT")?;
        self.states.push(state_of(&self.connection)?);
        Ok(())
    }

    pub(super) fn statement(&self, rng: &mut Rng) -> rusqlite::Result<()> {
        let mut blob = vec![0; if rng.u8(..30) == 0 { rng.usize(..30_000) } else { rng.usize(..900) }];
        rng.fill(&mut blob);
        let id = rng.i64(1..120);
        let run = |sql: &str| self.connection.execute(sql, (id, &blob)).map(drop);
        match rng.u8(..20) {
            0..14 => run("INSERT INTO t(id, x) VALUES(?1, ?2) ON CONFLICT(id) DO UPDATE SET x = ?2"),
            14..17 => run("UPDATE t SET x = ?2 WHERE id % 5 = ?1 % 5 AND length(x) < 300"),
            17..19 => run("DELETE FROM t WHERE id = ?1 OR length(x) > 20000 AND ?2 IS NOT NULL"),
            _ => run("DELETE FROM t WHERE id % 3 = ?1 % 3 AND ?2 IS NOT NULL"),
        }
    }
}

/// What SQLite in this process takes for random comes from a seed.
#[allow(unsafe_code, reason = "only a C function does it")]
pub fn seed_sqlite(seed: u64) {
    use rusqlite::ffi;
    let none = std::ptr::null_mut::<ffi::sqlite3>();
    let seed = (seed % (1 << 30)) as std::ffi::c_int | 1;
    // SAFETY: this option takes a number and a connection, which may be null.
    unsafe { ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_PRNG_SEED, seed, none) };
}

/// Asks without letting anything else run meanwhile.
pub fn ask_alone(app: &mut App, line: &str) -> Result<Answer, String> {
    app.tell(line)?;
    let mut slept = Duration::ZERO;
    loop {
        match app.hear(slept)? {
            Ok(answer) => return Ok(answer),
            Err(Pause::Point) => {}
            Err(Pause::Sleep(time)) => slept += time,
        }
        app.tell("go")?;
    }
}
