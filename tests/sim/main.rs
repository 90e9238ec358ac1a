//! Simulation by seed: histories of an application, lsfast and a store, in which everything fails
//! that is known to fail, by a clock that jumps over all waits.
//!
//! What is real: SQLite in a process of its own, the pipeline from the WAL to the requests, the
//! client of S3 from the call to the bytes of HTTP, restores. What is simulated: the time
//! ([`clock`]), the order of threads ([`threads`]), random bytes ([`hooks`]), the network and the
//! server ([`bucket`]), and kills, which drop the pipeline where it waits.
//!
//! A seed decides what the application does, what fails, and when, and which thread or process runs
//! next where more than one could. So a seed always does the same.
//!
//! `LSFAST_SIM_SEEDS=500` runs the seeds 1 to 500, `=37-37` one of them (`scripts/simulate.sh`).
//! `LSFAST_SIM_SECONDS=60` begins none after a minute, `LSFAST_SIM_FIRST=1` none after a failure.
//! `LSFAST_SIM_TELL=1` prints what happens in each, `LSFAST_SIM_TRACE=1` also all lines of the log.
#![allow(clippy::disallowed_methods, reason = "tests open whatever they like")]

mod accidents;
mod answers;
mod app;
mod bucket;
mod check;
mod claims;
mod clock;
mod disk;
mod harm;
mod hooks;
mod manners;
mod memory;
mod place;
mod plan;
mod power;
mod processes;
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
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tracing::Level;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use world::{Counts, World};

/// Seeds of a run without `LSFAST_SIM_SEEDS`, and the time after which it begins no further one.
const SEEDS_DEFAULT: RangeInclusive<u64> = 1..=10_000;
const TIME_DEFAULT: Duration = Duration::from_secs(180);

/// Seeds that are run twice and compared.
const SEEDS_TWICE: RangeInclusive<u64> = 1..=24;

/// Processes that run histories at the same time.
const JOBS: u64 = 2;

/// `FIRST LAST STEP` for the process that runs histories.
const ROLE: &str = "LSFAST_SIM_WORKER";

/// What starts such a process. Its only thread runs the test, so that it can be copied.
const WORKER: [&str; 5] = ["worker", "--exact", "--ignored", "--nocapture", "--test-threads=1"];

/// The role of a process that runs [`World::run_refused`] alone.
const REFUSED: &str = "1 1 1 refused";

/// Begins each line that such a process reports.
const REPORT: &str = "sim: ";

/// A history that takes longer than this, in real time, hangs; and one of those that are run until
/// one fails.
const LONGEST: Duration = Duration::from_secs(120);
const LONGEST_OF_FIRST: Duration = Duration::from_secs(60);

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
    command.args(WORKER).env(ROLE, REFUSED);
    let done = command.output().expect("a process");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains(&format!("{REPORT}done")), "{said}");
}

