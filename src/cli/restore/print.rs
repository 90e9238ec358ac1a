//! The output of `lsfast restore` at its end.

use std::path::{Path, PathBuf};

use super::args::{IntegrityCheck, RestoreArgs};
use crate::base::clock::Millis;
use crate::base::{Txid, count};
use crate::cli::report;
use crate::cli::shape::{self, Shape};
use crate::cli::table::table;
use crate::restore::{self, Choice, Files, Object, ProvenBy, Report, Selection, Until, Verdict, object_name};
use crate::view::delta::DeltaPlan;

pub(super) fn nothing_done(json: bool, reason: &str) -> anyhow::Result<()> {
    let line = if json {
        serde_json::json!({ "restored": false, "reason": reason }).to_string()
    } else {
        reason.into()
    };
    Ok(report::print_line(&line)?)
}

/// How an existing database became the wanted state.
#[derive(Debug, Clone)]
pub(super) enum How {
    /// By some of its pages.
    Pages {
        /// The state that it was, except for `own` pages.
        base: Txid,
        own: usize,
        pages: usize,
    },
    /// By a restore of the whole database, for this reason.
    Whole(String),
}

impl How {
    pub(super) fn text(&self, of: u32) -> String {
        match self {
            How::Pages { base, own, pages } => {
                let own = match own {
                    0 => String::new(),
                    n => format!(" with {} that no state of the replica has", count(*n, "page")),
                };
                format!("by {pages} of {}, from TXID {base}{own}", count(of, "page"))
            }
            How::Whole(why) => format!("as a whole: {why}"),
        }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            How::Pages { base, own, pages } => serde_json::json!({
                "how": "pages", "base_txid": base.to_string(), "own_pages": own, "pages": pages,
            }),
            How::Whole(why) => serde_json::json!({ "how": "whole", "reason": why }),
        }
    }
}

pub(super) fn print(
    report: &Report,
    state: Selection,
    url: &str,
    args: &RestoreArgs,
    how: Option<&How>,
) -> anyhow::Result<()> {
    let line = match args.json {
        Some(Shape::Lsfast) => json_line(report, state, url, how),
        Some(Shape::Litestream) => litestream(report, url, args.integrity_check)?,
        None => {
            let how = how.map_or(String::new(), |how| format!(", {}", how.text(report.pages)));
            text_line(report, state, url) + &how
        }
    };
    Ok(report::print_line(&line)?)
}

fn text_line(report: &Report, state: Selection, url: &str) -> String {
    let Report { output, txid, legacy, created, page_size, pages, time, output_bytes, .. } = report;
    let proven = match (report.proof, report.checksum) {
        (ProvenBy::Checksum, Some(sum)) => {
            format!(", equal to the database at that transaction (checksum {sum})")
        }
        _ => String::new(),
    };
    let checked = match &report.integrity {
        Verdict::Skipped => String::new(),
        Verdict::Ok => ", SQLite finds nothing wrong".to_owned(),
        Verdict::NotChecked(why) => format!(", not checked by SQLite ({why})"),
    };
    let which = match legacy {
        None => format!("TXID {txid}"),
        Some((generation, index)) => format!("generation {generation}, index {index},"),
    };
    let newest = match state.until {
        Until::Before(time) if report.is_newest => format!("; nothing was stored between it and {time}"),
        _ => String::new(),
    };
    let rate = *output_bytes as f64 / 1e6 / time.as_secs_f64().max(1e-6);
    format!(
        "restored {} from {url}: {} of {page_size} bytes, {which} of {created}{newest}, in {:.2} s \
         ({rate:.0} MB/s){proven}{checked}",
        output.display(),
        count(*pages, "page"),
        time.as_secs_f64(),
    )
}

/// As `litestream restore -json` prints it.
fn litestream(report: &Report, url: &str, check: IntegrityCheck) -> anyhow::Result<String> {
    #[derive(serde::Serialize)]
    struct Restored<'a> {
        db_path: std::borrow::Cow<'a, str>,
        replica: &'a str,
        txid: String,
        duration_ms: u64,
        integrity_check: &'a str,
    }
    shape::litestream(&Restored {
        db_path: report.output.to_string_lossy(),
        replica: shape::kind(url),
        txid: report.txid.to_string(),
        duration_ms: u64::try_from(report.time.as_millis()).unwrap_or(u64::MAX),
        integrity_check: match (&report.integrity, check) {
            (Verdict::Ok, IntegrityCheck::Full) => "full",
            (Verdict::Ok, _) => "quick",
            (Verdict::Skipped | Verdict::NotChecked(_), _) => "none",
        },
    })
}

