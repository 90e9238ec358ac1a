//! The status as an HTML page: all replicas, the worst first. `detail` has the page of one
//! database.

use std::fmt::Write as _;

use super::health::{self, Health, Line, bytes, seconds};
use super::markup::{curve, encode, escape};
use super::samples::{Sample, Samples};
use super::status::{DatabaseStatus, Progress, Status};
use crate::base;
use crate::base::clock::Millis;

/// The style sheet of the pages.
pub(super) const STYLE: &str = include_str!("page.css");

/// Keeps a page current. Without it a page shows the state of when it was loaded.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// The page of all databases.
pub(super) fn html(status: &Status, samples: &Samples, now: Millis) -> String {
    let mut rows: Vec<(Line, &DatabaseStatus, usize)> = Vec::new();
    for database in &status.databases {
        let lines = health::of_database(database, now);
        rows.extend(lines.into_iter().enumerate().map(|(i, line)| (line, database, i)));
    }
    rows.sort_by(|(a, ..), (b, ..)| b.health.cmp(&a.health).then(b.lag.total_cmp(&a.lag)));
    let worst = rows.first().map_or(Health::Well, |(line, ..)| line.health);
    let mut out = begin(&format!("{}lsfast", mark(worst)), status, "lsfast");
    let lines: Vec<Line> = rows.iter().map(|(line, ..)| line.clone()).collect();
    tiles(&mut out, status, &lines);
    if status.databases.is_empty() {
        out.push_str("<p>No database is replicated yet.");
    } else {
        out.push_str(
            "<table><thead><tr><th class=c-db>database<th class=c-state>state<th>behind<th>stored<th>WAL<th>last proof\
             </thead><tbody data-list>",
        );
        for (line, database, i) in &rows {
            row(&mut out, line, database, *i, samples);
        }
        out.push_str("</tbody></table>");
    }
    end(&mut out);
    out
}

/// A page up to its live part, whose heading is HTML.
pub(super) fn begin(title: &str, status: &Status, heading: &str) -> String {
    let find = if heading == "lsfast" {
        "<label class=find hidden><input id=find type=search placeholder=\"find a database\" aria-label=\"find a database\"></label>"
    } else {
        ""
    };
    let process = status.pid.map_or_else(String::new, |pid| format!(", process {pid}"));
    let host = crate::io::host::name().map_or_else(String::new, |name| format!(" on {}", escape(&name)));
    let mut out = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\"><title>{}</title>\
         <link rel=stylesheet href=/style.css><script src=/page.js defer></script></head><body>\
         <header><h1>{heading}</h1><span class=soft>{}{host}{process}</span>{find}</header>\
         <main><p id=stale class=stale role=status hidden></p><div id=live>",
        escape(title),
        escape(&status.version)
    );
    if let Some(Progress { done, of }) = status.reading {
        let _ = write!(
            out,
            "<div class=work>Reading databases to store or compare them: {} of {}\
             <progress max={of} value={done}></progress></div>",
            bytes(done),
            bytes(of)
        );
    }
    out
}

/// The end of a page.
pub(super) fn end(out: &mut String) {
    out.push_str(
        "</div></main><footer><a href=/>all databases</a><a href=/metrics>metrics</a><a href=/status>status as JSON</a>\
         <a href=/readyz>readiness</a></footer></body></html>\n",
    );
}

/// A sign for the title of the page, which shows in the list of tabs.
pub(super) fn mark(health: Health) -> &'static str {
    match health {
        Health::Well => "",
        Health::Late => "(!) ",
        Health::Failing => "(FAILING) ",
    }
}

/// The class of a state.
pub(super) fn class(health: Health) -> &'static str {
    match health {
        Health::Well => "well",
        Health::Late => "late",
        Health::Failing => "fail",
    }
}

fn tiles(out: &mut String, status: &Status, lines: &[Line]) {
    let count = |health| lines.iter().filter(|l| l.health == health).count();
    out.push_str("<ul class=tiles>");
    for (health, words) in
        [(Health::Failing, "failing"), (Health::Late, "to look at"), (Health::Well, "well")]
    {
        let n = count(health);
        let class = if n == 0 { "none" } else { class(health) };
        let _ = write!(out, "<li class={class}><b>{n}</b>{words}");
    }
    let behind = lines.iter().map(|l| l.lag).fold(0.0, f64::max);
    let size: u64 = status.databases.iter().filter_map(|d| d.size).sum();
    let wal: u64 = status.databases.iter().filter_map(|d| d.wal_size).sum();
    let behind = if behind < 0.05 { "0 s".to_owned() } else { seconds(behind) };
    let _ = write!(
        out,
        "<li><b>{behind}</b>greatest lag<li><b>{}</b>in {}<li><b>{}</b>in WAL files</ul>",
        bytes(size),
        base::count(status.databases.len(), "database"),
        bytes(wal)
    );
}

