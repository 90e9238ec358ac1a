//! One run: the processes, the kills, the comparison.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use rusqlite::Connection;

use super::plan::{How, Plan};
use super::process::{HANG, Lsfast, Part, Place, Report, program, tail};
use super::{compare, replica};

/// Longest halt of lsfast by SIGSTOP.
const HALTED_MAX: Duration = Duration::from_secs(2);

/// What happened in a run, or in all.
#[derive(Debug, Default)]
pub struct Totals {
    pub committed: u64,
    pub busy: u64,
    pub vacuums: u64,
    pub checkpoints: u64,
    pub kills: u64,
    pub stops: u64,
    pub files: u64,
    pub repairs: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Totals) {
        self.committed += other.committed;
        self.busy += other.busy;
        self.vacuums += other.vacuums;
        self.checkpoints += other.checkpoints;
        self.kills += other.kills;
        self.stops += other.stops;
        self.files += other.files;
        self.repairs += other.repairs;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { committed, busy, vacuums, checkpoints, kills, stops, files, repairs } = self;
        write!(
            f,
            "{committed} commits, {busy} busy, {vacuums} vacuums, {checkpoints} complete checkpoints, \
             {kills} kills, {stops} stops, {files} files, {repairs} repairs"
        )
    }
}

/// Runs a plan. The folder stays when it fails, and the error names it.
pub fn run(plan: &Plan) -> anyhow::Result<Totals> {
    let dir = tempfile::Builder::new().prefix("stress-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let place = Place {
        plan,
        dir: dir.path().to_path_buf(),
        db: dir.path().join("app.db"),
        replica: format!("file://{}", dir.path().join("replica").display()),
    };
    run_in(&place).with_context(|| format!("{plan:?} in {}", dir.keep().display()))
}

fn run_in(at: &Place<'_>) -> anyhow::Result<Totals> {
    create(at)?;
    let mut lsfast = Lsfast::new(at);
    let (sender, reports) = channel();
    let role = if at.plan.alone { "alone" } else { "writer" };
    let mut names: Vec<String> = (0..at.plan.writers).map(|n| format!("{role} {n}")).collect();
    names.extend(at.plan.checkpointer.then(|| "checkpointer".to_owned()));
    let mut parts = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        parts.push(Part::start(at, index, name, sender.clone())?);
    }
    drop(sender);
    follow(at, &mut lsfast, &mut parts, &reports)?;

    let mut totals = Totals { kills: lsfast.kills, stops: lsfast.stops, ..Totals::default() };
    let mut expected = Vec::new();
    for part in &mut parts {
        let [first, busy, vacuums] = part.finish()?;
        if part.name == "checkpointer" {
            totals.checkpoints += first;
        } else {
            expected.push(first as i64);
            totals.committed += first;
        }
        totals.busy += busy;
        totals.vacuums += vacuums;
    }
    if at.plan.alone {
        ensure!(totals.busy == 0, "the lone writer found its database busy {} times", totals.busy);
    }
    expected.resize(2, 0);
    lsfast.stop()?;
    let level_0 = at.dir.join("replica/ltx/0");
    let stored = compare_all(at, &expected)
        .and_then(|()| replica::check(&level_0, &lsfast.log(), totals.vacuums))
        .map_err(|e| e.context(lsfast.tail()))?;
    (totals.files, totals.repairs) = (stored.files, stored.repairs);
    Ok(totals)
}

fn create(at: &Place<'_>) -> anyhow::Result<()> {
    let db = Connection::open(&at.db)?;
    db.execute_batch(&format!(
        "PRAGMA page_size={}; PRAGMA journal_mode=WAL; \
         CREATE TABLE cold(id INTEGER PRIMARY KEY, x); \
         CREATE TABLE t(id INTEGER PRIMARY KEY, who, x); CREATE INDEX t_who ON t(who, length(x)); \
         CREATE TABLE ledger(who INTEGER PRIMARY KEY, n); \
         INSERT INTO ledger VALUES(0, 0), (1, 0); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {}) \
         INSERT INTO cold(x) SELECT randomblob(400) FROM n",
        at.plan.page_size, at.plan.cold_rows
    ))?;
    Ok(())
}

