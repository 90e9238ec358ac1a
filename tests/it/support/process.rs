//! A program under test or beside it: its output as it comes, signals, and an end with the test.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Far more than any step takes; a test that waits this long fails.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    all: Vec<String>,
    closed: u32,
}

impl Process {
    /// Starts a program; both of its outputs are kept, line by line, in the order of their arrival.
    pub fn start(name: &str, mut command: Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("a pipe");
        let stderr = child.stderr.take().expect("a pipe");
        follow(stdout, Arc::clone(&output));
        follow(stderr, Arc::clone(&output));
        Process { name: String::from(name), child, output }
    }

    /// Waits for a line that holds `text`, among those that came already and those that come; gives
    /// the first.
    pub fn wait_for_line(&self, text: &str) -> String {
        let begun = Instant::now();
        let mut lines = self.output.lines.lock().expect("no panic while held");
        let mut seen = 0;
        loop {
            if let Some(line) = lines.all[seen..].iter().find(|l| l.contains(text)) {
                return line.clone();
            }
            seen = lines.all.len();
            let left = DEADLINE.saturating_sub(begun.elapsed());
            if left.is_zero() || lines.closed == 2 {
                let why = if left.is_zero() { "in time" } else { "before its end" };
                let all = lines.all.join("\n");
                drop(lines);
                panic!("{} did not print {text:?} {why}:\n{all}", self.name);
            }
            lines = self.output.changed.wait_timeout(lines, left).expect("no panic while held").0;
        }
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        self.output.lines.lock().expect("no panic while held").all.join("\n")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Sends a signal by name: `TERM`, `INT`, `KILL`, `STOP`, `CONT`. After `STOP` no thread runs
    /// any more.
    pub fn signal(&self, name: &str) {
        // The shell's own kill: there on every machine, and needs no unsafe code here.
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {}", self.child.id()))
            .status()
            .expect("a shell");
        assert!(status.success(), "{} cannot be sent SIG{name}", self.name);
        if name == "STOP" {
            until("all threads to stop", || self.is_stopped().then_some(()));
        }
    }

    fn is_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return true };
        threads.flatten().all(|thread| {
            // A thread that has ended meanwhile does not run either.
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.is_empty() || [") T", ") t", ") Z", ") X"].iter().any(|state| stat.contains(state))
        })
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                self.drain();
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "{} does not end:\n{}", self.name, self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM, waits, and wants a clean end.
    pub fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.wait();
        let output = self.output();
        assert!(status.success(), "{} ended with {status}:\n{output}", self.name);
        output
    }

    /// Waits until both outputs have been read to their end.
    fn drain(&self) {
        let lines = self.output.lines.lock().expect("no panic while held");
        drop(
            self.output
                .changed
                .wait_timeout_while(lines, Duration::from_secs(5), |l| l.closed < 2)
                .expect("no panic while held"),
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way it is reaped.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn follow(from: impl Read + Send + 'static, output: Arc<Output>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            output.lines.lock().expect("no panic while held").all.push(line);
            output.changed.notify_all();
            bytes.clear();
        }
        output.lines.lock().expect("no panic while held").closed += 1;
        output.changed.notify_all();
    });
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
