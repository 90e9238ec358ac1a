//! System calls of the real program, by strace, while an application commits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;

use crate::bounds::Measured;
use crate::server::Server;
use crate::writer::{
    Writer, {self},
};

/// Sparse commits of a window, and windows; the least counts.
const COMMITS: u32 = 20;
const WINDOWS: usize = 4;
/// Commits while one PUT is under way. Together with the others not enough for a checkpoint.
const BURST: u32 = 300;
/// Until the looks after a commit are over; traced programs are slow.
const SETTLED: Duration = Duration::from_millis(100);
/// Idle windows: the history may have something to do in one of them.
const IDLE: Duration = Duration::from_millis(1_500);
const IDLE_WINDOWS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls that make or change a file's content.
const WRITES: [&str; 8] =
    ["write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "fallocate", "copy_file_range"];
const FLUSHES: [&str; 4] = ["fsync", "fdatasync", "sync_file_range", "msync"];

/// One call.
struct Call {
    /// Seconds since 1970.
    at: f64,
    name: String,
    rest: String,
}

/// A stretch of time.
struct Window {
    from: f64,
    to: f64,
    /// What its counts are divided by; seconds, if nobody commits.
    commits: f64,
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// The program, traced. Killed when dropped.
struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        // It may have ended already; either way it is reaped.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Traced {
    /// The tracer is a process beside it, so that the child is the program itself.
    fn start(db: &Path, url: &str, trace: &Path) -> anyhow::Result<Traced> {
        let child = Command::new("strace")
            .args(["-D", "-f", "-q", "-y", "-ttt", "-s", "0", "-o"])
            .arg(trace)
            .arg(env!("CARGO_BIN_EXE_lsfast"))
            .args(["replicate", "--io", "plain", "--sync-interval", "0", "--log-level", "error"])
            .arg(db)
            .arg(url)
            .env("AWS_ACCESS_KEY_ID", "AKIACOUNTS")
            .env("AWS_SECRET_ACCESS_KEY", "counts")
            .stdin(Stdio::null())
            .spawn()
            .context("strace does not start")?;
        Ok(Traced(child))
    }

    fn stop(mut self) -> anyhow::Result<()> {
        // The shell's own kill: needs no unsafe code here.
        Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.0.id())).status()?;
        let status = self.0.wait()?;
        anyhow::ensure!(status.success(), "lsfast ended with {status}");
        Ok(())
    }
}

/// The counts, or why there are none on this machine.
pub fn measure(scratch: &Path) -> anyhow::Result<Result<Vec<Measured>, String>> {
    match Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output() {
        Err(_) => {
            return Ok(Err(String::from("strace is missing: install it, as by apt-get install strace")));
        }
        Ok(tried) if !tried.status.success() => {
            let said = String::from_utf8_lossy(&tried.stderr);
            let said = said.trim();
            return Ok(Err(format!("no process may be traced here (ptrace is forbidden): {said}")));
        }
        Ok(_) => {}
    }
    let dir = scratch.join("trace");
    std::fs::create_dir(&dir)?;
    let (db, trace) = (dir.join("app.db"), dir.join("strace"));
    writer::create(&db)?;
    let server = Server::start()?;
    let mut writer = Writer::start(&db)?;
    let program = Traced::start(&db, &server.url("db"), &trace)?;
    server.wait("the copy of the first image", |r| r.copies > 0)?;
    std::thread::sleep(10 * SETTLED);

    sparse(&mut writer, &server)?;
    let sparse: Vec<Window> = (0..WINDOWS).map(|_| sparse(&mut writer, &server)).collect::<Result<_, _>>()?;
    let burst = burst(&mut writer, &server)?;
    std::thread::sleep(10 * SETTLED);
    let idle: Vec<Window> = (0..IDLE_WINDOWS).map(|_| idle()).collect();
    program.stop()?;
    let calls = read(&trace)?;

    let steady = Window { from: sparse[0].from, to: idle[IDLE_WINDOWS - 1].to, commits: 1.0 };
    let all = |_: &Call| true;
    let flushes = |call: &Call| FLUSHES.contains(&call.name.as_str());
    let opens = |call: &Call| call.name.starts_with("open");
    let least = |windows: &[Window], what: &dyn Fn(&Call) -> bool| {
        windows.iter().map(|w| w.count(&calls, what)).fold(f64::MAX, f64::min)
    };
    let row = |name, value| Measured { part: "system calls", name, value };
    let rows = vec![
        row("sparse commits: system calls per commit", least(&sparse, &all)),
        row("sparse commits: flushes to disk per commit", least(&sparse, &flushes)),
        row("sparse commits: files opened per commit", least(&sparse, &opens)),
        row("300 commits while one PUT is under way: system calls per commit", burst.count(&calls, all)),
        row("idle: system calls per second", least(&idle, &all)),
        row(
            "after the start: writes to database, log or wal-index",
            steady.count(&calls, |c| writes_to(c, &db)),
        ),
        row("after the start: opens of database or wal-index", steady.count(&calls, |c| opens_of(c, &db))),
    ];
    for (what, window) in
        [("sparse, per commit", &sparse[0]), ("burst, per commit", &burst), ("idle, per second", &idle[0])]
    {
        println!("{what}: {}", window.by_name(&calls));
    }
    Ok(Ok(rows))
}

