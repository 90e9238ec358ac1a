//! Metrics in Prometheus text format. `docs/metrics.md` lists their names.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::format::{age, escape, flag, head, number};
use super::scope::Scope;
use super::sizes::sizes;
use super::snapshot::known_lag;
use super::standbys::Followers;
use crate::replicate::Vitals;
use crate::replicate::vitals::{DatabasePhase, DatabaseVitals, LATENCY_MS, ReplicaPhase, ReplicaVitals};

/// Content type with the version of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type OfDatabase = fn(&DatabaseVitals) -> Option<f64>;
type OfReplica = fn(&ReplicaVitals) -> Option<f64>;

/// Name, type, help and value of each metric.
const DATABASES: [(&str, &str, &str, OfDatabase); 8] = [
    ("lsfast_db_following", "gauge", "Whether the WAL of the database is followed.", |d| {
        Some(flag(d.phase() == DatabasePhase::Following))
    }),
    ("lsfast_db_size_bytes", "gauge", "Size of the database file.", |d| sizes(&d.path).0.map(number)),
    ("lsfast_wal_size_bytes", "gauge", "Size of the file of the write-ahead log.", |d| {
        sizes(&d.path).1.map(number)
    }),
    ("lsfast_wal_frame", "gauge", "Last captured frame of the write-ahead log.", |d| {
        Some(f64::from(d.position().1))
    }),
    ("lsfast_wal_damaged", "gauge", "Whether the write-ahead log has frames that can't be proven.", |d| {
        Some(flag(d.wal_damage().is_some()))
    }),
    ("lsfast_wal_damages_total", "counter", "Times that such frames were met since the start.", |d| {
        Some(number(d.wal_damages()))
    }),
    ("lsfast_commits_total", "counter", "Commits captured since the start.", |d| Some(number(d.commits()))),
    (
        "lsfast_db_last_error_age_seconds",
        "gauge",
        "Time since replication of the database failed last.",
        |d| d.failure().map(|f| age(f.at)),
    ),
];

const REPLICAS: [(&str, &str, &str, OfReplica); 20] = [
    ("lsfast_replica_in_sync", "gauge", "Whether every captured commit is stored.", |r| {
        let synced = r.phase() == ReplicaPhase::Following
            && known_lag(r).is_some_and(|l| l.commits == 0 && l.bytes == 0);
        Some(flag(synced && r.away_since().is_none()))
    }),
    ("lsfast_replica_away", "gauge", "Whether the store is unreachable or refuses.", |r| {
        Some(flag(r.away_since().is_some()))
    }),
    ("lsfast_replica_txid", "gauge", "Newest stored TXID.", |r| r.durable().map(|d| number(d.0.0))),
    (
        "lsfast_replica_time_seconds",
        "gauge",
        "Time of the newest stored state, in seconds since 1970.",
        |r| r.durable().map(|d| d.2.0 as f64 / 1_000.0),
    ),
    ("lsfast_replica_lag_commits", "gauge", "Commits that are not stored.", |r| {
        known_lag(r).map(|l| number(l.commits))
    }),
    ("lsfast_replica_lag_bytes", "gauge", "Bytes of pages that these commits changed.", |r| {
        known_lag(r).map(|l| number(l.bytes))
    }),
    ("lsfast_replica_lag_seconds", "gauge", "Age of the oldest commit that is not stored.", |r| {
        known_lag(r).map(|l| l.age.as_secs_f64())
    }),
    ("lsfast_replica_batches_total", "counter", "Batches stored.", |r| Some(number(r.stored().0))),
    ("lsfast_replica_batch_bytes_total", "counter", "Bytes of the batches stored.", |r| {
        Some(number(r.stored().1))
    }),
    ("lsfast_replica_errors_total", "counter", "Attempts that failed.", |r| Some(number(r.failures()))),
    ("lsfast_replica_last_error_age_seconds", "gauge", "Time since an attempt failed last.", |r| {
        r.failure().map(|f| age(f.at))
    }),
    ("lsfast_history_steps_total", "counter", "Compactions, images and deletions done.", |r| {
        r.history().map(|h| number(h.steps))
    }),
    ("lsfast_history_failing", "gauge", "Whether the last step of the history failed.", |r| {
        r.history().map(|h| flag(h.last_error.is_some()))
    }),
    ("lsfast_snapshot_time_seconds", "gauge", "Time of the newest full image, in seconds since 1970.", |r| {
        r.history()?.snapshot.map(|(_, at)| at.0 as f64 / 1_000.0)
    }),
    (
        "lsfast_next_snapshot_time_seconds",
        "gauge",
        "When the next full image is due, in seconds since 1970.",
        |r| r.history()?.next_snapshot.map(|at| at.0 as f64 / 1_000.0),
    ),
    (
        "lsfast_verify_age_seconds",
        "gauge",
        "Time since the last verification began that found nothing wrong.",
        |r| r.verification()?.sound.map(age),
    ),
    ("lsfast_verify_sound", "gauge", "Whether the last verification found nothing wrong.", |r| {
        let verification = r.verification()?;
        verification.last.map(|_| flag(verification.fault.is_none()))
    }),
    ("lsfast_verify_faults", "gauge", "What the last verification found wrong.", |r| {
        let verification = r.verification()?;
        verification.last.map(|_| number(verification.faults))
    }),
    ("lsfast_verify_failing", "gauge", "Whether the last attempt to verify came to no end.", |r| {
        r.verification().map(|v| flag(v.error.is_some()))
    }),
    ("lsfast_verify_bytes_total", "counter", "Bytes read by verifications.", |r| {
        r.verification().map(|_| number(r.verified_bytes.bytes()))
    }),
];

