//! The page of one database: its numbers, its replicas, and how each restore point is restored.

use std::fmt::Write as _;

use super::health::{self, Health, bytes};
use super::markup::{escape, quoted, time};
use super::page::{begin, class, end, lag_curve, mark, wal_curve};
use super::samples::Samples;
use super::status::{DatabaseStatus, ReplicaStatus, Status};
use crate::base::clock::Millis;
use crate::base::count;

/// The page of the database at `path`; `None` if the status does not show it.
pub(super) fn html(status: &Status, path: &str, samples: &Samples, now: Millis) -> Option<String> {
    let database = status.databases.iter().find(|d| d.path == path)?;
    let lines = health::of_database(database, now);
    let worst = lines.iter().map(|l| l.health).max().unwrap_or(Health::Well);
    let heading = format!("<a href=/>lsfast</a> {}", escape(path));
    let mut out = begin(&format!("{}{path}", mark(worst)), status, &heading);
    out.push_str("<div class=cards><section class=card><h3>Database</h3><dl>");
    facts(&mut out, database);
    out.push_str("</dl></section>");
    let of = samples.of(path);
    for (title, curve) in [("Lag", lag_curve(&of)), ("WAL size", wal_curve(&of))] {
        let none = "<p class=soft>None in the last minutes, or no samples yet.</p>";
        let curve = if curve.is_empty() { none } else { &curve };
        let _ = write!(out, "<section class=card><h3>{title}</h3>{curve}</section>");
    }
    out.push_str("</div>");
    for (line, replica) in lines.iter().zip(&database.replicas) {
        let _ = write!(
            out,
            "<section data-key=\"{url}\"><h2><span class=\"dot {}\">{url}</span></h2>",
            class(line.health),
            url = escape(&line.replica)
        );
        self::replica(&mut out, line, replica);
        out.push_str("</section>");
    }
    if let (Some(follows), Some(line)) = (&database.follows, lines.first()) {
        let _ = write!(
            out,
            "<h2><span class=\"dot {}\">{}</span></h2>",
            class(line.health),
            escape(&line.replica)
        );
        out.push_str("<div class=cards><section class=card><h3>Standby</h3><dl>");
        fact(&mut out, "state", escape(&line.state));
        fact(&mut out, "applied", follows.txid.clone().map_or_else(|| "nothing yet".into(), |t| escape(&t)));
        fact(&mut out, "of", follows.time.as_deref().map_or_else(|| "-".into(), time));
        fact(&mut out, "newest", escape(&line.behind));
        out.push_str("</dl></section></div>");
    }
    end(&mut out);
    Some(out)
}

#[expect(clippy::needless_pass_by_value, reason = "so that calls are short")]
fn fact(out: &mut String, name: &str, value: String) {
    let _ = write!(out, "<dt>{name}<dd>{value}");
}

fn facts(out: &mut String, database: &DatabaseStatus) {
    fact(out, "state", escape(&database.state));
    let size = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), bytes);
    fact(out, "file", size(database.size));
    fact(out, "WAL", size(database.wal_size));
    if let Some(commits) = database.commits {
        fact(out, "commits", format!("{commits} since the start"));
    }
    if let Some(damage) = &database.wal_damage {
        let words = format!(
            "<span class=fail>damaged since {}: {}</span>",
            time(&damage.time),
            escape(&damage.message)
        );
        fact(out, "frames", words);
    }
    if let Some(error) = &database.error {
        fact(out, "last error", format!("{}: {}", time(&error.time), escape(&error.message)));
    }
}

fn replica(out: &mut String, line: &health::Line, r: &ReplicaStatus) {
    out.push_str("<div class=cards><section class=card><h3>Uploads</h3><dl>");
    fact(out, "state", format!("<span class={}>{}</span>", class(line.health), escape(&line.state)));
    fact(out, "behind", escape(&line.behind));
    match &r.durable {
        Some(d) => {
            fact(out, "stored", format!("TXID <span class=mono>{}</span>", escape(&d.txid)));
            fact(out, "state of", time(&d.time));
        }
        None => fact(out, "stored", "nothing yet".into()),
    }
    fact(out, "batches", format!("{}, {} since the start", r.batches, bytes(r.batch_bytes)));
    if let Some(latency) = &r.latency {
        let bound = |ms: Option<u64>| ms.map_or_else(|| "more than 60 s".into(), |ms| format!("{ms} ms"));
        let words = format!("half within {}, 99 % within {}", bound(latency.p50_ms), bound(latency.p99_ms));
        fact(out, "latency", words);
    }
    if let Some(error) = &r.error {
        let words =
            format!("{}: {} ({} since the start)", time(&error.time), escape(&error.message), r.errors);
        fact(out, "last error", words);
    }
    out.push_str("</dl></section><section class=card><h3>Last proof</h3><dl>");
    proof(out, line, r);
    out.push_str("</dl></section><section class=card><h3>History</h3><dl>");
    history(out, r);
    out.push_str("</dl></section></div>");
    points(out, r);
}