fn json_line(report: &Report, state: Selection, url: &str, how: Option<&How>) -> String {
    let integrity = match &report.integrity {
        Verdict::Skipped => "skipped".to_owned(),
        Verdict::Ok => "ok".to_owned(),
        Verdict::NotChecked(why) => format!("not checked: {why}"),
    };
    let mut line = serde_json::json!({
        "restored": true,
        "url": url,
        "output": absolute(&report.output).to_string_lossy(),
        "format": if report.legacy.is_some() { "litestream-0.3" } else { "ltx" },
        "created": report.created.to_rfc3339(),
        "newest": report.is_newest,
        "page_size": report.page_size.get(),
        "pages": report.pages,
        "bytes": report.output_bytes,
        "files": report.files,
        "fetched_bytes": report.fetched_bytes,
        "checksum": report.checksum.map(|sum| sum.to_string()),
        "proof": report.proof.name(),
        "integrity": integrity,
        "seconds": report.time.as_secs_f64(),
    });
    if let Some(how) = how {
        line["into"] = how.json();
    }
    if !report.damaged.is_empty() {
        let files = report.damaged.iter();
        let names = files
            .map(|(id, why)| serde_json::json!({ "name": object_name(&Object::Ltx(*id)), "cause": why }));
        line["damaged"] = names.collect();
    }
    match report.legacy {
        None => line["txid"] = report.txid.to_string().into(),
        Some((generation, index)) => {
            line["generation"] = generation.to_string().into();
            line["index"] = index.get().into();
        }
    }
    if let Until::Before(time) = state.until {
        line["before"] = time.to_rfc3339().into();
    }
    line.to_string()
}

fn state_of(choice: &Choice) -> String {
    match (&choice.files, choice.txid()) {
        (Files::Legacy(plan), _) => format!("generation {}, index {},", plan.generation, plan.index()),
        (Files::Ltx(_), txid) => format!("TXID {}", txid.unwrap_or_default()),
    }
}

pub(super) fn plan_text(choice: &Choice, created: Millis, state: Selection, how: Option<&How>) -> String {
    let rows: Vec<Vec<String>> = choice
        .objects()
        .iter()
        .map(|(object, size)| {
            let level = match object {
                Object::Ltx(id) => id.level.to_string(),
                _ => "0.3".into(),
            };
            vec![object_name(object), level, restore::requests(*size).to_string(), size.to_string()]
        })
        .collect();
    let newest = match state.until {
        Until::Before(time) if choice.is_newest => format!("; nothing was stored between it and {time}"),
        _ => String::new(),
    };
    format!(
        "{}\n{} of {created}{newest}: {}, {} bytes, 1 listing, {} to find it and {}",
        table(&["file", "level", "requests", "bytes"], &[2, 3], &rows),
        state_of(choice),
        count(rows.len(), "file"),
        choice.bytes(),
        count(choice.lookups, "small GET"),
        count(choice.gets(), "GET"),
    ) + &how.map_or(String::new(), |how| format!("\n{}", how.text(0)))
}

/// What `--into` would change.
pub(super) fn delta_text(plan: &DeltaPlan, how: &How) -> String {
    format!(
        "{} would become TXID {} of {} {}: {} bytes to fetch",
        plan.path().display(),
        plan.txid(),
        plan.created(),
        how.text(plan.page_count()),
        plan.bytes(),
    )
}

pub(super) fn delta_json(plan: &DeltaPlan, how: &How, url: &str) -> String {
    serde_json::json!({
        "dry_run": true, "url": url, "output": absolute(plan.path()).to_string_lossy(), "format": "ltx",
        "txid": plan.txid().to_string(), "created": plan.created().to_rfc3339(), "newest": plan.is_newest(),
        "bytes": plan.bytes(), "into": how.json(),
    })
    .to_string()
}

pub(super) fn plan_json(choice: &Choice, created: Millis, url: &str, how: Option<&How>) -> String {
    let files: Vec<_> = choice
        .objects()
        .iter()
        .map(|(object, size)| {
            let mut file = serde_json::json!({
                "name": object_name(object), "bytes": size, "requests": restore::requests(*size),
            });
            if let Object::Ltx(id) = object {
                file["level"] = id.level.get().into();
                file["min_txid"] = id.min.to_string().into();
                file["max_txid"] = id.max.to_string().into();
            }
            file
        })
        .collect();
    let mut plan = serde_json::json!({
        "dry_run": true, "url": url, "created": created.to_rfc3339(), "newest": choice.is_newest,
        "bytes": choice.bytes(), "lookups": choice.lookups, "requests": choice.gets(), "files": files,
    });
    if let Some(how) = how {
        plan["into"] = how.json();
    }
    match &choice.files {
        Files::Ltx(_) => {
            plan["format"] = "ltx".into();
            plan["txid"] = choice.txid().unwrap_or_default().to_string().into();
        }
        Files::Legacy(of) => {
            plan["format"] = "litestream-0.3".into();
            plan["generation"] = of.generation.to_string().into();
            plan["index"] = of.index().get().into();
        }
    }
    plan.to_string()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
