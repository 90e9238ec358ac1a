//! The application: a process of its own that commits as it is told. One row fills one page, so
//! that a commit of n rows is n frames.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context as _;
use rusqlite::Connection;

/// Rows of the database.
pub const ROWS: u32 = 500;

/// What fills a page of 4096 bytes but for its header and the row's.
const BODY_BYTES: usize = 3_900;

/// Told to commit.
#[derive(Debug)]
pub struct Writer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    answer: String,
}

/// Makes the database.
pub fn create(path: &Path) -> anyhow::Result<()> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB); BEGIN")?;
    for id in 1..=ROWS {
        connection.execute("INSERT INTO t VALUES (?1, ?2)", (id, body(u64::from(id))))?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}

/// Half of it can be compressed. The same for the same number.
fn body(number: u64) -> Vec<u8> {
    let mut body = vec![b'x'; BODY_BYTES];
    let mut noise = number;
    for byte in &mut body[..BODY_BYTES / 2] {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (noise >> 56) as u8;
    }
    body
}

impl Writer {
    /// Starts it; its connection stays open.
    pub fn start(path: &Path) -> anyhow::Result<Writer> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--writer-child")
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the application does not start")?;
        let to = child.stdin.take().context("a pipe")?;
        let from = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut writer = Writer { child, to, from, answer: String::new() };
        // It has the database open when it answers.
        writer.commit(0, 0)?;
        Ok(writer)
    }

    /// Commits so often, each time so many rows; returns when all are committed.
    pub fn commit(&mut self, commits: u32, rows: u32) -> anyhow::Result<()> {
        writeln!(self.to, "{commits} {rows}")?;
        self.answer.clear();
        anyhow::ensure!(self.from.read_line(&mut self.answer)? > 0, "the application has ended");
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended already; either way it is reaped.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// In the process of the application.
pub fn child(path: &str) -> anyhow::Result<()> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.query_row("SELECT count(*) FROM t", [], |_| Ok(()))?;
    let mut update = connection.prepare("UPDATE t SET body = ?2 WHERE id = ?1")?;
    let mut number = u64::from(ROWS);
    let mut row = 0;
    for line in std::io::stdin().lines() {
        let line = line?;
        let (commits, rows) = line.split_once(' ').context("two numbers")?;
        let rows: u32 = rows.parse()?;
        for _ in 0..commits.parse()? {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            for _ in 0..rows {
                number += 1;
                row = row % ROWS + 1;
                update.execute((row, body(number)))?;
            }
            connection.execute_batch("COMMIT")?;
        }
        println!("done");
    }
    Ok(())
}