fn proof(out: &mut String, line: &health::Line, r: &ReplicaStatus) {
    let Some(v) = &r.verification else {
        return fact(out, "result", "none: <code>verify-interval</code> is not set".into());
    };
    fact(out, "result", escape(&line.proof));
    if let Some(last) = &v.last {
        fact(out, "begun", time(last));
    }
    if let Some(fault) = &v.fault {
        fact(out, "faults", format!("<span class=fail>{}: {}</span>", v.faults, escape(fault)));
    }
    if let Some(error) = &v.error {
        fact(out, "last try", format!("<span class=late>{}</span>", escape(error)));
    }
    match (&v.running, &v.next) {
        (Some(read), _) => {
            let of: u64 = r.history.iter().flat_map(|h| &h.levels).map(|l| l.bytes).sum();
            let bar = format!("<progress max={} value={read}></progress>", of.max(*read).max(1));
            fact(out, "under way", format!("{} of {} read{bar}", bytes(*read), bytes(of.max(*read))));
        }
        (None, Some(next)) => fact(out, "next", time(next)),
        (None, None) => {}
    }
}

fn history(out: &mut String, r: &ReplicaStatus) {
    let Some(h) = &r.history else { return fact(out, "state", "not known yet".into()) };
    fact(out, "newest image", h.snapshot_time.as_deref().map_or_else(|| "none".into(), time));
    if let Some(next) = &h.next_snapshot {
        fact(out, "next image", time(next));
    }
    for level in &h.levels {
        let files = format!("{}, {}", count(level.objects, "file"), bytes(level.bytes));
        fact(out, &format!("level {}", level.level), files);
    }
    if let Some(error) = &h.error {
        fact(out, "failing", format!("<span class=fail>{}</span>", escape(error)));
    }
    if h.deletions_refused {
        fact(out, "deletions", "<span class=late>refused by the store</span>".into());
    }
}

fn points(out: &mut String, r: &ReplicaStatus) {
    let (Some(url), Some(h)) = (&r.url, &r.history) else { return };
    let _ = write!(
        out,
        "<h3>Restore points: {} of them, the newest first; <code>lsfast points {}</code> lists all</h3>\
         <table class=points><thead><tr><th class=c-time>state of<th>command<th class=c-copy></thead><tbody data-list>",
        h.points.len(),
        escape(&quoted(url))
    );
    for (txid, at) in &h.points {
        let command = format!("lsfast restore -o restored.db --txid {txid} {}", quoted(url));
        let _ = write!(
            out,
            "<tr data-key=\"{txid}\"><td data-of=\"state of\"><div>{}</div><td class=whole data-of=command><code>{command}</code>\
             <td class=copy><button type=button data-copy=\"{command}\">Copy</button>",
            time(at),
            command = escape(&command)
        );
    }
    out.push_str("</tbody></table>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_restore_point_has_its_command() {
        let status = json!({"version": "1", "pid": 1, "databases": [{"path": "/srv/a b.db", "home": "", "state": "following",
            "size": 1, "wal_size": 1, "position": null, "commits": 5, "error": null, "replicas": [{
                "url": "s3://bucket/a b", "state": "following", "since": null, "durable": null, "lag": null, "batches": 0,
                "batch_bytes": 0, "errors": 0, "error": null, "latency": null, "history": {"snapshot_txid": null,
                    "snapshot_time": null, "next_snapshot": null, "error": null, "deletions_refused": false, "levels": []}}]}]});
        let mut status: Status = serde_json::from_value(status).unwrap();
        let history = status.databases[0].replicas[0].history.as_mut().unwrap();
        history.points = vec![("0000000000000012".into(), "2026-11-22T00:00:00Z".into())];
        let page = html(&status, "/srv/a b.db", &Samples::default(), Millis::now()).unwrap();
        let command = "lsfast restore -o restored.db --txid 0000000000000012 's3://bucket/a b'";
        assert!(page.contains(&format!("<code>{command}</code>")), "{page}");
        assert!(
            page.contains("verify-interval")
                && html(&status, "/other", &Samples::default(), Millis::now()).is_none()
        );
    }
}
