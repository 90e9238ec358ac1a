//! The application of the benchmark: one writer with its own connection, which works in turns.
//!
//! The writer is a separate process, as an application is. SQLite's locks belong to processes, so a
//! writer within lsfast's process would not meet lsfast's locks. It takes a turn for each line of
//! its input, and reports events as lines of JSON.
//!
//! Each commit sets a number in a dedicated page, after a mark that occurs nowhere else. A stored
//! object thus shows which commits it holds, independently of the code that is measured.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::load::{Load, Rate, Synchronous};
use super::stats::Samples;
use crate::io::monotonic;
use crate::ltx::{Decoder, Step};

/// Precedes the number of the last commit.
const MARK: [u8; 16] = *b"\xfflsfast-bench\xfe\x01\x7f";

/// The page with the mark: the root of the first table, which has one row.
const MARK_PAGE: u32 = 2;

/// Size of a row before the measurement, in bytes.
const ROW_BYTES: usize = 200;

/// Rows before the measurement, so that the database has a realistic size instead of three pages.
const ROWS_BEFORE: u32 = 5_000;

/// Shortest time between two reported commits. In a closed loop, reporting each commit would slow
/// the writer down.
const REPORT_GAP: Duration = Duration::from_millis(1);

/// How often the writer checks whether to stop while it waits for its next commit.
const PATIENCE: Duration = Duration::from_millis(100);

/// An event that the writer reports.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// A commit in the replicated database.
    Commit(Commit),
    /// A turn is over, and its last commit has been reported.
    Ended(Turned),
    /// The writer cannot continue.
    Failed(String),
}

/// One commit in the replicated database.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Commit {
    /// Its number, from 1.
    pub(super) number: u64,
    /// When COMMIT returned, by the monotonic clock.
    pub(super) returned: Duration,
}

/// The database of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Which {
    /// The replicated database.
    Replicated,
    /// The database that lsfast does not replicate.
    Alone,
}

/// One turn of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) which: Which,
    pub(super) time: Duration,
}

/// The result of a turn.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Turned {
    /// Time of each commit to COMMIT's return, from BEGIN. If earlier commits delayed it, the time
    /// starts when the commit was due.
    pub(super) latencies: Samples,
    /// How long the turn took.
    pub(super) time: Duration,
}

/// Creates a database.
pub(super) fn create(path: &Path) -> anyhow::Result<()> {
    let what = || format!("cannot make the database {}", path.display());
    let connection = Connection::open(path).with_context(what)?;
    let fill = || -> rusqlite::Result<u32> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(
            "CREATE TABLE mark(id INTEGER PRIMARY KEY, content BLOB);
             CREATE TABLE events(id INTEGER PRIMARY KEY, body BLOB);
             INSERT INTO mark VALUES (1, NULL);",
        )?;
        connection.execute_batch("BEGIN")?;
        let mut insert = connection.prepare("INSERT INTO events(body) VALUES (?1)")?;
        let mut row = vec![b'x'; ROW_BYTES];
        for _ in 0..ROWS_BEFORE {
            refill(&mut row);
            insert.execute([&row])?;
        }
        drop(insert);
        connection.execute_batch("COMMIT")?;
        connection.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'mark'", [], |r| r.get(0))
    };
    let page = fill().with_context(what)?;
    anyhow::ensure!(
        page == MARK_PAGE,
        "the first table of a new database begins at page {page}, not {MARK_PAGE}"
    );
    Ok(())
}

/// The databases in the bench's folder: the replicated one and the other one.
pub(super) fn databases(folder: &Path) -> [PathBuf; 2] {
    ["bench.db", "alone.db"].map(|name| folder.join(name))
}

/// The writer process: turns arrive on standard input, whose end ends the process.
pub(super) fn process(folder: &Path, load: Load) -> anyhow::Result<()> {
    let stop = AtomicBool::new(false);
    let (orders, turns) = channel();
    let mut out = std::io::stdout().lock();
    let mut tell = |event: Event| -> anyhow::Result<()> {
        let mut line = serde_json::to_string(&event)?;
        line.push('\n');
        out.write_all(line.as_bytes())?;
        Ok(out.flush()?)
    };
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for line in std::io::stdin().lock().lines() {
                let Some(turn) = line.ok().and_then(|line| serde_json::from_str::<Turn>(&line).ok()) else {
                    break;
                };
                if orders.send(turn).is_err() {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
            drop(orders);
        });
        let done = Writer { load, stop: &stop, tell: &mut tell }.run(&databases(folder), &turns);
        // The parent reads the event, then closes the input that the thread reads.
        if let Err(e) = done {
            tell(Event::Failed(crate::cli::one_line(&e)))?;
        }
        Ok(())
    })
}

