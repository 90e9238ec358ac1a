//! Shows how far a restore is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::restore::{Progress, Stage};

/// Time between two lines of progress where standard error is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows the progress: a bar on a terminal, otherwise a log line from time to time.
pub(super) struct Watcher {
    bar: Option<ProgressBar>,
    lines: Mutex<Lines>,
    installs: AtomicBool,
}

struct Lines {
    begun: Instant,
    last: Instant,
    bytes: u64,
    of: u64,
}

impl Watcher {
    pub(super) fn new(terminal: bool) -> Watcher {
        let now = Instant::now();
        let lines = Mutex::new(Lines { begun: now, last: now, bytes: 0, of: 0 });
        Watcher { bar: terminal.then(ProgressBar::no_length), lines, installs: AtomicBool::new(false) }
    }

    /// Whether the database is getting its name, which cannot be interrupted.
    pub(super) fn is_installing(&self) -> bool {
        self.installs.load(Ordering::Relaxed)
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Watcher {
    fn planned(&self, files: usize, bytes: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(bytes);
                let form = "{wide_bar} {percent}%  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
                if let Ok(style) = ProgressStyle::with_template(form) {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(200));
            }
            None => tracing::info!(files, bytes, "restore begins"),
        }
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).of = bytes;
    }

    fn fetched(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            return bar.inc(bytes);
        }
        let mut lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        lines.bytes += bytes;
        if lines.last.elapsed() >= LINE_EVERY {
            lines.last = Instant::now();
            let rate = lines.bytes as f64 / lines.begun.elapsed().as_secs_f64();
            let left = (lines.of.saturating_sub(lines.bytes)) as f64 / rate.max(1.0);
            tracing::info!(
                bytes = lines.bytes,
                of = lines.of,
                megabytes_per_second = (rate / 1e6) as u64,
                seconds_left = left as u64,
                "restoring"
            );
        }
    }

    fn stage(&self, stage: Stage) {
        self.installs.store(stage == Stage::Install, Ordering::Relaxed);
        let Some(bar) = &self.bar else { return };
        match stage {
            Stage::Pages => {}
            Stage::Verify | Stage::Install => {
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
                    bar.set_style(style);
                }
                bar.set_message(if stage == Stage::Verify { "verifying" } else { "finishing" });
            }
        }
    }
}
