//! Simulation by seed: histories of an application, lsfast and a store, in which everything fails
//! that is known to fail, by a clock that jumps over all waits.
//!
//! What is real: SQLite in a process of its own, the pipeline from the WAL to the requests, the
//! client of S3 from the call to the bytes of HTTP, restores. What is simulated: the time
//! ([`clock`]), the network and the server ([`bucket`]), and kills, which drop the pipeline where
//! it waits.
//!
//! A seed decides what the application does, what fails, and when. Time nearly stands still while
//! lsfast works, so that the speed of the machine changes little. The threads that lsfast starts
//! for locks and files, and the application where it works at the same time, are real, and how they
//! meet is up to the machine. So a seed mostly repeats a failure, and not always.
//!
//! `LSFAST_SIM_SEEDS=500` runs the seeds 1 to 500, `=37-37` one of them (`scripts/simulate.sh`).
//! `LSFAST_SIM_SECONDS=60` begins none after a minute, `LSFAST_SIM_FIRST=1` none after a failure.
//! `LSFAST_SIM_TELL=1` prints what happens in each.
#![allow(clippy::disallowed_methods, reason = "tests open whatever they like")]

mod accidents;
mod app;
mod bucket;
mod check;
mod claims;
mod clock;
mod harm;
mod manners;
mod place;
mod plan;
mod rival;
mod scenario;
mod standby;
mod steps;
mod threads;
mod world;

use std::io::{BufRead as _, BufReader};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::Level;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use world::{Counts, World};

/// Seeds of a run without `LSFAST_SIM_SEEDS`, and the time after which it begins no further one.
const SEEDS_DEFAULT: RangeInclusive<u64> = 1..=360;
const TIME_DEFAULT: Duration = Duration::from_secs(60);

/// Processes that run histories at the same time.
const JOBS: u64 = 2;

/// `FIRST LAST STEP` for the process that runs histories.
const ROLE: &str = "LSFAST_SIM_WORKER";

/// The role of a process that runs [`World::run_refused`] alone.
const REFUSED: &str = "1 1 1 refused";

/// Begins each line that such a process reports.
const REPORT: &str = "sim: ";

/// A history that takes longer than this, in real time, hangs; and one of those that are run until
/// one fails.
const LONGEST: Duration = Duration::from_secs(240);
const LONGEST_OF_FIRST: Duration = Duration::from_secs(100);

/// Lines of the log at the level of warnings that one start of lsfast may write.
const LINES_MAX: u64 = 60;

/// The seeds to run, and for how long at most.
fn seeds() -> (RangeInclusive<u64>, Duration) {
    let Ok(wanted) = std::env::var("LSFAST_SIM_SEEDS") else { return (SEEDS_DEFAULT, TIME_DEFAULT) };
    let number = |s: &str| s.trim().parse().ok();
    let range = match wanted.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)),
        None => number(&wanted).map(|last| (1, last)),
    };
    let (first, last) = range.unwrap_or_else(|| panic!("LSFAST_SIM_SEEDS={wanted} is not N or A-B"));
    let seconds = std::env::var("LSFAST_SIM_SECONDS").ok().and_then(|s| s.parse().ok());
    (first..=last, seconds.map_or(Duration::MAX, Duration::from_secs))
}

/// I1, I4, I5, I6: whatever fails, each offered state existed, what was stored is not lost, and the
/// application notices nothing.
#[test]
fn histories() {
    let ((seeds, time), begun) = (seeds(), Instant::now());
    let (failures, totals) = (Mutex::new(Vec::new()), Mutex::new([0_u64; 9]));
    std::thread::scope(|threads| {
        for job in 0..JOBS {
            let (seeds, failures, totals) = (seeds.clone(), &failures, &totals);
            threads.spawn(move || {
                let mut next = seeds.start() + job;
                let first = std::env::var_os("LSFAST_SIM_FIRST").is_some();
                let enough = || first && !failures.lock().expect("no panic").is_empty();
                while next <= *seeds.end() && begun.elapsed() < time && !enough() {
                    next = worker_from(next, *seeds.end(), (begun, time), failures, totals);
                }
            });
        }
    });
    let [ran, lives, kills, commits, accidents, requests, restores, lines, seconds] =
        totals.into_inner().expect("no panic");
    let failures: Vec<String> = failures.into_inner().expect("no panic");
    println!(
        "{ran} histories in {:?}: {lives} starts, {kills} kills, {commits} commits, {accidents} accidents, \
         {requests} requests, {restores} restores, {lines} warnings, {seconds} s of simulated time; {} failed",
        begun.elapsed(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(ran > 0 && commits > 0 && restores > 0, "a run in which nothing happened proves nothing");
}

/// I6: a store that can be read and takes no write is tried at growing intervals, with a bounded
/// number of requests and lines.
#[test]
fn a_store_that_refuses_writes_is_not_flooded() {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["worker", "--exact", "--ignored", "--nocapture"]).env(ROLE, REFUSED);
    let done = command.output().expect("a process");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains(&format!("{REPORT}done")), "{said}");
}

