//! The status as an HTML page.

use std::fmt::Write as _;

use super::status::{DatabaseStatus, FollowState, ReplicaStatus, Status};

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>lsfast</title><link rel=\"stylesheet\" href=\"/style.css\">";

/// The style sheet of the page.
pub(super) const STYLE: &str =
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em;color:#222;background:#fff}
table{border-collapse:collapse}
th,td{text-align:left;padding:.3em 1em .3em 0;border-bottom:1px solid #ddd;vertical-align:top}
.n{text-align:right}
.bad{color:#b00020}
@media(prefers-color-scheme:dark){
body{color:#ddd;background:#181818}
th,td{border-color:#444}
.bad{color:#ff7b8a}
}
";

/// The page, without scripts.
pub(super) fn html(status: &Status) -> String {
    let mut out = format!("{HEAD}<h1>lsfast {}</h1>", escape(&status.version));
    out.push_str(
        "<table><tr><th>database<th>replica<th>state<th>TXID<th>as of<th class=n>commits behind<th class=n>bytes behind\
         <th class=n>seconds behind<th>next snapshot<th>verified<th>last error",
    );
    for database in &status.databases {
        rows(&mut out, database);
    }
    out.push_str(
        "</table><p><a href=\"/metrics\">metrics</a> <a href=\"/status\">status as JSON</a></html>\n",
    );
    out
}

fn rows(out: &mut String, database: &DatabaseStatus) {
    let size = database.size.map_or_else(String::new, |n| format!("<br>{n} bytes"));
    let wal = database.wal_size.map_or_else(String::new, |n| format!(", WAL {n} bytes"));
    let error = database.error.as_ref().filter(|_| database.state == "failed");
    let error =
        error.map_or_else(String::new, |e| format!("<br><span class=bad>{}</span>", escape(&e.message)));
    let first = format!("{}: {}{size}{wal}{error}", escape(&database.path), escape(&database.state));
    if let Some(f) = &database.follows {
        let _ = write!(out, "<tr><td>{first}");
        follower(out, f);
    } else if database.replicas.is_empty() {
        let _ = write!(out, "<tr><td>{first}");
    }
    for (i, replica) in database.replicas.iter().enumerate() {
        let _ = write!(out, "<tr><td>{}", if i == 0 { first.as_str() } else { "" });
        row(out, replica);
    }
}

fn follower(out: &mut String, f: &FollowState) {
    let (class, text) = (if f.state == "failing" { " class=bad" } else { "" }, |t: &Option<String>| {
        escape(t.as_deref().unwrap_or_default())
    });
    let lag = f.lag_seconds.map_or_else(|| "?".to_owned(), |s| format!("{s:.1}"));
    let error = f.error.as_ref().map_or_else(String::new, |e| escape(&format!("{}: {}", e.time, e.message)));
    let _ = write!(
        out,
        "<td>{}<td{class}>{}<td>{}<td>{}<td class=n><td class=n><td class=n>{lag}<td><td>{error}",
        text(&f.url),
        escape(&f.state),
        text(&f.txid),
        text(&f.time)
    );
}

fn row(out: &mut String, r: &ReplicaStatus) {
    let bad = matches!(r.state.as_str(), "away" | "stopped");
    let since = r.since.as_ref().map_or_else(String::new, |s| format!(" since {}", escape(s)));
    let _ = write!(
        out,
        "<td>{}<td{}>{}{since}",
        escape(r.url.as_deref().unwrap_or_default()),
        if bad { " class=bad" } else { "" },
        escape(&r.state)
    );
    match &r.durable {
        Some(d) => {
            let _ = write!(out, "<td>{}<td>{}", escape(&d.txid), escape(&d.time));
        }
        None => out.push_str("<td><td>"),
    }
    match &r.lag {
        Some(l) => {
            let _ =
                write!(out, "<td class=n>{}<td class=n>{}<td class=n>{:.1}", l.commits, l.bytes, l.seconds);
        }
        None => out.push_str("<td class=n>?<td class=n>?<td class=n>?"),
    }
    let next = r.history.as_ref().and_then(|h| h.next_snapshot.as_deref()).unwrap_or_default();
    let error = r.error.as_ref().map_or_else(String::new, |e| format!("{}: {}", e.time, e.message));
    let _ = write!(out, "<td>{}<td{}<td>{}", escape(next), verified(r), escape(&error));
}

/// The rest of the opening tag and the content of the cell.
fn verified(r: &ReplicaStatus) -> String {
    let Some(v) = &r.verification else { return ">".to_owned() };
    match (&v.fault, &v.error) {
        (Some(fault), _) => format!(" class=bad>{}", escape(fault)),
        (None, Some(error)) => format!(" class=bad>{}", escape(error)),
        (None, None) => format!(">{}", escape(v.sound.as_deref().unwrap_or("not yet"))),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_named_is_text() {
        let database = DatabaseStatus {
            path: "/a/<script>.db".into(),
            home: String::new(),
            state: "failed".into(),
            size: Some(1),
            wal_size: None,
            position: None,
            commits: None,
            error: None,
            wal_damage: None,
            replicas: Vec::new(),
            follows: None,
        };
        let page = html(&Status { version: "1".into(), pid: None, databases: vec![database] });
        assert!(page.contains("/a/&lt;script&gt;.db") && !page.contains("<script"), "{page}");
    }
}
