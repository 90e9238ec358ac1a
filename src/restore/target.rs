//! The path that the database is written to, and a database that is already there.
//!
//! # Overview
//!
//! A WAL of the old database must never be found next to the new one: SQLite would replay it. Until
//! the new database is in place, the old one must be complete, including its WAL. Two files cannot
//! be renamed at the same time, so SQLite itself first checkpoints and closes the old database.
//!
//! # Order of writes
//!
//! 1. No other process may have the database, its WAL or its wal-index open. No lock is held on
//!    them, and no visible process has a descriptor of them (`/proc`). The kernel, asked for a
//!    lease, knows of no descriptor of an invisible process either. Otherwise the restore is
//!    refused. Locks alone do not suffice: an idle connection in rollback mode holds none.
//! 2. `PRAGMA journal_mode=DELETE` checkpoints the WAL into the old database (or rolls its journal
//!    back) and removes it. SQLite needs exclusive access for that, so it notices a process that
//!    has come after step 1.
//! 3. A remaining `-wal`, `-shm` or `-journal` has no content that counts. It is removed, and the
//!    directory is flushed.
//! 4. The new file is renamed over the old one, and the directory is flushed.
//!
//! # Failure and crash
//!
//! After a crash in step 2 the old database is complete, with its WAL or without it. After step 3
//! it is complete without those files. Before the rename of step 4 the path has the old database,
//! complete; after it, the new one alone.
//!
//! Step 2 differs only if SQLite cannot read the old database at all, which may be the very reason
//! for the restore. Then its WAL or journal is renamed to end in `-replaced`, and removed after
//! step 4. A crash in between leaves the damaged database with its WAL under that name: nothing is
//! replayed and nothing is lost.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{RestoreError, place};
use crate::base::untrusted;
use crate::io::durable::{self, Directory, Existing, Pending};
use crate::io::{File, Folder, host};

/// Suffixes of the files that SQLite keeps next to a database.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Mode of a new database. Nothing says who else may read its content.
const MODE: u32 = 0o600;

/// How long to wait for a program that has the file open without a lock, such as a copy.
const OPEN_WAIT: Duration = Duration::from_secs(1);

/// Delay between two looks at who has the file open.
const OPEN_AGAIN: Duration = Duration::from_millis(25);

/// Byte range of a database that SQLite locks, as offset and length: pending, reserved and shared.
pub(crate) const LOCKS: (u64, u64) = (0x4000_0000, 512);

/// Byte range of a wal-index that SQLite locks, as offset and length.
const SHM_LOCKS: (u64, u64) = (120, 9);

/// The path that the database is written to.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    force: bool,
}

/// Removes the temporary files next to a database that killed restores left there.
pub fn remove_leftovers(path: &Path) {
    // Opened once: its path may lead elsewhere a moment later.
    let Ok(folder) = Folder::below(durable::directory_of(path), Path::new("")) else { return };
    let Ok(names) = folder.names() else { return };
    let prefix = durable::temporary_prefix(path).into_encoded_bytes();
    for other in names {
        let ours = other.as_encoded_bytes().strip_prefix(&prefix[..]).and_then(|r| r.strip_suffix(b".tmp"));
        let ours = ours.is_some_and(|r| r.iter().all(|b| b.is_ascii_digit() || *b == b'-'));
        if ours && folder.open_file(&other).is_ok_and(|f| f.std().try_lock().is_ok()) {
            let _ = folder.remove(&other);
        }
    }
}

