//! Standbys of this process (`lsfast restore -f`), and their status and metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::format::{escape, flag, head, number, timestamp};
use super::scope::Scope;
use super::status::{DatabaseStatus, FailureStatus, FollowState};
use crate::base::Txid;
use crate::base::clock::Millis;
use crate::replicate::state::home_of;
use crate::restore::standby::FollowStatus;

type OfFollower = fn(&FollowStatus) -> Option<f64>;

/// Name, type, help and value of each metric.
const METRICS: [(&str, &str, &str, OfFollower); 9] = [
    (
        "lsfast_follow_current_timestamp_seconds",
        "gauge",
        "When the store last said that there is nothing newer than the followed database.",
        |f| Some(Millis::now().0 as f64 / 1_000.0 - f.lag.now().as_secs_f64()),
    ),
    ("lsfast_follow_failing", "gauge", "Whether nothing can be applied at the moment.", |f| {
        Some(flag(f.trouble.is_some()))
    }),
    ("lsfast_follow_txid", "gauge", "TXID of the followed database.", |f| {
        (f.txid != Txid(0)).then(|| number(f.txid.0))
    }),
    ("lsfast_follow_state_timestamp_seconds", "gauge", "Time of its state.", |f| f.created.map(timestamp)),
    ("lsfast_follow_files_total", "counter", "Files applied since the start.", |f| Some(number(f.files))),
    ("lsfast_follow_transactions_total", "counter", "Transactions that applied them.", |f| {
        Some(number(f.states))
    }),
    (
        "lsfast_follow_images_total",
        "counter",
        "Whole images applied because no file leads on from the state.",
        |f| Some(number(f.reseeds)),
    ),
    ("lsfast_follow_errors_total", "counter", "Attempts that failed.", |f| Some(number(f.errors))),
    ("lsfast_follow_last_error_timestamp_seconds", "gauge", "When an attempt failed last.", |f| {
        f.last_error.as_ref().map(|(at, _)| timestamp(*at))
    }),
];

/// Status of each standby, by its path.
#[derive(Debug, Default)]
pub(super) struct Followers(Mutex<BTreeMap<PathBuf, FollowStatus>>);

impl Followers {
    pub(super) fn tell(&self, status: &FollowStatus) {
        self.all().insert(status.output.clone(), status.clone());
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<PathBuf, FollowStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn states(&self) -> Vec<DatabaseStatus> {
        self.all().values().map(state).collect()
    }

    pub(super) fn metrics(&self, out: &mut String, scope: &Scope) {
        let all = self.all();
        for (name, kind, help, value) in METRICS {
            head(out, name, kind, help);
            for follower in all.values().filter(|f| scope.shows(&home_of(&f.output))) {
                let db = escape(&follower.output.to_string_lossy());
                let replica = escape(&follower.replica);
                if let Some(value) = value(follower) {
                    let _ = writeln!(out, "{name}{{db=\"{db}\",replica=\"{replica}\"}} {value}");
                }
            }
        }
    }
}

fn state(f: &FollowStatus) -> DatabaseStatus {
    let state = if f.txid == Txid(0) {
        "restoring"
    } else if f.trouble.is_some() {
        "failing"
    } else {
        "following"
    };
    DatabaseStatus {
        follows: Some(FollowState {
            url: Some(f.replica.clone()),
            state: state.into(),
            txid: (f.txid != Txid(0)).then(|| f.txid.to_string()),
            time: f.created.map(Millis::to_rfc3339),
            lag_seconds: Some(f.lag.now().as_secs_f64()),
            files: f.files,
            transactions: f.states,
            images: f.reseeds,
            errors: f.errors,
            error: f
                .last_error
                .as_ref()
                .map(|(at, message)| FailureStatus { time: at.to_rfc3339(), message: message.clone() }),
        }),
        ..DatabaseStatus::of_files(&f.output, &home_of(&f.output), "read replica")
    }
}
