//! What may be where the database goes: links, empty files, files of others, databases that
//! somebody has open.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Output, Stdio};

use ::lsfast::base::{LtxId, PageSize};
use ::lsfast::store::PutOptions;
use bytes::Bytes;

use super::made::{Step, file_of};
use super::*;
use crate::support::lsfast;
use crate::support::process::until;

/// A replica of a small database, and a folder to restore to.
struct Case {
    replica: tempfile::TempDir,
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Case {
        let replica = copy_of(&list(&manifest(), "v05")[1]);
        Case { replica, dir: tempfile::tempdir().expect("a directory") }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn url(&self) -> String {
        format!("file://{}", self.replica.path().display())
    }

    fn restore(&self, output: &str, more: &[&str]) -> Output {
        let mut command = lsfast::command([OsStr::new("restore"), OsStr::new("-o"), OsStr::new(output)]);
        command.args(more).arg(self.url()).current_dir(self.dir.path());
        lsfast::run(command)
    }

    fn refused(&self, output: &str, more: &[&str], why: &str) {
        let done = self.restore(output, more);
        let said = lsfast::stderr(&done);
        assert!(!done.status.success() && said.contains(why), "{output} {more:?}: {said}");
        assert!(!said.contains("restore begins"), "nothing is fetched: {said}");
    }
}

fn is_database(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn a_new_database_is_its_owners_alone_and_an_old_one_keeps_its_mode() {
    let case = Case::new();
    assert!(case.restore("new.db", &[]).status.success());
    assert_eq!(mode(&case.at("new.db")), 0o600);
    fs::set_permissions(case.at("new.db"), fs::Permissions::from_mode(0o640)).expect("a mode");
    assert!(case.restore("new.db", &["--force"]).status.success());
    assert_eq!(mode(&case.at("new.db")), 0o640);
}

#[test]
fn an_empty_file_is_no_database() {
    let case = Case::new();
    fs::write(case.at("empty.db"), "").expect("a file");
    fs::set_permissions(case.at("empty.db"), fs::Permissions::from_mode(0o644)).expect("a mode");
    let done = case.restore("empty.db", &["--if-db-not-exists"]);
    assert!(done.status.success(), "{}", lsfast::stderr(&done));
    assert!(is_database(&case.at("empty.db")));
    assert_eq!(mode(&case.at("empty.db")), 0o644);
    // As `replicate` fills a host, too.
    fs::write(case.at("second.db"), "").expect("a file");
    let second = case.at("second.db");
    let mut command = lsfast::command([OsStr::new("replicate"), second.as_os_str(), OsStr::new(&case.url())]);
    command.args(["--once", "--restore-if-db-not-exists"]);
    let done = lsfast::run(command);
    assert!(done.status.success() && is_database(&second), "{}", lsfast::stderr(&done));
    // What has a log is one, whatever the file says.
    fs::write(case.at("third.db"), "").expect("a file");
    fs::write(case.at("third.db-wal"), "a log").expect("a file");
    case.refused("third.db", &[], "third.db-wal exists");
}

#[test]
fn links_are_replaced_where_they_lead_to_or_refused() {
    let case = Case::new();
    fs::create_dir_all(case.at("volume/data")).expect("a directory");
    symlink("volume", case.at("mounted")).expect("a link");
    symlink("mounted/data/real.db", case.at("link.db")).expect("a link");
    for more in [&[][..], &["--force"]] {
        let done = case.restore("link.db", more);
        assert!(done.status.success(), "{}", lsfast::stderr(&done));
        assert!(fs::symlink_metadata(case.at("link.db")).expect("the link").is_symlink());
        assert!(is_database(&case.at("volume/data/real.db")));
    }
    case.refused("link.db", &[], "real.db exists");
    symlink("circle.db", case.at("circle.db")).expect("a link");
    case.refused("circle.db", &["--force"], "lead in a circle");
    symlink("volume", case.at("folder.db")).expect("a link");
    case.refused("folder.db", &["--force"], "name the database file itself");
    case.refused("new/", &[], "name the database file itself");
    case.refused("new/.", &["--force"], "name the database file itself");
    assert!(!case.at("new").exists());
    // A parent that is a file.
    case.refused("volume/data/real.db/x.db", &[], "cannot look at");
}

/// Anybody who may write to the folder can put one there, and a restore must not wait for its other
/// end.
#[test]
fn a_fifo_is_waited_for_by_nobody() {
    let case = Case::new();
    let fifo = |name: &str| {
        let made = Command::new("mkfifo").arg(case.at(name)).status().expect("mkfifo");
        assert!(made.success());
    };
    fifo(".x.db.1-0.tmp");
    assert!(case.restore("x.db", &[]).status.success());
    for name in ["y.db-shm", "z.db-wal", "w.db"] {
        fifo(name);
        let output = name.split('-').next().expect("a name");
        let done = case.restore(output, &["--force"]);
        let said = lsfast::stderr(&done);
        assert!(!done.status.success() && said.contains(name), "{name}: {said}");
    }
    symlink(case.at("x.db"), case.at("v.db-wal")).expect("a link");
    case.refused("v.db", &["--force"], "symbolic link");
    assert!(is_database(&case.at("x.db")));
}

/// A connection in rollback mode that is idle holds no lock, and goes on writing to a file that has
/// lost its name.
#[test]
fn a_database_that_somebody_has_open_is_not_replaced() {
    let case = Case::new();
    for (name, held) in
        [("a.db", "a.db"), ("b.db", "b.db-wal"), ("c.db", "c.db-shm"), ("d.db", "d.db-journal")]
    {
        fs::write(case.at(name), "an old database").expect("a file");
        fs::write(case.at(held), "an old database").expect("a file");
        let mut holder = Command::new("sh")
            .args(["-c", "exec 3<>\"$0\"; echo open; read end"])
            .arg(case.at(held))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().expect("its output")).read_line(&mut line).expect("a line");
        case.refused(
            name,
            &["--force"],
            &format!("is in use by process {} (sh): stop it first", holder.id()),
        );
        assert_eq!(fs::read(case.at(name)).expect("the file"), b"an old database");
        drop(holder.stdin.take());
        holder.wait().expect("its end");
        fs::remove_file(case.at(held)).expect("removed");
        until("the database to be free", || case.restore(name, &["--force"]).status.success().then_some(()));
        assert!(is_database(&case.at(name)));
    }
    // An empty file that a program has just made is that program's.
    fs::write(case.at("new.db"), "").expect("a file");
    let open = fs::File::open(case.at("new.db")).expect("the file");
    case.refused("new.db", &[], "is in use by process");
    drop(open);
}

#[test]
fn a_database_that_has_no_room_is_refused_before_it_is_fetched() {
    let case = Case::new();
    let place = tempfile::tempdir().expect("a directory");
    let (size, commit) = (PageSize::MAX, 1_u32 << 27);
    let step = Step { commit: 199, pages: (1..200).map(|n| (n, 1)).collect() };
    let id = LtxId::raw(Txid(1));
    let options = PutOptions { created: Millis(1), create_only: true };
    let store = FileStore::new(place.path());
    let mut file = file_of(size, id, &step);
    // 8 TiB by its header; more than the disk of any test has.
    file[12..16].copy_from_slice(&commit.to_be_bytes());
    runtime().block_on(store.put(id, vec![Bytes::from(file)], options)).expect("put");
    let e = restore(FileStore::new(place.path()), &engines()[0], RestoreOptions::new(case.at("big.db")));
    match e.expect_err("no room") {
        RestoreError::NoRoom { path, need, free } => {
            assert_eq!((path, need), (case.at("big.db"), u64::from(commit) * 65_536));
            assert!(free < need);
        }
        e => panic!("{e}"),
    }
    assert_eq!(others(case.dir.path(), ""), [] as [PathBuf; 0]);
}
