//! The processes beside lsfast: writers and a checkpointer.
//!
//! A process learns its part from the environment and reports by lines on standard output. It ends
//! when its part is done, or when its standard input closes, so that none outlives the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use rusqlite::{Connection, ErrorCode};

use super::plan::{Plan, rng};

/// `writer N`, `alone 0` or `checkpointer`.
pub const ROLE: &str = "LSFAST_STRESS_ROLE";
/// The seed of the plan.
pub const SEED: &str = "LSFAST_STRESS_SEED";
/// The database.
pub const DATABASE: &str = "LSFAST_STRESS_DATABASE";
/// Stands before each report on standard output, which the test harness writes to as well.
pub const REPORT: &str = "stress: ";

/// Attempts that may find the database busy, one after the other. Far more than two writers and a
/// checkpointer cause.
const BUSY_MAX: u32 = 20_000;

pub fn main() {
    let (Ok(role), Ok(seed), Ok(db)) = (std::env::var(ROLE), std::env::var(SEED), std::env::var(DATABASE))
    else {
        return;
    };
    let seed = seed.parse().expect("a seed");
    let plan = if role.starts_with("alone") { Plan::alone(seed) } else { Plan::new(seed) };
    let stop = Arc::new(AtomicBool::new(false));
    let closed = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        closed.store(true, Ordering::Relaxed);
    });
    let db = PathBuf::from(db);
    match role.split_once(' ') {
        Some((_, n)) => Writer::new(db, plan, n.parse().expect("a number"), stop).run(),
        None => checkpoint(&db, &plan, &stop),
    }
}

/// What SQLite said: done, or another connection is at it.
type Outcome = Result<(), Busy>;

#[derive(Debug)]
struct Busy;

/// Any error but "busy" is a failure of the test.
fn only_busy<T>(what: &str, result: rusqlite::Result<T>) -> Result<T, Busy> {
    match result {
        Ok(value) => Ok(value),
        Err(rusqlite::Error::SqliteFailure(e, _)) if e.code == ErrorCode::DatabaseBusy => Err(Busy),
        Err(e) => panic!("{what}: {e:?}"),
    }
}

struct Writer {
    db: PathBuf,
    plan: Plan,
    index: usize,
    stop: Arc<AtomicBool>,
    rng: Rng,
    committed: u32,
    busy: u32,
    vacuums: u32,
}

impl Writer {
    fn new(db: PathBuf, plan: Plan, index: usize, stop: Arc<AtomicBool>) -> Writer {
        let rng = rng(plan.seed, 1 + index as u64);
        Writer { db, plan, index, stop, rng, committed: 0, busy: 0, vacuums: 0 }
    }