/// The writer's state.
struct Writer<'a> {
    load: Load,
    /// Ends a turn early.
    stop: &'a AtomicBool,
    tell: &'a mut dyn FnMut(Event) -> anyhow::Result<()>,
}

impl Writer<'_> {
    /// Takes turns until the input ends. The connections stay open throughout, as an application's
    /// do.
    fn run(&mut self, databases: &[PathBuf; 2], turns: &Receiver<Turn>) -> anyhow::Result<()> {
        let [replicated, alone] = databases;
        let replicated = self.open(replicated)?;
        let alone = if alone.exists() { Some(self.open(alone)?) } else { None };
        let mut number = 0;
        for turn in turns {
            let turned = match turn.which {
                Which::Replicated => self.turn(&replicated, turn.time, &mut number, true)?,
                Which::Alone => {
                    let alone = alone.as_ref().context("there is no database to write to alone")?;
                    self.turn(alone, turn.time, &mut 0, false)?
                }
            };
            (self.tell)(Event::Ended(turned))?;
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> anyhow::Result<Connection> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            let level = match self.load.synchronous {
                Synchronous::Off => "OFF",
                Synchronous::Normal => "NORMAL",
                Synchronous::Full => "FULL",
            };
            connection.pragma_update(None, "synchronous", level)?;
            Ok(connection)
        };
        open().context("the writer cannot open its database")
    }

    /// Commits for `time`. `number` is that of the last commit in this database.
    fn turn(
        &mut self,
        connection: &Connection,
        time: Duration,
        number: &mut u64,
        told: bool,
    ) -> anyhow::Result<Turned> {
        let begun = Instant::now();
        let end = begun + time;
        let mut latencies = Samples::default();
        let mut row = vec![b'x'; self.load.row_bytes as usize];
        let (mut due, mut reported, mut left_out) = (begun, begun, None);
        while let Some(start) = self.next(&mut due, end) {
            *number += 1;
            commit(connection, *number, self.load.rows, &mut row).context("the writer cannot write")?;
            let commit = Commit { number: *number, returned: monotonic() };
            latencies.push(start.elapsed());
            // Chosen by start time, so that long commits are not chosen more often.
            if matches!(self.load.rate, Rate::Max) && start.duration_since(reported) < REPORT_GAP {
                left_out = Some(commit);
            } else if told {
                (reported, left_out) = (start, None);
                (self.tell)(Event::Commit(commit))?;
            }
        }
        let time = begun.elapsed();
        if let (true, Some(commit)) = (told, left_out) {
            (self.tell)(Event::Commit(commit))?;
        }
        Ok(Turned { latencies, time })
    }

    /// Waits for the time of the next commit. Returns when it counts as begun, or `None` if the
    /// turn is over.
    fn next(&self, due: &mut Instant, end: Instant) -> Option<Instant> {
        let Rate::PerSecond(rate) = self.load.rate else {
            let now = Instant::now();
            return (now < end && !self.stop.load(Ordering::Relaxed)).then_some(now);
        };
        *due += Duration::from_secs_f64(exponential() / rate);
        let mut slept = false;
        loop {
            if self.stop.load(Ordering::Relaxed) || Instant::now() >= end {
                return None;
            }
            let left = (*due).min(end).saturating_duration_since(Instant::now());
            if left.is_zero() {
                // The timer's own delay does not count as the database's.
                return (*due < end).then(|| if slept { Instant::now() } else { *due });
            }
            std::thread::sleep(left.min(PATIENCE));
            slept = true;
        }
    }
}

