//! Counts that must not grow: instructions, allocations, requests, system calls.
//! `scripts/check-counts.sh` runs it; `docs/performance.md` says how to read it.
//!
//! ```text
//! kernels.rs        inner loops with fixed input
//! callgrind.rs      their instructions
//! allocator.rs      counts allocations of this process
//! pipeline.rs       allocations and requests of the real pipeline, with an application
//! (writer.rs) and a store (server.rs)
//! trace.rs          system calls of the real program, by strace
//! bounds.rs         bounds.md, which everything is compared with
//! ```
#![allow(clippy::disallowed_methods, reason = "it opens no database that this process replicates")]

mod allocator;
mod bounds;
mod callgrind;
mod kernels;
mod pipeline;
mod server;
mod trace;
mod writer;

use std::process::ExitCode;

use bounds::{Bounds, Measured, Verdict};

const PARTS: [&str; 3] = ["kernels", "pipeline", "system-calls"];
const USAGE: &str = "scripts/check-counts.sh [--bless] [kernels] [pipeline] [system-calls]";

fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--kernels-child"] => callgrind::child(),
        ["--writer-child", db] => writer::child(db)?,
        ["--check", ..] => return check(&args[1..]),
        // As by `cargo bench`, where it is built in another way, so that the bounds do not hold.
        _ => println!("nothing was counted: scripts/check-counts.sh does that"),
    }
    Ok(ExitCode::SUCCESS)
}

fn check(args: &[String]) -> anyhow::Result<ExitCode> {
    let bless = args.iter().any(|arg| arg == "--bless");
    let parts: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--bless").collect();
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(part)) {
        anyhow::bail!("{unknown:?} is unknown. {USAGE}");
    }
    let bounds = Bounds::read()?;
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let scratch = tempfile::tempdir()?;
    let (mut all, mut skipped): (Vec<Measured>, Vec<String>) = Default::default();
    if wanted("kernels") {
        match callgrind::measure(scratch.path())? {
            Ok(measured) => all.extend(measured),
            Err(why) => skipped.push(format!("instructions of the kernels: {why}")),
        }
        all.extend(kernels::allocations());
    }
    if wanted("pipeline") {
        all.extend(pipeline::to_directory(scratch.path())?);
        all.extend(pipeline::to_s3(scratch.path())?);
    }
    if wanted("system-calls") {
        match trace::measure(scratch.path())? {
            Ok(measured) => all.extend(measured),
            Err(why) => skipped.push(format!("system calls: {why}")),
        }
    }
    let mut verdict = bounds.judge(&all);
    if bless {
        bounds.bless(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    if parts.is_empty() && skipped.is_empty() {
        verdict
            .failures
            .extend(bounds.unused(&all).map(|name| format!("{name} has a bound, and nothing counts it")));
    }
    Ok(say(&verdict, &skipped))
}

/// The last line has the form of the other steps of `scripts/test.sh`.
fn say(verdict: &Verdict, skipped: &[String]) -> ExitCode {
    println!();
    skipped.iter().for_each(|why| println!("SKIPPED, {why}"));
    verdict.hints.iter().for_each(|hint| println!("hint: {hint}"));
    verdict.failures.iter().for_each(|failure| println!("GREW: {failure}"));
    if !verdict.failures.is_empty() {
        println!("how to look at it, and how to move a bound: docs/performance.md, Guard against slipping");
    }
    println!("counts: {} passed, {} failed", verdict.within, verdict.failures.len());
    if verdict.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
