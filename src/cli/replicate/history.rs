//! History options of a replica, from the config file.

use std::time::Duration;

use anyhow::Context as _;

use crate::base::Level;
use crate::config::Sourced;
use crate::config::file::{Config, ReplicaConfig};
use crate::replicate::HistoryOptions;

/// The options of the file, with defaults for the rest. `replica` is the replica's entry in the
/// file, if it has one.
pub(super) fn options(
    config: Option<&Config>,
    replica: Option<&ReplicaConfig>,
) -> anyhow::Result<HistoryOptions> {
    let mut options = HistoryOptions::default();
    let Some(config) = config else { return Ok(options) };
    if let Some(levels) = &config.levels {
        let level = |(n, interval): (u32, &Sourced<Duration>)| Level::new(n).map(|l| (l, interval.value));
        options.levels = (1..).zip(levels).map(level).collect::<Result<_, _>>()?;
    }
    let snapshot = replica.map_or(&config.snapshot, |r| &r.snapshot);
    let precision = replica.map_or(&config.precision, |r| &r.precision);
    if let Some(interval) = &snapshot.interval {
        options.snapshot_interval = Some(interval.value);
    }
    if let Some(retention) = &snapshot.retention {
        options.snapshot_retention = retention.value;
    }
    if let Some(grain) = &precision.grain {
        options.precision.grain = grain.value;
    }
    if let Some(window) = &precision.window {
        options.precision.window = window.value;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, Overrides};

    #[test]
    fn the_nearest_precision_counts() {
        let text = "precision-window: 2h\ndbs:\n- path: /a.db\n  precision: 30s\n  replicas:\n  - path: /one\n  - path: /two\n    precision: 5s\n    precision-window: 0\n";
        let (flags, env) = (Overrides::default(), Env::new([] as [(String, String); 0]));
        let config = Config::load(text, "app.yml", &flags, &env, true).unwrap();
        let seconds = |replica| {
            let precision = options(Some(&config), replica).unwrap().precision;
            (precision.grain.as_secs(), precision.window.as_secs())
        };
        let [one, two] = &config.databases[0].replicas[..] else { panic!("two replicas") };
        assert_eq!([seconds(None), seconds(Some(one)), seconds(Some(two))], [(1, 7200), (30, 7200), (5, 0)]);
        let default = options(None, None).unwrap().precision;
        assert_eq!((default.grain.as_secs(), default.window.as_secs()), (1, 86_400));
    }
}