/// Runs each second seed from `first` on in one process. Returns the seed to go on with.
fn worker_from(
    first: u64,
    last: u64,
    (begun, time): (Instant, Duration),
    failures: &Mutex<Vec<String>>,
    totals: &Mutex<[u64; 9]>,
) -> u64 {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["worker", "--exact", "--ignored", "--nocapture"]);
    command.env(ROLE, format!("{first} {last} {JOBS}")).stdout(Stdio::piped()).stdin(Stdio::null());
    let mut child = command.spawn().expect("a process");
    let first_only = std::env::var_os("LSFAST_SIM_FIRST").is_some();
    let longest = if first_only { LONGEST_OF_FIRST } else { LONGEST };
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    // A history that hangs is ended from here.
    let (child, seen) = (Mutex::new(child), AtomicU64::new(0));
    let mut at = first;
    std::thread::scope(|threads| {
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        let (child, seen) = (&child, &seen);
        threads.spawn(move || {
            loop {
                let before = seen.load(Ordering::Relaxed);
                match is_over.recv_timeout(longest) {
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
                if seen.load(Ordering::Relaxed) == before {
                    let _ = child.lock().expect("no panic").kill();
                }
            }
        });
        let enough =
            || begun.elapsed() >= time || first_only && !failures.lock().expect("no panic").is_empty();
        let (mut failed, mut over_time) = (false, false);
        for line in lines.map_while(Result::ok) {
            let Some((_, report)) = line.split_once(REPORT) else {
                continue;
            };
            seen.fetch_add(1, Ordering::Relaxed);
            let words: Vec<&str> = report.split(' ').collect();
            match words[0] {
                "done" => {
                    let numbers = words[2..].iter().filter_map(|w| w.parse::<u64>().ok());
                    let mut totals = totals.lock().expect("no panic");
                    totals[0] += 1;
                    totals[1..].iter_mut().zip(numbers).for_each(|(total, n)| *total += n);
                    failed = false;
                    at += JOBS;
                    if enough() {
                        let _ = child.lock().expect("no panic").kill();
                        over_time = true;
                        break;
                    }
                }
                "failed" => {
                    totals.lock().expect("no panic")[0] += 1;
                    let why = report.split_once(": ").map_or("", |(_, why)| why);
                    let text =
                        format!("seed {at}: {why}\n  again: scripts/simulate.sh --from {at} --seeds 1");
                    eprintln!("{text}");
                    failures.lock().expect("no panic").push(text);
                    failed = true;
                    at += JOBS;
                }
                _ => {}
            }
        }
        drop(over);
        let mut child = child.lock().expect("no panic");
        let status = child.wait();
        let _ = std::fs::remove_dir_all(folder_of(child.id()));
        if at <= last && !failed && !over_time {
            let text = format!(
                "seed {at}: it ended or hung ({status:?})\n  again: scripts/simulate.sh --from {at} --seeds 1"
            );
            eprintln!("{text}");
            failures.lock().expect("no panic").push(text);
            at += JOBS;
        }
    });
    at
}

/// Not a test: a process that runs histories.
#[test]
#[ignore = "a process of the simulation"]
fn worker() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let numbers: Vec<u64> = role.split(' ').filter_map(|n| n.parse().ok()).collect();
    let [first, last, step] = numbers[..] else { panic!("{role}") };
    let refused = role == REFUSED;
    let log = Log::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(log.clone())).expect("a log");
    let tells = std::env::var_os("LSFAST_SIM_TELL").is_some();
    clock::start();
    let mut app = Some(app::App::start());
    for seed in (first..=last).step_by(usize::try_from(step).expect("a step")) {
        let dir = folder_of(std::process::id());
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a folder");
        log.0.lock().expect("no panic").clear();
        let begun = clock::real();
        let mut world = World::new(seed, dir.clone(), app.take().unwrap_or_else(app::App::start));
        clock::begin();
        // Retries and names of writers are random.
        fastrand::seed(seed);
        // One seed in 32 is this scenario instead of a random history.
        let refused = refused || seed % 32 == 7;
        let result = if refused { world.run_refused() } else { world.run() };
        let lines = std::mem::take(&mut *log.0.lock().expect("no panic"));
        let result = result.and_then(|()| match lines.len() as u64 {
            n if n > if refused { LINES_MAX } else { LINES_MAX * world.counts.lives } => {
                Err(format!("{n} warnings in {} starts", world.counts.lives))
            }
            n => {
                world.counts.lines = n;
                Ok(())
            }
        });
        if tells || result.is_err() {
            eprintln!("seed {seed}: {:?}", world.plan);
            let story = if tells { &[][..] } else { &world.story };
            story.iter().chain(&lines).for_each(|line| eprintln!("  {line}"));
            if let place::Place::Bucket(bucket) = &world.place {
                bucket.trace().iter().for_each(|line| eprintln!("  {line}"));
            }
            eprintln!("seed {seed}: {:?} real", clock::real() - begun);
        }
        if let Err(why) = &result {
            println!("{REPORT}failed {seed}: {}", why.replace('\n', " "));
            // Whatever is left of the failed history must not disturb the next one.
            std::process::exit(1);
        }
        let c: Counts = world.counts;
        println!(
            "{REPORT}done {seed} {} {} {} {} {} {} {} {}",
            c.lives, c.kills, c.commits, c.accidents, c.requests, c.restores, c.lines, c.seconds
        );
        app = world.into_app();
        let _ = std::fs::remove_dir_all(&dir);
    }
}

/// Not a test: the application of a history.
#[test]
#[ignore = "a process of the simulation"]
fn app() {
    app::main();
}

/// The folder of a process: in memory, where there is such a file system.
fn folder_of(process: u32) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    above.join(format!("lsfast-sim-{process}"))
}

/// Warnings and errors of lsfast.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target().starts_with("lsfast")
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut text);
        if let Ok(mut lines) = self.0.lock() {
            lines.push(text.0);
        }
    }
}

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
