//! The processes of a run, started and stopped.

use std::fs::{
    File, {self},
};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};

use super::child::{DATABASE, REPORT, ROLE, SEED};
use super::plan::{How, Plan};
use super::replica::STARTED;

/// A run in which nothing moves for so long hangs. It is no measure of speed.
pub const HANG: Duration = Duration::from_secs(180);

/// A process that does not outlive its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process reports.
pub enum Report {
    Done(u32),
    End([u64; 3]),
    /// It is gone.
    Closed,
}

/// A process of this test binary.
pub struct Part {
    pub name: String,
    process: Running,
    pub stdin: Option<ChildStdin>,
    errors: PathBuf,
    pub done: u32,
    pub end: Option<[u64; 3]>,
}

impl Part {
    pub fn start(
        at: &Place,
        index: usize,
        name: String,
        reports: Sender<(usize, Report)>,
    ) -> anyhow::Result<Part> {
        let errors = at.dir.join(format!("{}.log", name.replace(' ', "-")));
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--exact", "stress::child", "--ignored", "--nocapture"])
            .envs([(ROLE, name.as_str()), (SEED, &at.plan.seed.to_string())])
            .env(DATABASE, &at.db)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()
            .context("this test binary starts itself")?;
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let Some((_, report)) = line.split_once(REPORT) else { continue };
                let numbers: Vec<u64> =
                    report.split(' ').skip(1).map(|n| n.parse().expect("a number")).collect();
                let report = match *numbers.as_slice() {
                    [done] => Report::Done(done as u32),
                    [a, b, c] => Report::End([a, b, c]),
                    _ => panic!("a report of one or three numbers, not {line}"),
                };
                if reports.send((index, report)).is_err() {
                    return;
                }
            }
            let _ = reports.send((index, Report::Closed));
        });
        Ok(Part { name, process: Running(child), stdin, errors, done: 0, end: None })
    }

    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.process.0.try_wait()?.is_some())
    }

    /// Waits for the end of a process that closed its output.
    pub fn finish(&mut self) -> anyhow::Result<[u64; 3]> {
        let status = self.process.0.wait()?;
        let errors = fs::read_to_string(&self.errors).unwrap_or_default();
        ensure!(status.success(), "{} failed:\n{}", self.name, tail(&errors));
        self.end.ok_or_else(|| anyhow!("{} ended early:\n{}", self.name, tail(&errors)))
    }
}

/// Where a run takes place.
pub struct Place<'a> {
    pub plan: &'a Plan,
    pub dir: PathBuf,
    pub db: PathBuf,
    pub replica: String,
}

/// lsfast, on and off.
pub struct Lsfast<'a> {
    at: &'a Place<'a>,
    log: PathBuf,
    process: Option<Running>,
    /// Gets a message with the first line that the process logs: from then on it listens to
    /// signals.
    ready: Option<Receiver<()>>,
    pub kills: u64,
    pub stops: u64,
}

impl<'a> Lsfast<'a> {
    pub fn new(at: &'a Place<'a>) -> Lsfast<'a> {
        Lsfast { at, log: at.dir.join("lsfast.log"), process: None, ready: None, kills: 0, stops: 0 }
    }

    pub fn start(&mut self) -> anyhow::Result<()> {
        assert!(self.process.is_none(), "one at a time");
        let mut log = File::options().create(true).append(true).open(&self.log)?;
        writeln!(log, "{STARTED}")?;
        let mut process = program()
            .args(["replicate", "--log-level", "debug", "--sync-interval", self.at.plan.sync_interval])
            .arg(&self.at.db)
            .arg(&self.at.replica)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(Stdio::piped())
            .spawn()
            .context("lsfast starts")?;
        let lines = BufReader::new(process.stderr.take().expect("piped"));
        let (first, ready) = channel();
        self.ready = Some(ready);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let _ = writeln!(log, "{line}");
                let _ = first.send(());
            }
        });
        self.process = Some(Running(process));
        Ok(())
    }

    /// It must not end by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(process) = &mut self.process
            && let Some(status) = process.0.try_wait()?
        {
            bail!("lsfast ended by itself with {status}:\n{}", self.tail());
        }
        Ok(())
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        self.check()?;
        drop(self.process.take().expect("it runs"));
        self.kills += 1;
        Ok(())
    }

    /// Takes lsfast away.
    pub fn leave(&mut self, how: How) -> anyhow::Result<()> {
        match how {
            How::Killed => self.kill(),
            How::Stopped => {
                self.stops += 1;
                self.signal("-STOP")
            }
        }
    }

    /// Brings it back.
    pub fn come_back(&mut self, how: How) -> anyhow::Result<()> {
        match how {
            How::Killed => self.start(),
            How::Stopped => self.signal("-CONT"),
        }
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let process = self.process.as_ref().expect("it runs");
        let status = Command::new("kill").arg(name).arg(process.0.id().to_string()).status()?;
        ensure!(status.success(), "kill {name}: {status}");
        Ok(())
    }

    /// The clean stop: whatever was committed is stored when it ends.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.check()?;
        let ready = self.ready.take().expect("it runs");
        ready.recv_timeout(HANG).map_err(|e| anyhow!("lsfast logs nothing: {e}"))?;
        self.signal("-TERM")?;
        let mut process = self.process.take().expect("it runs");
        let status = process.0.wait()?;
        ensure!(status.success(), "lsfast was told to stop and ended with {status}:\n{}", self.tail());
        Ok(())
    }

    /// All that it logged in this run.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn tail(&self) -> String {
        tail(&self.log())
    }
}

/// The program under test; `LSFAST_STRESS_PROGRAM` names another build of it.
pub fn program() -> Command {
    let own = || env!("CARGO_BIN_EXE_lsfast").into();
    Command::new(std::env::var_os("LSFAST_STRESS_PROGRAM").unwrap_or_else(own))
}

pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
