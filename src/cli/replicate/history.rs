//! How the history of a replica is kept, by the config file.

use std::time::Duration;

use anyhow::Context as _;

use crate::base::Level;
use crate::config::Sourced;
use crate::config::file::{Config, Snapshots};
use crate::replicate::HistoryOptions;

/// The defaults, where the file says nothing. `snapshot` is that of the replica.
pub(super) fn options(
    config: Option<&Config>,
    snapshot: Option<&Snapshots>,
) -> anyhow::Result<HistoryOptions> {
    let mut options = HistoryOptions::default();
    let Some(config) = config else { return Ok(options) };
    if let Some(levels) = &config.levels {
        let level = |(n, interval): (u32, &Sourced<Duration>)| Level::new(n).map(|l| (l, interval.value));
        options.levels = (1..).zip(levels).map(level).collect::<Result<_, _>>()?;
    }
    let snapshot = snapshot.unwrap_or(&config.snapshot);
    if let Some(interval) = &snapshot.interval {
        options.snapshot_interval = Some(interval.value);
    }
    if let Some(retention) = &snapshot.retention {
        options.snapshot_retention = retention.value;
    }
    options.l0_retention = config.l0_retention.as_ref().map(|d| d.value);
    if let Some(check) = &config.l0_retention_check_interval {
        options.l0_check = check.value;
    }
    if let Some(enabled) = &config.retention_enabled {
        options.retention_enabled = enabled.value;
    }
    options.validate().with_context(|| config.path.to_string())?;
    Ok(options)
}
