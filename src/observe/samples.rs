//! Lag and WAL size of each database over the last minutes, for the curves of the page.
//!
//! A sample is taken when a client asks for the status or the metrics, so an idle process keeps
//! sleeping. Where Prometheus asks each 15 seconds, the page opens with 15 minutes of history.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::status::Status;

/// Samples of lag and WAL size that are kept of each database for the page. A further one replaces
/// the oldest.
const SAMPLES_MAX: usize = 60;

/// Shortest time between two samples. A request within it adds none.
const EVERY: Duration = Duration::from_secs(10);

/// The state of a database at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Seconds since the start of the process.
    pub(super) at: f32,
    /// Age of the oldest commit that some replica has not stored, in seconds.
    pub(super) lag: f32,
    /// Bytes of the WAL file.
    pub(super) wal: f32,
}

/// The samples of each database, by its path.
#[derive(Debug)]
pub(super) struct Samples {
    begun: Instant,
    of: Mutex<HashMap<String, VecDeque<Sample>>>,
}

impl Default for Samples {
    fn default() -> Samples {
        Samples { begun: Instant::now(), of: Mutex::default() }
    }
}

impl Samples {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Sample>>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a sample of each database that `status` shows, unless the last one is fresh. `all`:
    /// those that it does not show are gone.
    pub(super) fn take(&self, status: &Status, all: bool) {
        self.take_at(status, all, self.begun.elapsed().as_secs_f32());
    }

    pub(super) fn take_at(&self, status: &Status, all: bool, at: f32) {
        let mut of = self.lock();
        for database in &status.databases {
            let lags = database.replicas.iter().filter_map(|r| r.lag.as_ref()).map(|l| l.seconds);
            let lags = lags.chain(database.follows.iter().filter_map(|f| f.lag_seconds));
            let sample = Sample {
                at,
                lag: lags.fold(0.0, f64::max) as f32,
                wal: database.wal_size.unwrap_or(0) as f32,
            };
            let samples = of.entry(database.path.clone()).or_default();
            if samples.back().is_some_and(|last| at - last.at < EVERY.as_secs_f32()) {
                continue;
            }
            if samples.len() >= SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
        if all && of.len() > status.databases.len() {
            of.retain(|path, _| status.databases.iter().any(|d| d.path == *path));
        }
    }

    /// The samples of a database, the oldest first.
    pub(super) fn of(&self, path: &str) -> Vec<Sample> {
        self.lock().get(path).map(|samples| samples.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(paths: &[&str]) -> Status {
        let database = |path: &&str| {
            serde_json::json!({"path": path, "home": "", "state": "following", "size": 1, "wal_size": 4096,
                "position": null, "commits": 0, "error": null, "replicas": []})
        };
        let databases: Vec<_> = paths.iter().map(database).collect();
        serde_json::from_value(serde_json::json!({"version": "1", "pid": 1, "databases": databases})).unwrap()
    }

    #[test]
    fn samples_are_bounded_and_those_of_gone_databases_are_dropped() {
        let samples = Samples::default();
        for n in 0..200u16 {
            samples.take_at(&status(&["/a", "/b"]), true, f32::from(n) * 10.0);
            // A second request within the interval.
            samples.take_at(&status(&["/a"]), false, f32::from(n) * 10.0 + 1.0);
        }
        let of = samples.of("/a");
        assert_eq!((of.len(), of[0].at, of[0].wal), (SAMPLES_MAX, 1_400.0, 4096.0));
        samples.take_at(&status(&["/b"]), true, 2_000.0);
        assert!(samples.of("/a").is_empty() && samples.of("/b").len() == SAMPLES_MAX);
    }
}
