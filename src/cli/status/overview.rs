//! The status as a table: a line for each replica, the worst first, and a summary.

use std::process::ExitCode;

use crate::base::clock::Millis;
use crate::base::limits;
use crate::cli::table::table;
use crate::observe::{DatabaseStatus, FollowState, ReplicaStatus, Status};

/// How well a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// Everything is stored, or the rest is on its way.
    Well,
    /// It begins, is behind, or its last proof is not known to be sound.
    Late,
    /// It is not replicated, or what is stored is damaged.
    Failing,
}

impl Health {
    /// The exit code of the command.
    pub(super) fn exit_code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// A line of the table.
struct Line {
    health: Health,
    behind: f64,
    cells: Vec<String>,
}

/// The worst of all databases.
pub(super) fn health(status: &Status) -> Health {
    lines(status, Millis::now()).iter().map(|line| line.health).max().unwrap_or(Health::Well)
}

/// The table and its summary.
pub(super) fn text(status: &Status) -> String {
    at(status, Millis::now())
}

fn at(status: &Status, now: Millis) -> String {
    if status.databases.is_empty() {
        return "no databases".to_owned();
    }
    let mut lines = lines(status, now);
    lines.sort_by(|a, b| b.health.cmp(&a.health).then(b.behind.total_cmp(&a.behind)));
    let count = |health| lines.iter().filter(|l| l.health == health).count();
    let (failing, late, well) = (count(Health::Failing), count(Health::Late), count(Health::Well));
    let behind = lines.iter().map(|l| l.behind).fold(0.0, f64::max);
    let rows: Vec<Vec<String>> = lines.into_iter().map(|l| l.cells).collect();
    let head = ["database", "replica", "state", "behind", "stored", "last proof"];
    let databases = status.databases.len();
    let mut summary = format!(
        "{databases} {}: {failing} failing, {late} to look at, {well} well",
        if databases == 1 { "database" } else { "databases" }
    );
    if behind >= 0.05 {
        summary += &format!("; at most {} behind", seconds(behind));
    }
    format!("{}\n\n{summary}", table(&head, &[], &rows))
}

fn lines(status: &Status, now: Millis) -> Vec<Line> {
    status.databases.iter().flat_map(|database| of_database(database, now)).collect()
}

fn of_database(d: &DatabaseStatus, now: Millis) -> Vec<Line> {
    if let Some(follows) = &d.follows {
        return vec![of_standby(d, follows)];
    }
    let (own, words) = match d.state.as_str() {
        "following" => (Health::Well, None),
        "waiting" => (Health::Late, Some("waiting for the database".to_owned())),
        "failed" => (Health::Failing, Some(failure("not replicated", d))),
        "stopped" => (Health::Failing, Some("stopped".to_owned())),
        "not running" => (Health::Failing, Some("no lsfast replicates it".to_owned())),
        "not answering" => (Health::Failing, Some("its lsfast does not answer".to_owned())),
        other => (Health::Late, Some(other.to_owned())),
    };
    let own = if d.wal_damage.is_some() { own.max(Health::Late) } else { own };
    if d.replicas.is_empty() {
        let cells = [d.path.clone(), "-".into(), words.unwrap_or_else(|| d.state.clone())];
        let cells = cells.into_iter().chain(["-"; 3].map(str::to_owned)).collect();
        return vec![Line { health: own.max(Health::Late), behind: 0.0, cells }];
    }
    d.replicas.iter().map(|r| of_replica(d, r, (own, words.clone()), now)).collect()
}

fn failure(words: &str, d: &DatabaseStatus) -> String {
    match &d.error {
        Some(error) => format!("{words}: {}", short(&error.message)),
        None => words.to_owned(),
    }
}

/// A message that leaves room for the other columns.
fn short(message: &str) -> String {
    const CHARS: usize = 80;
    match message.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}...", &message[..end]),
        None => message.to_owned(),
    }
}