fn row(out: &mut String, line: &Line, database: &DatabaseStatus, i: usize, samples: &Samples) {
    let (class, path) = (class(line.health), escape(&line.database));
    let of = if i == 0 { samples.of(&line.database) } else { Vec::new() };
    let wal = database.wal_size.map_or_else(|| "-".to_owned(), bytes);
    let size =
        database.size.map_or_else(String::new, |n| format!("<span class=soft>file {}</span>", bytes(n)));
    // The whole message, which the cell cuts.
    let error = match &database.follows {
        Some(follows) => follows.error.as_ref(),
        None => database.replicas.get(i).and_then(|r| r.error.as_ref()),
    };
    let error = error.filter(|_| line.health != Health::Well);
    let error = error.map_or_else(String::new, |e| format!(" title=\"{}\"", escape(&e.message)));
    let _ = write!(
        out,
        "<tr data-key=\"{path} {replica}\" class={class}><td class=whole data-of=database><div><a href=\"/db?path={}\">{path}</a>\
         <span class=\"soft mono\">{replica}</span></div><td class=whole data-of=state><div class=\"dot {class}\"{error}>{}</div>\
         <td class=num data-of=behind><div>{}{}</div><td class=num data-of=stored><div>{}</div>\
         <td class=num data-of=WAL><div>{wal}{size}{}</div><td data-of=\"last proof\"><div>{}</div>",
        encode(&line.database),
        escape(&line.state),
        escape(&line.behind),
        lag_curve(&of),
        escape(&line.stored),
        wal_curve(&of),
        escape(&line.proof),
        replica = escape(&line.replica),
    );
}

/// How long the samples reach back, in words.
fn reach(samples: &[Sample]) -> String {
    let (first, last) = (samples.first().map_or(0.0, |s| s.at), samples.last().map_or(0.0, |s| s.at));
    seconds(f64::from(last - first))
}

/// The curve of the lag.
pub(super) fn lag_curve(samples: &[Sample]) -> String {
    let most = samples.iter().map(|s| s.lag).fold(0.0, f32::max);
    let title = format!("lag of the last {}, at most {}", reach(samples), seconds(f64::from(most)));
    curve(samples, |s| s.lag, 1.0, &title)
}

/// The curve of the size of the WAL.
pub(super) fn wal_curve(samples: &[Sample]) -> String {
    let most = samples.iter().map(|s| s.wal).fold(0.0, f32::max);
    let title = format!("size of the WAL in the last {}, at most {}", reach(samples), bytes(most as u64));
    curve(samples, |s| s.wal, 1.0, &title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(databases: usize) -> Status {
        let database = |n: usize| {
            let state = if n % 100 == 99 { "away" } else { "following" };
            json!({"path": format!("/srv/tenants/customer-{n:04}.db"), "home": "", "state": "following", "size": 1_000_000,
                "wal_size": 4_124_152, "position": null, "commits": 5, "error": null, "replicas": [{
                    "url": format!("s3://bucket/tenants/customer-{n:04}.db"), "state": state, "since": null,
                    "durable": {"txid": "1", "time": "2026-11-22T00:00:00Z",
                        "position": {"salts": "", "frame": 0, "offset": 0, "pages": 1}},
                    "lag": {"commits": 0, "bytes": 0, "seconds": 0.0}, "batches": 0, "batch_bytes": 0, "errors": 0,
                    "error": null, "latency": null, "history": null, "verification": null}]})
        };
        let databases: Vec<_> = (0..databases).map(database).collect();
        serde_json::from_value(json!({"version": "1", "pid": 1, "databases": databases})).unwrap()
    }

    #[test]
    fn what_others_named_is_text() {
        let mut status = status(1);
        status.databases[0].path = "/a/<script>.db".into();
        let page = html(&status, &Samples::default(), Millis::now());
        assert!(page.contains("/a/&lt;script&gt;.db") && !page.contains("<script>"), "{page}");
    }

    /// A thousand databases with curves, some of them not flat, are a page of less than 2 MB, and
    /// the worst come first.
    #[test]
    fn a_thousand_databases_fit_in_a_page() {
        let status = status(1_000);
        let samples = Samples::default();
        let mut busy = status.clone();
        for n in 0..90u16 {
            for database in busy.databases.iter_mut().step_by(4) {
                database.wal_size = Some(u64::from(n % 7) * 1_000_000);
            }
            samples.take_at(&busy, true, f32::from(n) * 15.0);
        }
        let page = html(&status, &samples, Millis::now());
        assert!(page.len() < 2_000_000, "{}", page.len());
        let at = |n: usize| page.find(&format!("customer-{n:04}.db")).unwrap();
        assert!(at(99) < at(0) && at(999) < at(0));
        assert!(page.starts_with("<!doctype html>") && page.contains("<title>(FAILING) lsfast</title>"));
    }
}
