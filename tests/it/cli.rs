//! The command line as a user meets it.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::place::Place;
use crate::support::process::Process;
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{canned, lsfast};

fn start(db: &Path, more: &[&str]) -> Process {
    let mut command = lsfast::command([OsStr::new("replicate"), db.as_os_str()]);
    command.args(more);
    Process::start("lsfast replicate", command)
}

fn application(db: &Path) {
    Workload::new(3).run(&sqlite::create(db, 4096), 20);
}

#[test]
fn a_database_that_does_not_exist_yet_is_waited_for() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("app.db");
    let place = Place::Dir(dir.path().to_path_buf());
    let process = start(&db, &[&place.url("replica")]);
    let line = process.wait_for_line("waiting for the database");
    assert!(line.contains("app.db") && line.contains("level=info"), "{line}");
    application(&db);
    place.wait_for_txid("replica", 0, 1);
    process.stop();
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &place.url("replica"), &[], &[]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&db));
}

#[test]
fn without_a_url_the_copy_goes_beside_the_database() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("app.db");
    application(&db);
    let process = start(&db, &["--log-level", "error"]);
    let place = Place::Dir(dir.path().to_path_buf());
    place.wait_for_txid("app.db-replica", 0, 1);
    let output = process.stop();
    let first = output.lines().next().expect("a line");
    assert!(first.contains(&format!("{}-replica", db.display())), "{output}");
}

#[test]
fn a_rollback_journal_is_switched_to_wal_and_the_log_says_so() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("app.db");
    let connection = sqlite::create(&db, 4096);
    connection.pragma_update(None, "journal_mode", "DELETE").expect("a pragma");
    drop(connection);
    let place = Place::Dir(dir.path().to_path_buf());
    let process = start(&db, &[&place.url("replica")]);
    place.wait_for_txid("replica", 0, 1);
    let output = process.stop();
    assert!(output.contains("switched the database to WAL mode"), "{output}");
    let mode: String =
        sqlite::open(&db).query_row("PRAGMA journal_mode", [], |r| r.get(0)).expect("a journal mode");
    assert_eq!(mode, "wal");
}

#[test]
fn each_line_of_the_log_is_logfmt_or_json() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("app.db");
    application(&db);
    let place = Place::Dir(dir.path().to_path_buf());
    for (format, prefix) in [("text", "one"), ("json", "two")] {
        let process = start(&db, &[&place.url(prefix), "--log-format", format, "--log-level", "debug"]);
        place.wait_for_txid(prefix, 0, 1);
        let output = process.stop();
        assert!(output.lines().count() > 1, "{output}");
        for line in output.lines() {
            if format == "text" {
                assert!(
                    line.starts_with("time=2") && line.contains(" level=") && line.contains(" msg="),
                    "{line}"
                );
            } else {
                let event: serde_json::Value = serde_json::from_str(line).expect(line);
                for key in ["time", "level", "msg"] {
                    assert!(event[key].is_string(), "{key} in {line}");
                }
            }
        }
    }
}

/// The store takes connections and never answers, so that the final sync hangs.
#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("app.db");
    application(&db);
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!(
        "s3://bucket/app?endpoint=http://{}&region=us-east-1&force-path-style=true",
        deaf.local_addr().expect("an address")
    );
    let mut command = lsfast::command([OsStr::new("replicate"), db.as_os_str(), OsStr::new(&url)]);
    command.args(["--shutdown-timeout", "1h"]);
    command.env("AWS_ACCESS_KEY_ID", "AKIDSOMEBODY").env("AWS_SECRET_ACCESS_KEY", "some-secret");
    let mut process = Process::start("lsfast replicate", command);
    process.wait_for_line("msg=replicating");
    process.signal("TERM");
    process.wait_for_line("a second signal ends at once");
    assert!(process.runs());
    process.signal("INT");
    assert_eq!(process.wait().code(), Some(1));
    let output = process.output();
    assert!(
        output.lines().any(|l| l.starts_with("error: ended at once by a second signal (SIGINT)")),
        "{output}"
    );
}

#[test]
fn a_final_sync_that_takes_too_long_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("app.db");
    application(&db);
    let url = format!(
        "s3://bucket/app?endpoint=http://{}&region=us-east-1&force-path-style=true",
        canned::plain(canned::answer("503 Slow Down", &[], "<Error><Code>SlowDown</Code></Error>"))
    );
    let mut command = lsfast::command([OsStr::new("replicate"), db.as_os_str(), OsStr::new(&url)]);
    command.args(["--shutdown-timeout", "200ms"]);
    command.env("AWS_ACCESS_KEY_ID", "AKIDSOMEBODY").env("AWS_SECRET_ACCESS_KEY", "some-secret");
    let mut process = Process::start("lsfast replicate", command);
    process.wait_for_line("msg=replicating");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(1));
    let output = process.output();
    let last = output.lines().last().expect("a line");
    assert!(last.starts_with("error: not everything is stored") && last.contains("200ms"), "{output}");
}

