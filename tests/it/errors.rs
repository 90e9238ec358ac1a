//! What a new user sees when something is wrong: one line that says what and what to do.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::place::Place;
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::weed::{
    Weed, {self},
};
use crate::support::{canned, lsfast};

/// Runs lsfast and checks how it fails: exit code 1, one line that begins with `error:`, all of
/// `words` in it.
fn fails(mut command: Command, words: &[&str]) -> String {
    command.env("NO_COLOR", "1");
    let output = lsfast::run(command);
    refused(&output, words)
}

fn refused(output: &Output, words: &[&str]) -> String {
    let text = lsfast::stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("error:")).collect();
    assert_eq!(lines.len(), 1, "not one line of error:\n{text}");
    assert_eq!(text.lines().last(), Some(lines[0]), "the error is not the last line:\n{text}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is missing in:\n{}", lines[0]);
    }
    assert!(!text.contains("panicked"), "{text}");
    for secret in [weed::SECRET_KEY, "wrong-secret"] {
        assert!(!text.contains(secret), "a secret in:\n{text}");
    }
    String::from(lines[0])
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn restore(out: &Path, url: &str) -> Command {
    lsfast::command([OsStr::new("restore"), OsStr::new("-o"), out.as_os_str(), OsStr::new(url)])
}

fn replicate(db: &Path, url: &str) -> Command {
    lsfast::command([OsStr::new("replicate"), db.as_os_str(), OsStr::new(url)])
}

/// With keys that any test server may look at.
fn with_keys(mut command: Command, id: &str, secret: &str) -> Command {
    command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
    command
}

fn s3_url(bucket: &str, endpoint: &str) -> String {
    format!("s3://{bucket}/app?endpoint={endpoint}&region=us-east-1&force-path-style=true")
}

/// A database and its replica in a directory: something to break.
fn replicated(dir: &Path) -> (PathBuf, Place) {
    let db = dir.join("app.db");
    let connection = sqlite::create(&db, 4096);
    Workload::new(1).run(&connection, 30);
    connection.execute("INSERT INTO items VALUES (9999, 'large', randomblob(1 << 20))", []).expect("a row");
    let place = Place::Dir(dir.join("replicas"));
    let process = lsfast::replicate(&db, &[place.url("app")], &[]);
    place.wait_for_txid("app", 0, 1);
    process.stop();
    (db, place)
}

#[test]
fn keys_that_the_server_does_not_accept() {
    let (dir, server) = (folder(), Weed::start());
    let out = dir.path().join("out.db");
    let url = s3_url(weed::BUCKET, &server.endpoint());
    let wrong_secret = with_keys(restore(&out, &url), weed::ACCESS_KEY, "wrong-secret");
    fails(
        wrong_secret,
        &["secret key does not belong to the access key", "AWS_ACCESS_KEY_ID", "check the secret key"],
    );
    let unknown = with_keys(restore(&out, &url), "AKIDSOMEBODY", "wrong-secret");
    fails(unknown, &["does not know the access key", &server.endpoint()]);
    // A first start with wrong keys ends at once instead of trying for ever: nobody reads a
    // log that
    // fills up.
    let db = dir.path().join("app.db");
    drop(sqlite::create(&db, 4096));
    let at_start = with_keys(replicate(&db, &url), weed::ACCESS_KEY, "wrong-secret");
    fails(at_start, &["secret key does not belong to the access key"]);
    let none = restore(&out, &url);
    fails(none, &["no credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"]);
    assert!(!out.exists());
}

#[test]
fn a_bucket_that_does_not_exist() {
    let (dir, server) = (folder(), Weed::start());
    let url = s3_url("no-such-bucket", &server.endpoint());
    let command = with_keys(restore(&dir.path().join("out.db"), &url), weed::ACCESS_KEY, weed::SECRET_KEY);
    fails(command, &["bucket no-such-bucket does not exist", "aws s3 mb s3://no-such-bucket"]);
    let db = dir.path().join("app.db");
    drop(sqlite::create(&db, 4096));
    let at_start = with_keys(replicate(&db, &url), weed::ACCESS_KEY, weed::SECRET_KEY);
    fails(at_start, &["bucket no-such-bucket does not exist"]);
}