impl Target {
    /// Checks the path without changing anything.
    pub(crate) fn examine(output: &Path, force: bool) -> Result<Target, RestoreError> {
        let path = place::resolve(output)?;
        let target = Target { path, force };
        target.may_replace()?;
        Ok(target)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn sidecar(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(suffix);
        PathBuf::from(name)
    }

    /// Fails if a file exists and `force` is not set, or if a process uses one of the files.
    fn may_replace(&self) -> Result<(), RestoreError> {
        let there = |path: &Path| match std::fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(RestoreError::output("look at", path, 0, e)),
        };
        let sidecars = SIDECARS.map(|s| self.sidecar(s));
        for path in [&self.path].into_iter().chain(&sidecars) {
            let counts = there(path)? && (*path != self.path || place::is_there(path)?);
            if counts && !self.force {
                return Err(RestoreError::Exists { path: path.clone() });
            }
        }
        for (path, locks) in [(&self.path, LOCKS), (&sidecars[1], SHM_LOCKS)] {
            self.not_locked(path, locks)?;
        }
        let give_up = Instant::now() + OPEN_WAIT;
        loop {
            match self.opened_by(&sidecars)? {
                None => return Ok(()),
                Some(by) if Instant::now() >= give_up => {
                    return Err(RestoreError::InUse { path: self.path.clone(), by });
                }
                Some(_) => std::thread::sleep(OPEN_AGAIN),
            }
        }
    }

    fn not_locked(&self, path: &Path, (from, len): (u64, u64)) -> Result<(), RestoreError> {
        // This process has no connection to a database that is about to be replaced, so closing
        // this descriptor drops none of its POSIX locks.
        let locked = match open(path)? {
            Some(file) => {
                file.locked_by(from, len).map_err(|e| RestoreError::output("look at", path, 0, e))?
            }
            None => None,
        };
        match locked {
            None => Ok(()),
            Some(by) => Err(RestoreError::InUse { path: self.path.clone(), by }),
        }
    }

    /// The process that has the database, or a file next to it, open without a lock.
    fn opened_by(&self, sidecars: &[PathBuf]) -> Result<Option<String>, RestoreError> {
        let mut there = Vec::new();
        let mut hidden = false;
        for path in [&self.path].into_iter().chain(sidecars) {
            let Some(file) = open(path)? else { continue };
            let id = file.metadata().map_err(|e| RestoreError::output("look at", path, 0, e))?;
            there.push((id.dev(), id.ino()));
            hidden |= file.is_open_elsewhere();
        }
        if there.is_empty() {
            return Ok(None);
        }
        match host::look_at_processes(&there).by.first() {
            Some(p) => Ok(Some(format!("process {} ({})", p.pid, untrusted::escape(&p.name)))),
            None => Ok(hidden.then(|| "a process that this user cannot see".to_owned())),
        }
    }

    /// Creates the temporary file next to the output, and removes those that killed restores left
    /// there.
    pub(super) fn begin(&self) -> Result<Pending, RestoreError> {
        let directory = durable::directory_of(&self.path);
        durable::create_dir_all(directory).map_err(|e| RestoreError::output("make", directory, 0, e))?;
        remove_leftovers(&self.path);
        let failed = |e| RestoreError::output("write", &self.path, 0, e);
        let pending = Pending::create_beside(&self.path, MODE).map_err(failed)?;
        // Tells other restores that this file is in use. The kernel drops the lock when the process
        // ends.
        pending.file().std().lock().map_err(failed)?;
        if let Ok(old) = std::fs::symlink_metadata(&self.path)
            && old.is_file()
        {
            take_over(&old, pending.file());
        }
        Ok(pending)
    }

    /// A second temporary file next to the output, which is removed when it is dropped.
    pub(super) fn scratch(
        &self,
        database: &Pending,
    ) -> Result<(Pending, super::legacy::OutputFolder), RestoreError> {
        let failed = |e| RestoreError::output("write", &self.path, 0, e);
        let scratch = Pending::create_beside(&self.path, MODE).map_err(failed)?;
        scratch.file().std().lock().map_err(failed)?;
        let place = super::legacy::OutputFolder {
            database: database.file().clone(),
            scratch: scratch.file().clone(),
            path: database.path().to_owned(),
            output: self.path.clone(),
        };
        Ok((scratch, place))
    }

