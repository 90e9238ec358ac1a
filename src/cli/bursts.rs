//! Bursts of one message: what many databases log at once is logged for the first of them, and
//! counted for the others.
//!
//! A start of a thousand databases, or a full disk under all of them, is one event for who reads
//! the log. The first [`SHOWN`] databases have their lines. The others are in one line for each
//! kind of reason, with their number and some names, once the burst is over, and every few seconds
//! while it lasts. A message that one database repeats is not a burst. With `--log-level debug`
//! each line is shown.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Databases that have a line of their own for a message that many log at once. The others are
/// counted.
const SHOWN: usize = 3;

/// Names of databases in the line that counts the others.
const NAMES: usize = 10;

/// Kinds of reasons of one message that have a line of their own. Databases with further ones are
/// in one line, with the reason of the first.
const REASONS: usize = 5;

/// Time after the last database of a burst until the line that counts them.
const QUIET: Duration = Duration::from_secs(2);

/// A message that no database has logged for this long is no longer part of a burst. While a burst
/// lasts, its databases are counted in a line each time this has passed.
const PAUSE: Duration = Duration::from_secs(10);
const _: () = assert!(QUIET.as_secs() < PAUSE.as_secs(), "a burst is told of before it is over");

static BURSTS: OnceLock<Mutex<State>> = OnceLock::new();

/// The filter that keeps back what is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bursts;

#[derive(Debug, Default)]
struct State {
    bursts: HashMap<(Level, String), Burst>,
    /// Whether a thread waits for the end of bursts.
    watched: bool,
}

/// The databases that have logged a message.
#[derive(Debug)]
struct Burst {
    shown: BTreeSet<String>,
    /// The databases without lines, by the kind of their reason.
    hidden: BTreeMap<String, Hidden>,
    /// When the first of `hidden` came, if there are any.
    since: Instant,
    last: Instant,
}

/// Databases without lines of their own, for one kind of reason.
#[derive(Debug)]
struct Hidden {
    /// The reason of the first.
    reason: Option<String>,
    databases: BTreeSet<String>,
}

/// What a line says of the databases without lines of their own.
#[derive(Debug, PartialEq)]
struct Summary {
    level: Level,
    message: String,
    databases: usize,
    names: String,
    reason: Option<String>,
}

fn lock() -> MutexGuard<'static, State> {
    BURSTS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S> Filter<S> for Bursts {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let mut words = Words::default();
        event.record(&mut words);
        let (Some(db), Some(message)) = (words.db, words.message) else { return true };
        let mut state = lock();
        if state.admits((*event.metadata().level(), message), db, words.reason, Instant::now()) {
            return true;
        }
        if !std::mem::replace(&mut state.watched, true) {
            drop(state);
            let watch = std::thread::Builder::new().name("lsfast-log".into()).spawn(watch);
            // Without a thread the line comes at the end of the process.
            drop(watch);
        }
        false
    }
}

impl State {
    /// Whether the line of this database is shown.
    fn admits(&mut self, message: (Level, String), db: String, reason: Option<String>, now: Instant) -> bool {
        let fresh = || Burst { shown: BTreeSet::new(), hidden: BTreeMap::new(), since: now, last: now };
        let burst = self.bursts.entry(message).or_insert_with(fresh);
        if burst.hidden.is_empty() && now.duration_since(burst.last) > PAUSE {
            burst.shown.clear();
        }
        burst.last = now;
        if burst.shown.contains(&db) {
            return true;
        }
        if burst.shown.len() < SHOWN {
            burst.shown.insert(db);
            return true;
        }
        if burst.hidden.is_empty() {
            burst.since = now;
        }
        let mut kind = reason.as_deref().map(kind_of).unwrap_or_default();
        if burst.hidden.len() >= REASONS && !burst.hidden.contains_key(&kind) {
            OTHERS.clone_into(&mut kind);
        }
        let fresh = || Hidden { reason, databases: BTreeSet::new() };
        burst.hidden.entry(kind).or_insert_with(fresh).databases.insert(db);
        false
    }

    /// What is due: bursts that are over, and those that have lasted long; with `all` each of them.
    fn take(&mut self, now: Instant, all: bool) -> Vec<Summary> {
        let mut due = Vec::new();
        for ((level, message), burst) in &mut self.bursts {
            let over = now.duration_since(burst.last) >= QUIET;
            let long = now.duration_since(burst.since) >= PAUSE;
            if burst.hidden.is_empty() || !(all || over || long) {
                continue;
            }
            for Hidden { reason, databases: hidden } in std::mem::take(&mut burst.hidden).into_values() {
                let names: Vec<&str> = hidden.iter().take(NAMES).map(String::as_str).collect();
                let more = if hidden.len() > names.len() { ", ..." } else { "" };
                let (databases, names) = (hidden.len(), names.join(", ") + more);
                due.push(Summary { level: *level, message: message.clone(), databases, names, reason });
            }
        }
        self.bursts.retain(|_, b| !b.hidden.is_empty() || now.duration_since(b.last) <= PAUSE);
        due
    }

    fn waits(&self) -> bool {
        self.bursts.values().any(|burst| !burst.hidden.is_empty())
    }
}

/// Logs what is due, until nothing waits.
fn watch() {
    loop {
        std::thread::sleep(QUIET / 2);
        let due = lock().take(Instant::now(), false);
        due.iter().for_each(log);
        let mut state = lock();
        if !state.waits() {
            state.watched = false;
            return;
        }
    }
}

