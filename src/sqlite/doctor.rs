//! Examines a database and its host for `lsfast doctor`. Changes neither.
//!
//! This opens and closes the database file and its `-shm`, which drops all POSIX locks that this
//! process holds on them. It must not run in a process that has a connection to the database. The
//! locks of other processes are not affected.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::database::sibling;
use super::header::{DbHeader, HEADER_BYTES, HeaderError};
use crate::base::fields::Fields;
use crate::base::finding::{Finding, Tell};
use crate::base::limits;
use crate::io::host::{self, FsKind};
use crate::io::{File, durable};

/// First byte and length of the range that SQLite locks for readers (SHARED), two bytes after the
/// PENDING byte.
const SHARED: (u64, u64) = (0x4000_0002, 510);

/// Offset in the header of the version of SQLite that wrote it last.
const VERSION_AT: usize = 96;

/// Free bytes below which `doctor` warns about space (64 MiB).
const SPACE_MIN: u64 = 64 << 20;

/// Limit of open files below which `doctor` warns. One database needs about ten.
const OPEN_FILES_MIN: u64 = 256;

/// Names of programs that replicate databases. Only one of them may work on a database.
const REPLICATORS: [&str; 2] = ["lsfast", "litestream"];

/// Examines the database at `path`. `state_dir` is the directory in which lsfast keeps its state
/// for it.
pub fn examine(path: &Path, state_dir: &Path, tell: Tell<'_>) {
    match std::fs::metadata(path) {
        Ok(m) if m.is_file() => file(path, &m, tell),
        Ok(m) => {
            let kind = if m.is_dir() { "directory" } else { "special file" };
            let detail =
                format!("{} is a {kind}, not a database file: name the database itself", path.display());
            tell(Finding::fail("database", detail));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => tell(Finding::warn(
            "database",
            format!("{} does not exist", path.display()),
            "lsfast waits until the application makes it; check the path if it should be there",
        )),
        Err(e) => tell(Finding::fail("database", format!("{}: {e}", path.display()))),
    }
    folder(path, tell);
    space(path, state_dir, tell);
    host_limits(path, tell);
}

fn file(path: &Path, metadata: &Metadata, tell: Tell<'_>) {
    let opened = File::open(path);
    let file = match &opened {
        Ok(file) => file,
        Err(e) => return tell(Finding::fail("database", format!("{} cannot be read: {e}", path.display()))),
    };
    let mut head = [0; HEADER_BYTES];
    let parsed = match file.pread(&mut head, 0) {
        Ok(have) => DbHeader::parse(path, &head[..have]),
        Err(e) => return tell(Finding::fail("database", format!("{} cannot be read: {e}", path.display()))),
    };
    match parsed {
        Ok(header) => {
            let detail =
                format!("{}, {} bytes, pages of {}", path.display(), metadata.size(), header.page_size.get());
            tell(Finding::ok("database", detail));
            journal(&header, tell);
            version(&head, tell);
        }
        Err(e @ HeaderError::Empty { .. }) => {
            tell(Finding::warn("database", e.to_string(), "lsfast waits for the first table"));
        }
        Err(e) => return tell(Finding::fail("database", e.to_string())),
    }
    permissions(path, metadata, tell);
    users(path, file, metadata, tell);
    log(path, tell);
}

fn journal(header: &DbHeader, tell: Tell<'_>) {
    if header.is_wal() {
        tell(Finding::ok("wal mode", "on"));
    } else {
        let advice = "lsfast switches it when it starts; say PRAGMA journal_mode=WAL in the application too";
        tell(Finding::warn("wal mode", "off: the database uses a rollback journal", advice));
    }
}

/// Reports the SQLite version in the header. In WAL mode a newer version may be in the WAL.
fn version(head: &[u8; HEADER_BYTES], tell: Tell<'_>) {
    let number = Fields::new(&head[VERSION_AT..]).be32();
    let shown = format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000);
    if number == 0 {
        tell(Finding::ok("sqlite version", "the header does not say it"));
    } else if has_reset_bug(number) {
        tell(Finding::warn(
            "sqlite version",
            format!(
                "SQLite {shown} wrote to it last, which can lose a commit when checkpoints overlap (the WAL-reset bug)"
            ),
            "use SQLite 3.51.3 or newer (or 3.50.7, 3.44.6) in the application; see sqlite.org/wal.html#walresetbug",
        ));
    } else {
        tell(Finding::ok("sqlite version", format!("SQLite {shown} wrote to it last")));
    }
}

/// Whether this version has the WAL-reset bug: 3.7.0 to 3.51.2, except branches with the fix.
fn has_reset_bug(number: u32) -> bool {
    let corrected = (3_050_007..3_051_000).contains(&number) || (3_044_006..3_045_000).contains(&number);
    (3_007_000..3_051_003).contains(&number) && !corrected
}