#[test]
fn the_version_is_that_of_the_package() {
    let output = lsfast::run(lsfast::command(["--version"]));
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), concat!("lsfast ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn man_pages_and_completions_come_from_the_table_of_the_help() {
    let text = |args: &[&str]| {
        let output = lsfast::run(lsfast::command(args));
        assert!(output.status.success(), "{}", lsfast::stderr(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(text(&["man"]).contains(".TH lsfast 1"));
    assert!(text(&["man", "replicate"]).contains("restore\\-if\\-db\\-not\\-exists"));
    let dir = tempfile::tempdir().expect("a temporary folder");
    text(&["man", "--dir", &dir.path().display().to_string()]);
    for page in ["lsfast.1", "lsfast-replicate.1", "lsfast-restore.1", "lsfast-doctor.1"] {
        assert!(dir.path().join(page).is_file(), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&["completions", shell]);
        assert!(script.contains("replicate") && script.contains("force-snapshot"), "{shell}");
    }
    let output = lsfast::run(lsfast::command(["man", "frobnicate"]));
    assert!(
        lsfast::stderr(&output).contains("there is no command \"frobnicate\"; there are replicate, restore")
    );
}

/// The bench is the first command that a newcomer runs; it proves by itself that what comes back is
/// what was there.
#[test]
fn the_bench_measures_compares_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = dir.path().join("store");
    let url = format!("file://{}", store.display());
    for (url, load) in [
        (None, "--gap 5ms"),
        (Some(url.as_str()), "--rate 200 --rows 3 --row-bytes 5000 --synchronous full --compare"),
        (Some(url.as_str()), "--rate max --synchronous off"),
    ] {
        let mut command = lsfast::command(["bench", "--json", "--duration", "300ms"]);
        command.args(load.split(' ')).args(url).env("TMPDIR", dir.path());
        let output = lsfast::run(command);
        assert!(output.status.success(), "{}", lsfast::stderr(&output));
        let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(outcome["pages_differing"], 0);
        let count = |key: &str| outcome[key].as_u64().expect("a number");
        assert!(count("commits") >= count("uploads") && count("uploads") > 0, "{outcome}");
        assert!(count("log_bytes_max") > 4096, "{outcome}");
        for key in ["commit", "commit_to_stored", "raw_put"] {
            assert!(outcome[key]["p50_us"].as_u64() <= outcome[key]["max_us"].as_u64(), "{outcome}");
            assert!(outcome[key]["count"].as_u64() > Some(0), "{outcome}");
        }
        let compared = load != "--gap 5ms";
        assert_eq!(outcome["alone"]["ratio"].as_f64().is_some_and(|r| r > 0.0), compared, "{outcome}");
        assert_eq!(outcome["cpu_us_per_row"].is_number(), compared, "{outcome}");
    }
    _ = std::fs::remove_dir(&store);
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).expect("the folder").flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Replication waits for a store for ever, the bench does not: its user sits before it.
#[test]
fn a_bench_without_a_store_ends_with_the_reason_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let file = dir.path().join("file");
    std::fs::write(&file, "no folder").expect("a file");
    for (url, why) in [
        (format!("s3://bucket/p?endpoint=http://{nobody}"), "nothing listens at"),
        (format!("file://{}/below", file.display()), "file/below"),
    ] {
        let mut command = lsfast::command(["bench", "--duration", "300ms", url.as_str()]);
        command.env("TMPDIR", dir.path());
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        let output = lsfast::run(command);
        let said = lsfast::stderr(&output);
        assert!(output.status.code() == Some(1) && said.contains(why), "{url}: {said}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 1, "{url}");
    }
}

#[test]
fn the_bench_shows_a_histogram_that_fits_the_terminal_and_writes_a_plot() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let plot = dir.path().join("out.svg");
    let bench = |plot: &Path| {
        let mut command = lsfast::command(["bench", "--duration", "300ms", "--rate", "100", "--plot"]);
        command.arg(plot).env("TMPDIR", dir.path());
        lsfast::run(command)
    };
    let output = bench(&plot);
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for part in
        ["100 commits a second at random times", "p99.9", "commit -> stored", "raw PUT", "|#", "are equal"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.lines().skip(3).all(|line| line.len() <= 80), "{text}");
    let svg = std::fs::read_to_string(&plot).expect("the plot");
    assert!(
        svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.matches("<polyline").count() == 5,
        "{svg}"
    );
    // What cannot be written is refused before anything is measured.
    for (wrong, why) in [
        (dir.path().to_path_buf(), "is a directory"),
        (dir.path().join("no/out.svg"), "there is no directory"),
    ] {
        let output = bench(&wrong);
        let said = lsfast::stderr(&output);
        assert!(output.status.code() == Some(1) && said.contains(why) && output.stdout.is_empty(), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 1);
}

/// Warnings of the config file were both log lines and lines of the explanation.
#[test]
fn explain_tells_each_warning_once() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = dir.path().join("lsfast.yml");
    let db = dir.path().join("app.db");
    let text = format!(
        "dbs:\n- path: {}\n  replica:\n    path: {}/replica\n    max-sync-ltx-files: 3\n",
        db.display(),
        dir.path().display()
    );
    std::fs::write(&config, text).expect("a file");
    let said = |args: &[&str]| {
        let output =
            lsfast::run(lsfast::command(args.iter().chain([&"--config", &config.to_str().expect("UTF-8")])));
        assert!(output.status.success(), "{}", lsfast::stderr(&output));
        (String::from_utf8_lossy(&output.stdout).into_owned(), lsfast::stderr(&output))
    };
    let (text, log) = said(&["explain"]);
    assert_eq!((text.matches("is ignored").count(), log.as_str()), (1, ""), "{text}");
    for others in [&["explain", db.to_str().expect("UTF-8")][..], &["databases"]] {
        let (text, log) = said(others);
        assert_eq!((text.matches("is ignored").count(), log.matches("is ignored").count()), (0, 1), "{log}");
    }
}

/// A bench of minutes showed nothing until its end. `script` (util-linux) is the terminal.
#[test]
fn a_bench_shows_how_far_it_is_on_a_terminal_and_not_in_a_pipe() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut piped = lsfast::command(["bench", "--duration", "4s"]);
    let piped = piped.env("TMPDIR", dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let piped = piped.expect("lsfast starts");
    let line = format!("'{}' bench --duration 4s", env!("CARGO_BIN_EXE_lsfast"));
    let terminal = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("TMPDIR", dir.path())
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .expect("script, of util-linux");
    let shown = String::from_utf8_lossy(&terminal.stdout);
    assert!(terminal.status.success(), "{shown}");
    for part in ["measuring, ", " commits a second: ", "%  ", " left"] {
        assert!(shown.contains(part), "{part:?}: {shown}");
    }
    assert!(shown.contains("are equal"), "{shown}");
    let output = piped.wait_with_output().expect("an end");
    assert_eq!(lsfast::stderr(&output), "");
}

#[test]
fn a_bench_that_makes_no_sense_is_a_usage_error() {
    for (args, why) in [
        ("--rate fast", "as in 100 or 0.5"),
        ("--rate 0.01 --duration 1s", "not one commit is expected"),
        ("--duration 0", "more than 0"),
        ("--rows 1000000 --row-bytes 1000000", "than a transaction here may have"),
    ] {
        let output = lsfast::run(lsfast::command(["bench"].into_iter().chain(args.split(' '))));
        let said = lsfast::stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains(why), "{args}: {said}");
    }
}

/// It said "No such file or directory", and of nothing else.
#[test]
fn a_watched_directory_that_does_not_exist_yet_has_no_databases() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = dir.path().join("lsfast.yml");
    let text = "dbs:\n  - path: DIR/app.db\n    replica:\n      path: DIR/one\n  - dir: DIR/tenants\n    pattern: '*.db'\n    watch: true\n    replica:\n      path: DIR/all\n";
    std::fs::write(&config, text.replace("DIR", &dir.path().display().to_string())).expect("a file");
    for command in ["databases", "status"] {
        let output = lsfast::run(lsfast::command([command, "--config", &config.display().to_string()]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &lsfast::stderr(&output);
        assert!(text.contains("app.db") && !text.contains("os error"), "{command}: {text}");
    }
    std::fs::write(dir.path().join("tenants"), "not a directory").expect("a file");
    let output = lsfast::run(lsfast::command(["databases", "--config", &config.display().to_string()]));
    let text = lsfast::stderr(&output);
    assert!(text.contains("tenants") && !output.status.success(), "{text}");
}
