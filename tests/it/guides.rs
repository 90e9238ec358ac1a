//! Two guides that people follow, with lsfast in the place of Litestream: replicating to
//! DigitalOcean Spaces, and a newcomer's account of an own MinIO, with its wrong first attempts.
//! The names in them are those of the guides; `--resolve` leads them to servers of the test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::fault::{Fault, FaultServer, s3_error};
use crate::support::process::{
    Process, {self},
};
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::tls::TlsServer;
use crate::support::weed::{ACCESS_KEY, BUCKET, SECRET_KEY, Weed};
use crate::support::{canned, http, lsfast};

const SPACES: &str = "nyc3.digitaloceanspaces.com";

/// A server of S3 behind faults behind TLS, known by names of a guide.
struct Site {
    dir: tempfile::TempDir,
    weed: Weed,
    faults: FaultServer,
    tls: TlsServer,
    resolve: Vec<String>,
}

impl Site {
    fn new(domain: &str, names: &[&str]) -> Site {
        let weed = Weed::start_for(domain);
        let faults = FaultServer::start(Some(weed.address()));
        let tls = TlsServer::start(faults.addr, names, &rustls::version::TLS13);
        let resolve = names.iter().map(|n| format!("--resolve={n}=127.0.0.1:{}", tls.addr.port())).collect();
        Site { dir: tempfile::tempdir().expect("a temporary folder"), weed, faults, tls, resolve }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A config file, with `/path/to/local` as it is here.
    fn config(&self, text: &str) -> String {
        let path = self.path("litestream.yml");
        std::fs::write(&path, text.replace("DIR", &self.dir.path().display().to_string())).expect("a file");
        path.display().to_string()
    }

    /// In the folder of the user, without anything that the guide does not say but where the names
    /// lead.
    fn lsfast(&self, args: &[&str]) -> Command {
        let mut command = lsfast::command(args);
        command.args(&self.resolve).current_dir(self.dir.path());
        command
    }

    fn with_keys(&self, args: &[&str]) -> Command {
        let mut command = self.lsfast(args);
        command.env("LITESTREAM_ACCESS_KEY_ID", ACCESS_KEY).env("LITESTREAM_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    fn trusting(&self, mut command: Command) -> Command {
        command.arg("--ca-cert").arg(self.tls.ca());
        command
    }

    fn bucket(&self, name: &str) {
        let (status, _) =
            http::request(self.weed.address(), "PUT", &format!("/{name}"), b"").expect("an answer");
        assert_eq!(status, 200);
    }

    /// Replicates with writes going on, until all is stored.
    fn replicate(&self, db: &str, seed: u64, command: Command) -> String {
        let connection = if self.path(db).exists() {
            sqlite::open(&self.path(db))
        } else {
            sqlite::create(&self.path(db), 4096)
        };
        let process = Process::start("lsfast replicate", command);
        process.wait_for_line("replicating");
        Workload::new(seed).run(&connection, 30);
        process.stop()
    }
}

fn must(mut command: Command) -> String {
    let output = command.output().expect("lsfast starts");
    let text = lsfast::stderr(&output);
    assert!(output.status.success(), "{}:\n{text}", output.status);
    text
}

fn refused(mut command: Command) -> String {
    let output = command.output().expect("lsfast starts");
    let text = lsfast::stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

fn same(a: &Path, b: &Path) {
    assert_eq!(sqlite::dump_hash(a), sqlite::dump_hash(b));
}

#[test]
fn the_spaces_guide() {
    let site = Site::new(SPACES, &["*.nyc3.digitaloceanspaces.com", SPACES]);
    // "Command line usage"
    let url = format!("s3://{BUCKET}.{SPACES}/db");
    let log = site.replicate("db", 1, site.trusting(site.with_keys(&["replicate", "db", &url])));
    assert!(!log.contains("level=error"), "{log}");
    must(site.trusting(site.with_keys(&["restore", "-o", "my.db", &url])));
    same(&site.path("db"), &site.path("my.db"));
    let seen = site.faults.seen();
    let host = format!("{BUCKET}.{SPACES}");
    assert!(seen.iter().all(|s| s.header("host") == Some(&host)), "the bucket stands in the host name");
    assert!(seen.iter().all(|s| s.header("authorization").is_some_and(|a| a.contains("/nyc3/s3/"))));

    // "Configuration file usage", in its three forms; the keys at the top, and beside the replica.
    let keys = format!("access-key-id: {ACCESS_KEY}\nsecret-access-key: {SECRET_KEY}\n");
    let beside: String = keys.lines().map(|line| format!("        {line}\n")).collect();
    let forms = [
        format!("{keys}dbs:\n  - path: DIR/db\n    replicas:\n      - url: s3://{BUCKET}.{SPACES}/one\n"),
        format!(
            "{keys}dbs:\n  - path: DIR/db\n    replicas:\n      - type: s3\n        bucket: {BUCKET}\n        path: two\n        \
             endpoint: {SPACES}\n        region: nyc3   # set to your region\n"
        ),
        format!("dbs:\n  - path: DIR/db\n    replicas:\n      - url: s3://{BUCKET}.{SPACES}/three\n{beside}"),
    ];
    for (seed, form) in forms.iter().enumerate() {
        let config = site.config(form);
        let command = site.trusting(site.lsfast(&["replicate", "-config", &config]));
        site.replicate("db", seed as u64 + 2, command);
        let out = format!("form{seed}.db");
        must(site.trusting(site.lsfast(&["restore", "-config", &config, "-o", &out, "db"])));
        same(&site.path("db"), &site.path(&out));
    }
}

#[test]
fn reset_connections_that_the_spaces_guide_calls_common_are_healed() {
    let site = Site::new(SPACES, &["*.nyc3.digitaloceanspaces.com"]);
    let url = format!("s3://{BUCKET}.{SPACES}/db");
    let connection = sqlite::create(&site.path("db"), 4096);
    let command = site.trusting(site.with_keys(&[
        "replicate",
        "db",
        &url,
        "-log-level",
        "debug",
        "-sync-interval",
        "0s",
    ]));
    let process = Process::start("lsfast replicate", command);
    process.wait_for_line("image stored");
    let mut work = Workload::new(9);
    let mut resets = 0;
    for fault in [Fault::ResetBefore, Fault::ResetAfter, Fault::ResetIn, Fault::CloseAfter] {
        site.faults.push("PUT", fault.clone());
        resets += usize::from(!matches!(fault, Fault::CloseAfter));
        work.run(&connection, 3);
        process::until("the fault to be met", || (site.faults.faults_left() == 0).then_some(()));
    }
    let log = process.stop();
    assert!(!log.contains("level=error") && !log.contains("level=warn"), "{log}");
    // The last attempt of the proof of create-only PUTs, which may meet a fault, is not repeated.
    let is_told = |l: &str| l.contains("again") || l.contains("cannot prove what the store honours");
    let retries = log.lines().filter(|l| l.contains("level=debug") && is_told(l)).count();
    assert!(retries >= resets, "one line at debug for each of {resets}:\n{log}");
    must(site.trusting(site.with_keys(&["restore", "-o", "my.db", &url])));
    same(&site.path("db"), &site.path("my.db"));
}

#[test]
fn the_account_of_an_own_minio_and_its_wrong_first_attempts() {
    let site = Site::new("nowhere.example", &["s3.example.com"]);
    site.bucket("litestream");
    let db = "quadtask-prod.db";
    drop(sqlite::create(&site.path(db), 4096));

    // What failed with InvalidAccessKeyId of AWS goes to the server that it names. Its
    // certificate is
    // of an own authority, and the message says what to do about that.
    let first = "s3://s3.example.com/litestream/qt.db";
    let text = refused(site.with_keys(&["replicate", db, first]));
    assert!(text.contains("signed by an authority that this machine does not trust"), "{text}");
    assert!(text.contains("--ca-cert") && text.contains("skip-verify"), "{text}");
    site.replicate(db, 1, site.trusting(site.with_keys(&["replicate", db, first])));
    must(site.trusting(site.with_keys(&["restore", "-o", "first.db", first])));
    same(&site.path(db), &site.path("first.db"));

    // The second attempt can mean several places, none of which answers: each is said with
    // the line to
    // write.
    let text = refused(site.with_keys(&["replicate", db, "s3://litestream.example.com/qt.db"]));
    for line in [
        "s3://litestream/qt.db?endpoint=https://example.com",
        "s3://litestream.example.com/qt.db?endpoint=https://s3.amazonaws.com",
    ] {
        assert!(text.contains(line), "{text}");
    }

    // "The Fix"
    let config = site.config(
        "dbs:\n  - path: DIR/quadtask-prod.db\n    replicas:\n      - type: s3\n        bucket: litestream\n        path: fixed\n        \
         endpoint: s3.example.com  # <---- right here!\n        skip-verify: true  # set to false if you have TLS\n        \
         # access-key-id: <ACCESS-KEY-ID>\n        # secret-access-key: <SECRET-ACCESS-KEY>\n",
    );
    site.replicate(db, 2, site.with_keys(&["replicate", "-c", &config]));
    let expected = sqlite::dump_hash(&site.path(db));

    // "What About Restore?"
    let moved = site.path("quadtask-prod.db.backup");
    std::fs::rename(site.path(db), moved).expect("a database");
    for end in ["-wal", "-shm"] {
        _ = std::fs::remove_file(site.path(&format!("{db}{end}")));
    }
    must(site.with_keys(&["restore", "-c", &config, "./quadtask-prod.db"]));
    assert_eq!(sqlite::dump_hash(&site.path(db)), expected);
    must(site.with_keys(&["restore", "-c", &config, "-o", "copy.db", "./quadtask-prod.db"]));
    assert_eq!(sqlite::dump_hash(&site.path("copy.db")), expected);

    // "was confusing at first": the copy named in the place of the database.
    let text = refused(site.with_keys(&["restore", "-c", &config, "copy-2.db"]));
    let form = format!("write: lsfast restore -o copy-2.db {}", site.path(db).display());
    assert!(text.contains(&form), "{text}");
}

#[test]
fn a_url_with_several_readings_is_settled_where_all_others_deny_the_bucket() {
    let site = Site::new("nowhere.example", &["litestream.example.com"]);
    site.bucket("qt.db");
    let db = "app.db";
    drop(sqlite::create(&site.path(db), 4096));
    // AWS and example.com, which would be the other readings.
    let others = FaultServer::start(None);
    others.always(|_| Some(s3_error(404, "NoSuchBucket")));
    let names = ["s3.amazonaws.com", "s3.us-east-1.amazonaws.com", "example.com"];
    let tls = TlsServer::start(others.addr, &names, &rustls::version::TLS13);
    let authorities = [site.tls.ca(), tls.ca()].map(|ca| std::fs::read_to_string(ca).expect("a certificate"));
    std::fs::write(site.path("both.pem"), authorities.concat()).expect("a file");
    let command = |aws: SocketAddr| {
        let mut command = site.with_keys(&["replicate", db, "s3://litestream.example.com/qt.db"]);
        command.arg("--ca-cert").arg(site.path("both.pem"));
        command.arg(format!("--resolve=*.amazonaws.com={aws}"));
        command.arg(format!("--resolve=example.com={}", tls.addr));
        command
    };
    // One that does not answer may be the one that is meant.
    let text = refused(command(canned::nobody()));
    assert!(text.contains("s3://qt.db?endpoint=https://litestream.example.com"), "{text}");
    assert_eq!(site.faults.seen().iter().filter(|s| s.header("authorization").is_some()).count(), 0);

    let command = command(tls.addr);
    let log = site.replicate(db, 1, command);
    assert!(log.contains("only one of them has the bucket"), "{log}");
    must(site.trusting(site.with_keys(&[
        "restore",
        "-o",
        "out.db",
        "s3://qt.db?endpoint=https://litestream.example.com",
    ])));
    same(&site.path(db), &site.path("out.db"));
}