fn sparse(writer: &mut Writer, server: &Server) -> anyhow::Result<Window> {
    let from = now();
    for _ in 0..COMMITS {
        let before = server.requests().puts;
        writer.commit(1, 1)?;
        server.wait("a commit", |r| r.puts > before)?;
        std::thread::sleep(SETTLED);
    }
    Ok(Window { from, to: now(), commits: f64::from(COMMITS) })
}

fn idle() -> Window {
    let from = now();
    std::thread::sleep(IDLE);
    Window { from, to: now(), commits: IDLE.as_secs_f64() }
}

fn burst(writer: &mut Writer, server: &Server) -> anyhow::Result<Window> {
    let before = server.requests().puts;
    server.hold(true);
    writer.commit(1, 1)?;
    server.wait("the PUT that is held", |r| r.puts > before)?;
    std::thread::sleep(SETTLED);
    let from = now();
    writer.commit(BURST, 1)?;
    std::thread::sleep(5 * SETTLED);
    server.hold(false);
    server.wait("the commits", |r| r.puts > before + 1)?;
    std::thread::sleep(5 * SETTLED);
    Ok(Window { from, to: now(), commits: f64::from(BURST) })
}

impl Window {
    fn has(&self, call: &Call) -> bool {
        (self.from..self.to).contains(&call.at)
    }

    /// Calls of that kind, per commit.
    fn count(&self, calls: &[Call], what: impl Fn(&Call) -> bool) -> f64 {
        calls.iter().filter(|c| self.has(c) && what(c)).count() as f64 / self.commits
    }

    fn by_name(&self, calls: &[Call]) -> String {
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        calls.iter().filter(|c| self.has(c)).for_each(|c| *counts.entry(&c.name).or_default() += 1.0);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.total_cmp(&a.1));
        let each = counts.iter().take(12).map(|(name, n)| format!("{name} {:.1}", n / self.commits));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// Whether the call writes to what belongs to the application. strace shows the file behind a
/// descriptor: `write(5</a/app.db>, ...`.
fn writes_to(call: &Call, db: &Path) -> bool {
    let Some((file, _)) = call.rest.split_once('>') else { return false };
    let Some((_, file)) = file.split_once('<') else { return false };
    WRITES.contains(&call.name.as_str()) && ["", "-wal", "-shm"].iter().any(|end| is(file, db, end))
}

fn is(file: &str, db: &Path, end: &str) -> bool {
    Path::new(file) == PathBuf::from(format!("{}{end}", db.display()))
}

/// Closing what was opened would drop the locks of the process.
fn opens_of(call: &Call, db: &Path) -> bool {
    let file = call.rest.split('"').nth(1).unwrap_or("");
    call.name.starts_with("open") && ["", "-shm"].iter().any(|end| is(file, db, end))
}

/// The calls of the trace, when the tracer has written its last line.
fn read(trace: &Path) -> anyhow::Result<Vec<Call>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(trace).context("strace wrote nothing")?;
        if text.trim_end().ends_with("+++") {
            return Ok(text.lines().filter_map(call).collect());
        }
        anyhow::ensure!(Instant::now() < end, "strace does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `PID SECONDS NAME(ARGUMENTS...`; not the second half of a call that another thread interrupted.
fn call(line: &str) -> Option<Call> {
    let (_, line) = line.trim_start().split_once(' ')?;
    let (at, line) = line.trim_start().split_once(' ')?;
    let at = at.parse().ok()?;
    let (name, rest) = line.split_once('(')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| Call { at, name: name.to_owned(), rest: rest.to_owned() })
}