    /// Renames the complete, verified and flushed file to the output. Blocks its thread.
    pub(super) fn install(&self, pending: Pending) -> Result<(), RestoreError> {
        self.may_replace()?;
        // I5: the name must still mean the file that was written and verified.
        let there = pending.directory();
        if !pending.is_itself() || !there.is_at(durable::directory_of(&self.path)) {
            return Err(RestoreError::Exchanged { path: pending.path().to_owned() });
        }
        let failed = |e| RestoreError::output("replace", &self.path, 0, e);
        // Without force, `may_replace` accepts only a missing or an empty file.
        let empty = std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.is_file() && m.len() == 0);
        if !self.force && empty {
            return pending.commit(&self.path, Existing::Replace).map_err(failed);
        }
        if !self.force {
            return pending.commit(&self.path, Existing::Refuse).map_err(|e| match e.kind() {
                io::ErrorKind::AlreadyExists => RestoreError::Exists { path: self.path.clone() },
                _ => failed(e),
            });
        }
        let aside = if self.path.exists() { self.settle(&there)? } else { Vec::new() };
        // The names are those in the directory that was opened first. If its path leads elsewhere
        // now, other databases keep their WAL.
        for sidecar in SIDECARS.map(|s| self.sidecar(s)) {
            there.remove(&sidecar).map_err(|e| RestoreError::output("remove", &sidecar, 0, e))?;
        }
        there.sync().map_err(failed)?;
        if let Err(e) = pending.commit(&self.path, Existing::Replace) {
            for (from, to) in &aside {
                let _ = there.rename(to, from);
            }
            return Err(failed(e));
        }
        for (_, to) in &aside {
            let _ = there.remove(to);
        }
        Ok(())
    }

    /// Step 2 at the top of the module. Returns the old and the new names of the files it put
    /// aside.
    fn settle(&self, there: &Directory) -> Result<Vec<(PathBuf, PathBuf)>, RestoreError> {
        let logs = ["-wal", "-journal"].map(|s| self.sidecar(s));
        if !logs.iter().any(|l| l.exists()) {
            return Ok(Vec::new());
        }
        let Err(cause) = close_log(&self.path) else { return Ok(Vec::new()) };
        match cause.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Err(RestoreError::InUse { path: self.path.clone(), by: "another process".into() })
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => self.put_aside(there, &logs),
            _ => Err(RestoreError::Settle { path: self.path.clone(), cause }),
        }
    }

    fn put_aside(
        &self,
        there: &Directory,
        logs: &[PathBuf],
    ) -> Result<Vec<(PathBuf, PathBuf)>, RestoreError> {
        let mut aside = Vec::new();
        for log in logs {
            let mut name = OsString::from(log.as_os_str());
            name.push("-replaced");
            let to = PathBuf::from(name);
            match there.rename(log, &to) {
                Ok(()) => aside.push((log.clone(), to)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(RestoreError::output("rename", log, 0, e)),
            }
        }
        Ok(aside)
    }
}

/// Opens a file that may be missing. Only a regular file is opened, so the call never blocks, and
/// no link is followed.
fn open(path: &Path) -> Result<Option<File>, RestoreError> {
    match File::open_itself(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(RestoreError::output("look at", path, 0, e)),
    }
}

fn close_log(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    super::integrity::distrust(&connection)?;
    connection.busy_timeout(Duration::ZERO)?;
    let mode: String = connection.query_row("PRAGMA journal_mode=DELETE", [], |row| row.get(0))?;
    // The first read rolls back a rollback journal.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    connection.close().map_err(|(_, e)| e)?;
    if mode == "delete" { Ok(()) } else { Err(busy()) }
}

fn busy() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}

/// Copies owner, group and mode of the old file to the new one, as far as this process may. A
/// database is never run, so it gets no setuid or setgid bit.
pub(crate) fn take_over(old: &Metadata, new: &File) {
    let mode = std::fs::Permissions::from_mode(old.permissions().mode() & 0o777);
    let _ = std::os::unix::fs::fchown(new.std(), Some(old.uid()), Some(old.gid()));
    let _ = new.std().set_permissions(mode);
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
