//! Guard stress: real programs that treat one database badly, lsfast beside them, killed at random;
//! at the end the restored database equals the source.
//!
//! `LSFAST_STRESS_SEEDS=500` runs the seeds 1 to 500, `=37-37` one of them (`scripts/stress.sh`),
//! and `LSFAST_STRESS_JOBS` so many at once. A seed decides what each process does; how they meet
//! is up to the machine.

mod child;
mod compare;
mod plan;
mod process;
mod replica;
mod run;

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use plan::Plan;

/// Seeds of a run that nobody asked for more.
const SEEDS_DEFAULT: RangeInclusive<u64> = 1..=20;

const SEEDS_ALONE_DEFAULT: RangeInclusive<u64> = 1..=5;

/// Runs at once. Two of them on two cores starve each other a little, which is wanted.
const JOBS_DEFAULT: usize = 2;

fn seeds() -> Option<RangeInclusive<u64>> {
    let wanted = std::env::var("LSFAST_STRESS_SEEDS").ok()?;
    let number = |s: &str| s.trim().parse().ok();
    let range = match wanted.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)),
        None => number(&wanted).map(|last| (1, last)),
    };
    let (first, last) = range.unwrap_or_else(|| panic!("LSFAST_STRESS_SEEDS={wanted} is not N or A-B"));
    Some(first..=last)
}

/// Runs one plan for each seed and fails if any of them did.
fn run_all(seeds: RangeInclusive<u64>, plan: fn(u64) -> Plan) -> run::Totals {
    let jobs = std::env::var("LSFAST_STRESS_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(JOBS_DEFAULT);
    let next = AtomicU64::new(*seeds.start());
    let failures = Mutex::new(Vec::new());
    let totals = Mutex::new(run::Totals::default());
    let one_after_the_other = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return;
            }
            match run::run(&plan(seed)) {
                Ok(one) => {
                    eprintln!("seed {seed}: {one}");
                    totals.lock().expect("no panic").add(&one);
                }
                Err(e) => {
                    eprintln!("seed {seed}: FAILED: {e:#}");
                    failures.lock().expect("no panic").push(format!("seed {seed}: {e:#}"));
                }
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..jobs.max(1) {
            threads.spawn(one_after_the_other);
        }
    });
    let totals = totals.into_inner().expect("no panic");
    eprintln!("seeds {} to {}: {totals}", seeds.start(), seeds.end());
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n"));
    totals
}

#[test]
fn guard() {
    // I2, I3: the restored database equals the source, whatever checkpoints and kills come.
    let totals = run_all(seeds().unwrap_or(SEEDS_DEFAULT), Plan::new);
    // A run in which nothing happened proves nothing.
    assert!(totals.committed > 0, "{totals}");
    if seeds().is_none() {
        assert!(totals.kills > 0 && totals.checkpoints > 0 && totals.vacuums > 0, "{totals}");
    }
}

/// With `busy_timeout` 0, no other writer and no other checkpointer, each SQLITE_BUSY would come
/// from lsfast.
#[test]
fn a_lone_writer_never_finds_its_database_busy() {
    // I6: no commit fails or waits.
    let totals = run_all(seeds().unwrap_or(SEEDS_ALONE_DEFAULT), Plan::alone);
    assert!(totals.committed > 0, "{totals}");
}

/// Not a test: what the processes of a run do.
#[test]
#[ignore = "a process of the stress test"]
fn child() {
    child::main();
}
