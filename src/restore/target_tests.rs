use std::fs;

use super::*;

fn database(path: &Path, mode: &str, rows: u32) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", mode).unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    connection.execute_batch("create table t(a)").unwrap();
    for n in 0..rows {
        connection.execute("insert into t values(?1)", [n]).unwrap();
    }
    connection
}

fn rows(path: &Path) -> u32 {
    Connection::open(path).unwrap().query_row("select count(*) from t", [], |r| r.get(0)).unwrap()
}

/// A database with a full WAL whose process was killed: the files as a crash leaves them.
fn crashed(dir: &Path, name: &str, rows: u32) -> PathBuf {
    let live = dir.join("live");
    fs::create_dir(&live).unwrap();
    let connection = database(&live.join("a.db"), "wal", rows);
    let path = dir.join(name);
    for suffix in ["", "-wal", "-shm"] {
        fs::copy(live.join(format!("a.db{suffix}")), dir.join(format!("{name}{suffix}"))).unwrap();
    }
    drop(connection);
    fs::remove_dir_all(&live).unwrap();
    path
}

fn new_file(target: &Target, rows: u32) -> Pending {
    let pending = target.begin().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("new.db");
    drop(database(&source, "wal", rows));
    pending.file().pwrite_all(&fs::read(source).unwrap(), 0).unwrap();
    pending
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

#[test]
fn whatever_is_there_is_named_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.db");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let path = dir.path().join(format!("a.db{suffix}"));
        fs::write(&path, "x").unwrap();
        let e = Target::examine(&out, false).unwrap_err().to_string();
        let start = format!("{} exists: ", path.display());
        assert!(e.starts_with(&start) && e.contains("--force"), "{e}");
        Target::examine(&out, true).unwrap();
        fs::remove_file(&path).unwrap();
    }
    Target::examine(&out, false).unwrap();
    let e = Target::examine(dir.path(), true).unwrap_err().to_string();
    assert!(e.contains("is not a file: name the database file itself"), "{e}");
}

#[test]
fn a_file_that_appears_meanwhile_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.db");
    let target = Target::examine(&out, false).unwrap();
    let pending = new_file(&target, 3);
    fs::write(&out, "theirs").unwrap();
    assert!(matches!(target.install(pending), Err(RestoreError::Exists { .. })));
    assert_eq!(fs::read(&out).unwrap(), b"theirs");
    assert_eq!(names(dir.path()), ["a.db"]);
}

/// The check of the finished file reads it by its name: that must be the file that is installed.
#[test]
fn a_file_that_was_exchanged_is_not_installed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.db");
    let target = Target::examine(&out, false).unwrap();
    let pending = new_file(&target, 3);
    let path = pending.path().to_owned();
    fs::rename(&path, dir.path().join("moved")).unwrap();
    fs::write(&path, "theirs").unwrap();
    assert!(matches!(target.install(pending), Err(RestoreError::Exchanged { .. })));
    assert!(!out.exists());
}

/// The owner of the directory above can put a link to another database's directory in its place.
#[test]
fn another_database_keeps_its_log_if_the_directory_is_exchanged() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["ours", "theirs"] {
        fs::create_dir(at(name)).unwrap();
        crashed(&at(name), "a.db", 20);
    }
    let target = Target::examine(&at("ours/a.db"), true).unwrap();
    let pending = new_file(&target, 7);
    let there = pending.directory();
    fs::rename(at("ours"), at("moved")).unwrap();
    std::os::unix::fs::symlink(at("theirs"), at("ours")).unwrap();
    there.remove(&at("ours/a.db-shm")).unwrap();
    there.rename(&at("ours/a.db-wal"), &at("ours/a.db-wal-replaced")).unwrap();
    assert!(at("moved/a.db-wal-replaced").exists() && !at("moved/a.db-shm").exists());
    assert!(matches!(target.install(pending), Err(RestoreError::Exchanged { .. })));
    assert_eq!(names(&at("theirs")), ["a.db", "a.db-shm", "a.db-wal"]);
    assert_eq!(names(&at("moved")), ["a.db", "a.db-wal-replaced"]);
}

