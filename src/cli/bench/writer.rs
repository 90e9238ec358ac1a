//! The application of the bench: one database, one writer, random gaps.
//!
//! Each commit sets a number in a page of its own, behind a mark that occurs nowhere else. So an object that was
//! stored tells by itself which commits it holds, without the help of what is measured.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::mpsc::UnboundedSender;

use crate::ltx::{Decoder, Step};

/// Stands before the number of the last commit.
const MARK: [u8; 16] = *b"\xfflsfast-bench\xfe\x01\x7f";

/// A row of the bench, in bytes: what a small application writes.
const ROW_BYTES: usize = 200;

/// Rows before the measurement, so that the database is no toy of three pages.
const ROWS_BEFORE: u32 = 5_000;

/// One commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    /// Its number, from 1.
    pub(super) number: u64,
    /// When COMMIT returned.
    pub(super) returned: Instant,
}

/// Makes the database.
pub(super) fn create(path: &Path) -> anyhow::Result<()> {
    let what = || format!("cannot make the database {}", path.display());
    let connection = Connection::open(path).with_context(what)?;
    let fill = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(
            "CREATE TABLE mark(id INTEGER PRIMARY KEY, content BLOB);
             CREATE TABLE events(id INTEGER PRIMARY KEY, body BLOB);
             INSERT INTO mark VALUES (1, NULL);",
        )?;
        connection.execute_batch("BEGIN")?;
        let mut insert = connection.prepare("INSERT INTO events(body) VALUES (?1)")?;
        for _ in 0..ROWS_BEFORE {
            insert.execute([row()])?;
        }
        drop(insert);
        connection.execute_batch("COMMIT")
    };
    fill().with_context(what)
}

/// Commits until `end` or until `stop`, at random gaps of `gap` on average, and reports each commit.
pub(super) fn write(
    path: &Path,
    end: Instant,
    gap: Duration,
    stop: &AtomicBool,
    commits: &UnboundedSender<Commit>,
) -> anyhow::Result<()> {
    let connection = Connection::open(path).context("the writer cannot open the database")?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let mut number = 0_u64;
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(gap.mul_f64(exponential()));
        number += 1;
        let mark = [&MARK[..], &number.to_be_bytes()].concat();
        connection.execute_batch("BEGIN IMMEDIATE")?;
        connection.execute("UPDATE mark SET content = ?1", [mark])?;
        connection.execute("INSERT INTO events(body) VALUES (?1)", [row()])?;
        connection.execute_batch("COMMIT")?;
        let returned = Instant::now();
        if commits.send(Commit { number, returned }).is_err() {
            break;
        }
    }
    Ok(())
}

/// The number of the newest commit in a stored object; `None` if it holds none.
pub(super) fn newest_commit(body: &[Bytes]) -> anyhow::Result<Option<u64>> {
    let mut decoder = Decoder::new();
    let mut newest = None;
    for piece in body {
        let mut input = &piece[..];
        loop {
            match decoder.step(&mut input)? {
                Step::NeedInput => break,
                Step::Header => {}
                Step::Page(_) => newest = newest.max(newest_in(decoder.page())),
            }
        }
    }
    decoder.finish()?;
    Ok(newest)
}

/// A page may hold left-overs of earlier numbers too, so the highest counts.
fn newest_in(page: &[u8]) -> Option<u64> {
    let marks = page.windows(MARK.len() + 8).filter(|w| w.starts_with(&MARK));
    marks.filter_map(|w| w.last_chunk().map(|n| u64::from_be_bytes(*n))).max()
}

/// Half of it can be compressed, as with real rows.
fn row() -> Vec<u8> {
    let mut row = vec![b'x'; ROW_BYTES];
    fastrand::fill(&mut row[..ROW_BYTES / 2]);
    row
}

/// A random factor of mean 1: gaps of events that know nothing of each other. At most 7.
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

    #[test]
    fn a_written_number_is_found_in_the_pages_of_the_log() {
        let path = std::env::temp_dir().join(format!("lsfast-bench-writer-{}", std::process::id()));
        create(&path).expect("a database");
        let (send, mut commits) = tokio::sync::mpsc::unbounded_channel();
        let stop = AtomicBool::new(false);
        let mut last = 0;
        let end = Instant::now() + Duration::from_secs(600);
        std::thread::scope(|threads| {
            let writer = threads.spawn(|| write(&path, end, Duration::from_micros(100), &stop, &send));
            while last < 5 {
                let commit = commits.blocking_recv().expect("a commit");
                assert_eq!(commit.number, last + 1);
                last = commit.number;
            }
            stop.store(true, Ordering::Relaxed);
            writer.join().expect("no panic").expect("a writer");
        });
        while let Ok(commit) = commits.try_recv() {
            last = commit.number;
        }
        // The last connection has checkpointed.
        let bytes = std::fs::read(&path).expect("the database");
        assert_eq!(newest_in(&bytes), Some(last));
        std::fs::remove_file(&path).expect("the database");
    }
}
