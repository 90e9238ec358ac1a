//! The loadable extension, in the SQLite of other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use super::query::replica;
use crate::support::lsfast::restore;
use crate::support::peers;

/// Builds the extension, once in this process, from the library that cargo has built for this test:
/// cargo itself would build all dependencies once more, with other features.
fn library() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = BUILT.get_or_init(|| {
        let deps = Path::new(env!("CARGO_BIN_EXE_lsfast")).with_file_name("deps");
        let files = std::fs::read_dir(&deps).expect("the folder of dependencies").flatten();
        let is_library = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("liblsfast-") && name.ends_with(".rlib")
        };
        let changed = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
        let newest =
            files.map(|file| file.path()).filter(is_library).max_by_key(changed).expect("the library");
        let dir = tempfile::tempdir().expect("a folder");
        let library = dir.path().join("liblsfast.so");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition", "2024", "--crate-name", "lsfast_extension", "--crate-type", "cdylib"]);
        rustc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/extension/src/lib.rs"));
        rustc.arg("--extern").arg(format!("program={}", newest.display()));
        rustc.arg("-L").arg(format!("dependency={}", deps.display())).arg("-o").arg(&library);
        let built = rustc.output().expect("rustc starts");
        assert!(built.status.success(), "{}", text(&built.stderr));
        (dir, library.with_extension(""))
    });
    library
}

fn uri(url: &str, more: &str) -> String {
    format!("file:app?vfs=lsfast&replica={url}{more}")
}

/// Runs the sqlite3 program with the extension loaded.
fn sqlite3(uri: &str, sql: &str) -> Output {
    let load = format!(".load {}", library().display());
    let mut sqlite3 = Command::new("sqlite3");
    sqlite3.args([":memory:", "-cmd", &load, "-cmd", &format!(".open '{uri}'"), sql]);
    sqlite3.output().expect("the sqlite3 program is installed")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_sqlite3_program_reads_any_state_and_travels() {
    let (_case, url) = replica();
    let output = sqlite3(
        &uri(&url, ""),
        "SELECT count(*), max(name) FROM t; PRAGMA integrity_check; PRAGMA lsfast_txid;",
    );
    assert_eq!(text(&output.stdout), "3|name, \"3\nok\n0000000000000003\n", "{}", text(&output.stderr));
    let output = sqlite3(&uri(&url, "&txid=1"), "SELECT count(*) FROM t");
    assert_eq!(text(&output.stdout), "1\n", "{}", text(&output.stderr));
    let travel = "SELECT count(*) FROM t; PRAGMA lsfast_txid = '2'; SELECT count(*) FROM t; PRAGMA lsfast_time = newest; \
                  SELECT count(*) FROM t; BEGIN; SELECT count(*) FROM t; PRAGMA lsfast_txid = '1';";
    let output = sqlite3(&uri(&url, ""), travel);
    let printed = text(&output.stdout);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        [lines[0], lines[1], lines[2], lines[4], lines[5]],
        ["3", "0000000000000002", "2", "3", "3"],
        "{printed}"
    );
    assert!(text(&output.stderr).contains("within a transaction"), "{}", text(&output.stderr));
}

