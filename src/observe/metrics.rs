//! Metrics in Prometheus text format. `docs/metrics.md` lists their names.
//!
//! Times are timestamps, so that a value does not change while nothing happens. A database with
//! one replica has at most 20 series while it is idle; its histogram is that of the process.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::format::{escape, flag, head, number, timestamp};
use super::process;
use super::scope::Scope;
use super::sizes::sizes;
use super::snapshot::known_lag;
use super::standbys::Followers;
use crate::replicate::vitals::{DatabasePhase, DatabaseVitals, LATENCY_MS, ReplicaPhase, ReplicaVitals};
use crate::replicate::{Vitals, image_progress};
use crate::store::requests;

/// Content type with the version of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type OfDatabase = fn(&DatabaseVitals) -> Option<f64>;
type OfReplica = fn(&ReplicaVitals) -> Option<f64>;

/// Name, type, help and value of each metric.
const DATABASES: [(&str, &str, &str, OfDatabase); 6] = [
    ("lsfast_db_following", "gauge", "Whether the WAL of the database is followed.", |d| {
        Some(flag(d.phase() == DatabasePhase::Following))
    }),
    ("lsfast_db_size_bytes", "gauge", "Size of the database file.", |d| sizes(&d.path).0.map(number)),
    ("lsfast_wal_size_bytes", "gauge", "Size of the file of the write-ahead log.", |d| {
        sizes(&d.path).1.map(number)
    }),
    (
        "lsfast_wal_damages_total",
        "counter",
        "Times that frames of the write-ahead log could not be proven.",
        |d| Some(number(d.wal_damages())),
    ),
    ("lsfast_commits_total", "counter", "Commits captured since the start.", |d| Some(number(d.commits()))),
    (
        "lsfast_db_last_error_timestamp_seconds",
        "gauge",
        "When replication of the database failed last.",
        |d| d.failure().map(|f| timestamp(f.at)),
    ),
];

const REPLICAS: [(&str, &str, &str, OfReplica); 17] = [
    ("lsfast_replica_failing", "gauge", "Whether the store is unreachable, or refuses.", |r| {
        Some(flag(r.away_since().is_some()))
    }),
    ("lsfast_replica_stopped", "gauge", "Whether the replica is given up until the next start.", |r| {
        Some(flag(r.phase() == ReplicaPhase::Stopped))
    }),
    ("lsfast_replica_txid", "gauge", "Newest stored TXID.", |r| r.durable().map(|d| number(d.0.0))),
    ("lsfast_replica_state_timestamp_seconds", "gauge", "Time of the newest stored state.", |r| {
        r.durable().map(|d| timestamp(d.2))
    }),
    ("lsfast_replica_lag_commits", "gauge", "Commits that are not stored.", |r| {
        known_lag(r).map(|l| number(l.commits))
    }),
    ("lsfast_replica_lag_bytes", "gauge", "Bytes of pages that these commits changed.", |r| {
        known_lag(r).map(|l| number(l.bytes))
    }),
    ("lsfast_replica_lag_seconds", "gauge", "Age of the oldest commit that is not stored.", |r| {
        known_lag(r).map(|l| l.age.as_secs_f64())
    }),
    ("lsfast_replica_batch_bytes_total", "counter", "Bytes of the batches stored.", |r| {
        Some(number(r.stored().1))
    }),
    ("lsfast_replica_errors_total", "counter", "Attempts that failed.", |r| Some(number(r.failures()))),
    ("lsfast_replica_last_error_timestamp_seconds", "gauge", "When an attempt failed last.", |r| {
        r.failure().map(|f| timestamp(f.at))
    }),
    ("lsfast_replica_size_bytes", "gauge", "Bytes of the stored files.", |r| {
        r.history().map(|h| number(h.levels.iter().map(|l| l.bytes).sum()))
    }),
    ("lsfast_history_failing", "gauge", "Whether the last step of the history failed.", |r| {
        r.history().map(|h| flag(h.last_error.is_some()))
    }),
    ("lsfast_snapshot_timestamp_seconds", "gauge", "Time of the newest full image.", |r| {
        r.history()?.snapshot.map(|(_, at)| timestamp(at))
    }),
    (
        "lsfast_verify_success_timestamp_seconds",
        "gauge",
        "When the last verification began that found nothing wrong; 0 if there was none.",
        |r| r.verification().map(|v| v.sound.map_or(0.0, timestamp)),
    ),
    ("lsfast_verify_faults", "gauge", "What the last verification found wrong.", |r| {
        let verification = r.verification()?;
        verification.last.map(|_| number(verification.faults))
    }),
    ("lsfast_verify_failing", "gauge", "Whether the last attempt to verify came to no end.", |r| {
        r.verification().map(|v| flag(v.error.is_some()))
    }),
    ("lsfast_verify_running_bytes", "gauge", "Bytes that the verification under way has read.", |r| {
        r.verifying().map(number)
    }),
];