    fn run(mut self) {
        let mut connection = self.connect();
        for done in 1..=self.plan.transactions {
            if !self.plan.alone && self.rng.u8(..100) < 2 {
                connection.close().expect("a connection closes");
                connection = self.connect();
            }
            self.retry(|w| w.transaction(&connection));
            println!("{REPORT}done {done}");
            if self.rng.u8(..100) < 3 {
                std::thread::sleep(Duration::from_micros(self.rng.u64(..8000)));
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
        connection.close().expect("a connection closes");
        println!("{REPORT}end {} {} {}", self.committed, self.busy, self.vacuums);
    }

    /// Repeats what another connection was in the way of.
    fn retry<T>(&mut self, mut what: impl FnMut(&mut Writer) -> Result<T, Busy>) -> T {
        for _ in 0..BUSY_MAX {
            match what(self) {
                Ok(value) => return value,
                Err(Busy) => self.busy += 1,
            }
            std::thread::sleep(Duration::from_micros(self.rng.u64(..1000)));
        }
        panic!("busy {BUSY_MAX} times in a row");
    }

    fn connect(&mut self) -> Connection {
        let pick = |rng: &mut Rng, from: &[u32]| from[rng.usize(..from.len())];
        let timeout = if self.plan.alone { 0 } else { pick(&mut self.rng, &[0, 0, 20, 5000]) };
        let autocheckpoint = pick(&mut self.rng, &[0, 1, 10, 50, 200, 1000]);
        let cache = pick(&mut self.rng, &[5, 50, 2000]);
        let synchronous = pick(&mut self.rng, &[0, 1, 2]);
        self.retry(|w| {
            let connection = Connection::open(&w.db).expect("open");
            connection.busy_timeout(Duration::from_millis(timeout.into())).expect("a timeout");
            let pragmas = format!(
                "PRAGMA synchronous={synchronous}; PRAGMA cache_size={cache}; \
                 PRAGMA wal_autocheckpoint={autocheckpoint}; SELECT * FROM ledger"
            );
            only_busy("connect", connection.execute_batch(&pragmas))?;
            Ok(connection)
        })
    }

    /// One transaction of any kind; after `Busy` nothing of it is left.
    fn transaction(&mut self, connection: &Connection) -> Outcome {
        if self.plan.vacuums && self.rng.u16(..1000) < 8 {
            only_busy("vacuum", connection.execute_batch("VACUUM"))?;
            self.vacuums += 1;
            return Ok(());
        }
        let outcome = self.steps(connection);
        if outcome.is_err() && !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK").expect("rollback");
        }
        outcome
    }

    fn steps(&mut self, connection: &Connection) -> Outcome {
        let run = |sql: &str| only_busy(sql, connection.execute_batch(sql));
        run(if self.rng.u8(..10) < 8 { "BEGIN IMMEDIATE" } else { "BEGIN" })?;
        if self.rng.u8(..100) < 2 {
            // Larger than most caches here: it spills, and the second statement
            // rewrites frames of the first.
            let rows = self.rng.u32(100..300);
            run(&format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {rows}) \
                 INSERT INTO t(who, x) SELECT {}, randomblob(1500) FROM n",
                self.index
            ))?;
            run("UPDATE t SET x = randomblob(length(x)) WHERE id % 2")?;
        }
        for _ in 0..self.rng.u32(1..=5) {
            run(&self.statement())?;
        }
        if self.rng.u8(..10) == 0 {
            return run("ROLLBACK");
        }
        run(&format!("UPDATE ledger SET n = n + 1 WHERE who = {}", self.index))?;
        run("COMMIT")?;
        self.committed += 1;
        Ok(())
    }

    fn statement(&mut self) -> String {
        let (who, bytes) = (self.index, self.rng.u32(10..2000));
        match self.rng.u8(..60) {
            0..34 => format!("INSERT INTO t(who, x) VALUES({who}, randomblob({bytes}))"),
            34..36 => format!("INSERT INTO t(who, x) VALUES({who}, randomblob({}))", 20 * bytes),
            36..49 => format!(
                "UPDATE t SET x = randomblob({bytes}), who = {who} WHERE id % 7 = {} \
                 AND id >= (SELECT abs(random()) % (max(id) + 1) FROM t)",
                self.rng.u8(..7)
            ),
            49..59 => "DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY random() LIMIT 2)".into(),
            _ => format!("DELETE FROM t WHERE id % 5 = {}", self.rng.u8(..5)),
        }
    }
}

fn checkpoint(db: &Path, plan: &Plan, stop: &AtomicBool) {
    let mut rng = rng(plan.seed, 99);
    let open = || {
        let connection = Connection::open(db).expect("open");
        connection.busy_timeout(Duration::from_millis(50)).expect("a timeout");
        connection
    };
    let mut connection = open();
    let mut complete = 0;
    while !stop.load(Ordering::Relaxed) {
        if rng.u8(..100) < 2 {
            connection.close().expect("a connection closes");
            connection = open();
        }
        let mode = rng.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"]).expect("not empty");
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        if let Ok(0) = only_busy(&sql, connection.query_row(&sql, [], |r| r.get::<_, i64>(0))) {
            complete += 1;
        }
        std::thread::sleep(Duration::from_micros(rng.u64(..5000)));
    }
    connection.close().expect("a connection closes");
    println!("{REPORT}end {complete} 0 0");
}
