//! A GET to a service that raises an alarm when it does not come.

use std::sync::Arc;
use std::time::Duration;

use crate::replicate::Vitals;
use crate::replicate::vitals::{DatabasePhase, DatabaseVitals, ReplicaPhase};
use crate::store::credentials::Pinger;

/// Where nobody says otherwise, as in Litestream.
pub const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often it is looked whether all is well. Reading a few numbers.
const LOOK: Duration = Duration::from_secs(1);

/// A place to tell that all is well.
#[derive(Debug)]
pub struct Heartbeat {
    /// Whom to ask.
    pub pinger: Pinger,
    /// The time between two beats, at least.
    pub interval: Duration,
}

/// Beats for ever. A beat that fails is said once, until one succeeds, and tried again after the
/// interval.
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

/// Whether every commit that is older than `age` is stored on every replica. A database that is
/// waited for is not well, and neither is a process without one.
fn is_well(databases: &[Arc<DatabaseVitals>], age: Duration) -> bool {
    let well = |d: &Arc<DatabaseVitals>| {
        d.phase() == DatabasePhase::Following
            && d.replicas
                .iter()
                .all(|r| r.phase() == ReplicaPhase::Following && r.durable().is_some() && r.lag().age < age)
    };
    !databases.is_empty() && databases.iter().all(well)
}