/// A seed does the same each time: all requests, all lines of the log, and all that is told of the
/// history, each at the same moment.
#[test]
fn a_seed_does_the_same_each_time() {
    let run = || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(WORKER);
        command.env(ROLE, format!("{} {} 1", SEEDS_TWICE.start(), SEEDS_TWICE.end()));
        command.env("LSFAST_SIM_TRACE", "1").stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::null()).spawn().expect("a process")
    };
    // At the same time, so that neither has the machine for itself.
    let reports = [run(), run()].map(|child| {
        let output = child.wait_with_output().expect("its output");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let reports = text.lines().filter_map(|l| l.split_once(REPORT)).map(|(_, report)| report.to_owned());
        reports.collect::<Vec<String>>()
    });
    assert_eq!(reports[0].len() as u64, SEEDS_TWICE.end() - SEEDS_TWICE.start() + 1);
    assert_eq!(reports[0], reports[1]);
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
    command.args(WORKER);
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
        let mut over_time = false;
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
                }
                "failed" => {
                    totals.lock().expect("no panic")[0] += 1;
                    let why = report.split_once(": ").map_or("", |(_, why)| why);
                    let text =
                        format!("seed {at}: {why}\n  again: scripts/simulate.sh --from {at} --seeds 1");
                    eprintln!("{text}");
                    failures.lock().expect("no panic").push(text);
                }
                _ => continue,
            }
            at += JOBS;
            if enough() {
                let _ = child.lock().expect("no panic").kill();
                over_time = true;
                break;
            }
        }
        drop(over);
        let mut child = child.lock().expect("no panic");
        let status = child.wait();
        let _ = std::fs::remove_dir_all(folder_of(child.id()));
        let _ = std::fs::remove_file(disk::notes_of(&folder_of(child.id())));
        if at <= last && !over_time {
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

/// Not a test: a process that starts one history after the other.
#[test]
#[ignore = "a process of the simulation"]
fn worker() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let numbers: Vec<u64> = role.split(' ').filter_map(|n| n.parse().ok()).collect();
    let [first, last, step] = numbers[..] else { panic!("{role}") };
    let log = Log { lines: Arc::default(), all: std::env::var_os("LSFAST_SIM_TRACE").is_some() };
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(log.clone())).expect("a log");
    let dir = folder_of(std::process::id());
    processes::prepare(first);
    for seed in (first..=last).step_by(usize::try_from(step).expect("a step")) {
        let _ = std::fs::remove_dir_all(&dir);
        let _ = std::fs::remove_file(disk::notes_of(&dir));
        std::fs::create_dir_all(&dir).expect("a folder");
        let ended = processes::run(|| {
            // Hash tables of a new thread have the order that the seed gives them.
            let (dir, log, refused) = (dir.clone(), log.clone(), role == REFUSED);
            let done = std::thread::spawn(move || history(seed, dir, &log, refused)).join();
            i32::from(done.is_err())
        });
        if let Err(why) = ended {
            println!("{REPORT}failed {seed}: {why}");
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
    let _ = std::fs::remove_file(disk::notes_of(&dir));
}

/// The seed of the history of this process.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Ends a history that would not end by itself.
pub fn give_up(why: &str) -> ! {
    let seed = SEED.load(Ordering::Relaxed);
    println!("{REPORT}failed {seed}: {why}");
    processes::leave()
}

/// Runs one history, and reports how it ended.
fn history(seed: u64, dir: PathBuf, log: &Log, refused: bool) {
    let begun = clock::real();
    SEED.store(seed, Ordering::Relaxed);
    hooks::start(seed);
    clock::start();
    threads::start(seed);
    app::seed_sqlite(seed);
    // Retries and names of writers are random.
    fastrand::seed(seed);
    let folder = dir.display().to_string();
    let mut world = World::new(seed, dir);
    // Some seeds are these scenarios instead of a random history.
    let refused = refused || seed % 32 == 7;
    let result = match seed % 256 {
        _ if refused => world.run_refused(),
        11 => world.run_large(),
        _ => world.run(),
    };
    let lines = std::mem::take(&mut *log.lines.lock().expect("no panic"));
    world.counts.lines =
        lines.iter().filter(|l| l.starts_with("WARN") || l.starts_with("ERROR")).count() as u64;
    let most = if refused { LINES_MAX } else { LINES_MAX * world.counts.lives };
    let result = result.and_then(|()| match world.counts.lines > most {
        true => Err(format!("{} warnings in {} starts", world.counts.lines, world.counts.lives)),
        false => Ok(()),
    });
    let mut trace = world.story.clone();
    trace.extend(lines);
    if let place::Place::Bucket(bucket) = &world.place {
        trace.extend(bucket.trace());
    }
    trace.iter_mut().for_each(|line| *line = line.replace(&folder, "DIR"));
    if tells() || result.is_err() {
        eprintln!("seed {seed}: {:?}", world.plan);
        let untold = if tells() { &[][..] } else { &trace[..] };
        untold.iter().for_each(|line| eprintln!("  {line}"));
        eprintln!("seed {seed}: {:?} real", clock::real() - begun);
    }
    if let Err(why) = &result {
        println!("{REPORT}failed {seed}: {}", why.replace('\n', " ").replace(&folder, "DIR"));
        return;
    }
    let c: Counts = world.counts;
    println!(
        "{REPORT}done {seed} {} {} {} {} {} {} {} {} {:016x}",
        c.lives,
        c.kills,
        c.commits,
        c.accidents,
        c.requests,
        c.restores,
        c.lines,
        c.seconds,
        xxhash_rust::xxh3::xxh3_64(trace.join("\n").as_bytes())
    );
    // Nothing is dropped: the process ends.
    std::mem::forget(world);
}

/// Whether what happens is printed as it happens.
pub fn tells() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    *TELLS.get_or_init(|| std::env::var_os("LSFAST_SIM_TELL").is_some())
}

/// The folder of a process: in memory, where there is such a file system.
fn folder_of(process: u32) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    above.join(format!("lsfast-sim-{process:010}"))
}

/// Warnings and errors of lsfast, or all lines of its log.
#[derive(Debug, Clone)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    all: bool,
}

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        let most = if self.all { Level::TRACE } else { Level::WARN };
        *metadata.level() <= most && metadata.target().starts_with("lsfast")
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut text);
        if tells() {
            eprintln!("  {}", text.0);
        }
        if let Ok(mut lines) = self.lines.lock() {
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
