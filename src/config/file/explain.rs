//! Shows the config file as it was understood, line by line.

use std::fmt::Display;
use std::time::Duration;

use super::config::{Config, LogFormat, LogLevel};
use super::inherited::{Precisions, Snapshots, Verifications};
use super::{DatabaseConfig, ReplicaConfig};
use crate::config::Sourced;
use crate::config::explain::Line;

impl Config {
    /// The whole config: the settings of the process, then each database with its replicas.
    #[must_use]
    pub fn explain(&self) -> Vec<Line> {
        let mut lines = vec![Line::new("config", &self.path, "")];
        for (i, level) in self.levels.iter().flatten().enumerate() {
            lines.push(duration(&format!("level {}", i + 1), level));
        }
        lines.extend(snapshots(&self.snapshot));
        lines.extend(precision(&self.precision));
        lines.extend(verification(&self.verification));
        let durations = [
            ("l0-retention", &self.l0_retention),
            ("l0-retention-check-interval", &self.l0_retention_check_interval),
            ("shutdown-sync-interval", &self.shutdown_sync_interval),
        ];
        lines.extend(durations.iter().filter_map(|(name, d)| Some(duration(name, d.as_ref()?))));
        let enabled = self.retention_enabled.as_ref();
        lines.extend(enabled.map(|e| Line::of("retention.enabled", e)));
        lines.extend(self.explain_process());
        for database in &self.databases {
            lines.push(Line::new("database", database.path.value.display(), &database.path.origin));
            lines.extend(database.explain());
        }
        for directory in &self.directories {
            lines.push(Line::new("directory", directory.path.value.display(), &directory.path.origin));
            lines.push(Line::of("pattern", &directory.pattern).indented(2));
            for (name, on) in [("recursive", directory.recursive), ("watch", directory.watch)] {
                lines.extend(on.then(|| Line::new(name, "yes", "").indented(2)));
            }
            lines.extend(directory.settings().explain());
        }
        lines.extend(self.warnings.iter().map(|w| Line::new("warning", w, "")));
        lines
    }

    /// The settings of the process as a whole, which take effect at its start.
    #[must_use]
    pub fn explain_process(&self) -> Vec<Line> {
        let durations = [
            ("heartbeat-interval", &self.heartbeat_interval),
            ("shutdown-sync-timeout", &self.shutdown_sync_timeout),
        ];
        let mut lines: Vec<Line> =
            durations.iter().filter_map(|(name, d)| Some(duration(name, d.as_ref()?))).collect();
        let mut add = |name: &str, value: Option<Line>| {
            lines.extend(value.map(|l| Line { name: name.to_owned(), ..l }));
        };
        let level = |l: &Sourced<LogLevel>| {
            let word = match l.value {
                LogLevel::Trace => "trace",
                LogLevel::Debug => "debug",
                LogLevel::Info => "info",
                LogLevel::Warn => "warn",
                LogLevel::Error => "error",
            };
            Line::new("", word, &l.origin)
        };
        let format = |f: &Sourced<LogFormat>| {
            let word = if f.value == LogFormat::Json { "json" } else { "text" };
            Line::new("", word, &f.origin)
        };
        add("logging.level", self.logging.level.as_ref().map(level));
        add("logging.type", self.logging.format.as_ref().map(format));
        add("logging.stderr", plain(self.logging.stderr.as_ref()));
        add("addr", plain(self.addr.as_ref()));
        // I7: the token itself is not shown.
        add("addr-token", self.addr_token.as_ref().map(|t| Line::new("", "(hidden)", &t.origin)));
        add("socket.enabled", plain(self.socket.enabled.as_ref()));
        let path = self.socket.path.as_ref();
        add("socket.path", path.map(|p| Line::new("", p.value.display(), &p.origin)));
        let mode = self.socket.permissions.as_ref();
        add("socket.permissions", mode.map(|m| Line::new("", format!("{:04o}", m.value), &m.origin)));
        add("exec", plain(self.exec.as_ref()));
        // I7: the path of this URL is often a token.
        let heartbeat = self.heartbeat_url.as_ref().map(|u| {
            let text = u.value.expose();
            let end = text.match_indices('/').nth(2).map_or(text.len(), |(at, _)| at);
            let host = text[..end].rsplit('@').next().unwrap_or_default();
            Line::new("", format!("{}/...", host.trim_start_matches("https://")), &u.origin)
        });
        add("heartbeat-url", heartbeat);
        lines
    }
}

fn plain<T: Display>(value: Option<&Sourced<T>>) -> Option<Line> {
    value.map(|v| Line::of("", v))
}

/// A line with a duration, formatted as in the file: `1m30s`.
fn duration(name: &str, value: &Sourced<Duration>) -> Line {
    Line::new(name, words(value.value), &value.origin)
}

fn words(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let parts =
        [(seconds / 3_600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (u64::from(millis), "ms")];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0".to_owned() } else { text }
}

fn snapshots(snapshots: &Snapshots) -> Vec<Line> {
    let both = [("snapshot interval", &snapshots.interval), ("snapshot retention", &snapshots.retention)];
    both.iter().filter_map(|(name, d)| Some(duration(name, d.as_ref()?))).collect()
}

fn precision(precision: &Precisions) -> Vec<Line> {
    let both = [("precision", &precision.grain), ("precision-window", &precision.window)];
    both.iter().filter_map(|(name, d)| Some(duration(name, d.as_ref()?))).collect()
}

fn verification(verification: &Verifications) -> Vec<Line> {
    let interval = verification.interval.as_ref().map(|d| duration("verify-interval", d));
    let rate = verification.rate.as_ref();
    let rate = rate.map(|r| Line::new("verify-rate", format!("{} bytes/s", r.value), &r.origin));
    interval.into_iter().chain(rate).collect()
}

impl DatabaseConfig {
    /// Settings and replicas of the database, without its path.
    #[must_use]
    pub fn explain(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let meta = self.meta_path.as_ref();
        lines.extend(meta.map(|m| Line::new("local state", m.value.display(), &m.origin)));
        lines.extend(self.busy_timeout.as_ref().map(|d| duration("busy-timeout", d)));
        lines.extend(self.monitor_interval.as_ref().map(|d| duration("monitor-interval", d)));
        let restore = self.restore_if_missing.as_ref();
        lines.extend(restore.map(|r| Line::of("restore-if-db-not-exists", r)));
        for replica in &self.replicas {
            lines.push(Line::new("replica", &replica.location.url, ""));
            lines.extend(replica.explain().into_iter().map(|l| l.indented(2)));
        }
        lines.into_iter().map(|l| l.indented(2)).collect()
    }
}

impl ReplicaConfig {
    fn explain(&self) -> Vec<Line> {
        let mut lines = self.location.explain();
        lines.extend(self.name.as_ref().map(|n| Line::of("name", n)));
        lines.extend(self.sync_interval.as_ref().map(|d| duration("sync-interval", d)));
        lines.extend(snapshots(&self.snapshot));
        lines.extend(precision(&self.precision));
        lines.extend(verification(&self.verification));
        lines
    }
}