/// All metrics of this process that `scope` shows.
pub(super) fn text(vitals: &Vitals, followers: &Followers, scope: &Scope) -> String {
    let mut databases = vitals.databases();
    databases.retain(|d| scope.shows(&d.home));
    let mut out = String::new();
    head(&mut out, "lsfast_info", "gauge", "Version of lsfast.");
    let _ = writeln!(out, "lsfast_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    if let Some((usable, at)) = vitals.config() {
        let name = "lsfast_config_last_reload_successful";
        head(&mut out, name, "gauge", "Whether the config file was usable when it was last read.");
        let _ = writeln!(out, "{name} {}", flag(usable));
        let name = "lsfast_config_last_reload_success_timestamp_seconds";
        head(&mut out, name, "gauge", "When the configuration in use was read, in seconds since 1970.");
        let _ = writeln!(out, "{name} {}", at.0 as f64 / 1_000.0);
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
    levels(&mut out, &databases);
    followers.metrics(&mut out, scope);
    out
}

fn latencies(out: &mut String, databases: &[Arc<DatabaseVitals>]) {
    let name = "lsfast_replica_sync_seconds";
    head(out, name, "histogram", "Time from the oldest commit of a batch to the store's answer.");
    for (labels, replica) in replicas(databases) {
        let mut count = 0;
        for (i, bucket) in replica.latencies.buckets.iter().enumerate() {
            count += bucket.load(Relaxed);
            let bound = LATENCY_MS.get(i).map_or("+Inf".into(), |ms| (*ms as f64 / 1_000.0).to_string());
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let sum = number(replica.latencies.sum_micros.load(Relaxed)) / 1_000_000.0;
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}");
    }
}

fn levels(out: &mut String, databases: &[Arc<DatabaseVitals>]) {
    for (name, help, of_bytes) in [
        ("lsfast_level_objects", "Stored files of a level.", false),
        ("lsfast_level_bytes", "Bytes of the stored files of a level.", true),
    ] {
        head(out, name, "gauge", help);
        for (labels, replica) in replicas(databases) {
            for (level, l) in replica.history().iter().flat_map(|h| h.levels.into_iter().enumerate()) {
                let value = if of_bytes { l.bytes } else { l.objects };
                let _ = writeln!(out, "{name}{{{labels},level=\"{level}\"}} {value}");
            }
        }
    }
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
