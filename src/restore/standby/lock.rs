//! `OUT-follow`, the lock of a standby. The process that follows OUT holds it until it ends.
//!
//! Its content names that process, and takes the request to stop. A file works where a signal does
//! not: between containers and between users.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::FollowError;
use super::files::FOLLOW_MODE;
use crate::io::{File, Folder};
use crate::sqlite::database::sibling;

/// First words of the content.
const FOLLOWING: &str = "following";
const SEEDING: &str = "seeding";
const STOP: &str = "stop";

/// Length of the content in bytes. It is padded, so that it is always replaced whole.
const BYTES: usize = 64;

/// Delay between two attempts to take the lock while the other process stops.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// The right to write to the database of a standby.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    /// Whether the last holder ended after it began to create the database and before it noted the
    /// position.
    pub(super) was_seeding: bool,
}

impl Lock {
    /// Takes the lock, or names the process that holds it.
    pub(super) fn take(database: &Path) -> Result<Lock, FollowError> {
        let path = sibling(database, "-follow");
        let failed = |cause| FollowError::File { what: "open", path: path.clone(), cause };
        let file = Folder::open_beside(&path, Some(FOLLOW_MODE)).map_err(failed)?;
        match file.std().try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let by = holder(&file);
                return Err(FollowError::Followed { path: database.to_owned(), by });
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
        let was_seeding = words(&file).first().is_some_and(|w| w == SEEDING);
        Ok(Lock { file, path, was_seeding })
    }

    /// Asks the holder to stop, and takes the lock once it has.
    pub(super) fn take_over(database: &Path, patience: Duration) -> Result<Lock, FollowError> {
        let begun = Instant::now();
        loop {
            let by = match Lock::take(database) {
                Err(FollowError::Followed { by, .. }) => by,
                other => return other,
            };
            if begun.elapsed() >= patience {
                let seconds = patience.as_secs();
                return Err(FollowError::DoesNotStop { path: database.to_owned(), by, seconds });
            }
            let path = sibling(database, "-follow");
            let asked = Folder::open_beside(&path, None).and_then(|f| write(&f, STOP));
            asked.map_err(|cause| FollowError::File { what: "write", path, cause })?;
            std::thread::sleep(TRY_EVERY);
        }
    }

    /// Notes that the database is being created.
    pub(super) fn seeding(&self) -> Result<(), FollowError> {
        self.note(SEEDING)
    }

    /// Notes that the database is complete and has a position.
    pub(super) fn following(&self) -> Result<(), FollowError> {
        self.note(FOLLOWING)
    }

    fn note(&self, word: &str) -> Result<(), FollowError> {
        let noted = write(&self.file, word).and_then(|()| self.file.std().sync_all());
        noted.map_err(|cause| FollowError::File { what: "write", path: self.path.clone(), cause })
    }

    /// Whether the holder has been asked to stop.
    pub(super) fn stop_wanted(&self) -> bool {
        words(&self.file).first().is_some_and(|w| w == STOP)
    }

    /// Removes the lock file, and with it the standby.
    pub(super) fn remove(self) -> Result<(), FollowError> {
        std::fs::remove_file(&self.path).map_err(|cause| FollowError::File {
            what: "remove",
            path: self.path.clone(),
            cause,
        })
    }
}

fn write(file: &File, word: &str) -> std::io::Result<()> {
    let text = format!("{word} {}", std::process::id());
    file.pwrite_all(format!("{text:<width$}\n", width = BYTES - 1).as_bytes(), 0)
}

fn words(file: &File) -> Vec<String> {
    let mut bytes = [0; BYTES];
    let n = file.pread(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..n]).split_whitespace().map(str::to_owned).collect()
}

fn holder(file: &File) -> String {
    // Others may write to the file, so only a number is repeated.
    match words(file).get(1).and_then(|word| word.parse::<u32>().ok()) {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_who_is_named_and_can_be_asked_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        let lock = Lock::take(&db).unwrap();
        assert!(!lock.was_seeding);
        lock.following().unwrap();
        let e = Lock::take(&db).unwrap_err().to_string();
        assert!(e.contains(&format!("process {}", std::process::id())), "{e}");
        assert!(!lock.stop_wanted());
        let e = Lock::take_over(&db, Duration::ZERO).unwrap_err();
        assert!(matches!(e, FollowError::DoesNotStop { .. }), "{e}");
        let next = std::thread::spawn({
            let db = db.clone();
            move || Lock::take_over(&db, Duration::from_secs(60)).unwrap()
        });
        while !lock.stop_wanted() {
            std::thread::yield_now();
        }
        drop(lock);
        next.join().unwrap().remove().unwrap();
        assert!(!sibling(&db, "-follow").exists());
    }

    /// Others may be able to write to the file.
    #[test]
    fn only_a_number_is_repeated_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        let lock = Lock::take(&db).unwrap();
        lock.file.pwrite_all(b"following run:rm-everything ", 0).unwrap();
        let e = Lock::take(&db).unwrap_err().to_string();
        assert!(e.contains("another process") && !e.contains("rm"), "{e}");
    }

    #[test]
    fn an_end_while_seeding_is_seen_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        Lock::take(&db).unwrap().seeding().unwrap();
        let lock = Lock::take(&db).unwrap();
        assert!(lock.was_seeding);
        lock.following().unwrap();
        drop(lock);
        assert!(!Lock::take(&db).unwrap().was_seeding);
    }
}