fn of_replica(
    d: &DatabaseStatus,
    r: &ReplicaStatus,
    (own, words): (Health, Option<String>),
    now: Millis,
) -> Line {
    let (health, state) = match (words, r.state.as_str()) {
        (Some(words), _) => (own, words),
        (None, "following") => (Health::Well, "following".to_owned()),
        (None, "starting") => (Health::Late, "asking the store what it has".to_owned()),
        (None, "comparing") => (Health::Late, "comparing pages".to_owned()),
        (None, "away") => {
            let why = r.error.as_ref().map_or_else(String::new, |e| format!(": {}", short(&e.message)));
            let since = r
                .since
                .as_deref()
                .and_then(|s| age(s, now))
                .map_or_else(String::new, |s| format!(" for {s}"));
            (Health::Failing, format!("uploads fail{since}{why}"))
        }
        (None, "stopped") => {
            let why = r.error.as_ref().map_or_else(String::new, |e| format!(": {}", short(&e.message)));
            (Health::Failing, format!("stopped{why}"))
        }
        (None, other) => (Health::Late, other.to_owned()),
    };
    let seconds_behind = r.lag.as_ref().map_or(0.0, |lag| lag.seconds);
    let behind = match &r.lag {
        None => "-".to_owned(),
        Some(lag) if lag.commits == 0 && lag.bytes == 0 && lag.seconds == 0.0 => "in sync".to_owned(),
        Some(lag) => {
            let commits = match lag.commits {
                // They were committed before the process began, or are being looked for.
                0 => String::new(),
                1 => "1 commit, ".to_owned(),
                n => format!("{n} commits, "),
            };
            format!("{commits}{}, {}", bytes(lag.bytes), seconds(lag.seconds))
        }
    };
    let late = seconds_behind >= limits::STATUS_LATE.as_secs_f64();
    let (proof, proven) = proof(r, now);
    let cells = vec![
        d.path.clone(),
        r.url.clone().unwrap_or_else(|| "(not configured)".to_owned()),
        state,
        behind,
        r.durable
            .as_ref()
            .and_then(|s| age(&s.time, now))
            .map_or_else(|| "nothing yet".to_owned(), |s| format!("{s} ago")),
        proof,
    ];
    let health = health.max(own).max(proven).max(if late { Health::Late } else { Health::Well });
    Line { health, behind: seconds_behind, cells }
}

/// The result of the last verification.
fn proof(r: &ReplicaStatus, now: Millis) -> (String, Health) {
    let Some(v) = &r.verification else { return ("-".to_owned(), Health::Well) };
    let ago = |time: &str| age(time, now).map_or_else(|| time.to_owned(), |age| format!("{age} ago"));
    match (&v.last, &v.fault) {
        (Some(last), Some(fault)) => (format!("NOT SOUND, {}: {}", ago(last), short(fault)), Health::Failing),
        (Some(last), None) => (format!("sound, {}", ago(last)), Health::Well),
        (None, _) if v.error.is_some() => ("cannot be made".to_owned(), Health::Late),
        (None, _) => ("not yet".to_owned(), Health::Well),
    }
}

fn of_standby(d: &DatabaseStatus, f: &FollowState) -> Line {
    let (health, state) = match f.state.as_str() {
        "following" => (Health::Well, "read replica".to_owned()),
        "restoring" => (Health::Late, "read replica: restoring".to_owned()),
        "not running" => (Health::Failing, "read replica: no lsfast follows it".to_owned()),
        _ => {
            let why = f.error.as_ref().map_or_else(String::new, |e| format!(": {}", short(&e.message)));
            (Health::Failing, format!("read replica: cannot follow{why}"))
        }
    };
    let behind = f.lag_seconds.unwrap_or(0.0);
    let cells = vec![
        d.path.clone(),
        f.url.clone().unwrap_or_else(|| "-".to_owned()),
        state,
        f.lag_seconds.map_or_else(|| "-".to_owned(), |s| format!("checked {} ago", seconds(s))),
        "-".to_owned(),
        "-".to_owned(),
    ];
    Line { health, behind: if health == Health::Well { 0.0 } else { behind }, cells }
}

/// How long ago a time was; `None` for what is not a time.
fn age(time: &str, now: Millis) -> Option<String> {
    let at = time.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    Some(seconds((now.0 - at).max(0) as f64 / 1_000.0))
}

/// A time span in one unit, or in two for hours and days.
fn seconds(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..10 if seconds < 9.95 && seconds.fract() >= 0.05 => format!("{seconds:.1} s"),
        0..120 => format!("{whole} s"),
        120..7_200 => format!("{} min", whole / 60),
        7_200..172_800 => format!("{} h", whole / 3_600),
        _ => format!("{} days", whole / 86_400),
    }
}