#[test]
fn a_bucket_in_another_region() {
    let dir = folder();
    let server = canned::plain(canned::answer(
        "400 Bad Request",
        &["x-amz-bucket-region: eu-central-1", "Content-Type: application/xml"],
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region \
         'us-east-1' is wrong; expecting 'eu-central-1'</Message><Region>eu-central-1</Region></Error>",
    ));
    let url = s3_url("backups", &format!("http://{server}"));
    let command = with_keys(restore(&dir.path().join("out.db"), &url), "AKIDSOMEBODY", "wrong-secret");
    fails(
        command,
        &["bucket backups is in region eu-central-1, not in us-east-1", "write region=eu-central-1"],
    );
}

#[test]
fn an_endpoint_where_nobody_listens() {
    let dir = folder();
    let address = canned::nobody();
    let url = s3_url("backups", &format!("http://{address}"));
    let command = with_keys(restore(&dir.path().join("out.db"), &url), "AKIDSOMEBODY", "wrong-secret");
    fails(command, &["connection refused", &address.to_string(), "check the endpoint"]);
}

#[test]
fn a_certificate_for_another_name_or_from_nobody() {
    let dir = folder();
    let (address, pem) = canned::tls("storage.example", canned::answer("500 Not here", &[], ""));
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, pem).expect("a file");
    let url = s3_url("backups", &format!("https://{address}"));
    let out = dir.path().join("out.db");
    let untrusted = with_keys(restore(&out, &url), "AKIDSOMEBODY", "wrong-secret");
    fails(untrusted, &["an authority that this machine does not trust", "--ca-cert"]);
    let mut misnamed = with_keys(restore(&out, &url), "AKIDSOMEBODY", "wrong-secret");
    misnamed.arg("--ca-cert").arg(&ca);
    fails(misnamed, &["storage.example", "not for 127.0.0.1"]);
    let mut missing = with_keys(restore(&out, &url), "AKIDSOMEBODY", "wrong-secret");
    missing.args(["--ca-cert", "/no/such/ca.pem"]);
    fails(missing, &["/no/such/ca.pem"]);
}

/// Needs a file system of 256 KiB: one of the test's own, in a mount namespace.
#[test]
fn a_disk_that_is_full_during_a_restore() {
    let dir = folder();
    let (db, place) = replicated(dir.path());
    assert!(sqlite::image(&db).len() > 1 << 20, "the database would fit");
    let small = dir.path().join("small");
    std::fs::create_dir(&small).expect("a folder");
    let script = "mount -t tmpfs -o size=256k tmpfs \"$1\" || exit 77; shift; \"$@\"; code=$?; ls -A \"$0\" >&2; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(&small).arg(&small);
    command
        .arg(env!("CARGO_BIN_EXE_lsfast"))
        .args(["restore", "-o"])
        .arg(small.join("out.db"))
        .arg(place.url("app"));
    let output = command.output().expect("unshare, from util-linux");
    assert_ne!(output.status.code(), Some(77), "no tmpfs can be mounted here: {}", lsfast::stderr(&output));
    // The folder is listed after the error: nothing is left behind in it.
    refused(&output, &["out.db", "no room", "bytes are needed", "another disk"]);
}

#[test]
fn a_replica_that_is_empty() {
    let dir = folder();
    let url = format!("file://{}", dir.path().join("nothing-here").display());
    let out = dir.path().join("out.db");
    fails(restore(&out, &url), &["no replica at", "nothing-here", "check the URL"]);
    let mut lenient = restore(&out, &url);
    lenient.arg("--if-replica-exists");
    assert!(lsfast::run(lenient).status.success());
    assert!(!out.exists());
}

#[test]
fn an_object_that_is_damaged() {
    let dir = folder();
    let (_, place) = replicated(dir.path());
    let name = place.names("app", 0).pop().expect("an object");
    let path = dir.path().join("replicas/app/ltx/0").join(&name);
    let mut bytes = std::fs::read(&path).expect("the object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("the object");
    let out = dir.path().join("out.db");
    let output = lsfast::run(restore(&out, &place.url("app")));
    let said = lsfast::stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for part in ["is damaged", &name[..16], "no other file covers it", "lsfast repair"] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
    assert!(!out.exists());
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).expect("the folder").flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().contains("out.db")), "{left:?}");
}