/// All metrics of this process that `scope` shows.
pub(super) fn text(vitals: &Vitals, followers: &Followers, scope: &Scope) -> String {
    let mut databases = vitals.databases();
    databases.retain(|d| scope.shows(&d.home));
    let mut out = String::new();
    build(&mut out);
    if let Some((usable, at)) = vitals.config() {
        let name = "lsfast_config_last_reload_successful";
        head(&mut out, name, "gauge", "Whether the config file was usable when it was last read.");
        let _ = writeln!(out, "{name} {}", flag(usable));
        let name = "lsfast_config_last_reload_success_timestamp_seconds";
        head(&mut out, name, "gauge", "When the configuration in use was read.");
        let _ = writeln!(out, "{name} {}", timestamp(at));
    }
    for (name, kind, help, value) in DATABASES {
        head(&mut out, name, kind, help);
        for database in &databases {
            if let Some(value) = value(database) {
                let _ = writeln!(out, "{name}{{{}}} {value}", of_database(database));
            }
        }
    }
    for (name, kind, help, value) in REPLICAS {
        head(&mut out, name, kind, help);
        for (labels, replica) in replicas(&databases) {
            if let Some(value) = value(replica) {
                let _ = writeln!(out, "{name}{{{labels}}} {value}");
            }
        }
    }
    latencies(&mut out, &databases);
    followers.metrics(&mut out, scope);
    if let Scope::Process = scope {
        of_process(&mut out, &databases);
    }
    out
}

fn build(out: &mut String) {
    let name = "lsfast_build_info";
    head(out, name, "gauge", "Version, commit and target of the program.");
    let revision = option_env!("LSFAST_COMMIT").unwrap_or_default();
    let (version, target) = (env!("CARGO_PKG_VERSION"), env!("LSFAST_TARGET"));
    let _ = writeln!(out, "{name}{{version=\"{version}\",revision=\"{revision}\",target=\"{target}\"}} 1");
}

/// What concerns all databases: requests, images, the process, file systems.
fn of_process(out: &mut String, databases: &[Arc<DatabaseVitals>]) {
    let requests = requests::counted();
    let name = "lsfast_store_requests_total";
    head(out, name, "counter", "Requests to S3 by operation and status code.");
    for ((operation, code), n) in requests.answered {
        let code = if code == 0 { "none".to_owned() } else { code.to_string() };
        let _ = writeln!(out, "{name}{{operation=\"{operation}\",code=\"{code}\"}} {n}");
    }
    let verified: u64 = replicas(databases).map(|(_, r)| r.verified_bytes.bytes()).sum();
    let (done, of) = image_progress().unwrap_or_default();
    for (name, kind, help, value) in [
        ("lsfast_store_retries_total", "counter", "Requests to S3 that were repeated.", requests.retries),
        ("lsfast_store_sent_bytes_total", "counter", "Bytes of bodies sent to S3.", requests.sent_bytes),
        (
            "lsfast_store_received_bytes_total",
            "counter",
            "Bytes of bodies received from S3.",
            requests.received_bytes,
        ),
        ("lsfast_verify_read_bytes_total", "counter", "Bytes read by verifications.", verified),
        ("lsfast_image_done_bytes", "gauge", "Bytes of the images under way that are read.", done),
        ("lsfast_image_size_bytes", "gauge", "Bytes of the images under way.", of),
    ] {
        head(out, name, kind, help);
        let _ = writeln!(out, "{name} {value}");
    }
    process::file_systems(out, databases.iter().map(|d| d.path.as_path()));
    process::numbers(out);
}

/// One histogram for all replicas that are shown.
fn latencies(out: &mut String, databases: &[Arc<DatabaseVitals>]) {
    let name = "lsfast_sync_duration_seconds";
    head(out, name, "histogram", "Time from the oldest commit of a batch to the store's answer.");
    let all = || databases.iter().flat_map(|d| &d.replicas).map(|r| &r.latencies);
    let mut count = 0;
    for i in 0..=LATENCY_MS.len() {
        count += all().map(|l| l.buckets[i].load(Relaxed)).sum::<u64>();
        let bound = LATENCY_MS.get(i).map_or("+Inf".into(), |ms| (*ms as f64 / 1_000.0).to_string());
        let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let sum = number(all().map(|l| l.sum_micros.load(Relaxed)).sum()) / 1_000_000.0;
    let _ = writeln!(out, "{name}_sum {sum}\n{name}_count {count}");
}

fn replicas(databases: &[Arc<DatabaseVitals>]) -> impl Iterator<Item = (String, &ReplicaVitals)> {
    databases.iter().flat_map(|d| {
        let db = of_database(d);
        d.replicas.iter().map(move |r| (format!("{db},replica=\"{}\"", escape(&r.url)), r))
    })
}

fn of_database(database: &DatabaseVitals) -> String {
    format!("db=\"{}\"", escape(&database.path.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_names_each_metric() {
        let docs = include_str!("../../docs/metrics.md");
        let text = text(&Vitals::default(), &Followers::default(), &Scope::Process);
        let names: Vec<&str> =
            text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert!(names.len() > 20);
        for name in names {
            assert!(docs.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
        }
    }
}
