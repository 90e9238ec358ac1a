//! Bursts of one message: what many databases log at once is logged for the first of them, and
//! counted for the others.
//!
//! A start of a thousand databases, or a full disk under all of them, is one event for who reads
//! the log. The first [`SHOWN`] databases have their lines. The others are in one line for each
//! kind of reason, with their number and some names, once the burst is over, and every few seconds
//! while it lasts. A message that one database repeats is not a burst. With `--log-level debug`
//! each line is shown.
//!
//! Each database logs the lines of the target [`ROUTINE`] at a time of its own, so they are counted
//! for twelve hours. From the fourth database on, those of the first three are counted, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

use crate::base::ROUTINE;

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

/// Time for which lines of the target [`ROUTINE`] are counted until the line with their sums. A
/// message that no database has logged for this long begins with single lines again.
const ROUTINE_PAUSE: Duration = Duration::from_secs(12 * 3600);

static BURSTS: OnceLock<Mutex<State>> = OnceLock::new();

/// The filter that keeps back what is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bursts;

#[derive(Debug, Default)]
struct State {
    bursts: HashMap<(Level, String), Burst>,
    /// Whether a thread waits for the end of bursts: of ordinary ones, and of those of routine.
    watched: [bool; 2],
}

/// The databases that have logged a message.
#[derive(Debug)]
struct Burst {
    /// Whether its lines have the target [`ROUTINE`].
    routine: bool,
    /// The databases that have lines, or of routine all databases.
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
    sums: Sums,
}

/// Sums of the fields `files` and `bytes` of lines; `None` if no line has the field.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sums {
    files: Option<u64>,
    bytes: Option<u64>,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        (self.files, self.bytes) = (sum(self.files, other.files), sum(self.bytes, other.bytes));
    }
}

/// What a line says of the databases without lines of their own.
#[derive(Debug, PartialEq)]
struct Summary {
    level: Level,
    message: String,
    databases: usize,
    names: String,
    reason: Option<String>,
    sums: Sums,
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
        if words.db.is_none() || words.message.is_none() {
            return true;
        }
        let routine = event.metadata().target() == ROUTINE;
        let mut state = lock();
        if state.admits(*event.metadata().level(), routine, words, Instant::now()) {
            return true;
        }
        if !std::mem::replace(&mut state.watched[usize::from(routine)], true) {
            drop(state);
            let watch = std::thread::Builder::new().name("lsfast-log".into()).spawn(move || watch(routine));
            // Without a thread the line comes at the end of the process.
            drop(watch);
        }
        false
    }
}

impl State {
    /// Whether the line of this database is shown.
    fn admits(&mut self, level: Level, routine: bool, words: Words, now: Instant) -> bool {
        let Words { db, message, reason, sums } = words;
        let (db, message) = (db.unwrap_or_default(), message.unwrap_or_default());
        let (shown, hidden) = (BTreeSet::new(), BTreeMap::new());
        let fresh = || Burst { routine, shown, hidden, since: now, last: now };
        let burst = self.bursts.entry((level, message)).or_insert_with(fresh);
        if burst.hidden.is_empty() && now.duration_since(burst.last) > burst.pause() {
            burst.shown.clear();
        }
        burst.last = now;
        // More databases than may be shown: from now on all lines of routine are counted.
        let many = routine && burst.shown.len() > SHOWN;
        if burst.shown.contains(&db) && !many {
            return true;
        }
        if burst.shown.len() < SHOWN {
            burst.shown.insert(db);
            return true;
        }
        if routine && !many {
            burst.shown.insert(db.clone());
        }
        if burst.hidden.is_empty() {
            burst.since = now;
        }
        let mut kind = reason.as_deref().map(kind_of).unwrap_or_default();
        if burst.hidden.len() >= REASONS && !burst.hidden.contains_key(&kind) {
            OTHERS.clone_into(&mut kind);
        }
        let fresh = || Hidden { reason, databases: BTreeSet::new(), sums: Sums::default() };
        let hidden = burst.hidden.entry(kind).or_insert_with(fresh);
        hidden.databases.insert(db);
        hidden.sums.add(sums);
        false
    }

    /// What is due: bursts that are over, and those that have lasted long; with `all` each of them.
    fn take(&mut self, now: Instant, all: bool) -> Vec<Summary> {
        let mut due = Vec::new();
        for ((level, message), burst) in &mut self.bursts {
            let over = !burst.routine && now.duration_since(burst.last) >= QUIET;
            let long = now.duration_since(burst.since) >= burst.pause();
            if burst.hidden.is_empty() || !(all || over || long) {
                continue;
            }
            for Hidden { reason, databases: hidden, sums } in std::mem::take(&mut burst.hidden).into_values()
            {
                let names: Vec<&str> = hidden.iter().take(NAMES).map(String::as_str).collect();
                let more = if hidden.len() > names.len() { ", ..." } else { "" };
                let (databases, names) = (hidden.len(), names.join(", ") + more);
                let message = message.clone();
                due.push(Summary { level: *level, message, databases, names, reason, sums });
            }
        }
        self.bursts.retain(|_, b| !b.hidden.is_empty() || now.duration_since(b.last) <= b.pause());
        due
    }