#[test]
fn an_output_that_exists() {
    let dir = folder();
    let (db, place) = replicated(dir.path());
    fails(restore(&db, &place.url("app")), &["app.db exists", "--force"]);
}

#[test]
fn a_file_that_is_no_database() {
    let dir = folder();
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "Remember the milk.\n".repeat(400)).expect("a file");
    let before = std::fs::read(&file).expect("the file");
    fails(
        replicate(&file, &format!("file://{}/r", dir.path().display())),
        &["notes.txt", "not a SQLite database"],
    );
    assert_eq!(std::fs::read(&file).expect("the file"), before);
    fails(
        replicate(dir.path(), &format!("file://{}/r", dir.path().display())),
        &["directory", "not a database file"],
    );
}

/// As another user than root, who may do anything: root drops its rights, anybody else takes them
/// from itself.
#[test]
fn a_database_that_may_not_be_read() {
    let dir = folder();
    let db = dir.path().join("app.db");
    drop(sqlite::create(&db, 4096));
    let program = dir.path().join("lsfast");
    std::fs::copy(env!("CARGO_BIN_EXE_lsfast"), &program).expect("a copy");
    let chmod = |mode: &str, path: &Path| {
        assert!(Command::new("chmod").arg(mode).arg(path).status().expect("chmod").success());
    };
    chmod("755", dir.path());
    chmod("000", &db);
    let id = Command::new("id").arg("-u").output().expect("id");
    let mut command = if id.stdout == b"0\n" {
        let mut c = Command::new("setpriv");
        c.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        c
    } else {
        Command::new(&program)
    };
    command.env_clear().arg("replicate").arg(&db).arg(format!("file://{}/r", dir.path().display()));
    fails(command, &["no permission to open", "app.db", "run it as the user of the application"]);
}

#[test]
fn a_database_that_is_locked_for_good() {
    let dir = folder();
    let db = dir.path().join("app.db");
    let connection = sqlite::create(&db, 4096);
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").expect("a pragma");
    connection.execute("INSERT INTO log VALUES (1, 'mine')", []).expect("a row");
    let url = format!("file://{}/r", dir.path().display());
    let mut once = replicate(&db, &url);
    once.arg("--once");
    fails(once, &["app.db", "locking_mode=EXCLUSIVE", "locking_mode=NORMAL"]);
    // Without it lsfast waits: the application may let go.
    let waiting = lsfast::replicate(&db, &[url], &[]);
    waiting.wait_for_line("locking_mode=EXCLUSIVE");
}

#[test]
fn a_second_lsfast_on_the_same_database() {
    let dir = folder();
    let db = dir.path().join("app.db");
    let connection = sqlite::create(&db, 4096);
    Workload::new(2).run(&connection, 5);
    let place = Place::Dir(dir.path().join("replicas"));
    let first = lsfast::replicate(&db, &[place.url("one")], &[]);
    place.wait_for_txid("one", 0, 1);
    fails(replicate(&db, &place.url("two")), &["another lsfast already follows", "app.db", "stop it first"]);
    assert!(!dir.path().join("replicas/two").exists());
    first.stop();
}

#[test]
fn a_url_that_is_none() {
    let dir = folder();
    let db = dir.path().join("app.db");
    drop(sqlite::create(&db, 4096));
    fails(
        replicate(&db, "gs://backups/app"),
        &["has no gs replicas", "s3://backups/app?endpoint=https://storage.googleapis.com"],
    );
    fails(replicate(&db, "s3://key:wrong-secret@backups/app"), &["remove it", "AWS_SECRET_ACCESS_KEY"]);
    fails(replicate(&db, "s3://backups/app?regoin=eu-west-1"), &["regoin", "region"]);
}

#[test]
fn without_a_config_file_the_places_are_named_where_one_was_looked_for() {
    let output = lsfast::run(lsfast::command(["replicate"]));
    let text = fails_with(&output);
    assert!(text.contains("/etc/lsfast.yml") && text.contains("--config FILE"), "{text}");
}

fn fails_with(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    lsfast::stderr(output)
}

#[test]
fn usage_errors_have_another_exit_code() {
    for args in [&["restore"][..], &["frobnicate"], &["replicate", "a.db", "--sync-interval", "soon"]] {
        let output = lsfast::run(lsfast::command(args));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(lsfast::stderr(&output).starts_with("error: "), "{}", lsfast::stderr(&output));
    }
}
