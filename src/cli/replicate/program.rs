//! The program of `--exec`: its command line, and an environment without the keys of the
//! replication.

use std::ffi::OsStr;
use std::process::Command;

use crate::cli::words;
use crate::config::{Config, Kind, Location, Origin, Secret, Sourced};

/// Prefixes of lsfast's own variables.
const OWN: [&str; 2] = ["LITESTREAM_", "LSFAST_"];

/// Variables by which a service manager and its service speak. They are meant for lsfast alone.
const OF_THE_SERVICE: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// From this length on, in bytes, a key is looked for inside the values of variables, too.
const SECRET_BYTES_MIN: usize = 8;

/// Suffix of those that hold only a path. They stay, because a script may call `lsfast status`.
const NAMES_CONFIG: &str = "_CONFIG";

/// Parses the command line, and warns of what only a shell would do.
///
/// # Errors
/// One line that says what is wrong with it.
pub(super) fn prepare(line: &str, config: Option<&Config>) -> anyhow::Result<Command> {
    let words::Line { mut command, warnings } = words::read(line)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let secrets = config.map(secrets).unwrap_or_default();
    for (name, value) in std::env::vars_os() {
        // I7: the program does not inherit the keys of the replication.
        if is_ours(&name, &value, &secrets) || OF_THE_SERVICE.iter().any(|own| name == *own) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Whether to hide a variable from the program. AWS variables may be the program's own keys, unless
/// the config file takes the replication's keys from them.
fn is_ours(name: &OsStr, value: &OsStr, secrets: &[String]) -> bool {
    let name = name.to_string_lossy();
    let named = OWN.iter().any(|own| name.starts_with(own)) && !name.ends_with(NAMES_CONFIG);
    let value = value.to_string_lossy();
    // A short one may be part of anything.
    let holds = |secret: &String| match secret.len() {
        0..SECRET_BYTES_MIN => *secret == value.trim(),
        _ => value.contains(secret.as_str()),
    };
    named || secrets.iter().any(holds)
}

/// Keys that the config file holds, or takes from variables.
fn secrets(config: &Config) -> Vec<String> {
    let databases = config
        .databases
        .iter()
        .chain(config.directories.iter().map(crate::config::file::Directory::settings));
    let mut secrets: Vec<String> =
        databases.flat_map(|d| &d.replicas).flat_map(|r| keys(&r.location)).collect();
    secrets.extend(config.heartbeat_url.as_ref().and_then(in_file));
    secrets.retain(|s| !s.is_empty());
    secrets.sort_unstable();
    secrets.dedup();
    secrets
}

fn keys(location: &Location) -> Vec<String> {
    let Kind::S3(s3) = &location.kind else { return Vec::new() };
    s3.file_secrets.iter().map(|secret| secret.expose().trim().to_owned()).collect()
}

fn in_file(secret: &Sourced<Secret>) -> Option<String> {
    matches!(secret.origin, Origin::File { .. }).then(|| secret.value.expose().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, Overrides};

    #[test]
    fn keys_that_the_config_takes_from_variables_are_hidden() {
        let text = "access-key-id: $AWS_ACCESS_KEY_ID\nsecret-access-key: ${APP_BACKUP_SECRET}\ndbs:\n- path: /a.db\n  replica:\n    url: s3://bucket/a\n";
        let vars = [("AWS_ACCESS_KEY_ID", "AKID"), ("APP_BACKUP_SECRET", "hush-hush")];
        let config = Config::load(text, "app.yml", &Overrides::default(), &Env::new(vars), true).unwrap();
        let secrets = secrets(&config);
        let ours = |name: &str, value: &str| is_ours(name.as_ref(), value.as_ref(), &secrets);
        for (name, value) in vars {
            assert!(ours(name, value), "{name}");
        }
        assert!(ours("LITESTREAM_SECRET_ACCESS_KEY", "x") && ours("LSFAST_ANYTHING", ""));
        assert!(ours("BACKUP_KEYS", "AKID:hush-hush") && !ours("BACKUP_ID", "AKID:other"));
        for name in ["AWS_SECRET_ACCESS_KEY", "PATH", "LSFAST_CONFIG", "LITESTREAM_CONFIG"] {
            assert!(!ours(name, "other"), "{name}");
        }
    }
}
