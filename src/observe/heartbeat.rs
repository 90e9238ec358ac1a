//! Sends GETs to a service that raises an alarm when they stop.

use std::sync::Arc;
use std::time::Duration;

use crate::replicate::Vitals;
use crate::replicate::vitals::{DatabasePhase, DatabaseVitals, ReplicaPhase};
use crate::store::credentials::Pinger;

/// Time between two beats if the config file sets none, as in Litestream.
pub const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often the state is checked. A check reads a few numbers.
const LOOK: Duration = Duration::from_secs(1);

/// The service that receives the heartbeats.
#[derive(Debug)]
pub struct Heartbeat {
    /// Sends the GET.
    pub pinger: Pinger,
    /// Shortest time between two beats.
    pub interval: Duration,
}

/// Beats forever. A failed beat is retried after the interval; the failure is logged once, until a
/// beat succeeds.
pub(super) async fn beat(heart: Heartbeat, vitals: Arc<Vitals>) {
    let mut said = false;
    let mut held_back = false;
    loop {
        tokio::time::sleep(LOOK).await;
        if !is_well(&vitals.databases(), heart.interval) {
            if !std::mem::replace(&mut held_back, true) {
                tracing::debug!("the heartbeat is held back: not every database is followed and stored");
            }
            continue;
        }
        held_back = false;
        match heart.pinger.ping().await {
            Ok(()) => {
                if std::mem::take(&mut said) {
                    tracing::info!("the heartbeat gets through again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(error, "the heartbeat does not get through; retrying");
                }
            }
        }
        tokio::time::sleep(heart.interval).await;
    }
}

/// Whether every commit older than `age` is stored on every replica. False if a database is still
/// waited for, and for a process without databases.
fn is_well(databases: &[Arc<DatabaseVitals>], age: Duration) -> bool {
    let well = |d: &Arc<DatabaseVitals>| {
        d.phase() == DatabasePhase::Following
            && d.replicas
                .iter()
                .all(|r| r.phase() == ReplicaPhase::Following && r.durable().is_some() && r.lag().age < age)
    };
    !databases.is_empty() && databases.iter().all(well)
}
