//! The status as a table: a line for each replica, the worst first, and a summary.

use crate::base::clock::Millis;
use crate::base::{limits, untrusted};
use crate::cli::table::table;
use crate::observe::{Health, Status, summary, worst_first};

/// The worst of all databases.
pub(super) fn health(status: &Status) -> Health {
    let worst = worst_first(status, Millis::now()).first().map(|line| line.health);
    worst.unwrap_or(Health::Well)
}

/// The table and its summary.
pub(super) fn text(status: &Status) -> String {
    at(status, Millis::now())
}

fn at(status: &Status, now: Millis) -> String {
    if status.databases.is_empty() {
        return "no databases".to_owned();
    }
    let lines = worst_first(status, now);
    let summary = summary(status.databases.len(), &lines);
    let causes = causes(&lines);
    let cells = |l: crate::observe::Line| vec![l.database, l.replica, l.state, l.behind, l.stored, l.proof];
    let rows: Vec<Vec<String>> = lines.into_iter().map(cells).collect();
    let head = ["database", "replica", "state", "behind", "stored", "last proof"];
    format!("{}\n\n{summary}{causes}", table(&head, &[], &rows))
}

/// Most messages below the table. Of more, the last line says how to see the others.
const CAUSES: usize = 5;

/// The whole messages of which the table has only the beginning, each once.
fn causes(lines: &[crate::observe::Line]) -> String {
    let mut told: Vec<(&str, &str)> = Vec::new();
    for line in lines {
        for message in &line.cut {
            if !told.iter().any(|(_, other)| other == message) {
                told.push((&line.database, message));
            }
        }
    }
    let mut text = String::new();
    for (database, message) in told.iter().take(CAUSES) {
        let message = untrusted::line(message, limits::MESSAGE_CHARS);
        text += &format!("\n\n{}: {message}", untrusted::escape(database));
    }
    if told.len() > CAUSES {
        text += "\n\nlsfast status -v shows the other causes";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A minute after midnight, the time of the stored states below.
    const NOW: Millis = Millis(1_795_305_600_000 + 60_000);

    #[expect(clippy::needless_pass_by_value, reason = "so that calls are short")]
    fn replica(state: &str, lag: serde_json::Value, more: serde_json::Value) -> serde_json::Value {
        let mut replica = json!({
            "url": format!("s3://bucket/{state}"), "state": state, "since": null,
            "durable": {"txid": "1", "time": "2026-11-22T00:00:00Z", "position": {"salts": "", "frame": 0, "offset": 0, "pages": 1}},
            "lag": lag, "batches": 0, "batch_bytes": 0, "errors": 0, "error": null, "latency": null,
            "history": null, "verification": null,
        });
        for (name, value) in more.as_object().unwrap() {
            replica[name] = value.clone();
        }
        replica
    }

    fn status(replicas: &[serde_json::Value]) -> Status {
        let database = |(n, r): (usize, &serde_json::Value)| {
            json!({"path": format!("/{n}.db"), "home": "", "state": "following", "size": 1, "wal_size": 1, "position": null,
                   "commits": 1, "error": null, "replicas": [r]})
        };
        let databases: Vec<_> = replicas.iter().enumerate().map(database).collect();
        serde_json::from_value(json!({"version": "1", "pid": 1, "databases": databases})).unwrap()
    }

    #[test]
    fn the_worst_is_first_and_counts() {
        let well = replica("following", json!({"commits": 0, "bytes": 0, "seconds": 0.0}), json!({}));
        let behind = replica("following", json!({"commits": 2, "bytes": 8192, "seconds": 90.5}), json!({}));
        let failed = json!({"time": "2026-11-22T00:00:00Z", "message": "no such bucket"});
        let away = replica(
            "away",
            json!({"commits": 1, "bytes": 100, "seconds": 4.0}),
            json!({"since": "2026-11-21T23:01:00Z", "error": failed}),
        );
        let all = status(&[well.clone(), behind.clone(), away]);
        let text = at(&all, NOW);
        let lines: Vec<&str> = text.lines().collect();
        let first = ["/2.db", "uploads fail for 60 min: no such bucket", "1 commit, 100 B, 4 s", "60 s ago"];
        assert!(first.iter().all(|word| lines[1].contains(word)), "{text}");
        assert!(
            lines[2].contains("2 commits, 8.0 KiB, 90.5 s") || lines[2].contains("2 commits, 8.0 KiB, 90 s"),
            "{text}"
        );
        assert!(lines[3].contains("/0.db") && lines[3].contains("in sync"), "{text}");
        assert_eq!(
            *lines.last().unwrap(),
            "3 databases: 1 failing, 1 to look at, 1 well; at most 90 s behind"
        );
        assert_eq!([health(&all), health(&status(&[well, behind]))], [Health::Failing, Health::Late]);
    }

    /// The table ended a message after 80 characters, and nothing said how it went on.
    #[test]
    fn a_long_cause_is_told_in_full() {
        let long = format!("no such bucket{} make it", " and so on".repeat(10));
        let error = |message: &str| json!({"error": {"time": "2026-11-22T00:00:00Z", "message": message}});
        let away = |message: &str| replica("away", json!(null), error(message));
        let text = at(&status(&[away(&long), away("no key"), away(&long)]), NOW);
        assert_eq!(text.matches("make it").count(), 1, "{text}");
        assert_eq!(text.matches("no such bucket and so on").count(), 3, "{text}");
        assert!(text.ends_with(&format!("\n\n/0.db: {long}")), "{text}");
        let many: Vec<_> = (0..9).map(|n| away(&format!("{n} {long}"))).collect();
        let text = at(&status(&many), NOW);
        assert_eq!(text.matches("make it").count(), CAUSES, "{text}");
        assert!(text.ends_with("status -v shows the other causes"), "{text}");
    }

    #[test]
    fn proofs_count() {
        let lag = json!({"commits": 0, "bytes": 0, "seconds": 0.0});
        let with = |verification: serde_json::Value| {
            status(&[replica("following", lag.clone(), json!({"verification": verification}))])
        };
        let mut v = json!({"last": "2026-11-21T23:00:00Z", "sound": null, "fault": null, "faults": 0, "error": null,
                           "next": null, "bytes": 1});
        assert!(at(&with(v.clone()), NOW).contains("sound, 61 min ago"));
        v["fault"] = json!("a hole");
        let text = at(&with(v.clone()), NOW);
        assert!(text.contains("NOT SOUND, 61 min ago: a hole"), "{text}");
        assert_eq!(health(&with(v)), Health::Failing);
    }
}
