//! Whether everything is replicated, as one answer for probes and load balancers.

use std::time::Duration;

use super::status::{DatabaseStatus, FailureStatus, ReplicaStatus, Status};
use crate::base::count;

/// How far a replica may be behind if the request does not say.
pub(super) const BEHIND_MAX: Duration = Duration::from_secs(60);

/// Why not everything is replicated, one line each; empty if it is. A replica may be behind by
/// `behind_max`.
pub(super) fn reasons(status: &Status, behind_max: Duration) -> Vec<String> {
    status.databases.iter().flat_map(|db| of_database(db, behind_max)).collect()
}

fn of_database(db: &DatabaseStatus, behind_max: Duration) -> Vec<String> {
    let mut reasons = Vec::new();
    let path = &db.path;
    match &db.follows {
        Some(follows) if follows.state != "following" => {
            reasons.push(format!("{path}: {}{}", follows.state, because(follows.error.as_ref())));
        }
        Some(follows) => {
            let late = follows.lag_seconds.filter(|lag| *lag > behind_max.as_secs_f64());
            reasons.extend(
                late.map(|lag| format!("{path}: the standby has not been up to date for {lag:.0} s")),
            );
        }
        None if db.state != "following" => {
            reasons.push(format!("{path}: {}{}", db.state, because(db.error.as_ref())));
        }
        None => {}
    }
    if let Some(damage) = &db.wal_damage {
        reasons.push(format!("{path}: the WAL is damaged since {}: {}", damage.time, damage.message));
    }
    reasons.extend(db.replicas.iter().filter_map(|replica| of_replica(path, replica, behind_max)));
    reasons
}

fn of_replica(path: &str, replica: &ReplicaStatus, behind_max: Duration) -> Option<String> {
    let name = replica.url.as_deref().unwrap_or("a replica");
    let error = because(replica.error.as_ref());
    // Until the store has answered, what the local state says is not proven.
    match replica.lag.as_ref().filter(|_| replica.is_proven) {
        None => Some(format!("{path} -> {name}: {}, nothing is known to be stored{error}", replica.state)),
        Some(lag) if lag.seconds > behind_max.as_secs_f64() => Some(format!(
            "{path} -> {name}: {}, {} behind for {:.0} s{error}",
            replica.state,
            count(lag.commits, "commit"),
            lag.seconds
        )),
        Some(_) => None,
    }
}

fn because(error: Option<&FailureStatus>) -> String {
    error.map_or_else(String::new, |e| format!(" ({})", e.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(database: &str, lag: Option<f64>) -> Status {
        let proven = lag.is_some();
        let lag = lag.map(|seconds| serde_json::json!({ "commits": 3, "bytes": 1, "seconds": seconds }));
        let replica = serde_json::json!({
            "url": "s3://b/a", "state": "away", "since": null, "durable": null, "lag": lag, "batches": 0,
            "batch_bytes": 0, "errors": 1, "error": { "time": "t", "message": "connection refused" },
            "latency": null, "history": null
        });
        let database = serde_json::json!({
            "path": "/a.db", "home": "/.a.db-lsfast", "state": database, "size": 1, "wal_size": 0,
            "position": null, "commits": 0, "error": null, "replicas": [replica]
        });
        let status = serde_json::json!({ "version": "1", "pid": 1, "databases": [database] });
        let mut status: Status = serde_json::from_value(status).unwrap();
        status.databases[0].replicas[0].is_proven = proven;
        status
    }

    #[test]
    fn it_is_ready_if_nothing_is_far_behind() {
        let minute = Duration::from_secs(60);
        assert!(reasons(&status("following", Some(59.0)), minute).is_empty());
        let late = reasons(&status("following", Some(61.0)), minute);
        assert_eq!(late, ["/a.db -> s3://b/a: away, 3 commits behind for 61 s (connection refused)"]);
        assert!(reasons(&status("following", Some(61.0)), 2 * minute).is_empty());
        assert_eq!(reasons(&status("following", None), minute).len(), 1, "no contact since the start");
        let mut by_state = status("following", Some(1.0));
        by_state.databases[0].replicas[0].is_proven = false;
        assert_eq!(reasons(&by_state, minute).len(), 1, "only the local state says so");
        assert_eq!(reasons(&status("waiting", Some(0.0)), minute), ["/a.db: waiting"]);
    }
}
