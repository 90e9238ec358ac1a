//! The state of this process, read from what its pipelines publish.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use super::scope::Scope;
use super::standbys::Followers;
use super::status::{
    DatabaseStatus, DurableStatus, FailureStatus, HistoryState, LagStatus, LatencyStatus, LevelState,
    Position, Progress, ReplicaStatus, Status, VerificationState,
};
use crate::base::clock::Millis;
use crate::base::{FrameNo, PageSize, Salts};
use crate::replicate::vitals::{
    DatabasePhase, DatabaseVitals, Failure, LATENCY_MS, Lag, ReplicaPhase, ReplicaVitals,
};
use crate::replicate::{HistoryStatus, VerificationStatus, Vitals, image_progress};
use crate::wal::format;

/// The state of this process that `scope` shows.
#[must_use]
pub(super) fn of(vitals: &Vitals, followers: &Followers, scope: &Scope) -> Status {
    let all = vitals.databases();
    let mut databases: Vec<_> = all.iter().filter(|d| scope.shows(&d.home)).map(|d| database(d)).collect();
    databases.extend(followers.states().into_iter().filter(|f| scope.shows(Path::new(&f.home))));
    let reading = image_progress().map(|(done, of)| Progress { done, of });
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: Some(std::process::id()),
        databases,
        reading,
    }
}

fn database(vitals: &DatabaseVitals) -> DatabaseStatus {
    let home = std::path::absolute(&vitals.home).unwrap_or_default();
    DatabaseStatus {
        position: vitals.page_size().map(|size| position(size, vitals.position())),
        commits: Some(vitals.commits()),
        error: vitals.failure().map(failure),
        wal_damage: vitals.wal_damage().map(failure),
        replicas: vitals.replicas.iter().map(|r| replica(r, vitals.page_size())).collect(),
        ..DatabaseStatus::of_files(&vitals.path, &home, database_state(vitals.phase()))
    }
}

fn database_state(phase: DatabasePhase) -> &'static str {
    match phase {
        DatabasePhase::Waiting => "waiting",
        DatabasePhase::Following => "following",
        DatabasePhase::Failed => "failed",
        DatabasePhase::Stopped => "stopped",
    }
}

/// The state of a replica in one or a few words.
pub(super) fn replica_state(replica: &ReplicaVitals) -> &'static str {
    match replica.phase() {
        ReplicaPhase::Stopped => "stopped",
        _ if replica.away_since().is_some() => "away",
        ReplicaPhase::Starting => "starting",
        ReplicaPhase::Following => "following",
        ReplicaPhase::Comparing => "comparing",
        ReplicaPhase::Image => "storing an image",
    }
}

/// The lag of a replica; `None` if nothing is known of it. Before the store has answered it counts
/// from the durable point of the local state.
pub(super) fn known_lag(replica: &ReplicaVitals) -> Option<Lag> {
    replica.is_lag_known().then(|| replica.lag())
}

pub(super) fn position(size: PageSize, (salts, frame, pages): (Salts, u32, u32)) -> Position {
    let offset = if frame == 0 { 0 } else { format::frame_end(size, FrameNo(frame)) };
    Position { salts: format!("{:08x}{:08x}", salts.one, salts.two), frame, offset, pages }
}

fn failure(failure: Failure) -> FailureStatus {
    FailureStatus { time: failure.at.to_rfc3339(), message: failure.message }
}

fn replica(replica: &ReplicaVitals, size: Option<PageSize>) -> ReplicaStatus {
    let (batches, batch_bytes) = replica.stored();
    let durable = replica.durable().zip(size).map(|((txid, place, time), size)| DurableStatus {
        txid: txid.to_string(),
        time: time.to_rfc3339(),
        position: position(size, place),
    });
    ReplicaStatus {
        url: Some(replica.url.clone()),
        is_proven: replica.phase() == ReplicaPhase::Following,
        state: replica_state(replica).to_owned(),
        since: replica.away_since().map(Millis::to_rfc3339),
        durable,
        lag: known_lag(replica).map(|lag| LagStatus {
            commits: lag.commits,
            bytes: lag.bytes,
            seconds: lag.age.as_secs_f64(),
        }),
        batches,
        batch_bytes,
        errors: replica.failures(),
        error: replica.failure().map(failure),
        latency: latency(replica),
        history: replica.history().map(|h| history(&h)),
        verification: replica.verification().map(|v| verification(v, replica)),
    }
}

fn latency(replica: &ReplicaVitals) -> Option<LatencyStatus> {
    let buckets: Vec<u64> = replica.latencies.buckets.iter().map(|b| b.load(Relaxed)).collect();
    let count: u64 = buckets.iter().sum();
    let bound = |part: f64| {
        let mut seen = 0;
        let at = buckets.iter().position(|n| {
            seen += n;
            seen as f64 >= count as f64 * part
        });
        at.and_then(|i| LATENCY_MS.get(i).copied())
    };
    let sum = replica.latencies.sum_micros.load(Relaxed);
    (count > 0).then(|| LatencyStatus {
        count,
        mean_ms: sum as f64 / 1_000.0 / count as f64,
        p50_ms: bound(0.5),
        p99_ms: bound(0.99),
    })
}

fn verification(status: VerificationStatus, replica: &ReplicaVitals) -> VerificationState {
    VerificationState {
        last: status.last.map(Millis::to_rfc3339),
        sound: status.sound.map(Millis::to_rfc3339),
        fault: status.fault,
        faults: status.faults,
        error: status.error,
        next: status.next.map(Millis::to_rfc3339),
        running: replica.verifying(),
        bytes: replica.verified_bytes.bytes(),
    }
}

fn history(status: &HistoryStatus) -> HistoryState {
    let levels = status.levels.iter().enumerate().filter(|(_, l)| l.objects > 0);
    HistoryState {
        snapshot_txid: status.snapshot.map(|(txid, _)| txid.to_string()),
        snapshot_time: status.snapshot.map(|(_, at)| at.to_rfc3339()),
        next_snapshot: status.next_snapshot.map(Millis::to_rfc3339),
        error: status.last_error.clone(),
        deletions_refused: status.deletions_refused,
        levels: levels.map(|(level, l)| LevelState { level, objects: l.objects, bytes: l.bytes }).collect(),
        points: status.points.iter().map(|(txid, at)| (txid.to_string(), at.to_rfc3339())).collect(),
    }
}
