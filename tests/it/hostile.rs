//! What owners of a store, or of a directory, can put there: names, errors and TXIDs that no
//! well-meaning program writes.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Output;

use lsfast::base::Txid;
use lsfast::ltx::{HEADER_LEN, Header};

use crate::support::fault::{Fault, FaultServer, Seen, http_date};
use crate::support::process::until;
use crate::support::{lsfast as program, sqlite};

/// Retitles and paints a terminal, turns the direction of what follows, and fakes a line.
const EVIL: &str = "X\u{1b}]0;owned\u{7}\u{1b}[31m\u{202e}\u{9b}1m\nlevel=error all is well";

/// The same as far as a header of HTTP can hold it.
const EVIL_HEADER: &str = "\"X\u{202e}\u{9b}1m\"";

fn run<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Output {
    let mut command = program::command(args);
    command.envs([("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "hush")]);
    program::run(command)
}

/// Nothing in a text moves a terminal, or begins a line that the text of a store has made up.
fn is_tame(what: &str, text: &[u8]) {
    let text = String::from_utf8(text.to_vec()).expect("UTF-8");
    let wild = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!text.chars().any(wild), "{what}: {text:?}");
    assert!(!text.lines().any(|l| l.trim_start().starts_with("level=error")), "{what}: {text}");
}

fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
    Fault::Answer { status, headers, body: body.to_owned() }
}

/// A listing with names that hold escapes, next to a file that all commands then want to read.
fn listing() -> String {
    let name = "0000000000000001-0000000000000001.ltx";
    let keys = [
        format!("db/0000/{name}"),
        format!("db/0009/{name}"),
        format!("db/0000/{name}{EVIL}"),
        format!("db/{EVIL}/{name}"),
        format!("db/times/{EVIL}"),
        format!("db/generations/{EVIL}/snapshots/00000000.snapshot.lz4"),
        format!("{EVIL}/0000/{name}"),
    ];
    let entry = |key: &String| {
        format!(
            "<Contents><Key>{key}</Key><Size>700</Size><ETag>{EVIL}</ETag><LastModified>{EVIL}</LastModified></Contents>"
        )
    };
    let entries: String = keys.iter().map(entry).collect();
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>")
}

#[test]
fn what_a_store_says_moves_no_terminal_in_any_command() {
    let error = format!("<Error><Code>{EVIL}</Code><Message>m{EVIL}</Message><Key>{EVIL}</Key></Error>");
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out.db");
    for lists in [true, false] {
        for (status, body) in [(403, error.clone()), (400, error.clone()), (404, format!("<html>{EVIL}"))] {
            let server = FaultServer::start(None);
            let error = answer(status, &[("etag", EVIL_HEADER), ("x-amz-request-id", EVIL_HEADER)], &body);
            let list = answer(200, &[("etag", EVIL_HEADER)], &listing());
            server.always(move |seen: &Seen| {
                let is_list = seen.method == "GET" && seen.path.contains("list-type=2");
                Some(if lists && is_list { list.clone() } else { error.clone() })
            });
            let url = format!(
                "s3://bucket/db?endpoint=http://{}&region=us-east-1&force-path-style=true",
                server.addr
            );
            for command in ["points", "ltx", "verify", "doctor", "generations"] {
                let output = run([command, &url]);
                is_tame(command, &output.stdout);
                is_tame(command, &output.stderr);
            }
            let output = run([OsStr::new("restore"), OsStr::new("-o"), out.as_os_str(), OsStr::new(&url)]);
            assert!(!output.status.success() && !out.exists());
            is_tame("restore", &output.stderr);
        }
    }
}

#[test]
fn what_a_store_says_moves_no_terminal_by_log_and_status() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = dir.path().join("app.db");
    let _app = sqlite::create(&db, 4096);
    let server = FaultServer::start(None);
    server.always(|seen: &Seen| {
        let error = format!("<Error><Code>{EVIL}</Code><Message>m{EVIL}</Message></Error>");
        let none = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        match seen.method.as_str() {
            "PUT" => Some(answer(403, &[("etag", EVIL_HEADER)], &error)),
            "GET" => Some(answer(200, &[("etag", EVIL_HEADER)], none)),
            _ => None,
        }
    });
    let url =
        format!("s3://bucket/db?endpoint=http://{}&region=us-east-1&force-path-style=true", server.addr);
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "hush")];
    let keys = keys.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut process = program::replicate(&db, &[url], &keys);
    process.wait_for_line("the store refuses");
    let text = until("the error in the status", || {
        let text = run([OsStr::new("status"), OsStr::new("-v"), db.as_os_str()]).stdout;
        String::from_utf8_lossy(&text).contains("owned").then_some(text)
    });
    is_tame("status", &text);
    let json = run([OsStr::new("status"), OsStr::new("--json"), db.as_os_str()]).stdout;
    is_tame("status --json", &json);
    let said: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let message = said["databases"][0]["replicas"][0]["error"]["message"].as_str().expect("a message");
    is_tame("the message in the status", message.as_bytes());
    is_tame("the log", process.output().as_bytes());
    process.signal("KILL");
    process.wait();
}

