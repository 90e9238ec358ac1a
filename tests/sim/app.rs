//! The application: a process with SQLite that does what it is told, one line at a time.
//!
//! It is a process of its own because lsfast closes descriptors of the database, which drops the
//! POSIX locks that its process holds on it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use xxhash_rust::xxh3::Xxh3;

use super::{clock, threads};

/// Set for the process of the application.
const ROLE: &str = "LSFAST_SIM_APP";

/// What the application answers when it has done something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The database after each commit; the last one is the present state.
    pub states: Vec<State>,
    /// Bytes of the WAL.
    pub wal: u64,
    /// How long the slowest commit took.
    pub slowest: Duration,
}

/// One state of the database: how many transactions are committed, and a hash of all pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub commits: u64,
    pub hash: u64,
}

/// The application, from outside.
pub struct App {
    child: Child,
    pub stream: UnixStream,
}

impl App {
    pub fn start() -> App {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).expect("a socket that does not wait");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["app", "--exact", "--ignored", "--nocapture"]).env(ROLE, "1");
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stdout(Stdio::null());
        let child = command.spawn().expect("the application starts");
        App { child, stream: ours }
    }

    /// Ends as by SIGKILL: nothing is closed.
    pub fn kill(mut self) {
        self.end();
    }

    /// The same, of one that is not used again.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// Reads `ok WAL MICROS` and, for each state, `COMMITS HASH`; or returns what went wrong.
    pub fn read(line: &str) -> Result<Answer, String> {
        let number = |w: &str| w.parse::<u64>().map_err(|_| line.trim().to_owned());
        let numbers = line.trim().strip_prefix("ok ").ok_or_else(|| line.trim().to_owned())?;
        let numbers = numbers.split(' ').map(number).collect::<Result<Vec<u64>, String>>()?;
        let states = numbers[2..].chunks_exact(2).map(|s| State { commits: s[0], hash: s[1] });
        Ok(Answer { states: states.collect(), wal: numbers[0], slowest: Duration::from_micros(numbers[1]) })
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

/// The process itself; returns at once in a run of all tests.
pub fn main() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    use std::os::fd::AsFd as _;
    let input = std::io::stdin().as_fd().try_clone_to_owned().expect("a descriptor");
    let mut output = UnixStream::from(input);
    let input = BufReader::new(output.try_clone().expect("a socket"));
    let mut open: Option<Open> = None;
    for line in input.lines() {
        let Ok(line) = line else { return };
        let answer = match obey(&line, &mut open) {
            Ok(()) => match open.as_mut().map(Open::answer) {
                Some(Ok(answer)) => answer,
                Some(Err(e)) => format!("error: {line}: {e}"),
                None => "ok 0 0".to_owned(),
            },
            Err(e) => format!("error: {line}: {e:?}"),
        };
        if writeln!(output, "{answer}").is_err() {
            return;
        }
    }
}

/// An open database.
pub struct Open {
    pub(super) path: String,
    pub(super) connection: Connection,
    /// A connection that holds an old snapshot.
    reader: Option<Connection>,
    /// A transaction is open that will be committed, or rolled back.
    held: Option<bool>,
    pub(super) slowest: Duration,
    /// States since the last answer.
    states: Vec<State>,
}

fn obey(line: &str, open: &mut Option<Open>) -> rusqlite::Result<()> {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
    if let Some(open) = open.as_mut().filter(|_| !["open", "close", "other"].contains(&words[0])) {
        open.end_held()?;
    }
    match (words[0], open.as_mut()) {
        ("open", _) => {
            *open = None;
            *open = Some(Open::new(words[1], number(2), number(3), number(4))?);
        }
        ("close", _) => *open = None,
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
    fn new(path: &str, page_size: u64, autocheckpoint: u64, synchronous: u64) -> rusqlite::Result<Open> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::ZERO)?;
        let is_new = !Path::new(path).metadata().is_ok_and(|m| m.len() > 0);
        if is_new {
            connection.execute_batch(&format!("PRAGMA page_size={page_size}"))?;
        }
        connection.execute_batch(&format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA cache_size=20; \
             PRAGMA wal_autocheckpoint={autocheckpoint}"
        ))?;
        if is_new {
            connection.execute_batch(
                "BEGIN; CREATE TABLE meta(n INTEGER); INSERT INTO meta VALUES(0); \
                 CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB); COMMIT",
            )?;
        }
        Ok(Open {
            path: path.to_owned(),
            connection,
            reader: None,
            held: None,
            slowest: Duration::ZERO,
            states: Vec::new(),
        })
    }

    fn answer(&mut self) -> rusqlite::Result<String> {
        if self.held.is_none() {
            self.states.push(state_of(&self.connection)?);
        }
        let wal = std::fs::metadata(format!("{}-wal", self.path)).map_or(0, |m| m.len());
        let mut answer = format!("ok {wal} {}", self.slowest.as_micros());
        self.states.drain(..).for_each(|s| answer += &format!(" {} {}", s.commits, s.hash));
        Ok(answer)
    }

    /// One transaction of any kind. No error of SQLite is expected: nothing else writes.
    fn transaction(&mut self, rng: &mut Rng) -> rusqlite::Result<()> {
        let run = |sql: &str| self.connection.execute_batch(sql);
        let begun = Instant::now();
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
        self.slowest = self.slowest.max(begun.elapsed());
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

/// Asks without letting anything else run meanwhile.
pub fn ask_alone(app: &mut App, line: &str) -> Result<Answer, String> {
    use std::io::Read as _;
    app.stream.write_all(format!("{line}\n").as_bytes()).map_err(|e| format!("{line}: {e}"))?;
    let (mut answer, mut piece) = (Vec::new(), [0; 512]);
    while answer.last() != Some(&b'\n') {
        match app.stream.read(&mut piece) {
            Ok(0) => return Err(format!("{line}: the application has ended")),
            Ok(n) => answer.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => clock::wait_for(&app.stream),
            Err(e) => return Err(format!("{line}: {e}")),
        }
    }
    threads::may_wake();
    Answer::read(&String::from_utf8_lossy(&answer))
}
