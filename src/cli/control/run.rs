//! Runs the commands, and prints their results as Litestream does.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::args::{InfoArgs, ListArgs, RegisterArgs, StartArgs, StopArgs, SyncArgs, UnregisterArgs, Where};
use super::client::{self, ask, socket};
use crate::base::untrusted::escape;
use crate::cli::report;
use crate::cli::setup::Setup;
use crate::observe::{Asked, Changed, Info, List, SyncAnswer};

fn show(text: &str) -> anyhow::Result<()> {
    Ok(report::print_line(text)?)
}

fn asked(setup: &Setup, db: &Path, timeout: u32) -> Asked {
    let path = setup.env().absolute(db).to_string_lossy().into_owned();
    Asked { path, timeout: i64::from(timeout), ..Asked::default() }
}

/// Prints an object: as JSON, or one `name: value` for each field.
fn print(at: &Where, fields: &[(&str, serde_json::Value)]) -> anyhow::Result<()> {
    if at.json {
        // The order of the fields is Litestream's.
        let object: Vec<String> =
            fields.iter().map(|(name, value)| format!("  {}: {value}", json!(name))).collect();
        return show(&format!("{{\n{}\n}}", object.join(",\n")));
    }
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let lines: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}: {}", escape(&text(value)))).collect();
    show(&lines.join("\n"))
}

/// Runs `lsfast register`.
pub(crate) fn register(setup: &Setup, args: &RegisterArgs) -> anyhow::Result<()> {
    let socket = socket(setup, args.at.socket.as_ref(), None);
    let mut request = asked(setup, &args.db, args.limit.timeout);
    request.replica_url.clone_from(&args.replica);
    let done: Changed = ask(&socket, "register", Some(&request), args.limit.timeout)?;
    let status = if args.at.json { done.status } else { done.status.replace('_', " ") };
    print(
        &args.at,
        &[
            ("status", json!(status)),
            ("db_path", json!(done.path)),
            ("replica", json!(args.replica)),
            ("socket", json!(socket)),
        ],
    )
}

/// Runs `lsfast unregister`.
pub(crate) fn unregister(setup: &Setup, args: &UnregisterArgs) -> anyhow::Result<()> {
    let socket = socket(setup, args.at.socket.as_ref(), None);
    let request = asked(setup, &args.db, args.limit.timeout);
    if args.dry_run {
        return show(&format!(
            "{} would be unregistered at {}, after a final sync of at most {} s; nothing was done",
            escape(&request.path),
            socket.display(),
            args.limit.timeout
        ));
    }
    let done: Changed = ask(&socket, "unregister", Some(&request), args.limit.timeout)?;
    print(
        &args.at,
        &[
            ("status", json!(done.status)),
            ("db_path", json!(done.path)),
            ("final_txid", json!(done.txid.unwrap_or(0))),
            ("socket", json!(socket)),
        ],
    )
}

/// Runs `lsfast start`.
pub(crate) fn start(setup: &Setup, args: &StartArgs) -> anyhow::Result<()> {
    start_or_stop(setup, &args.at, ("start", "running"), &args.db, args.limit.timeout)
}

/// Runs `lsfast stop`.
pub(crate) fn stop(setup: &Setup, args: &StopArgs) -> anyhow::Result<()> {
    start_or_stop(setup, &args.at, ("stop", "stopped"), &args.db, args.limit.timeout)
}

fn start_or_stop(
    setup: &Setup,
    at: &Where,
    (command, state): (&str, &str),
    db: &Path,
    timeout: u32,
) -> anyhow::Result<()> {
    let socket = socket(setup, at.socket.as_ref(), None);
    let done: Changed = ask(&socket, command, Some(&asked(setup, db, timeout)), timeout)?;
    print(
        at,
        &[
            ("status", json!(done.status)),
            ("db_path", json!(done.path)),
            ("state", json!(state)),
            ("txid", json!(done.txid.unwrap_or(0))),
            ("socket", json!(socket)),
        ],
    )
}

/// Runs `lsfast sync`.
pub(crate) fn sync(setup: &Setup, args: &SyncArgs) -> anyhow::Result<()> {
    let mut request = asked(setup, &args.db, args.limit.timeout);
    request.wait = args.wait;
    let socket = socket(setup, args.at.socket.as_ref(), Some(Path::new(&request.path)));
    let begun = Instant::now();
    let done: SyncAnswer = ask(&socket, "sync", Some(&request), args.limit.timeout)?;
    let duration = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut fields = vec![("db_path", json!(done.path)), ("txid", json!(done.txid))];
    if args.wait {
        fields.push(("replica_txid", json!(done.replicated_txid)));
    }
    fields.push(("duration_ms", json!(duration)));
    print(&args.at, &fields)
}

/// Runs `lsfast list`.
pub(crate) fn list(setup: &Setup, args: &ListArgs) -> anyhow::Result<()> {
    let socket = socket(setup, args.at.socket.as_ref(), None);
    let list: List = ask(&socket, "list", None, args.limit.timeout)?;
    if args.at.json {
        return show(&client::json(&list)?);
    }
    if list.databases.is_empty() {
        return show("no databases");
    }
    let line = |d: &crate::observe::Listed| {
        let last = d.last_sync_at.as_deref().unwrap_or("never");
        format!("{} [{}] (last sync: {})", escape(&d.path), escape(&d.status), escape(last))
    };
    show(&list.databases.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// Runs `lsfast info`.
pub(crate) fn info(setup: &Setup, args: &InfoArgs) -> anyhow::Result<()> {
    let socket = socket(setup, args.at.socket.as_ref(), None);
    let info: Info = ask(&socket, "info", None, args.limit.timeout)?;
    if args.at.json {
        return show(&client::json(&info)?);
    }
    show(&format!(
        "lsfast {}\n  PID:        {}\n  Uptime:     {}\n  Started at: {}\n  Databases:  {}",
        escape(&info.version),
        info.pid,
        uptime(info.uptime_seconds),
        escape(&info.started_at),
        info.database_count
    ))
}

/// Seconds as Go prints a duration: `1h2m3s`.
fn uptime(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_printed_as_by_litestream() {
        assert_eq!([59, 60, 3_600, 90_061].map(uptime), ["59s", "1m0s", "1h0m0s", "25h1m1s"]);
    }
}
