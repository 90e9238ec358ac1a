//! `lsfast doctor [DB] [URL...]`

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio::runtime::Runtime;

use super::report::{OutputError, print_line};
use super::setup::Setup;
use super::{flags, runtime};
use crate::base::finding::{Finding, Verdict};
use crate::config::file::DatabaseConfig;
use crate::config::{Kind, Location};
use crate::io::link::target_of;
use crate::replicate::state::home_of;
use crate::sqlite;
use crate::store::{file, s3};

/// Prove that a database can be followed and a replica be written.
///
/// Each line is one check: ok, warn or fail, and what to do. Objects and files that it makes are
/// removed in the end. The exit code is 0 if nothing failed.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Database files, replica URLs, or both; a database of the config file with its replicas.
    /// Without any, all of the config file
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub what: Vec<String>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs `lsfast doctor`.
pub(super) fn run(setup: &mut Setup, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(args.json);
    let event_loop = runtime::event_loop()?;
    if args.what.is_empty() {
        let config = Arc::clone(setup.need_config("write lsfast doctor DB URL")?);
        for database in &config.databases {
            report.database(&target_of(&database.path.value), &home(database));
            report.replicas(setup, &event_loop, database);
        }
        for directory in &config.directories {
            report.replicas(setup, &event_loop, directory.settings());
        }
    }
    for what in &args.what {
        if what.contains("://") {
            let location = setup.resolve(what)?;
            report.replica(setup, &event_loop, &location);
            continue;
        }
        let path = setup.env().absolute(Path::new(what));
        let configured = match setup.config() {
            Some(config) => config.database(&path, setup.env())?,
            None => None,
        };
        report.database(&target_of(&path), &configured.as_ref().map_or_else(|| home_of(&path), home));
        if let Some(database) = &configured {
            report.replicas(setup, &event_loop, database);
        }
    }
    // A DNS lookup without a response would delay the exit.
    event_loop.shutdown_background();
    report.end()
}

fn home(database: &DatabaseConfig) -> PathBuf {
    database.meta_path.as_ref().map_or_else(|| home_of(&database.path.value), |m| m.value.clone())
}

async fn bucket(setup: &Setup, location: &Location, report: &mut Report) {
    let mut location = location.clone();
    let completed = setup.complete(&mut location);
    let Kind::S3(s3) = &location.kind else { return };
    s3::doctor::examine(&location.url, s3, completed.err(), setup.client(), &mut |f| report.add(f)).await;
}

/// The findings, printed as they are made.
#[derive(Debug, Default)]
struct Report {
    json: bool,
    colour: bool,
    target: String,
    findings: Vec<(String, Finding)>,
    broken: Option<OutputError>,
}

impl Report {
    fn new(json: bool) -> Report {
        Report { json, colour: std::io::stdout().is_terminal() && !json, ..Report::default() }
    }

    fn database(&mut self, path: &Path, home: &Path) {
        self.begin(&path.display().to_string());
        sqlite::doctor::examine(path, home, &mut |f| self.add(f));
    }

    fn replicas(&mut self, setup: &Setup, event_loop: &Runtime, database: &DatabaseConfig) {
        for replica in &database.replicas {
            self.replica(setup, event_loop, &replica.location);
        }
    }

    fn replica(&mut self, setup: &Setup, event_loop: &Runtime, location: &Location) {
        self.begin(&location.url);
        match &location.kind {
            Kind::File(root) => file::doctor::examine(root, &mut |f| self.add(f)),
            Kind::S3(_) => event_loop.block_on(bucket(setup, location, self)),
        }
    }

    fn begin(&mut self, target: &str) {
        target.clone_into(&mut self.target);
        self.print(target);
    }

    /// Prints a finding at once, because some checks take seconds.
    fn add(&mut self, finding: Finding) {
        let word = finding.verdict.as_str();
        let word = match (self.colour, finding.verdict) {
            (false, _) => format!("{word:<4}"),
            (true, Verdict::Ok) => format!("\x1b[32m{word:<4}\x1b[0m"),
            (true, Verdict::Warn) => format!("\x1b[33m{word:<4}\x1b[0m"),
            (true, Verdict::Fail) => format!("\x1b[31m{word:<4}\x1b[0m"),
            (true, Verdict::Skipped) => format!("\x1b[2m{word:<4}\x1b[0m"),
        };
        self.print(&format!("  {word}  {:<14}  {}", finding.name, one_line(&finding.detail)));
        if let Some(advice) = &finding.advice {
            self.print(&format!("        {:<14}  -> {}", "", one_line(advice)));
        }
        self.findings.push((self.target.clone(), finding));
    }

    fn print(&mut self, line: &str) {
        if !self.json && self.broken.is_none() {
            self.broken = print_line(line).err();
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|(_, f)| f.verdict == verdict).count()
    }

    fn end(mut self) -> anyhow::Result<ExitCode> {
        let failed = self.count(Verdict::Fail);
        if self.json {
            let findings: Vec<_> = self
                .findings
                .iter()
                .map(|(target, f)| {
                    json!({ "target": target, "check": f.name, "verdict": f.verdict.as_str(), "detail": f.detail,
                        "advice": f.advice })
                })
                .collect();
            print_line(&json!({ "ok": failed == 0, "findings": findings }).to_string())?;
        } else {
            let line = format!(
                "{} ok, {} to look at, {failed} failed, {} not tried",
                self.count(Verdict::Ok),
                self.count(Verdict::Warn),
                self.count(Verdict::Skipped)
            );
            self.print(&line);
        }
        match self.broken {
            Some(e) => Err(e.into()),
            None => Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
