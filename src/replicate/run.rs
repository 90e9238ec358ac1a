//! Replicates all databases until a stop is requested.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::database::open_files;
use super::error::ReplicateError;
use super::fleet::control::Requests;
use super::fleet::{directories, supervisor};
use super::options::Options;
use super::shutdown::Stop;
use super::sweep;
use super::vitals::{DatabasePhase, DatabaseVitals, ReplicaPhase, Vitals};
use super::{database, history, outage, verify};
use crate::base::limits;
use crate::io::timer::Timers;
use crate::io::watch::Watches;
use crate::store::progress;

/// Time for the last checkpoints after the end of the shutdown timeout: that of one, and some for
/// its report.
const LAST_CHECKPOINTS: Duration = database::LEAVE_TIME.saturating_add(Duration::from_millis(500));

/// Follows all databases until the stop is requested and everything is stored. With one database,
/// its error ends the process. With several, one that cannot be followed does not stop the others.
///
/// Must run on one thread with a `LocalSet`.
///
/// # Errors
/// The first [`ReplicateError`]. All other databases have been stopped as if a stop had been
/// requested.
pub async fn run(options: Options, stop: Stop) -> Result<(), ReplicateError> {
    run_with(options, None, stop).await
}

/// The same, and obeys requests meanwhile.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    options: Options,
    requests: Option<Requests>,
    stop: Stop,
) -> Result<(), ReplicateError> {
    let timers = Timers::new()?;
    let watches = Watches::new(&timers)?;
    let directories = directories::Directories::new(options.directories, &watches, options.once.is_some());
    let shared = database::Shared {
        engine: options.engine,
        observer: options.observer,
        vitals: options.vitals,
        watches,
        timers,
        sweep: sweep::Sweep::start(options.safety_tick),
        opening: Arc::new(Semaphore::new(limits::OPENING)),
        files: open_files::Files::default(),
        places: open_files::Places::default(),
        alone: Rc::new(Cell::new(
            directories.is_empty() && options.databases.iter().map(|d| d.replicas.len()).sum::<usize>() == 1,
        )),
        desks: database::Desks::default(),
        once: options.once,
        history: history::Common::default(),
        outages: outage::Outages::default(),
        turns: verify::Turns::default(),
        leaving: database::Leaving::default(),
    };
    let leaving = shared.leaving.clone();
    let (once, begun, mut stopping) = (options.once.is_some(), tokio::time::Instant::now(), false);
    let vitals = Arc::clone(&shared.vitals);
    let (ask_all, inner) = super::shutdown::stop();
    let mut fleet = supervisor::Fleet::new(
        options.databases,
        directories,
        shared,
        requests,
        options.shutdown_timeout,
        inner,
    );
    if options.once.is_some() {
        // What the databases hold when they are opened is stored, and then they end.
        fleet.look_once().await;
        ask_all.ask();
    }
    let mut deadline: Option<tokio::time::Instant> = None;
    let mut limit = options.shutdown_timeout;
    if let Some(timeout) = options.once_timeout.filter(|_| once) {
        (deadline, limit) = (Some(begun + timeout), timeout);
        leaving.ends_at(begun + timeout);
    }
    loop {
        tokio::select! {
            () = fleet.serve() => break,
            () = stall(&vitals), if once && deadline.is_none() => {
                fleet.give_up(LAST_CHECKPOINTS).await;
                return Err(ReplicateError::Stalled(limits::ONCE_STALL));
            }
            () = stop.asked(), if !stopping => {
                stopping = true;
                let end = tokio::time::Instant::now() + options.shutdown_timeout;
                // Whichever comes first ends the process: this limit or that of `--once`.
                if deadline.is_none_or(|d| end < d) {
                    (deadline, limit) = (Some(end), options.shutdown_timeout);
                    leaving.ends_at(end);
                }
                ask_all.ask();
            }
            () = sleep_until(deadline), if deadline.is_some() => {
                // Only the last checkpoints still run. They change nothing about what is stored.
                if fleet.is_only_leaving() {
                    _ = tokio::time::timeout(LAST_CHECKPOINTS, fleet.serve()).await;
                    break;
                }
                let waits = waited_for(&vitals);
                // What the stores have not taken is in the database or its WAL. The checkpoint of a
                // WAL needs no store and must not wait for one.
                fleet.give_up(LAST_CHECKPOINTS).await;
                return Err(ReplicateError::Timeout { limit, waits });
            }
        }
    }
    fleet.into_error().map_or(Ok(()), Err)
}

/// What a shutdown still waits for, in words.
fn waited_for(vitals: &Vitals) -> String {
    let mut all = Vec::new();
    for db in vitals.databases() {
        let path = db.path.display();
        match db.phase() {
            DatabasePhase::Stopped => {}
            DatabasePhase::Waiting => all.push(format!("{path} is waited for")),
            DatabasePhase::Failed => {
                let failure = db.failure().map_or_else(|| "it failed".to_owned(), |f| f.message);
                all.push(format!("{path} is not replicated: {failure}"));
            }
            DatabasePhase::Following => all.extend(db.replicas.iter().filter_map(|r| {
                let (url, failure) = (&r.url, r.failure().filter(|_| r.away_since().is_some()));
                Some(match (r.phase(), failure) {
                    (ReplicaPhase::Stopped, _) => return None,
                    (_, Some(failure)) => format!("{url} does not work: {}", failure.message),
                    (ReplicaPhase::Starting, None) => format!("{url} is being looked at"),
                    (ReplicaPhase::Comparing, None) => format!("the pages of {path} are being compared"),
                    (ReplicaPhase::Image, None) => format!("the image of {path} is being stored at {url}"),
                    (ReplicaPhase::Following, None) if r.lag().commits > 0 => {
                        format!("the last commits of {path} are being stored at {url}")
                    }
                    (ReplicaPhase::Following, None) => format!("{url} has everything, and is being checked"),
                })
            })),
        }
    }
    let more = all.len().saturating_sub(1);
    match all.into_iter().next() {
        Some(first) if more > 0 => format!("{first}, and {more} others are not done"),
        Some(first) => first,
        None => "the process still ends".to_owned(),
    }
}

/// Waits until no store has made any progress for [`limits::ONCE_STALL`], while something is left
/// to be stored.
async fn stall(vitals: &Vitals) {
    let mut last = (progress::seen(), tokio::time::Instant::now());
    loop {
        tokio::time::sleep(limits::SAFETY_TICK).await;
        let now = (progress::seen(), tokio::time::Instant::now());
        // Comparing a large database takes time without any request.
        let compares = |d: &Arc<DatabaseVitals>| {
            d.replicas.iter().any(|r| r.phase() == ReplicaPhase::Comparing)
                || d.phase() == DatabasePhase::Waiting
        };
        if now.0 != last.0 || vitals.databases().iter().any(compares) {
            last = now;
        } else if now.1 - last.1 >= limits::ONCE_STALL {
            return;
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