fn permissions(path: &Path, metadata: &Metadata, tell: Tell<'_>) {
    let mut wrong = Vec::new();
    for file in [path.to_owned(), sibling(path, "-wal"), sibling(path, "-shm")] {
        match host::may_write(&file) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound && file != path => {}
            Err(e) => wrong.push(format!("{}: {e}", file.display())),
        }
    }
    let owner = host::user_name(metadata.uid());
    let user = host::user().unwrap_or(u32::MAX);
    let mode = metadata.mode() & 0o777;
    if !wrong.is_empty() {
        let detail = format!("lsfast must read and write {}", wrong.join("; "));
        tell(
            Finding::fail("permissions", detail)
                .advise(format!("run it as {owner}, the owner of the database")),
        );
    } else if user != metadata.uid() && user != 0 {
        tell(Finding::warn(
            "permissions",
            format!("the database belongs to {owner} and lsfast runs as {}", host::user_name(user)),
            format!(
                "WAL and wal-index that lsfast makes may be closed to the application: run lsfast as {owner}"
            ),
        ));
    } else {
        tell(Finding::ok("permissions", format!("mode {mode:o}, owner {owner}")));
    }
}

/// Reports other processes that use the database.
fn users(path: &Path, file: &File, metadata: &Metadata, tell: Tell<'_>) {
    match file.held_alone_by(SHARED.0, SHARED.1) {
        Ok(Some(who)) => {
            let detail = format!(
                "{who} holds the database for itself alone (locking_mode=EXCLUSIVE, or a long write)"
            );
            return tell(
                Finding::fail("other users", detail).advise("set locking_mode=NORMAL in the application"),
            );
        }
        Ok(None) => {}
        Err(e) => {
            return tell(Finding::warn("other users", format!("locks cannot be seen: {e}"), "nothing to do"));
        }
    }
    let wanted: Vec<_> = [Some((metadata.dev(), metadata.ino()))]
        .into_iter()
        .chain(["-wal", "-shm"].map(|s| std::fs::metadata(sibling(path, s)).ok().map(|m| (m.dev(), m.ino()))))
        .flatten()
        .collect();
    let open = host::look_at_processes(&wanted).by;
    let shown: Vec<String> = open.iter().map(|p| format!("{} ({})", p.name, p.pid)).collect();
    match open.iter().find(|p| REPLICATORS.contains(&p.name.as_str())) {
        Some(other) => tell(Finding::warn(
            "other users",
            format!("{} (process {}) replicates it already", other.name, other.pid),
            "run one replicator for a database: stop this one before another starts",
        )),
        None if shown.is_empty() => tell(Finding::ok("other users", "none that this user can see")),
        None => tell(Finding::ok("other users", shown.join(", "))),
    }
}

fn log(path: &Path, tell: Tell<'_>) {
    let log = sibling(path, "-wal");
    match std::fs::metadata(&log) {
        Err(_) => tell(Finding::ok("WAL", "none yet")),
        Ok(m) if m.size() > limits::WAL_REPORT_BYTES => tell(Finding::warn(
            "WAL",
            format!("{} has {} MiB", log.display(), m.size() >> 20),
            "something keeps it from starting over: a transaction that stays open, or wal_autocheckpoint=0",
        )),
        Ok(m) => tell(Finding::ok("WAL", format!("{} KiB", m.size() >> 10))),
    }
}

/// Examines the directory of the database. SQLite creates files in it, and so does lsfast.
fn folder(path: &Path, tell: Tell<'_>) {
    let folder = durable::directory_of(path);
    match host::may_fill(folder) {
        Ok(()) => tell(Finding::ok("directory", format!("{} can be written", folder.display()))),
        Err(e) => tell(
            Finding::fail("directory", format!("files must be made in {}: {e}", folder.display())).advise(
                "SQLite keeps the WAL there, and lsfast its state: allow it, or run lsfast as another user",
            ),
        ),
    }
    match host::file_system(folder).map(|f| f.kind) {
        Ok(FsKind::Network(kind)) => tell(Finding::warn(
            "file system",
            format!("{} is on {kind}", folder.display()),
            "SQLite's WAL mode needs memory that all its users share: keep the database on a disk of this machine",
        )),
        Ok(FsKind::Memory(kind)) => tell(Finding::warn(
            "file system",
            format!("{} is on {kind}", folder.display()),
            "the database is gone with the next start of this machine; restore it from the replica then",
        )),
        Ok(FsKind::Overlay) => tell(Finding::warn(
            "file system",
            format!("{} is on overlay, the writable layer of a container", folder.display()),
            "the database is gone with the container: put it on a volume",
        )),
        Ok(FsKind::Local) => tell(Finding::ok("file system", "a disk of this machine")),
        Err(e) => tell(Finding::warn("file system", format!("unknown: {e}"), "nothing to do")),
    }
}

