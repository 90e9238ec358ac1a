//! Checks a replica in a directory step by step for `lsfast doctor`, with a scratch folder that is
//! deleted in the end.

use std::io;
use std::path::Path;

use crate::base::finding::{Finding, Tell};
use crate::io::host::{self, FsKind};
use crate::io::{Folder, durable};

/// Less free space than this, in bytes, is reported.
const SPACE_MIN: u64 = 256 << 20;

const CONTENT: &[u8] = b"lsfast doctor was here";

/// A folder with a new name, which is deleted on drop. Another user who may write next to it can
/// put a link in its place: every step goes by descriptors.
struct Scratch {
    above: Folder,
    name: String,
    folder: Folder,
}

impl Scratch {
    fn new(there: &Path) -> io::Result<Scratch> {
        let name = format!(".lsfast-doctor-{:016x}", fastrand::u64(..));
        let folder = Folder::make_below(there, Path::new(&name), 0o700)?;
        Ok(Scratch { above: Folder::below(there, Path::new(""))?, name, folder })
    }

    fn delete(&self) -> io::Result<()> {
        self.above.remove_folder(&self.name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: a fault of the directory has been reported already.
        let _ = self.delete();
    }
}

/// Examines the directory `root`, which need not exist yet.
pub fn examine(root: &Path, tell: Tell<'_>) {
    let there = existing(root);
    if there == root {
        tell(Finding::ok("directory", format!("{} is there", root.display())));
    } else {
        tell(Finding::ok("directory", format!("{} will be made in {}", root.display(), there.display())));
    }
    file_system(there, tell);
    match write(there, tell) {
        Ok(()) => tell(Finding::ok("delete", "the scratch files are gone")),
        Err((name, e)) => tell(Finding::fail(name, format!("{}: {e}", there.display())).advise(advice(&e))),
    }
}

/// The directory, or its nearest parent that exists.
fn existing(root: &Path) -> &Path {
    let mut path = root;
    while !path.exists() {
        let above = durable::directory_of(path);
        if above == path {
            break;
        }
        path = above;
    }
    path
}

fn advice(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::PermissionDenied => {
            let user = host::user().map_or_else(|_| "this user".into(), host::user_name);
            format!("let {user} write there, or run lsfast as its owner")
        }
        io::ErrorKind::ReadOnlyFilesystem => "it is mounted for reading only: name another directory".into(),
        io::ErrorKind::NotADirectory => "a file is in the way: name another directory".into(),
        _ if durable::is_full(e) => "make room".into(),
        _ => "name another directory".into(),
    }
}

fn file_system(there: &Path, tell: Tell<'_>) {
    let found = match host::file_system(there) {
        Ok(found) => found,
        Err(e) => return tell(Finding::fail("file system", format!("{}: {e}", there.display()))),
    };
    match found.kind {
        FsKind::Local => tell(Finding::ok("file system", "a disk of this machine")),
        FsKind::Network(kind) => tell(Finding::warn(
            "file system",
            kind,
            "check that the server flushes what it is told to flush; while it is unreachable, lsfast waits for it",
        )),
        FsKind::Memory(kind) => tell(Finding::warn(
            "file system",
            kind,
            "the replica is gone with the next start of this machine: name a directory on a disk",
        )),
        FsKind::Overlay => tell(Finding::warn(
            "file system",
            "overlay, the writable layer of a container",
            "the replica is gone with the container: name a directory on a volume",
        )),
    }
    let mib = found.free >> 20;
    if found.free < SPACE_MIN {
        tell(Finding::warn("space", format!("{mib} MiB are free"), "make room before the database grows"));
    } else {
        tell(Finding::ok("space", format!("{mib} MiB are free")));
    }
}

/// Checks write, flush, rename with and without replacing, and read.
fn write(there: &Path, tell: Tell<'_>) -> Result<(), (&'static str, io::Error)> {
    let scratch = Scratch::new(there).map_err(|e| ("write", e))?;
    let folder = &scratch.folder;
    let file = folder.create_anew("a.tmp", 0o600).map_err(|e| ("write", e))?;
    file.pwrite_all(CONTENT, 0).map_err(|e| ("write", e))?;
    tell(Finding::ok("write", "a scratch file"));
    file.std().sync_all().and_then(|()| folder.sync()).map_err(|e| ("fsync", e))?;
    tell(Finding::ok("fsync", "file and directory"));
    drop(file);
    folder.rename("a.tmp", "a").map_err(|e| ("rename", e))?;
    folder.write("a", CONTENT, 0o600).map_err(|e| ("rename", e))?;
    tell(Finding::ok("rename", "also over what is there"));
    match folder.read_small("a", 1 << 10) {
        Ok(read) if read == CONTENT => tell(Finding::ok("read", "the same bytes")),
        Ok(_) => return Err(("read", io::Error::other("other bytes came back"))),
        Err(e) => return Err(("read", e)),
    }
    scratch.delete().map_err(|e| ("delete", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::finding::Verdict;

    fn examined(root: &Path) -> Vec<Finding> {
        let mut all = Vec::new();
        examine(root, &mut |f| all.push(f));
        all
    }

    #[test]
    fn a_directory_that_is_there_or_can_be_made_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        for root in [dir.path().to_owned(), dir.path().join("a/b")] {
            let all = examined(&root);
            assert!(all.iter().all(|f| f.verdict != Verdict::Fail), "{all:?}");
            for name in ["directory", "write", "fsync", "rename", "read", "delete"] {
                assert!(all.iter().any(|f| f.name == name && f.verdict == Verdict::Ok), "{name}: {all:?}");
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "x").unwrap();
        let all = examined(&file.join("replica"));
        let last = all.last().unwrap();
        assert_eq!((last.name, last.verdict), ("write", Verdict::Fail), "{all:?}");
        assert_eq!(last.advice.as_deref(), Some("a file is in the way: name another directory"));
    }
}