fn once(db: &Path, replica: &Path) -> Output {
    let url = format!("file://{}", replica.display());
    run([OsStr::new("replicate"), OsStr::new("--once"), db.as_os_str(), OsStr::new(&url)])
}

/// A file whose name has the last TXIDs there can be. One above them is no file of a replica.
#[test]
fn a_replica_at_the_end_of_the_txids_is_not_gone_on_with() {
    let dir = tempfile::tempdir().expect("a folder");
    let (db, replica) = (dir.path().join("app.db"), dir.path().join("replica"));
    let app = sqlite::create(&db, 4096);
    let first = once(&db, &replica);
    assert!(first.status.success(), "{}", program::stderr(&first));
    let level = replica.join("ltx/1");
    std::fs::create_dir_all(&level).expect("a folder");
    for (last, goes_on) in [(u64::MAX, true), (1 << 63, true), ((1 << 63) - 1, false), (1 << 62, false)] {
        let file = level.join(format!("{:016x}-{last:016x}.ltx", 1));
        std::fs::write(&file, "").expect("a file");
        // With the memory of the local state, and without.
        for forgets in [false, true] {
            if forgets {
                std::fs::remove_dir_all(dir.path().join(".app.db-lsfast")).expect("the state");
            }
            app.execute("INSERT INTO log VALUES(1, 'x')", []).expect("a row");
            let output = once(&db, &replica);
            let said = program::stderr(&output);
            assert_eq!(output.status.success(), goes_on, "{last:x} {forgets}: {said}");
            assert_eq!(said.contains("which no replica reaches by counting"), !goes_on, "{last:x}: {said}");
        }
        std::fs::remove_file(&file).expect("the file");
    }
    let last = once(&db, &replica);
    assert!(last.status.success(), "{}", program::stderr(&last));
}

#[test]
fn a_header_has_no_txid_above_the_last() {
    let dir = tempfile::tempdir().expect("a folder");
    let (db, replica) = (dir.path().join("app.db"), dir.path().join("replica"));
    let _app = sqlite::create(&db, 4096);
    once(&db, &replica);
    let file = replica.join("ltx/0/0000000000000001-0000000000000001.ltx");
    let bytes = std::fs::read(file).expect("a file");
    let mut header: [u8; HEADER_LEN] = *bytes.first_chunk().expect("a header");
    for (min, max, is_good) in [
        (1, Txid::MAX.0, true),
        (Txid::MAX.0, Txid::MAX.0, true),
        (1, Txid::MAX.0 + 1, false),
        (Txid::MAX.0 + 1, Txid::MAX.0 + 1, false),
        (1, u64::MAX, false),
        (0, 1, false),
        (2, 1, false),
    ] {
        header[16..24].copy_from_slice(&u64::to_be_bytes(min));
        header[24..32].copy_from_slice(&u64::to_be_bytes(max));
        assert_eq!(Header::parse(&header).is_ok(), is_good, "{min:x}-{max:x}");
    }
}

/// `replicate` skips such a link as root; the list said otherwise.
#[test]
fn a_link_out_of_a_watched_directory_is_not_listed_for_root() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    for db in [data.join("own.db"), dir.path().join("victim.db")] {
        drop(sqlite::create(&db, 4096));
    }
    symlink(dir.path().join("victim.db"), data.join("link.db")).expect("a link");
    let config = dir.path().join("lsfast.yml");
    let replica = dir.path().join("replica");
    let text = format!(
        "dbs:\n- dir: {}\n  pattern: \"*.db\"\n  replica:\n    url: file://{}\n",
        data.display(),
        replica.display()
    );
    std::fs::write(&config, text).expect("a file");
    let output = run([OsStr::new("databases"), OsStr::new("--config"), config.as_os_str()]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("own.db"), "{text}");
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    assert_eq!(text.contains("link.db"), !is_root, "{text}");
}