/// Starts and kills lsfast as the writers come along, until all processes have ended.
fn follow(
    at: &Place<'_>,
    lsfast: &mut Lsfast<'_>,
    parts: &mut [Part],
    reports: &Receiver<(usize, Report)>,
) -> anyhow::Result<()> {
    let mut open = parts.len();
    let mut absences = at.plan.absences.iter().peekable();
    // To start late is an absence too.
    let (mut away, mut since) = (Some((at.plan.start_at, How::Killed)), Instant::now());
    let mut done = 0;
    while open > 0 {
        // Halted while it arms the WAL, it keeps all transactions from beginning.
        let is_over = |how: &How| *how == How::Stopped && since.elapsed() >= HALTED_MAX;
        if let Some((_, how)) = away.take_if(|(to, how)| done >= *to || is_over(how)) {
            lsfast.come_back(how)?;
        }
        if away.is_none()
            && let Some(absence) = absences.next_if(|absence| done >= absence.from)
        {
            lsfast.leave(absence.how)?;
            away = Some((absence.to, absence.how));
            since = Instant::now();
        }
        let is_halted = matches!(away, Some((_, How::Stopped)));
        let wait = if is_halted { HALTED_MAX } else { HANG };
        let (index, report) = match reports.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) if is_halted => continue,
            report => report.map_err(|e| anyhow!("nothing moved for {HANG:?} ({e}):\n{}", lsfast.tail()))?,
        };
        match report {
            Report::Done(n) => parts[index].done = n,
            Report::End(numbers) => parts[index].end = Some(numbers),
            Report::Closed => open -= 1,
        }
        done = parts.iter().map(|part| part.done).sum();
        lsfast.check()?;
        let writers_open = parts[..at.plan.writers].iter().any(|part| part.end.is_none());
        if !writers_open {
            parts.iter_mut().for_each(|part| part.stdin = None);
        } else if matches!(report, Report::Closed) {
            // A writer failed: the others need not go on.
            bail_if_failed(parts)?;
        }
    }
    away.map_or(Ok(()), |(_, how)| lsfast.come_back(how))
}

fn bail_if_failed(parts: &mut [Part]) -> anyhow::Result<()> {
    for part in parts {
        if part.has_ended()? {
            part.finish()?;
        }
    }
    Ok(())
}

/// The restored database against the source.
fn compare_all(at: &Place<'_>, expected: &[i64]) -> anyhow::Result<()> {
    let restored = at.dir.join("restored.db");
    let output = program().args(["restore", "-o"]).arg(&restored).arg(&at.replica).output()?;
    ensure!(
        output.status.success(),
        "restore ended with {}: {}",
        output.status,
        tail(&String::from_utf8_lossy(&output.stderr))
    );
    let (a, b) = (Connection::open(&at.db)?, Connection::open(&restored)?);
    let check: String = b.query_row("PRAGMA integrity_check", [], |r| r.get(0))?;
    ensure!(check == "ok", "integrity_check of the restored database: {check}");
    let (source, copy) = (compare::dump(&a)?, compare::dump(&b)?);
    ensure!(source == copy, "source:\n{}\nrestored:\n{}", source.join("\n"), copy.join("\n"));
    let names: Vec<&str> =
        source.iter().filter(|line| line.contains(": CREATE")).map(String::as_str).collect();
    ensure!(names.len() == 4, "lsfast added to the schema: {names:?}");

    let ledger = ledger(&a)?;
    ensure!(ledger == expected, "the writers committed {expected:?}, the source has {ledger:?}");

    for db in [a, b] {
        let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0))?;
        ensure!(busy == 0, "a lock is left on a database that nobody uses");
        db.close().map_err(|(_, e)| e)?;
    }
    compare::pages(&at.db, &restored, at.plan.page_size as usize)
}

/// Commits of each writer.
fn ledger(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    db.prepare("SELECT n FROM ledger ORDER BY who")?.query_map([], |r| r.get(0))?.collect()
}