    /// When the first of the waiting bursts, of routine or of the rest, is due at the latest.
    fn next(&self, routine: bool) -> Option<Instant> {
        let waits = |b: &&Burst| b.routine == routine && !b.hidden.is_empty();
        self.bursts.values().filter(waits).map(|b| b.since + b.pause()).min()
    }
}

impl Burst {
    fn pause(&self) -> Duration {
        if self.routine { ROUTINE_PAUSE } else { PAUSE }
    }
}

/// Logs what is due, until nothing waits, of routine or of the rest.
fn watch(routine: bool) {
    loop {
        let next = lock().next(routine);
        // Of the rest, a burst may be over sooner.
        let wait = next.filter(|_| routine).map(|at| at.saturating_duration_since(Instant::now()));
        std::thread::sleep(wait.unwrap_or(QUIET / 2));
        let due = lock().take(Instant::now(), false);
        due.iter().for_each(log);
        let mut state = lock();
        if state.next(routine).is_none() {
            state.watched[usize::from(routine)] = false;
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
    let Summary { level, message, databases, names, reason, sums: Sums { files, bytes } } = summary;
    let reason = reason.as_deref();
    // Without the field `db`, which makes a line part of a burst.
    match *level {
        Level::ERROR => tracing::error!(databases, among = names, reason, "{message}: more databases"),
        Level::WARN => tracing::warn!(databases, among = names, reason, "{message}: more databases"),
        _ => tracing::info!(databases, among = names, files, bytes, reason, "{message}: more databases"),
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
    sums: Sums,
}

impl Visit for Words {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "files" => self.sums.files = Some(value),
            "bytes" => self.sums.bytes = Some(value),
            _ => {}
        }
    }

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

    fn words(db: String, message: &str, reason: Option<String>) -> Words {
        let (db, message) = (Some(db), Some(message.to_owned()));
        Words { db, message, reason, sums: Sums { files: None, bytes: Some(10) } }
    }

    /// The regular work of many databases, each at a time of its own, is a few lines a day.
    #[test]
    fn routine_is_counted_for_hours() {
        let (mut state, begun) = (State::default(), Instant::now());
        let works = |state: &mut State, db: u32, at: Instant| {
            state.admits(Level::INFO, true, words(format!("/{db:03}.db"), "snapshot stored", None), at)
        };
        // Three databases have all of their lines.
        let hour = Duration::from_secs(3600);
        assert!((0..30).all(|n| works(&mut state, n % 3, begun + hour * n)));
        assert!(state.take(begun + hour * 30, false).is_empty());
        let (begun, mut state, mut lines, mut counted) = (begun + hour * 100, State::default(), 0, 0);
        for minute in 0..24 * 60 {
            let now = begun + Duration::from_secs(60) * minute;
            lines += usize::from(works(&mut state, minute % 100, now));
            for Summary { databases, sums, .. } in state.take(now, false) {
                assert_eq!(databases, 100);
                counted += sums.bytes.unwrap();
                lines += 1;
            }
        }
        assert_eq!(lines, SHOWN + 1, "in a day, before its end");
        counted += state.take(begun + hour * 24, true)[0].sums.bytes.unwrap();
        assert_eq!(counted, 10 * (24 * 60 - SHOWN as u64), "the sum of all");
    }

    #[test]
    fn many_databases_are_a_few_lines_and_one_database_has_all_of_its_own() {
        let (mut state, begun) = (State::default(), Instant::now());
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let admits = |state: &mut State, db: usize, ms: u64| {
            state.admits(Level::INFO, false, words(format!("/{db:03}.db"), "image stored", None), at(ms))
        };
        let shown = (0..100).filter(|n| admits(&mut state, *n, *n as u64)).count();
        assert_eq!(shown, SHOWN);
        assert!(admits(&mut state, 0, 101), "a database that has lines goes on to have them");
        assert!(state.take(at(500), false).is_empty(), "it may go on");
        let due = state.take(at(101) + QUIET, false);
        assert_eq!((due.len(), due[0].databases), (1, 100 - SHOWN));
        assert_eq!(due[0].sums.bytes, Some(10 * (100 - SHOWN as u64)));
        assert!(due[0].names.starts_with("/003.db, /004.db") && due[0].names.ends_with(", ..."), "{due:?}");
        assert_eq!(state.next(false), None);
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
            let line = words(format!("/{db:03}.db"), "cannot be stored", Some(reason));
            state.admits(Level::ERROR, false, line, now)
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
            let line = words(format!("/{db:03}.db"), "cannot be opened", Some(word));
            state.admits(Level::ERROR, false, line, now);
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
            let _ = state.admits(Level::WARN, false, words(format!("/{n}.db"), "slow", None), now);
            told += state.take(now, false).iter().map(|s| s.databases).sum::<usize>();
        }
        assert!(told > 800 && told + SHOWN <= 1_000, "{told}");
        told += state.take(begun, true).iter().map(|s| s.databases).sum::<usize>();
        assert_eq!(told + SHOWN, 1_000);
    }
}