/// The store's clock decides what is the future, whatever this host's says.
#[test]
fn a_store_whose_clock_is_another_is_believed() {
    use std::time::{Duration, SystemTime};

    use lsfast::store::{Scope, Store};

    use crate::support::s3::{S3Server, open, options, url};

    // One that is more than a day off is not.
    let behind = Duration::from_secs(20 * 3600);
    let s3 = S3Server::start();
    let proxy = FaultServer::start(Some(s3.addr));
    let date = http_date(SystemTime::now() - behind);
    proxy.always(move |_| Some(Fault::AnswerWith { headers: vec![("date", date.clone())] }));
    let store = open(&url(proxy.addr, "db"), &options());
    let now = || store.now().to_system().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    let host = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    assert!(now().abs_diff(host()) < Duration::from_secs(1), "nothing is known yet");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(store.list(Scope::All)).expect("a listing");
    assert!(now().abs_diff(host() - behind) < Duration::from_secs(60), "{:?}", now());

    // Batches have the store's time, and so each command that judges them by it prints that.
    let dir = tempfile::tempdir().expect("a folder");
    let db = dir.path().join("app.db");
    let _app = sqlite::create(&db, 4096);
    let url = format!("{}&region=us-east-1&force-path-style=true", url(proxy.addr, "app"));
    let keys = [crate::support::s3::ACCESS_KEY, crate::support::s3::SECRET_KEY];
    let run = |args: &[&OsStr]| {
        let mut command = program::command(args);
        command.envs([("AWS_ACCESS_KEY_ID", keys[0]), ("AWS_SECRET_ACCESS_KEY", keys[1])]);
        program::run(command)
    };
    let output = run(&[OsStr::new("replicate"), OsStr::new("--once"), db.as_os_str(), OsStr::new(&url)]);
    let said = program::stderr(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("clock and that of the store differ").count(), 1, "{said}");
    let file = s3.bucket_dir().join("app/0000/0000000000000001-0000000000000001.ltx");
    let stored = std::fs::read(file).expect("the first batch");
    let header = Header::parse(stored.first_chunk().expect("a header")).expect("a header");
    let made = header.timestamp.to_system();
    let age = SystemTime::now().duration_since(made).expect("a time in the past");
    assert!(age.abs_diff(behind) < Duration::from_secs(120), "{made:?}");
    let json = |command: &str| -> serde_json::Value {
        let output = run(&[OsStr::new(command), OsStr::new("--json"), OsStr::new(&url)]);
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let listed = json("points")["points"][0]["time"].as_str().expect("a time").to_owned();
    let at = lsfast::base::clock::Millis::parse_rfc3339(&listed).expect("a time").to_system();
    let age = SystemTime::now().duration_since(at).expect("a time in the past");
    assert!(age.abs_diff(behind) < Duration::from_secs(120), "{listed}");
    assert_eq!(json("verify")["newest"]["created"], listed.as_str());
}

/// The message named no file, so that it was not clear what to remove.
#[test]
fn what_is_in_the_way_of_the_state_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (db, replica) = (dir.path().join("app.db"), dir.path().join("replica"));
    drop(sqlite::create(&db, 4096));
    assert!(once(&db, &replica).status.success());
    let home = dir.path().join(".app.db-lsfast");
    let folder = std::fs::read_dir(&home).expect("a folder").filter_map(Result::ok);
    let folder = folder.map(|e| e.path()).find(|p| p.is_dir()).expect("the folder of a replica");
    for file in [folder.join("state"), home.join("lock")] {
        let kept = std::fs::read(&file).expect("a file");
        std::fs::remove_file(&file).expect("removed");
        let fifo = |path: &Path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.expect("mkfifo runs").success());
        };
        let folder = |path: &Path| std::fs::create_dir(path).expect("a folder");
        let link = |path: &Path| symlink("/etc/hostname", path).expect("a link");
        for put in [&folder as &dyn Fn(&Path), &fifo, &link] {
            put(&file);
            let output = once(&db, &replica);
            let said = program::stderr(&output);
            let words = [file.to_str().expect("UTF-8"), "remove it"];
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(words.iter().all(|w| said.contains(w)), "{said}");
            let removed =
                if file.is_dir() { std::fs::remove_dir(&file) } else { std::fs::remove_file(&file) };
            removed.expect("removed");
        }
        std::fs::write(&file, kept).expect("written");
        assert!(once(&db, &replica).status.success());
    }
}