/// After each step until the rename, the state of the old database is there, including its WAL.
#[test]
fn the_old_database_is_whole_until_the_new_one_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let out = crashed(dir.path(), "a.db", 20);
    let target = Target::examine(&out, true).unwrap();
    let pending = new_file(&target, 7);
    target.settle(&pending.directory()).unwrap();
    assert_eq!(names(dir.path()).iter().filter(|n| !n.starts_with('.')).collect::<Vec<_>>(), ["a.db"]);
    assert_eq!(fs::metadata(&out).unwrap().len() % 4096, 0);
    let copy = tempfile::tempdir().unwrap();
    fs::copy(&out, copy.path().join("b.db")).unwrap();
    assert_eq!(rows(&copy.path().join("b.db")), 20, "the database alone has what was in its log");
    target.install(pending).unwrap();
    assert_eq!(names(dir.path()), ["a.db"]);
    assert_eq!(rows(&out), 7);
}

#[test]
fn a_log_left_behind_is_not_replayed_onto_the_new_database() {
    let dir = tempfile::tempdir().unwrap();
    let out = crashed(dir.path(), "a.db", 20);
    let mut bytes = fs::read(&out).unwrap();
    bytes[..100].fill(0x55);
    fs::write(&out, bytes).unwrap();
    let target = Target::examine(&out, true).unwrap();
    target.install(new_file(&target, 7)).unwrap();
    assert_eq!(rows(&out), 7);
    assert_eq!(names(dir.path()), ["a.db"], "the log of the damaged database is gone too");
}

#[test]
fn a_log_without_its_database_goes() {
    let dir = tempfile::tempdir().unwrap();
    let out = crashed(dir.path(), "a.db", 20);
    fs::remove_file(&out).unwrap();
    let target = Target::examine(&out, true).unwrap();
    target.install(new_file(&target, 7)).unwrap();
    assert_eq!(rows(&out), 7);
}

/// Only locks of another process count: the test could not see its own POSIX locks. `sqlite3` may
/// be missing, so the other process is this test itself, run again.
#[test]
fn a_database_in_use_is_refused_even_by_force() {
    const NAME: &str = "restore::target::tests::a_database_in_use_is_refused_even_by_force";
    if let Ok(path) = std::env::var("LSFAST_TEST_HOLD") {
        let (path, mode) = path.rsplit_once(',').unwrap();
        let connection = database(Path::new(path), mode, 3);
        connection.execute_batch("begin immediate").unwrap();
        println!("held");
        let mut line = String::new();
        io::stdin().read_line(&mut line).unwrap();
        return;
    }
    for mode in ["wal", "delete"] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a.db");
        let mut holder = std::process::Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env("LSFAST_TEST_HOLD", format!("{},{mode}", out.display()))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = io::BufRead::lines(io::BufReader::new(holder.stdout.take().unwrap()));
        assert!(lines.any(|l| l.unwrap().contains("held")));
        let e = Target::examine(&out, true).unwrap_err().to_string();
        let expected = format!("{} is in use by process {}: stop it first", out.display(), holder.id());
        assert!(e.starts_with(&expected), "{mode}: {e}");
        drop(holder.stdin.take());
        lines.for_each(drop);
        assert!(holder.wait().unwrap().success());
        Target::examine(&out, true).unwrap();
    }
}

#[test]
fn links_are_followed_and_rights_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real.db");
    drop(database(&real, "wal", 2));
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let target = Target::examine(&link, true).unwrap();
    target.install(new_file(&target, 5)).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(rows(&real), 5);
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn what_a_killed_restore_left_is_removed_and_what_a_living_one_writes_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.db");
    fs::write(dir.path().join(".a.db.123456-7.tmp"), "left").unwrap();
    fs::write(dir.path().join(".a.db.notes.tmp"), "a stranger's").unwrap();
    let target = Target::examine(&out, false).unwrap();
    let living = target.begin().unwrap();
    let other = target.begin().unwrap();
    assert_eq!(names(dir.path()).len(), 3, "{:?}", names(dir.path()));
    drop((living, other));
    assert_eq!(names(dir.path()), [".a.db.notes.tmp"]);
}