/// A size in the unit that suits it.
fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, size)| n >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", n as f64 / *size as f64),
        None => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A minute after midnight, the time of the stored states below.
    const NOW: Millis = Millis(1_795_305_600_000 + 60_000);

    #[expect(clippy::needless_pass_by_value, reason = "so that calls are short")]
    fn replica(state: &str, lag: serde_json::Value, more: serde_json::Value) -> serde_json::Value {
        let mut replica = json!({
            "url": format!("s3://bucket/{state}"), "state": state, "since": null,
            "durable": {"txid": "1", "time": "2026-11-22T00:00:00Z", "position": {"salts": "", "frame": 0, "offset": 0, "pages": 1}},
            "lag": lag, "batches": 0, "batch_bytes": 0, "errors": 0, "error": null, "latency": null,
            "history": null, "verification": null,
        });
        for (name, value) in more.as_object().unwrap() {
            replica[name] = value.clone();
        }
        replica
    }

    fn status(replicas: &[serde_json::Value]) -> Status {
        let database = |(n, r): (usize, &serde_json::Value)| {
            json!({"path": format!("/{n}.db"), "home": "", "state": "following", "size": 1, "wal_size": 1, "position": null,
                   "commits": 1, "error": null, "replicas": [r]})
        };
        let databases: Vec<_> = replicas.iter().enumerate().map(database).collect();
        serde_json::from_value(json!({"version": "1", "pid": 1, "databases": databases})).unwrap()
    }

    #[test]
    fn the_worst_is_first_and_counts() {
        let well = replica("following", json!({"commits": 0, "bytes": 0, "seconds": 0.0}), json!({}));
        let behind = replica("following", json!({"commits": 2, "bytes": 8192, "seconds": 90.5}), json!({}));
        let failed = json!({"time": "2026-11-22T00:00:00Z", "message": "no such bucket"});
        let away = replica(
            "away",
            json!({"commits": 1, "bytes": 100, "seconds": 4.0}),
            json!({"since": "2026-11-21T23:01:00Z", "error": failed}),
        );
        let all = status(&[well.clone(), behind.clone(), away]);
        let text = at(&all, NOW);
        let lines: Vec<&str> = text.lines().collect();
        let first = ["/2.db", "uploads fail for 60 min: no such bucket", "1 commit, 100 B, 4 s", "60 s ago"];
        assert!(first.iter().all(|word| lines[1].contains(word)), "{text}");
        assert!(
            lines[2].contains("2 commits, 8.0 KiB, 90.5 s") || lines[2].contains("2 commits, 8.0 KiB, 90 s"),
            "{text}"
        );
        assert!(lines[3].contains("/0.db") && lines[3].contains("in sync"), "{text}");
        assert_eq!(
            *lines.last().unwrap(),
            "3 databases: 1 failing, 1 to look at, 1 well; at most 90 s behind"
        );
        assert_eq!([health(&all), health(&status(&[well, behind]))], [Health::Failing, Health::Late]);
    }

    #[test]
    fn proofs_count() {
        let lag = json!({"commits": 0, "bytes": 0, "seconds": 0.0});
        let with = |verification: serde_json::Value| {
            status(&[replica("following", lag.clone(), json!({"verification": verification}))])
        };
        let mut v = json!({"last": "2026-11-21T23:00:00Z", "sound": null, "fault": null, "faults": 0, "error": null,
                           "next": null, "bytes": 1});
        assert!(at(&with(v.clone()), NOW).contains("sound, 61 min ago"));
        v["fault"] = json!("a hole");
        let text = at(&with(v.clone()), NOW);
        assert!(text.contains("NOT SOUND, 61 min ago: a hole"), "{text}");
        assert_eq!(health(&with(v)), Health::Failing);
    }

    #[test]
    fn spans_and_sizes_have_suitable_units() {
        assert_eq!(
            [0.2, 3.0, 119.0, 120.0, 7_200.0, 200_000.0].map(seconds),
            ["0.2 s", "3 s", "119 s", "2 min", "2 h", "2 days"]
        );
        assert_eq!([100, 2_048, 5 << 20, 3 << 30].map(bytes), ["100 B", "2.0 KiB", "5.0 MiB", "3.0 GiB"]);
    }
}
