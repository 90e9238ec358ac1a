//! How well each replica is, in words for people: the table of `lsfast status`, and the page.

use std::process::ExitCode;

use super::status::{DatabaseStatus, FollowState, ReplicaStatus, Status};
use crate::base::clock::Millis;
use crate::base::{count, limits};

/// How well a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Everything is stored, or the rest is on its way.
    Well,
    /// It begins, is behind, or its last proof is not known to be sound.
    Late,
    /// It is not replicated, or what is stored is damaged.
    Failing,
}

impl Health {
    /// The exit code of `lsfast status`.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// A replica, a standby, or a database without a replica.
#[derive(Debug, Clone)]
pub struct Line {
    /// How well it is.
    pub health: Health,
    /// Age of the oldest commit that is not stored, in seconds.
    pub lag: f64,
    /// Path of the database.
    pub database: String,
    /// URL of the replica.
    pub replica: String,
    /// What it does, or why it fails.
    pub state: String,
    /// What is not stored.
    pub behind: String,
    /// How old the newest stored state is.
    pub stored: String,
    /// The result of the last verification.
    pub proof: String,
    /// Messages of which the line has only the beginning.
    pub cut: Vec<String>,
}

/// A line for each replica, the worst first.
#[must_use]
pub fn worst_first(status: &Status, now: Millis) -> Vec<Line> {
    let mut lines = lines(status, now);
    lines.sort_by(|a, b| b.health.cmp(&a.health).then(b.lag.total_cmp(&a.lag)));
    lines
}

/// How many databases there are, how well the replicas are, and how far they are behind.
#[must_use]
pub fn summary(databases: usize, lines: &[Line]) -> String {
    let number = |health| lines.iter().filter(|l| l.health == health).count();
    let (failing, late, well) = (number(Health::Failing), number(Health::Late), number(Health::Well));
    let behind = lines.iter().map(|l| l.lag).fold(0.0, f64::max);
    let mut summary =
        format!("{}: {failing} failing, {late} to look at, {well} well", count(databases, "database"));
    if behind >= 0.05 {
        summary += &format!("; at most {} behind", seconds(behind));
    }
    summary
}

/// A line for each replica, in the order of the status.
pub(super) fn lines(status: &Status, now: Millis) -> Vec<Line> {
    status.databases.iter().flat_map(|database| of_database(database, now)).collect()
}

/// A line for each replica of a database, or one for the database.
pub(super) fn of_database(d: &DatabaseStatus, now: Millis) -> Vec<Line> {
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
        let none = || "-".to_owned();
        return vec![Line {
            health: own.max(Health::Late),
            lag: 0.0,
            database: d.path.clone(),
            replica: none(),
            state: words.unwrap_or_else(|| d.state.clone()),
            behind: none(),
            stored: none(),
            proof: none(),
            cut: cut(&[&d.error.as_ref().filter(|_| d.state == "failed").map(|e| e.message.as_str())]),
        }];
    }
    d.replicas.iter().map(|r| of_replica(d, r, (own, words.clone()), now)).collect()
}

fn failure(words: &str, d: &DatabaseStatus) -> String {
    match &d.error {
        Some(error) => format!("{words}: {}", short(&error.message)),
        None => words.to_owned(),
    }
}

/// Most characters of a message in a line, so that the other columns have room. A longer message
/// is cut off, and is in [`Line::cut`] as a whole.
const CHARS: usize = 80;

/// The beginning of a message.
fn short(message: &str) -> String {
    match message.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}...", &message[..end]),
        None => message.to_owned(),
    }
}

/// The messages of which [`short`] leaves something out.
fn cut(messages: &[&Option<&str>]) -> Vec<String> {
    let long = messages.iter().filter_map(|m| **m).filter(|m| m.chars().nth(CHARS).is_some());
    long.map(str::to_owned).collect()
}

fn of_replica(
    d: &DatabaseStatus,
    r: &ReplicaStatus,
    (own, words): (Health, Option<String>),
    now: Millis,
) -> Line {
    let failed = d.error.as_ref().filter(|_| d.state == "failed").map(|e| e.message.as_str());
    let shown = failed.is_none() && matches!(r.state.as_str(), "away" | "stopped") && words.is_none();
    let error = r.error.as_ref().filter(|_| shown).map(|e| e.message.as_str());
    let fault = r.verification.as_ref().filter(|v| v.last.is_some()).and_then(|v| v.fault.as_deref());
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
                n => format!("{}, ", count(n, "commit")),
            };
            format!("{commits}{}, {}", bytes(lag.bytes), seconds(lag.seconds))
        }
    };
    let late = seconds_behind >= limits::STATUS_LATE.as_secs_f64();
    let (proof, proven) = proof(r, now);
    let stored = r.durable.as_ref().and_then(|s| age(&s.time, now));
    Line {
        health: health.max(own).max(proven).max(if late { Health::Late } else { Health::Well }),
        lag: seconds_behind,
        database: d.path.clone(),
        replica: r.url.clone().unwrap_or_else(|| "(its URL is not known)".to_owned()),
        state,
        behind,
        stored: stored.map_or_else(|| "nothing yet".to_owned(), |s| format!("{s} ago")),
        proof,
        cut: cut(&[&failed, &error, &fault]),
    }
}

/// The result of the last verification.
fn proof(r: &ReplicaStatus, now: Millis) -> (String, Health) {
    let Some(v) = &r.verification else { return ("-".to_owned(), Health::Well) };
    let ago = |time: &str| age(time, now).map_or_else(|| time.to_owned(), |age| format!("{age} ago"));
    let is_first = v.last.is_none() && v.error.is_none();
    if let Some(read) = v.running.filter(|_| is_first) {
        return (format!("under way, {} read", bytes(read)), Health::Well);
    }
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
    let lag = f.lag_seconds.unwrap_or(0.0);
    Line {
        health,
        lag: if health == Health::Well { 0.0 } else { lag },
        database: d.path.clone(),
        replica: f.url.clone().unwrap_or_else(|| "-".to_owned()),
        state,
        behind: f.lag_seconds.map_or_else(|| "-".to_owned(), |s| format!("checked {} ago", seconds(s))),
        stored: "-".to_owned(),
        proof: "-".to_owned(),
        cut: cut(&[&f.error.as_ref().filter(|_| health == Health::Failing).map(|e| e.message.as_str())]),
    }
}

/// How long ago a time was; `None` for what is not a time.
pub(super) fn age(time: &str, now: Millis) -> Option<String> {
    let at = time.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    Some(seconds((now.0 - at).max(0) as f64 / 1_000.0))
}

/// A time span in one unit, or in two for hours and days.
pub(super) fn seconds(seconds: f64) -> String {
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
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, size)| n >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", n as f64 / *size as f64),
        None => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_have_suitable_units() {
        assert_eq!(
            [0.2, 3.0, 119.0, 120.0, 7_200.0, 200_000.0].map(seconds),
            ["0.2 s", "3 s", "119 s", "2 min", "2 h", "2 days"]
        );
        assert_eq!([100, 2_048, 5 << 20, 3 << 30].map(bytes), ["100 B", "2.0 KiB", "5.0 MiB", "3.0 GiB"]);
    }
}