fn space(path: &Path, state_dir: &Path, tell: Tell<'_>) {
    let place = if state_dir.is_dir() { state_dir } else { durable::directory_of(state_dir) };
    match host::file_system(place) {
        Ok(found) if found.free < SPACE_MIN => tell(Finding::warn(
            "space",
            format!("{} MiB are free for {}", found.free >> 20, state_dir.display()),
            format!("make room: the WAL of {} grows there too", path.display()),
        )),
        Ok(found) => tell(Finding::ok("space", format!("{} MiB are free", found.free >> 20))),
        Err(e) => tell(Finding::fail("space", format!("{}: {e}", place.display()))),
    }
}

fn host_limits(path: &Path, tell: Tell<'_>) {
    let used = host::look_at_processes(&[]);
    let (instances, watches) =
        (host::setting("fs.inotify.max_user_instances"), host::setting("fs.inotify.max_user_watches"));
    let detail = format!(
        "{} of {} instances and {} of {} watches in use",
        used.inotify_instances,
        shown(instances),
        used.inotify_watches,
        shown(watches)
    );
    // lsfast needs one instance, and three watches for each database.
    if instances.is_some_and(|max| used.inotify_instances + 1 > max) {
        tell(Finding::warn(
            "inotify",
            detail,
            "raise fs.inotify.max_user_instances (sysctl): commits are noticed late",
        ));
    } else if watches.is_some_and(|max| used.inotify_watches + 3 > max) {
        tell(Finding::warn(
            "inotify",
            detail,
            "raise fs.inotify.max_user_watches (sysctl): commits are noticed late",
        ));
    } else {
        tell(Finding::ok("inotify", detail));
    }
    match host::without_uring() {
        None => tell(Finding::ok("io_uring", "available")),
        Some(why) => tell(Finding::warn("io_uring", why, uring_advice())),
    }
    match host::open_files_max() {
        Some(max) if max < OPEN_FILES_MIN => tell(Finding::warn(
            "open files",
            format!("at most {max}"),
            format!("raise it (LimitNOFILE= in systemd, ulimit -n) before {} is one of many", path.display()),
        )),
        max => tell(Finding::ok("open files", max.map_or("no limit".into(), |m| format!("at most {m}")))),
    }
}

fn shown(max: Option<u64>) -> String {
    max.map_or_else(|| "?".into(), |m| m.to_string())
}

/// Says which setting forbids io_uring.
fn uring_advice() -> String {
    let same = "plain calls do the same, nothing needs to be done";
    match host::setting("kernel.io_uring_disabled") {
        Some(n @ 1..) => format!("{same}; to allow it set sysctl kernel.io_uring_disabled=0 (it is {n})"),
        _ => format!("{same}; in a container its seccomp profile forbids it (Docker's own does, from 25 on)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::finding::Verdict;

    fn examined(path: &Path) -> Vec<Finding> {
        let mut all = Vec::new();
        examine(path, &sibling(path, "-lsfast"), &mut |f| all.push(f));
        all
    }

    fn of<'a>(all: &'a [Finding], name: &str) -> &'a Finding {
        all.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name} in {all:?}"))
    }

    #[test]
    fn a_good_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a)").unwrap();
        drop(conn);
        let all = examined(&path);
        for name in [
            "database",
            "wal mode",
            "sqlite version",
            "permissions",
            "other users",
            "WAL",
            "directory",
            "space",
        ] {
            assert_eq!(of(&all, name).verdict, Verdict::Ok, "{all:?}");
        }
        assert!(of(&all, "sqlite version").detail.contains(rusqlite::version()));
        assert!(all.iter().all(|f| f.verdict != Verdict::Fail), "{all:?}");
    }

    #[test]
    fn what_is_wrong_with_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("text"), "hello, this is no database at all, only a text").unwrap();
        assert_eq!(of(&examined(&at("text")), "database").verdict, Verdict::Fail);
        assert_eq!(of(&examined(dir.path()), "database").verdict, Verdict::Fail);
        let absent = examined(&at("none"));
        assert_eq!(of(&absent, "database").verdict, Verdict::Warn);
        rusqlite::Connection::open(at("old")).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
        let off = examined(&at("old"));
        assert_eq!(of(&off, "wal mode").verdict, Verdict::Warn);
        // Store the version that an application of 2024 would have left.
        let mut bytes = std::fs::read(at("old")).unwrap();
        bytes[VERSION_AT..VERSION_AT + 4].copy_from_slice(&3_046_001_u32.to_be_bytes());
        std::fs::write(at("old"), bytes).unwrap();
        let old = examined(&at("old"));
        assert_eq!(of(&old, "sqlite version").verdict, Verdict::Warn);
        assert!(of(&old, "sqlite version").detail.contains("SQLite 3.46.1"), "{old:?}");
    }

    #[test]
    fn versions_with_the_reset_bug() {
        for (number, has) in [
            (3_006_023, false),
            (3_007_000, true),
            (3_044_005, true),
            (3_044_006, false),
            (3_045_000, true),
            (3_050_006, true),
            (3_050_007, false),
            (3_051_002, true),
            (3_051_003, false),
            (3_054_001, false),
        ] {
            assert_eq!(has_reset_bug(number), has, "{number}");
        }
    }
}