fn commit(connection: &Connection, number: u64, rows: u32, row: &mut [u8]) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mark = [&MARK[..], &number.to_be_bytes()].concat();
    connection.prepare_cached("UPDATE mark SET content = ?1")?.execute([mark])?;
    let mut insert = connection.prepare_cached("INSERT INTO events(body) VALUES (?1)")?;
    for _ in 0..rows {
        refill(row);
        insert.execute([&*row])?;
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

/// The number of the newest commit in an object, whose beginning suffices; `None` if the object
/// does not contain the page.
pub(super) fn newest_commit(body: &[Bytes]) -> anyhow::Result<Option<u64>> {
    let mut decoder = Decoder::new();
    for piece in body {
        let mut input = &piece[..];
        loop {
            match decoder.step(&mut input)? {
                Step::NeedInput => break,
                Step::Page(page) if page.get() == MARK_PAGE => return Ok(newest_in(decoder.page())),
                // Pages are in order.
                Step::Page(page) if page.get() > MARK_PAGE => return Ok(None),
                Step::Header | Step::Page(_) => {}
            }
        }
    }
    Ok(None)
}

/// The page may also hold remains of earlier numbers, so the highest counts.
fn newest_in(page: &[u8]) -> Option<u64> {
    let marks = page.windows(MARK.len() + 8).filter(|w| w.starts_with(&MARK));
    marks.filter_map(|w| w.last_chunk().map(|n| u64::from_be_bytes(*n))).max()
}

/// Refills half of a row with random bytes; the other half is compressible, as in real data.
fn refill(row: &mut [u8]) {
    let half = row.len() / 2;
    fastrand::fill(&mut row[..half]);
}

/// A random factor with mean 1 for the gaps of independent events. At most 7.
fn exponential() -> f64 {
    -(1.0 - fastrand::f64()).max(1e-3).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_behind_the_mark_counts() {
        let mut page = vec![0; 4096];
        assert_eq!(newest_in(&page), None);
        for (at, number) in [(100, 41_u64), (2_000, 42), (4096 - 24, 7)] {
            page[at..at + 16].copy_from_slice(&MARK);
            page[at + 16..at + 24].copy_from_slice(&number.to_be_bytes());
        }
        assert_eq!(newest_in(&page), Some(42));
    }

    /// Runs turns on two databases. Returns the events and the databases' files.
    fn turns(load: Load, turns: &[Turn]) -> (Vec<Event>, [Vec<u8>; 2]) {
        let dir = std::env::temp_dir().join(format!("lsfast-bench-writer-{:08x}", fastrand::u32(..)));
        std::fs::create_dir(&dir).expect("a folder");
        let paths = databases(&dir);
        paths.iter().for_each(|path| create(path).expect("a database"));
        let mut found = Vec::new();
        let mut tell = |event| {
            found.push(event);
            Ok(())
        };
        let (orders, taken) = channel();
        turns.iter().for_each(|turn| orders.send(*turn).expect("a receiver"));
        drop(orders);
        let mut writer = Writer { load, stop: &AtomicBool::new(false), tell: &mut tell };
        writer.run(&paths, &taken).expect("a writer");
        // The last connection has checkpointed the WAL.
        let files = paths.map(|path| std::fs::read(path).expect("the database"));
        std::fs::remove_dir_all(&dir).expect("the folder");
        (found, files)
    }

    const LOAD: Load = Load { rate: Rate::Max, rows: 3, row_bytes: 70, synchronous: Synchronous::Off };

    #[test]
    fn the_last_commit_of_each_turn_is_told_and_its_number_is_in_the_pages() {
        let replicated = Turn { which: Which::Replicated, time: Duration::from_millis(20) };
        let alone = Turn { which: Which::Alone, ..replicated };
        let (events, [replicated, alone]) = turns(LOAD, &[replicated, alone, replicated]);
        let (mut told, mut made, mut ended) = (0, 0, 0);
        for event in events {
            match event {
                Event::Commit(commit) => {
                    assert!(commit.number > told);
                    told = commit.number;
                }
                Event::Ended(turned) => {
                    ended += 1;
                    if ended != 2 {
                        made += turned.latencies.count();
                        assert_eq!(told, made, "after turn {ended}");
                    }
                }
                Event::Failed(why) => panic!("{why}"),
            }
        }
        assert!(ended == 3 && made > 0);
        assert_eq!(newest_in(&replicated[4096..8192]), Some(made));
        assert!(newest_in(&alone).is_some_and(|n| n > 0));
    }

    #[test]
    fn an_open_loop_keeps_its_rate_and_stops_when_told() {
        let load = Load { rate: Rate::PerSecond(2_000.0), rows: 1, ..LOAD };
        let (events, _) = turns(load, &[Turn { which: Which::Replicated, time: Duration::from_millis(500) }]);
        let commits = events.iter().filter(|e| matches!(e, Event::Commit(_))).count();
        // 1000 on average with a deviation of 32; fewer on a busy machine.
        assert!((10..1_300).contains(&commits), "{commits}");
        let load = Load { rate: Rate::PerSecond(1e-9), ..load };
        let writer = Writer { load, stop: &AtomicBool::new(true), tell: &mut |_| Ok(()) };
        assert_eq!(writer.next(&mut Instant::now(), Instant::now() + Duration::from_secs(600)), None);
    }
}
