//! What `lsfast log` counts, next to what SQLite's own session extension records at the source.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{lsfast, peers};

/// Rows inserted, updated and deleted of each table that changed.
type Counts = BTreeMap<String, [u64; 3]>;

fn logged(url: &str) -> BTreeMap<String, Counts> {
    let output = lsfast::run(lsfast::command(["log", "--json", "-n", "500", url]));
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
    let steps = String::from_utf8(output.stdout).expect("text");
    let steps = steps.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let counts = |step: &Value| {
        let of = |table: &Value| {
            let rows = ["inserted", "updated", "deleted"].map(|of| table[of].as_u64().expect("a number"));
            (table["table"].as_str().expect("a name").to_owned(), rows)
        };
        let tables = step["tables"].as_array().expect("tables").iter().map(of);
        tables.filter(|(_, rows)| *rows != [0; 3]).collect()
    };
    steps.map(|step| (step["txid"].as_str().expect("a TXID").to_owned(), counts(&step))).collect()
}

#[test]
fn a_session_at_the_source_counts_the_same_rows() {
    let apsw = match peers::apsw() {
        Ok(folder) => folder,
        Err(why) => return println!("skipped: {why}"),
    };
    for seed in 1..=2 {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (db, url) = (dir.path().join("app.db"), format!("file://{}", dir.path().join("r").display()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/view/session.py");
        let mut app = Command::new("python3")
            .env("PYTHONPATH", &apsw)
            .args([script.as_os_str(), db.as_os_str()])
            .arg(seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut input = app.stdin.take().expect("its input");
        let mut output = BufReader::new(app.stdout.take().expect("its output")).lines();
        let mut recorded = || -> Counts {
            let line = output.next().expect("a line").expect("a line");
            serde_json::from_str(&line).expect("JSON")
        };
        recorded();
        let store = || {
            let mut once = lsfast::command(["replicate", "--once"]);
            once.arg(&db).arg(&url);
            let done = lsfast::run(once);
            assert!(done.status.success(), "{}", lsfast::stderr(&done));
        };
        store();
        let mut expected = Vec::new();
        for _ in 0..8 {
            writeln!(input, "next").expect("the script reads");
            expected.push(recorded());
            store();
        }
        drop(input);
        assert!(app.wait().expect("the script ends").success());
        let changed: Vec<Counts> = logged(&url).into_values().filter(|counts| !counts.is_empty()).collect();
        expected.retain(|counts| !counts.is_empty());
        // The first step is the state that the sessions begin with.
        assert!(expected.len() > 4);
        assert_eq!(changed[changed.len() - expected.len()..], expected[..], "seed {seed}");
    }
}