/// SQLite's own hash of all content and its integrity check are those of a restored file.
#[test]
fn a_state_has_the_hash_of_a_restored_file() {
    let (case, url) = replica();
    let both = ".sha3sum --schema\nPRAGMA integrity_check;\nSELECT count(*) FROM t;\n";
    let script = case.path("both.sql");
    std::fs::write(&script, both).expect("written");
    let read = format!(".read {}", script.display());
    let mut seen = std::collections::BTreeSet::new();
    for txid in 1..=3 {
        let file = case.path("restored.db");
        restore(&file, &url, &[], &["--force", "--txid", &txid.to_string()]);
        let of_file = Command::new("sqlite3").arg(&file).arg(&read).output().expect("sqlite3 starts");
        let of_file = text(&of_file.stdout);
        assert!(of_file.ends_with(&format!("\nok\n{txid}\n")), "{of_file}");
        let of_state = sqlite3(&uri(&url, &format!("&txid={txid}")), &read);
        assert_eq!(text(&of_state.stdout), of_file, "{}", text(&of_state.stderr));
        seen.insert(of_file);
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn errors_are_io_errors_whose_message_can_be_asked_for() {
    let (case, url) = replica();
    for (uri, message) in [
        (uri(&case.place.url("elsewhere"), ""), "no replica at"),
        (uri(&url, "&txid=77"), "TXID 0000000000000077 is not available"),
        (uri(&url, "&timestamp=soon"), "\"soon\" is not a time"),
        ("file:app?vfs=lsfast".to_owned(), "does not say which replica"),
    ] {
        let output = sqlite3(&uri, "SELECT 1 FROM sqlite_schema;");
        assert!(text(&output.stderr).contains("disk I/O error"), "{uri}: {}", text(&output.stderr));
        let output = sqlite3(&uri, "PRAGMA lsfast_txid;");
        assert!(text(&output.stderr).contains(message), "{uri}: {}", text(&output.stderr));
    }
    let output = sqlite3(&uri(&url, ""), "DELETE FROM t;");
    assert!(text(&output.stderr).contains("readonly"), "{}", text(&output.stderr));
}

/// Python's module, with threads that read and a connection that follows.
#[test]
fn python_reads_and_follows() {
    let python = "/usr/bin/python3";
    let can = "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)";
    if !Command::new(python).args(["-c", can]).output().is_ok_and(|o| o.status.success()) {
        println!("skipped: {python} has no sqlite3 module that loads extensions");
        return;
    }
    let (case, url) = replica();
    let script = r#"
import sqlite3, sys, threading, time
library, uri, program, db, url = sys.argv[1:]
c = sqlite3.connect(":memory:"); c.enable_load_extension(True); c.load_extension(library); c.close()
counts = []
def read(txid):
    d = sqlite3.connect(uri + "&txid=%d" % txid, uri=True)
    for _ in range(20):
        counts.append((txid, d.execute("SELECT count(*) FROM t").fetchone()[0]))
threads = [threading.Thread(target=read, args=(1 + n % 3,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert len(counts) == 160 and all(a == b for a, b in counts), counts
f = sqlite3.connect(uri + "&follow=1", uri=True, isolation_level=None)
assert f.execute("SELECT count(*) FROM t").fetchone() == (3,)
import subprocess
w = sqlite3.connect(db); w.execute("INSERT INTO t VALUES (4, 'x', x'', 0)"); w.commit(); w.close()
subprocess.run([program, "replicate", "--once", db, url], check=True, capture_output=True)
deadline = time.monotonic() + 60
while f.execute("SELECT count(*) FROM t").fetchone() != (4,):
    assert time.monotonic() < deadline, "the connection does not follow"
    time.sleep(0.05)
try:
    sqlite3.connect("file:x?vfs=lsfast&replica=file:///nowhere", uri=True).execute("SELECT * FROM t")
    assert False
except sqlite3.OperationalError as e:
    assert "disk I/O error" in str(e), e
print("done")
"#;
    let mut run = Command::new(python);
    run.args(["-c", script]).arg(library()).arg(uri(&url, "")).arg(env!("CARGO_BIN_EXE_lsfast"));
    let output = run.arg(case.path("app.db")).arg(&url).output().expect("python starts");
    assert_eq!(text(&output.stdout), "done\n", "{}", text(&output.stderr));
}

/// The SQLite that better-sqlite3 brings along, in threads of its own too. It takes URIs only where
/// the environment says so.
#[test]
fn better_sqlite3_reads_travels_and_follows() {
    let module = match peers::better_sqlite3() {
        Ok(module) => module,
        Err(why) => return println!("skipped: {why}"),
    };
    let (case, url) = replica();
    let script = r#"
const assert = require('node:assert'), { execFileSync } = require('node:child_process');
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const [module_, library, uri, program, db, url] = isMainThread ? process.argv.slice(1) : workerData;
const Database = require(module_);
const count = (d) => d.prepare('SELECT count(*) AS n FROM t').get().n;
new Database(':memory:').loadExtension(library).close();
function read() {
  for (let round = 0; round < 20; round++)
    for (const txid of [1, 2, 3]) {
      const d = new Database(uri + '&txid=' + txid);
      assert.strictEqual(count(d), txid);
      assert.strictEqual(d.pragma('integrity_check', { simple: true }), 'ok');
      d.close();
    }
}
async function main() {
  read();
  const worker = () => new Promise((done, failed) => {
    const w = new Worker(__source, { eval: true, workerData: process.argv.slice(1) });
    w.on('error', failed).on('exit', (code) => code ? failed(new Error('exit ' + code)) : done());
  });
  await Promise.all([worker(), worker()]);
  const d = new Database(uri);
  assert.strictEqual(count(d), 3);
  d.pragma("lsfast_txid = '1'");
  assert.strictEqual(count(d), 1);
  assert.throws(() => d.exec('DELETE FROM t'), /readonly/);
  const f = new Database(uri + '&follow=1'), app = new Database(db);
  assert.strictEqual(count(f), 3);
  app.prepare("INSERT INTO t VALUES (4, 'x', x'', 0)").run();
  app.close();
  execFileSync(program, ['replicate', '--once', db, url], { stdio: 'pipe' });
  for (const deadline = Date.now() + 60000; count(f) !== 4;) assert(Date.now() < deadline, 'it does not follow');
  const none = new Database('file:x?vfs=lsfast&replica=file:///nowhere');
  assert.throws(() => none.prepare('SELECT 1 FROM sqlite_schema').all(), { code: /^SQLITE_IOERR/ });
  assert.match(none.pragma('lsfast_error', { simple: true }), /no replica at/);
  console.log('done');
}
isMainThread ? main().catch((e) => { console.error(e); process.exit(1); }) : read();
"#;
    let script = format!("const __source = {};\n{script}", serde_json::Value::from(script));
    let mut node = Command::new("node");
    node.env("SQLITE_USE_URI", "1").args(["-e", &script]).arg(&module).arg(library()).arg(uri(&url, ""));
    node.arg(env!("CARGO_BIN_EXE_lsfast")).arg(case.path("app.db")).arg(&url);
    let output = node.output().expect("node starts");
    assert_eq!(text(&output.stdout), "done\n", "{}", text(&output.stderr));
}
