//! The place where the database goes, and what is there already.
//!
//! # Replacing a database
//!
//! A log of the old database must never be found beside the new one: SQLite would replay it. And
//! until the new one is there the old one must be whole, log included. Two files cannot change
//! their names at once, so the old database is first brought to rest by SQLite itself:
//!
//! 1. Nobody else has it open, or its log or wal-index: no lock is held on them, no process that
//!    can be seen has a descriptor of them (`/proc`), and the kernel, asked by way of a lease,
//!    knows of no descriptor of a process that can't be seen. Else refuse. A connection in rollback
//!    mode that is idle has no lock.
//! 2. `PRAGMA journal_mode=DELETE` moves the log into the old database (or rolls its journal back)
//!    and removes it. SQLite needs the database for itself for that, so somebody who came after
//!    step 1 is noticed. Killed here, the old database is whole, with its log or without one.
//! 3. What is still there of `-wal`, `-shm` and `-journal` has no content that counts, and is
//!    removed; the directory is flushed. The old database is whole without them.
//! 4. The new file is renamed over the old; the directory is flushed. Before: the old one, whole.
//!    After: the new one, alone.
//!
//! Only when SQLite cannot read the old database at all, which is why somebody restores it, step 2
//! is replaced: its log or journal is renamed to end in `-replaced` and removed after step 4.
//! Killed between, the damaged database lies there with its log under that name; nothing is
//! replayed, nothing is lost.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{RestoreError, place};
use crate::base::untrusted;
use crate::io::durable::{self, Existing, Pending};
use crate::io::{File, host};

/// What SQLite keeps beside a database.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Mode of a new database: nothing says who else may read what is in it.
const MODE: u32 = 0o600;

/// A program that only reads the file, such as a copy, is waited for so long.
const OPEN_WAIT: Duration = Duration::from_secs(1);

/// The wait before it is looked at again.
const OPEN_AGAIN: Duration = Duration::from_millis(25);

/// Bytes of a database that SQLite locks: pending, reserved and shared.
const LOCKS: (u64, u64) = (0x4000_0000, 512);

/// Bytes of a wal-index that SQLite locks.
const SHM_LOCKS: (u64, u64) = (120, 9);

/// Where the database goes.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    force: bool,
}