/// Logs what was counted so far. For the end of the process, and before its last lines.
pub(super) fn settle() {
    let due = lock().take(Instant::now(), true);
    due.iter().for_each(log);
}

fn log(summary: &Summary) {
    let Summary { level, message, databases, names, reason } = summary;
    let reason = reason.as_deref();
    // Without the field `db`, which makes a line part of a burst.
    match *level {
        Level::ERROR => tracing::error!(databases, among = names, reason, "{message}: more databases"),
        Level::WARN => tracing::warn!(databases, among = names, reason, "{message}: more databases"),
        _ => tracing::info!(databases, among = names, reason, "{message}: more databases"),
    }
}

/// The key of all kinds of reasons beyond [`REASONS`]. No kind equals it, because none has a digit.
const OTHERS: &str = "0";

/// A reason without what differs from one database to the next: paths, URLs, numbers and ids.
fn kind_of(reason: &str) -> String {
    let kinds = reason.split_whitespace().map(|word| match word {
        _ if word.contains('/') => "/",
        _ if word.contains(|c: char| c.is_ascii_digit()) => "#",
        _ => word,
    });
    kinds.collect::<Vec<_>>().join(" ")
}

/// The fields that matter here.
#[derive(Debug, Default)]
struct Words {
    db: Option<String>,
    message: Option<String>,
    reason: Option<String>,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "db" => self.db = Some(value.to_owned()),
            "message" => self.message = Some(value.to_owned()),
            "error" | "reason" | "cause" | "fault" => self.reason = Some(value.to_owned()),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "db" | "message" | "error" | "reason" | "cause" | "fault") {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_databases_are_a_few_lines_and_one_database_has_all_of_its_own() {
        let (mut state, begun) = (State::default(), Instant::now());
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let admits = |state: &mut State, db: usize, ms: u64| {
            state.admits((Level::INFO, "image stored".into()), format!("/{db:03}.db"), None, at(ms))
        };
        let shown = (0..100).filter(|n| admits(&mut state, *n, *n as u64)).count();
        assert_eq!(shown, SHOWN);
        assert!(admits(&mut state, 0, 101), "a database that has lines goes on to have them");
        assert!(state.take(at(500), false).is_empty(), "it may go on");
        let due = state.take(at(101) + QUIET, false);
        assert_eq!((due.len(), due[0].databases), (1, 100 - SHOWN));
        assert!(due[0].names.starts_with("/003.db, /004.db") && due[0].names.ends_with(", ..."), "{due:?}");
        assert!(!state.waits());
        // After a pause each database has its lines again.
        let later = 200 + u64::try_from(PAUSE.as_millis()).unwrap();
        assert!(admits(&mut state, 99, later));
        // One that repeats itself is not a burst.
        assert!((0..1_000).all(|n| admits(&mut state, 99, later + n)));
        assert!(state.take(at(later + 60_000), true).is_empty());
    }

    /// Of four databases and more only three had lines, and why the others failed was not logged.
    #[test]
    fn each_kind_of_reason_is_told() {
        let (mut state, now) = (State::default(), Instant::now());
        let mut fails = |db: usize, reason: String| {
            let message = (Level::ERROR, "cannot be stored".to_owned());
            state.admits(message, format!("/{db:03}.db"), Some(reason), now)
        };
        for db in 0..100 {
            let reason = match db {
                50 => "/050.db: disk I/O error".to_owned(),
                60 | 61 => format!("/{db}.db: permission denied"),
                _ => format!("/{db:03}.db: the store answers 503, request a{db}"),
            };
            assert_eq!(fails(db, reason), db < SHOWN);
        }
        let due = state.take(now + QUIET, false);
        let told: Vec<(usize, &str, &str)> =
            due.iter().map(|s| (s.databases, s.reason.as_deref().unwrap(), s.names.as_str())).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.contains(&(1, "/050.db: disk I/O error", "/050.db")), "{told:?}");
        assert!(told.contains(&(2, "/60.db: permission denied", "/060.db, /061.db")), "{told:?}");
        let most = told.iter().find(|t| t.0 == 97 - 3).unwrap();
        assert!(most.1.contains("503") && most.2.ends_with("/012.db, ..."), "{most:?}");
        // Reasons without number are not lines without number.
        for db in 0..100 {
            let word: String = (0..=db / 10).map(|_| 'x').collect();
            let message = (Level::ERROR, "cannot be opened".to_owned());
            state.admits(message, format!("/{db:03}.db"), Some(word), now);
        }
        let due = state.take(now + QUIET, false);
        assert_eq!((due.len(), due.iter().map(|s| s.databases).sum::<usize>()), (REASONS + 1, 97));
    }

    #[test]
    fn a_burst_without_end_is_told_of_meanwhile() {
        let (mut state, begun) = (State::default(), Instant::now());
        let mut told = 0;
        for n in 0..1_000u32 {
            let now = begun + Duration::from_millis(100) * n;
            let _ = state.admits((Level::WARN, "slow".into()), format!("/{n}.db"), None, now);
            told += state.take(now, false).iter().map(|s| s.databases).sum::<usize>();
        }
        assert!(told > 800 && told + SHOWN <= 1_000, "{told}");
        told += state.take(begun, true).iter().map(|s| s.databases).sum::<usize>();
        assert_eq!(told + SHOWN, 1_000);
    }
}