impl Target {
    /// Looks at the place without changing anything.
    pub(super) fn examine(output: &Path, force: bool) -> Result<Target, RestoreError> {
        let path = place::resolve(output)?;
        let target = Target { path, force };
        target.may_replace()?;
        Ok(target)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn sidecar(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(suffix);
        PathBuf::from(name)
    }

    /// Whether what is there may go.
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
        // No connection of this process is open on a database that is about to be replaced, so closing this
        // descriptor drops no locks of ours.
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

    /// Who has the database, or what is next to it, open without a lock.
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

    /// Makes the temporary file beside the place, and removes those that killed restores left
    /// there.
    pub(super) fn begin(&self) -> Result<Pending, RestoreError> {
        let directory = durable::directory_of(&self.path);
        durable::create_dir_all(directory).map_err(|e| RestoreError::output("make", directory, 0, e))?;
        self.sweep(directory);
        let failed = |e| RestoreError::output("write", &self.path, 0, e);
        let pending = Pending::create_beside(&self.path, MODE).map_err(failed)?;
        // Tells other restores that somebody is at work here. The lock goes with the process.
        pending.file().std().lock().map_err(failed)?;
        if let Ok(old) = std::fs::metadata(&self.path) {
            take_over(&old, pending.file());
        }
        Ok(pending)
    }

    /// A second temporary file beside the place, for as long as it is held.
    pub(super) fn scratch(
        &self,
        database: &Pending,
    ) -> Result<(Pending, super::legacy::Place), RestoreError> {
        let failed = |e| RestoreError::output("write", &self.path, 0, e);
        let scratch = Pending::create_beside(&self.path, MODE).map_err(failed)?;
        scratch.file().std().lock().map_err(failed)?;
        let place = super::legacy::Place {
            database: database.file().clone(),
            scratch: scratch.file().clone(),
            path: database.path().to_owned(),
            output: self.path.clone(),
        };
        Ok((scratch, place))
    }

    fn sweep(&self, directory: &Path) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        let prefix = durable::temporary_prefix(&self.path).into_encoded_bytes();
        for entry in entries.flatten() {
            let other = entry.file_name();
            let ours =
                other.as_encoded_bytes().strip_prefix(&prefix[..]).and_then(|r| r.strip_suffix(b".tmp"));
            let ours = ours.is_some_and(|r| r.iter().all(|b| b.is_ascii_digit() || *b == b'-'));
            if ours && File::open_itself(&entry.path()).is_ok_and(|f| f.std().try_lock().is_ok()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Puts the complete, verified, flushed file into its place. Blocks its thread.
    pub(super) fn install(&self, pending: Pending) -> Result<(), RestoreError> {
        self.may_replace()?;
        if !pending.is_itself() {
            return Err(RestoreError::Exchanged { path: pending.path().to_owned() });
        }
        let failed = |e| RestoreError::output("replace", &self.path, 0, e);
        // What `may_replace` lets pass without force is nothing, or an empty file.
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
        let aside = if self.path.exists() { self.settle()? } else { Vec::new() };
        for sidecar in SIDECARS.map(|s| self.sidecar(s)) {
            match std::fs::remove_file(&sidecar) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(RestoreError::output("remove", &sidecar, 0, e));
                }
                _ => {}
            }
        }
        durable::sync_dir_of(&self.path).map_err(failed)?;
        if let Err(e) = pending.commit(&self.path, Existing::Replace) {
            for (from, to) in &aside {
                let _ = std::fs::rename(to, from);
            }
            return Err(failed(e));
        }
        for (_, to) in &aside {
            let _ = std::fs::remove_file(to);
        }
        Ok(())
    }

    /// Step 2 of the module text. Gives the names of what had to be put aside.
    fn settle(&self) -> Result<Vec<(PathBuf, PathBuf)>, RestoreError> {
        let logs = ["-wal", "-journal"].map(|s| self.sidecar(s));
        if !logs.iter().any(|l| l.exists()) {
            return Ok(Vec::new());
        }
        let Err(cause) = close_log(&self.path) else { return Ok(Vec::new()) };
        match cause.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Err(RestoreError::InUse { path: self.path.clone(), by: "another process".into() })
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => self.put_aside(&logs),
            _ => Err(RestoreError::Settle { path: self.path.clone(), cause }),
        }
    }

    fn put_aside(&self, logs: &[PathBuf]) -> Result<Vec<(PathBuf, PathBuf)>, RestoreError> {
        let mut aside = Vec::new();
        for log in logs {
            let mut name = OsString::from(log.as_os_str());
            name.push("-replaced");
            let to = PathBuf::from(name);
            match std::fs::rename(log, &to) {
                Ok(()) => aside.push((log.clone(), to)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(RestoreError::output("rename", log, 0, e)),
            }
        }
        Ok(aside)
    }
}

/// Opens a file that may not be there; nothing else than a regular file is waited for, and no link
/// is followed.
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
    super::verify::distrust(&connection)?;
    connection.busy_timeout(Duration::ZERO)?;
    let mode: String = connection.query_row("PRAGMA journal_mode=DELETE", [], |row| row.get(0))?;
    // A rollback journal is rolled back by the first read.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    connection.close().map_err(|(_, e)| e)?;
    if mode == "delete" { Ok(()) } else { Err(busy()) }
}

fn busy() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}

/// The new file belongs to whom the old one did, as far as this process may do that.
fn take_over(old: &Metadata, new: &File) {
    let mode = std::fs::Permissions::from_mode(old.permissions().mode() & 0o7777);
    let _ = std::os::unix::fs::fchown(new.std(), Some(old.uid()), Some(old.gid()));
    let _ = new.std().set_permissions(mode);
}

#[cfg(test)]
mod tests;
